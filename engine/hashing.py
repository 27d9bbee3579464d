"""The sha256 of a model's file, worked out by a thread while the model runs: 5 GB take some seconds."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from engine.errors import EngineError

CHUNK = 4 * 2**20
"""Bytes that are hashed at a time: for the next, the thread may have to wait 5 ms for whoever runs Python meanwhile."""
Identity = tuple[int, int, int, int]


@contextmanager
def sha256_beside(path: Path) -> Iterator[Callable[[], str]]:
    """Hash a file while the block runs; the block is given a function that waits for the sha256, 64 hex digits.

    The function raises EngineError for a file that cannot be read, and where the path does not name the same file,
    unchanged, from before the block until it is hashed: what the block maps is what is hashed. No thread is left when
    the block is, however it is left.
    """
    over = Event()
    with ThreadPoolExecutor(1) as pool:
        hashed = pool.submit(_sha256, path, _identity(path), over)
        try:
            yield hashed.result
        finally:
            over.set()


def _sha256(path: Path, opened_by_the_block: Identity, over: Event) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    try:
        with path.open("rb", buffering=0) as file:
            same = _identity(file.fileno()) == opened_by_the_block
            while same and not over.is_set() and (length := file.readinto(buffer)):
                digest.update(buffer[:length])
            same = same and _identity(file.fileno()) == _identity(path) == opened_by_the_block
    except OSError as error:
        raise EngineError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint="check its permissions and its disk"
        ) from None
    if not same:
        raise EngineError(
            "was changed or replaced while it was read",
            where=str(path),
            hint="run the command again when nothing writes to the file",
        )
    return digest.hexdigest()


def _identity(file: Path | int) -> Identity:
    """Device, inode, size and time of the last change of a file."""
    try:
        found = os.stat(file)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=str(file), hint="check the path") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
