import io
import os
import shutil
import sys

import pytest

from pv.binding import bind
from pv.cli import main
from pv.evidence.recording import keep
from tests.pv.test_binding import project, recorded
from tests.pv.verdicts import GOOD

OLD = GOOD + "falsification_tests:\n- {id: T-1, expected: p, fails_if: f}\n"
READERS = ("coverage", "obligations", "equations", "graph", "migrate")
JUDGES = ("status", "promote")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in a project with evidence, with its contract on standard input."""
    config, contract = project(tmp_path)
    keep(config.evidence, recorded(bind(contract, contract.tests[0], config), config))
    monkeypatch.chdir(tmp_path)

    text = contract.path.read_bytes()

    def run(*arguments, data=text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("command", READERS)
def test_standard_input_is_read_once_and_as_a_file_is(run, tmp_path, command):
    shutil.rmtree(tmp_path / "evidence")
    code, *told = run(command, "contracts/checksum-v1.yaml")
    told = [text.replace("contracts/checksum-v1.yaml", "<stdin>").replace("checksum-v1", "<stdin>") for text in told]
    assert run(command, "-", "-") == (code, *told)
    assert told[0]


@pytest.mark.parametrize("command", READERS)
def test_an_empty_standard_input_is_not_measured(run, command):
    code, _, err = run(command, "-", data=b"")
    assert (code, err) == (2, "pv: <stdin>: not measured: holds no contract: it is empty\n")


def test_standard_input_has_no_evidence_whatever_the_project_keeps(run):
    assert "with evidence" not in run("coverage", "-")[1]
    assert "no evidence" in run("coverage", "-")[1]
    assert "no evidence" not in run("coverage", "contracts/checksum-v1.yaml")[1]


def test_what_is_due_on_standard_input_is_printed_and_never_written(run, tmp_path):
    (tmp_path / "old.yaml").write_text(OLD)
    code, out, err = run("migrate", "-", data=OLD.encode())
    assert (code, err) == (1, "")
    assert out == run("migrate", "old.yaml")[1].replace("old.yaml", "<stdin>")
    code, out, err = run("migrate", "--write", "-", data=OLD.encode())
    assert (code, out) == (2, "")
    assert err == (
        "pv: -: is standard input: --write has no file to edit\n"
        "  hint: name the file, or leave out --write: that prints what would change\n"
    )


@pytest.mark.parametrize("command", JUDGES)
def test_who_judges_by_evidence_refuses_standard_input(run, command):
    hint = "  hint: name the contract's file; a file of the name - is ./-\n"
    refusal = "pv: -: is standard input, and evidence is about files\n" + hint
    assert run(command, "-") == (2, "", refusal)
    assert run(command, "contracts", "-") == (2, "", refusal)


@pytest.mark.parametrize("command", [*READERS, *JUDGES])
def test_a_pattern_means_what_matches_it(run, command):
    found = run(command, "contracts/*.yaml")
    assert found == run(command, "contracts/checksum-v1.yaml")
    assert found[1]
    assert run(command, "cont*") == run(command, "contracts")


@pytest.mark.parametrize("command", [*READERS, *JUDGES])
def test_a_pattern_that_matches_nothing_is_told(run, command):
    code, _, err = run(command, "contracts/y*.yaml")
    reason = "" if command in JUDGES else "not measured: "
    assert (code, err) == (2, f"pv: contracts/y*.yaml: {reason}matches no file\n")


@pytest.mark.parametrize("command", JUDGES)
def test_a_pattern_takes_no_pipe_for_a_contract(run, tmp_path, command):
    os.mkfifo(tmp_path / "contracts/pipe.yaml")
    code, _, err = run(command, "contracts/*.yaml")
    reason = "is no regular file: it is read only if it is named itself"
    assert (code, err) == (2, f"pv: contracts/pipe.yaml: {reason}\n")


@pytest.mark.parametrize("command", JUDGES)
def test_a_file_with_the_name_of_a_pattern_is_that_file(run, tmp_path, command):
    (tmp_path / "contracts/checksum-v1.yaml").rename(tmp_path / "contracts/[c].yaml")
    assert "contracts 1;" in run(command, "contracts/[c].yaml")[1]
