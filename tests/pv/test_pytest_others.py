"""`pytest --falsify` beside the plugins that others install, and with the options that others use."""

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.pv.kept import read_all
from tests.pv.stranger import CONTRACT, NODE, SECOND, Stranger

DOC = '    """The checksum is below 251."""'
HANG = "    import time\n    while subject.MODULUS == 251: time.sleep(0.01)"


def outcomes(stranger: Stranger) -> list[tuple[str, str]]:
    records, problems = read_all(stranger.path / "evidence")
    assert problems == []
    return sorted((record.mutant or "", str(record.outcome)) for record in records)


# pytest-randomly


@pytest.mark.parametrize("options", [["--randomly-seed=1"], ["--randomly-seed=2"], ["--randomly-seed=1", "-n2"]])
def test_the_records_of_a_random_order_are_those_of_the_usual_one(stranger: Stranger, options: list[str]) -> None:
    def recorded() -> dict[str, bytes]:
        # the statements of trials, wherever they lie: their names are digests of their bytes
        return {name: data for name, data in stranger.evidence().items() if name.startswith("sum/")}

    stranger.write("contracts/sum.yaml", CONTRACT + SECOND)
    stranger.run("--falsify", "--record")
    before = recorded()
    (stranger.path / "evidence").rename(stranger.path / "first")
    result = stranger.run("--falsify", "--record", *options, others=["randomly"])
    result.stdout.fnmatch_lines(["Using --randomly-seed=*"])
    assert recorded() == before
    assert len(before) == 5


# what takes trials out of a run

DROP = (
    "def pytest_collection_modifyitems(items):\n    items[:] = [item for item in items if 'wrong' not in item.name]\n"
)
OTHER = "contracts/other.yaml"


@pytest.mark.parametrize("workers", [[], ["-n2"], ["--randomly-seed=3"], ["--randomly-seed=3", "-n2"]])
def test_trials_that_are_taken_out_are_counted_and_fail_a_strict_run(stranger: Stranger, workers: list[str]) -> None:
    stranger.write("conftest.py", DROP)
    options = ["--falsify", "-k", "modulus", *workers]
    others = ["randomly"] * ("--randomly-seed=3" in workers)
    result = stranger.run(*options, others=others)
    assert result.ret == pytest.ExitCode.OK
    told = [
        f"1 of 3 trials deselected (by -k 'modulus'): {NODE}[[]algorithm[]]",
        f"1 of 3 trials taken out by a hook of a plugin or a conftest.py: {NODE}[[]algorithm!wrong_modulus[]]",
    ]
    result.stdout.fnmatch_lines(told)
    result.stdout.no_fnmatch_line("FAILED*")
    result = stranger.run(*options, "--falsify-strict", others=others)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, deselected=1 if "-n2" not in workers else 0)
    result.stdout.fnmatch_lines([*told, "FAILED: --falsify-strict demands all trials that the contracts call for: *"])


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_a_strict_run_of_all_trials_passes_and_names_none(stranger: Stranger, workers: list[str]) -> None:
    result = stranger.run("--falsify", "--falsify-strict", *workers)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*of 3 trials*")
    result.stdout.no_fnmatch_line("*not collected*")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["contracts/sum.yaml"], pytest.ExitCode.OK, ""),
        (["."], pytest.ExitCode.OK, ""),
        ([f"{NODE}[algorithm]"], pytest.ExitCode.TESTS_FAILED, "2 of 3 trials not named by the arguments: *"),
        (["-m", "mutant"], pytest.ExitCode.TESTS_FAILED, "1 of 3 trials deselected (by -m 'mutant'): *"),
        (["-k", "nothing"], pytest.ExitCode.TESTS_FAILED, "3 of 3 trials deselected (by -k 'nothing'): *"),
        (
            ["--ignore=contracts/sum.yaml"],
            pytest.ExitCode.TESTS_FAILED,
            "1 contract not collected *: contracts/sum.yaml",
        ),
        (["--setup-plan"], pytest.ExitCode.TESTS_FAILED, "3 of 3 trials never tried *"),
    ],
)
def test_what_a_strict_run_was_asked_for_is_what_it_demands(
    stranger: Stranger, arguments: list[str], code: int, told: str
) -> None:
    result = stranger.run("--falsify", "--falsify-strict", *arguments)
    assert result.ret == code
    if told:
        result.stdout.fnmatch_lines([told])


IDLE = ["--co", "--collect-only", "--markers", "--help", "--fixtures", "--fixtures-per-test", "--cache-show", "-VV"]


@pytest.mark.parametrize("option", IDLE)
@pytest.mark.parametrize("where", ["addopts", "PYTEST_ADDOPTS", "strict"])
def test_an_option_that_makes_no_trial_is_refused_unless_it_was_typed_without_strict(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, where: str, option: str
) -> None:
    others = ["cacheprovider"]
    if where == "addopts":
        stranger.change("pytest.ini", "addopts = ", f"addopts = {option} ")
    elif where == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", option)
    else:
        assert stranger.run("--falsify", option, others=others).ret == pytest.ExitCode.OK
    strict = ["--falsify-strict", option] if where == "strict" else []
    result = stranger.run("--falsify", *strict, others=others)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = "--falsify-strict demands all trials, and *" if strict else "*in addopts or PYTEST_ADDOPTS keeps --falsify *"
    result.stderr.fnmatch_lines([f"ERROR: {told}"])


def test_a_pipe_among_the_contracts_is_told_and_fails_a_strict_run(stranger: Stranger) -> None:
    os.mkfifo(stranger.path / "contracts" / "p.yaml")
    for options, code in (([], 0), (["--falsify-strict"], 1)):
        result = stranger.run("--falsify", *options)
        assert result.ret == code
        result.stdout.fnmatch_lines(["1 among the contracts not read (no regular file, *): contracts/p.yaml"])


def test_what_stops_a_run_leaves_trials_that_were_never_tried(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    result = stranger.run("--falsify", "-x")
    result.stdout.fnmatch_lines([f"2 of 3 trials never tried *: {NODE}[[]algorithm!no_modulus[]], *"])


def test_the_last_failed_alone_are_not_all(stranger: Stranger) -> None:
    stranger.write(OTHER, CONTRACT.replace("FALSIFY-SUM", "FALSIFY-OTHER"))
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    stranger.run("--falsify", f"{NODE}[algorithm]", others=["cacheprovider"])
    stranger.change("subject.py", "MODULUS = 253", "MODULUS = 251")
    result = stranger.run("--falsify", "--falsify-strict", "--lf", others=["cacheprovider"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED: --falsify-strict demands all trials*"])


# pytest-timeout


def test_a_trial_that_is_cut_off_by_a_signal_is_errored_with_its_replay_line(stranger: Stranger) -> None:
    stranger.change("attacks.py", DOC, HANG)
    options = ["--timeout=1", "--timeout-method=signal"]
    result = stranger.run("--falsify", "--record", *options, others=["timeout"])
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "ERRORED  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",
            "  Timeout *1*s*",
            f"  replay       pytest --falsify '{NODE}[[]algorithm[]]'",
            "broken    1 that could not be tried",
            f"BROKEN    {NODE}[[]algorithm[]]: Timeout *",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_items.py*")
    assert outcomes(stranger) == [("no_modulus", "FALSIFIED"), ("wrong_modulus", "FALSIFIED")]


def test_a_trial_that_is_cut_off_with_its_process_is_broken_and_costs_no_record_of_others(stranger: Stranger) -> None:
    stranger.change("attacks.py", DOC, HANG)
    options = ["--timeout=1", "--timeout-method=thread", "-n2"]
    result = stranger.run("--falsify", "--record", *options, others=["timeout"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"BROKEN    {NODE}[[]algorithm[]]: *crashed*"])
    assert outcomes(stranger) == [("no_modulus", "FALSIFIED"), ("wrong_modulus", "FALSIFIED")]


def test_a_timeout_that_a_falsifier_swallows_is_no_survival(stranger: Stranger) -> None:
    body = "    try:\n        import time; time.sleep(9)\n    except BaseException: pass\n    return"
    stranger.change("attacks.py", DOC, body)
    result = stranger.run("--falsify", "--timeout=1", f"{NODE}[algorithm]", others=["timeout"])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ERRORED *", "  observed     the falsifier made no comparison"])


# pytest-rerunfailures

LATER = """    import pathlib
    calls = pathlib.Path.cwd().with_suffix(".calls"); n = len(calls.read_text()) if calls.exists() else 0
    calls.write_text("x" * (n + 1)); trial.check(n > 1, "early")"""


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_a_real_rerun_that_passes_is_flaky_and_no_evidence(stranger: Stranger, workers: list[str]) -> None:
    stranger.change("attacks.py", DOC, LATER)
    options = ["--reruns=2", f"{NODE}[algorithm]", *workers]
    result = stranger.run("--falsify", "--record", *options, others=["rerunfailures"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"FLAKY     {NODE}[[]algorithm[]]: seed * gave FALSIFIED (early), then SURVIVED"])
    assert outcomes(stranger) == [("", "FLAKY")]


def test_a_rerun_of_what_is_always_broken_says_the_same(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    options = ["--reruns=2", f"{NODE}[algorithm]"]
    result = stranger.run("--falsify", "--record", *options, others=["rerunfailures"])
    result.stdout.fnmatch_lines([f"FALSIFIED {NODE}[[]algorithm[]]: checksum of 251: got 251, want 0"])
    assert outcomes(stranger) == [("", "FALSIFIED")]


# options


def test_failed_first_and_stepwise_work(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    stranger.write("contracts/sum.yaml", CONTRACT)
    first = stranger.run("--falsify", others=["cacheprovider"])
    first.assert_outcomes(passed=2, failed=1)
    stranger.run("--falsify", "--ff", "-x", others=["cacheprovider"]).assert_outcomes(failed=1)
    stepped = stranger.run("--falsify", "--sw", others=["cacheprovider"])
    stepped.assert_outcomes(failed=1)
    stranger.change("subject.py", "MODULUS = 253", "MODULUS = 251")
    stranger.run("--falsify", "--sw", others=["cacheprovider"]).assert_outcomes(passed=3)


def test_without_the_plugin_pytest_runs_as_if_it_were_not_installed(stranger: Stranger) -> None:
    result = stranger.run("-ppytester", "-pno:pv")
    result.assert_outcomes(passed=1)
    refused = stranger.run("--falsify", "-pno:pv")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def test_the_markers_are_listed_and_none_is_unknown(stranger: Stranger) -> None:
    result = stranger.run("--markers")
    for name in ("falsify", "mutant", "needs_model", "oracle"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{name}: *"])
    stranger.write("test_unit.py", "import pytest\n@pytest.mark.falsify\n@pytest.mark.oracle\ndef test_unit(): pass\n")
    stranger.run("--strict-markers").assert_outcomes(passed=1)


def test_what_a_falsifier_prints_is_captured_and_changes_no_verdict(stranger: Stranger) -> None:
    stranger.change("attacks.py", DOC, "    import sys; print('loud'); print('</testcase>', file=sys.stderr)")
    result = stranger.run("--falsify", "--record", "-rP", "--junitxml=out.xml")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["loud"])
    assert len(list(ElementTree.parse(stranger.path / "out.xml").iter("testcase"))) == 3
    stranger.run("--falsify", "-s").assert_outcomes(passed=3)


def test_a_warning_that_is_an_error_elsewhere_decides_no_trial(stranger: Stranger) -> None:
    stranger.change("attacks.py", DOC, "    import warnings; warnings.warn('old')")
    result = stranger.run("--falsify", "-Werror")
    assert "1 survived" in result.stdout.str()
    result.stdout.no_fnmatch_line("*pytest_items.py*")


# nothing of the plugin is shown


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("raise GeneratorExit('odd')", "GeneratorExit: odd"),
        ("raise type('Own', (BaseException,), {})('mine')", "attacks.Own: mine"),
        ("import pytest; pytest.exit('done', 0)", "_pytest.outcomes.Exit: done"),
        ("import os; os._exit(0)", "the falsifier called os._exit(0), which would have ended the run unseen"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("(lambda f: f(f))(lambda f: f(f))", "RecursionError: maximum recursion depth exceeded*"),
    ],
)
@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_a_falsifier_that_leaves_in_an_odd_way_is_errored_and_the_run_goes_on(
    stranger: Stranger, line: str, seen: str, workers: list[str]
) -> None:
    stranger.change("attacks.py", DOC, f"    if subject.MODULUS == 251:\n        {line}")
    result = stranger.run("--falsify", "--record", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "ERRORED  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",
            "  rule         the checksum is small",
            "  prediction   at most 250 for 4096 random bytes",
            f"  observed     {seen}",
            f"  replay       pytest --falsify '{NODE}[[]algorithm[]]'",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_items.py*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert outcomes(stranger) == [("no_modulus", "FALSIFIED"), ("wrong_modulus", "FALSIFIED")]


def test_the_worst_coordinate_stands_in_the_report(stranger: Stranger) -> None:
    close = "    import numpy as np; trial.close(np.float64([1, 5, 2]), np.float64([1, 2, 2]), 0.5, 'sums')"
    stranger.change("attacks.py", DOC, close)
    result = stranger.run("--falsify", f"{NODE}[algorithm]")
    result.stdout.fnmatch_lines(
        [
            "  observed     sums: max |difference| 3.0 at [[]1[]] (got 5.0, want 2.0), limit 0.5; 1 of 3 beyond it",
            '    sums: worst = {"at":[[]1[]],"beyond":1,"difference":"3.0","got":"5.0","want":"2.0"}',
        ]
    )


def test_a_contract_that_vanishes_during_the_run_is_told_and_not_recorded(stranger: Stranger) -> None:
    stranger.change("attacks.py", DOC, "    import pathlib; pathlib.Path('contracts/sum.yaml').unlink(missing_ok=True)")
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not recorded: *contracts/sum.yaml*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert not [name for name in stranger.evidence() if name.startswith("sum/")]


@pytest.mark.parametrize("damage", ["bytes", "link"])
def test_a_contract_that_cannot_be_read_is_a_collection_error_without_a_traceback(
    stranger: Stranger, damage: str
) -> None:
    file = Path("contracts/sum.yaml")
    if damage == "bytes":
        (stranger.path / file).write_bytes(b"metadata: \xff\xfe\n")
    else:
        (stranger.path / file).unlink()
        (stranger.path / file).symlink_to("nowhere.yaml")
    result = stranger.run("--falsify", str(file))
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    assert "contracts/sum.yaml" in result.stdout.str() + result.stderr.str()
    result.stdout.no_fnmatch_line("*pytest_items.py*")
    result.stdout.no_fnmatch_line("*Traceback*")


# a process that is killed


@pytest.mark.parametrize("workers", ["-n1", "-n2"])
def test_a_worker_that_is_killed_costs_no_record_of_others_and_is_red(stranger: Stranger, workers: str) -> None:
    kill = "    import os, signal; subject.MODULUS == 251 and os.kill(os.getpid(), signal.SIGKILL)"
    stranger.change("attacks.py", DOC, kill)
    result = stranger.run("--falsify", "--record", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(stranger) == [("no_modulus", "FALSIFIED"), ("wrong_modulus", "FALSIFIED")]


# what the plugin costs where nobody asks for it


def test_without_the_option_a_run_loads_two_modules_of_pv(stranger: Stranger) -> None:
    ours = "*sorted(name for name in sys.modules if name.partition('.')[0] == 'pv')"
    stranger.write("test_unit.py", f"import sys\ndef test_unit(): print('ours', {ours})\n")
    result = stranger.pytester.runpytest_subprocess("-pno:randomly", "-rP", "test_unit.py")
    result.stdout.fnmatch_lines(["ours pv pv.pytest_plugin"])
