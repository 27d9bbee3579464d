"""The hook for pre-commit and the action for GitHub: both are data that only a run can show to be right."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cheating import Repository

ROOT = Path(__file__).parents[1]
PV = Path(sys.executable).with_name("pv")
RIGHT = "metadata: {version: 1.0.0, kind: pattern, description: d, references: [r]}\n"
WRONG = "metadata: {version: 1.0.0, kind: pattern, description: d, references: []}\n"

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def contracts(tmp_path):
    folder = tmp_path / "contracts"
    folder.mkdir()
    (folder / "right.yaml").write_text(RIGHT)
    (folder / "wrong.yaml").write_text(WRONG)
    (folder / "with space.yaml").write_text(RIGHT)
    return tmp_path


def hooked(cwd, *names):
    """What pre-commit runs: the entry, its arguments, and as many names as fit on a command line."""
    command, *arguments = HOOK["entry"].split()
    assert command == "pv"
    return subprocess.run(
        [PV, *arguments, *HOOK.get("args", []), *names], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_hook_accepts_a_right_contract_and_rejects_a_wrong_one(contracts):
    assert hooked(contracts, "contracts/right.yaml", "contracts/with space.yaml").returncode == 0
    done = hooked(contracts, "contracts/right.yaml", "contracts/wrong.yaml")
    assert done.returncode == 1
    assert "contracts/wrong.yaml:1:59: error SCHEMA-001: metadata.references names no source" in done.stdout


def test_the_hook_fails_if_one_of_its_invocations_does(contracts):
    codes = [hooked(contracts, f"contracts/{name}.yaml").returncode for name in ("right", "wrong", "with space")]
    assert codes == [0, 1, 0]


def test_the_hook_sees_all_contracts_at_once_and_no_other_file():
    assert HOOK["require_serial"] is True
    assert (HOOK["language"], HOOK["types"], HOOK.get("pass_filenames", True)) == ("python", ["yaml"], True)

    def taken(path):
        return bool(re.search(HOOK["files"], path)) and not re.search(HOOK["exclude"], path)

    assert [path for path in ("contracts/a.yaml", "x/contracts/y/a.yml") if not taken(path)] == []
    others = ("a.yaml", "mycontracts/a.yaml", "contracts/binding.yaml", "contracts/x-playbook.yaml", "evidence/a.yaml")
    assert [path for path in others if taken(path)] == []


STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
EVENT = {"github.event.pull_request.number": "7"}


def acted(cwd, step="Validate", /, **inputs):
    """Run a step of the action as GitHub would, with its defaults where no input is given."""
    given = {name: inputs.get(name.replace("-", "_"), entry["default"]) for name, entry in ACTION["inputs"].items()}
    environment = {**os.environ, "PV_CACHE_DIR": os.devnull}
    for name, value in STEPS[step]["env"].items():
        named = re.fullmatch(r"\$\{\{ (?:inputs\.([a-z-]+)|(github\.[a-z_.]+)) \}\}", value)
        assert named, f"{name} is no input"
        environment[name] = EVENT[named[2]] if named[2] else given[named[1]]
    programs = cwd / "temp" / "pv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, target in (("pv", PV), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
        (programs / name).chmod(0o755)
    environment["RUNNER_TEMP"] = str(cwd / "temp")
    environment["PATH"] = f"{cwd / 'bin'}{os.pathsep}{environment['PATH']}"
    environment["GITHUB_STEP_SUMMARY"] = str(cwd / "temp" / "summary.md")
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEPS[step]["run"]],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_action_annotates_a_wrong_contract_and_fails(contracts):
    done = acted(contracts)
    assert done.returncode == 1
    assert "::error file=contracts/wrong.yaml,line=1," in done.stdout


def test_the_action_accepts_right_contracts_one_path_on_each_line(contracts):
    done = acted(contracts, paths="contracts/right.yaml\n\ncontracts/with space.yaml\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 accepted" in done.stdout


def test_the_action_takes_white_space_off_each_path(contracts):
    done = acted(contracts, paths="  contracts/right.yaml\t\r\n \t\r\n\t contracts/with space.yaml  \r\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 accepted" in done.stdout


def test_the_action_writes_sarif_and_fails_for_a_wrong_contract_which_the_log_shows(contracts):
    done = acted(contracts, format="sarif", sarif_file="out file.sarif")
    assert (done.returncode, done.stderr) == (1, "")
    assert "contracts/wrong.yaml:1:59: error SCHEMA-001: metadata.references names no source" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("reject: 3 files: 2 accepted, 1 rejected; ")
    results = json.loads((contracts / "out file.sarif").read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results if result["level"] == "error"] == ["SCHEMA-001"]


def test_the_log_of_an_action_that_writes_sarif_says_what_was_accepted_and_what_was_not_measured(contracts):
    done = acted(contracts, format="sarif", paths="contracts/right.yaml")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "accept")
    done = acted(contracts, format="sarif", paths="contracts/right.yaml\ngone.yaml")
    assert done.returncode == 2
    assert "gone.yaml: not measured: cannot be read: No such file or directory" in done.stdout
    assert json.loads((contracts / "pv.sarif").read_text())["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_wrong_settings_are_told_once_by_an_action_that_writes_sarif(contracts):
    (contracts / "pyproject.toml").write_text("[tool.pv]\ncontract = 'c'\n")
    done = acted(contracts, format="sarif")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("[tool.pv] has no key 'contract'") == 1


@pytest.mark.parametrize(
    "inputs",
    [
        {"paths": "$(touch hacked)`touch hacked`; touch hacked #"},
        {"paths": "'; touch hacked; '"},
        {"paths": "--write-baseline"},
        {"format": "github; touch hacked"},
        {"format": "sarif", "sarif_file": "$(touch hacked).sarif", "paths": "contracts/right.yaml"},
        {"paths": ""},
    ],
)
def test_the_inputs_of_the_action_are_data_and_never_run(contracts, inputs):
    done = acted(contracts, **inputs)
    assert not (contracts / "hacked").exists()
    by_default = inputs == {"paths": ""}  # then the contracts of the project are meant, of which one is wrong
    assert done.returncode == (0 if "sarif_file" in inputs else 1 if by_default else 2)


def test_the_page_uploads_what_the_action_wrote_where_it_rejects_too():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").split("## In a GitHub workflow\n")[1]
    blocks = [block for block in re.findall(r"(?:^    .*\n|^\n)+", page, re.MULTILINE) if "upload-sarif" in block]
    job = yaml.safe_load(blocks[0])
    ours, upload = job["steps"]
    assert ours["with"] == {"format": "sarif"}
    assert upload["if"] == "always()"
    assert upload["with"] == {"sarif_file": ACTION["inputs"]["sarif-file"]["default"]}
    assert job["permissions"]["security-events"] == "write"


def test_no_input_stands_in_a_script_of_the_action():
    scripts = [step["run"] for step in ACTION["runs"]["steps"]]
    assert list(STEPS) == ["Install pv", "Validate", "Falsify", "Gate", "Comment"]
    assert [script for script in scripts if "${{" in script] == []
    assert '"$GITHUB_ACTION_PATH"' in scripts[0]  # the package is that of the action itself


@pytest.fixture
def earned(pytester, monkeypatch):
    """A repository in which every level is earned, at `base`; its workflow's files lie aside."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(pytester.path)
    repository = Repository(pytester)
    repository.write(".gitignore", "__pycache__\ntemp\nbin\npv-comment.md\n.pytest_cache\n")
    repository.base = repository.commit()
    return repository


def test_the_action_tries_to_break_the_promises(earned):
    done = acted(earned.path, "Falsify", falsify="yes")
    assert done.returncode == 0, done.stdout
    assert "trials    3 executed: 3 survived" in done.stdout
    earned.change("helper.py", ("'251'", "'253'"))
    assert acted(earned.path, "Falsify", falsify="yes").returncode == 1
    (earned.path / "tiny.gguf").unlink()
    earned.change("helper.py", ("'253'", "'251'"))
    assert acted(earned.path, "Falsify", falsify="yes").returncode == 0
    assert acted(earned.path, "Falsify", falsify="strict").returncode == 1
    assert acted(earned.path, "Falsify", falsify="true").returncode == 2


def test_the_action_rejects_what_a_branch_takes_away(earned):
    done = acted(earned.path, "Gate", base=earned.base)
    assert done.returncode == 0, done.stdout + done.stderr
    earned.contract(("limit: 250", "limit: 9999"), version="2.0.0")
    earned.settle()
    done = acted(earned.path, "Gate", base=earned.base)
    assert done.returncode == 1
    assert "::error file=contracts/sum-v1.yaml" in done.stdout
    assert "GATE-TOLERANCE" in done.stdout


def test_the_action_rejects_evidence_that_was_tampered_with(earned):
    next((earned.folder / "sum-v1" / "FALSIFY-SUM-001").iterdir()).unlink()
    done = acted(earned.path, "Gate", base=earned.base)
    assert done.returncode == 1
    assert "the first broken link is" in done.stdout


def test_the_action_writes_the_comment_and_posts_it_where_that_is_asked_for(earned):
    earned.change("helper.py", ("'251'", "'257'"))
    (earned.path / "bin").mkdir()
    (earned.path / "bin" / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > temp/gh\n')
    (earned.path / "bin" / "gh").chmod(0o755)
    done = acted(earned.path, "Comment", base=earned.base)
    assert done.returncode == 0, done.stderr
    comment = (earned.path / "pv-comment.md").read_text()
    assert "GATE-DEMOTION" in comment
    assert "STALE" in comment
    assert (earned.path / "temp" / "summary.md").read_text() == comment
    assert not (earned.path / "temp" / "gh").exists()
    done = acted(earned.path, "Comment", base=earned.base, comment="yes")
    assert done.returncode == 0, done.stderr
    asked = (earned.path / "temp" / "gh").read_text().split()
    assert asked == ["pr", "comment", "7", "--body-file", "pv-comment.md", "--edit-last", "--create-if-none"]
    assert acted(earned.path, "Comment", base=earned.base, comment="perhaps").returncode == 2


@pytest.mark.parametrize("base", ["$(touch hacked)", "--json; touch hacked", "`touch hacked`"])
def test_the_base_that_the_action_is_given_is_data_and_never_run(earned, base):
    assert acted(earned.path, "Gate", base=base).returncode == 2
    acted(earned.path, "Comment", base=base)
    assert not (earned.path / "hacked").exists()


def test_each_step_of_the_action_runs_when_its_input_asks_for_it():
    conditions = {name: step.get("if") for name, step in STEPS.items()}
    assert conditions == {
        "Install pv": None,
        "Validate": None,
        "Falsify": "${{ !cancelled() && inputs.falsify != 'no' }}",
        "Gate": "${{ !cancelled() && inputs.base != '' }}",
        "Comment": "${{ !cancelled() && inputs.base != '' }}",
    }


def test_the_page_shows_a_workflow_whose_inputs_the_action_has():
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"(?:^    .*\n|^\n)+", page, re.MULTILINE) if "falsify:" in block]
    job = yaml.safe_load(blocks[0])
    (ours,) = (step for step in job["steps"] if "OWNER/REPOSITORY" in step["uses"])
    assert set(ours["with"]) <= set(ACTION["inputs"])
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}
