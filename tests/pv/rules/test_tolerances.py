"""Tests of pv.rules.tolerances without a project: who can justify a limit. Of floors: tests/pv/test_floor.py."""

from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.findings import ERROR, RULES
from pv.floor import METRICS
from pv.rules import check
from pv.rules.tolerances import EXEMPT, LIKE
from pv.yaml_loader import load

ROOT = Path(__file__).parents[3]
HEAD = """\
metadata:
  version: 1.0.0
  description: d
  references:
  - "Higham (2002), Accuracy and Stability of Numerical Algorithms"
  - "RFC 8949: CBOR"
  - "Root Mean Square Layer Normalization (Zhang and Sennrich, 2019)"
  - "docs/order.md"
  - "Ro 1"
"""
CLAIMS = """\
equations: {e: {formula: f, domain: d%s}}
proof_obligations:
- {id: O, property: p%s}
falsification_tests:
"""
OURS = "falsifiers: {algorithm: 'a:b'}, mutants: [m], "
LIVE = "falsifiers: {algorithm: 'a:b', live: 'a:b'}, mutants: [m], "
NOBODY = "T-1: nobody can justify its limit"
OF_METRICS = f"floors are of {', '.join(METRICS)}"
ON_MODELS = "of its models one can be measured"
FLOOR = "floor: {file: f.json, stage: any, arithmetic: int8, times: 2.0}"
SOURCES = "Higham (2002), RFC 8949, Root Mean Square Layer Normalization, .."
SOURCE = f"name its source in because, as metadata.references do ({SOURCES})"
MEASURE = "floor: {file: .., stage: any, arithmetic: int8, times: 2.0}, of apr floor MODEL --output FILE"


def found(text, rule="PV-TOL-005", lint=True):
    contract = make_contract(Path("x.yaml"), load(text, "x.yaml"))
    return [(at.severity, at.line, at.message, at.hint) for at in check(contract, lint=lint) if at.rule == rule]


def tolerance(metric="nmse", limit="1.0e-4", because="it looks small", more=""):
    return f"tolerance: {{metric: {metric}, limit: {limit}, because: {because!r}{more}}}"


def contract(*tests, claim="", equation="", head=HEAD):
    lines = "".join(f"- {{id: T-{n}, binds_to: e, obligations: [O], {test}}}\n" for n, test in enumerate(tests, 1))
    return head + CLAIMS % (equation, claim) + lines


@pytest.mark.parametrize(
    "metric",
    [
        *METRICS,
        *LIKE,
        "abs_error",
        "ulp",
        "ULP",
        "mismatches",
        "bits",
        "count",
        "tokens",
        "x",
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_a_limit_of_any_metric_that_nobody_can_justify_is_an_error(metric, live):
    text = contract(f"{LIVE if live else OURS}models: [m], {tolerance(metric)}")
    hint = f"{MEASURE if metric in METRICS else OF_METRICS}; or {SOURCE}"
    what = "because names no source"
    if live and metric in (*METRICS, *LIKE):
        what, hint = ON_MODELS, MEASURE if metric in METRICS else f"metric: nmse, and {MEASURE}"
    assert found(text) == [(ERROR, 14, f"{NOBODY} 0.0001: no floor holds it, and {what}", hint)]


@pytest.mark.parametrize("role", ["live", "oracle"])
@pytest.mark.parametrize("metric", [*METRICS, *LIKE, "NMSE", "' rms-ratio '", "max abs over max"])
def test_of_models_no_source_is_an_answer_but_a_floor_alone(role, metric):
    text = contract(f"{LIVE.replace('live', role)}models: [m], " + tolerance(metric, "1.0e+6", "RFC 8949 says 1e6"))
    assert [message for _, _, message, _ in found(text)] == [f"{NOBODY} 1e+06: no floor holds it, and {ON_MODELS}"]
    assert found(text.replace("says 1e6'", f"says 1e6', {FLOOR}")) == []
    assert found(text.replace(f", {role}: 'a:b'", "")) == []
    assert found(text.replace("models: [m], ", "")) == []


@pytest.mark.parametrize("foretold", ["NMSE <= 1e-2, 1000000 bytes", "an rms ratio", "max_abs_over_max is", "(nmse)"])
@pytest.mark.parametrize("metric", ["bytes", "ulp", "x"])
def test_what_is_predicted_of_models_in_a_measured_metric_has_no_other(foretold, metric):
    limit = tolerance(metric, "1.0e+6", "RFC 8949 says 1e6")
    text = contract(f"{LIVE}models: [m], prediction: '{foretold}', {limit}")
    assert [message[-len(ON_MODELS) :] for _, _, message, _ in found(text)] == [ON_MODELS]
    assert found(text.replace(foretold, "at most 1000000 bytes, nmses, xnmse")) == []


def test_the_limit_stands_beside_the_source():
    ((_, _, what, hint),) = found(contract(OURS + tolerance("ulp", "1.0e+6", "docs/order.md: it is so")))
    assert what == f"{NOBODY} 1e+06: no floor holds it, and because names a source, but not 1e+06 beside it"
    assert hint == f"{OF_METRICS}; or write 1e+06 beside the source"


@pytest.mark.parametrize(
    ("limit", "because", "said"),
    [
        ("1.0e-4", "RFC 8949 has 1e-4", True),
        ("1.0e-4", "RFC 8949 has 0.0001.", True),
        ("1.0e-4", "1.00E-04 (RFC 8949)", True),
        ("1024", "RFC 8949: 1,024 of them", True),
        ("1.0e-4", "RFC 8949 has 1e-40", False),
        ("1.0e-4", "RFC 8949 has 1e-3", False),
        ("8949", "RFC 8949 has it", False),
        ("8949", "RFC 8949 has 8949", True),
        ("2", "RFC 8949 has 2^-24", False),
        ("24", "RFC 8949 has 2^-24 and 2^24", False),
        ("3.5", "RFC 8949, section 3.5.1", False),
        ("4", "RFC 8949 has int4 and 4bit and 1e-4", False),
    ],
)
def test_the_limit_is_a_number_of_the_reason_outside_of_the_name(limit, because, said):
    assert (found(contract(OURS + tolerance("ulp", limit, because))) == []) is said


def test_pv_validate_does_not_ask():
    assert RULES["PV-TOL-005"].lint
    assert found(contract(OURS + tolerance()), lint=False) == []


@pytest.mark.parametrize("metric", [*EXEMPT, "Bytes", " SECONDS "])
@pytest.mark.parametrize("kind", [OURS, LIVE])
def test_sizes_and_times_that_are_predicted_are_not_asked(kind, metric):
    unit = metric.strip().lower()
    text = contract(f"{kind}models: [m], prediction: 'at most 4,096 {unit} each', " + tolerance(f"'{metric}'", "4096"))
    assert found(text) == []
    told = f"{NOBODY} 4096: no floor holds it, and because names no source"
    assert found(text.replace(unit + " each", "of them")) == [
        (ERROR, 14, told, f"in its prediction: at most 4096 {unit}")
    ]
    assert len(found(text.replace("4,096", "4,097"))) == 1
    assert len(found(text.replace(unit + " each", f"x{unit} or {unit[:-1]}like"))) == 1
    assert found(text.replace(unit + " each", f"{unit[:-1].title()}")) == []


def test_the_exceptions_are_these_and_each_has_its_reason():
    assert list(EXEMPT) == ["bytes", "files", "lines", "seconds"]
    assert all(EXEMPT.values())


@pytest.mark.parametrize("metric", ["nmse", "abs_error", "mismatches"])
@pytest.mark.parametrize(("limit", "told"), [("0", 0), ("0.0", 0), ("-0.0", 0), ("1.0e-300", 1), ("1", 1)])
def test_a_limit_of_0_needs_no_answer(metric, limit, told):
    assert len(found(contract(OURS + tolerance(metric, limit)))) == told


@pytest.mark.parametrize("limit", [".nan", ".inf", "-1", "x", "~"])
def test_what_is_no_limit_is_left_to_the_rule_about_limits(limit):
    text = contract(OURS + tolerance(limit=limit))
    assert found(text) == []
    assert found(text, "PV-TOL-002") or found(text, "PV-TYPE-001")


@pytest.mark.parametrize(
    ("because", "named"),
    [
        ("Higham (2002), theorem 3.1, for n = 1024: 1e-4", True),
        ("theorem 3.1 of higham  (2002): 1e-4", True),
        ("RFC 8949 has 11 bits: 1e-4", True),
        ("as Root Mean Square Layer Normalization found: 1e-4", True),
        ("docs/order.md: 1e-4", True),
        ("half a unit (docs/order.md): 1e-4", True),
        ("Higham, theorem 3.1: 1e-4", False),
        ("RFC 89491: 1e-4", False),
        ("XRFC 8949: 1e-4", False),
        ("docs/order.mdx: 1e-4", False),
        ("a paper of 2002: 1e-4", False),
        ("see Ro 1: 1e-4", False),
        ("Accuracy and Stability of Numerical Algorithms: 1e-4", False),
        ("3.1e-5 was measured on 100 random models", False),
    ],
)
def test_a_source_that_because_names_is_an_answer(because, named):
    assert (found(contract(OURS + tolerance("abs_error", because=because))) == []) is named


def test_a_source_counts_only_where_the_references_have_it():
    told = contract(OURS + tolerance("ulp", because="RFC 8949 says 1e-4"))
    assert found(told) == []
    assert len(found(told.replace('  - "RFC 8949: CBOR"\n', ""))) == 1


@pytest.mark.parametrize("references", ["", "  references: []\n", "  references: ['x', ' ', ', RFC 8949']\n"])
def test_without_references_no_source_can_be_named_and_the_hint_says_where(references):
    head = f"metadata:\n  version: 1.0.0\n  description: d\n{references}"
    ((*_, hint),) = found(contract(OURS + tolerance("ulp", because="RFC 8949"), head=head))
    assert hint.endswith("name its source, in because and in metadata.references: a paper, a specification")


def test_a_floor_is_an_answer_and_is_judged_by_another_rule():
    assert found(contract(OURS + tolerance(more=f", {FLOOR}"))) == []


# -- obligations and equations ----------------------------------------------------------------------------------------

ANSWER = tolerance("ulp", "1.0e-3", "RFC 8949 has 1e-3")


@pytest.mark.parametrize(
    ("key", "name", "place"),
    [("tolerance", "O", "claim"), ("float_tolerance", "equation 'e'", "equation")],
)
@pytest.mark.parametrize(
    ("value", "tests", "told"),
    [
        ("1.0e-3", [OURS + ANSWER], False),
        ("9.0e-4", [OURS + ANSWER], False),
        ("1.1e-3", [OURS + ANSWER], True),
        ("1.1e-3", [OURS + ANSWER, OURS + tolerance("nmse", "2.0e-3", more=f", {FLOOR}")], False),
        ("1.0e-3", [OURS + "models: []"], True),
        ("1.0e-3", [OURS + tolerance("nmse", "1.0e-3")], True),
        ("1.0e-3", [OURS + tolerance("nmse", "1.0e-3", "RFC 8949 has 1e-3")], False),
        ("1.0e-3", [OURS + tolerance("nmse", "1.0e-3", "RFC 8949 has it")], True),
        ("1.0e-3", [LIVE + "models: [m], " + tolerance("nmse", "1.0e-3", "RFC 8949 has 1e-3")], True),
        ("1.0e-3", [OURS + tolerance("seconds", "5")], True),
        ("1.0e-3", [OURS + tolerance("nmse", ".inf", "RFC 8949")], True),
        ("1.0e-3", [OURS + "models: []", ANSWER], True),
        ("0", [OURS + "models: []"], False),
        ("0.0", [OURS + "models: []"], False),
        (".nan", [OURS + "models: []"], False),
        (".inf", [OURS + "models: []"], False),
        ("x", [OURS + "models: []"], False),
    ],
)
def test_what_is_claimed_needs_a_test_that_has_an_answer(key, name, place, value, tests, told):
    text = contract(*tests, **{place: f", {key}: {value}"})
    hits = [at for at in found(text) if not at[2].startswith("T-")]
    if told:
        number = f"{float(value):g}"
        what = f"nobody can justify the {key} {number}: no test of it is held to as much, by a floor or a source"
        hint = f"in T-1: tolerance: {{metric: .., limit: {number}, because: .., floor: ..}}"
        assert hits == [(ERROR, 12 if place == "claim" else 10, f"{name}: {what}", hint)]
    else:
        assert hits == []


def test_what_no_test_names_is_told_so():
    text = contract(OURS + "models: []", claim=", tolerance: 1.0e-3", equation=", float_tolerance: 1.0e-3")
    text = text.replace("binds_to: e", "binds_to: f").replace("obligations: [O]", "obligations: [P]")
    assert [hint.split(":")[0] for *_, hint in found(text)] == ["in a test that names it"] * 2


@pytest.mark.parametrize("word", ["not_applicable", "all"])
def test_an_obligation_that_does_not_apply_is_not_asked(word):
    text = contract(OURS + "models: []", claim=f", tolerance: 1.0e-3, applies_to: {word}")
    assert len(found(text)) == (word == "all")


def test_contracts_that_are_not_written_for_pv_are_not_asked():
    text = contract(tolerance(), claim=", tolerance: 1.0e-3", equation=", float_tolerance: 1.0e-3")
    assert found(text) == []
    assert len(found(text + f"- {{id: U, {OURS}rule: r}}\n")) == 2


def test_our_own_contracts_can_justify_every_limit():
    limits = 0
    for path in sorted((ROOT / "contracts").glob("*.yaml")):
        document = make_contract(path, load(path.read_bytes(), str(path)))
        limits += sum(test.tolerance is not None for test in document.tests)
        assert [at for at in check(document, lint=True) if at.rule.startswith("PV-TOL")] == []
    assert limits >= 2
