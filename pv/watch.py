"""What this process does while a trial runs: the commands it starts, the files whose code it executes or that it reads.

Told by the interpreter's audit events, so no falsifier has to take part. An audit hook cannot be taken out again: there
is one per process, added at the first watch, and it is idle outside of one.
"""

import functools
import importlib
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any

from pv.callers import importer
from pv.environment import Used, hearing, overhearing

STARTS = {"subprocess.Popen": 1, "os.posix_spawn": 1, "os.system": 0}
"""The audit events of starting a process, and which of their arguments is the command."""
READS = {"sqlite3.connect": 0, "ctypes.dlopen": 0, "os.link": 0}
"""The audit events of reading a file in other ways than by open, and which of their arguments is its name. A hard link
has another name, by which the file would not be known."""


@dataclass(slots=True, eq=False)
class Watch:
    """What was seen so far.

    commands  the arguments of each command that was started, its own name left out; one text where a shell reads it
    files     where the executed code lies, as its code objects say: modules at their import, and extension modules; the
              modules that were asked for by importlib.import_module, loaded before or not
    loaded    the same files, each with the file of the module that was being imported meanwhile
    opened    absolute paths of what was opened to be read, each with who did; LOADED for what is read to be run, or to
              show its lines. Not what a library opens without Python's help. What a link leads to has both its names
    asked     names of the environment variables that were asked for, each with who did; `*` for all of them. Not what
              is read without os.environ and os.getenv
    """

    commands: list[tuple[str, ...]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    loaded: set[tuple[str, str]] = field(default_factory=set)
    opened: set[Used] = field(default_factory=set)
    asked: set[Used] = field(default_factory=set)


LOADED = "<loaded>"
STANDARD = os.path.dirname(os.__file__) + os.sep
INSTALLED = ("site-packages", "dist-packages")
SHOWING = {traceback.__file__, warnings.__file__}

_active: list[Watch] = []


@dataclass(slots=True, eq=False)
class Session:
    """What happens outside of trials, and the modules that were there before: nobody saw what they did."""

    watch: Watch = field(default_factory=Watch)
    before: dict[str, ModuleType] = field(default_factory=lambda: dict(sys.modules))


_sessions: list[Session] = []


@contextmanager
def watching_between() -> Iterator[Session]:
    """Watch this process inside the block while no trial is watched: it may import what a trial reaches later."""
    _install()
    session = Session()
    _sessions.append(session)
    try:
        with overhearing(session.watch.asked):
            yield session
    finally:
        _sessions.remove(session)


def session() -> Session | None:
    """The innermost session that is watched."""
    return _sessions[-1] if _sessions else None


def _watches() -> list[Watch]:
    return list(_active) or [one.watch for one in _sessions[-1:]]


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
    bootstrap: Any = importlib._bootstrap
    original = bootstrap._gcd_import  # what importlib.import_module calls; no event tells of a module that is there

    @functools.wraps(original)
    def importing(*arguments: Any) -> Any:
        module = original(*arguments)
        if _active and isinstance(file := getattr(module, "__file__", None), str):
            _executed(file)
        return module

    bootstrap._gcd_import = importing


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active and not _sessions:
        return
    if event == "exec":
        name = getattr(arguments[0], "co_filename", "<")
        if not name.startswith("<"):
            _executed(name)
    elif event == "import" and isinstance(arguments[1], str):  # only an extension module comes with its file
        _executed(arguments[1])
    elif event == "open":
        if _is_read(arguments[2]):
            _opened(arguments[0], by_descriptor=arguments[1] is None)
    elif event in READS:
        _opened(arguments[READS[event]])
    elif event in STARTS:
        command = _command(arguments[STARTS[event]])
        for watch in _active:
            watch.commands.append(command)


def _executed(name: str) -> None:
    importing = importer()
    with suppress(OSError, ValueError):
        for file in {name, os.path.realpath(name)} if os.path.isabs(name) else {name}:
            for watch in _watches():
                watch.files.add(file)
                watch.loaded.add((file, importing))


def _is_read(flags: Any) -> bool:
    """Whether a file opened so can be read, and holds more than what is written to it then."""
    return isinstance(flags, int) and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_TRUNC


def _opened(name: Any, *, by_descriptor: bool = False) -> None:
    """by_descriptor  whether a relative name may be one from the folder of a descriptor, which the event leaves out"""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return  # a descriptor: its file was opened before
    with suppress(OSError, ValueError):  # no folder to be in any more; an error here would be the falsifier's
        told = os.fsdecode(name)
        path = os.path.abspath(told)
        reader, importing = _reader(path), importer()
        paths = [path, *(_from_descriptors(told) if by_descriptor and not os.path.isabs(told) else ())]
        for one in {*paths, *map(os.path.realpath, paths)}:
            for watch in _watches():
                watch.opened.add((one.replace("//", "/"), reader, importing))


def _from_descriptors(name: str) -> Iterator[str]:
    """What a relative name may lead to from the folders that are open."""
    for descriptor in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):
            path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), name)
            if os.path.isfile(path):
                yield os.path.normpath(path)


def _reader(path: str) -> str:
    """The file of the code that opens a path: the innermost that is not of the standard library."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if code.co_name == "get_code" and file.startswith("<frozen importlib") and _is_to_be_run(frame.f_back):
            return LOADED
        if file in SHOWING and any(getattr(module, "__file__", None) == path for module in list(sys.modules.values())):
            return LOADED
        if not file.startswith("<") and (not file.startswith(STANDARD) or any(part in file for part in INSTALLED)):
            return file
        frame = frame.f_back
    return ""


def _is_to_be_run(frame: FrameType | None) -> bool:
    """Whether who asks for the code of a module runs it, of which an event tells."""
    file = frame.f_code.co_filename if frame else ""
    return file.startswith(("<frozen importlib", "<frozen runpy")) or file == runpy.__file__


def _command(told: Any) -> tuple[str, ...]:
    if isinstance(told, (str, bytes)):
        return (os.fsdecode(told),)
    return tuple(os.fsdecode(part) for part in list(told)[1:] if isinstance(part, (str, bytes, os.PathLike)))
