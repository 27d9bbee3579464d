"""The paths that the settings of a project name: what can be one, and which of them must be there."""

import os
import re
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


def trusted_keys_of(value: object, root: Path) -> tuple[Path, ...]:
    """What [tool.pv] trusted-keys holds: files of public keys. PvError for anything but paths, each once.

    An empty list is refused: it could mean that nobody is trusted, or everybody.
    """
    if not isinstance(value, list) or not value:
        where = str(root / "pyproject.toml")
        what = f"[tool.pv] trusted-keys must be a list of files of public keys, not {as_written(value)}"
        raise PvError(what, where=where, hint='trusted-keys = ["keys/ci.pub"]; leave it out to ask for no signatures')
    paths = [path_of("trusted-keys", one, root) for one in value]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise PvError(f"[tool.pv] trusted-keys names {path} twice", where=str(root / "pyproject.toml"))
    return tuple(paths)


def store_of(value: object, root: Path) -> str:
    """What [tool.pv] store holds: the URL of a folder for artifacts. PvError for what is none, or holds a password."""
    where = str(root / "pyproject.toml")
    hint = "store = 's3://bucket/prefix' or 'file:///a/folder'"
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S*[^\s/]/*", value):
        raise PvError(f"[tool.pv] store must be a URL, not {as_written(value)}", where=where, hint=hint)
    if "@" in value.partition("://")[2].partition("/")[0]:  # not shown: it may hold a password
        told = "leave user and password to the environment, as the store's library reads them"
        raise PvError("[tool.pv] store must not name a user or a password", where=where, hint=told)
    if value.startswith("file://") and not value.startswith("file:///"):
        raise PvError(f"[tool.pv] store must be an absolute path, not {as_written(value)}", where=where, hint=hint)
    return value.rstrip("/")
