"""The check of `pv gate` about evidence: what another version lost of it, and what does not verify."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pv.canonical import sha256
from pv.config import Config, registry
from pv.errors import PvError
from pv.evidence.chain import run_path
from pv.evidence.folder import Evidence, ahead
from pv.evidence.run import now
from pv.evidence.unfinished import PENDING
from pv.gate_sides import EVIDENCE, UNREADABLE, Finding, Sides
from pv.status import shown


def digests(folder: Path) -> dict[str, str]:
    """The files below the evidence folder by their paths in it, with digests of their bytes; no unfinished one."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            if not (name.startswith(".") and name.endswith(".part")) and not name.endswith(PENDING):
                path = Path(place, name)
                found[path.relative_to(folder).as_posix()] = _digest(path)
    return found


def _digest(path: Path) -> str:
    """The digest of a regular file; of anything else what it is, which equals no digest."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "no regular file"
    try:
        return sha256(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def lost_evidence(old: Mapping[str, str], new: Mapping[str, str], released: Collection[str]) -> list[tuple[str, str]]:
    """Files that are gone or have other bytes, with which of the two; but for records whose places were released.

    A run or a signature is no place of a record, so nothing excuses its loss.
    """
    lost = []
    for name, digest in sorted(old.items()):
        if name not in new:
            if name not in released:
                lost.append((name, "gone"))
        elif new[name] != digest:
            lost.append((name, "changed"))
    return lost


def released(found: Evidence) -> frozenset[str]:
    """The places of records that a believed release names: `pv evidence gc` took them out.

    What a release may name the chain has judged: records that a run lists, and none that speaks against its test.
    """
    runs = (run for digest, run in found.chain.runs.items() if run.released and digest in found.believed)
    return frozenset(place for run in runs for place in run.records)


def evidence(
    sides: Sides, old: Mapping[str, str], new: Mapping[str, str], config: Config, gone: Collection[str]
) -> Iterator[Finding]:
    """Evidence that does not verify or was taken away, and whatever else could not be read."""
    models = _models(config)
    for problem in sides.head.problems:
        path, line = place_and_line(problem.path)
        about = Path(path).is_relative_to(config.evidence)
        hint = (
            "restore it from git; what does not verify counts for nothing"
            if about
            else "mend it: what cannot be read is not judged"
        )
        if path in models:
            hint = "obtain the registered model again, or register this one and record again"
        yield Finding(
            id=EVIDENCE if about else UNREADABLE,
            path=shown(path, config.root),
            line=line,
            message=problem.why,
            hint=hint,
        )
    folder = shown(config.evidence, config.root)
    lost: dict[tuple[str, str], list[str]] = {}
    for name, what in lost_evidence(old, new, gone):
        home, _, file = name.rpartition("/")
        lost.setdefault((home, what), []).append(file)
    for (home, what), names in lost.items():
        there = sum(name.rpartition("/")[0] == home for name in old)
        yield Finding(
            id=EVIDENCE,
            path=f"{folder}/{home}".rstrip("/"),
            line=1,
            message=f"{len(names)} of {there} files of evidence {'are' if len(names) > 1 else 'is'} {what}: {names[0]}",
            hint="restore them from git: evidence is added, never taken away or changed",
        )


def _models(config: Config) -> set[str]:
    try:
        return {str(model.path) for model in registry(config).values()}
    except PvError:
        return set()


def ahead_of_the_clock(sides: Sides, config: Config) -> Iterator[Finding]:
    """New runs that date themselves ahead of this machine's clock; a run is never dated before those it came after."""
    runs = sides.head.evidence.chain.runs
    for digest in ahead(runs):
        run = runs[digest]
        before = max((runs[parent].time for parent in run.parents if parent in runs), default="")
        if digest not in sides.base.evidence.chain.runs and run.time > before:
            yield Finding(
                id=EVIDENCE,
                path=f"{shown(config.evidence, config.root)}/{run_path(digest)}",
                line=1,
                message=f"is dated {run.time}, ahead of this machine's clock: it is {now()} here",
                hint="set the clock of the machine that recorded it right, and record again from the base's evidence; "
                "or the clock of this machine",
            )


def place_and_line(path: str) -> tuple[str, int]:
    """A path, and the line that may stand behind it."""
    found = re.fullmatch(r"(.*?)(?::(\d+))?(?::\d+)?", path, re.DOTALL)
    assert found is not None
    return found[1], int(found[2] or 1)


def kept(old: Mapping[str, str], new: Mapping[str, str]) -> int:
    """How many files of evidence are there with the bytes that they had."""
    return sum(new.get(name) == digest for name, digest in old.items())
