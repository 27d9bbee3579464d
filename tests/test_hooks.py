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


def acted(cwd, **inputs):
    """Run the action's last step as GitHub would, with its defaults where no input is given."""
    step = ACTION["runs"]["steps"][-1]
    given = {name: inputs.get(name.replace("-", "_"), entry["default"]) for name, entry in ACTION["inputs"].items()}
    environment = dict(os.environ)
    for name, value in step["env"].items():
        named = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)
        assert named, f"{name} is no input"
        environment[name] = given[named[1]]
    program = cwd / "temp" / "pv" / "bin" / "pv"
    program.parent.mkdir(parents=True, exist_ok=True)
    if not program.exists():
        program.symlink_to(PV)
    environment["RUNNER_TEMP"] = str(cwd / "temp")
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
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
    assert done.returncode == (0 if "sarif_file" in inputs else 2)


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
    assert len(scripts) == 2
    assert [script for script in scripts if "${{" in script] == []
    assert '"$GITHUB_ACTION_PATH"' in scripts[0]  # the package is that of the action itself
