from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.findings import ERROR, WARNING
from pv.rules import check, keys
from pv.slips import slips
from pv.yaml_loader import parse

HEAD = "metadata:\n  kind: {}\n  version: 1.0.0\n  description: d\n  references: [r]\n"


def findings(text: str, kind: str = "pattern") -> list[tuple[str, int, str, str]]:
    """(rule, line below the metadata, message, hint) of the rules about keys."""
    contract = make_contract(Path("x.yaml"), parse(HEAD.format(kind) + text, "x.yaml"))
    found = [at for at in check(contract) if at.rule.startswith("PV-KEY-")]
    return [(at.rule, at.line - 5, at.message, at.hint) for at in found]


TEST = "falsification_tests:\n- id: A\n  prediction: p\n  if_fails: f\n"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        (TEST + "  falsifer: {algorithm: a:b}\n", "falsification_tests[0].falsifer", "did you mean 'falsifiers'?"),
        (TEST + "  Prediction: q\n", "falsification_tests[0].Prediction", "did you mean 'prediction'?"),
        (TEST + "  Falsifiers: {}\n", "falsification_tests[0].Falsifiers", "did you mean 'falsifiers'?"),
        (TEST + "  testHarness: t\n", "falsification_tests[0].testHarness", "did you mean 'test_harness'?"),
        (TEST + "  fail_ifs: t\n", "falsification_tests[0].fail_ifs", "did you mean 'fails_if'?"),
        ("equations:\n  e: {formla: f}\n", "equations.e.formla", "did you mean 'formula'?"),
        ("equations:\n- {id: e, formula: f, invariant: [i]}\n", "equations[0].invariant", "did you mean 'invariants'?"),
        ("qa_gate: {id: G, pass-criteria: c}\n", "qa_gate.pass-criteria", "did you mean 'pass_criteria'?"),
        ("falsifcation_tests: []\n", "falsifcation_tests", "did you mean 'falsification_tests'?"),
        (TEST + "  equations: {}\n", "falsification_tests[0].equations",
         "it is read at the top of the contract: look at the indentation"),
        ("equations:\n  e: {formula: f}\nformula: g\n", "formula", "it is read in equations: look at the indentation"),
        (TEST + "if_fails: g\n", "if_fails", "it is read in falsification_tests: look at the indentation"),
    ],
)  # fmt: skip
def test_a_slip_is_answered_with_what_was_meant(text, place, hint):
    assert [(at[0], *at[2:]) for at in findings(text)] == [("PV-KEY-001", f"{place} is not read", hint)]


def test_a_finding_stands_at_the_key():
    text = TEST + "  falsifer: {}\n  severity: high\n  expected: p\n"
    assert [at[:2] for at in findings(text)] == [("PV-KEY-001", 5), ("PV-KEY-002", 6), ("PV-KEY-003", 7)]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("history: h\n", "history is not read", ""),
        ("gates: []\n", "gates is not read", "what must hold is read from equations and falsification_tests"),
        ("metadata2: {}\n", "metadata2 is not read", ""),  # metadata is there: no slip
        ("limit: 4\n", "limit is not read", "it is read in falsification_tests.tolerance"),
        (TEST + "  verdict: PASS\n", "falsification_tests[0].verdict is not read",
         "pv computes levels from recorded evidence; what is typed here counts for nothing"),
        (TEST + "  severity: high\n", "falsification_tests[0].severity is not read", "it is read in enforcement"),
        ("equations: {e: {formula: f}}\npreconditions: [p]\n", "preconditions is not read",
         "they are read in an equation"),
        ("equations: {e: {formula: f}}\ninvariants: [i]\n", "invariants is not read",
         "it means something in contracts of kind kaizen alone"),
        ("description: d\n", "description is not read", ""),
        (TEST + "  title: t\n", "falsification_tests[0].title is not read", ""),
    ],
)  # fmt: skip
def test_a_key_that_pv_does_not_read_is_told_with_the_place_where_it_would(text, message, hint):
    assert [(at[0], *at[2:]) for at in findings(text)] == [("PV-KEY-002", message, hint)]


@pytest.mark.parametrize(
    ("right", "slip"), [("property", "propery"), ("tolerance", "tolerence"), ("formal", "formall")]
)
def test_a_slip_beside_the_right_key_is_told_too(right, slip):
    text = f"proof_obligations: [{{type: bound, property: p, {right}: 1, {slip}: 2}}]\n".replace(
        "property: p, property", "property"
    )
    place = f"proof_obligations[0].{slip}"
    assert ("PV-KEY-001", f"{place} is not read", f"did you mean {right!r}, which stands here too?") in [
        (at[0], *at[2:]) for at in findings(text)
    ]


def test_one_key_in_many_places_is_one_note():
    text = "proof_obligations:\n" + "".join(f"- {{property: p{i}, colour: red}}\n" for i in range(3))
    assert findings(text) == [
        ("PV-KEY-002", 2, "proof_obligations[0].colour is not read, nor in 2 more places", ""),
    ]
    assert findings(text.replace("p2, colour: red", "p2"))[0][2].endswith("is not read, nor in 1 more place")


@pytest.mark.parametrize("text", ["x: 1\nequation: {}\n", "x: 1\nkind: kernel\n"])
def test_what_another_rule_reports_is_not_reported_again(text):
    assert [at[2] for at in findings(text)] == ["x is not read"]


@pytest.mark.parametrize(
    ("key", "kaizen", "other"),
    [
        ("target", [], [("PV-KEY-002", "it means something in contracts of kind kaizen alone")]),
        ("targte", [("PV-KEY-001", "did you mean 'target'?")], [("PV-KEY-002", "")]),
    ],
)
def test_keys_of_one_kind_of_contract_mean_nothing_in_the_others(key, kaizen, other):
    for kind, wanted in (("kaizen", kaizen), ("pattern", other)):
        assert [(at[0], at[3]) for at in findings(f"{key}: 1\n", kind)] == wanted


def test_a_key_of_ours_is_no_slip_in_a_test_that_is_not_ours():
    text = TEST + "  modles: [m]\n"
    assert [(at[0], at[3]) for at in findings(text)] == [("PV-KEY-002", "")]
    (only,) = [at for at in findings(text + "  falsifiers: {algorithm: a:b}\n") if at[2].endswith("is not read")]
    assert (only[0], only[3]) == ("PV-KEY-001", "did you mean 'models'?")


@pytest.mark.parametrize(
    ("text", "second", "first"),
    [
        ("proof_obligations: [{id: O, statement: p, property: p}]", "proof_obligations[0].statement", "property"),
        ("proof_obligations: [{formal: p, verification: q}]", "proof_obligations[0].verification", "formal"),
        ("falsification_tests: [{id: A, expected: p, prediction: q}]", "falsification_tests[0].expected", "prediction"),
        ("falsification_tests: [{id: A, test: p, command: q}]", "falsification_tests[0].command", "test"),
    ],
)
def test_two_spellings_of_one_key_contradict_each_other(text, second, first):
    what = f"{second} is another spelling of {first!r}, which stands here too"
    wanted = ("PV-KEY-003", 1, what, f"keep one of them: pv reads {first!r}, others refuse both")
    assert findings(text) == [wanted]


@pytest.mark.parametrize("text", ["{id: A, test: p, test_harness: q, name: r}", "{id: A, prediction: p, expected: ~}"])
def test_a_key_that_stands_in_for_another_and_an_empty_spelling_contradict_nothing(text):
    assert findings(f"falsification_tests:\n- {text}\n") == []


def test_two_spellings_are_an_error_only_in_a_contract_of_ours():
    for falsifiers, severity in (("", WARNING), (", falsifiers: {algorithm: a:b}", ERROR)):
        text = f"falsification_tests:\n- {{id: A, prediction: p, expected: q{falsifiers}}}\n"
        contract = make_contract(Path("x.yaml"), parse(HEAD.format("pattern") + text, "x.yaml"))
        assert [at.severity for at in check(contract) if at.rule == "PV-KEY-003"] == [severity]


@pytest.mark.parametrize(
    ("key", "known", "distance"),
    [
        ("equation", "equations", 0),
        ("proofObligations", "proof_obligations", 0),
        ("falsifer", "falsifiers", 1),
        ("metdata", "metadata", 1),
        ("formual", "formula", 1),
        ("equatoins", "equations", 1),
        ("tolernace", "tolerance", 1),
        ("predcition_", "prediction", 1),
        ("requires", "required", 1),
        ("tehroem", "theorem", 2),
        ("ofmral", "formal", 2),
        ("obudn", "bound", None),
        ("nam", "name", 1),
        ("refrences", "referencse", 2),
        ("rulle", "rule", 1),
        ("role", "rule", 1),
        ("bond", "bound", 1),
        ("id", "in", None),
        ("ide", "id", None),
        ("gates", "type", None),
        ("prefix", "prediction", None),
        ("colour", "rule", None),
        ("x" * 10_000, "rule", None),
    ],
)
def test_how_far_a_key_is_from_a_known_one(key, known, distance):
    assert slips(key, known) == distance
    assert slips(known, key) == (distance if len(key) > 3 else None)


def strays(count: int) -> list[str]:
    return [f"zq{number:04}zq" for number in range(count)]


def test_what_a_mapping_holds_is_looked_up_once_and_not_once_for_each_unread_key(monkeypatch):
    section, asked = keys._section, []
    monkeypatch.setattr(keys, "_section", lambda record, name: asked.append(name) or section(record, name))
    findings("".join(f"{key}: 1\n" for key in strays(300)))
    assert max(asked.count(key) for key in ("metadata", *strays(300))) == 2  # by each of the two rules once


def test_whether_a_mapping_has_keys_of_ours_is_asked_once_and_not_once_for_each_unread_key(monkeypatch):
    ours, asked = keys._ours, []
    monkeypatch.setattr(keys, "_ours", lambda node: asked.append(node.place) or ours(node))
    findings("".join(f"{key}: 1\n" for key in strays(300)))
    assert asked == [(), ()]


def test_beyond_a_number_of_unread_keys_in_a_mapping_only_their_count_is_told():
    text = "".join(f"{key}: 1\n" for key in strays(keys.MAX_STRAYS))
    whole = findings(text)
    assert [at[0] for at in whole] == ["PV-KEY-002"] * keys.MAX_STRAYS
    more = findings(text + "metdata: 1\n" + "else: 1\n")
    assert more[:-1] == whole[:-1]
    assert more[-1][:3] == ("PV-KEY-001", 500, "from zq0499zq on, 3 more keys of the same mapping are not read")
