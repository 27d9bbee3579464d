"""The paths that the settings of a project name: what can be one, and which of them must be there."""

import os
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from pv.errors import PvError

PATHS = ("contracts", "evidence", "models", "milestones", "baseline")
"""The keys of [tool.pv] that name a file or a folder."""
MUST_EXIST = ("contracts", "models", "milestones")
"""Of these, what nobody makes later: evidence comes with the first recording, a baseline is read by pv.baseline."""

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes in the name of a file, and in a path: what Linux and its file systems take."""


def as_written(value: object) -> str:
    """A value of TOML in a message: dates and times as they stand in the file."""
    return value.isoformat() if isinstance(value, date | time) else repr(value)


def path_of(key: str, value: object, root: Path) -> Path:
    """The absolute path that a key of [tool.pv] names. PvError for what can be none."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:  # no path of a file system has a NUL in it
        raise PvError(f"[tool.pv] {key} must be a path, not {as_written(value)}", where=str(root / "pyproject.toml"))
    path = root / value
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        what = f"[tool.pv] {key} must be a path, and a name in it is longer than file systems allow"
        raise PvError(
            what, where=str(root / "pyproject.toml"), hint=f"it begins with {value[:40]!r}: write a shorter one"
        )
    return path


def require(root: Path, content: Mapping[str, Any]) -> None:
    """PvError for a path that is written in [tool.pv] and leads to nothing; a default may. content: pyproject.toml."""
    table = content.get("tool", {}).get("pv", {})
    for key in MUST_EXIST:
        if key in table and not os.path.exists(root / table[key]):
            what = f"[tool.pv] {key}: there is no {table[key]!r}"
            raise PvError(what, where=str(root / "pyproject.toml"), hint=_near(root, table[key]))


def _near(root: Path, name: str) -> str:
    from difflib import get_close_matches

    parent, last = os.path.split(os.path.normpath(name))
    folder = root / parent
    close = get_close_matches(last, os.listdir(folder), n=1) if os.path.isdir(folder) else []
    if close:
        return f"did you mean {os.path.join(parent, close[0])!r}?"
    return "it is looked for from the folder of pyproject.toml: mend the path, or make what it names"
