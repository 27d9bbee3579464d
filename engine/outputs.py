"""Files that commands write: whole or not at all, and never in the place of a device, a pipe, a socket or a folder."""

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from engine.errors import EngineError

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def replace_file(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write the parts one after another to a temporary file beside the place, then put it there in one step.

    path  a regular file, a link to one (which stays; what it leads to is replaced), or nothing yet

    Raises EngineError where the path leads to something else (see place_of) or the system refuses; the temporary file
    does not stay behind.
    """
    place = place_of(path)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, place)
    except OSError as error:
        raise EngineError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            hint="choose another folder, or make room and give write permission there",
        ) from error
    finally:
        with suppress(OSError):  # its folder is none, or went away: then nothing was left in it
            temporary.unlink(missing_ok=True)


def place_of(path: Path, *, where: str = "") -> Path:
    """The file that is replaced by writing to a path: that of the path, or of what a link leads to.

    where  what an error names; the path, if nothing else

    Raises EngineError for a path that leads to no regular file, and for a link that leads nowhere: a file that is put
    there by a rename would take the place of a device, or of the link.
    """
    where = where or str(path)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise EngineError(
                f"is a link that leads nowhere: to {os.readlink(path)}",
                where=where,
                hint="make what it links to, or name another file",
            ) from None
        return path
    except OSError as error:
        raise EngineError(f"cannot be written: {error.strerror or error}", where=where, hint="name another") from None
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no file")
        leads = "leads to" if os.path.islink(path) else "is"
        raise EngineError(f"{leads} {kind}, not a regular file", where=where, hint="name a file that may be replaced")
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def file_at(flag: str, name: str) -> Path:
    """The file that a flag names, refused now, not after minutes, where it could not be written; raises EngineError."""
    if not name:
        raise EngineError("the name of the file is empty", where=flag, hint="name one")
    path, where = Path(name), f"{flag} {name}"
    place = place_of(path, where=where)
    with suppress(OSError):  # standard output may be closed
        if os.path.exists(place) and os.path.samestat(os.stat(place), os.fstat(1)):
            raise EngineError("is where standard output goes", where=where, hint="name another file")
    _check_folder(place.parent, where)
    return path


def folder_at(flag: str, name: str) -> Path:
    """The folder that a flag names, to be made if missing; as file_at."""
    if not name:
        raise EngineError("the name of the folder is empty", where=flag, hint="name one")
    path, where = Path(name), f"{flag} {name}"
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.path.isdir(nearest):
        what = "is" if nearest == path else f"cannot be made: {nearest} is"
        raise EngineError(f"{what} no folder", where=where, hint="name another one")
    _check_folder(nearest, where)
    return path


def _check_folder(folder: Path, where: str) -> None:
    if not os.path.isdir(folder):
        raise EngineError(f"there is no folder {folder}", where=where, hint="make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EngineError(f"the folder {folder} cannot be written", where=where, hint="name a file elsewhere")
