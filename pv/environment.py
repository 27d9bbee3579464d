"""Environment variables as an input of trials: who asks for which, and what they were before a trial changed them.

os.environ is one object that everybody holds under a name of his own, so its class is listened to. What C code and
child processes ask for is not heard.
"""

import collections
import configparser
import functools
import os
import re
import string
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pv.callers import importer

ALL = "*"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PASSING = {__file__, *(str(module.__file__) for module in (collections, configparser, os, string))}
"""Code that asks on behalf of another, beside what is frozen into Python: os.getenv, Mapping.get, ChainMap."""
EXPANDING = "expandvars"  # the one function of os.path that does

Used = tuple[str, str, str]
"""What was used, the file of the code that used it, and the file of the module that was being imported meanwhile."""

_ears: dict[int, set[Used]] = {}
_aside: list[set[Used]] = []  # of who hears what is asked for between trials; the last one does
_before: dict[str, bytes | None] = {}
"""Of variables that were changed inside a trial: what they were before. What is changed outside of one is the news."""


@contextmanager
def hearing(asked: set[Used]) -> Iterator[None]:
    """Inside, `asked` takes each variable that is asked for, ALL for all, with who asks."""
    _listen()
    _ears[id(asked)] = asked
    try:
        yield
    finally:
        del _ears[id(asked)]


@contextmanager
def overhearing(asked: set[Used]) -> Iterator[None]:
    """Inside, `asked` takes the same while no trial is heard. What is changed then is no trial's doing."""
    _listen()
    _aside.append(asked)
    try:
        yield
    finally:
        _aside.pop()


def value_of(name: str) -> str | None:
    """The value of a variable as trials meet it, whatever they make of it; None where it is not set."""
    value = _before[name] if name in _before else _raw(os.environ, name)
    return None if value is None else os.fsdecode(value).encode("utf-8", "backslashreplace").decode()


@functools.cache
def _listen() -> None:
    kind: Any = type(os.environ)
    for method, told in (("__getitem__", _ask), ("__setitem__", _change), ("__delitem__", _change)):
        setattr(kind, method, _telling(getattr(kind, method), told))
    kind.__delitem__ = _telling(kind.__delitem__, _ask)  # an error tells that it is not set
    for method in ("__iter__", "__len__", "__repr__"):
        setattr(kind, method, _telling(getattr(kind, method), _ask_for_all))


def _telling(original: Any, told: Callable[..., None]) -> Any:
    def telling(self: Any, *arguments: Any) -> Any:
        told(self, *arguments)
        return original(self, *arguments)

    return functools.wraps(original)(telling)


def _ask(environ: Any, key: Any) -> None:
    if _ears or _aside:
        _hear(_text(key))


def _ask_for_all(environ: Any) -> None:
    if _ears or _aside:
        _hear(ALL)


def _change(environ: Any, key: Any, value: Any = None) -> None:
    if _ears:
        _before.setdefault(_text(key), _raw(environ, key))
    else:
        _before.pop(_text(key), None)


def _hear(name: str) -> None:
    used = name, _asking(), importer()
    for asked in _ears.values() if _ears else _aside[-1:]:
        asked.add(used)


def _asking() -> str:
    """The file of the code that asks: the innermost that does so for itself."""
    frame: FrameType | None = sys._getframe(4)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if code.co_name != EXPANDING and "posixpath" in file:
            return file
        if not file.startswith("<") and file not in PASSING and not file.endswith("posixpath.py"):
            return file
        frame = frame.f_back
    return ""


def _raw(environ: Any, key: Any) -> bytes | None:
    value: bytes | None = environ._data.get(os.fsencode(_text(key)))
    return value


def _text(key: Any) -> str:
    return os.fsdecode(key) if isinstance(key, (str, bytes)) else ""
