"""Which files are meant: files, folders in depth, and patterns that no shell has expanded."""

import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import filter as matching
from pathlib import Path

from pv.errors import PvError

SUFFIXES = (".yaml", ".yml")


def _refuse(error: OSError) -> None:
    raise PvError(f"cannot be read: {error.strerror}", where=str(error.filename))


def is_yaml(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def yaml_files(
    folder: Path,
    unreadable: Callable[[OSError], None] = _refuse,
    passed: Callable[[Path], None] = lambda path: None,
) -> Iterator[Path]:
    """The *.yaml and *.yml of a folder, in capitals or not, in depth and in order.

    Hidden YAML files, hidden folders and links to folders are not entered but given to `passed`, .git excepted. A
    folder that cannot be searched is given to `unreadable`; by default that is a PvError.
    """
    for place, folders, names in os.walk(folder, onerror=unreadable):
        entered = []
        for name in sorted(folders):
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink():
                entered.append(name)
            elif name != ".git":
                passed(path)
        folders[:] = entered
        for name in filter(is_yaml, sorted(names)):
            if name.startswith("."):
                passed(Path(place, name))
            else:
                yield Path(place, name)


def is_contract(file: Path, others: frozenset[str] | Path | None) -> bool:
    """Whether a file that nobody named may be a contract, by its name and place.

    Binding registries and playbooks lie among public contracts. others: what `no_contracts` says; of who knows the
    registry of models alone, or that there is none, the project is asked for the rest.
    """
    if file.name == "binding.yaml" or "playbook" in file.name:
        return False
    if not isinstance(others, frozenset):
        others = no_contracts(file.parent) | ({os.path.realpath(others)} if others else frozenset())
    return not others or os.path.realpath(file) not in others


def no_contracts(folder: Path) -> frozenset[str]:
    """YAML files of the project around a folder that are no contracts: its registry of models and its milestones."""
    from pv.config import find as project_around

    try:
        config = project_around(folder)
    except PvError:  # the settings say so, for every command that needs the project
        return frozenset()
    return frozenset(os.path.realpath(file) for file in (config.models, config.milestones) if file)


@dataclass(slots=True)
class Found:
    """What the arguments of a command mean: files, each once, in order.

    declined  (path, reason) of arguments that mean no file, and of what lies in a folder and cannot be measured
    skipped   files of folders and patterns that are known to be no contracts
    hidden    hidden YAML files, hidden folders and links to folders: what they hold was not looked at
    """

    files: list[Path] = field(default_factory=list)
    declined: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)

    def unreadable(self, error: OSError) -> None:
        self.declined.append((str(error.filename), f"cannot be read: {error.strerror}"))

    def sort(self, file: Path, others: frozenset[str]) -> None:
        """Put a file that nobody named where it belongs; one that is missing is left to whoever reads it."""
        if not is_contract(file, others):
            self.skipped.append(file)
        elif os.path.isfile(file) or not os.path.exists(file):
            self.files.append(file)
        else:
            self.declined.append((str(file), "is no regular file: it is read only if it is named itself"))


def contracts_below(folder: Path) -> Found:
    """The contracts in a folder, in depth and in order, and what of it is passed over or cannot be measured."""
    found, others = Found(), no_contracts(folder)
    for file in yaml_files(folder, found.unreadable, found.hidden.append):
        found.sort(file, others)
    return found


def find(paths: Sequence[Path], given: Collection[Path] = ()) -> Found:
    """The files at `paths`, the contracts in the folders there, and what matches a path with *, ? or [ in it.

    given  paths of which the bytes are known: no files
    """
    found = Found()
    seen: set[str] = set()
    not_these, real_folder = functools.cache(no_contracts), functools.cache(os.path.realpath)

    def add(these: Found) -> None:
        for file in these.files:
            link = os.path.islink(file)
            real = os.path.realpath(file) if link else os.path.join(real_folder(file.parent), file.name)
            if real not in seen:
                seen.add(real)
                found.files.append(file)
        found.declined += these.declined
        found.skipped += these.skipped
        found.hidden += these.hidden

    for argument in paths:
        pattern = argument not in given and is_pattern(argument)
        expanded = sorted(expand(argument)) if pattern else [argument]
        if not expanded:
            found.declined.append((str(argument), "matches no file"))
        passed = 0
        for path in expanded:
            these = Found()
            if argument in given:
                these.files.append(path)
            elif os.path.isdir(path):  # unlike Path.is_dir, false for a path that cannot be looked at
                these = contracts_below(path)
                if not (these.files or these.declined):  # of what cannot be looked into, nothing is known
                    these.declined.append((str(path), "holds no contracts: no *.yaml or *.yml"))
            elif pattern:
                these.sort(path, not_these(path.parent))
                passed += len(these.skipped)
            else:
                these.files.append(path)
            add(these)
        if expanded and passed == len(expanded):
            found.declined.append((str(argument), "matches no contract"))
    if not paths:
        found.declined.append(
            ("", "no file or folder is given (hint: name some; by default it is the folder contracts)")
        )
    found.skipped = list(dict.fromkeys(found.skipped))
    found.hidden = list(dict.fromkeys(found.hidden))
    return found


def is_pattern(path: Path) -> bool:
    """Whether a path means what matches it: it has *, ? or [ in it, and nothing is called that."""
    return has_magic(path) and not os.path.lexists(path)


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
        try:
            names = os.listdir(place) if os.path.isdir(place) else []
        except OSError as error:
            raise PvError(f"cannot be read: {error.strerror}", where=str(place)) from None
        shown = [name for name in names if name.startswith(".") <= parts[0].startswith(".")]
        for name in matching(shown, parts[0]):
            yield from _expand(place / name, parts[1:])
