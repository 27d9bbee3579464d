"""What was read from an evidence folder before: a file in the user's cache that can be deleted at any time.

An entry is believed if the same sources of pv wrote it, its checksum is right, and no file of the test's folder has
another size, inode, or time of modification or change than it had: what git believes of its own index. A folder that
was written to within the last seconds is not remembered, since an edit within one tick of the clock would not show.
Whoever can write into the cache can forge it: only the tables of `pv status` and `pv ledger` ask here, no verdict does.
"""

import contextlib
import marshal
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pv.cache import key
from pv.evidence.shelf import Shelf

RACY_NS = 2_000_000_000
"""Nanoseconds for which a changed file may look unchanged on a coarse clock."""
MAX_FILES = 16
"""How many folders of evidence are remembered; the one that was not asked for longest goes first."""

Stamps = tuple[tuple[str, int, int, int, int], ...]
"""Of each file: its name, size, time of modification and of change in ns, and inode."""


@dataclass(slots=True)
class Index:
    """The shelves of one evidence folder, by '<contract>/<test>'."""

    path: Path
    key: str
    entries: dict[str, tuple[bytes, bytes, bytes, bytes]]
    changed: bool = False

    def get(self, place: str, stamps: Stamps) -> Shelf | None:
        entry = self.entries.get(place)
        if entry is None or entry[0] != _stamp(stamps):
            return None
        _, checksum, facts, records = entry
        return Shelf(facts, records) if checksum == _checksum(facts, records) else None

    def put(self, place: str, stamps: Stamps, shelf: Shelf) -> None:
        newest = max((max(modified, changed) for _, _, modified, changed, _ in stamps), default=0)
        if not shelf.problems and newest < time.time_ns() - RACY_NS:
            entry = (_stamp(stamps), _checksum(shelf.facts, shelf.records), shelf.facts, shelf.records)
            self.entries[place] = entry
            self.changed = True

    def save(self, places: Mapping[str, Any]) -> None:
        """Remember what is new, and forget what lies there no more. No error where that cannot be done."""
        gone = self.entries.keys() - places.keys()
        if not self.changed and not gone:
            return
        for place in gone:
            del self.entries[place]
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".", suffix=".new")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(marshal.dumps((self.key, self.entries)))
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise
            files = sorted(self.path.parent.glob("*.index"), key=lambda file: file.stat().st_mtime, reverse=True)
            for old in files[MAX_FILES:]:
                old.unlink(missing_ok=True)


def open_index(folder: Path) -> Index | None:
    """The index of an evidence folder, empty if nothing can be believed; None where there can be none."""
    try:
        path = _home() / f"{sha256(os.fsencode(folder.absolute())).hexdigest()[:32]}.index"
        mine = key()
    except (OSError, RuntimeError, ImportError):  # RuntimeError: there is no home
        return None
    empty = Index(path, mine, {})
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_uid != os.geteuid():
                return empty  # who knows who wrote it
            written, entries = marshal.loads(stream.read())
    except (OSError, ValueError, EOFError, TypeError):
        return empty
    return Index(path, mine, entries) if written == mine and isinstance(entries, dict) else empty


def _home() -> Path:
    chosen = os.environ.get("PV_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute() / "evidence"
    import platformdirs

    return Path(platformdirs.user_cache_dir("pv-contracts")) / "evidence"


def _stamp(stamps: Stamps) -> bytes:
    return sha256(marshal.dumps(stamps, 2)).digest()  # later versions mark what is shared: equal values, other bytes


def _checksum(facts: bytes, records: bytes) -> bytes:
    return sha256(b"%d " % len(facts) + facts + records).digest()
