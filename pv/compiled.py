"""Numba's cache of machine code: what lies in it is run in place of the source, and checked by numba alone.

A file of it that somebody else wrote can hold anything, and one that numba wrote misses a change in another module. So
a run that records starts with an empty one, and so does `pv replay`.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from pv.errors import PvError

VARIABLE = "NUMBA_CACHE_DIR"


def empty_cache() -> Callable[[], None]:
    """Give numba, and every process that is started from here, an empty cache; return what takes it away again."""
    folder, before = tempfile.mkdtemp(prefix="pv-numba-"), os.environ.get(VARIABLE)
    known = _config()
    os.environ[VARIABLE] = folder
    if known is not None:  # it has read the variable, and will not read it again
        there, known.CACHE_DIR = known.CACHE_DIR, folder

    def restore() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before
        if known is not None:
            known.CACHE_DIR = there

    return restore


def check_caches(modules: Iterable[str]) -> None:
    """PvError for a jitted function of these modules that keeps its machine code elsewhere than numba is to."""
    folder, known = os.environ.get(VARIABLE), _config()
    if folder is None or known is None:
        return
    folder = os.path.realpath(folder)
    for name in modules:
        for attribute, value in list(vars(sys.modules[name]).items()) if name in sys.modules else ():
            if not type(value).__module__.startswith("numba."):
                continue
            place = getattr(getattr(value, "_cache", None), "cache_path", None)
            if place and os.path.commonpath([folder, os.path.realpath(place)]) != folder:
                raise PvError(
                    f"{name}.{attribute} may come from numba's cache in {place}, which is believed unread: it was "
                    "jitted before the cache could be emptied",
                    hint=f"do not import {name} before pytest has read its options: look for -p, PYTEST_PLUGINS",
                )


def _config() -> Any:
    return sys.modules.get("numba.core.config")
