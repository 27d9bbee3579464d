"""The evidence folder, read: every record with the runs that vouch for it, and everything that cannot be believed."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pv.errors import PvError
from pv.evidence.chain import Chain, chain, run_path
from pv.evidence.index import Index, Stamps, open_index
from pv.evidence.run import PLACE, RUNS, Run, run_of
from pv.evidence.shelf import (
    NO_STATEMENT,
    Fact,
    Shelf,
    facts_on,
    fill,
    pack_runs,
    records_on,
    statement_of,
    unpack_runs,
)
from pv.evidence.signatures import SIGNATURES, judged
from pv.evidence.unfinished import PENDING, listed_by
from pv.processes import available, shared
from pv.statement import Problem, Record

SHARE = 1000
"""Files that are worth a process of their own."""


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

    shelves   the records of each test that has any, by '<contract>/<test>'
    facts     by place, what the chain knows of each record
    problems  what cannot be believed, by absolute path; what is wrong with a run concerns every test
    notes     what a reader should know though nothing is wrong with it
    believed  digests of the runs whose records may support a level
    """

    folder: Path
    shelves: Mapping[str, Shelf]
    facts: Mapping[str, Fact]
    chain: Chain
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    believed: frozenset[str]

    def of(self, contract: str, test: str, claim: str | None = None) -> tuple[list[Kept], int]:
        """The records of a test, in order of their digests, and how many were left out: those of another claim."""
        home = f"{contract}/{test}"
        shelf = self.shelves.get(home)
        if shelf is None:
            return [], 0
        found = []
        listed, runs, believed = self.chain.listed, self.chain.runs, self.believed
        records, left_out = records_on(shelf, claim)
        for digest, record in records:
            by = tuple([runs[run] for run in listed.get(f"{home}/{digest}.json", ()) if run in believed])
            found.append(Kept(record=record, digest=digest, runs=by))
        return found, left_out

    @functools.cached_property
    def records(self) -> Mapping[str, Record]:
        """Every record by its place, in order of the paths."""
        return {
            f"{home}/{digest}.json": record
            for home, shelf in self.shelves.items()
            for digest, record in records_on(shelf)[0]
        }

    def lost(self, contract: str, test: str) -> list[Problem]:
        """What may have hidden something about a test: damage among its own records, and anywhere in the chain."""
        homes = tuple(str(self.folder.joinpath(*place)) + os.sep for place in ((contract, test), (RUNS,)))
        return [problem for problem in self.problems if problem.path.startswith(homes)]


def read(folder: Path, *, remember: bool = True, trusted: Sequence[Path] = ()) -> Evidence:
    """Everything below the evidence folder. A missing folder holds no evidence.

    PvError for a file of `trusted` that is no public key, and where signatures cannot be verified at all.

    Unfinished temporary files of a killed run (`.*.part`) are passed over.

    remember  believe and keep the index of what was read before; without it every byte is read
    trusted   files of public keys: a run is believed if one of them signed it; without any, every run is
    """
    problems: list[Problem] = []
    homes: dict[str, Stamps] = {}
    if folder.is_symlink():
        problems.append(Problem(path=str(folder), why="is a symbolic link"))
    else:
        homes = dict(_homes(folder, problems))
    index = open_index(folder) if remember and homes else None
    stamps, signatures = homes.pop(RUNS, ()), homes.pop(SIGNATURES, ())
    runs, unfinished = _runs(folder, stamps, problems, index)
    shelves = _shelves(folder, homes, index)
    if index:
        index.save({RUNS: stamps, **homes})
    facts = {f"{home}/{digest}.json": fact for home, shelf in shelves.items() for digest, fact in facts_on(shelf)}
    problems += [problem for shelf in shelves.values() for problem in shelf.problems]
    unreadable = {Path(problem.path).relative_to(folder).as_posix() for problem in problems}
    found = chain(runs, facts, unreadable, {place for places in unfinished.values() for place in places})
    broken = [Problem(path=str(folder / problem.path), why=problem.why) for problem in found.problems]
    signed = judged(folder, [name for name, *_ in signatures], found.runs, trusted)
    notes = [f"{place} was left by a run that was interrupted: recording again completes it" for place in unfinished]
    if late := ahead(found.runs):
        more = f", and {len(late) - 1} more" if late[1:] else ""
        notes.append(f"{run_path(late[0])} is dated {found.runs[late[0]].time}, ahead of this machine's clock{more}")
    if trusted:
        unsigned = "released it, and no trusted key signed that"
        broken += [
            Problem(path=str(folder / place), why=f"is missing: run {digest[:12]}.. {unsigned}")
            for digest, run in found.runs.items()
            if run.released and digest not in signed.believed
            for place in run.records
            if place not in facts
        ]
    return Evidence(
        folder=folder,
        shelves=shelves,
        facts=facts,
        chain=found,
        problems=(*sorted(problems, key=lambda problem: problem.path), *broken, *signed.problems),
        notes=(*notes, *signed.notes),
        believed=signed.believed,
    )


def require_evidence(folder: Path) -> None:
    """PvError for a folder of something else: it holds files, and none of them is what evidence has. Nothing is read.

    What holds anything of evidence is evidence, and what else lies in it is for `read` to name. A link is, too.
    """
    ignored: list[Problem] = []
    inside = [entry.name for entry in _scanned(str(folder), ignored)]
    if not inside or folder.is_symlink() or not {RUNS, SIGNATURES}.isdisjoint(inside):
        return
    homes = (f"{name}/{test.name}" for name in inside for test in _scanned(f"{folder}/{name}", ignored))
    places = (f"{home}/{entry.name}" for home in homes for entry in _scanned(f"{folder}/{home}", ignored))
    if not any(map(PLACE.fullmatch, places)):
        what = f"is no folder of evidence: it holds neither {RUNS} nor a record, and nothing was read"
        raise PvError(what, where=str(folder), hint=f"name the folder that {RUNS} lies in")


def ahead(runs: Mapping[str, Run]) -> list[str]:
    """The runs that are dated later than this machine's clock, and a day: one of the two clocks is wrong.

    No level rests on a time, so nothing is lost by believing such a run, and all evidence would be by not believing it
    where the clock that is wrong is this one.
    """
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [digest for digest, run in runs.items() if run.time > tomorrow]


def _homes(folder: Path, problems: list[Problem]) -> Iterator[tuple[str, Stamps]]:
    """The folders in which statements may lie, each with the stamps of its files; what lies elsewhere is a problem."""
    for name, inside in _entries(str(folder), problems):
        if inside is None:
            problems.append(Problem(path=f"{folder}/{name}", why=NO_STATEMENT))
        elif name in (RUNS, SIGNATURES):
            yield name, _stamps(f"{folder}/{name}", problems)
        else:
            for test, deeper in _entries(f"{folder}/{name}", problems):
                if deeper is None:
                    problems.append(Problem(path=f"{folder}/{name}/{test}", why=NO_STATEMENT))
                else:
                    yield f"{name}/{test}", _stamps(f"{folder}/{name}/{test}", problems)


def _scanned(folder: str, problems: list[Problem]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(path=folder, why=f"cannot be read: {error.strerror}"))
        return []


def _entries(folder: str, problems: list[Problem]) -> Iterator[tuple[str, bool | None]]:
    """(name, True for a folder or None for a file) of what lies in a folder; links and the like are problems."""
    for entry in _scanned(folder, problems):
        if entry.is_symlink():
            problems.append(Problem(path=entry.path, why="is a symbolic link"))
        elif entry.is_dir():
            yield entry.name, True
        elif not entry.is_file():
            problems.append(Problem(path=entry.path, why="is no regular file"))
        elif not _is_part(entry.name):
            yield entry.name, None


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def _stamps(folder: str, problems: list[Problem]) -> Stamps:
    """The regular files of a folder that holds nothing else; what else it holds is a problem."""
    found = []
    for entry in _scanned(folder, problems):
        if entry.is_file(follow_symlinks=False):
            if not _is_part(entry.name):
                try:
                    about = entry.stat(follow_symlinks=False)
                except OSError as error:  # it went away since the folder was read
                    problems.append(Problem(path=entry.path, why=f"cannot be read: {error.strerror}"))
                    continue
                found.append((entry.name, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino))
        elif entry.is_symlink():
            problems.append(Problem(path=entry.path, why="is a symbolic link"))
        elif entry.is_dir():
            deeper = [f"{place}/{name}" for place, _, names in os.walk(entry.path) for name in sorted(names)]
            problems += [Problem(path=path, why=NO_STATEMENT) for path in deeper]
        else:
            problems.append(Problem(path=entry.path, why="is no regular file"))
    return tuple(found)


def _runs(
    folder: Path, stamps: Stamps, problems: list[Problem], index: Index | None
) -> tuple[dict[str, Run], dict[str, frozenset[str]]]:
    """The runs by digest; and by place, what an unfinished one lists."""
    if index and (known := index.get(RUNS, stamps)):
        return unpack_runs(known), {}
    runs: dict[str, Run] = {}
    unfinished: dict[str, frozenset[str]] = {}
    before = len(problems)
    for name, *_ in stamps:
        path = f"{folder}/{RUNS}/{name}"
        try:
            if name.endswith(PENDING):
                unfinished[f"{RUNS}/{name}"] = listed_by(Path(path).read_bytes())
            else:
                runs[name[:-5]] = run_of(statement_of(path, name))
        except PvError as error:
            problems.append(Problem(path=path, why=str(error.args[0])))
        except FileNotFoundError:
            continue  # a run that was unfinished is finished now
        except OSError as error:
            problems.append(Problem(path=path, why=f"cannot be read: {error}"))
    if index and len(runs) == len(stamps) and len(problems) == before:
        index.put(RUNS, stamps, pack_runs(runs))
    return runs, unfinished


def _shelves(folder: Path, homes: Mapping[str, Stamps], index: Index | None) -> dict[str, Shelf]:
    found = {home: shelf for home, stamps in homes.items() if index and (shelf := index.get(home, stamps))}
    new = {home: [name for name, *_ in stamps] for home, stamps in homes.items() if home not in found}
    for home, shelf in zip(new, _filled(folder, new), strict=True):
        found[home] = shelf
        if index:
            index.put(home, homes[home], shelf)
    return {home: found[home] for home in homes}


def _filled(folder: Path, homes: Mapping[str, list[str]]) -> Iterator[Shelf]:
    """The shelves in the order of `homes`, many of them by several processes."""
    jobs = min(available(), sum(map(len, homes.values())) // SHARE)
    yield from shared(functools.partial(_fill, folder), list(homes.items()), jobs)


def _fill(folder: Path, task: tuple[str, list[str]]) -> Shelf:
    return fill(folder, *task)
