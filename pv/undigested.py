"""What a trial used of the project although the digest of its code does not cover it: it could change unnoticed."""

import functools
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator

from pv.closure import closure, variables
from pv.config import Config
from pv.watch import INSTALLED, LOADED

HOME = os.path.dirname(os.path.realpath(__file__)) + os.sep
TOOLS = {"_pytest", "coverage", "hypothesis", "pluggy", "pytest", "pytest_cov", "xdist"}
"""Packages that run around a trial, and read files of the project on their own account."""
NUMBA = os.path.join("numba", "core", "caching.py")
"""What reads numba's cache, which a run that records starts without (pv.compiled)."""


def undigested(module: str, executed: Iterable[str], config: Config) -> tuple[str, ...]:
    """Of the files that were executed, the project's own outside the closure of `module`, relative to the root.

    A file below the root is the project's own, whether its package is called first-party or not: it could change and
    nobody would notice. Not so what is installed there (site-packages), and what pytest itself runs (conftest.py).

    PvError as `closure`.
    """
    found = _loose(module, executed, config)
    return tuple(sorted(name for name in found if name.rpartition("/")[2] != "conftest.py"))


def undeclared(module: str, opened: Iterable[tuple[str, str]], config: Config) -> tuple[str, ...]:
    """Of the files that were read, the project's own that no module of the closure declares, relative to the root.

    opened  each file with the file of the code that read it

    Every file below the root could decide a verdict: a hidden one, a contract, evidence, a source that is read as text.
    Not so what is read to be run, which `undigested` judges, and what pytest and numba read. PvError as `closure`.
    """
    below, installed = _inside(str(config.root)), tuple(_installed(config))
    read = (name for name, reader in opened if not _is_tool(reader, below, installed))
    return tuple(sorted(name for name in _loose(module, read, config) if not name.startswith(".git/")))


def unannounced(module: str, asked: Iterable[tuple[str, str]], config: Config) -> tuple[tuple[str, str], ...]:
    """Of the variables that were asked for, those that the project's code wants and no module of the closure declares.

    asked  each variable, with the file of the code that asked. Each that is found comes with that file, relative to the
           root. What libraries ask for, and pv itself, is no question of the trial. PvError as `closure`.
    """
    declared, below, foreign = variables(module, config), _inside(str(config.root)), (*_installed(config), HOME)
    found = set()
    for name, file in asked:
        place = os.path.realpath(file)
        if name not in declared and _is_ours(place, below, foreign) and os.path.basename(place) != "conftest.py":
            found.add((name, _relative(place, config)))
    return tuple(sorted(found))


def _is_tool(reader: str, below: tuple[str, ...], installed: tuple[str, ...]) -> bool:
    if reader == LOADED:
        return True
    parts = reader.split(os.sep)
    known = (any(part in INSTALLED for part in parts) and not TOOLS.isdisjoint(parts)) or reader.endswith(NUMBA)
    return known and not any(_is_ours(place, below, installed) for place in _places(reader))


def _loose(module: str, names: Iterable[str], config: Config) -> set[str]:
    """The project's own of these files that are not in the closure, relative to the root."""
    known = {place for file in closure(module, config) for place in _places(str(file))}
    below, installed = _inside(str(config.root)), tuple(_installed(config))
    loose = set()
    for name in names:
        if os.path.isabs(name) and not name.startswith(below):
            continue  # most files are of no interest, and a path takes time
        places = _places(name)  # by either name it is a file of the project
        if known.isdisjoint(places):
            ours = next((place for place in places if _is_ours(place, below, installed)), None)
            loose |= {_relative(ours, config)} if ours else set()
    return loose


def _is_ours(file: str, below: tuple[str, ...], installed: tuple[str, ...]) -> bool:
    return file.startswith(below) and not file.startswith(installed) and os.path.isfile(file)


def _relative(file: str, config: Config) -> str:
    root = config.root if file.startswith(_inside(str(config.root))[0]) else config.root.resolve()
    return os.path.relpath(file, root)


def _places(name: str) -> tuple[str, str]:
    return os.path.realpath(name), os.path.abspath(name)


def _inside(folder: str) -> tuple[str, ...]:
    """How the paths of what lies in a folder begin."""
    return tuple(f"{place}{os.sep}" for place in reversed(_places(folder)))


def _installed(config: Config) -> Iterator[str]:
    """How paths below the root begin that were installed there, for this interpreter: a folder of the project that is
    named as such folders are is none, wherever it stands on the path."""
    below = _inside(str(config.root))
    for name in (sys.prefix, sys.exec_prefix, *_packages()):
        yield from (place for place in _inside(name) if place.startswith(below) and place not in below)


@functools.cache
def _packages() -> tuple[str, ...]:
    known = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages())
    return tuple(dict.fromkeys((*site.getsitepackages(), *known)))
