"""A run statement: what ends a recording run, and links it to the runs before it.

    evidence/_runs/<sha256 of its bytes>.json

An in-toto Statement v1 whose subjects are the files of the records that the run observed, or observed again, by name
and digest. Its predicate is a test-result, and under `pv_run` stands what that predicate has no field for: when, on
which machine, of which commit, and the digests of the run statements that no other named as its parent when this run
ended. Two branches that both recorded have two such heads, and the next run names both: a hash-linked graph, as in git.

`pv evidence gc` writes a statement of another predicate, a release: its subjects are the files that it removed.
Schema: ../schemas/run.schema.json.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pv.canonical import Json, canonical, canonical_json, encode, parse, sha256
from pv.errors import PvError
from pv.evidence.machine import Machine
from pv.outcome import supports
from pv.statement import HEX, PREDICATE_TYPE, STATEMENT_TYPE, Record, schema_validator, suffix
from pv.words import FOLDER_NAME

RELEASE_TYPE = "urn:pv-contracts:release:1"
RUNS = "_runs"
"""The folder of run statements; no contract can have this name."""
TIME = re.compile(r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ")
PLACE = re.compile(rf"{FOLDER_NAME.pattern}/{FOLDER_NAME.pattern}/([0-9a-f]{{64}})\.json")
"""<contract>/<test>/<sha256>.json: where a record lies below the evidence folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recording run, or one release.

    id        128 random bits in hexadecimal: no two runs share it
    time      RFC 3339, UTC, whole seconds; never before that of a parent
    commit    the commit that was checked out, for the reader; '' outside of git
    dirty     whether the working tree differed from it
    parents   sha256 of the run statements that it found as heads, sorted
    records   by place below the evidence folder: the name of the trial, 'ID[suffix]'
    failed    the places among them whose record speaks against its test
    released  whether the records are those that were removed, by `pv evidence gc`
    """

    id: str
    time: str
    machine: Machine
    commit: str = ""
    dirty: bool = False
    parents: tuple[str, ...] = ()
    records: Mapping[str, str]
    failed: frozenset[str] = frozenset()
    released: bool = False


def place_of(record: Record, digest: str) -> str:
    """Where a record lies below the evidence folder."""
    return f"{record.contract}/{record.test}/{digest}.json"


def trial_name(record: Record) -> str:
    """'ID[suffix]', as its pytest node is called."""
    model = record.model.name if record.model else None
    return f"{record.test}[{suffix(record.role, model, record.mutant)}]"


def is_failed(record: Record) -> bool:
    """Whether the record speaks against its test."""
    return not supports(record.outcome, record.mutant)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_bytes(run: Run) -> bytes:
    """The canonical bytes of the run's statement."""
    return canonical(_statement(run), where=f"run {run.id}")


def run_statement(run: Run) -> dict[str, Json]:
    """The in-toto Statement of a run."""
    encoded = encode(_statement(run), where=f"run {run.id}")
    assert isinstance(encoded, dict)
    return encoded


def _statement(run: Run) -> dict[str, Any]:
    facts = {
        "id": run.id,
        "time": run.time,
        "machine": {
            "cores": list(run.machine.cores),
            "cpu": run.machine.cpu,
            "architecture": run.machine.architecture,
            "system": run.machine.system,
        },
        "commit": run.commit,
        "dirty": run.dirty,
        "parents": list(run.parents),
    }
    places = sorted(run.records)
    predicate: dict[str, Any]
    if run.released:
        predicate = {"pv_run": facts}
    else:
        predicate = {
            "result": "FAILED" if run.failed else "PASSED",
            "configuration": [],
            "failedTests": sorted({run.records[place] for place in run.failed}),
            "pv_run": {**facts, "failed": sorted(run.failed)},
        }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": place, "digest": {"sha256": _digest_in(place)}, "annotations": {"trial": run.records[place]}}
            for place in places
        ],
        "predicateType": RELEASE_TYPE if run.released else PREDICATE_TYPE,
        "predicate": predicate,
    }


def _digest_in(place: str) -> str:
    found = PLACE.fullmatch(place)
    if not found:
        raise PvError(f"{place!r} is no place of a record", hint="records are <contract>/<test>/<sha256>.json")
    return found[1]


def run_of(data: bytes) -> Run:
    """The run that a statement's bytes tell of. PvError where they are none of ours, or contradict themselves."""
    try:
        value: Any = parse(data)
    except (ValueError, RecursionError) as error:
        raise PvError(f"cannot be read: {error}") from None
    try:
        run = _run(value)
        if _statement(run) == value and canonical_json(value) == data:
            return run
    except (LookupError, TypeError, AttributeError, ValueError, PvError):
        pass
    errors = sorted(_validator().iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        place = "/".join(map(str, errors[0].absolute_path)) or "the statement"
        raise PvError(f"is not a run statement: {place}: {errors[0].message[:200]}")
    raise PvError("contradicts itself, or is not canonical JSON (RFC 8785): it is not what a run writes")


def _run(value: Any) -> Run:
    """The run of a statement, its leaves checked; what is derived from them is checked by writing it again.

    LookupError, TypeError or AttributeError where a part is missing or of another type; PvError for a wrong value.
    """
    facts = value["predicate"]["pv_run"]
    machine = Machine(**{**facts["machine"], "cores": tuple(facts["machine"]["cores"])})
    run = Run(
        id=facts["id"],
        time=facts["time"],
        machine=machine,
        commit=facts["commit"],
        dirty=facts["dirty"],
        parents=tuple(facts["parents"]),
        records={subject["name"]: subject["annotations"]["trial"] for subject in value["subject"]},
        failed=frozenset(facts.get("failed", ())),
        released=value["predicateType"] == RELEASE_TYPE,
    )
    texts = (*machine.cores, machine.cpu, machine.architecture, machine.system, run.commit, *run.records.values())
    right = (
        all(isinstance(text, str) for text in texts)
        and all(machine.cores)
        and all(run.records.values())
        and re.fullmatch(r"([0-9a-f]{40}|[0-9a-f]{64})?", run.commit)
        and re.fullmatch(r"[0-9a-f]{32}", run.id)
        and TIME.fullmatch(run.time)
        and datetime.strptime(run.time, "%Y-%m-%dT%H:%M:%SZ")
        and isinstance(run.dirty, bool)
        and all(HEX.fullmatch(parent) for parent in run.parents)
        and list(run.parents) == sorted(set(run.parents))
        and run.records
        and run.failed <= run.records.keys()
    )
    if not right:
        raise PvError("is not a run statement")
    return run


def run_digest(run: Run) -> str:
    """sha256 of the run's statement, which names its file."""
    return sha256(run_bytes(run))


def heads_of(runs: Mapping[str, Run]) -> tuple[str, ...]:
    """The runs that no other names as its parent, sorted."""
    return tuple(sorted(runs.keys() - {parent for run in runs.values() for parent in run.parents}))


@functools.cache
def _validator() -> Any:
    return schema_validator("run.schema.json")
