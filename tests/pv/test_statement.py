import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv import statement as module
from pv.canonical import canonical, digest
from pv.environment import NAME as VARIABLE
from pv.errors import PvError
from pv.outcome import OBSERVED, Outcome
from pv.statement import ModelSubject, OracleSubject, Record, environment, record_of, statement, statement_bytes, suffix
from pv.words import FOLDER_NAME, ROLES

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
    outputs={"logits": "45" * 32},
    claim="01" * 32,
    code="23" * 32,
    packages={"engine": "67" * 32},
    environment={"cpu": "a cpu"},
)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NAMES = st.from_regex(FOLDER_NAME, fullmatch=True)
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
    outputs=st.dictionaries(TEXT, DIGESTS),
    claim=DIGESTS,
    code=DIGESTS,
    packages=st.dictionaries(TEXT, DIGESTS),
    environment=st.dictionaries(TEXT, TEXT),
    variables=st.dictionaries(st.from_regex(VARIABLE, fullmatch=True), st.none() | TEXT),
)


@given(RECORDS)
def test_a_record_reads_back_from_its_statement(record):
    assert record_of(statement_bytes(record)) == record


def test_a_statement_is_an_in_toto_statement_with_a_test_result():
    assert statement(replace(BASE, oracle=OracleSubject(name="torch", version="2.13"))) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "claim:byte-format-v1/FALSIFY-BF-001", "digest": {"sha256": "01" * 32}},
            {"name": "code:falsifiers.byte_format:parses", "digest": {"sha256": "23" * 32}},
            {"name": "package:engine", "digest": {"sha256": "67" * 32}},
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
                "outputs": {"logits": "45" * 32},
                "claim": "01" * 32,
                "code": "23" * 32,
                "packages": {"engine": "67" * 32},
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
def test_what_observed_nothing_is_never_stated(outcome):
    with pytest.raises(PvError, match=rf"^byte-format-v1::FALSIFY-BF-001: {outcome} observed nothing"):
        statement_bytes(replace(BASE, outcome=Outcome(outcome)))


def test_survival_without_a_comparison_is_no_record():
    with pytest.raises(PvError, match=r"^a trial that made no comparison has not SURVIVED anything$"):
        replace(BASE, comparisons=0)


@pytest.mark.parametrize(("field", "value"), [("claim", "AB" * 32), ("code", ""), ("role", "lives")])
def test_a_record_is_checked_when_it_is_made(field, value):
    with pytest.raises(PvError, match=rf"^{field} must be "):
        replace(BASE, **{field: value})


def test_non_finite_observations_are_kept_as_texts():
    record = record_of(statement_bytes(replace(BASE, observations={"worst": math.nan, "most": math.inf})))
    assert record.observations == {"worst": "NaN", "most": "Infinity"}


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b", "_runs", "a\n", "a" * 256])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(PvError, match=r"cannot name a folder of evidence\n  hint: use letters"):
        statement_bytes(replace(BASE, test=name))


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
def test_a_statement_with_a_true_digest_still_has_to_make_sense(change, why):
    with pytest.raises(PvError) as found:
        record_of(forged(change))
    assert why in str(found.value)


def test_the_environment_names_the_machine_and_the_arithmetic_and_no_host(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    facts = environment()
    assert {"cores", "cpu", "machine", "python", "system", "numpy", "numba", "llvmlite"} == set(facts)
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
    assert record_of(statement_bytes(replace(BASE, environment=facts))).environment == facts


def test_the_schema_knows_the_roles_and_outcomes_of_a_record():
    properties = json.loads(Path(module.__file__).with_name("schemas").joinpath("statement.schema.json").read_text())
    trial = properties["$defs"]["trial"]["properties"]
    assert trial["role"]["enum"] == list(ROLES)
    assert set(trial["outcome"]["enum"]) == {outcome.value for outcome in OBSERVED}


def test_a_statement_has_variables_only_where_there_are_any():
    assert b'"variables"' not in statement_bytes(BASE)  # as before there were any
    data = statement_bytes(replace(BASE, variables={"CI": None, "MODE": "fast"}))
    assert b'"variables":{"CI":null,"MODE":"fast"}' in data
    for wrong in (b"{}", b'{"A B":"x"}', b'{"CI":1}', b'{"":"x"}', b"[]"):
        with pytest.raises(PvError, match=r"^(is not a pv statement|contradicts itself)"):
            record_of(data.replace(b'{"CI":null,"MODE":"fast"}', wrong))
