import re
from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.explain import explanation
from pv.facts import facts_of
from pv.findings import ERROR, NOTE, RULES, WARNING
from pv.rules import check, check_together
from pv.validate import validate
from pv.words import Level
from pv.yaml_loader import load, parse

CONTRACTS = Path(__file__).parents[1] / "contracts"
GOOD = sorted((CONTRACTS / "good").iterdir())
BAD = sorted((CONTRACTS / "bad").iterdir())
EXPECTED = re.compile(rb"^# (?:\S+:)?(\d+): (error|warning|note) ([A-Z0-9-]+)\r?$", re.MULTILINE)


def expected(case: Path) -> list[tuple[str, int, str, str]]:
    """What the leading comments of a file, or of the files in a folder, say: (file, line, severity, rule)."""
    files = sorted(case.rglob("*.yaml")) if case.is_dir() else [case]
    return [
        (file.name, int(line), severity.decode(), rule.decode())
        for file in files
        for line, severity, rule in EXPECTED.findall(file.read_bytes())
    ]


ALONE = {states[0][2:] for states in map(expected, BAD) if len(states) == 1}
"""Severity and rule of bad contracts that have one finding."""


def found(case: Path) -> list[tuple[str, int, str, str]]:
    return [(Path(at.path).name, at.line, at.severity, at.rule) for at in validate([case]).findings]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_pv_validate_finds_no_error_and_no_warning_in_a_good_contract(path):
    found = [at for at in validate([path]).findings if at.severity != NOTE]
    if path.stem == "yaml-1.2":  # which YAML 1.1 reads otherwise
        assert {at.rule for at in found} == {"PV-YAML-004", "PV-YAML-006"}
    else:
        assert found == []


@pytest.mark.parametrize("case", BAD, ids=lambda path: path.stem)
def test_a_bad_contract_has_exactly_the_findings_that_its_comment_states(case):
    assert expected(case), f"{case} states no finding: write '# LINE: error RULE' above the contract"
    assert found(case) == expected(case)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_bad_contract_or_an_explanation_that_breaks_it_at_its_own_severity(rule):
    at_fault = (RULES[rule].severity, rule)
    if at_fault not in ALONE:
        examples = explanation(rule).fires.values()
        stated = [found for text in examples for found in EXPECTED.findall(text.encode())]
        assert at_fault in {(severity.decode(), name.decode()) for _, severity, name in stated}


def test_every_bad_contract_is_about_a_rule_of_the_table():
    assert {rule for case in BAD for *_, rule in expected(case)} <= set(RULES)


def test_the_table_holds_the_rules_of_the_public_tool():
    numbers = {
        "SCHEMA": range(1, 24),
        "PROVABILITY": range(1, 2),
        "BEAT": range(1, 8),
        "CRUX": range(1, 3),
        "KAIZEN": range(1, 7),
        "PARITY": range(18),
    }
    public = {f"{family}-{number:03}" for family, of in numbers.items() for number in of}
    assert {name for name in RULES if name.split("-")[0] in numbers} == public


@pytest.mark.parametrize(
    ("covers", "rules"), [("document", []), ("everything", ["PV-TYPE-003"]), ("[document]", ["PV-TYPE-001"])]
)
def test_a_promise_may_cover_the_document_and_nothing_else(covers: str, rules: list[str]) -> None:
    bound = "falsifiers: {algorithm: 'a:b'}, mutants: [m]"
    test = f"{{id: A, prediction: p, if_fails: f, {bound}, covers: {covers}}}"
    found = findings(f"equations: {{e: {{formula: f, domain: d, invariants: [i]}}}}\nfalsification_tests: [{test}]")
    assert [rule for _, rule, _ in found if rule.startswith("PV-TYPE-")] == rules


HEAD = "metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n"


def findings(text: str) -> list[tuple[int, str, str]]:
    document = parse(HEAD + text, "x.yaml")
    return [(at.line, at.rule, at.message) for at in check(make_contract(Path("x.yaml"), document))]


def test_a_misspelt_word_of_a_vocabulary_is_answered_with_the_nearest_one():
    document = load(HEAD + "proof_obligations: [{type: invarient, property: p}]", "x.yaml")
    (only,) = check(make_contract(Path("x.yaml"), document))
    assert (only.rule, only.severity, only.hint) == ("PV-TYPE-003", ERROR, "did you mean 'invariant'?")
    assert only.message == "proof_obligations[0].type: 'invarient' is not known"


def test_a_word_that_is_near_nothing_is_answered_with_all():
    document = load(HEAD + "falsification_tests: [{id: A, prediction: p, if_fails: f, status: 7, falsifiers: {}}]", "x")
    hints = {at.rule: at.hint for at in check(make_contract(Path("x"), document))}
    assert hints["PV-STATUS-001"] == f"known: {', '.join(Level)}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("[]", "a list"),
        ("{}", "a mapping"),
        ("'x'", "'x'"),
        ("true", "true"),
        (".inf", "inf"),
        ("'" + "x" * 99 + "'", "text"),
    ],
)
def test_a_type_error_says_what_is_there(value, shown):
    found = findings(f"proof_obligations:\n- property: p\n  tolerance: {value}\n  type: bound\n")
    if value == ".inf":  # a number, though none that a tolerance can be
        assert [at[1] for at in found] == ["PV-TOL-003"]
    else:
        assert found == [(4, "PV-TYPE-001", f"proof_obligations[0].tolerance must be a number, not {shown}")]


@pytest.mark.parametrize(
    ("place", "wanted", "right", "wrong"),
    [
        ("kani_harnesses: [{{id: K, obligation: O, bound: {}}}]", "a whole number", ("8",), ("8.0", "true", "'8'")),
        ("simd_dispatch: {{op: {{avx2: {}}}}}", "text", ("f", "no"), ("[f]", "{f: g}")),
        ("enforcement: {{a: {{description: d, check: {}}}}}", "text", ("c", "~"), ("[c]",)),
        ("type_invariants: [{{name: n, type: t, predicate: p, description: {}}}]", "text", ("d",), ("{d: e}",)),
        ("equations: {{e: {{formula: f, float_tolerance: {}}}}}", "a number", ("1e-5", "1"), ("true", "'1'", "[]")),
        ("equations: [{{id: e, formula: f, invariants: {}}}]", "a list", ("[]", "~"), ("i", "{}", "1")),
        ("kernel_structure: {}", "a mapping", ("{phases: []}", "~"), ("[]", "none")),
        ("metadata: {{kind: schema, version: 1.0.0, references: [r], description: d, registry: {}}}", "true or false",
         ("true", "false"), ("1", "'true'", "no")),
    ],
)  # fmt: skip
def test_a_value_has_the_type_that_its_key_asks_for(place, wanted, right, wrong):
    head = "" if place.startswith("metadata") else HEAD
    for value, ok in [*((value, True) for value in right), *((value, False) for value in wrong)]:
        document = load(head + place.format(value), "x.yaml")
        found = check(make_contract(Path("x.yaml"), document))
        messages = [at.message for at in found if at.rule.startswith("PV-TYPE-")]
        assert [f" must be {wanted}, not " in message for message in messages] == ([] if ok else [True]), value


@pytest.mark.parametrize("key", ["obligations", "mutants", "models", "tolerance", "binds_to", "status"])
def test_a_wrong_type_in_a_key_of_ours_is_an_error_only_in_a_test_of_ours(key):
    test = "falsification_tests:\n- id: A\n  prediction: p\n  if_fails: f\n  " + key + ": "
    wrong = "[1]\n" if key in ("tolerance", "binds_to", "status") else "{a: 1}\n"
    for falsifiers, severity in (("", WARNING), ("  falsifiers: {algorithm: a:b}\n", ERROR)):
        document = load(HEAD + test + wrong + falsifiers, "x.yaml")
        found = [at for at in check(make_contract(Path("x.yaml"), document)) if at.rule == "PV-TYPE-001"]
        assert [(at.line, at.severity) for at in found] == [(6, severity)]


def test_several_duplicate_keys_are_all_reported_with_both_lines():
    found = findings("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n")
    assert [at for at in found if at[1] == "SCHEMA-020"] == [
        (3, "SCHEMA-020", "the key 'a' occurs twice, first in line 2"),
        (4, "SCHEMA-020", "the key 'c' occurs twice, first in line 4"),
        (5, "SCHEMA-020", "the key 'a' occurs twice, first in line 2"),
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("equation", "equations"),
        ("Equations", "equations"),
        ("proofObligations", "proof_obligations"),
        ("falsification-test", "falsification_tests"),
        ("qa gate", "qa_gate"),
    ],
)
def test_a_section_in_another_case_number_or_separator_is_no_silent_loss(key, meant):
    document = load(HEAD + f"{key}: 1\n", "x.yaml")
    (only,) = check(make_contract(Path("x.yaml"), document))
    assert (only.rule, only.line, only.hint) == ("SCHEMA-019", 2, f"write {meant!r}")


@pytest.mark.parametrize(
    ("first", "second", "severity"), [("", "", WARNING), ("", ", falsifiers: {algorithm: 'a:b'}", ERROR)]
)
def test_two_contracts_of_one_name_are_an_error_where_either_has_evidence(first, second, severity):
    def named_x(folder, falsifiers):
        text = HEAD + f"falsification_tests: [{{id: {folder}, prediction: p, if_fails: f{falsifiers}}}]"
        return make_contract(Path(folder, "x.yaml"), load(text, "x.yaml"))

    for pair in ((first, second), (second, first)):
        contracts = [facts_of(named_x(folder, falsifiers)) for folder, falsifiers in zip("ab", pair, strict=True)]
        found = [(at.rule, at.severity, at.path, at.message) for at in check_together(contracts)]
        assert found == [("PV-DUP-001", severity, "b/x.yaml", "a/x.yaml has the same name")]


def test_findings_are_in_the_order_of_lines():
    text = "kind: x\nfalsification_tests:\n- {prediction: p}\n- {id: A}\nproof_obligations:\n- {type: bound}\n"
    lines = [line for line, *_ in findings(text)]
    assert lines == sorted(lines)
    assert len(lines) == 8


def test_values_of_every_wrong_type_at_every_known_key_raise_nothing():
    document = load((CONTRACTS / "good" / "bound-test.yaml").read_bytes(), "x.yaml")
    places = [()]
    for place in places:  # grows while it is walked
        value = document.value
        for step in place:
            value = value[step]
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        places += [(*place, step) for step, _ in children]
    assert len(places) > 70
    for place in places[1:]:
        for wrong in (None, "", "x", 0, -1.5, True, [], [[]], {}, {"a": {"b": []}}):
            copy = load((CONTRACTS / "good" / "bound-test.yaml").read_bytes(), "x.yaml")
            parent = copy.value
            for step in place[:-1]:
                parent = parent[step]
            parent[place[-1]] = wrong
            check(make_contract(Path("x.yaml"), copy))


NAMED = "falsification_tests: [{{id: {}, rule: r, prediction: p, if_fails: f, {}}}]"
BOUND = "falsifiers: {algorithm: 'a:b'}, mutants: [m]"


@pytest.mark.parametrize(
    ("id", "right"),
    [("FALSIFY-X-001", True), ("7", True), ("x" * 255, True), ("x" * 256, False), ("../../../pwned/T", False),
     ("T/1", False), (".T", False), ("'T 1'", False), ("_runs", False), ("T+1", False), ("T\u00e4", False)],
)  # fmt: skip
def test_an_id_that_cannot_name_a_folder_of_evidence_is_an_error_in_a_test_that_runs_alone(id, right):
    told = (2, "PV-RUN-012", f"the id {id.strip(chr(39))!r} cannot name a folder of evidence")
    assert [at for at in findings(NAMED.format(id, BOUND)) if at[1] == "PV-RUN-012"] == ([] if right else [told])
    assert [at for at in findings(NAMED.format(id, "test: t")) if at[1] == "PV-RUN-012"] == []


@pytest.mark.parametrize(("path", "right"), [("x.yaml", True), ("a/b/x.y-1.yaml", True), ("x y.yaml", False),
                                             ("_runs.yaml", False), ("<stdin>", True)])  # fmt: skip
def test_a_file_name_that_cannot_name_a_folder_of_evidence_is_an_error_where_a_test_runs(path, right):
    for keys, wanted in ((BOUND, not right), ("test: t", False)):
        contract = make_contract(Path(path), parse(HEAD + NAMED.format("T-1", keys), path))
        told = [(at.line, at.column, at.hint[:16]) for at in check(contract) if at.rule == "PV-RUN-012"]
        assert told == ([(1, 1, "rename the file:")] if wanted else [])


@pytest.mark.parametrize(
    ("written", "what", "hint"),
    [
        ("ACTIVE", "", ""),
        ("' retired '", "", ""),
        ("~", "", ""),
        ("''", "", ""),
        ("DISCHARGED", "'DISCHARGED', a level: a document has none", "tests have levels, which are computed; write "),
        ("' partial'", "' partial', a level: a document has none", "tests have levels, which are computed; write "),
        ("ACTIV", "'ACTIV', which nobody reads", "did you mean 'ACTIVE'?"),
        ("draft", "'draft', which nobody reads", "known: RETIRED, PROPOSED, ACTIVE"),
        ("7", "'7', which nobody reads", "known: RETIRED, PROPOSED, ACTIVE"),
        ("[ACTIVE]", "a list, which nobody reads", "known: RETIRED, PROPOSED, ACTIVE"),
    ],
)
def test_the_status_of_a_document_is_a_word_of_its_life_and_in_a_foreign_one_no_level(written, what, hint):
    head = HEAD.replace("}", f", status: {written}}}")
    for keys, severity, wanted in ((BOUND, ERROR, what), ("test: t", WARNING, what if "a level" in what else "")):
        contract = make_contract(Path("x.yaml"), parse(head + NAMED.format("T-1", keys), "x.yaml"))
        told = [at for at in check(contract) if at.rule == "PV-STATUS-005"]
        assert [(at.line, at.severity, at.message) for at in told] == (
            [(1, severity, f"metadata.status is {what}")] if wanted else []
        )
        assert all(at.hint.startswith(hint) for at in told)
