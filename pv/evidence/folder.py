"""The evidence folder, read: every record with the runs that vouch for it, and everything that cannot be believed."""

import functools
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.chain import Chain, chain
from pv.evidence.run import PLACE, RUNS, Run, run_of
from pv.evidence.unfinished import PENDING, listed_by
from pv.statement import HEX, Problem, Record, record_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A record as it is kept.

    digest  sha256 of its statement
    runs    the recording runs that list it and are believed; without one it supports nothing
    """

    record: Record
    digest: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What lies in an evidence folder.

    records   by place, in order of their paths
    problems  what cannot be believed, by absolute path; what is wrong with a run concerns every test
    notes     what a reader should know though nothing is wrong with it
    believed  digests of the runs whose records may support a level
    """

    folder: Path
    records: Mapping[str, Record]
    chain: Chain
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    believed: frozenset[str]

    @functools.cached_property
    def _by_test(self) -> dict[tuple[str, str], list[Kept]]:
        found: dict[tuple[str, str], list[Kept]] = {}
        for place, record in self.records.items():
            runs = (digest for digest in self.chain.listed.get(place, ()) if digest in self.believed)
            kept = Kept(record=record, digest=place[-69:-5], runs=tuple(self.chain.runs[digest] for digest in runs))
            found.setdefault((record.contract, record.test), []).append(kept)
        return found

    def of(self, contract: str, test: str) -> list[Kept]:
        """The records of a test."""
        return self._by_test.get((contract, test), [])

    def lost(self, contract: str, test: str) -> list[Problem]:
        """What may have hidden something about a test: damage among its own records, and anywhere in the chain."""
        homes = tuple(str(self.folder.joinpath(*place)) + os.sep for place in ((contract, test), (RUNS,)))
        return [problem for problem in self.problems if problem.path.startswith(homes)]


def read(folder: Path) -> Evidence:
    """Everything below the evidence folder. A missing folder holds no evidence.

    Unfinished temporary files of a killed run (`.*.part`) are passed over.
    """
    records: dict[str, Record] = {}
    runs: dict[str, Run] = {}
    unfinished: dict[str, Collection[str]] = {}
    problems: list[Problem] = []
    if folder.is_symlink():
        problems.append(Problem(path=str(folder), why="is a symbolic link"))
    else:
        for path in _files(folder, problems):
            place = path.relative_to(folder).as_posix()
            try:
                if place.startswith(f"{RUNS}/") and path.name.endswith(PENDING):
                    unfinished[place] = listed_by(path.read_bytes())
                elif place.startswith(f"{RUNS}/"):
                    runs[path.stem] = run_of(_bytes(path, place))
                else:
                    records[place] = _record(path, place)
            except PvError as error:
                problems.append(Problem(path=str(path), why=str(error.args[0])))
            except (OSError, ValueError, RecursionError) as error:
                problems.append(Problem(path=str(path), why=f"cannot be read: {error}"))
    unreadable = [Path(problem.path).relative_to(folder).as_posix() for problem in problems]
    found = chain(runs, records, unreadable, {place for places in unfinished.values() for place in places})
    broken = [Problem(path=str(folder / problem.path), why=problem.why) for problem in found.problems]
    notes = [f"{place} was left by a run that was interrupted: recording again completes it" for place in unfinished]
    return Evidence(
        folder=folder,
        records=records,
        chain=found,
        problems=(*sorted(problems, key=lambda problem: problem.path), *broken),
        notes=tuple(notes),
        believed=frozenset(runs),
    )


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Regular files in order of their paths; whatever else lies there is a problem."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(Problem(path=str(folder), why=f"cannot be read: {error.strerror}"))
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            problems.append(Problem(path=entry.path, why="is a symbolic link"))
        elif entry.is_dir():
            yield from _files(path, problems)
        elif not entry.is_file():
            problems.append(Problem(path=entry.path, why="is no regular file"))
        elif not (entry.name.startswith(".") and entry.name.endswith(".part")):
            yield path


def _bytes(path: Path, place: str) -> bytes:
    """The bytes of a statement, which its name is the digest of."""
    depth = 2 if place.startswith(f"{RUNS}/") else 3
    if path.suffix != ".json" or not HEX.fullmatch(path.stem) or len(place.split("/")) != depth:
        raise PvError("is no statement: statements are <contract>/<test>/<sha256>.json and _runs/<sha256>.json")
    data = path.read_bytes()
    found = sha256(data)
    if found != path.stem:
        raise PvError(f"was changed after it was written: its bytes have sha256 {found[:12]}..")
    return data


def _record(path: Path, place: str) -> Record:
    record = record_of(_bytes(path, place))
    if not PLACE.fullmatch(place) or (record.contract, record.test) != path.parts[-3:-1]:
        raise PvError(f"lies in the folder of another test: it is about {record.contract}/{record.test}")
    return record
