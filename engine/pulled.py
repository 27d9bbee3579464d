"""Models of a Hugging Face hub that lie on this machine: what they are called, and where their files are.

    <folder>/hub/models--OWNER--NAME/snapshots/<commit>/<file>    as huggingface_hub keeps them
    <folder>/pulled/OWNER/NAME/<key>.json                         what was pulled under a name, whole and verified

A name leads to files only by its record, which is written last: what an interrupted pull leaves has none.
"""

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.errors import EngineError
from engine.json_files import read_json

SCHEMA = "apr-pulled/1"
MAIN = "main"
_PART = "[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})(@(?P<revision>[^:@\s\\]+))?(:(?P<file>[^\s\\]+))?")
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """OWNER/NAME[@REVISION][:FILE]; a file of None means the folder of the Hugging Face layout."""

    owner: str
    name: str
    revision: str = MAIN
    file: str | None = None

    @property
    def repository(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def is_fixed(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def folder(self) -> str:
        """The name without its file."""
        return self.repository + ("" if self.revision == MAIN else f"@{self.revision}")

    def __str__(self) -> str:
        return self.folder + ("" if self.file is None else f":{self.file}")


@dataclass(frozen=True, slots=True)
class Held:
    """One file of a pulled model: its size in bytes, and its sha256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """What was pulled: the commit that the revision meant, and the files by their path in the repository."""

    commit: str
    files: dict[str, Held]


def parse(text: str) -> HubName | None:
    """The name in a text; None for what has another form. A FILE has no part `..` and does not start with `/`."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    parts = (found["file"] or "x").split("/")
    if not all(parts) or {".", ".."} & set(parts):
        return None
    return HubName(found["owner"], found["name"], found["revision"] or MAIN, found["file"])


def cache_of(folder: Path) -> Path:
    """The cache of huggingface_hub within the folder of pulled models."""
    return folder / "hub"


def snapshot(folder: Path, name: HubName, commit: str) -> Path:
    """Where huggingface_hub keeps the files of a commit."""
    return cache_of(folder) / f"models--{name.owner}--{name.name}" / "snapshots" / commit


def locate(folder: Path, name: HubName) -> Path:
    """The folder, or the file, of a model that was pulled under this name; raises EngineError."""
    record = read_record(folder, name)
    if record is None:
        others = ", ".join(_others(folder, name))
        raise EngineError(
            "no such file, and no model of that name was pulled" + (f"; pulled are: {others}" if others else ""),
            where=str(name),
            hint=f"check the path, or obtain it: apr pull {name}",
        )
    place = snapshot(folder, name, record.commit)
    for file, held in record.files.items():
        path = place / file
        size = path.stat().st_size if path.is_file() else None
        if size != held.size:
            said = "is not there" if size is None else f"has {size} bytes, but was pulled with {held.size}"
            raise EngineError(f"a file of {name} {said}", where=str(path), hint=f"apr pull {name}")
    return place if name.file is None else place / name.file


def read_record(folder: Path, name: HubName) -> Record | None:
    """What was pulled under this name; None if nothing was. Raises EngineError for a record that is damaged."""
    path = _record_path(folder, name)
    if not os.path.isfile(path):  # not is_file, which raises where the name is too long
        return None
    found = read_json(path)
    try:
        files = {str(file): Held(int(held["size"]), str(held["sha256"])) for file, held in found["files"].items()}
        if found["schema"] != SCHEMA or not COMMIT.fullmatch(found["commit"]) or not files:
            raise ValueError
        if name.file not in (None, *files):
            raise ValueError
        if any(parse(f"{name.repository}:{file}") is None for file in files):  # it would lead out of its folder
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise EngineError("is no record of a pull", where=str(path), hint=f"apr pull {name}") from None
    return Record(found["commit"], files)


def write_record(folder: Path, name: HubName, record: Record) -> None:
    """Say that the files of a record are there, whole and verified; raises OSError."""
    path = _record_path(folder, name)
    document: dict[str, Any] = {"schema": SCHEMA, "name": str(name), **asdict(record)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        try:
            file.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _record_path(folder: Path, name: HubName) -> Path:
    key = quote(name.revision, safe="") + ("" if name.file is None else f":{quote(name.file, safe='')}")
    return folder / "pulled" / name.owner / name.name / f"{key}.json"


def _others(folder: Path, name: HubName) -> list[str]:
    """What was pulled of the same repository, as names."""
    found = []
    for path in sorted(_record_path(folder, name).parent.glob("*.json")):
        try:
            found.append(str(read_json(path).get("name")))
        except EngineError:
            continue  # a damaged one is no help
    return found
