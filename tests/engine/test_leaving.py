"""Tests of engine.leaving: the output is written, the exit code is given, and nothing is waited for."""

import os
import subprocess
import sys

import pytest

CODE = """
import atexit, sys
from engine.leaving import leave
atexit.register(lambda: print("not said"))
print("said", end="")
sys.stderr.write("told")
leave({code})
"""


@pytest.mark.parametrize("code", [0, 2])
def test_output_is_written_and_the_process_ends_at_once(code):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(code=code)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "said", "told")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_reason_to_stay(closed):
    command = f"exec {sys.executable} -c 'from engine.leaving import leave; leave(3)' {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 3


def test_the_console_script_leaves(monkeypatch):
    from engine import cli

    left = []
    monkeypatch.setattr(cli, "leave", left.append)
    monkeypatch.setattr(cli, "main", lambda: 7)
    cli.program()
    assert left == [7]
