from pathlib import Path

import pytest

from tests.pv.stranger import NODE, Stranger

HELPERS = """
LEFT = [3, 4]

def compare(trial, subject):
    total = sum(LEFT)
    assert total == subject.checksum(b"x")
    trial.equal(subject.checksum(b"x"), 120, "checksum")
"""
CHECKS = """
import subject
from checks import helpers
from pv.trial import mutant, patched

def holds(trial):
    helpers.compare(trial, subject)

@mutant
def no_modulus():
    "Forgets the modulus."
    with patched(subject, "MODULUS", 7):
        yield
"""


@pytest.fixture
def packaged(stranger: Stranger) -> Stranger:
    """The stranger keeps his falsifiers in a package, with helpers beside them."""
    (stranger.path / "checks").mkdir()
    stranger.write("checks/__init__.py", "")
    stranger.write("checks/helpers.py", HELPERS)
    stranger.write("checks/sums.py", CHECKS)
    stranger.change("contracts/sum.yaml", "attacks:below_modulus", "checks.sums:holds")
    stranger.change("contracts/sum.yaml", "[no_modulus, wrong_modulus]", "[no_modulus]")
    return stranger


def tried(stranger: Stranger, *options: str) -> pytest.RunResult:
    return stranger.run("--falsify", f"{NODE}[algorithm]", *options)


@pytest.mark.parametrize("options", [(), ("--tb=native",), ("--full-trace",), ("-l", "-vv")])
def test_an_assert_in_a_helper_tells_its_values_and_no_frame_of_pv(packaged: Stranger, options: tuple[str]) -> None:
    result = tried(packaged, *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "ERRORED  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",
            "  observed     AssertionError: assert 7 == 120 + where 120 = <function checksum *",
            '*File "checks/helpers.py", line 6, in compare',
            "    AssertionError: assert 7 == 120",
            "     +  where 120 = <function checksum *",
        ]
    )
    pv = str(Path(__file__).parents[2] / "pv")
    assert pv not in result.stdout.str()
    result.stdout.no_fnmatch_line("*pytest_items*")


def test_where_pytest_rewrites_nothing_or_the_module_says_no_the_assert_is_plain(packaged: Stranger) -> None:
    # in a process of its own: where this run has no hook, that of the tests around it would be asked
    result = packaged.pytester.runpytest_subprocess("--falsify", f"{NODE}[algorithm]", "--assert=plain")
    result.stdout.fnmatch_lines(["  observed     AssertionError"])
    packaged.write("checks/helpers.py", '"""PYTEST_DONT_REWRITE"""\n' + HELPERS)
    tried(packaged).stdout.fnmatch_lines(["  observed     AssertionError"])


def test_a_module_that_a_conftest_has_imported_stays_as_it_is_without_a_warning(packaged: Stranger) -> None:
    packaged.write("conftest.py", "import checks.sums\n")
    result = tried(packaged, "-W", "error")
    result.assert_outcomes(failed=1, warnings=0)
    result.stdout.fnmatch_lines(["  observed     AssertionError"])


def test_the_subject_runs_as_it_is_written(packaged: Stranger) -> None:
    packaged.write("subject.py", "def checksum(data):\n    assert len(data) == 7\n    return 7\n\nMODULUS = 251\n")
    tried(packaged).stdout.fnmatch_lines(["  observed     AssertionError"])


def test_what_numba_compiles_stays_as_it_is_written(packaged: Stranger) -> None:
    jitted = "from numba import njit\n\n@njit\ndef third(x):\n    assert x > 0\n    return x // 3\n"
    packaged.write("checks/helpers.py", jitted + HELPERS.replace("sum(LEFT)", "third(360)"))
    tried(packaged).assert_outcomes(passed=1)


def test_the_evidence_is_the_same_with_and_without(packaged: Stranger) -> None:
    packaged.change("checks/helpers.py", "LEFT = [3, 4]", "LEFT = [60, 60]")
    packaged.change("checks/helpers.py", "assert total ==", "assert total > 0 or")
    packaged.pytester.runpytest_subprocess("--falsify", "--record", "--assert=plain", "-pno:randomly")
    records = packaged.records()
    assert len(records) == 2
    result = packaged.run("--falsify", "--record")
    result.stdout.fnmatch_lines(["evidence: 2 recorded in evidence (0 new)"])
    assert packaged.records() == records
