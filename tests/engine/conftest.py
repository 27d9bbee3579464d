"""What the tests of `apr` share."""

import pytest

from engine.cli import main


@pytest.fixture
def apr(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder and gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call
