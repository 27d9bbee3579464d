"""Authors who would decide a verdict by other means than comparisons: what becomes of each attempt.

The header of each module plants `raised_limit`, which sets `limit` from 3 to 4: an honest falsifier notices it.
"""

import os
from pathlib import Path

import pytest

from pv.outcome import Outcome
from pv.trial import Trial
from tests.pv.trying import HONEST, Try, outcome

PEEKED = "the falsifier asked whether a defect is planted: it could be red for that alone"


# what only a mutant shows: it survives, so the falsifier counts for nothing


@pytest.mark.parametrize(
    "compared",
    [
        "trial.check(True, 'm')",
        "trial.check(limit == limit, 'm')",
        "trial.equal(limit, limit, 'limit')",
        "trial.at_most(0, 3, 'limit')",
        "trial.close(float(limit), float(limit), 0, 'limit')",
        "trial.check(True, 'm')\n    return\n    trial.at_most(limit, 3, 'limit')",
    ],
)
def test_a_comparison_that_cannot_fail_lets_the_mutant_survive(try_: Try, compared: str) -> None:
    for mutant in (None, "raised_limit"):
        assert outcome(try_, f"def f(trial):\n    {compared}", mutant) == (Outcome.SURVIVED, "")
    assert outcome(try_, f"def f(trial):\n    {HONEST}", "raised_limit")[0] is Outcome.FALSIFIED


# falsifiers that do not run, or whose answer nobody hears


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"async def f(trial): {HONEST}", "the falsifier is an async function: it was called, and did not run"),
        (
            f"def f(trial):\n    {HONEST}\n    yield",
            "the falsifier is a generator function: it was called, and did not run",
        ),
        (
            f"async def f(trial):\n    {HONEST}\n    yield",
            "the falsifier is a generator function: it was called, and did not run",
        ),
        (f"def f(trial):\n    {HONEST}\n    return False", "the falsifier returned bool, which nobody reads"),
        ("def f(trial): pass", "the falsifier made no comparison"),
        (f"def f(trial):\n    return\n    {HONEST}", "the falsifier made no comparison"),
        (f"def f(trial):\n    if limit > 99: {HONEST}", "the falsifier made no comparison"),
        ("def f(trial): Trial(seed=0).at_most(limit, 3, 'limit')", "the falsifier made no comparison"),
        ("def f(trial): assert limit == 3", "the falsifier made no comparison"),
    ],
)  # fmt: skip
def test_a_falsifier_that_compares_nothing_is_errored(try_: Try, body: str, message: str) -> None:
    result = try_(body)
    assert (result.record.outcome, result.record.message) == (Outcome.ERRORED, message)
    assert result.details.startswith("hint: ")


# knowing of the mutant


@pytest.mark.parametrize(
    "peek",
    [
        "trial.check(trial.mutant is None, 'm')",
        "trial.check(True, 'm')\n    trial.check(not getattr(trial, 'mutant', None), 'm')",
        "trial.check(not hasattr(trial, 'mutant'), 'm')",
        "try:\n        trial.mutant\n    except AttributeError:\n        pass\n    trial.check(True, 'm')",
    ],
)
def test_a_falsifier_that_asks_for_the_mutant_is_errored_with_and_without_one(try_: Try, peek: str) -> None:
    for mutant in (None, "raised_limit"):
        assert outcome(try_, f"def f(trial):\n    {peek}", mutant)[0] is Outcome.ERRORED
    details = try_("def f(trial): trial.mutant").details
    assert "hint: run commands by trial.start, which plants it there" in details


def test_a_trial_looks_the_same_with_and_without_a_mutant(try_: Try) -> None:
    names = sorted(name for name in dir(Trial(seed=0)) if name != "mutant")
    for name in names:
        plain, planted = (getattr(Trial(seed=7, mutant=mutant, limit=1.0), name) for mutant in (None, "m:x"))
        if not callable(plain) and name not in ("folder", "rng", "__weakref__"):
            assert str(plain) == str(planted), name
    assert not hasattr(Trial(seed=0), "__dict__")


def test_the_name_of_the_node_is_hidden_while_a_falsifier_runs(try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "contracts/x.yaml::X-001[algorithm!raised_limit] (call)")
    top = "import os\nPV_ENVIRONMENT = 'PYTEST_CURRENT_TEST'\ntop = os.environ.get('PYTEST_CURRENT_TEST')"
    body = f"{top}\ndef f(trial): trial.equal([top, os.environ.get('PYTEST_CURRENT_TEST')], [None, None], 'node')"
    assert outcome(try_, body) == (Outcome.SURVIVED, "")
    assert os.environ["PYTEST_CURRENT_TEST"].endswith("(call)")


# red for another reason than the defect


SELF_MADE = """
import helper
@mutant
def cries(): # plants nothing in `limit`
    "Raises Falsified where the subject is asked."
    def wrong(): raise Falsified("caught myself")
    with patched(helper, "ask", wrong): yield
def f(trial): trial.at_most(helper.ask(), 3, "limit")
"""


def test_a_mutant_that_raises_falsified_itself_is_errored(try_: Try, project: Path) -> None:
    (project / "helper.py").write_text("def ask(): return 3\n", encoding="utf-8")
    result = try_(SELF_MADE, mutant="cries")
    assert (result.record.outcome, result.record.message) == (
        Outcome.ERRORED,
        "Falsified was raised, and no comparison failed: caught myself",
    )
    assert result.details.startswith("hint: a mutant plants a defect, and a comparison of the trial has to notice it")
    body = "import helper\n@mutant\ndef eager():\n    'Raises.'\n    raise Falsified('at once')\n    yield\n"
    message = outcome(try_, f"{body}def f(trial): {HONEST}", "eager")
    assert message == (Outcome.ERRORED, "mutant eager could not be planted: pv.trial.Falsified: at once")


def test_without_a_mutant_a_falsified_that_is_raised_by_hand_breaks_the_promise(try_: Try) -> None:
    assert outcome(try_, "def f(trial): raise Falsified('seen')") == (Outcome.FALSIFIED, "seen")


def test_what_no_mutant_may_break_falsifies_a_promise_and_errs_a_mutant(try_: Try) -> None:
    body = "def f(trial):\n    {}\n    trial.check(True, 'm')"
    for line in (
        "trial.require(limit == 3, 'refused')",
        "try: trial.require(limit == 3, 'refused')\n    except Falsified: pass",
    ):
        assert outcome(try_, body.format(line)) == (Outcome.SURVIVED, "")
        assert outcome(try_, body.format(line), "raised_limit") == (
            Outcome.ERRORED,
            "mutant subject:raised_limit is red for another reason than its promise: refused",
        )
        broken = body.format(line.replace("== 3", "== 9"))
        assert outcome(try_, broken) == (Outcome.FALSIFIED, "refused")
    assert outcome(try_, "def f(trial): trial.require(True, 'm')")[1] == "the falsifier made no comparison"


# the trial's own state and tools


@pytest.mark.parametrize(
    "line",
    [
        "trial.comparisons = 5",
        "trial.falsified = None",
        "trial.seed = 1",
        "trial.check = print",
        "trial.anything = 1",
        "object.__setattr__(trial, 'comparisons', 5)",
        "trial.__dict__['comparisons'] = 5",
    ],
)
def test_what_a_trial_came_to_cannot_be_set_by_hand(try_: Try, line: str) -> None:
    record = try_(f"def f(trial): {line}").record
    assert (record.outcome, record.comparisons) == (Outcome.ERRORED, 0)
    assert record.message.startswith("AttributeError: ")
    kept = try_(
        f"def f(trial):\n    try: {line}\n    except AttributeError: pass\n    trial.observations['x'] = 1"
    ).record
    assert (kept.outcome, kept.comparisons, dict(kept.observations)) == (Outcome.ERRORED, 0, {})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Trial.check = lambda self, ok, message: None", "Trial.check"),
        ("Trial.comparisons = 9", "Trial.comparisons"),
        ("import pv.trial; pv.trial.difference = lambda got, want: None", "pv.trial.difference"),
        ("import pv.trial; pv.trial.Falsified = ValueError", "pv.trial.Falsified"),
        ("import pv.comparing; pv.comparing.show = repr", "pv.comparing.show"),
        ("import sys, types; sys.modules['pv.trial'] = types.ModuleType('pv.trial')", "pv.trial"),
        ("import sys; sys.modules['pv.' + 'account'].Account.compared = print", "Account.compared"),
    ],
)
def test_a_falsifier_that_changes_the_tools_it_is_judged_with_is_errored(try_: Try, line: str, what: str) -> None:
    message = f"the falsifier or its mutant changed {what}, with which it is judged"
    assert outcome(try_, f"def f(trial):\n    {HONEST}\n    {line}") == (Outcome.ERRORED, message)
    assert outcome(try_, f"def f(trial): {HONEST}") == (Outcome.SURVIVED, "")  # they are put right


def test_a_mutant_that_changes_the_tools_is_errored(try_: Try) -> None:
    body = """
    @mutant
    def harsh():
        "Lets every comparison fail."
        def fail(self, ok, message): self.equal(1, 2, message)
        with patched(Trial, "check", fail): yield
    def f(trial): trial.check(limit == 3, "limit")
    """
    message = "the falsifier or its mutant changed Trial.check, with which it is judged"
    assert outcome(try_, body, "harsh") == (Outcome.ERRORED, message)
