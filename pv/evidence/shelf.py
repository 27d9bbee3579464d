"""The records of one test, read from their files and packed into bytes, so that they can be remembered and sent on."""

import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.machine import Machine
from pv.evidence.run import Run, is_failed, trial_name
from pv.outcome import Outcome
from pv.statement import HEX, ModelSubject, OracleSubject, Problem, Record, record_of

NO_STATEMENT = "is no statement: statements are <contract>/<test>/<sha256>.json and _runs/<sha256>.json"
FIELDS = tuple(Record.__dataclass_fields__)
VALUES = attrgetter(*FIELDS)
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
SETTERS = tuple(getattr(Record, name).__set__ for name in FIELDS)  # of the slots: a frozen value has no other way
MODEL, ORACLE, OUTCOME = FIELDS.index("model"), FIELDS.index("oracle"), FIELDS.index("outcome")


class Fact(NamedTuple):
    """What the chain asks of a record: its trial's name, whether it speaks against its test, and where it was made."""

    trial: str
    failed: bool
    cpu: str | None
    architecture: str | None
    system: str | None
    cores: str | None


def fact_of(record: Record) -> Fact:
    environment = record.environment
    return Fact(
        trial_name(record),
        is_failed(record),
        environment.get("cpu"),
        environment.get("machine"),
        environment.get("system"),
        environment.get("cores"),
    )


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of one test.

    facts     packed: [(digest, Fact)]
    records   packed: {claim: (how many, packed: [(digest, values)])}, since a level asks for those of one claim alone
    problems  what lies there and cannot be believed
    """

    facts: bytes
    records: bytes
    problems: tuple[Problem, ...] = ()


def fill(folder: Path, place: str, names: Sequence[str]) -> Shelf:
    """Read the files `names` in `place`, '<contract>/<test>' below the evidence folder."""
    found: list[tuple[str, Record]] = []
    problems = []
    for name in names:
        path = f"{folder}/{place}/{name}"
        try:
            found.append((name[:-5], _record(path, place, name)))
        except PvError as error:
            problems.append(Problem(path=path, why=str(error.args[0])))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(Problem(path=path, why=f"cannot be read: {error}"))
    facts = [(digest, *fact_of(record)) for digest, record in found]
    claims: dict[str, list[tuple[str, tuple[Any, ...]]]] = {}
    for digest, record in found:
        claims.setdefault(record.claim, []).append((digest, _packed(record)))
    records = {claim: (len(values), marshal.dumps(values)) for claim, values in claims.items()}
    return Shelf(marshal.dumps(facts), marshal.dumps(records), tuple(problems))


def statement_of(path: str, name: str) -> bytes:
    """The bytes of a statement, which its name is the digest of. PvError where it is not."""
    if not name.endswith(".json") or not HEX.fullmatch(name[:-5]):
        raise PvError(NO_STATEMENT)
    with open(path, "rb") as stream:
        data = stream.read()
    found = sha256(data)
    if found != name[:-5]:
        raise PvError(f"was changed after it was written: its bytes have sha256 {found[:12]}..")
    return data


def _record(path: str, place: str, name: str) -> Record:
    record = record_of(statement_of(path, name))
    if f"{record.contract}/{record.test}" != place:
        raise PvError(f"lies in the folder of another test: it is about {record.contract}/{record.test}")
    return record


def facts_on(shelf: Shelf) -> list[tuple[str, Fact]]:
    """(digest, fact) of each record."""
    return [(digest, Fact(*rest)) for digest, *rest in marshal.loads(shelf.facts)]


def records_on(shelf: Shelf, claim: str | None = None) -> tuple[list[tuple[str, Record]], int]:
    """(digest, record) of each record in order of the digests, and how many were left out: those of another claim."""
    groups: dict[str, tuple[int, bytes]] = marshal.loads(shelf.records)
    wanted = {name: group for name, group in groups.items() if claim in (None, name)}
    found = [(digest, _unpacked(values)) for _, packed in wanted.values() for digest, values in marshal.loads(packed)]
    left_out = sum(number for number, _ in groups.values()) - len(found)
    return sorted(found, key=itemgetter(0)), left_out


def _packed(record: Record) -> tuple[Any, ...]:
    values = list(VALUES(record))
    model, oracle = values[MODEL], values[ORACLE]
    values[MODEL] = (model.name, model.sha256) if model else None
    values[ORACLE] = (oracle.name, oracle.version) if oracle else None
    values[OUTCOME] = record.outcome.value
    return tuple(values)


def _unpacked(packed: tuple[Any, ...]) -> Record:
    """The record; it was checked when it was packed, so it is not made anew."""
    values = list(packed)
    if values[MODEL]:
        values[MODEL] = ModelSubject(name=values[MODEL][0], sha256=values[MODEL][1])
    if values[ORACLE]:
        values[ORACLE] = OracleSubject(name=values[ORACLE][0], version=values[ORACLE][1])
    values[OUTCOME] = OUTCOMES[values[OUTCOME]]
    record = Record.__new__(Record)
    for put, value in zip(SETTERS, values, strict=True):
        put(record, value)
    return record


def pack_runs(runs: Mapping[str, Run]) -> Shelf:
    """The runs by digest, packed as a shelf without records."""
    packed = []
    for digest, run in runs.items():
        machine = run.machine
        told = (run.id, run.time, run.commit, run.dirty, run.parents, run.released)
        known = (machine.cores, machine.cpu, machine.architecture, machine.system)
        packed.append((digest, told, known, dict(run.records), tuple(run.failed)))
    return Shelf(marshal.dumps(packed), b"")


def unpack_runs(shelf: Shelf) -> dict[str, Run]:
    """The runs by digest; they were checked when they were packed."""
    runs = {}
    for digest, told, known, records, failed in marshal.loads(shelf.facts):
        identity, time, commit, dirty, parents, released = told
        cores, cpu, architecture, system = known
        runs[digest] = Run(
            id=identity,
            time=time,
            machine=Machine(cores=cores, cpu=cpu, architecture=architecture, system=system),
            commit=commit,
            dirty=dirty,
            parents=parents,
            records=records,
            failed=frozenset(failed),
            released=released,
        )
    return runs
