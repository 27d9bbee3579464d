"""Which files of a folder are taken for contracts."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pv.errors import PvError


def _refuse(error: OSError) -> None:
    raise PvError(f"cannot be read: {error.strerror}", where=str(error.filename))


def yaml_files(folder: Path, unreadable: Callable[[OSError], None] = _refuse) -> Iterator[Path]:
    """The *.yaml and *.yml of a folder, in depth and in order.

    Hidden files and folders are passed over, links to folders are not followed. A folder that cannot be searched is
    given to `unreadable`; by default that is a PvError.
    """
    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith((".yaml", ".yml")) and not name.startswith("."):
                yield Path(place, name)


def is_contract(file: Path) -> bool:
    """Whether a file's name allows a contract: binding registries and playbooks lie among public contracts."""
    return file.name != "binding.yaml" and "playbook" not in file.name
