from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.contract import make_contract
from pv.findings import ERROR, NOTE, WARNING
from pv.rules import check
from pv.rules.proof import GRADES, WORDS, missing
from pv.yaml_loader import load

TESTS = "falsification_tests: [{id: T}]\n"
KANI = "kani_harnesses: [{id: K, obligation: O-1}]\n"
BOTH = "kani_harnesses: [{id: K, obligation: O-1}, {id: L, obligation: the second}]\n"
STATED = "proof_obligations:\n- {id: O-1, property: the first}\n- {id: O-2, property: the second}\n"
PROVED = STATED.replace("}", ", lean: {status: proved}}")


def contract(text: str, **metadata: str):
    stated = "".join(f", {key}: {value}" for key, value in metadata.items())
    head = f"metadata: {{kind: pattern, version: 1.0.0, description: d, references: [r]{stated}}}\n"
    return make_contract(Path("x.yaml"), load(head + text, "x.yaml"))


def found(rule: str, text: str, **metadata: str) -> list[tuple[int, str, str]]:
    """(line, severity, message) of what breaks a rule."""
    findings = check(contract(text, **metadata), lint=True)
    return [(at.line, at.severity, at.message) for at in findings if at.rule == rule]


@pytest.mark.parametrize(
    ("text", "supported", "lack"),
    [
        ("", "basic", "it has no falsification tests"),
        (KANI, "basic", "it has no falsification tests"),
        (TESTS, "basic", "it has no kani harnesses"),
        (TESTS + "kani_harnesses: []\n", "basic", "it has no kani harnesses"),
        (TESTS + KANI, "standard", "it has no proof obligations"),
        (TESTS + KANI + STATED, "standard", "no kani harness names O-2"),
        (TESTS + BOTH + STATED, "strict", "lean does not say 'proved' of O-1"),
        (TESTS + BOTH + PROVED.replace("proved", "sorry"), "strict", "lean does not say 'proved' of O-1"),
        (TESTS + BOTH + PROVED, "proven", None),
    ],
)
def test_each_grade_needs_all_that_the_ones_below_it_need_and_more(text, supported, lack):
    supports = GRADES.index(supported)
    answers = [missing(contract(text), grade) for grade in range(len(GRADES))]
    assert answers == [""] * (supports + 1) + [lack] * (len(GRADES) - supports - 1)


def test_an_obligation_that_does_not_apply_needs_no_proof():
    text = TESTS + KANI + STATED.replace("the second", "the second, applies_to: not_applicable")
    assert missing(contract(text), GRADES.index("strict")) == ""


@given(
    st.sampled_from(["", TESTS]),
    st.sampled_from(["", KANI, BOTH]),
    st.sampled_from(["", STATED, PROVED]),
)
def test_what_lacks_for_a_grade_lacks_for_those_above_it(tests, harnesses, obligations):
    lacks = [bool(missing(contract(tests + harnesses + obligations), grade)) for grade in range(len(GRADES))]
    assert lacks == sorted(lacks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", {"basic", "L1"}),
        (TESTS + KANI, {"basic", "L1", "standard", "L2", "L3"}),
        (TESTS + BOTH + STATED, {"basic", "L1", "standard", "L2", "L3", "strict", "L4"}),
        (TESTS + BOTH + PROVED, {"basic", "L1", "standard", "L2", "L3", "strict", "L4", "proven", "L5"}),
    ],
)
def test_a_contract_may_be_locked_at_the_words_for_grades_that_it_supports(text, words):
    every = {word.upper() if word.startswith("l") else word for word in WORDS}
    assert {word for word in every if not found("PV-LCK-001", text, locked_level=word)} == words


@pytest.mark.parametrize(("word", "grade"), WORDS.items())
def test_a_contract_is_locked_at_no_grade_that_it_does_not_support(word, grade):
    stated = found("PV-LCK-001", TESTS + KANI + STATED, locked_level=word.upper())
    lack = missing(contract(TESTS + KANI + STATED), grade)
    assert stated == ([(1, ERROR, f"locked at {word.upper()}, but {lack}")] if lack else [])
    assert found("PV-LCK-001", TESTS + BOTH + PROVED, locked_level=word) == []


@pytest.mark.parametrize("word", ["provn", "L6", "5", "high"])
def test_a_word_that_is_no_grade_locks_nothing_and_is_an_error(word):
    what = f"locked_level {word!r} is no grade, so nothing is locked"
    assert found("PV-LCK-001", TESTS + BOTH + PROVED, locked_level=word) == [(1, ERROR, what)]


def test_without_a_level_nothing_is_asked():
    for rule in ("PV-LCK-001", "PV-ENF-001", "PV-ENF-002"):
        assert found(rule, "equations: {e: {formula: f}}\n") == []
        assert found(rule, "equations: {e: {formula: f}}\n", locked_level="''", enforcement_level="~") == []


def test_what_is_enforced_has_the_entries_of_its_level_and_conditions():
    text = "equations:\n  e: {formula: f}\n  g: {formula: f, preconditions: [x > 0]}\n  h: {postconditions: [y > 0]}\n"
    assert found("PV-ENF-001", text, enforcement_level="basic") == []
    assert found("PV-ENF-001", text, enforcement_level="strict") == [
        (1, WARNING, "enforcement_level is strict, but it has no falsification tests"),
        (3, WARNING, "equation 'e' has neither preconditions nor postconditions to enforce"),
    ]


@pytest.mark.parametrize("theorem", ["", "lean_theorem: ''", "lean_theorem: [a]"])
def test_an_equation_that_is_proven_names_its_theorem(theorem):
    text = f"equations:\n  e: {{formula: f, {theorem}}}\n  g: {{formula: f, lean_theorem: A.b}}\n"
    assert found("PV-ENF-002", text, enforcement_level="proven") == [(3, WARNING, "equation 'e' names no lean_theorem")]
    assert found("PV-ENF-002", text, enforcement_level="strict") == []


def test_obligations_without_a_harness_are_noted_where_others_have_one():
    what = "no kani harness names 1 of 2 proof obligations: O-2"
    assert found("PV-PRV-003", KANI + STATED) == [(5, NOTE, what)]
    assert found("PV-PRV-003", BOTH + STATED) == []
    assert found("PV-PRV-003", STATED) == []  # proved by other means, or not at all
