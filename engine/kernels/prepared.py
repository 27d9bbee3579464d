"""Imported before a kernel is declared: numba is told how to compile it, and where to keep the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba

from engine import kernel_folders, variants

FOLDER = variants.prepare()
kernel_folders.hold(Path(FOLDER))


@contextmanager
def cache() -> Iterator[None]:
    """Functions that are declared meanwhile are kept in the kernels' own folder; all others where they were."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = FOLDER
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
