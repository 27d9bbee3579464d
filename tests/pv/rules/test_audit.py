from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.contract import make_contract
from pv.findings import NOTE, WARNING
from pv.rules import check
from pv.yaml_loader import load

HEAD = "metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n"
ROOT = Path(__file__).parents[3]


def found(text: str, rule: str, head: str = HEAD, *, lint: bool = True) -> list[tuple[int, str, str]]:
    """(line, severity, message) of what breaks a rule."""
    contract = make_contract(Path("x.yaml"), load(head + text, "x.yaml"))
    return [(at.line, at.severity, at.message) for at in check(contract, lint=lint) if at.rule == rule]


def test_a_contract_that_claims_nothing_needs_no_tests():
    assert found("notes: [n]\n", "AUDIT-001") == []
    assert found("type_invariants: [{name: n, type: t, predicate: p}]\n", "AUDIT-001") == [
        (2, WARNING, "its type_invariants claim something, and no falsification test tries to break it")
    ]


@pytest.mark.parametrize("rule", ["AUDIT-001", "AUDIT-003"])
def test_what_provability_asks_of_kernels_is_not_asked_twice(rule):
    text = "equations: {e: {formula: f, domain: d}}\n"
    assert len(found(text, rule)) == 1
    kernel = HEAD.replace("pattern", "kernel")
    assert found(text, rule, kernel) == []
    assert found(text, "PROVABILITY-001", kernel) != []


@pytest.mark.parametrize("obligation", ["O-1", "the sum is 1"])
def test_a_kani_harness_may_name_its_obligation_by_id_or_by_property(obligation):
    text = "proof_obligations: [{id: O-1, property: the sum is 1}]\n"
    text += f"kani_harnesses: [{{id: K, obligation: {obligation}}}]"
    assert found(text, "AUDIT-002") == []


def test_a_kani_harness_of_an_obligation_that_is_not_there_is_a_warning_for_each():
    text = "proof_obligations: [{id: O-1, property: p}]\nkani_harnesses:\n"
    text += "- {id: K-1, obligation: O-2}\n- {id: K-2, obligation: O-1}\n- {id: K-3, obligation: P}\n"
    assert found(text, "AUDIT-002") == [
        (4, WARNING, "K-1: there is no proof obligation 'O-2'"),
        (6, WARNING, "K-3: there is no proof obligation 'P'"),
    ]


def test_where_no_obligation_has_an_id_harnesses_that_cite_one_are_one_warning():
    text = "proof_obligations: [{property: p}]\nkani_harnesses:\n- {id: K, obligation: p}\n"
    text += "- {id: L, obligation: O-1}\n- {id: M, obligation: O-2}\n"
    what = "no proof obligation has an id, and 2 of 3 kani harnesses cite one"
    assert found(text, "AUDIT-002") == [(5, WARNING, what)]


def test_a_harness_without_any_obligation_in_the_contract_is_a_warning():
    assert found("kani_harnesses: [{id: K, obligation: O-1}]", "AUDIT-002") == [
        (2, WARNING, "K: there is no proof obligation 'O-1'")
    ]


def test_an_empty_obligation_of_a_harness_is_left_to_the_rule_of_validate():
    text = "proof_obligations: [{id: O, property: p}]\nkani_harnesses: [{id: K, obligation: ' '}]"
    assert found(text, "AUDIT-002") == []
    assert len(found(text, "SCHEMA-011")) == 1


OBLIGATIONS = "proof_obligations:\n- {id: O-1, property: the sum is 1}\n- {id: O-10, property: b}\n"


def tried(*bodies: str) -> str:
    listed = [f"- {{id: T{i}, prediction: 0 bits differ, if_fails: f, {body}}}\n" for i, body in enumerate(bodies)]
    return "falsification_tests:\n" + "".join(listed)


@pytest.mark.parametrize(
    "body",
    ["obligations: [O-1]", "rule: the sum is 1", "rule: 'as O-1 says.'", "rule: 'x (O-1): y'", "obligation: O-1"],
)
def test_a_test_counts_for_the_obligation_that_it_names_and_for_no_other(body):
    assert found(OBLIGATIONS + tried(body), "PV-AUD-001") == [
        (4, WARNING, "no test names 1 of 2 proof obligations: O-10")
    ]


@pytest.mark.parametrize(
    "body", ["rule: O-1x", "rule: O-100", "rule: the sum is 1.", "rule: a b c", "prediction: O-1 O-10", "rule: xO-1"]
)
def test_what_only_looks_like_a_name_is_none(body):
    body = body.replace("prediction", "note")
    assert found(OBLIGATIONS + tried(body), "PV-AUD-001") == [
        (3, WARNING, "no test names 2 of 2 proof obligations: O-1, O-10")
    ]


def test_as_many_tests_as_obligations_prove_no_link():
    assert found(OBLIGATIONS + tried("rule: O-1", "rule: O-1", "rule: O-1"), "PV-AUD-001") == [
        (4, WARNING, "no test names 1 of 2 proof obligations: O-10")
    ]


def test_obligations_that_do_not_apply_need_no_test():
    text = "proof_obligations: [{id: O-1, property: p, applies_to: not_applicable, na_reason: r, na_owner: o}]\n"
    assert found(text + tried("rule: r"), "PV-AUD-001") == []


def test_long_lists_of_untested_obligations_are_cut_and_long_properties_too():
    text = "proof_obligations:\n" + "".join(f"- property: {c * 60}\n" for c in "abcd")
    cut = ", ".join(repr(c * 48 + "..") for c in "abc")
    assert found(text + tried("rule: r"), "PV-AUD-001") == [
        (3, WARNING, f"no test names 4 of 4 proof obligations: {cut}, ..")
    ]


def test_where_tests_for_pv_list_obligations_validate_asks_and_lint_does_not_repeat_it():
    text = OBLIGATIONS + tried("obligations: [O-1], falsifiers: {algorithm: 'a:b'}, mutants: [m]")
    assert found(text, "PV-AUD-001") == []
    assert len(found(text, "PV-LINK-003")) == 1


@given(
    st.lists(st.sampled_from(["O-1", "O-2", "O-3"]), unique=True), st.sampled_from(["obligations: [{}]", "rule: '{}'"])
)
def test_untested_are_exactly_those_that_no_test_names(named, form):
    text = "proof_obligations:\n" + "".join(f"- {{id: O-{n}, property: p{n}}}\n" for n in (1, 2, 3))
    messages = [what for *_, what in found(text + tried(form.format(", ".join(named)), "rule: r"), "PV-AUD-001")]
    left = [name for name in ("O-1", "O-2", "O-3") if name not in named]
    shown = f"no test names {len(left)} of 3 proof obligations: {', '.join(left)}"
    assert messages == ([shown] if left else [])


def test_an_id_that_nothing_names_is_noted_where_the_link_is_by_equal_text():
    text = OBLIGATIONS + tried("rule: the sum is 1", "rule: b")
    assert found(text, "PV-AUD-003") == [
        (3, NOTE, "nothing names O-1: T0 is linked to it by equal text alone"),
        (4, NOTE, "nothing names O-10: T1 is linked to it by equal text alone"),
    ]
    used = "kani_harnesses: [{id: K, obligation: O-10, bound: 1}]\nqa_gate: {id: G, checks: ['O-1, and more']}\n"
    assert found(text + used, "PV-AUD-003") == []


@pytest.mark.parametrize("domain", ["", "domain: ''", "domain: ' '", "domain: ~"])
def test_an_equation_without_a_domain_is_found_in_a_mapping_and_in_a_list(domain):
    what = "equation 'e' has no domain"
    assert found(f"equations:\n  e: {{formula: f, {domain}}}\n", "PV-AUD-004") == [(3, WARNING, what)]
    assert found(f"equations:\n- {{id: e, formula: f, {domain}}}\n", "PV-AUD-004") == [(3, WARNING, what)]


def test_a_missing_domain_is_told_by_validate_too():
    what = "equation 'e' has no domain"
    assert found("equations: {e: {formula: f}}\n", "PV-AUD-004", lint=False) == [(2, WARNING, what)]


def test_equations_none_of_which_has_a_domain_are_one_finding_that_counts_them():
    text = "equations:\n" + "".join(f"  e{n}: {{formula: f}}\n" for n in range(5))
    what = "5 of 5 equations have no domain: 'e0', 'e1', 'e2', .."
    assert found(text, "PV-AUD-004") == [(3, WARNING, what)]


def test_an_equation_without_a_domain_among_others_that_have_one_is_a_finding_of_its_own():
    text = "equations:\n  a: {formula: f, domain: d}\n" + "".join(f"  e{n}: {{formula: f}}\n" for n in range(2))
    what = [f"equation 'e{n}' has no domain" for n in range(2)]
    assert found(text, "PV-AUD-004") == [(4, WARNING, what[0]), (5, WARNING, what[1])]


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        ("tolerance: 1e-6", True),
        ("tolerance: 0.0", True),
        ("formal: equal bit for bit", True),
        ("formal: 'the bytes are identical'", True),
        ("formal: close to each other", False),
        ("formal: a bitter end", False),
        ("applies_to: not_applicable, na_reason: r, na_owner: o", True),
    ],
)
def test_an_equivalence_states_how_far_or_that_it_is_exact(said, measured):
    text = f"proof_obligations: [{{id: O, type: equivalence, property: fast is slow, {said}}}]\n"
    what = "O is an equivalence without a tolerance"
    if "close to" in said:
        what = "O holds approximately, without a tolerance"
    assert found(text, "PV-AUD-005") == ([] if measured else [(2, WARNING, what)])


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        ("RMS(y) ≈ 1", False),
        ("the sum is approximately 1", False),
        ("decode(encode(x)) ~= x, though nearly every bit is the same", False),
        ("RMS(y) ≈ 1, |RMS(y) - 1| < 1e-5", True),
        ("the sum is approximately 1, to 4 ulp", True),
        ("y > 0", True),
    ],
)
def test_what_holds_approximately_says_how_closely(said, measured):
    text = f'proof_obligations: [{{id: O, type: invariant, property: p, formal: "{said}"}}]\n'
    what = "O holds approximately, without a tolerance"
    assert found(text, "PV-AUD-005") == ([] if measured else [(2, WARNING, what)])
    assert found(text.replace("p, formal", "p, tolerance: 1.0e-6, formal"), "PV-AUD-005") == []


@pytest.mark.parametrize("kind", ["bound", "conservation"])
def test_a_tolerance_that_all_others_of_a_type_have_is_missed(kind):
    one = "- {id: O-%d, type: KIND, property: p%d, tolerance: 1.0e-6}\n".replace("KIND", kind)
    text = "proof_obligations:\n" + "".join(one % (n, n) for n in range(3))
    assert found(text, "PV-AUD-005") == []
    lost = text.replace("p1, tolerance: 1.0e-6", "p1")
    what = f"O-1 has no tolerance, unlike all 2 others of type {kind}"
    assert found(lost, "PV-AUD-005") == [(4, WARNING, what)]
    assert found(lost.replace("p2, tolerance: 1.0e-6", "p2"), "PV-AUD-005") == []  # no custom of this contract


def test_the_tolerance_of_the_test_is_that_of_its_equivalence():
    text = "proof_obligations: [{id: O, type: equivalence, property: fast is slow}]\n"
    assert len(found(text + tried("obligations: [O]"), "PV-AUD-005")) == 0  # its prediction says: 0 bits differ
    other = tried("obligations: [O]").replace("0 bits differ", "nearly equal")
    assert len(found(text + other, "PV-AUD-005")) == 1
    told = other.replace("obligations", "tolerance: {metric: nmse, limit: 1e-6, because: b}, obligations")
    assert found(text + told, "PV-AUD-005") == []


@pytest.mark.parametrize(
    ("created", "right"),
    [
        ("2026-02-28", True),
        ("2026-02-28T10:00:00Z", True),
        ("2026-02-30", False),
        ("28.2.2026", False),
        ("soon", False),
    ],
)
def test_the_date_of_a_contract_is_a_day_of_the_calendar(created, right):
    head = HEAD.replace("}", f", created: '{created}'}}")
    assert found("", "PV-VAL-003", head) == ([] if right else [(1, WARNING, f"'{created}' is no date")])


@pytest.mark.parametrize(
    ("key", "lost"),
    [
        ("falsification", True),
        ("falsifications", True),
        ("falsification_conditions", True),
        ("falsification_tests_v1_1", True),
        ("falsification_tests", False),
        ("falsification_notes", False),
        ("falsification_test", False),  # SCHEMA-019
    ],
)
def test_tests_below_a_key_that_nobody_reads_are_a_warning(key, lost):
    what = f"{key!r} looks like falsification tests, and nobody reads it"
    assert found(f"{key}:\n- {{id: T}}\n", "PV-VER-003") == ([(2, WARNING, what)] if lost else [])
    assert found(f"{key}: []\n", "PV-VER-003") == []


def test_our_own_contracts_keep_these_rules():
    for path in sorted((ROOT / "contracts").glob("*.yaml")):
        contract = make_contract(path, load(path.read_bytes(), str(path)))
        assert [at for at in check(contract, lint=True) if at.rule.startswith(("AUDIT", "PV-AUD", "PV-STYLE"))] == []


RICH = """
metadata: {kind: kernel, version: 1.0.0, description: d, references: [r], enforcement_level: proven, locked_level: l5,
  created: 2026-01-31}
equations: {e: {formula: f, domain: d, preconditions: [p], postconditions: [q], lean_theorem: t}}
proof_obligations:
- {id: O-1, type: equivalence, property: p, formal: f, tolerance: 1e-6, applies_to: all,
   lean: {theorem: t, status: sorry}}
- {id: O-2, type: equivalence, property: q}
falsification_tests:
- {id: T-001, rule: r, prediction: p, test: t, if_fails: f, obligations: [O-1], falsifiers: {algorithm: 'a:b'},
   mutants: [m], tolerance: {metric: m, limit: 1e-3, because: b}}
- {id: T-002, rule: q, prediction: p, test: t, if_fails: f}
- {id: T-003, rule: q, prediction: p, test: t, if_fails: f}
- {id: T-4, rule: q, prediction: p, test: t, if_fails: f}
kani_harnesses: [{id: K, obligation: O-1, bound: 8}]
qa_gate: {id: G}
falsification: [{id: F}]
evidence: {level: L2, mark: V, provenance: {wasGeneratedBy: {command: c, git_sha: 0}, wasAttributedTo: w}}
"""


def places(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for step, item in inner for each in places(item, (*place, step)))]


@pytest.mark.parametrize(
    "wrong", [None, "", "x", 0, -1.5, True, float("nan"), [], [[]], [{}], {}, {"a": {"b": []}}], ids=str
)
def test_values_of_every_wrong_type_raise_nothing_in_any_rule_of_lint(wrong):
    for place in places(load(RICH, "x.yaml").value)[1:]:
        document = load(RICH, "x.yaml")
        parent = document.value
        for step in place[:-1]:
            parent = parent[step]
        parent[place[-1]] = wrong
        check(make_contract(Path("x.yaml"), document), lint=True)
