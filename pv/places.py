"""Where a file lies in its project: what globs, baselines and reports call it."""

import functools
import itertools
import os
import re
from pathlib import Path

from pv.walk import contracts_below

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
    start = root.joinpath(*itertools.takewhile(lambda step: not set(step) & set("*?"), glob.split("/")))
    if start.is_file():
        return [place_of(str(start), root)]
    if not start.is_dir():
        return []
    places = (place_of(str(file), root) for file in contracts_below(start).files)
    return [place for place in places if pattern(glob).match(place)]
