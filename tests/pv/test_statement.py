import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv import statement as module
from pv.canonical import canonical, digest, parse, sha256
from pv.errors import PvError
from pv.outcome import OBSERVED, Outcome
from pv.statement import ModelSubject, OracleSubject, Record, environment, read_all, record_of, statement, suffix, write
from pv.words import ROLES

BASE = Record(
    contract="byte-format-v1",
    test="FALSIFY-BF-001",
    role="live",
    falsifier="falsifiers.byte_format:parses",
    model=ModelSubject(name="tiny", sha256="ab" * 32),
    outcome=Outcome.SURVIVED,
    seed=7,
    comparisons=3,
    observations={"worst": 1.5, "at": [3, 4], "floor": 1e20},
    claim="01" * 32,
    code="23" * 32,
    environment={"cpu": "a cpu"},
)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NAMES = st.from_regex(module.FOLDER_NAME, fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
RECORDS = st.builds(
    Record,
    contract=NAMES,
    test=NAMES,
    role=st.sampled_from(["live", "oracle"]),
    falsifier=st.just("m:f"),
    mutant=st.none() | TEXT,
    model=st.none() | st.builds(ModelSubject, name=TEXT, sha256=DIGESTS),
    oracle=st.none() | st.builds(OracleSubject, name=TEXT, version=TEXT),
    outcome=st.sampled_from(["SURVIVED", "FALSIFIED", "FLAKY"]).map(Outcome),
    message=st.text(st.characters(codec="utf-8")),
    seed=st.integers(0, 2**53 - 1),
    comparisons=st.integers(1, 2**31),
    observations=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()),
    claim=DIGESTS,
    code=DIGESTS,
    environment=st.dictionaries(TEXT, TEXT),
)


@given(RECORDS)
def test_a_record_reads_back_from_its_statement(record):
    assert record_of(parse(canonical(statement(record)))) == record


def test_a_statement_is_an_in_toto_statement_with_a_test_result():
    assert statement(replace(BASE, oracle=OracleSubject(name="torch", version="2.13"))) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "claim:byte-format-v1/FALSIFY-BF-001", "digest": {"sha256": "01" * 32}},
            {"name": "code:falsifiers.byte_format:parses", "digest": {"sha256": "23" * 32}},
            {"name": "model:tiny", "digest": {"sha256": "ab" * 32}},
            {"name": "oracle:torch", "digest": {"sha256": digest({"name": "torch", "version": "2.13"})}},
        ],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": "PASSED",
            "configuration": [
                {"name": "claim:byte-format-v1/FALSIFY-BF-001", "digest": {"sha256": "01" * 32}},
                {"name": "code:falsifiers.byte_format:parses", "digest": {"sha256": "23" * 32}},
            ],
            "passedTests": ["FALSIFY-BF-001[live-tiny]"],
            "failedTests": [],
            "pv_trial": {
                "contract": "byte-format-v1",
                "test": "FALSIFY-BF-001",
                "role": "live",
                "falsifier": "falsifiers.byte_format:parses",
                "mutant": None,
                "model": {"name": "tiny", "sha256": "ab" * 32},
                "oracle": {"name": "torch", "version": "2.13"},
                "outcome": "SURVIVED",
                "message": "",
                "seed": 7,
                "comparisons": 3,
                "observations": {"worst": 1.5, "at": [3, 4], "floor": 1e20},
                "claim": "01" * 32,
                "code": "23" * 32,
                "environment": {"cpu": "a cpu"},
            },
        },
    }


@pytest.mark.parametrize(
    ("outcome", "mutant", "result"),
    [
        ("SURVIVED", None, "PASSED"),
        ("FALSIFIED", None, "FAILED"),
        ("FLAKY", None, "FAILED"),
        ("SURVIVED", "off_by_one", "FAILED"),
        ("FALSIFIED", "off_by_one", "PASSED"),
        ("FLAKY", "off_by_one", "FAILED"),
    ],
)
def test_a_mutant_passes_by_being_caught(outcome, mutant, result):
    predicate = statement(replace(BASE, outcome=Outcome(outcome), mutant=mutant))["predicate"]
    assert predicate["result"] == result
    assert predicate[f"{result.lower()}Tests"] == ["FALSIFY-BF-001[live-tiny" + (f"!{mutant}]" if mutant else "]")]


def test_a_node_id_names_role_model_and_mutant():
    assert suffix("algorithm", None, None) == "algorithm"
    assert suffix("live", "tiny-qwen2", None) == "live-tiny-qwen2"
    assert suffix("algorithm", None, "big_endian_header") == "algorithm!big_endian_header"


@pytest.mark.parametrize("outcome", ["ERRORED", "SKIPPED"])
def test_what_observed_nothing_is_never_written(outcome, tmp_path):
    with pytest.raises(PvError, match=rf"^byte-format-v1::FALSIFY-BF-001: {outcome} observed nothing"):
        write(replace(BASE, outcome=Outcome(outcome)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_survival_without_a_comparison_is_no_record():
    with pytest.raises(PvError, match=r"^a trial that made no comparison has not SURVIVED anything$"):
        replace(BASE, comparisons=0)


@pytest.mark.parametrize(("field", "value"), [("claim", "AB" * 32), ("code", ""), ("role", "lives")])
def test_a_record_is_checked_when_it_is_made(field, value):
    with pytest.raises(PvError, match=rf"^{field} must be "):
        replace(BASE, **{field: value})


def test_non_finite_observations_are_kept_as_texts(tmp_path):
    write(replace(BASE, observations={"worst": math.nan, "most": math.inf}), tmp_path)
    (record,), problems = read_all(tmp_path)
    assert record.observations == {"worst": "NaN", "most": "Infinity"}
    assert problems == []


def test_a_record_written_twice_is_one_file_that_is_left_alone(tmp_path):
    path = write(BASE, tmp_path)
    assert path == tmp_path / "byte-format-v1" / "FALSIFY-BF-001" / f"{sha256(path.read_bytes())}.json"
    inode = path.stat().st_ino
    assert write(BASE, tmp_path) == path
    assert path.stat().st_ino == inode
    assert read_all(tmp_path) == ([BASE], [])


def test_eight_threads_that_record_at_once_lose_nothing(tmp_path):
    records = [replace(BASE, seed=seed % 20, test=f"T-{seed % 5}") for seed in range(40)]
    threads = [
        threading.Thread(target=lambda part: [write(r, tmp_path) for r in part], args=(records,)) for _ in "12345678"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, problems = read_all(tmp_path)
    assert problems == []
    assert len(found) == 20
    assert all(record in records for record in found)


def test_a_crash_while_writing_leaves_no_half_statement(tmp_path, monkeypatch):
    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write(BASE, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    killed = tmp_path / BASE.contract / BASE.test / ".x1y2.part"  # what SIGKILL leaves
    killed.write_bytes(b"half")
    assert read_all(tmp_path) == ([], [])


def test_a_missing_folder_holds_no_evidence(tmp_path):
    assert read_all(tmp_path / "none") == ([], [])


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    with pytest.raises(PvError, match=r"cannot name a folder of evidence\n  hint: use letters"):
        write(replace(BASE, test=name), tmp_path)


def test_evidence_is_never_written_through_a_symbolic_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / BASE.contract).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        PvError, match=r"evidence/byte-format-v1: is a symbolic link: evidence is never written through"
    ):
        write(BASE, tmp_path / "evidence")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / BASE.contract).write_text("a file where a folder should be")
    with pytest.raises(PvError, match=r"\.json: the statement cannot be written: "):
        write(BASE, tmp_path)


def problem(folder):
    records, problems = read_all(folder)
    assert records == []
    (found,) = problems
    return found.why


def test_an_edited_statement_is_a_problem(tmp_path):
    path = write(replace(BASE, outcome=Outcome.FALSIFIED), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"FALSIFIED", b"SURVIVED"))
    assert problem(tmp_path).startswith("was changed after it was written: its bytes have sha256 ")


def test_every_edited_byte_is_noticed(tmp_path):
    path = write(BASE, tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert problem(tmp_path).startswith("was changed after it was written"), at


def planted(folder, data, contract=BASE.contract, test=BASE.test):
    path = folder / contract / test / f"{sha256(data)}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


def forged(change):
    value = statement(BASE)
    change(value, value["predicate"], value["predicate"]["pv_trial"])
    return canonical(value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s, p, t: t.update(comparisons=0), "predicate/pv_trial/comparisons: 0 is less than the minimum of 1"),
        (lambda s, p, t: t.update(outcome="SKIPPED"), "predicate/pv_trial/outcome: 'SKIPPED' is not one of"),
        (lambda s, p, t: t.update(note="x"), "predicate/pv_trial: Additional properties are not allowed"),
        (lambda s, p, t: t.pop("seed"), "predicate/pv_trial: 'seed' is a required property"),
        (lambda s, p, t: s.update(predicateType="x"), "predicateType: "),
        (lambda s, p, t: t.update(role="algorithm"), "predicate/pv_trial/model: "),
        (lambda s, p, t: p.update(result="FAILED"), "contradicts itself"),
        (lambda s, p, t: t.update(outcome="FALSIFIED"), "contradicts itself"),
        (lambda s, p, t: t.update(claim="ff" * 32), "contradicts itself"),
        (lambda s, p, t: s["subject"].pop(), "contradicts itself"),
        (lambda s, p, t: t.update(mutant="x"), "contradicts itself"),
    ],
)
def test_a_statement_with_a_true_digest_still_has_to_make_sense(tmp_path, change, why):
    planted(tmp_path, forged(change))
    assert why in problem(tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[]", "is not a pv statement: the statement: [] is not of type 'object'"),
        (b"{", "cannot be read: "),
        (b"\xff\xfe", "cannot be read: "),
        (b"[" * 100_000, "cannot be read: "),
        (json.dumps(statement(BASE)).encode(), "is not canonical JSON (RFC 8785)"),
    ],
)
def test_bytes_that_are_no_statement_are_a_problem(tmp_path, data, why):
    planted(tmp_path, data)
    assert problem(tmp_path).startswith(why)


def test_a_statement_in_the_folder_of_another_test_is_a_problem(tmp_path):
    planted(tmp_path, canonical(statement(BASE)), test="FALSIFY-BF-002")
    assert problem(tmp_path) == "lies in the folder of another test: it is about byte-format-v1/FALSIFY-BF-001"


def test_what_is_no_statement_is_a_problem_and_hides_no_record(tmp_path):
    path = write(BASE, tmp_path)
    (tmp_path / "README.md").write_text("")
    (path.parent / "link.json").symlink_to(path)
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (path.parent / "deeper").mkdir()
    (path.parent / "deeper" / path.name).write_bytes(path.read_bytes())
    records, problems = read_all(tmp_path)
    assert records == [BASE]
    assert [(problem.path.removeprefix(f"{tmp_path}/"), problem.why) for problem in problems] == [
        ("README.md", "is no statement: statements are <contract>/<test>/<sha256>.json"),
        (
            f"byte-format-v1/FALSIFY-BF-001/deeper/{path.name}",
            "is no statement: statements are <contract>/<test>/<sha256>.json",
        ),
        ("byte-format-v1/FALSIFY-BF-001/link.json", "is a symbolic link"),
        ("loop", "is a symbolic link"),
        ("pipe", "is no regular file"),
    ]


def test_the_environment_names_the_machine_and_the_arithmetic_and_no_host(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    facts = environment()
    assert {"cpu", "machine", "python", "system", "numpy", "numba", "llvmlite"} == set(facts)
    assert all(isinstance(value, str) and value for value in facts.values())
    assert os.uname().nodename not in facts.values()


def test_the_environment_tells_the_settings_of_the_compiler_in_one_order(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        monkeypatch.delenv(name)
    for name, value in (("OPT", "0"), ("CACHE_DIR", "/x"), ("NUM_THREADS", "2"), ("BOUNDSCHECK", "")):
        monkeypatch.setenv(f"NUMBA_{name}", value)
    monkeypatch.setitem(os.environ, "NUMBA_CPU_NAME", "caf\udce9")  # a byte that is no UTF-8
    facts = environment()
    assert facts["numba_env"] == r"NUMBA_BOUNDSCHECK= NUMBA_CPU_NAME=caf\udce9 NUMBA_NUM_THREADS=2 NUMBA_OPT=0"
    assert record_of(parse(canonical(statement(replace(BASE, environment=facts))))).environment == facts


def test_the_schema_knows_the_roles_and_outcomes_of_a_record():
    properties = json.loads(Path(module.__file__).with_name("schemas").joinpath("statement.schema.json").read_text())
    trial = properties["$defs"]["trial"]["properties"]
    assert trial["role"]["enum"] == list(ROLES)
    assert set(trial["outcome"]["enum"]) == {outcome.value for outcome in OBSERVED}
