"""Folders of compiled kernels, one for each variant and state of the sources: held while in use, pruned when old."""

import fcntl
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from engine.variants import VARIANTS

KEPT = 12
"""Folders of other sources that stay, the last used first: of branches and installations that are used in turn."""
UNUSED = 30 * 24 * 3600
"""Seconds after which a folder of other sources goes all the same."""
LOCK = ".lock"
GONE = ".removed-"
_NAME = re.compile(rf"({re.escape(GONE)})?({'|'.join(VARIANTS)})-[0-9a-f]{{16}}")


def hold(folder: Path) -> None:
    """Note that a folder is used, and lock it (flock, shared) while this process runs: nobody prunes it meanwhile.

    Where it cannot be written, as in an image, it cannot be pruned either.
    """
    try:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.exists() and os.path.samestat(os.stat(folder / LOCK), os.fstat(lock)):
                return os.utime(lock)
            os.close(lock)  # it was pruned before it was locked
    except OSError:
        return None


def prune(current: Path) -> tuple[int, int]:
    """Remove old folders beside `current` of other sources; how many, and the bytes of their files.

    A folder that a process holds stays, and one that may not be removed. Who loads from a folder without holding it, as
    an earlier version does, compiles anew.
    """
    used: dict[Path, tuple[float, int]] = {}
    with suppress(FileNotFoundError):  # of a folder that somebody else prunes or fills just now: another time
        for folder in current.parent.iterdir():
            if _NAME.fullmatch(folder.name) and folder.name[-16:] != current.name[-16:] and not folder.is_symlink():
                files = [file.stat() for file in folder.rglob("*") if file.is_file()]
                last = max((max(file.st_mtime, file.st_atime) for file in files), default=folder.stat().st_mtime)
                used[folder] = last, sum(file.st_size for file in files)
    kept = sorted((one for one in used if not one.name.startswith(GONE)), key=used.__getitem__, reverse=True)[:KEPT]
    old = [one for one, (last, _) in used.items() if one not in kept or time.time() - last > UNUSED]
    removed = [one for one in old if _removed(one)]
    return len(removed), sum(used[one][1] for one in removed)


def _removed(folder: Path) -> bool:
    """Whether a folder that nobody holds is gone: from its name first, so that nobody finds half of it."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = folder.rename(folder.with_name(GONE + folder.name.removeprefix(GONE)))
        finally:
            os.close(lock)
        shutil.rmtree(gone)
    except OSError:
        return False
    return True
