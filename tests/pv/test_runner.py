"""One trial, from names to a record."""

import functools
import hashlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pv import runner
from pv.binding import Binding, Planned, seed_of
from pv.config import Config
from pv.outcome import Outcome
from pv.runner import Result, run
from pv.statement import ModelSubject, OracleSubject, environment

HEADER = """\
    from pv.trial import Falsified, Trial, mutant, patched

    limit = 3

    @mutant
    def raised_limit():
        "Raises the limit to 4."
        global limit
        limit = 4
        yield
        limit = 3

"""
MODEL = b"weights"
SHA256 = hashlib.sha256(MODEL).hexdigest()

Try = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # modules of one name and size follow each other too fast
    monkeypatch.setattr(runner, "_spoiled", [])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("subject", "helper"):
            del sys.modules[name]


@pytest.fixture
def try_(project: Path) -> Try:
    """Try the falsifier `f` of a module `subject` with this body."""

    def attempt(body: str, *, header: str = HEADER, **options: Any) -> Result:
        text = textwrap.dedent(header) + textwrap.dedent(body)
        (project / "subject.py").write_text(text, encoding="utf-8")
        sys.modules.pop("subject", None)
        seed, skips, twice = options.pop("seed", None), options.pop("skips", ()), options.pop("twice", False)
        planned = Planned(**{"role": "algorithm", "falsifier": "subject:f", **options})
        binding = Binding(
            contract="limits",
            test="FALSIFY-L-001",
            planned=(planned,),
            claim="a" * 64,
            code={planned.falsifier: "b" * 64},
            models={"tiny": ModelSubject(name="tiny", sha256=SHA256)},
        )
        config = Config(
            root=project,
            contracts=project / "contracts",
            evidence=project / "evidence",
            models=project / "registry.yaml",
            first_party=("helper", "subject"),
        )
        return run(binding, planned, config, where="contracts/limits.yaml:7", seed=seed, skips=skips, twice=twice)

    return attempt


def test_a_promise_that_holds_survives_with_what_was_observed(try_: Try) -> None:
    record = try_(
        """
        def f(trial):
            trial.observe("limit", limit)
            trial.at_most(limit, 3, "limit")
            trial.equal(trial.mutant, None, "mutant")
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


def test_a_planted_defect_is_noticed_and_taken_out(try_: Try) -> None:
    result = try_("def f(trial): trial.at_most(limit, 3, trial.mutant or 'limit')", mutant="raised_limit")
    assert result.record.outcome is Outcome.FALSIFIED
    assert result.record.message == "subject:raised_limit: 4 is not at most 3"
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


def test_the_seed_follows_from_the_names_and_not_from_the_mutant(try_: Try) -> None:
    own = seed_of("limits", "FALSIFY-L-001", "algorithm", None)
    for mutant in (None, "raised_limit"):
        assert try_("def f(trial): trial.at_most(limit, 3, 'limit')", mutant=mutant).record.seed == own
    assert try_("def f(trial): trial.check(True, 'm')", seed=9).record.seed == 9


@pytest.mark.parametrize(
    ("options", "message", "details"),
    [
        ({"falsifier": "subject:g"}, "no function 'g' in subject", ""),
        ({"falsifier": "subject:fals"}, "no function 'fals' in subject", "hint: did you mean 'false'?"),
        ({"falsifier": "subject:raised_limit"}, "no function 'raised_limit' in subject", ""),
        ({"falsifier": "subject:limit"}, "no function 'limit' in subject", ""),
        ({"mutant": "raise_limit"}, "no mutant 'raise_limit' in subject", "hint: did you mean 'raised_limit'?"),
        ({"mutant": "f"}, "subject.f is no mutant", "hint: decorate it with @mutant"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_errored_at_the_contracts_line(
    try_: Try, options: dict[str, str], message: str, details: str
) -> None:
    result = try_("def f(trial): trial.check(True, 'm')\ndef false(trial): pass", **options)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == f"contracts/limits.yaml:7: FALSIFY-L-001: {message}"
    assert result.details == details


@pytest.mark.parametrize("failure", ["raise OSError('no disk')", "raise SystemExit(3)", "import no_such_module"])
def test_a_module_that_cannot_be_imported_is_errored(try_: Try, failure: str) -> None:
    result = try_(failure, header="")
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message.startswith("contracts/limits.yaml:7: FALSIFY-L-001: subject cannot be imported: ")
    assert '  File "subject.py", line 1, in <module>' in result.details


def foreign(project: Path, folder: Path) -> Path:
    """A copy of the project's module `helper` in a folder where Python looks first."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, limit in ((project, 3), (folder, 4)):
        (place / "helper.py").write_text(f"limit = {limit}\n", encoding="utf-8")
    sys.path[:0] = [str(folder), str(project)]
    return folder / "helper.py"


USES_HELPER = {
    "import helper\ndef f(trial): trial.equal(helper.limit, 4, 'limit')": "imported with the falsifier",
    "def f(trial):\n    import helper\n    trial.equal(helper.limit, 4, 'limit')": "imported by the call",
    "import helper\nhelper.gone\ndef f(trial): trial.check(True, 'm')": "imported in vain",
}


@pytest.mark.parametrize("body", USES_HELPER, ids=list(USES_HELPER.values()))
@pytest.mark.parametrize("inside", [False, True], ids=["elsewhere", "in a .venv of the project"])
def test_code_of_another_file_than_the_digested_one_is_not_evidence(
    try_: Try, project: Path, tmp_path_factory: pytest.TempPathFactory, body: str, inside: bool
) -> None:
    packages = project / ".venv/lib/site-packages" if inside else tmp_path_factory.mktemp("other")
    copy = foreign(project, packages)
    result = try_(body)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == (
        f"contracts/limits.yaml:7: FALSIFY-L-001: helper was imported from {copy}, and the project's is "
        f"{project / 'helper.py'}: what it does would be recorded under the digest of other code"
    )
    assert result.details == "hint: install the project in place: pip install -e ."


def test_a_module_that_reaches_the_digested_file_through_a_link_is_the_same_code(
    try_: Try, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(project)
    foreign(project, project)
    sys.path.insert(0, str(link))
    body = "import helper\ndef f(trial): trial.equal(helper.limit, 4, 'limit')"
    assert try_(body).record.outcome is Outcome.SURVIVED
    assert sys.modules["helper"].__file__ == str(link / "helper.py")


def test_a_module_that_comes_from_no_file_is_not_evidence(try_: Try, project: Path) -> None:
    foreign(project, project)
    sys.modules["helper"] = type(sys)("helper")
    record = try_("def f(trial):\n    import helper\n    trial.check(True, 'm')").record
    assert record.outcome is Outcome.ERRORED
    assert "helper was imported from no file, and the project's is " in record.message


def test_what_an_import_sets_in_the_environment_is_not_recorded(try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_THREADING_LAYER_PRIORITY", "")  # so that it is as it was after the test
    monkeypatch.delenv("NUMBA_THREADING_LAYER_PRIORITY")
    monkeypatch.setattr(runner, "_environment", functools.cache(environment))
    body = """
    import os
    os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp")
    def f(trial): trial.check(True, "m")
    """
    record = try_(body).record
    assert record.outcome is Outcome.SURVIVED
    assert "THREADING_LAYER_PRIORITY" not in record.environment.get("numba_env", "")


def test_the_filter_of_warnings_does_not_decide_the_outcome(try_: Try) -> None:
    body = "import warnings\ndef f(trial):\n    warnings.warn('overflow')\n    trial.check(True, 'm')"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("error")
        record = try_(body).record
    assert record.outcome is Outcome.SURVIVED
    assert [str(warning.message) for warning in told] == ["overflow"]


# models and oracles


@pytest.fixture
def registry(project: Path) -> Path:
    text = f"tiny: {{sha256: {SHA256}, size: {len(MODEL)}, file: tiny.gguf, licence: CC0-1.0, about: a test}}\n"
    (project / "registry.yaml").write_text(text, encoding="utf-8")
    return project / "tiny.gguf"


LIVE = """
import subprocess
def f(trial):
    done = subprocess.run(["cat", trial.model.path], capture_output=True)
    trial.at_most(limit, 3, "limit")
    trial.equal(done.stdout, b'weights', trial.model.name)
"""


def test_a_live_trial_meets_the_registered_model(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    record = try_(LIVE, role="live", model="tiny").record
    assert record.outcome is Outcome.SURVIVED
    assert record.model == ModelSubject(name="tiny", sha256=SHA256)


def test_an_absent_model_skips_the_trial_and_says_how_to_obtain_it(try_: Try, registry: Path) -> None:
    record = try_(LIVE, role="live", model="tiny").record
    assert record.outcome is Outcome.SKIPPED
    assert record.message == "model tiny is not on this machine; obtain it with `apr pull tiny`"


def test_a_model_with_other_bytes_is_errored(try_: Try, registry: Path) -> None:
    registry.write_bytes(b"weightz")
    result = try_(LIVE, role="live", model="tiny")
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message.startswith(f"{registry}: is not the registered tiny: sha256 ")
    assert result.details.startswith("hint: remove it and obtain it again")


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


# code that runs and is not digested


COMPUTED = "import importlib\nhelper = importlib.import_module('help' + 'er')\n"


@pytest.mark.parametrize(
    ("top", "inner"),
    [
        (COMPUTED, "pass"),
        ("import importlib", "importlib.import_module('help' + 'er')"),
        ("import runpy", "runpy.run_path('help' + 'er.py')"),
        ("import runpy", "runpy.run_module('help' + 'er')"),
    ],
)
def test_a_file_that_runs_and_is_not_digested_is_errored(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch, top: str, inner: str
) -> None:
    monkeypatch.chdir(project)
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    body = f"{top}\ndef f(trial):\n    {inner}\n    trial.at_most(limit, 3, 'limit')"
    for mutant in (None, "raised_limit"):
        result = try_(body, mutant=mutant)
        assert result.record.outcome is Outcome.ERRORED
        assert result.record.message == (
            "contracts/limits.yaml:7: FALSIFY-L-001: helper.py was executed, "
            "and the digest of subject does not cover it"
        )
        assert result.details == "hint: import it by a literal name, so that a change of it is noticed"
    literal = f"{body}\ndef unused(): import helper"
    assert try_(literal).record.outcome is Outcome.SURVIVED


def test_what_a_module_loaded_is_remembered_for_its_later_trials(try_: Try, project: Path) -> None:
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    body = "import importlib\ndef f(trial):\n    importlib.import_module('help' + 'er')\n    trial.check(True, 'm')"
    body += "\ndef g(trial): trial.check(True, 'm')"
    for falsifier in ("subject:f", "subject:f", "subject:g"):  # helper is loaded in the first trial only
        assert try_(body, falsifier=falsifier).record.outcome is Outcome.ERRORED


def test_what_others_loaded_and_what_is_not_first_party_is_nobodys_fault(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    (project / "venv").mkdir()
    (project / "venv" / "foreign_package.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(project / "venv")
    monkeypatch.syspath_prepend(project)
    __import__("helper")
    body = "import foreign_package, json, colorsys\ndef f(trial): trial.check(True, 'm')"
    assert try_(body).record.outcome is Outcome.SURVIVED
    del sys.modules["foreign_package"]


# data that is read and not digested


@pytest.mark.parametrize(
    ("top", "inner"),
    [
        ("", "data.read_text()"),
        ("TABLE = data.read_text()", "pass"),
        ("", "import numpy; numpy.fromfile(data)"),
        ("PV_DATA = ('other.txt',)", "data.read_text()"),
    ],
)
def test_data_that_is_read_and_not_declared_is_errored(try_: Try, project: Path, top: str, inner: str) -> None:
    for name in ("table.txt", "other.txt"):
        (project / name).write_text("3", encoding="utf-8")
    body = f"import pathlib\ndata = pathlib.Path(__file__).with_name('table.txt')\n{top}\ndef f(trial):\n    {inner}\n"
    body += "    trial.at_most(limit, 3, 'limit')\n"
    for mutant in (None, "raised_limit"):
        result = try_(body, mutant=mutant)
        assert result.record.outcome is Outcome.ERRORED
        assert result.record.message == (
            "contracts/limits.yaml:7: FALSIFY-L-001: table.txt was read, and the digest of subject does not cover it"
        )
        assert result.details == (
            'hint: declare it, by its path from the module that reads it: PV_DATA = ("table.txt",)'
        )
    declared = body.replace("PV_DATA = ('other.txt',)", "")
    assert try_(f"PV_DATA = '*.txt'\n{declared}").record.outcome is Outcome.SURVIVED


def test_what_a_trial_reads_elsewhere_is_its_own_affair(try_: Try, project: Path) -> None:
    for name in ("contracts", ".cache"):
        (project / name).mkdir()
        (project / name / "file").write_text("", encoding="utf-8")
    body = """
    import pathlib
    def f(trial):
        here = pathlib.Path(__file__).parent
        (trial.folder / "file").write_text("")
        for folder in (trial.folder, here / "contracts", here / ".cache"):
            (folder / "file").read_text()
        trial.at_most(limit, 3, "limit")
    """
    assert try_(body).record.outcome is Outcome.SURVIVED


def test_the_model_of_a_trial_is_digested_with_it_and_that_of_another_is_data(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    body = f"import pathlib\n{LIVE}    trial.model.path.read_bytes()\n"
    body += f"def g(trial):\n    trial.check(len(pathlib.Path({str(registry)!r}).read_bytes()) > 0, 'm')"
    assert try_(body, role="live", model="tiny").record.outcome is Outcome.SURVIVED
    record = try_(body, falsifier="subject:g").record
    assert record.outcome is Outcome.ERRORED
    assert "tiny.gguf was read, and the digest of subject does not cover it" in record.message
