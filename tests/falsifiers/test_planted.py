"""Tests of falsifiers.planted: the installed command, and the same command with a defect planted."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import engine.cli
from falsifiers.planted import Finished, command
from pv.trial import Trial, mutant, patched

MUTANT = "falsifiers.aprt_files:big_endian_header"


def test_without_a_mutant_it_is_the_installed_command_in_the_trial_s_folder():
    trial = Trial(seed=0)
    done = command(trial, "apr", "engine.cli", "--version")
    assert (done.code, done.out, done.err) == (0, f"apr {version('pv-contracts')}\n", "")
    assert list(trial.folder.iterdir()) == []


def test_a_command_that_fails_gives_its_exit_code_and_its_last_line():
    done = command(Trial(seed=0), "apr", "engine.cli", "inspect", "no-such.gguf")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("apr: no-such.gguf: ")
    assert done.last_line.strip().startswith("hint: registered: ")


@pytest.mark.parametrize(
    ("finished", "line"),
    [
        (Finished(1, "a\nb\n", "c\nd\n"), "d"),
        (Finished(1, "a\nb\n", " \n"), "b"),
        (Finished(1, "", ""), "no output"),
    ],
)
def test_the_last_line_is_that_of_the_errors_or_else_of_the_output(finished, line):
    assert finished.last_line == line


def test_the_environment_is_passed_on_and_added_to(tmp_path):
    done = command(Trial(seed=0), "apr", "engine.cli", "pull", "smollm2-135m-x", env={"PV_MODELS": str(tmp_path)})
    assert done.code == 2
    done = command(Trial(seed=0), "apr", "engine.cli", "inspect", "smollm2-135m", env={"PV_MODELS": str(tmp_path)})
    assert str(tmp_path) in done.err


def header(trial, folder):
    """The layer field of a tensor file that `apr trace` writes in this trial."""
    options = ["--save-tensor", "attn_norm", "--layer", "1..2", "--output", folder, "--path", "reference"]
    done = command(trial, "apr", "engine.cli", "trace", "tiny-qwen2", *options)
    assert done.code == 0, done.err
    return (folder / "layer-1/attn_norm.bin").read_bytes()[4:8]


def test_a_mutant_is_planted_in_the_process_of_the_command_and_nowhere_else(tmp_path):
    assert header(Trial(seed=0, mutant=MUTANT), tmp_path / "mutant") == b"\0\0\0\1"
    assert header(Trial(seed=0), tmp_path / "plain") == b"\1\0\0\0"


def test_a_mutant_that_does_not_exist_is_no_quiet_success():
    trial = Trial(seed=0, mutant="falsifiers.aprt_files:nothing")
    with pytest.raises(RuntimeError, match=r"^mutant \S+:nothing makes apr crash: AttributeError: .* 'nothing'$"):
        command(trial, "apr", "engine.cli", "--version")


def test_the_exit_code_of_a_planted_command_is_that_of_the_command():
    arguments = [sys.executable, "-m", "falsifiers.planted", MUTANT, "engine.cli", "inspect"]
    assert subprocess.run([*arguments, "no-such.gguf"], capture_output=True, check=False).returncode == 2
    done = subprocess.run([*arguments, "--json"], capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == "apr-inspect/1"


@mutant
def crashing():
    """Makes the command end in a traceback."""
    with patched(engine.cli, "build_parser", None):
        yield


def test_a_mutant_that_makes_the_command_crash_is_an_error_not_a_caught_defect():
    trial = Trial(seed=0, mutant=f"{__name__}:crashing")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with pytest.raises(RuntimeError, match=r"crashing makes apr crash: TypeError: 'NoneType' object is not callable$"):
        command(trial, "apr", "engine.cli", "inspect", env=environment)
