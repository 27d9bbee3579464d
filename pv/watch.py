"""What this process does while a trial runs: the commands it starts, the files whose code it executes or that it reads.

Told by the interpreter's audit events, so no falsifier has to take part. An audit hook cannot be taken out again: there
is one per process, added at the first watch, and it is idle outside of one.
"""

import functools
import linecache
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from pv.callers import importer
from pv.environment import Used, hearing

STARTS = {"subprocess.Popen": 1, "os.posix_spawn": 1, "os.system": 0}
"""The audit events of starting a process, and which of their arguments is the command."""
READS = {"sqlite3.connect": 0, "ctypes.dlopen": 0}
"""The audit events of reading a file in other ways than by open, and which of their arguments is its name."""


@dataclass(slots=True, eq=False)
class Watch:
    """What was seen so far.

    commands  the arguments of each command that was started, its own name left out; one text where a shell reads it
    files     where the executed code lies, as its code objects say: modules at their import, and extension modules
    opened    absolute paths of what was opened to be read, each with who did; LOADED for what is read to be run, or to
              show its lines. Not what a library opens without Python's help
    asked     names of the environment variables that were asked for, each with who did; `*` for all of them. Not what
              is read without os.environ and os.getenv
    """

    commands: list[tuple[str, ...]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    opened: set[Used] = field(default_factory=set)
    asked: set[Used] = field(default_factory=set)


LOADED = "<loaded>"
STANDARD = os.path.dirname(os.__file__) + os.sep
INSTALLED = ("site-packages", "dist-packages")
LINES = linecache.__file__

_active: list[Watch] = []


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch this process, with all its threads, inside the block. What its child processes do is not seen."""
    _install()
    watch = Watch()
    _active.append(watch)
    try:
        with hearing(watch.asked):
            yield watch
    finally:
        _active.remove(watch)


@functools.cache
def _install() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    if event == "exec":
        name = getattr(arguments[0], "co_filename", "<")
        if not name.startswith("<"):
            for watch in _active:
                watch.files.add(name)
    elif event == "import" and isinstance(arguments[1], str):  # only an extension module comes with its file
        for watch in _active:
            watch.files.add(arguments[1])
    elif event == "open":
        if _is_read(arguments[2]):
            _opened(arguments[0])
    elif event in READS:
        _opened(arguments[READS[event]])
    elif event in STARTS:
        command = _command(arguments[STARTS[event]])
        for watch in _active:
            watch.commands.append(command)


def _is_read(flags: Any) -> bool:
    """Whether a file opened so can be read, and holds more than what is written to it then."""
    return isinstance(flags, int) and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_TRUNC


def _opened(name: Any) -> None:
    if not isinstance(name, (str, bytes, os.PathLike)):
        return  # a descriptor: its file was opened before
    with suppress(OSError, ValueError):  # no folder to be in any more; an error here would be the falsifier's
        path = os.path.abspath(os.fsdecode(name))
        used = path, _reader(path), importer()
        for watch in _active:
            watch.opened.add(used)


def _reader(path: str) -> str:
    """The file of the code that opens a path: the innermost that is not of the standard library."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if code.co_name == "get_code" and file.startswith("<frozen importlib"):
            return LOADED
        if file == LINES and any(getattr(module, "__file__", None) == path for module in list(sys.modules.values())):
            return LOADED
        if not file.startswith("<") and (not file.startswith(STANDARD) or any(part in file for part in INSTALLED)):
            return file
        frame = frame.f_back
    return ""


def _command(told: Any) -> tuple[str, ...]:
    if isinstance(told, (str, bytes)):
        return (os.fsdecode(told),)
    return tuple(os.fsdecode(part) for part in list(told)[1:] if isinstance(part, (str, bytes, os.PathLike)))
