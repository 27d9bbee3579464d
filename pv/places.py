"""Where a file lies in its project: what globs, baselines and reports call it."""

import functools
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pv.walk import contracts_below, yaml_files

STDIN = "<stdin>"
"""What standard input is called; it lies nowhere."""


@functools.lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def place_of(path: str, root: Path) -> str:
    """A file's path from the root, with forward slashes; beginning with ../ where it lies outside.

    Links to folders are followed, so that a file has one place; a link to a file has a place of its own.
    """
    if path == STDIN:
        return path
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.relpath(os.path.join(_real(folder), name), _real(str(root))).replace(os.sep, "/")


def shown(file: Path) -> str:
    """A file of the project as messages name it: from the current folder, where it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


@functools.lru_cache(maxsize=1024)
def pattern(glob: str) -> re.Pattern[str]:
    """What a glob matches as a whole: ** any number of folders, * and ? nothing across a folder."""
    wild = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(wild.get(part) or re.escape(part) for part in parts) + r"\Z", re.DOTALL)


def contracts_in(root: Path, glob: str) -> list[str]:
    """The places of the contracts on disk that a glob matches."""
    start = _plain(root, glob)
    if os.path.isfile(start):
        return [place_of(str(start), root)]
    if not os.path.isdir(start):
        return []
    places = (place_of(str(file), root) for file in contracts_below(start).files)
    return [place for place in places if pattern(glob).match(place)]


def meets_a_file(root: Path, glob: str) -> bool:
    """Whether a glob matches any YAML file, a contract or not; hidden folders are not searched."""
    start, hidden = _plain(root, glob), list[Path]()
    files: Iterable[Path] = [start] if os.path.isfile(start) else []
    if os.path.isdir(start):
        files = itertools.chain(yaml_files(start, lambda error: None, hidden.append), hidden)
    return any(pattern(glob).match(place_of(str(file), root)) for file in files)


def meant(root: Path, contracts: str, glob: str) -> str:
    """What may be meant by a glob that matches no file; empty for nothing. contracts: the place of their folder."""
    from difflib import get_close_matches

    plain = os.path.normpath(glob.replace("\\", "/"))
    if os.path.isabs(plain):
        plain = os.path.relpath(plain, root)
    known = contracts_in(root, f"{contracts}/**") if contracts != "." else contracts_in(root, "**")
    for other in (plain, f"{plain}/**", f"{contracts}/{plain}", f"{contracts}/{plain}/**", f"**/{plain}"):
        if any(pattern(other).match(place) for place in known):
            return other
    return next(iter(get_close_matches(plain[:200], known, n=1)), "")


def _plain(root: Path, glob: str) -> Path:
    """The file or folder that a glob names before its first * or ?."""
    return root.joinpath(*itertools.takewhile(lambda step: not set(step) & set("*?"), glob.split("/")))
