"""The temporary folders of trials: removed with the trial, and what is left of them when the process ends."""

import atexit
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path


def temporary_folder(owner: object) -> Path:
    """A new folder, removed with its owner."""
    folder = tempfile.mkdtemp(prefix="pv-trial-")
    _folders.add(folder)
    weakref.finalize(owner, _remove, folder).atexit = False  # then _remove_all sees to it
    return Path(folder)


_folders: set[str] = set()  # of trials, not yet removed
os.register_at_fork(after_in_child=_folders.clear)  # they are the parent's to remove


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        _folders.discard(folder)


@atexit.register
def _remove_all() -> None:
    """Remove what is left because a removal was interrupted, or came while a command still wrote."""
    for folder in sorted(_folders) * 3:
        with suppress(KeyboardInterrupt):
            _remove(folder)
