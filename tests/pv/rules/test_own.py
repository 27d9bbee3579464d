from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.findings import ERROR, WARNING
from pv.rules import check
from pv.yaml_loader import load

HEAD = """\
metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}
equations: {length: {formula: f, domain: d, invariants: [i]}, order: {formula: f}}
proof_obligations:
- {id: OBL-1, property: p}
- {id: OBL-2, property: q}
falsification_tests:
"""
OURS = "id: A, rule: r, prediction: p, if_fails: f, mutants: [m], falsifiers: {algorithm: 'a:b'}"


def findings(text: str, prefix: str) -> list[tuple[str, str, int, str, str]]:
    contract = make_contract(Path("x.yaml"), load(text, "x.yaml"))
    found = [at for at in check(contract) if at.rule.startswith(prefix)]
    return [(at.rule, at.severity, at.line, at.message, at.hint) for at in found]


def of(test: str, prefix: str, more: str = "") -> list[tuple[str, str, int, str, str]]:
    return findings(f"{HEAD}- {{{test}}}\n{more}", prefix)


def test_an_obligation_that_no_test_names_is_told_where_a_test_is_ours():
    test = f"{OURS}, binds_to: length, obligations: [OBL-1]"
    what = "no falsification test names the obligation 'OBL-2'"
    assert of(test, "PV-LINK") == [("PV-LINK-003", WARNING, 5, what, "name it in obligations: [..] of a test")]
    assert of(test.replace("[OBL-1]", "[OBL-1, OBL-2]"), "PV-LINK") == []
    foreign = "- {id: B, prediction: p, if_fails: f, obligations: [OBL-2]}\n"
    assert of(test, "PV-LINK", foreign) == []
    assert [(at[0], at[2]) for at in of(f"{OURS}, binds_to: length", "PV-LINK-003")] == [
        ("PV-LINK-003", 4),
        ("PV-LINK-003", 5),
    ]
    unnamed = make_contract(Path("x.yaml"), load(f"{HEAD}- {{{OURS}, binds_to: length}}\n", "x.yaml"))
    assert "PV-AUD-001" not in {at.rule for at in check(unnamed, lint=True)}  # pv lint does not tell it twice


def test_obligations_that_nothing_can_name_are_told_though_no_test_names_any():
    text = HEAD.replace("id: OBL-1, ", "").replace("id: OBL-2, ", "") + f"- {{{OURS}, binds_to: length}}\n"
    what, hint = "the obligation has no id, so no test can name it", "id: OBL-1"
    assert findings(text, "PV-LINK") == [("PV-LINK-003", WARNING, line, what, hint) for line in (4, 5)]


@pytest.mark.parametrize("key", ["falsifier", "falsifers", "Falsifiers", "falsfiers"])
def test_a_test_whose_falsifiers_are_misspelt_is_still_held_to_what_is_asked_of_ours(key):
    slip = OURS.replace("falsifiers", key)
    assert of(f"{slip}, binds_to: lenght", "PV-LINK-001")[0][1] == ERROR
    assert of(f"{OURS.replace('falsifiers', 'verifiers')}, binds_to: lenght", "PV-LINK-001")[0][1] == WARNING


def test_an_obligation_without_an_id_cannot_be_named():
    text = HEAD.replace("id: OBL-2, ", "") + f"- {{{OURS}, binds_to: length, obligations: [OBL-1]}}\n"
    assert findings(text, "PV-LINK") == [
        ("PV-LINK-003", WARNING, 5, "the obligation has no id, so no test can name it", "id: OBL-1")
    ]


@pytest.mark.parametrize("word", ["not_applicable", "NOT_APPLICABLE", "' not_applicable '"])
def test_an_obligation_that_does_not_apply_needs_no_test(word):
    text = HEAD.replace("property: q", f"property: q, applies_to: {word}, na_reason: r, na_owner: o")
    assert findings(text + f"- {{{OURS}, binds_to: length, obligations: [OBL-1]}}\n", "PV-LINK") == []


def test_tests_that_are_not_ours_need_no_links():
    assert of("id: A, prediction: p, if_fails: f, obligations: [OBL-1]", "PV-LINK") == []


def test_a_test_that_is_bound_to_nothing_and_tries_nothing_is_told():
    assert of(OURS, "PV-LINK")[2:] == [
        ("PV-LINK-004", WARNING, 7, "A: is bound to no equation", "binds_to: length, or whichever it is about"),
        ("PV-LINK-005", WARNING, 7, "A: names no obligation", "obligations: [OBL-1], or whichever it tries"),
    ]
    assert of(f"{OURS}, covers: document", "PV-LINK")[2:] == []
    alone = "metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\nfalsification_tests:\n"
    assert findings(f"{alone}- {{{OURS}}}\n", "PV-LINK") == []


@pytest.mark.parametrize("value", ["[length]", "{length: 1}"])
def test_a_link_of_the_wrong_type_is_left_to_the_rule_about_types(value):
    assert of(f"{OURS}, binds_to: {value}, obligations: {{OBL-1: 1}}", "PV-LINK") == []


def test_a_number_among_the_obligations_is_a_name_as_it_was_written():
    (only,) = of(f"{OURS}, binds_to: length, obligations: [OBL-1, OBL-2, 007]", "PV-LINK")
    assert only[:4] == ("PV-LINK-002", ERROR, 7, "A: no proof obligation has the id '007'")


@pytest.mark.parametrize(("test", "severity"), [(OURS, ERROR), ("id: A, prediction: p, if_fails: f", WARNING)])
def test_an_obligation_id_that_stands_twice_is_an_error_where_a_test_is_ours(test, severity):
    text = HEAD.replace("OBL-2", "OBL-1") + f"- {{{test}, binds_to: length, obligations: [OBL-1]}}\n"
    what = "the obligation id 'OBL-1' is taken in line 4"
    assert findings(text, "PV-DUP") == [("PV-DUP-003", severity, 5, what, "a test that names it would be about either")]


def test_an_equation_id_that_stands_twice_in_a_list_is_told():
    listed = "equations: [{id: e, formula: f}, {id: e, formula: g}, {formula: h}, {formula: i}]\n"
    assert [(rule, line, what) for rule, _, line, what, _ in findings(listed, "PV-DUP")] == [
        ("PV-DUP-003", 1, "the equation id 'e' is taken in line 1")
    ]


@pytest.mark.parametrize("other", ["Byte_Order", "byte-order", "byteOrder", "BYTE ORDER"])
def test_equations_that_differ_in_case_or_separators_only_are_told(other):
    text = HEAD.replace("order:", f"byte_order: {{formula: g}}, {other}:")
    assert findings(text, "PV-DUP") == [
        (
            "PV-DUP-004",
            WARNING,
            2,
            f"the equation {other!r} is easily taken for 'byte_order'",
            "rename one, or merge them",
        )
    ]


def test_equations_that_differ_otherwise_are_not_told():
    assert (
        findings("equations: {e1: {formula: f}, e2: {formula: f}, é: {formula: f}, '': {formula: f}}\n", "PV-DUP") == []
    )


def test_names_of_separators_only_are_not_taken_for_each_other():
    assert findings("equations: {'-': {formula: f}, '_': {formula: f}}\n", "PV-DUP") == []


@pytest.mark.parametrize(("value", "told"), [(".nan", 1), (".inf", 1), ("-1", 1), ("0", 0), ("1.0e-6", 0), ("x", 0)])
def test_a_tolerance_of_an_obligation_or_an_equation_is_finite_and_not_negative(value, told):
    claims = f"equations: {{e: {{formula: f, float_tolerance: {value}}}}}\n"
    claims += f"proof_obligations: [{{id: O, property: p, tolerance: {value}}}]\n"
    found = findings(f"{claims}falsification_tests: [{{{OURS}}}]\n", "PV-TOL-003")
    what = f"is {value}, not a finite number that is 0 or more"
    shown = [
        ("PV-TOL-003", ERROR, 1, f"equation 'e': the float_tolerance {what}"),
        ("PV-TOL-003", ERROR, 2, f"O: the tolerance {what}"),
    ]
    assert [at[:4] for at in found] == shown * told
    assert [at[1] for at in findings(claims, "PV-TOL")] == [WARNING, WARNING] * told  # the public tool takes any number


@pytest.mark.parametrize(("text", "told"), [("''", 1), ("' '", 1), ("d", 0)])
def test_a_description_without_words_is_an_error(text, told):
    foreign = f"metadata: {{kind: pattern, version: 1.0.0, description: {text}, references: [r]}}\n"
    found = findings(f"{foreign}falsification_tests: [{{{OURS}}}]\n", "PV-TYPE")
    shown = ("PV-TYPE-004", ERROR, 1, "metadata.description is empty", "say what the contract is about")
    assert found == [shown] * told
    assert [at[1] for at in findings(foreign, "PV-TYPE")] == [WARNING] * told


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("metadata: {kind: pattern, version: 1.0.0, description: , references: [r]}", "PV-TYPE-002"),
        ("equations: {e: {formula: f, invariants: [~, x]}}", "PV-TYPE-001"),
        ("falsification_tests: [{id: ~, rule: r, prediction: p, if_fails: f}]", "PV-TYPE-002"),
    ],
)
def test_null_where_text_belongs_is_an_error_in_contracts_of_ours_alone(text, rule):
    head = "" if text.startswith("metadata") else HEAD.split("\n")[0] + "\n"
    assert [at[:2] for at in findings(f"{head}{text}\n", "PV-TYPE")] == [(rule, WARNING)]
    if "falsification_tests" in text:
        ours = text.replace("if_fails: f", "if_fails: f, mutants: [m], falsifiers: {algorithm: 'a:b'}")
    else:
        ours = f"{text}\nfalsification_tests: [{{{OURS}}}]"
    assert [at[:2] for at in findings(f"{head}{ours}\n", "PV-TYPE")] == [(rule, ERROR)]


def test_a_key_that_is_missing_or_a_number_that_is_null_is_an_error_in_foreign_contracts_too():
    assert findings("metadata: {version: 1.0.0, references: [r]}\n", "PV-TYPE")[0][:2] == ("PV-TYPE-002", ERROR)
    text = f"{HEAD.splitlines()[0]}\nverification_summary: {{total_obligations: ~}}\n"
    assert findings(text, "PV-TYPE")[0][:2] == ("PV-TYPE-002", ERROR)


def test_a_test_without_a_rule_is_an_error_where_it_is_ours_and_a_warning_elsewhere():
    for key, told in (("", "has no rule"), ("rule: , ", "has no rule"), ("rule: ' ', ", "")):
        what = f"falsification_tests[0] {told}" if told else "falsification_tests[0].rule is empty"
        for test, severity in ((OURS, ERROR), (OURS.replace("falsifiers", "verifiers"), WARNING)):
            only = of(test.replace("rule: r, ", key), "PV-REQ")[-1]
            assert only == ("PV-REQ-001", severity, 7, what, "rule: what must hold")
    assert [at[2] for at in of(OURS.replace("rule: r", "description: r"), "PV-REQ")] == [4, 5]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("qa_gate: {checks: [c]}", ["qa_gate has no id", "qa_gate has no name", "qa_gate has no pass_criteria"]),
        ("qa_gate: {id: G, name: n, pass_criteria: ''}", ["qa_gate.pass_criteria is empty"]),
        ("qa_gate: {id: G, name: n, pass_criteria: p}", []),
        ("qa_gate: ~", []),
        ("proof_obligations: [{property: p}]", ["proof_obligations[0] has no type"]),
        (
            "proof_obligations: [{type: bound, property: p, lean: {theorem: ''}}]",
            ["proof_obligations[0].lean.theorem is empty"],
        ),
        ("proof_obligations: [{type: bound, property: p, lean: {status: wip}}]", []),  # PV-TYPE-002 tells
    ],
)
def test_a_key_that_an_entry_goes_without_is_a_warning_at_the_entry(section, told):
    found = findings(f"{HEAD.splitlines()[0]}\n{section}\n", "PV-REQ")
    assert [at[:4] for at in found] == [("PV-REQ-001", WARNING, 2, what) for what in told]


def test_words_of_another_tool_are_one_finding_and_those_of_ours_one_each():
    tests = "".join(f"- {{id: T{n}, rule: r, prediction: p, if_fails: f, status: GREEN}}\n" for n in range(3))
    head = HEAD + "- {id: T, rule: r, prediction: p, if_fails: f, status: UNTESTED}\n"
    known = "known: UNTESTED, PARTIAL_ALGORITHM_LEVEL, FUNCTIONAL, DISCHARGED, FALSIFIED, STALE"
    first = "T0: 'GREEN' is no level"
    assert findings(head + tests, "PV-STATUS-001") == [
        ("PV-STATUS-001", WARNING, 8, f"{first}, nor is the status of 2 more tests", known)
    ]
    two = head + "".join(tests.splitlines(keepends=True)[:2])
    assert findings(two, "PV-STATUS-001")[0][3] == f"{first}, nor is the status of 1 more test"
    ours = tests.replace("status", "falsifiers: {algorithm: 'a:b'}, mutants: [m], status")
    assert [at[1:4] for at in findings(head + tests + ours.replace("T", "U"), "PV-STATUS-001")] == [
        (WARNING, 8, f"{first}, nor is the status of 2 more tests"),
        *((ERROR, 11 + n, f"U{n}: 'GREEN' is no level") for n in range(3)),
    ]
