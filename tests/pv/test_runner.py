"""One trial, from names to a record."""

import functools
import sys
from pathlib import Path

import pytest

from pv import runner
from pv.attempt import NO_COMMAND
from pv.binding import seed_of
from pv.outcome import Outcome
from pv.statement import environment
from tests.pv.trying import MODEL, Try


def test_a_promise_that_holds_survives_with_what_was_observed(try_: Try) -> None:
    record = try_(
        """
        def f(trial):
            trial.observe("limit", limit)
            trial.at_most(limit, 3, "limit")
            trial.check(True, "m")
        """
    ).record
    assert (record.contract, record.test, record.role) == ("limits", "FALSIFY-L-001", "algorithm")
    assert (record.falsifier, record.mutant, record.model, record.oracle) == ("subject:f", None, None, None)
    assert (record.outcome, record.message, record.comparisons) == (Outcome.SURVIVED, "", 2)
    assert dict(record.observations) == {"limit": 3}
    assert (record.claim, record.code) == ("a" * 64, "b" * 64)
    assert record.environment["machine"]


def test_a_broken_promise_is_falsified_with_its_message(try_: Try) -> None:
    record = try_("def f(trial): trial.at_most(limit, 2, 'limit')").record
    assert (record.outcome, record.message, record.comparisons) == (Outcome.FALSIFIED, "limit: 3 is not at most 2", 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "calls = []\ndef f(trial):\n    calls.append(1)\n    trial.check(len(calls) > 1, 'first')",
            "seed 5 gave FALSIFIED (first), then SURVIVED",
        ),
        (
            "calls = []\ndef f(trial):\n    calls.append(1)\n    trial.check(False, f'call {len(calls)}')",
            "seed 5 gave FALSIFIED (call 1), then FALSIFIED (call 2)",
        ),
        (
            "calls = []\ndef f(t):\n    calls.append(1)\n    t.check(len(calls) > 1, 'first')\n    t.skip('no')",
            "seed 5 gave FALSIFIED (first), then SKIPPED (no)",
        ),
    ],
)  # fmt: skip
def test_a_falsified_trial_is_tried_again_and_flaky_if_it_differs(try_: Try, body: str, message: str) -> None:
    record = try_(body, seed=5).record
    assert (record.outcome, record.message) == (Outcome.FLAKY, message)


def test_neither_a_surviving_trial_nor_a_mutant_is_tried_again(try_: Try) -> None:
    body = "calls = []\ndef f(trial):\n    calls.append(1)\n    trial.at_most(limit, 3, 'limit')"
    for mutant in (None, "raised_limit"):
        try_(body, mutant=mutant)
        assert sys.modules["subject"].calls == [1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("trial.check(calls < 2, 'late')", "seed 5 gave SURVIVED, then FALSIFIED (late)"),
        ("trial.check(True, 'm') if calls < 2 else trial.skip('no')", "seed 5 gave SURVIVED, then SKIPPED (no)"),
        ("[trial.check(True, 'm') for _ in range(calls)]", "seed 5 gave number of comparisons = 1, then 2"),
        ("trial.observe('n', calls)", "seed 5 gave n = 1, then n = 2"),
        ("trial.observe('n', calls == 1 or calls)", "seed 5 gave n = true, then n = 2"),
        ("trial.observe(f'n{calls}', 0)", "seed 5 gave n1 = 0, then no n1"),
        ("calls > 1 and trial.observe('late', 0)", "seed 5 gave no late, then late = 0"),
        (
            "trial.observe('n', [*[0] * 99, calls])",
            "seed 5 gave n = [0,0,0,0,0,0,0,0 .. 0,0,0,0,0,0,0,0,0,0,1] .., then n = [0,0,0,0,0,0,0,0 .. "
            "0,0,0,0,0,0,0,0,0,0,2] ..",
        ),
        ("trial.oracle('one', str(calls))", "seed 5 gave oracle one 1, then oracle one 2"),
    ],
)  # fmt: skip
def test_a_surviving_trial_that_is_tried_twice_is_flaky_if_anything_differs(try_: Try, body: str, message: str) -> None:
    text = f"calls = 0\ndef f(trial):\n    global calls; calls += 1\n    trial.check(True, 'm')\n    {body}"
    text = text.replace("    trial.check(True, 'm')\n    [", "    [")
    record = try_(text, seed=5, twice=True).record
    assert (record.outcome, record.message) == (Outcome.FLAKY, message)
    assert try_(text, seed=5).record.outcome is Outcome.SURVIVED


def test_a_reproducible_trial_survives_two_tries_and_a_mutant_is_tried_once(try_: Try) -> None:
    body = """
    calls = []
    def f(trial):
        calls.append(1)
        trial.observe("number", float(trial.rng.random()))
        trial.observe("at", str(trial.folder))
        trial.at_most(limit, 3, "limit")
    """
    for mutant, outcome, tries in ((None, Outcome.SURVIVED, 2), ("raised_limit", Outcome.FALSIFIED, 1)):
        assert try_(body, mutant=mutant, twice=True).record.outcome is outcome
        assert len(sys.modules["subject"].calls) == tries


def test_the_second_try_sees_the_same_numbers_and_an_empty_folder(try_: Try) -> None:
    body = """
    def f(trial):
        (trial.folder / "file").touch(exist_ok=False)
        trial.check(False, f"{trial.rng.integers(2**32)} in {trial.folder}")
    """
    record = try_(body).record
    assert record.outcome is Outcome.FALSIFIED
    assert record.message.endswith(" in <folder>")


def test_the_seed_follows_from_the_names_and_not_from_the_mutant(try_: Try) -> None:
    own = seed_of("limits", "FALSIFY-L-001", "algorithm", None)
    for mutant in (None, "raised_limit"):
        assert try_("def f(trial): trial.at_most(limit, 3, 'limit')", mutant=mutant).record.seed == own
    assert try_("def f(trial): trial.check(True, 'm')", seed=9).record.seed == 9


def test_what_an_import_sets_in_the_environment_is_not_recorded(try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_THREADING_LAYER_PRIORITY", "")  # so that it is as it was after the test
    monkeypatch.delenv("NUMBA_THREADING_LAYER_PRIORITY")
    monkeypatch.setattr(runner, "_environment", functools.cache(environment))
    body = """
    import os
    PV_ENVIRONMENT = "NUMBA_THREADING_LAYER_PRIORITY"
    os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp")
    def f(trial): trial.check(True, "m")
    """
    record = try_(body).record
    assert record.outcome is Outcome.SURVIVED
    assert "THREADING_LAYER_PRIORITY" not in record.environment.get("numba_env", "")


def test_a_command_of_an_earlier_trial_does_not_count(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    body = """
    import subprocess
    calls = []
    def f(trial):
        calls.append(1)
        if len(calls) == 1:
            subprocess.run(["true", trial.model.path])
        trial.check(True, "m")
    """
    record = try_(body, role="live", model="tiny", twice=True).record
    assert (record.outcome, record.message) == (
        Outcome.FLAKY,
        f"seed {record.seed} gave SURVIVED, then ERRORED ({NO_COMMAND})",
    )
