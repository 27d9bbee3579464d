from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.contract import make_contract
from pv.findings import WARNING
from pv.rules import check
from pv.rules.style import measurable, runs
from pv.yaml_loader import load

HEAD = "metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n"


def found(text: str, rule: str, head: str = HEAD) -> list[tuple[int, str, str]]:
    """(line, severity, message) of what breaks a rule."""
    contract = make_contract(Path("x.yaml"), load(head + text, "x.yaml"))
    return [(at.line, at.severity, at.message) for at in check(contract, lint=True) if at.rule == rule]


@pytest.mark.parametrize(
    "prediction",
    [
        "NMSE below 1e-6",
        "a == b",
        "the outputs are identical",
        "no token is lost",
        "the exit code is zero",
        "y ∈ R",
        "grows monotonically",
        "the loss decreases",
        "the file is rejected",
        "the argmax stays the same",
        "each row sums to one",
        "the module compiles",
        "the script type-checks",
        "the lint is enabled in the workspace",
        "the entry point returns Err",
        "links resolve",
        "the qualifier survives the transformation",
        "configurations satisfy the constraints",
        "every format has an entry",
        "all obligations\nhave a test",
        "the header is present",
        "the build passes",
        "出力は有限である",
    ],
)
def test_a_number_a_relation_or_an_observable_word_can_be_measured(prediction):
    assert measurable(prediction)


@pytest.mark.parametrize(
    "prediction",
    [
        "verified",
        "works well",
        "has quality",
        "all is well",
        "good quality",
        "it behaves as it should",
        "the result is fine",
        "robust",
        "Noise, notes",
    ],
)
def test_praise_cannot_be_measured(prediction):
    text = f"falsification_tests:\n- {{id: T, prediction: '{prediction}'}}\n"
    assert found(text, "PV-STYLE-001") == [(3, WARNING, "T predicts nothing that can be measured")]


@pytest.mark.parametrize("prediction", ["''", "' '", "~", "[a]", "{a: b}"])
def test_a_prediction_that_is_missing_or_no_text_is_left_to_the_rules_of_validate(prediction):
    text = f"falsification_tests: [{{id: T, prediction: {prediction}}}]\n"
    assert found(text, "PV-STYLE-001") == []


@given(st.text(), st.integers(), st.text())
def test_a_prediction_with_a_number_can_always_be_measured(before, number, after):
    assert measurable(f"{before}{number}{after}")


@pytest.mark.parametrize(
    "test",
    [
        "cargo test rope",
        "pytest tests/test_rope.py",
        "python3 -m pytest",
        "PYTHONPATH=. python check.py",
        "./check.sh all",
        "$TOOL run",
        "tests/rope.sh quick",
        "rope::tests::zero_position now",
        "test_rope_at_zero",
        "`pv validate x.yaml`",
        "mytool --check x",
        "! grep -q TODO x",
        "test -f x",
        "diff a b",
    ],
)
def test_commands_and_names_of_tests_run(test):
    assert runs(test)


@pytest.mark.parametrize(
    "test",
    [
        "",
        " \n",
        "proptest",
        "Manual.",
        "n/a",
        "proptest with random matrices",
        "Deterministic: 4 * 256 == 1024",
        "clone the embedding, compare",
        "Compare with --fast and without",
        "test that the sum is 1",
        "find the largest error",
        "make sure that nothing leaks",
        "for each layer compare both",
        "set all weights to 0",
    ],
)
def test_prose_and_nothing_do_not_run(test):
    assert not runs(test)


@given(st.text())
def test_no_text_of_a_test_and_no_prediction_raises(text):
    assert runs(text) in (True, False)
    assert measurable(text) in (True, False)


def test_each_test_that_names_nothing_that_runs_is_a_warning_and_so_is_prose_beside_falsifiers():
    text = "falsification_tests:\n- {id: T, test: by hand on paper}\n- {prediction: 1}\n- {id: U, test: {harness: h}}\n"
    text += "- {id: V, test: by hand on paper, falsifiers: {algorithm: 'a:b'}}\n"
    assert found(text, "PV-STYLE-002") == [
        (3, WARNING, "T describes its test, and names nothing that runs"),
        (4, WARNING, "the falsification test in line 4 has no test"),
        (6, WARNING, "V describes in `test` what its falsifiers run: who reads it cannot run it"),
    ]


@pytest.mark.parametrize("last", ["by hand on paper", "cargo test x"])
def test_many_tests_that_name_nothing_that_runs_are_one_warning(last):
    text = "falsification_tests:\n" + "".join(f"- {{id: T-{n}, test: by hand on paper}}\n" for n in range(4))
    text += f"- {{id: T-4, test: {last}}}\n- {{id: U, test: make x, falsifiers: {{algorithm: 'a:b'}}}}\n"
    count = 5 if last == "by hand on paper" else 4
    what = f"{count} of 5 tests name nothing that runs: T-0, T-1, T-2, .."
    assert found(text, "PV-STYLE-002") == [(3, WARNING, what)]


def test_two_tests_none_of_which_names_what_runs_are_one_warning():
    text = "falsification_tests:\n- {id: T, test: by hand on paper}\n- {id: U, prediction: 1}\n"
    assert found(text, "PV-STYLE-002") == [(3, WARNING, "2 of 2 tests name nothing that runs: T, U")]


OBLIGATION = (
    "proof_obligations:\n- {id: O, property: p, tolerance: 1.0e-3}\n- {id: P, property: q}\nfalsification_tests:\n"
)


def tried(tolerance: str, *, falsifiers: str = ", falsifiers: {algorithm: 'a:b'}", names: str = "[O]") -> str:
    return f"{OBLIGATION}- {{id: T, obligations: {names}{falsifiers}{tolerance}}}\n"


@pytest.mark.parametrize(("limit", "wider"), [("1.0e-3", False), ("9.0e-4", False), ("1.1e-3", True), (".nan", True)])
def test_a_test_may_tolerate_no_more_than_its_obligation(limit, wider):
    what = f"T tolerates {float(limit.strip('.'))}, but O 0.001"
    text = tried(f", tolerance: {{metric: m, limit: {limit}, because: b}}")
    assert found(text, "PV-STYLE-004") == ([(6, WARNING, what)] if wider else [])


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("1.0.0", True),
        ("10.20.30-rc.1+build.5", True),
        ("1.0", False),
        ("v1.0.0", False),
        ("01.0.0", False),
        ("1.0.0-01", False),
        ("1.0.0\\n", False),
        ("1.٠.0", False),
    ],
)
def test_a_version_is_a_semantic_one(version, right):
    head = HEAD.replace("1.0.0", f'"{version}"')
    assert bool(found("", "PV-STYLE-005", head)) is not right


def test_an_empty_version_is_left_to_the_rule_of_validate():
    assert found("", "PV-STYLE-005", HEAD.replace("1.0.0", "''")) == []


def ids(*names: str) -> list[str]:
    text = "proof_obligations:\n" + "".join(f"- {{id: {name}, property: p}}\n" for name in names)
    return [what for *_, what in found(text, "PV-STYLE-006")]


def test_an_id_unlike_its_neighbours_is_noted():
    assert ids("O-001", "O-002", "O-003", "OBL-4") == ["'OBL-4' is not like the ids of 3 others: O-NNN"]
    assert ids("O-001", "O-002", "O-003", "O-4") == ["'O-4' is not like the ids of 3 others: O-NNN"]
    assert ids("O-1", "O-2", "O-3", "last") == ["'last' is not like the ids of 3 others: O-N"]


@pytest.mark.parametrize(
    "names",
    [
        ("O-1", "O-2", "P-3"),
        ("O-01", "O-2"),
        ("O-1", "O-2", "O-3", "P-1", "P-2"),
        ("zero", "one", "two", "three"),
        ("O-8", "O-9", "O-10", "O-11"),
        ("O-998", "O-999", "O-1000", "O-001"),
    ],
)
def test_where_no_scheme_holds_for_three_in_four_or_all_keep_it_nothing_is_noted(names):
    assert ids(*names) == []
