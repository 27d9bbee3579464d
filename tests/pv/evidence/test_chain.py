"""Each way in which a folder of evidence can be tampered with, and what the chain says of it."""

from dataclasses import replace

import pytest

from pv.canonical import sha256
from pv.evidence.chain import chain, run_path
from pv.evidence.machine import Machine
from pv.evidence.run import Run, is_failed, place_of, run_digest, trial_name
from pv.evidence.shelf import fact_of
from pv.outcome import Outcome
from pv.statement import Record, statement_bytes

ZEN = Machine(cores=("AuthenticAMD 25 17 1",), cpu="AMD EPYC", architecture="x86_64", system="Linux")
HERE = {"cores": "AuthenticAMD 25 17 1", "cpu": "AMD EPYC", "machine": "x86_64", "system": "Linux"}


def record(test="T-1", **changed):
    values = {
        "contract": "sum-v1",
        "test": test,
        "role": "algorithm",
        "falsifier": "f:g",
        "outcome": Outcome.SURVIVED,
        "seed": 1,
        "comparisons": 1,
        "claim": "01" * 32,
        "code": "23" * 32,
        "environment": HERE,
    }
    return Record(**{**values, **changed})


def at(one):
    return place_of(one, sha256(statement_bytes(one)))


def run(*records, parents=(), number=0, time=None, **changed):
    base = Run(
        id=f"{number:032x}",
        time=time or f"2026-01-02T03:04:{number:02}Z",
        machine=ZEN,
        parents=tuple(sorted(map(run_digest, parents))),
        records={at(one): trial_name(one) for one in records},
        failed=frozenset(at(one) for one in records if is_failed(one)),
    )
    return replace(base, **changed)


ONE, RED, MUTANT = (
    record(),
    record("T-2", outcome=Outcome.FALSIFIED, message="worst 3"),
    record("T-1", mutant="no_modulus", outcome=Outcome.FALSIFIED),
)
FIRST = run(ONE, MUTANT)
SECOND = run(ONE, RED, parents=[FIRST], number=1)


def of(runs, records, **more):
    return chain({run_digest(one): one for one in runs}, {at(one): fact_of(one) for one in records}, **more)


def why(runs, records, **more):
    return [(problem.path, problem.why) for problem in of(runs, records, **more).problems]


def test_a_whole_chain_has_no_problem_and_one_head():
    found = of([SECOND, FIRST], [ONE, RED, MUTANT])
    assert found.problems == ()
    assert list(found.runs) == [run_digest(FIRST), run_digest(SECOND)]
    assert found.heads == (run_digest(SECOND),)
    assert found.listed[at(ONE)] == (run_digest(FIRST), run_digest(SECOND))


def test_two_branches_that_both_recorded_have_two_heads_and_the_next_run_names_both():
    left, right = run(ONE, parents=[FIRST], number=1), run(RED, parents=[FIRST], number=2)
    assert of([FIRST, left, right], [ONE, RED, MUTANT]).problems == ()
    assert len(of([FIRST, left, right], [ONE, RED, MUTANT]).heads) == 2
    joined = run(ONE, parents=[left, right], number=3)
    found = of([FIRST, left, right, joined], [ONE, RED, MUTANT])
    assert (found.problems, found.heads) == ((), (run_digest(joined),))


def test_a_removed_record_is_missed_once():
    assert why([FIRST, SECOND], [RED, MUTANT]) == [
        (at(ONE), f"is missing: run {run_digest(FIRST)[:12]}.. of 2026-01-02T03:04:00Z lists it, about T-1[algorithm]")
    ]


def test_a_removed_run_is_missed_by_the_run_after_it_and_its_records_are_nobodys():
    found = why([SECOND], [ONE, RED, MUTANT])
    assert found == [
        (
            run_path(run_digest(FIRST)),
            f"is missing: run {run_digest(SECOND)[:12]}.. of 2026-01-02T03:04:01Z came after it",
        ),
        (at(MUTANT), "is a record that no run lists: it was not written by a recording run of this folder"),
    ]


def test_the_first_broken_link_is_named_first():
    third = run(ONE, parents=[SECOND], number=2)
    lone = run(ONE, parents=[replace(FIRST, id="f" * 32)], number=9)
    (first, _), (second, _) = why([lone, third, FIRST], [ONE, MUTANT])
    assert first == run_path(run_digest(SECOND))
    assert second == run_path(run_digest(replace(FIRST, id="f" * 32)))


def test_an_added_record_is_nobodys():
    stranger = record(seed=2)
    assert why([FIRST], [ONE, MUTANT, stranger]) == [
        (at(stranger), "is a record that no run lists: it was not written by a recording run of this folder")
    ]


def test_what_an_unfinished_run_was_about_to_write_is_pending_and_no_problem():
    found = of([FIRST], [ONE, MUTANT, RED], unfinished=[at(RED), at(ONE)])
    assert (found.problems, found.pending) == ((), {at(RED)})


def test_what_cannot_be_read_is_not_missing_too():
    assert why([FIRST], [MUTANT], unreadable=[at(ONE)]) == []


def test_a_copied_run_reuses_an_id():
    copy = replace(SECOND, time="2026-01-02T03:05:00Z")
    ((path, told),) = why([FIRST, SECOND, copy], [ONE, RED, MUTANT])
    assert path == run_path(run_digest(copy))
    assert told == f"reuses the id {SECOND.id} of run {run_digest(SECOND)[:12]}..: one is a copy"


def test_a_backdated_run_is_dated_before_its_parent():
    early = replace(SECOND, time="2025-01-01T00:00:00Z")
    ((path, told),) = why([FIRST, early], [ONE, RED, MUTANT])
    assert path == run_path(run_digest(early))
    assert told.startswith("is dated 2025-01-01T00:00:00Z, before its parent ")


def test_a_forged_machine_is_not_the_one_that_its_records_were_made_on():
    forged = run(ONE, number=5, parents=[FIRST], machine=replace(ZEN, cores=("0x41 8 0 1 1",), cpu="ARM"))
    ((path, told),) = why([FIRST, forged], [ONE, MUTANT])
    assert path == run_path(run_digest(forged))
    made, was = "ARM; x86_64; Linux; 0x41 8 0 1 1", "AMD EPYC; x86_64; Linux; AuthenticAMD 25 17 1"
    assert told == f"says of {at(ONE)} that it was made on {made}, and it was on {was}"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"failed": frozenset()}, "that it passed, and it failed"),
        ({"records": {at(RED): "T-9[algorithm]"}}, "that it is about T-9[algorithm], and it is about T-2[algorithm]"),
    ],
)
def test_a_run_that_tells_another_story_than_its_record_is_noticed(changed, told):
    ((_, found),) = why([run(RED, **changed)], [RED])
    assert found == f"says of {at(RED)} {told}"


def test_a_released_record_is_not_missed():
    release = replace(run(MUTANT, parents=[FIRST], number=1), released=True)
    assert why([FIRST, release], [ONE]) == []
    assert why([FIRST, release], [ONE, MUTANT]) == []  # it was observed again


def test_a_record_that_speaks_against_its_test_can_never_be_released():
    release = replace(run(RED, parents=[SECOND], number=2), released=True, failed=frozenset())
    ((path, told),) = why([FIRST, SECOND, release], [ONE, MUTANT])
    assert path == at(RED)
    assert told == f"is missing: run {run_digest(release)[:12]}.. released it, though it speaks against its test"


def test_a_release_of_what_no_run_lists_excuses_nothing_and_is_told():
    release = replace(run(RED, parents=[FIRST], number=2), released=True, failed=frozenset())
    ((path, told),) = why([FIRST, release], [ONE, MUTANT])
    assert path == run_path(run_digest(release))
    assert told == f"releases {at(RED)}, which no run lists: what it was nobody knows any more"


def test_a_machine_that_differs_in_its_cores_alone_is_forged_too():
    forged = run(ONE, number=5, parents=[FIRST], machine=replace(ZEN, cores=("AuthenticAMD 25 99 1",)))
    ((path, _),) = why([FIRST, forged], [ONE, MUTANT])
    assert path == run_path(run_digest(forged))
