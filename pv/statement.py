"""The one value between trials and levels: a Record, and the in-toto Statement v1 that it is kept as.

A statement is canonical JSON in evidence/<contract>/<test>/<sha256 of its bytes>.json: a test-result predicate
(https://in-toto.io/attestation/test-result/v0.1) and, under `pv_trial`, what that predicate has no field for. A mutant
that is caught is a passed test. Schema: schemas/statement.schema.json. A statement holds no time, no duration and no
host name: the same observation has the same bytes, so recording it again adds nothing.
"""

import contextlib
import functools
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pv.canonical import Json, canonical, canonical_json, digest, encode, parse
from pv.environment import NAME as VARIABLE
from pv.errors import PvError
from pv.evidence.machine import this_machine
from pv.outcome import OBSERVED, Outcome, supports
from pv.words import FOLDER_NAME, FOLDER_NAMES, ROLES

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSubject:
    """A model file by its registered name and the digest of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSubject:
    """An independent implementation by its name and version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one trial observed, and of what.

    contract      stem of the contract's file name; test: the id of the falsification test
    falsifier     'module:function'; mutant: name of the planted defect, or None
    message       what was seen when the promise broke; empty for SURVIVED
    comparisons   how many comparisons the trial made
    outputs       by name, sha256 of what the engine put out: equal on two machines, they show that it is reproducible
    artifacts     by name, bytes in each of the outputs that are to be kept in a store
    claim, code   sha256 of what is promised and of the falsifier's import closure, see pv.binding
    packages      by top-level package, sha256 of its part of that closure
    variables     by name, the values of the environment variables that the closure declares; None for one not set
    environment   facts of the machine and versions of the arithmetic, see `environment()`
    """

    contract: str
    test: str
    role: str
    falsifier: str
    mutant: str | None = None
    model: ModelSubject | None = None
    oracle: OracleSubject | None = None
    outcome: Outcome
    message: str = ""
    seed: int
    comparisons: int
    observations: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, int] = field(default_factory=dict)
    claim: str
    code: str
    packages: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise PvError(f"role must be one of {', '.join(ROLES)}, not {self.role!r}")
        for name in ("claim", "code"):
            if not HEX.fullmatch(getattr(self, name)):
                raise PvError(f"{name} must be a sha256 in lower-case hexadecimal, not {getattr(self, name)!r}")
        if self.outcome is Outcome.SURVIVED and not self.comparisons >= 1:
            raise PvError("a trial that made no comparison has not SURVIVED anything")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the evidence folder that cannot be believed, and why."""

    path: str
    why: str


def suffix(role: str, model: str | None, mutant: str | None) -> str:
    """What stands in the brackets of a node id: `algorithm`, `live-tiny-qwen2`, `algorithm!big_endian_header`."""
    return role + (f"-{model}" if model else "") + (f"!{mutant}" if mutant else "")


def environment() -> dict[str, str]:
    """Facts of this machine, and the versions and settings that decide about bits; nothing heavy is imported.

    numba_env  the NUMBA_* variables that are set, by name, but for the folder of its cache, which each run chooses anew
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    machine = this_machine()
    facts = {
        "cores": ", ".join(machine.cores),
        "cpu": machine.cpu,
        "machine": machine.architecture,
        "python": platform.python_version(),
        "system": machine.system,
    }
    for package in ("llvmlite", "numba", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    settings = [f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("NUMBA_")]
    told = " ".join(setting for setting in settings if not setting.startswith("NUMBA_CACHE_DIR="))
    if told:
        facts["numba_env"] = told.encode("utf-8", "backslashreplace").decode()  # a byte that is no UTF-8 is shown
    return facts


def statement(record: Record) -> dict[str, Json]:
    """The in-toto Statement of a record. PvError for an outcome that observed nothing: there is nothing to state."""
    encoded = encode(_statement(record), where=f"{record.contract}::{record.test}")
    assert isinstance(encoded, dict)
    return encoded


def _statement(record: Record) -> dict[str, Any]:
    if record.outcome not in OBSERVED:
        raise PvError(
            f"{record.outcome} observed nothing and is never recorded", where=f"{record.contract}::{record.test}"
        )
    claim = _described(f"claim:{record.contract}/{record.test}", record.claim)
    code = _described(f"code:{record.falsifier}", record.code)
    subject = [claim, code]
    subject += [_described(f"package:{name}", found) for name, found in sorted(record.packages.items())]
    if record.model:
        subject.append(_described(f"model:{record.model.name}", record.model.sha256))
    if record.oracle:
        named = {"name": record.oracle.name, "version": record.oracle.version}
        subject.append(_described(f"oracle:{record.oracle.name}", digest(named)))
    passed = supports(record.outcome, record.mutant)
    name = f"{record.test}[{suffix(record.role, record.model.name if record.model else None, record.mutant)}]"
    return {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": "PASSED" if passed else "FAILED",
            "configuration": [claim, code],
            "passedTests": [name] if passed else [],
            "failedTests": [] if passed else [name],
            "pv_trial": {
                "contract": record.contract,
                "test": record.test,
                "role": record.role,
                "falsifier": record.falsifier,
                "mutant": record.mutant,
                "model": {"name": record.model.name, "sha256": record.model.sha256} if record.model else None,
                "oracle": {"name": record.oracle.name, "version": record.oracle.version} if record.oracle else None,
                "outcome": record.outcome.value,
                "message": record.message,
                "seed": record.seed,
                "comparisons": record.comparisons,
                "observations": dict(record.observations),
                "outputs": dict(record.outputs),
                "claim": record.claim,
                "code": record.code,
                "packages": dict(record.packages),
                "environment": dict(record.environment),
                **({"variables": dict(record.variables)} if record.variables else {}),
                **({"artifacts": dict(record.artifacts)} if record.artifacts else {}),
            },
        },
    }


def _described(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def statement_bytes(record: Record) -> bytes:
    """What a record is kept as. PvError for ERRORED and SKIPPED, and for names that cannot name its folder."""
    for name in (record.contract, record.test):
        if not FOLDER_NAME.fullmatch(name):
            raise PvError(
                f"{name!r} cannot name a folder of evidence",
                where=f"{record.contract}::{record.test}",
                hint=f"use {FOLDER_NAMES}",
            )
    return canonical(statement(record))


def record_of(data: bytes) -> Record:
    """The record of a statement's bytes. PvError where they are no statement of ours, or contradict themselves.

    The leaves are checked one by one, and what follows from them by writing the statement again: that is what the
    published schema asks, much faster. The schema itself is asked only to say what is wrong.
    """
    value = parse(data)
    try:
        record = _record(value)
        follows = _statement(record) == value
        if follows and canonical_json(value) == data:
            return record
    except (LookupError, TypeError, AttributeError, ValueError, PvError):
        follows = False
    errors = sorted(
        schema_validator("statement.schema.json").iter_errors(value),
        key=lambda error: list(map(str, error.absolute_path)),
    )
    if errors:
        place = "/".join(map(str, errors[0].absolute_path)) or "the statement"
        raise PvError(f"is not a pv statement: {place}: {errors[0].message[:200]}")
    if follows:
        raise PvError("is not canonical JSON (RFC 8785)")
    raise PvError("contradicts itself: subjects, result or test names do not follow from its pv_trial")


def _record(value: Any) -> Record:
    """The record, its leaves checked. LookupError, TypeError, AttributeError, ValueError or PvError for a wrong one."""
    trial = dict(value["predicate"]["pv_trial"])
    trial["outcome"] = Outcome(trial["outcome"])
    trial["model"] = ModelSubject(**trial["model"]) if trial["model"] is not None else None
    trial["oracle"] = OracleSubject(**trial["oracle"]) if trial["oracle"] is not None else None
    record = Record(**trial)
    texts = [record.contract, record.test, record.falsifier, record.message]
    texts += [text for pair in record.environment.items() for text in pair]
    named = [record.contract, record.test, *record.outputs, *record.packages]
    if record.mutant is not None:
        named.append(record.mutant)
    if record.model:
        named += [record.model.name, record.model.sha256]
    if record.oracle:
        named += [record.oracle.name, record.oracle.version]
    digests = [*record.outputs.values(), *record.packages.values()] + ([record.model.sha256] if record.model else [])
    right = (
        all(isinstance(text, str) for text in (*texts, *named, *digests))
        and all(named)
        and all(map(HEX.fullmatch, digests))
        and all(map(FOLDER_NAME.fullmatch, (record.contract, record.test)))
        and re.fullmatch(r"[^:]+:[^:]+", record.falsifier)
        and type(record.seed) is int
        and type(record.comparisons) is int
        and record.comparisons >= 0
        and isinstance(record.observations, dict)
        and all(type(size) is int and size >= 0 for size in record.artifacts.values())
        and record.artifacts.keys() <= record.outputs.keys()
        and (record.role != "algorithm" or record.model is None)
        and all(isinstance(name, str) and VARIABLE.fullmatch(name) for name in record.variables)
        and all(value is None or isinstance(value, str) for value in record.variables.values())
    )
    if not right:
        raise ValueError("a leaf has another type or form than it must have")
    return record


@functools.cache
def schema_validator(name: str) -> Any:
    """A validator of one of the published schemas of evidence, by its file name."""
    from jsonschema import Draft202012Validator

    schema = parse(resources.files("pv").joinpath(f"schemas/{name}").read_bytes())
    assert isinstance(schema, dict)
    return Draft202012Validator(schema)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the file at `path` by `data` for good: after a crash or a power cut it has the old or the new bytes."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync(path.parent)


def make_folder(folder: Path) -> None:
    """mkdir -p that is still there after a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
