"""What the runs say of the records, and each other: a pure function that finds what was removed, added or edited.

A record that no run lists was put there by hand. A record that a run lists and that is not there was removed. A run
that another names as its parent and that is not there was removed, with whatever it listed. What cannot show from the
folder alone is the removal of a newest run together with its records, as a branch that is cut off does not show in git:
`pv gate --base REF` compares with what the base has.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from pv.evidence.run import RUNS, Run, heads_of
from pv.evidence.shelf import Fact
from pv.statement import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The graph of runs.

    runs      by digest, a parent before its children
    heads     digests of the runs that no other names as its parent, sorted
    listed    by place of a record, the digests of the recording runs that list it
    problems  what does not hold, the first broken link first; paths are relative to the evidence folder
    pending   places of records that only an unfinished run lists: nothing is wrong with them, and they support nothing
    """

    runs: Mapping[str, Run]
    heads: tuple[str, ...]
    listed: Mapping[str, tuple[str, ...]]
    problems: tuple[Problem, ...]
    pending: frozenset[str]


def chain(
    runs: Mapping[str, Run],
    records: Mapping[str, Fact],
    unreadable: Collection[str] = (),
    unfinished: Collection[str] = (),
) -> Chain:
    """The chain of `runs`, by digest, over `records`, by place.

    unreadable  places where something lies that cannot be read: a problem of its own, but not missing
    unfinished  places that a run was about to write when it was killed
    """
    depth = _depths(runs)
    ordered = dict(sorted(runs.items(), key=lambda item: (item[1].time, depth[item[0]], item[0])))
    listed: dict[str, list[str]] = {}
    for digest, run in ordered.items():
        if not run.released:
            for place in run.records:
                listed.setdefault(place, []).append(digest)
    problems = [*_broken_links(ordered), *_wrong_lists(ordered, records, unreadable)]
    unlisted = sorted(records.keys() - listed.keys())
    problems += [
        Problem(path=place, why="is a record that no run lists: it was not written by a recording run of this folder")
        for place in unlisted
        if place not in unfinished
    ]
    return Chain(
        runs=ordered,
        heads=heads_of(runs),
        listed={place: tuple(found) for place, found in listed.items()},
        problems=tuple(problems),
        pending=frozenset(place for place in unlisted if place in unfinished),
    )


def _depths(runs: Mapping[str, Run]) -> dict[str, int]:
    """How many runs lie between each run and the beginning: runs of one second are told apart by it."""
    depth: dict[str, int] = {}
    for digest in TopologicalSorter({digest: run.parents for digest, run in runs.items()}).static_order():
        parents = runs[digest].parents if digest in runs else ()
        depth[digest] = 1 + max((depth[parent] for parent in parents), default=0)
    return depth


def run_path(digest: str) -> str:
    """Where a run statement lies below the evidence folder."""
    return f"{RUNS}/{digest}.json"


def _broken_links(runs: Mapping[str, Run]) -> Iterator[Problem]:
    ids: dict[str, str] = {}
    for digest, run in runs.items():
        twin = ids.setdefault(run.id, digest)
        if twin != digest:
            yield Problem(path=run_path(digest), why=f"reuses the id {run.id} of run {twin[:12]}..: one is a copy")
        for parent in run.parents:
            if parent not in runs:
                yield Problem(path=run_path(parent), why=f"is missing: run {digest[:12]}.. of {run.time} came after it")
            elif run.time < runs[parent].time:
                why = f"is dated {run.time}, before its parent {parent[:12]}.. of {runs[parent].time}"
                yield Problem(path=run_path(digest), why=why)


def _wrong_lists(
    runs: Mapping[str, Run], records: Mapping[str, Fact], unreadable: Collection[str]
) -> Iterator[Problem]:
    """Records that are missing, or are not what their run says of them."""
    released = {place for run in runs.values() if run.released for place in run.records}
    failed = {place for run in runs.values() for place in run.failed}
    listed = {place for run in runs.values() if not run.released for place in run.records}
    told: set[str] = set()
    for digest, run in runs.items():
        if run.released:
            for place in sorted(failed & run.records.keys() - records.keys()):
                why = f"is missing: run {digest[:12]}.. released it, though it speaks against its test"
                yield Problem(path=place, why=why)
            for place in sorted(run.records.keys() - listed):
                why = f"releases {place}, which no run lists: what it was nobody knows any more"
                yield Problem(path=run_path(digest), why=why)
            continue
        for place in run.records:
            record = records.get(place)
            if record is None:
                if place not in released and place not in unreadable and place not in told:
                    told.add(place)
                    why = f"is missing: run {digest[:12]}.. of {run.time} lists it, about {run.records[place]}"
                    yield Problem(path=place, why=why)
            elif wrong := _disagreement(run, place, record):
                yield Problem(path=run_path(digest), why=f"says of {place} {wrong}")


def _disagreement(run: Run, place: str, record: Fact) -> str:
    """What a run says of a record that the record does not; '' if nothing."""
    if run.records[place] != record.trial:
        return f"that it is about {run.records[place]}, and it is about {record.trial}"
    if (place in run.failed) is not record.failed:
        told = ("passed", "failed")
        return f"that it {told[place in run.failed]}, and it {told[record.failed]}"
    machine = run.machine
    there = (machine.cpu, machine.architecture, machine.system, ", ".join(machine.cores))
    here = (record.cpu, record.architecture, record.system, record.cores)
    if here != there:
        return f"that it was made on {'; '.join(there)}, and it was on {'; '.join(map(str, here))}"
    return ""
