"""A started command, and the same command with a defect planted."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pv.cli
from pv.account import account_of
from pv.planted import Finished
from pv.trial import Trial, mutant, patched

HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}


@mutant
def another_version() -> Iterator[None]:
    """Says another version."""
    with patched(importlib.metadata, "version", lambda name: "9.9.9"):
        yield


@mutant
def crashing() -> Iterator[None]:
    """Makes the command end in a traceback."""
    with patched(pv.cli, "build_parser", None):
        yield


@mutant
def nosy() -> Iterator[None]:
    """Lets the command say what it was started with."""
    with patched(pv.cli, "main", lambda: sys.stdout.write(f"{sys.argv}\n") and 0):
        yield


def start(trial: Trial, *arguments: object) -> Finished:
    return trial.start("pv", "pv.cli:main", *arguments, env=HERE)


def planted(name: str) -> Trial:
    return Trial(seed=0, mutant=f"{__name__}:{name}")


def test_without_a_mutant_it_is_the_installed_command_in_the_trials_folder() -> None:
    trial = Trial(seed=0)
    done = start(trial, "--version")
    assert (done.code, done.out, done.err) == (0, f"pv {importlib.metadata.version('pv-contracts')}\n", "")
    assert list(trial.folder.iterdir()) == []


def test_a_command_that_fails_gives_its_exit_code_and_its_last_line() -> None:
    done = start(Trial(seed=0), "validate", "no-such.yaml")
    assert done.code == 2
    assert "no-such.yaml" in done.err + done.out


@pytest.mark.parametrize(
    ("finished", "line"),
    [
        (Finished(1, "a\nb\n", "c\nd\n"), "d"),
        (Finished(1, "a\nb\n", " \n"), "b"),
        (Finished(1, "", ""), "no output"),
    ],
)
def test_the_last_line_is_that_of_the_errors_or_else_of_the_output(finished: Finished, line: str) -> None:
    assert finished.last_line == line


def test_a_mutant_is_planted_in_the_process_of_the_command_and_nowhere_else() -> None:
    assert start(planted("another_version"), "--version").out == "pv 9.9.9\n"
    assert start(Trial(seed=0), "--version").out == f"pv {importlib.metadata.version('pv-contracts')}\n"


def test_a_planted_command_cannot_see_that_it_is_one() -> None:
    assert start(planted("nosy"), "a", 1).out == "['pv', 'a', '1']\n"


def test_a_target_without_a_function_is_its_main() -> None:
    assert planted("nosy").start("pv", "pv.cli", env=HERE).out == "['pv']\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crashing", r"crashing makes pv crash: TypeError: 'NoneType' object is not callable$"),
        ("nothing", r"nothing makes pv crash: AttributeError: .* 'nothing'$"),
    ],
)
def test_a_mutant_that_makes_the_command_crash_is_an_error_not_a_caught_defect(name: str, message: str) -> None:
    trial = planted(name)
    with pytest.raises(RuntimeError, match=message):
        start(trial, "--version")
    assert str(account_of(trial).invalid).startswith(f"mutant {__name__}:{name} makes pv crash: ")


def test_the_exit_code_of_a_planted_command_is_that_of_the_command() -> None:
    command = [sys.executable, "-m", "pv.planted", f"{__name__}:another_version", "pv", "pv.cli:main"]
    for arguments, code in ((["--version"], 0), (["validate", "no-such.yaml"], 2)):
        done = subprocess.run([*command, *arguments], capture_output=True, check=False, cwd=HERE["PYTHONPATH"])
        assert done.returncode == code


def test_a_command_that_runs_another_copy_of_the_code_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"^the installed pv does not run this project's only_here: `pip install"):
        Trial(seed=0).start("pv", "only_here:main")
