"""One call of a falsifier, and what it amounts to."""

import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from pv.outcome import Outcome
from pv.statement import OracleSubject
from tests.pv.trying import HONEST, LIVE, MODEL, Try


def test_a_planted_defect_is_noticed_and_taken_out(try_: Try) -> None:
    result = try_("def f(trial): trial.at_most(limit, 3, 'limit')", mutant="raised_limit")
    assert result.record.outcome is Outcome.FALSIFIED
    assert result.record.message == "limit: 4 is not at most 3"
    assert result.planted == "Raises the limit to 4."
    assert sys.modules["subject"].limit == 3


@pytest.mark.parametrize(
    "end", ["raise ValueError", "raise SystemExit(2)", "trial.skip('why')", "trial.check(False, 'm')"]
)
def test_a_mutant_without_finally_is_taken_out_however_the_falsifier_ends(try_: Try, end: str) -> None:
    try_(f"def f(trial):\n    assert limit == 4\n    {end}", mutant="raised_limit")
    assert sys.modules["subject"].limit == 3


def test_an_interrupt_passes_through_and_leaves_no_mutant(try_: Try) -> None:
    with pytest.raises(KeyboardInterrupt):
        try_("def f(trial): raise KeyboardInterrupt", mutant="raised_limit")
    assert sys.modules["subject"].limit == 3


def test_a_mutant_that_cannot_be_taken_out_spoils_the_process(try_: Try) -> None:
    body = """
    def f(trial): trial.check(True, "m")
    @mutant
    def stuck():
        "Stays."
        yield
        raise OSError("no")
    """
    record = try_(body, mutant="stuck").record
    assert (record.outcome, record.message) == (Outcome.ERRORED, "mutant stuck could not be taken out: OSError: no")
    record = try_("def f(trial): trial.check(True, 'm')").record
    assert record.outcome is Outcome.ERRORED
    assert record.message == "mutant subject:stuck could not be taken out of this process: start a new one"


def test_a_mutant_that_cannot_be_planted_is_errored(try_: Try) -> None:
    body = """
    import os
    def f(trial): trial.check(False, "m")
    @mutant
    def typo():
        "Patches what is not there."
        with patched(os, "pakc", 1): yield
    """
    record = try_(body, mutant="typo").record
    assert record.outcome is Outcome.ERRORED
    assert record.message.startswith(
        "mutant typo could not be planted: AttributeError: module 'os' has no attribute 'pakc'"
    )


def test_no_comparison_is_errored(try_: Try) -> None:
    record = try_("def f(trial): trial.observe('x', 1)").record
    assert (record.outcome, record.message) == (Outcome.ERRORED, "the falsifier made no comparison")


def test_a_failed_comparison_that_is_swallowed_still_falsifies(try_: Try) -> None:
    body = """
    def f(trial):
        try:
            trial.equal(1, 2, "x")
        except Exception:
            pass
        trial.check(True, "later")
    """
    for after in ("", "    raise ValueError\n", "    trial.skip('why')\n"):
        record = try_(textwrap.dedent(body) + after).record
        assert (record.outcome, record.message) == (Outcome.FALSIFIED, "x: got 1, want 2"), after


def test_an_exception_is_errored_with_the_authors_frames_only(try_: Try) -> None:
    result = try_(
        """
        import json
        def helper(text):
            return json.loads(text)
        def f(trial):
            trial.check(True, "m")
            helper("{")
        """
    )
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message.startswith("json.decoder.JSONDecodeError: Expecting property name")
    lines = result.details.splitlines()
    assert [line.split(", in ")[1] for line in lines if line.startswith("  File ")] == ["f", "helper"]
    assert lines[1].startswith('  File "subject.py", line ')
    assert 'helper("{")' in result.details
    assert "runner.py" not in result.details


def test_an_assert_is_errored_with_a_hint(try_: Try) -> None:
    result = try_("def f(trial): assert limit == 4")
    assert result.record.outcome is Outcome.ERRORED
    assert result.details.endswith("hint: an assert is no comparison: use trial.check")


def test_wrong_use_of_the_trial_is_errored(try_: Try) -> None:
    record = try_("def f(trial): trial.check(1, 'm')").record
    assert record.outcome is Outcome.ERRORED
    assert record.message.startswith("TypeError: check() takes a bool, not int")


def test_a_skip_keeps_its_reason(try_: Try) -> None:
    record = try_("def f(trial): trial.skip('no AVX-512')").record
    assert (record.outcome, record.message) == (Outcome.SKIPPED, "no AVX-512")


def test_the_runners_own_skip_counts_as_a_skip(try_: Try) -> None:
    body = "import pytest\ndef f(trial): pytest.importorskip('no_such_module', reason='not here')"
    record = try_(body, skips=(pytest.skip.Exception,)).record
    assert (record.outcome, record.message) == (Outcome.SKIPPED, "not here")


def test_the_folder_is_named_neither_in_observations_nor_left_behind(try_: Try) -> None:
    body = """
    where = []
    def f(trial):
        where.append(trial.folder)
        trial.observe("files", {"all": [f"{trial.folder}/a"]})
        trial.check(True, "m")
    """
    record = try_(body).record
    assert dict(record.observations) == {"files": {"all": ["<folder>/a"]}}
    assert not sys.modules["subject"].where[0].exists()


def test_the_filter_of_warnings_does_not_decide_the_outcome(try_: Try) -> None:
    body = "import warnings\ndef f(trial):\n    warnings.warn('overflow')\n    trial.check(True, 'm')"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("error")
        record = try_(body).record
    assert record.outcome is Outcome.SURVIVED
    assert [str(warning.message) for warning in told] == ["overflow"]


def test_an_oracle_trial_must_name_its_oracle(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    record = try_(LIVE, role="oracle", model="tiny").record
    assert (record.outcome, record.message) == (Outcome.ERRORED, "the falsifier named no oracle")
    named = "def f(trial):\n    trial.oracle('llama.cpp', 'b1')\n    trial.check(True, 'm')"
    record = try_(named, role="oracle", model="tiny").record
    assert (record.outcome, record.oracle) == (Outcome.SURVIVED, OracleSubject(name="llama.cpp", version="b1"))


NO_COMMAND = "the live falsifier started no command on the model's file"


@pytest.mark.parametrize(
    "command",
    [
        "subprocess.run(['true', str(trial.model.path)])",
        "subprocess.run(['true', f'--model={trial.model.path}'])",
        "subprocess.run(f'true {trial.model.path}', shell=True)",
        "subprocess.run(['true', '--model', 'tiny'])",
        "subprocess.run(['true', '--model=tiny'])",
        "os.system('true tiny')",
        "os.waitpid(os.posix_spawn('/bin/true', ['true', trial.model.path], {}), 0)",
    ],
)
def test_a_live_trial_may_name_the_model_to_its_command_in_any_way(try_: Try, registry: Path, command: str) -> None:
    registry.write_bytes(MODEL)
    body = f"import os, subprocess\ndef f(trial):\n    {command}\n    trial.at_most(limit, 3, 'limit')"
    for mutant, outcome in ((None, Outcome.SURVIVED), ("raised_limit", Outcome.FALSIFIED)):
        assert try_(body, role="live", model="tiny", mutant=mutant).record.outcome is outcome


@pytest.mark.parametrize(
    "command",
    [
        "trial.model.path.read_bytes()",
        "subprocess.run(['true'])",
        "subprocess.run(['true', 'tiny2', 'a-tiny'])",
        "subprocess.run(['true', trial.model.path.name])",
    ],
)
def test_a_live_trial_that_starts_no_command_on_the_models_file_is_errored(
    try_: Try, registry: Path, command: str
) -> None:
    registry.write_bytes(MODEL)
    body = f"import os, subprocess\ndef f(trial):\n    {command}\n    trial.at_most(limit, 3, 'limit')"
    for mutant in (None, "raised_limit"):
        result = try_(body, role="live", model="tiny", mutant=mutant)
        assert (result.record.outcome, result.record.message) == (Outcome.ERRORED, NO_COMMAND)
        assert result.details == "hint: run the installed command, with trial.model.path among its arguments"


def test_only_what_would_support_a_level_needs_the_command(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    broken = try_("def f(trial): trial.check(False, 'not installed')", role="live", model="tiny").record
    assert (broken.outcome, broken.message) == (Outcome.FALSIFIED, "not installed")
    blind = try_("def f(trial): trial.check(True, 'm')", role="live", model="tiny", mutant="raised_limit").record
    assert blind.outcome is Outcome.SURVIVED
    oracle = "def f(trial):\n    trial.oracle('other', '1')\n    trial.check(True, 'm')"
    assert try_(oracle, role="oracle", model="tiny").record.outcome is Outcome.SURVIVED


@pytest.mark.parametrize("mutant", [None, "raised_limit"])
def test_a_tolerance_that_a_survivor_never_read_is_errored(try_: Try, mutant: str | None) -> None:
    for body in ("trial.at_most(2, 3, 'limit')", "trial.at_most(2, trial.limit, 'limit')"):
        result = try_(f"def f(trial): {body}", mutant=mutant, limit=3.0)
        assert result.record.outcome is Outcome.ERRORED
        assert result.record.message == (
            "the contract states a tolerance for this test, and the falsifier never read trial.tolerance"
        )
        assert result.details.startswith("hint: compare with trial.tolerance")
    read = try_("def f(trial): trial.at_most(2, trial.tolerance, 'limit')", mutant=mutant, limit=3.0)
    assert read.record.outcome is Outcome.SURVIVED


def test_a_trial_that_fails_before_it_reads_its_tolerance_is_what_it_is(try_: Try) -> None:
    body = "def f(trial):\n    trial.at_most(limit, 3, 'limit')\n    trial.at_most(1, trial.tolerance, 'x')"
    assert try_(body, mutant="raised_limit", limit=3.0).record.outcome is Outcome.FALSIFIED
    assert try_("def f(trial): trial.equal(1, 2, 'x')", limit=3.0).record.outcome is Outcome.FALSIFIED


def test_a_tolerance_that_is_not_stated_need_not_be_read(try_: Try) -> None:
    assert try_("def f(trial): trial.check(True, 'm')").record.outcome is Outcome.SURVIVED


PATCHING = """
import helper, sys
def f(trial): trial.at_most(limit + helper.limit, 6, "limit")
class Inner: limit = 3
@mutant
def own():
    "Patches the falsifier's module, and a class of it."
    with patched(sys.modules[__name__], "limit", 4), patched(Inner, "limit", 4): yield
@mutant
def both():
    "Patches the subject too."
    with patched(sys.modules[__name__], "limit", 4), patched(helper, "limit", 4): yield
@mutant
def of_a_class():
    "Patches a class of the subject, that the falsifier holds."
    with patched(helper.Held, "limit", 4), patched(helper, "limit", 4): yield
"""


def test_a_mutant_that_patches_the_falsifiers_own_module_alone_is_errored(try_: Try, project: Path) -> None:
    (project / "helper.py").write_text("limit = 3\nclass Held: limit = 3\n", encoding="utf-8")
    result = try_(PATCHING, mutant="own")
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == (
        "mutant own patches subject alone, the falsifier's own module: no defect is in the subject"
    )
    assert result.details.startswith("hint: patch the module of the subject")
    assert sys.modules["subject"].limit == 3
    for mutant in ("both", "of_a_class"):
        assert try_(PATCHING, mutant=mutant).record.outcome is Outcome.FALSIFIED
    assert try_(PATCHING).record.outcome is Outcome.SURVIVED
    assert try_(PATCHING, mutant="own").record.outcome is Outcome.ERRORED, "what others patched does not count for it"


def test_what_was_patched_before_is_none_of_a_mutants(try_: Try) -> None:
    body = f"import sys\ndef f(trial):\n    with patched(sys.modules[__name__], 'limit', 2): {HONEST}\n    {HONEST}"
    assert try_(body).record.outcome is Outcome.SURVIVED
    assert try_(body, mutant="raised_limit").record.outcome is Outcome.FALSIFIED
