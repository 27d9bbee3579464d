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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pv.canonical import Json, canonical, digest, encode, parse, sha256
from pv.errors import PvError
from pv.outcome import OBSERVED, Outcome, supports
from pv.words import ROLES

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
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
    claim, code   sha256 of what is promised and of the falsifier's import closure, see pv.binding
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
    claim: str
    code: str
    environment: Mapping[str, str] = field(default_factory=dict)

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

    facts = {
        "cpu": _cpu() or platform.processor() or "unknown",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    for package in ("llvmlite", "numba", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    settings = [f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("NUMBA_")]
    told = " ".join(setting for setting in settings if not setting.startswith("NUMBA_CACHE_DIR="))
    if told:
        facts["numba_env"] = told.encode("utf-8", "backslashreplace").decode()  # a byte that is no UTF-8 is shown
    return facts


@functools.cache
def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Processor", "cpu model"):
                return value.strip()
    return ""


def statement(record: Record) -> dict[str, Json]:
    """The in-toto Statement of a record. PvError for an outcome that observed nothing: there is nothing to state."""
    if record.outcome not in OBSERVED:
        raise PvError(
            f"{record.outcome} observed nothing and is never recorded", where=f"{record.contract}::{record.test}"
        )
    claim = _described(f"claim:{record.contract}/{record.test}", record.claim)
    code = _described(f"code:{record.falsifier}", record.code)
    subject = [claim, code]
    if record.model:
        subject.append(_described(f"model:{record.model.name}", record.model.sha256))
    if record.oracle:
        named = {"name": record.oracle.name, "version": record.oracle.version}
        subject.append(_described(f"oracle:{record.oracle.name}", digest(named)))
    passed = supports(record.outcome, record.mutant)
    name = f"{record.test}[{suffix(record.role, record.model.name if record.model else None, record.mutant)}]"
    value = {
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
                "claim": record.claim,
                "code": record.code,
                "environment": dict(record.environment),
            },
        },
    }
    encoded = encode(value, where=f"{record.contract}::{name}")
    assert isinstance(encoded, dict)
    return encoded


def _described(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def record_of(value: Any) -> Record:
    """The record of a statement. PvError where the value is no statement of ours, or contradicts itself."""
    errors = sorted(_validator().iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        place = "/".join(map(str, errors[0].absolute_path)) or "the statement"
        raise PvError(f"is not a pv statement: {place}: {errors[0].message[:200]}")
    trial = dict(value["predicate"]["pv_trial"])
    trial["outcome"] = Outcome(trial["outcome"])
    trial["model"] = ModelSubject(**trial["model"]) if trial["model"] else None
    trial["oracle"] = OracleSubject(**trial["oracle"]) if trial["oracle"] else None
    record = Record(**trial)
    if canonical(statement(record)) != canonical(value):
        raise PvError("contradicts itself: subjects, result or test names do not follow from its pv_trial")
    return record


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    schema = parse(resources.files("pv").joinpath("schemas/statement.schema.json").read_bytes())
    assert isinstance(schema, dict)
    return Draft202012Validator(schema)


def write(record: Record, folder: Path) -> Path:
    """Keep the record under the evidence folder and return its file. A file that is there already is left as it is.

    PvError for ERRORED and SKIPPED, names that are no folder names, symbolic links on the way, an unwritable folder.
    """
    data = canonical(statement(record))
    for name in (record.contract, record.test):
        if not FOLDER_NAME.fullmatch(name):
            raise PvError(
                f"{name!r} cannot name a folder of evidence",
                where=f"{record.contract}::{record.test}",
                hint="use letters, digits, '.', '_' and '-', and start with a letter or digit",
            )
    home = folder / record.contract / record.test
    path = home / f"{sha256(data)}.json"
    for place in (folder / record.contract, home, path):
        if place.is_symlink():
            raise PvError("is a symbolic link: evidence is never written through one", where=str(place))
    try:
        if path.is_file() and path.read_bytes() == data:
            return path
        _make(home)
        write_atomically(path, data)
    except OSError as error:
        raise PvError(f"the statement cannot be written: {error.strerror}", where=str(path)) from None
    return path


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


def _make(folder: Path) -> None:
    """mkdir -p that is still there after a power cut."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_all(folder: Path) -> tuple[list[Record], list[Problem]]:
    """Every record below the evidence folder, and every file there that is none; both ordered by path.

    A missing folder holds no evidence. Unfinished temporary files of a killed run (`.*.part`) are passed over.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    if folder.is_symlink():
        return [], [Problem(path=str(folder), why="is a symbolic link")]
    for path in _files(folder, problems):
        try:
            records.append(_read(path, folder))
        except PvError as error:
            problems.append(Problem(path=str(path), why=str(error.args[0])))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(Problem(path=str(path), why=f"cannot be read: {error}"))
    return records, sorted(problems, key=lambda problem: problem.path)


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


def _read(path: Path, folder: Path) -> Record:
    parts = path.relative_to(folder).parts
    if len(parts) != 3 or not HEX.fullmatch(path.stem) or path.suffix != ".json":
        raise PvError("is no statement: statements are <contract>/<test>/<sha256>.json")
    data = path.read_bytes()
    found = sha256(data)
    if found != path.stem:
        raise PvError(f"was changed after it was written: its bytes have sha256 {found[:12]}..")
    value = parse(data)
    record = record_of(value)
    if canonical(value) != data:
        raise PvError("is not canonical JSON (RFC 8785)")
    if (record.contract, record.test) != parts[:2]:
        raise PvError(f"lies in the folder of another test: it is about {record.contract}/{record.test}")
    return record
