"""Where the two versions of contracts come from: files, folders, revisions of git, or the working tree."""

import contextlib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pv import git
from pv.config import config_of, find
from pv.contract import read_bytes
from pv.errors import PvError
from pv.places import STDIN
from pv.walk import contracts_below, is_contract, is_yaml


@dataclass(frozen=True, slots=True)
class File:
    """A file of one version, as it is named to the reader. data is None where it cannot be read; `problem` says why."""

    label: str
    path: Path
    data: bytes | None
    problem: str = ""


Pair: TypeAlias = tuple[File | None, File | None, bool]
"""A contract's file in the old and in the new version, and whether it has another name in the new one."""
Problem: TypeAlias = tuple[str, str]
"""(file or folder, why it cannot be compared)"""


def pairs(old: str, others: Sequence[str], here: Path, piped: bytes | None = None) -> tuple[list[Pair], list[Problem]]:
    """What `pv diff OLD OTHERS` asks to compare, seen from the folder `here`.

    Two paths are two files or two folders. Anything else begins with a revision, REV..REV or REV...REV (whose old
    version is the common ancestor); a single one is compared with the working tree. Behind it stand paths, by default
    the project's contracts. PvError where that cannot be.

    piped  what standard input holds, where one of two files is -
    """
    if piped is not None:
        return _of_standard_input(old, others, here, piped)
    there = os.path.lexists(here / old)
    if there and len(others) == 1 and os.path.lexists(here / others[0]):
        if "/" not in old and "." not in old and _is_revision(old, here):
            hint = f"write ./{old} for the path, {old}.. for the revision and HEAD"
            raise PvError(f"{old!r} is a path and a revision", hint=hint)
        return _of_paths(Path(old), Path(others[0]), here)
    if old.startswith(("./", "../", "/")) or (there and ".." not in old and not _is_revision(old, here)):
        if not there:
            raise PvError("there is no such file or folder", where=old)
        if len(others) == 1:
            raise PvError("there is no such file or folder", where=others[0])
        hint = f"two files, two folders, or a revision and paths: pv diff HEAD {old}"
        raise PvError(f"{old!r} is compared with nothing", hint=hint)
    return _of_revisions(old, others, here)


def _is_revision(name: str, here: Path) -> bool:
    try:
        return git.is_revision(git.root(here), name)
    except PvError:
        return False  # without a repository it can only be a path


# -- files and folders ------------------------------------------------------------------------------------------------


def _of_paths(old: Path, new: Path, here: Path) -> tuple[list[Pair], list[Problem]]:
    folders = [os.path.isdir(here / path) for path in (old, new)]
    if folders[0] != folders[1]:
        raise PvError(f"a file and a folder: {old}, {new}", hint="name two files, or two folders")
    if not folders[0]:
        return [(_read(here / old, str(old)), _read(here / new, str(new)), False)], []
    sides: list[dict[str, File]] = []
    problems: list[Problem] = []
    for folder in (here / old, here / new):
        files, unsearched = _inside(folder)
        sides.append({file.relative_to(folder).as_posix(): _read(file, os.path.relpath(file, here)) for file in files})
        problems += unsearched
    if not any(sides):
        raise PvError(f"{old} and {new} hold no contracts: no *.yaml or *.yml")
    return _matched(sides[0], sides[1], {}), problems


def _of_standard_input(old: str, others: Sequence[str], here: Path, piped: bytes) -> tuple[list[Pair], list[Problem]]:
    """Standard input and a file, whose name both versions have: a change of it cannot be seen."""
    sides = (old, *others)
    if sides.count("-") > 1:
        raise PvError("standard input is one version, not both", where="-", hint="name the file of the other one")
    other = next((side for side in sides if side != "-"), "")
    if len(sides) != 2 or os.path.isdir(here / other):
        what = "is standard input, which is compared with one file"
        raise PvError(what, where="-", hint="pv diff old.yaml - or pv diff - new.yaml")
    if not os.path.lexists(here / other):
        raise PvError("there is no such file", where=other, hint="standard input is compared with one file")
    first, second = (File(STDIN, here / other, piped) if side == "-" else _read(here / side, side) for side in sides)
    return [(first, second, False)], []


def _inside(folder: Path) -> tuple[list[Path], list[Problem]]:
    """The contracts in a folder, and what of it cannot be read."""
    found = contracts_below(folder)
    return found.files, found.declined


def _read(path: Path, label: str) -> File:
    try:
        return File(label, path, read_bytes(path))
    except PvError as error:
        return File(label, path, None, str(error.args[0]))


# -- revisions --------------------------------------------------------------------------------------------------------


def _of_revisions(name: str, others: Sequence[str], here: Path) -> tuple[list[Pair], list[Problem]]:
    try:
        top = git.root(here)
    except PvError as error:
        if ".." in name:
            raise
        raise PvError(f"{name!r} is no file or folder, and {error.args[0]}", where=error.where) from None
    before, after, labels = _revisions(top, name)
    paths = others or [os.path.relpath(find(here).contracts, here)]
    inner = [_relative(here / path, top) for path in paths]
    problems: list[Problem] = []
    old = _of_commit(top, before, inner, labels[0])
    new = _of_commit(top, after, inner, labels[1]) if after else {}
    for path in () if after else inner:
        place = top / path
        files, unsearched = _inside(place) if place.is_dir() else ([place] if os.path.lexists(place) else [], [])
        new.update({file.relative_to(top).as_posix(): _read(file, os.path.relpath(file, here)) for file in files})
        problems += unsearched
    for path, shown in zip(inner, paths, strict=True):
        if not any(path == "." or key == path or key.startswith(f"{path}/") for key in (*old, *new)):
            problems.append((shown, "holds no contract in either version"))
    return _matched(old, new, git.renames(top, before, after)), problems


def _revisions(top: Path, name: str) -> tuple[str, str | None, tuple[str, str]]:
    """The ids of the commits to compare, None for the working tree, and what to put before a path of theirs."""
    for dots in ("...", ".."):
        left, found, right = name.partition(dots)
        if found:
            left, right = left or "HEAD", right or "HEAD"
            before, after = git.commit(top, left), git.commit(top, right)
            if dots == "...":
                before = git.merge_base(top, before, after)
                left = before[:12]
            return before, after, (f"{left}:", f"{right}:")
    if not git.is_revision(top, name):
        raise PvError(f"{name!r} is no file or folder, and no revision that git knows", hint=git.ABSENT)
    return git.commit(top, name), None, (f"{name}:", "")


def _of_commit(top: Path, commit: str, paths: Sequence[str], label: str) -> dict[str, File]:
    others = {path: _others_in(top, commit, path) for path in paths}
    blobs = [blob for blob in git.files(top, commit, paths) if _asked(blob.path, others)]
    why = "is a link to no file of its commit"
    return {
        blob.path: File(f"{label}{blob.path}", Path(blob.path), data, why if data is None else "")
        for blob, data in zip(blobs, git.contents(top, blobs), strict=True)
    }


def _asked(file: str, paths: Mapping[str, frozenset[str]]) -> bool:
    """Whether pv.walk would take the file for a contract below one of the paths; one that is named always is.

    paths  with the files that the project of each has and that are no contracts
    """
    for path, others in paths.items():
        inside = file if path == "." else file.removeprefix(f"{path}/") if file.startswith(f"{path}/") else ""
        hidden = any(part.startswith(".") for part in inside.split("/"))
        plain = is_yaml(inside) and not hidden and file not in others
        if file == path or (plain and is_contract(Path(file), frozenset())):
            return True
    return False


def _others_in(top: Path, commit: str, path: str) -> frozenset[str]:
    """The registry of models and the milestones by the settings of a commit, for the project around a path.

    The settings of today may name other files: they must not take a contract of the commit out.
    """
    place = top / path
    while not place.is_dir():  # a folder that is no more
        place = place.parent
    try:
        root = find(place).root
        settings = git.contents(top, git.files(top, commit, [_relative(root / "pyproject.toml", top)]))
        if not settings:
            return frozenset()
        config = config_of(root, tomllib.loads((settings[0] or b"").decode()))
        found = set()
        for file in filter(None, (config.models, config.milestones)):
            with contextlib.suppress(PvError):  # outside of the repository: no file of the commit
                found.add(_relative(file, top))
        return frozenset(found)
    except (PvError, ValueError, AttributeError):  # no settings that pv reads: they are told where they are needed
        return frozenset()


def _relative(path: Path, top: Path) -> str:
    """A path relative to the repository's top, which git names without symbolic links; a link to a file stays one."""
    folder = path.is_dir()
    place = Path(os.path.realpath(path)) if folder else Path(os.path.realpath(path.parent), path.name)
    if not place.is_relative_to(top):
        raise PvError("lies outside of the repository", where=str(path), hint=f"the repository is {top}")
    return place.relative_to(top).as_posix()


# -- which files are versions of one contract -------------------------------------------------------------------------


def _matched(old: Mapping[str, File], new: Mapping[str, File], renames: Mapping[str, str]) -> list[Pair]:
    """Files of one path, then those that git takes for renamed, then those of one name, wherever they lie."""
    before = {path: path for path in new if path in old}  # by the path in the new version
    for source, target in renames.items():
        if source in old.keys() - new.keys() and target in new.keys() - old.keys():
            before[target] = source
    lost, found = _by_stem(old.keys() - set(before.values())), _by_stem(new.keys() - before.keys())
    for stem, paths in found.items():
        if len(paths) == len(lost.get(stem, ())) == 1:
            before[paths[0]] = lost[stem][0]
    result: dict[str, Pair] = {path: (old[path], None, False) for path in old.keys() - set(before.values())}
    for path, file in new.items():
        source = before.get(path, "")
        result[path] = (old.get(source), file, bool(source) and Path(source).stem != Path(path).stem)
    return [result[path] for path in sorted(result)]


def _by_stem(paths: set[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for path in paths:
        stems.setdefault(Path(path).stem, []).append(path)
    return stems
