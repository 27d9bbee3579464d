"""Which files are meant: files, folders in depth, and patterns that no shell has expanded."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import filter as matching
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


@dataclass(slots=True)
class Found:
    """What the arguments of a command mean: files, each once, in order.

    declined  (path, reason) of arguments that mean no file
    skipped   files of folders that are known to be no contracts
    """

    files: list[Path] = field(default_factory=list)
    declined: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


def find(paths: Sequence[Path], given: Collection[Path] = ()) -> Found:
    """The files at `paths`, the contracts in the folders there, and what matches a path with *, ? or [ in it.

    given  paths of which the bytes are known: no files
    """
    found = Found()
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        found.declined.append((str(error.filename), f"cannot be read: {error.strerror}"))

    def add(files: Sequence[Path]) -> None:
        for file in files:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                found.files.append(file)

    for argument in paths:
        if argument in given:
            add([argument])
            continue
        pattern = has_magic(argument) and not os.path.lexists(argument)
        expanded = sorted(expand(argument)) if pattern else [argument]
        if not expanded:
            found.declined.append((str(argument), "matches no file"))
        for path in expanded:
            if os.path.isdir(path):  # unlike Path.is_dir, false for a path that cannot be looked at
                inside = list(yaml_files(path, unreadable))
                registry = _registry_of_models(path)
                contracts = [file for file in inside if is_contract(file) and file.resolve() != registry]
                found.skipped += sorted(set(inside) - set(contracts))
                add(contracts)
                if not contracts:
                    found.declined.append((str(path), "holds no contracts: no *.yaml or *.yml"))
            else:
                add([path])
    if not paths:
        found.declined.append(("", "no file or folder is given"))
    return found


def _registry_of_models(folder: Path) -> Path | None:
    """The project's registry of models, which is a YAML file and no contract."""
    from pv.config import find as project_around

    try:
        models = project_around(folder).models
    except PvError:  # the settings say so, for every command that needs the project
        return None
    return models.resolve() if models else None


def has_magic(path: Path) -> bool:
    return any(char in str(path) for char in "*?[")


def expand(pattern: Path) -> Iterator[Path]:
    """The files and folders that match: ** means any folders below, of which links are not followed.

    As in a shell, what is hidden is matched by a name that begins with a dot alone.
    """
    parts = pattern.parts
    plain = next((index for index, part in enumerate(parts) if has_magic(Path(part))), len(parts))
    yield from _expand(Path(*parts[:plain]), parts[plain:])


def _expand(place: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts:
        if os.path.lexists(place):
            yield place
    elif parts[0] == "**":
        for folder, folders, _ in os.walk(place):
            yield from _expand(Path(folder), parts[1:])
            folders[:] = [name for name in folders if parts[1:] and not name.startswith(".")]
    elif not has_magic(Path(parts[0])):
        yield from _expand(place / parts[0], parts[1:])
    else:
        names = os.listdir(place) if os.path.isdir(place) else []
        shown = [name for name in names if name.startswith(".") <= parts[0].startswith(".")]
        for name in matching(shown, parts[0]):
            yield from _expand(place / name, parts[1:])
