import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.canonical import canonical
from pv.errors import PvError
from pv.evidence.machine import Machine
from pv.evidence.run import Run, heads_of, run_bytes, run_digest, run_of, run_statement
from pv.statement import schema_validator

MACHINE = Machine(cores=("AuthenticAMD 25 17 1",), cpu="a cpu", architecture="x86_64", system="Linux")
PLACE, OTHER = f"sum-v1/T-1/{'ab' * 32}.json", f"sum-v1/T-1/{'cd' * 32}.json"
RUN = Run(
    id="01" * 16,
    time="2026-01-02T03:04:05Z",
    machine=MACHINE,
    commit="ef" * 20,
    dirty=True,
    parents=("23" * 32,),
    records={PLACE: "T-1[algorithm]", OTHER: "T-1[algorithm!no_modulus]"},
    failed=frozenset({OTHER}),
)
RELEASE = replace(RUN, failed=frozenset(), released=True)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
PLACES = st.builds("{}/{}/{}.json".format, st.just("a-v1"), st.sampled_from(["T-1", "T.2"]), DIGESTS)


@st.composite
def runs(draw):
    records = draw(st.dictionaries(PLACES, TEXT, min_size=1, max_size=5))
    released = draw(st.booleans())
    return Run(
        id=draw(st.binary(min_size=16, max_size=16)).hex(),
        time=draw(st.datetimes()).strftime("2%yZ")[:1] + "026-11-24T00:00:00Z",
        machine=Machine(cores=tuple(draw(st.lists(TEXT))), cpu=draw(TEXT), architecture="x", system="y"),
        commit=draw(st.sampled_from(["", "ab" * 20, "ab" * 32])),
        dirty=draw(st.booleans()),
        parents=tuple(sorted(draw(st.sets(DIGESTS, max_size=3)))),
        records=records,
        failed=frozenset() if released else frozenset(draw(st.sets(st.sampled_from(sorted(records))))),
        released=released,
    )


@given(runs())
def test_a_run_reads_back_from_its_statement_and_the_schema_knows_it(run):
    assert run_of(run_bytes(run)) == run
    assert list(schema_validator("run.schema.json").iter_errors(json.loads(run_bytes(run)))) == []


def test_a_run_statement_is_an_in_toto_statement_about_the_files_of_its_records():
    value = run_statement(RUN)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert [(subject["name"], subject["digest"]) for subject in value["subject"]] == [
        (PLACE, {"sha256": "ab" * 32}),
        (OTHER, {"sha256": "cd" * 32}),
    ]
    assert value["predicate"]["result"] == "FAILED"
    assert value["predicate"]["failedTests"] == ["T-1[algorithm!no_modulus]"]
    assert run_statement(replace(RUN, failed=frozenset()))["predicate"]["result"] == "PASSED"
    assert run_statement(RELEASE)["predicateType"] == "urn:pv-contracts:release:1"


def forged(change, run=RUN):
    value = run_statement(run)
    change(value, value["predicate"], value["predicate"]["pv_run"])
    return canonical(value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s, p, r: r.update(id="x"), "predicate/pv_run/id: 'x' does not match"),
        (lambda s, p, r: r.update(time="2026-01-02T03:04:05+01:00"), "predicate/pv_run/time: "),
        (lambda s, p, r: r.update(dirty=1), "predicate/pv_run/dirty: 1 is not of type 'boolean'"),
        (lambda s, p, r: r.update(parents=["x"]), "predicate/pv_run/parents/0: 'x' does not match"),
        (lambda s, p, r: r.update(parents=["ff" * 32, "00" * 32]), "contradicts itself"),
        (lambda s, p, r: r.update(commit="main"), "predicate/pv_run/commit: 'main' does not match"),
        (lambda s, p, r: r["machine"].update(name="mine"), "predicate/pv_run/machine: Additional properties"),
        (lambda s, p, r: r["machine"].update(cores=[1]), "predicate/pv_run/machine/cores/0: 1 is not of type 'string'"),
        (lambda s, p, r: r.pop("id"), "predicate/pv_run: 'id' is a required property"),
        (lambda s, p, r: r.update(failed=[f"sum-v1/T-1/{'99' * 32}.json"]), "contradicts itself"),
        (lambda s, p, r: r.update(failed=[]), "contradicts itself"),
        (lambda s, p, r: p.update(result="PASSED"), "contradicts itself"),
        (lambda s, p, r: p.update(passedTests=[]), "predicate: Additional properties are not allowed"),
        (lambda s, p, r: s.update(subject=[]), "subject: [] "),
        (lambda s, p, r: s["subject"].reverse(), "contradicts itself"),
        (lambda s, p, r: s["subject"].append(s["subject"][0]), "contradicts itself"),
        (lambda s, p, r: s["subject"][0].update(name="../x"), "subject/0/name: '../x' does not match"),
        (lambda s, p, r: s["subject"][0]["digest"].update(sha256="00" * 32), "contradicts itself"),
        (lambda s, p, r: s.update(predicateType="x"), "predicateType: 'x' is not one of"),
        (lambda s, p, r: s.update(predicateType="urn:pv-contracts:release:1"), "predicate"),
    ],
)
def test_a_run_statement_with_a_true_digest_still_has_to_make_sense(change, why):
    with pytest.raises(PvError) as found:
        run_of(forged(change))
    assert why in str(found.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"null", b'{"predicate":3}'])
def test_bytes_that_are_no_run_statement_are_refused(data):
    with pytest.raises(PvError, match=r"^(cannot be read: |is not a run statement: )"):
        run_of(data)


def test_json_that_is_not_canonical_is_refused():
    with pytest.raises(PvError, match=r"is not canonical JSON \(RFC 8785\)"):
        run_of(json.dumps(run_statement(RUN)).encode())


def test_heads_are_the_runs_that_no_other_names():
    first = replace(RUN, parents=())
    one = replace(RUN, id="02" * 16, parents=(run_digest(first),))
    two = replace(RUN, id="03" * 16, parents=(run_digest(first),))
    graph = {run_digest(run): run for run in (first, one, two)}
    assert heads_of(graph) == tuple(sorted((run_digest(one), run_digest(two))))
    last = replace(RUN, id="04" * 16, parents=heads_of(graph))
    assert heads_of({**graph, run_digest(last): last}) == (run_digest(last),)
    assert heads_of({}) == ()
