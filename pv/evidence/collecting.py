"""Letting go of records that support nothing any more; what speaks against a test is never let go."""

import os
import secrets
from collections.abc import Collection
from pathlib import Path

from pv.errors import PvError
from pv.evidence.folder import Evidence
from pv.evidence.machine import this_machine
from pv.evidence.recording import put
from pv.evidence.run import Run, is_failed, now, run_bytes, trial_name


def idle(evidence: Evidence, needed: Collection[str]) -> list[str]:
    """Places of the records that may go: no level rests on them, and they speak against nothing.

    needed  digests of the records of today
    A record that speaks against a test stays even where it is stale: code that goes back to what it was must meet it.
    """
    kept = set(needed)
    return [
        place
        for place, record in evidence.records.items()
        if place[-69:-5] not in kept and not is_failed(record) and place in evidence.chain.listed
    ]


def release(evidence: Evidence, places: Collection[str], *, commit: str = "", dirty: bool = False) -> None:
    """Remove the records at `places`, and leave a statement that says so, written first. PvError if one cannot be."""
    if not places:
        return
    folder, heads = evidence.folder, evidence.chain.heads
    run = Run(
        id=secrets.token_hex(16),
        time=max(now(), *(evidence.chain.runs[digest].time for digest in heads)),
        machine=this_machine(),
        commit=commit,
        dirty=dirty,
        parents=heads,
        records={place: trial_name(evidence.records[place]) for place in places},
        released=True,
    )
    put(folder, run_bytes(run), {})
    for place in places:
        path = folder / place
        try:
            path.unlink(missing_ok=True)
            for parent in (path.parent, path.parent.parent):
                _remove_if_empty(parent)
        except OSError as error:
            raise PvError(f"cannot be removed: {error.strerror}", where=str(path)) from None


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not os.listdir(folder):
        folder.rmdir()


def size(folder: Path, places: Collection[str]) -> int:
    """Bytes of the records at `places`."""
    return sum((folder / place).stat().st_size for place in places)
