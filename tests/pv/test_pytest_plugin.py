"""`pytest --falsify` as its users meet it, in a stranger's repository: module, contract, falsifiers, no [tool.pv]."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from pv import attempt
from pv.binding import seed_of
from pv.evidence.folder import read
from pv.trial import Trial
from tests.pv.kept import read_all
from tests.pv.stranger import CONTRACT, FALSIFIERS, LIVE, NODE, SECOND, Stranger

# off by default


def test_without_the_option_contracts_are_not_collected(stranger: Stranger) -> None:
    result = stranger.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*falsification*")


def test_without_the_option_the_plugin_imports_nothing_but_itself(stranger: Stranger) -> None:
    def told(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    heavy = ["numba", "numpy", "yaml", "engine", "jsonschema", "pv.runner", "pv.pytest_items", "pv.pytest_session"]
    assert (
        told(
            f"import sys, pytest; pytest.main(['-q', '-pno:randomly']); print([m for m in {heavy} if m in sys.modules])"
        )
        == "[]"
    )
    new = "import pytest, sys; old = set(sys.modules); import pv.pytest_plugin; print(sorted(set(sys.modules) - old))"
    assert told(new) == "['pv', 'pv.pytest_plugin']"


@pytest.mark.parametrize(
    "options", [["--record"], ["--falsify-strict"], ["--falsify-seed", "0"], ["--falsify-evidence", "x"]]
)
def test_an_option_that_would_do_nothing_is_a_usage_error(stranger: Stranger, options: list[str]) -> None:
    result = stranger.run(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {options[0]} does nothing without --falsify"])


def test_an_evidence_folder_without_recording_is_a_usage_error(stranger: Stranger) -> None:
    result = stranger.run("--falsify", "--falsify-evidence", "x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --falsify-evidence does nothing without --record"])


def test_a_picked_seed_is_never_recorded(stranger: Stranger) -> None:
    result = stranger.run("--falsify", "--falsify-seed", "0", "--record")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --falsify-seed does not go with --record: evidence is what came of*own*"])
    assert stranger.evidence() == {}


@pytest.mark.parametrize("seed", ["-1", "x", "4294967296"])
def test_a_seed_that_is_none_is_a_usage_error(stranger: Stranger, seed: str) -> None:
    result = stranger.run("--falsify", f"--falsify-seed={seed}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*: error: argument --falsify-seed: a seed is a whole number from 0 to 4294967295, not '{seed}'"]
    )


# collection


def test_only_the_contracts_are_collected_and_every_trial_is_a_node(stranger: Stranger) -> None:
    result = stranger.run("--falsify", "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[:3] == [
        f"{NODE}[algorithm]",
        f"{NODE}[algorithm!no_modulus]",
        f"{NODE}[algorithm!wrong_modulus]",
    ]
    result.stdout.no_fnmatch_line("*test_unit*")
    result.stdout.fnmatch_lines(["contracts 1; tests 2 declared, 1 bound, none executed (--collect-only)"])


def test_the_configured_folder_is_collected_whatever_testpaths_says(stranger: Stranger) -> None:
    (stranger.path / "contracts").rename(stranger.path / "promises")
    stranger.write("pyproject.toml", '[tool.pv]\ncontracts = "promises"\n')
    stranger.write("pytest.ini", "[pytest]\ntestpaths = test_unit.py\n")
    result = stranger.run("--falsify", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["promises/sum.yaml::FALSIFY-SUM-001[[]algorithm[]] PASSED*"])


def test_a_missing_folder_of_contracts_is_a_usage_error(stranger: Stranger) -> None:
    (stranger.path / "contracts").rename(stranger.path / "promises")
    result = stranger.run("--falsify")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: contracts: there is no such folder of contracts", "*hint: name the contracts*"]
    )


@pytest.mark.parametrize(
    ("arguments", "passed", "deselected"),
    [
        (["contracts/sum.yaml"], 3, 0),
        (["contracts"], 3, 0),
        (["."], 4, 0),  # with the unit test
        ([f"{NODE}[algorithm]"], 1, 0),
        ([f"{NODE}[algorithm!no_modulus]"], 1, 0),
        ([NODE], 3, 0),
        (["-k", "no_modulus"], 1, 2),
        (["-m", "not mutant"], 1, 2),
        (["-m", "falsify"], 3, 0),
        (["--deselect", f"{NODE}[algorithm]"], 2, 1),
    ],
)  # fmt: skip
def test_trials_are_chosen_as_tests_are(stranger: Stranger, arguments: list[str], passed: int, deselected: int) -> None:
    result = stranger.run("--falsify", *arguments)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=passed, deselected=deselected)


def test_what_pv_validate_takes_for_no_contract_is_collected_for_none_and_capitals_are(stranger: Stranger) -> None:
    stranger.write("contracts/binding.yaml", "a: 1\n")
    (stranger.path / "contracts" / "sum.yaml").rename(stranger.path / "contracts" / "sum.YAML")
    stranger.run("--falsify").assert_outcomes(passed=3)


def test_a_yaml_that_is_no_contract_is_left_alone_unless_it_is_named(stranger: Stranger) -> None:
    stranger.write("other.yaml", "a: 1\n")
    stranger.run("--falsify", ".").assert_outcomes(passed=4)
    result = stranger.run("--falsify", "other.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metadata:", "metadata: [", "contracts/sum.yaml:*"),
        ("  references: [none needed]\n", "  references: []\n", "contracts/sum.yaml:*SCHEMA-001*"),
        ("FALSIFY-SUM-002", "FALSIFY-SUM-001", "contracts/sum.yaml:*SCHEMA-007*"),
    ],
)
def test_a_contract_with_errors_is_a_collection_error_with_its_line(
    stranger: Stranger, old: str, new: str, message: str
) -> None:
    stranger.change("contracts/sum.yaml", old, new)
    result = stranger.run("--falsify")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*pytest_items.py*")


@pytest.mark.parametrize("id", ["../../../pwned/T", "T" * 256])
def test_an_id_that_leads_out_of_the_folder_of_evidence_is_refused_and_nothing_is_written(
    stranger: Stranger, id: str
) -> None:
    stranger.change("contracts/sum.yaml", "FALSIFY-SUM-001", id)
    before = {*stranger.path.parent.rglob("*")}
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["contracts/sum.yaml:14:3: PV-RUN-012: the id * cannot name a folder of evidence"])
    new = {path.name for path in {*stranger.path.parent.rglob("*")} - before if path.is_file()}
    assert {name for name in new if not name.endswith(".pyc")} == set()


def test_two_contracts_of_one_name_are_a_collection_error(stranger: Stranger) -> None:
    (stranger.path / "contracts" / "deep").mkdir()
    stranger.write("contracts/deep/sum.yaml", CONTRACT)
    result = stranger.run("--falsify")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*has the same name as *sum.yaml: their evidence would be mixed"])


def nested(stranger: Stranger, name: str) -> None:
    """Move the repository into the folder `name` below, so that pytest starts in its parent."""
    (stranger.path / name).mkdir()
    for entry in ("contracts", "subject.py", "attacks.py"):
        (stranger.path / entry).rename(stranger.path / name / entry)


@pytest.mark.parametrize("target", ["deep/proj/contracts", "deep/proj", "deep", "deep/proj/contracts/sum.yaml"])
@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_a_contract_below_belongs_to_the_project_around_it(stranger: Stranger, target: str, workers: list[str]) -> None:
    (stranger.path / "deep").mkdir()
    nested(stranger, "deep/proj")
    stranger.write("deep/proj/pyproject.toml", "[tool.pv]\n")
    result = stranger.run("--falsify", "--record", target, *workers)
    if target == "deep":  # it names no folder of the project, so its contracts may be somebody's test data
        assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
        return
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["evidence: 3 recorded in deep/proj/evidence (3 new)"])


def test_a_project_below_that_cannot_be_read_is_an_error_only_where_it_is_named(stranger: Stranger) -> None:
    (stranger.path / "proj" / "contracts").mkdir(parents=True)
    stranger.write("proj/pyproject.toml", "[tool.pv]\ncontract = 1\n")
    stranger.write("proj/contracts/other.yaml", CONTRACT)
    stranger.run("--falsify", ".").assert_outcomes(passed=4)
    result = stranger.run("--falsify", "proj")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*proj/pyproject.toml: [[]tool.pv[]] has no key 'contract'"])
    result.stdout.no_fnmatch_line("*pytest_session.py*")


def test_a_run_that_finds_no_contract_says_where_it_looked(stranger: Stranger) -> None:
    nested(stranger, "proj")
    result = stranger.run("--falsify", "proj/contracts")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        [
            "contracts 0; tests 0 declared, 0 bound, 0 executed",
            "nothing was executed, so nothing is shown",
            "hint: this project's contracts lie in contracts; to run those of another, start pytest in its folder, or "
            "name their files and mark its folder with a pyproject.toml",
        ]
    )


# outcomes


def test_a_promise_that_holds_and_defects_that_are_noticed_pass(stranger: Stranger) -> None:
    result = stranger.run("--falsify")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*= falsification =*",
            "contracts 1; tests 2 declared, 1 bound, 1 executed",
            "trials    1 executed: 1 survived, 0 falsified, 0 errored, 0 flaky; 0 skipped",
            "mutants   2 executed: 2 killed, 0 survived, 0 errored, 0 flaky; 0 skipped",
            "evidence: not recorded (use --record)",
        ]
    )


def test_a_broken_promise_fails_and_says_all_that_is_needed(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    result = stranger.run("--falsify", f"{NODE}[algorithm]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*__ sum::FALSIFY-SUM-001[[]algorithm[]] __*",
            "FALSIFIED  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",
            "  rule         the checksum is small",
            "  prediction   at most 250 for 4096 random bytes",
            "  observed     checksum of 251: got 251, want 0",
            '    worst = {"at":[[]0[]],"value":*}',
            "  if it fails  the modulus is lost, look at subject.checksum",
            "  falsifier    attacks:below_modulus, seed *, 2 comparisons",
            f"  replay       pytest --falsify '{NODE}[[]algorithm[]]'",
            f"FALSIFIED {NODE}[[]algorithm[]]: checksum of 251: got 251, want 0",
            f"FAILED {NODE}[[]algorithm[]]*",
        ]
    )
    result.stdout.no_fnmatch_line("*Error*")
    result.stdout.no_fnmatch_line("*pytest_items*")


def test_the_replay_line_replays(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 400")
    first = stranger.run("--falsify", "--falsify-seed", "7", f"{NODE}[algorithm]")
    line = next(line for line in first.outlines if line.startswith("  replay"))
    assert line.endswith(f"pytest --falsify '{NODE}[algorithm]' --falsify-seed 7")
    again = stranger.run("--falsify", f"{NODE}[algorithm]", "--falsify-seed", "7")
    told = [[line for line in result.outlines if line.startswith("  observed")] for result in (first, again)]
    assert told[0] == told[1] != []


def test_a_planted_defect_that_is_not_noticed_fails(stranger: Stranger) -> None:
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND)
    result = stranger.run("--falsify")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "MUTANT SURVIVED  contracts/sum.yaml:29  FALSIFY-SUM-003[[]algorithm!no_modulus[]]",
            "  observed     the falsifier did not notice the planted defect no_modulus (Forgets the modulus.)",
            "mutants   3 executed: 2 killed, 1 survived, 0 errored, 0 flaky; 0 skipped",
            "SURVIVED  contracts/*no_modulus[]]: the falsifier did not notice the planted defect no_modulus (Forgets*",
        ]
    )


def test_an_error_in_a_falsifier_shows_the_authors_frames_only(stranger: Stranger) -> None:
    stranger.change("attacks.py", 'trial.equal(subject.checksum(b"\\xfa\\x01"), 0, "checksum of 251")', "missing()")
    result = stranger.run("--falsify", f"{NODE}[algorithm]")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "ERRORED  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",
            "  observed     NameError: name 'missing' is not defined",
            '*File "attacks.py", line 10, in below_modulus',
        ]
    )
    result.stdout.no_fnmatch_line("*runner.py*")


def test_a_falsifier_that_is_missing_fails_its_test_and_no_other(stranger: Stranger) -> None:
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND.replace("attacks:order", "attack:order"))
    result = stranger.run("--falsify")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "ERRORED  contracts/sum.yaml:29  FALSIFY-SUM-003",
            "contracts 1; tests 3 declared, 1 bound, 1 executed",
            "broken    1 that could not be tried",
            "BROKEN    contracts/sum.yaml::FALSIFY-SUM-003[[]binding[]]: contracts/sum.yaml:29: *attack*",
        ]
    )


def test_an_absent_model_skips_with_the_reason_and_fails_when_strict(stranger: Stranger) -> None:
    stranger.write("pyproject.toml", '[tool.pv]\nmodels = "models.yaml"\n')
    entry = f"{{about: a test, licence: CC0-1.0, sha256: {'ab' * 32}, size: 7, file: tiny.gguf}}"
    stranger.write("models.yaml", f"tiny: {entry}\n")
    stranger.write("contracts/sum.yaml", CONTRACT + LIVE)
    result = stranger.run("--falsify")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "trials    1 executed: 1 survived, 0 falsified, 0 errored, 0 flaky; 1 skipped",
            "1 skipped: model tiny is not on this machine; obtain it with `apr pull tiny`",
            "evidence: *",
            "SKIPPED [[]1[]] contracts/sum.yaml:29: model tiny is not on this machine*",
        ]
    )
    result = stranger.run("--falsify", "--falsify-strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, failed=1)


def test_each_reason_to_skip_is_listed_once_with_its_count(stranger: Stranger) -> None:
    stranger.change(
        "attacks.py",
        "    data = bytes",
        '    trial.skip("why" if subject.MODULUS == 251 else "mutant")\n    data = bytes',
    )
    for options in ([], ["-q"], ["-n2"]):
        lines = stranger.run("--falsify", *options).outlines
        at = lines.index("1 skipped: why")
        assert [line for line in lines if " skipped: " in line] == ["2 skipped: mutant", "1 skipped: why"]
        assert lines[at + 1].startswith("evidence: ")
        assert not [line for line in lines if line.startswith("SKIPPED   ")]


def test_nothing_executed_is_not_green(stranger: Stranger) -> None:
    stranger.change("attacks.py", "    data = bytes", '    trial.skip("not today")\n    data = bytes')
    result = stranger.run("--falsify")
    result.assert_outcomes(skipped=3)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["nothing was executed, so nothing is shown"])


def test_unit_tests_that_pass_do_not_make_up_for_trials_that_were_not_made(stranger: Stranger) -> None:
    result = stranger.run("--falsify", "test_unit.py")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_pytests_own_skip_and_fail_are_understood(stranger: Stranger) -> None:
    stranger.change("attacks.py", '    """The checksum is below 251."""', '    import pytest; pytest.skip("no oracle")')
    result = stranger.run("--falsify", f"{NODE}[algorithm]")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED [[]1[]] contracts/sum.yaml:14: no oracle"])
    stranger.change("attacks.py", 'pytest.skip("no oracle")', 'pytest.fail("Timeout >1s")')
    result = stranger.run("--falsify", "--record", f"{NODE}[algorithm]")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ERRORED  *", "  Timeout >1s", "broken    1 that *", "BROKEN *: Timeout >1s"])
    assert stranger.evidence() == {}


def test_quiet_is_quiet(stranger: Stranger) -> None:
    result = stranger.run("--falsify", "-q")
    result.stdout.no_fnmatch_line("*= falsification =*")
    result.stdout.fnmatch_lines(["contracts 1; tests 2 declared, 1 bound, 1 executed"])
    stranger.run("--falsify", "-qq").stdout.no_fnmatch_line("contracts 1;*")


def test_exitfirst_maxfail_durations_and_lastfailed_work(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    stranger.run("--falsify", "-x").assert_outcomes(failed=1)
    stranger.run("--falsify", "--maxfail=1").assert_outcomes(failed=1)
    result = stranger.run("--falsify", "--durations=3", "-vv")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([f"*s call * {NODE}*"])
    result = stranger.run("--falsify", others=["cacheprovider"])
    result.assert_outcomes(passed=2, failed=1)
    result = stranger.run("--falsify", "--lf", others=["cacheprovider"])
    result.assert_outcomes(failed=1)


def test_junitxml_carries_what_was_tried(stranger: Stranger) -> None:
    for workers in ([], ["-n2"]):
        stranger.run("--falsify", "--record", "--junitxml=out.xml", *workers)
        cases = list(ElementTree.parse(stranger.path / "out.xml").iter("testcase"))
        by_name = {case.get("name"): case for case in cases}
        assert sorted(map(str, by_name)) == [
            "FALSIFY-SUM-001[algorithm!no_modulus]",
            "FALSIFY-SUM-001[algorithm!wrong_modulus]",
            "FALSIFY-SUM-001[algorithm]",
        ]
        planted = by_name["FALSIFY-SUM-001[algorithm!no_modulus]"]
        properties = {tag.get("name"): tag.get("value") for tag in planted.iter("property")}
        digest = properties.pop("digest")
        assert properties == {
            "contract": "sum",
            "test": "FALSIFY-SUM-001",
            "level": "UNTESTED",
            "role": "algorithm",
            "model": "",
            "mutant": "no_modulus",
            "outcome": "FALSIFIED",
            "stage": "checksum",
        }
        assert f"sum/FALSIFY-SUM-001/{digest}.json" in stranger.evidence()


def properties(stranger: Stranger, name: str) -> dict[str | None, str | None]:
    cases = ElementTree.parse(stranger.path / "out.xml").iter("testcase")
    (case,) = [case for case in cases if case.get("name") == f"FALSIFY-SUM-001[{name}]"]
    return {tag.get("name"): tag.get("value") for tag in case.iter("property")}


def test_junitxml_tells_the_stated_level_and_where_the_first_comparison_failed(stranger: Stranger) -> None:
    stranger.change("contracts/sum.yaml", "status: UNTESTED", "status: partial")
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    stranger.run("--falsify", "--junitxml=out.xml")
    broken = properties(stranger, "algorithm")
    assert (broken["level"], broken["stage"]) == ("PARTIAL_ALGORITHM_LEVEL", "checksum of 251")
    assert properties(stranger, "algorithm!no_modulus")["stage"] == "checksum"
    stranger.change("subject.py", "MODULUS = 253", "MODULUS = 251")
    stranger.run("--falsify", "--junitxml=out.xml")
    held = properties(stranger, "algorithm")
    assert (held["outcome"], held["stage"]) == ("SURVIVED", "")


def test_a_case_that_came_to_no_trial_has_its_contract_test_and_level(stranger: Stranger) -> None:
    named = {"contract": "sum", "test": "FALSIFY-SUM-001", "level": "UNTESTED"}
    skipping = "def pytest_collection_modifyitems(items):\n for item in items: item.add_marker('skip')\n"
    stranger.write("conftest.py", skipping)
    stranger.run("--falsify", "--junitxml=out.xml")
    assert properties(stranger, "algorithm") == named
    stranger.write("conftest.py", "")
    stranger.change("contracts/sum.yaml", "attacks:below_modulus", "nowhere:below_modulus")
    stranger.run("--falsify", "--junitxml=out.xml")
    assert properties(stranger, "binding") == named


def test_a_mutant_counts_as_killed_only_beside_a_promise_that_did_not_fail(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 400")
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND.replace("attacks:order", "attacks:below_modulus"))
    result = stranger.run("--falsify")
    result.stdout.fnmatch_lines(
        [
            "trials    2 executed: 0 survived, 2 falsified, *",
            "mutants   3 executed: 0 killed, 0 survived, 0 errored, 0 flaky; 0 skipped; 3 red where the promise itself "
            "did not survive",
        ]
    )
    result = stranger.run("--falsify", "-m", "mutant")  # without the promise's own trial nothing is known of it
    result.stdout.fnmatch_lines(["mutants   3 executed: 3 killed, 0 survived, 0 errored, 0 flaky; 0 skipped"])


# recording


def test_recording_keeps_every_observation_as_evidence(stranger: Stranger) -> None:
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND)
    result = stranger.run("--falsify", "--record")
    result.stdout.fnmatch_lines(["evidence: 5 recorded in evidence (5 new)"])
    records, problems = read_all(stranger.path / "evidence")
    assert problems == []
    assert sorted((record.test, record.mutant or "", str(record.outcome)) for record in records) == [
        ("FALSIFY-SUM-001", "", "SURVIVED"),
        ("FALSIFY-SUM-001", "no_modulus", "FALSIFIED"),
        ("FALSIFY-SUM-001", "wrong_modulus", "FALSIFIED"),
        ("FALSIFY-SUM-003", "", "SURVIVED"),
        ("FALSIFY-SUM-003", "no_modulus", "SURVIVED"),
    ]


def test_recording_again_adds_a_run_that_came_after_the_first_and_no_record(stranger: Stranger) -> None:
    stranger.run("--falsify", "--record")
    before, (first,) = stranger.records(), read(stranger.path / "evidence").chain.heads
    result = stranger.run("--falsify", "--record")
    result.stdout.fnmatch_lines(["evidence: 3 recorded in evidence (0 new)"])
    assert stranger.records() == before != {}
    found = read(stranger.path / "evidence")
    (second,) = found.chain.heads
    assert (found.problems, list(found.chain.runs)) == ((), [first, second])
    assert found.chain.runs[second].parents == (first,)
    assert found.chain.runs[second].records.keys() == found.records.keys() == set(before)


def test_a_promise_that_does_not_hold_twice_alike_is_flaky_when_it_is_recorded(stranger: Stranger) -> None:
    stranger.change("attacks.py", 'trial.observe("worst"', 'import time; trial.observe("worst", time.time_ns() % 10**9')
    stranger.change("attacks.py", ', {"at": [0], "value": subject.checksum(data)})', ")")
    stranger.run("--falsify", f"{NODE}[algorithm]").assert_outcomes(passed=1)
    result = stranger.run("--falsify", "--record", f"{NODE}[algorithm]")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"FLAKY     {NODE}[[]algorithm[]]: seed * gave worst = *, then worst = *"])
    records, _ = read_all(stranger.path / "evidence")
    assert [str(record.outcome) for record in records] == ["FLAKY"]


def test_a_test_that_cannot_be_bound_keeps_no_other_from_being_recorded(stranger: Stranger) -> None:
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND.replace("attacks:order", "attack:order"))
    result = stranger.run("--falsify", "--record")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["evidence: 3 recorded in evidence (3 new)"])
    result.stdout.no_fnmatch_line("*not recorded*")


BACKWARDS = "def pytest_collection_modifyitems(items):\n    items[:] = items[::-1]\n"


@pytest.mark.parametrize("options", [["-n2"], ["-n2", "--dist=loadfile"], ["--falsify"]])
def test_the_bytes_of_evidence_depend_on_neither_workers_nor_order(stranger: Stranger, options: list[str]) -> None:
    stranger.write("contracts/sum.yaml", CONTRACT + SECOND)
    one = stranger.run("--falsify", "--record")
    before = stranger.records()
    (stranger.path / "evidence").rename(stranger.path / "first")
    if options == ["--falsify"]:
        stranger.write("conftest.py", BACKWARDS)
    two = stranger.run("--falsify", "--record", *options)
    assert stranger.records() == before != {}
    for result in (one, two):
        result.stdout.fnmatch_lines(
            ["contracts 1; tests 3 declared, 2 bound, 2 executed", "mutants   3 executed: 2 killed, 1 survived*"]
        )


@pytest.mark.parametrize("options", [[], ["--record", "--collect-only"]])
def test_nothing_is_written_unless_trials_are_recorded(stranger: Stranger, options: list[str]) -> None:
    stranger.run("--falsify", *options)
    assert not (stranger.path / "evidence").exists()


def test_an_interrupted_run_records_nothing(stranger: Stranger) -> None:
    stranger.write(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'teardown' and 'no_modulus' in report.nodeid: raise KeyboardInterrupt\n",
    )
    result = stranger.pytester.runpytest_inprocess("--falsify", "--record", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["evidence: not recorded (the run was interrupted)"])
    assert stranger.evidence() == {}


def test_a_run_that_stops_at_its_first_failure_records_that_failure(stranger: Stranger) -> None:
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    stranger.run("--falsify", "--record", "-x")
    records, _ = read_all(stranger.path / "evidence")
    assert [str(record.outcome) for record in records] == ["FALSIFIED"]


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("subject.py", "modulo 251", "modulo 999", "the falsifier or the code that it reaches changed while"),
        ("contracts/sum.yaml", "at most 250 for", "at most 999 for", "the contract changed while the trials ran"),
        ("contracts/sum.yaml", "at most 250 for", "[", "contracts/sum.yaml:17:"),
        ("contracts/sum.yaml", "  status: UNTESTED", "  status: FUNCTIONAL", ""),
        ("contracts/sum.yaml", "a sentence", "another sentence", ""),
    ],
)
def test_what_changed_while_the_trials_ran_is_not_recorded(
    stranger: Stranger, file: str, old: str, new: str, what: str
) -> None:
    stranger.write(
        "attacks.py", FALSIFIERS.replace("trial.observe", f"change({file!r}, {old!r}, {new!r}); trial.observe")
    )
    with (stranger.path / "attacks.py").open("a", encoding="utf-8") as stream:
        stream.write(
            "\ndef change(name, old, new):\n    import subprocess, sys\n"
            "    code = 'import sys, pathlib; name, old, new = sys.argv[1:]; file = pathlib.Path(name);'\n"
            "    code += 'file.write_text(file.read_text().replace(old, new))'\n"
            "    subprocess.run([sys.executable, '-c', code, name, old, new], check=True)\n"
        )
    result = stranger.run("--falsify", "--record")
    if not what:
        assert result.ret == pytest.ExitCode.OK
        assert len(stranger.records()) == 3
        return
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"{NODE}[[]algorithm[]]: not recorded: {what}*"])
    assert stranger.records() == {}


def test_an_evidence_folder_that_cannot_be_written_is_not_green(stranger: Stranger) -> None:
    stranger.write("evidence", "a file")
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*the run cannot be kept: *"])


def test_errors_and_skips_are_never_recorded(stranger: Stranger) -> None:
    stranger.change("attacks.py", '    """The checksum is below 251."""', "    raise OSError")
    result = stranger.run("--falsify", "--record")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["evidence: nothing recorded, for nothing was observed"])
    assert stranger.records() == {}


RERUNNING = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for last in (False, True):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if report.when == "call" and not last:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
ONCE = "    import builtins; n = builtins.pv_calls = getattr(builtins, 'pv_calls', 0) + 1; trial.check(n > 2, 'early')"


def test_a_rerun_that_passes_after_a_failure_is_flaky(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.pv_calls", 0, raising=False)
    stranger.write("conftest.py", RERUNNING)
    stranger.change("attacks.py", '    """The checksum is below 251."""', ONCE)
    result = stranger.run("--falsify", "--record", f"{NODE}[algorithm]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "FLAKY  contracts/sum.yaml:14  FALSIFY-SUM-001[[]algorithm[]]",  # pytest was told, not only the summary
            f"FLAKY     {NODE}[[]algorithm[]]: seed * gave FALSIFIED (early), then SURVIVED",
        ]
    )
    records, _ = read_all(stranger.path / "evidence")
    assert [str(record.outcome) for record in records] == ["FLAKY"]


def test_outcomes_of_one_node_that_differ_are_flaky_whoever_reported_them(stranger: Stranger) -> None:
    stranger.write(
        "conftest.py",
        "import copy, json, pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'call' and '!' not in report.nodeid and report.outcome == 'passed':\n"
        "        other = copy.copy(report); other.outcome = 'rerun'\n"
        "        content = json.loads(report.pv_trial)\n"
        "        content['record'] |= {'outcome': 'FALSIFIED', 'message': 'elsewhere'}\n"
        "        other.pv_trial = json.dumps(content)\n"
        "        from pv.pytest_seal import seal\n"  # as another worker would send it
        "        key = CONFIG.pluginmanager.getplugin('pv-falsification').key\n"
        "        other.pv_seal = seal(key, other.nodeid, other.pv_trial)\n"
        "        CONFIG.hook.pytest_runtest_logreport(report=other)\n"
        "def pytest_configure(config):\n"
        "    global CONFIG; CONFIG = config\n",
    )
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FLAKY *: seed * gave *, then *"])
    assert sorted(str(record.outcome) for record in read_all(stranger.path / "evidence")[0]) == [
        "FALSIFIED",
        "FALSIFIED",
        "FLAKY",
    ]


def test_a_killed_worker_costs_no_record_of_others(stranger: Stranger) -> None:
    stranger.change(
        "attacks.py",
        '    """The checksum is below 251."""',
        "    import os; subject.MODULUS == 251 and os.kill(os.getpid(), 9)",
    )
    result = stranger.run("--falsify", "--record", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"BROKEN    {NODE}[[]algorithm[]]: *crashed*"])
    records, problems = read_all(stranger.path / "evidence")
    assert sorted(str(record.mutant) for record in records) == ["no_modulus", "wrong_modulus"]
    assert problems == []


def test_numbas_cache_is_empty_while_evidence_is_recorded(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    told = "    import os, pathlib; print(f'cache={os.environ[\"NUMBA_CACHE_DIR\"]}.')"
    stranger.change("attacks.py", '    """The checksum is below 251."""', told)
    for options, want in (([], "mine"), (["--record"], "*pv-numba-*"), (["--record", "-n1"], "*pv-numba-*")):
        stranger.run("--falsify", "-rP", *options).stdout.fnmatch_lines([f"cache={want}."])
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"


def test_evidence_is_the_json_that_it_says(stranger: Stranger) -> None:
    stranger.run("--falsify", "--record")
    statements = [json.loads(data) for data in stranger.records().values()]
    assert {statement["predicate"]["pv_trial"]["seed"] for statement in statements} == {
        seed_of("sum", "FALSIFY-SUM-001", "algorithm", None)
    }
    assert {statement["predicate"]["result"] for statement in statements} == {"PASSED"}


def test_a_contract_outside_belongs_to_its_own_project(
    stranger: Stranger, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path_factory.mktemp("away")
    (away / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    monkeypatch.chdir(away)
    (stranger.path / ".git").mkdir()
    result = stranger.run("--falsify", "--record", str(stranger.path / "contracts" / "sum.yaml"))
    result.assert_outcomes(passed=3)
    assert len(stranger.records()) == 3
    assert list(Path(away).iterdir()) == [away / "pytest.ini"]


# artifacts

HEAD = '    """The checksum is below 251."""\n'


def keeping(stranger: Stranger, store: str) -> None:
    """Let the promise put out something that is to be kept."""
    stranger.change("attacks.py", HEAD, f'{HEAD}    trial.output("sum", b"%d" % subject.checksum(b"ab"), keep=True)\n')
    stranger.write("pyproject.toml", f'[tool.pv]\nstore = "{store}"\n' if store else "[tool.pv]\n")


def stored(stranger: Stranger) -> list[bytes]:
    return [file.read_bytes() for file in (stranger.path / "store").rglob("*") if file.is_file()]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")])
def test_what_a_trial_keeps_lies_in_the_store_once_it_is_recorded(stranger: Stranger, workers: tuple[str, ...]) -> None:
    keeping(stranger, f"file://{stranger.path}/store")
    assert stranger.run("--falsify", *workers).ret == 0
    assert stored(stranger) == []
    assert stranger.run("--falsify", "--record", *workers).ret == 0
    assert stored(stranger) == [b"195"]
    found = read(stranger.path / "evidence")
    assert found.problems == ()
    assert [dict(record.artifacts) for record in found.records.values() if not record.mutant] == [{"sum": 3}]
    assert [dict(record.artifacts) for record in found.records.values() if record.mutant] == [{}, {}]


def test_without_a_store_only_the_digest_is_kept(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping(stranger, "")
    kept: list[Path | None] = []

    def kept_by(**told: Any) -> Trial:
        kept.append(told["keeping"])
        return Trial(**told)

    monkeypatch.setattr(attempt, "Trial", kept_by)
    assert stranger.run("--falsify", "--record").ret == 0
    (record,) = (record for record in read(stranger.path / "evidence").records.values() if not record.mutant)
    assert (len(record.outputs["sum"]), record.artifacts) == (64, {"sum": 3})
    assert kept
    assert set(kept) == {None}


def test_a_trial_whose_artifact_does_not_arrive_is_not_recorded_and_the_others_are(stranger: Stranger) -> None:
    keeping(stranger, f"file://{stranger.path}/store")
    stranger.write("store", "a file where a folder should be")
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            f"{NODE}[[]algorithm[]]: not recorded: file://*store/sha256/*: artifact 'sum': the store cannot be used: *",
            "evidence: 2 recorded in evidence (2 new)",
        ]
    )


def test_a_store_that_cannot_be_used_at_all_ends_the_run_before_it_begins(stranger: Stranger) -> None:
    keeping(stranger, "nonsense://x")
    result = stranger.run("--falsify", "--record")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: nonsense://x: [[]tool.pv[]] store cannot be used: *", "  hint: *"])
    assert stranger.evidence() == {}
    assert stranger.run("--falsify").ret == 0
