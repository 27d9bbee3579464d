from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.rules import check
from pv.yaml_loader import parse

HEAD = "metadata: {kind: %s, version: 1.0.0, description: d, references: [r], depends_on: [base, other.yaml]}\n"


def broken(text: str, kind: str = "pattern", *, lint: bool = False) -> list[tuple[str, int, str, str]]:
    """(rule, line, message, hint) of what breaks a rule of the public tool."""
    found = check(make_contract(Path("x.yaml"), parse(HEAD % kind + text, "x.yaml")), lint=lint)
    return [(at.rule, at.line, at.message, at.hint) for at in found if at.rule.startswith(("SCHEMA-", "PROVABILITY-"))]


@pytest.mark.parametrize(
    ("key", "rule", "right"),
    [
        ("requires", "SCHEMA-014", ["postcondition"]),
        ("applies_to_phase", "SCHEMA-015", ["loop_invariant", "loop_variant"]),
        ("parent_contract", "SCHEMA-016", ["subcontract"]),
    ],
)
def test_a_key_of_one_type_of_obligation_is_refused_in_every_other(key, rule, right):
    for kind in ("postcondition", "loop_invariant", "loop_variant", "subcontract", "invariant", "frame"):
        found = broken(f"proof_obligations:\n- type: {kind}\n  property: p\n  {key}: base\n")
        wanted = f"{key} in an obligation of type {kind}"
        hint = f"it is read in type: {' or '.join(right)} alone"
        assert found == ([] if kind in right else [(rule, 5, wanted, hint)])
    assert [at[2] for at in broken(f"proof_obligations:\n- {{property: p, {key}: base}}\n")] == [
        f"{key} in an obligation of type invariant"
    ]
    assert broken(f"proof_obligations:\n- {{property: p, {key}: ~}}\n") == []


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("base", None),
        ("base.yaml", None),
        ("other", None),
        ("bas", "metadata.depends_on does not name the parent contract 'bas'"),
        ("''", "proof obligation 0 names no parent contract"),
    ],
)
def test_the_parent_of_a_subcontract_stands_in_depends_on(parent, message):
    found = broken(f"proof_obligations: [{{type: subcontract, property: p, parent_contract: {parent}}}]")
    assert [at[:3] for at in found] == ([("SCHEMA-017", 2, message)] if message else [])


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("falsification_test", "falsification_tests"),
        ("Falsification_Tests", "falsification_tests"),
        ("kani_harness", "kani_harnesses"),
        ("qa_gates", "qa_gate"),
        ("simd_dispatches", "simd_dispatch"),
        ("meta_data", "metadata"),
        ("beats", "beat"),
    ],
)
def test_a_section_in_another_case_number_or_separator_is_named(key, meant):
    assert broken(f"{key}: []\n") == [("SCHEMA-019", 2, f"the key {key!r} is read by nobody", f"write {meant!r}")]


@pytest.mark.parametrize("key", ["gates", "spec", "targets", "contracts", "dates", "invariant", "Status", "summary"])
def test_words_that_only_a_kaizen_record_gives_a_meaning_are_free_elsewhere(key):
    assert broken(f"{key}: x\n") == []


def test_a_misspelt_key_of_a_kaizen_record_is_left_to_the_rule_about_slips():
    assert "SCHEMA-019" not in {rule for rule, *_ in broken("Targets: {}\n", "kaizen")}
    text = HEAD % "kaizen" + "Targets: {}\n"
    found = check(make_contract(Path("x.yaml"), parse(text, "x.yaml")))
    assert [(at.rule, at.hint) for at in found if at.rule == "PV-KEY-001"] == [("PV-KEY-001", "did you mean 'target'?")]


FULL = (
    "equations: {e: {formula: f}}\nqa_gate: {id: G}\nproof_obligations: [{property: p}, {property: q}]\n"
    "falsification_tests: [%s]\nkani_harnesses: [%s]\n"
)
TEST = "{id: %s, prediction: p, if_fails: f}"
KANI = "{id: K, obligation: p, bound: 1}"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (FULL % (f"{TEST % 'A'}, {TEST % 'B'}", KANI), []),
        (FULL % (f"{TEST % 'A'}, {TEST % 'B'}", ""), ["the contract has no kani_harnesses"]),
        (FULL % (TEST % "A", KANI), ["1 falsification tests for 2 proof obligations"]),
        (FULL % ("", KANI), ["the contract has no falsification_tests"]),
    ],
)
def test_pv_lint_names_each_thing_without_which_a_kernel_is_not_proved(text, missing):
    assert [at[2] for at in broken(text, "kernel", lint=True)] == missing
    assert broken(text, "kernel") == []  # the first generation's contracts stay accepted
    assert broken(text, "pattern", lint=True) == []


@pytest.mark.parametrize(
    ("references", "messages"),
    [
        ("[]", ["metadata.references names no source"]),
        ("['']", ["metadata.references names no source"]),
        ("[' ', ~]", ["metadata.references names no source"]),
        ("['', r]", ["metadata.references[0] is empty"]),
        ("[r, 0]", []),
        ("r", []),
    ],
)
def test_an_empty_text_among_the_references_is_no_source(references, messages):
    text = f"metadata: {{kind: pattern, version: 1.0.0, description: d, references: {references}}}\n"
    found = check(make_contract(Path("x.yaml"), parse(text.encode(), "x.yaml")))
    assert [at.message for at in found if at.rule == "SCHEMA-001"] == messages


@pytest.mark.parametrize(("bound", "told"), [("-4", 1), ("0", 1), ("1", 0), ("8", 0), ("x", 0)])
def test_a_bound_that_unrolls_nothing_is_told(bound, told):
    found = broken(f"kani_harnesses: [{{id: K, obligation: p, bound: {bound}}}]\n")
    shown = ("SCHEMA-012", 2, f"K states the bound {bound}, which unrolls nothing", "bound: 1 or more")
    assert found == [shown] * told


@pytest.mark.parametrize(
    ("kind", "equation", "severity"),
    [
        ("kernel", "{domain: d}", "error"),
        ("pattern", "{latex: x}", "warning"),
        ("pattern", "{formula: ''}", "error"),
        ("kernel", "{formula: ''}", "error"),
        ("kernel", "{formula: ' '}", "warning"),
    ],
)
def test_prose_in_the_place_of_a_formula_is_an_error_in_a_kernel_alone(kind, equation, severity):
    text = HEAD % kind + f"equations: {{e: {equation}}}\n"
    found = check(make_contract(Path("x.yaml"), parse(text, "x.yaml")))
    assert [at.severity for at in found if at.rule == "SCHEMA-004"] == [severity]


OURS = "falsification_tests: [{id: A, rule: r, prediction: p, if_fails: f, falsifiers: {algorithm: 'a:b'}}]\n"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("SCHEMA-001", "metadata: {kind: pattern, version: 1.0.0, description: d, references: ['%s', r]}\n"),
        ("SCHEMA-002", "metadata: {kind: pattern, version: '%s', description: d, references: [r]}\n"),
        ("SCHEMA-004", "equations: {e: {formula: '%s'}}\n"),
        ("SCHEMA-005", "proof_obligations: [{property: '%s'}]\n"),
        ("SCHEMA-008", "falsification_tests: [{id: B, rule: r, prediction: '%s', if_fails: f}]\n"),
        ("SCHEMA-011", "kani_harnesses: [{id: K, obligation: '%s', bound: 1}]\n"),
    ],
)
def test_blanks_in_the_place_of_text_are_an_error_in_contracts_of_ours_alone(rule, text):
    def severities(filled, more=""):
        head = "" if text.startswith("metadata") else HEAD % "kernel"
        whole = head + text % filled + more
        found = check(make_contract(Path("x.yaml"), parse(whole, "x.yaml")))
        return [at.severity for at in found if at.rule == rule]

    assert severities("x") == []
    assert severities(" ") == ["warning"]
    assert severities("") == (["warning"] if rule == "SCHEMA-001" else ["error"])  # what the public tool refuses
    if rule == "SCHEMA-008":
        whole = HEAD % "kernel" + text.replace("if_fails: f", "if_fails: f, falsifiers: {algorithm: 'a:b'}") % " "
        found = check(make_contract(Path("x.yaml"), parse(whole, "x.yaml")))
        assert [at.severity for at in found if at.rule == rule] == ["error"]
    else:
        assert severities(" ", OURS) == ["error"]


@pytest.mark.parametrize(
    ("given", "severity"), [("[]", "error"), ("~", "error"), ("['']", "warning"), ("[~]", "warning")]
)
def test_references_of_blanks_alone_are_an_error_where_the_public_tool_refuses_them(given, severity):
    text = f"metadata: {{kind: pattern, version: 1.0.0, description: d, references: {given}}}\n"
    (found,) = [at for at in check(make_contract(Path("x.yaml"), parse(text, "x.yaml"))) if at.rule == "SCHEMA-001"]
    assert (found.severity, found.message) == (severity, "metadata.references names no source")
    ours = check(make_contract(Path("x.yaml"), parse(text + OURS, "x.yaml")))
    assert [at.severity for at in ours if at.rule == "SCHEMA-001"] == ["error"]


def test_a_version_that_is_missing_is_told_apart_from_an_empty_one():
    head = "metadata: {kind: pattern, description: d, references: [r]%s}\n"
    for more, what in (("", "metadata has no version"), (", version: ''", "metadata.version is empty")):
        found = check(make_contract(Path("x.yaml"), parse(head % more, "x.yaml")))
        assert [(at.severity, at.message) for at in found if at.rule == "SCHEMA-002"] == [("error", what)]
