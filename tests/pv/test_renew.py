import json
import re

import pytest

from pv.cli import main
from tests.pv.verdicts import ERROR, GOOD, WARNING, files


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.pv]\nbaseline = "known.json"\ncontracts = "."\n')
    return tmp_path


def pv(capsys, *args):
    code = main(["validate", *args])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def entries(project):
    return [(entry["rule"], entry["count"]) for entry in json.loads((project / "known.json").read_text())["findings"]]


def test_a_baseline_accepts_what_was_there_and_rejects_what_comes(project, capsys):
    files(project, x=ERROR)
    assert pv(capsys, ".")[0] == 2
    assert pv(capsys, ".")[2].startswith(f"pv: {project}/known.json: there is no such baseline\n")
    code, lines, err = pv(capsys, ".", "--write-baseline")
    assert (code, err) == (0, "pv: known.json: 1 known, 1 added, 0 taken out\n")
    assert lines == pv(capsys, ".")[1]
    assert lines[0].endswith("; 0 tests declared, 0 bound; 1 finding known from the baseline")

    files(project, y=ERROR)
    code, lines, _ = pv(capsys, ".")
    assert (code, lines[0]) == (1, "y.yaml:2:17: error SCHEMA-004: equation 'e' has no formula")
    before = (project / "known.json").read_bytes()
    assert pv(capsys, ".", "--write-baseline")[0] == 1  # an existing one does not grow by itself
    assert (project / "known.json").read_bytes() == before
    code, _, err = pv(capsys, ".", "--write-baseline", "--accept-new")
    assert (code, err) == (0, "pv: known.json: 2 known, 1 added, 0 taken out\n")


def test_a_known_finding_that_moves_stays_known(project, capsys):
    files(project, x=ERROR)
    pv(capsys, ".", "--write-baseline")
    files(project, x="# a line more\n" + ERROR)
    assert pv(capsys, ".")[0] == 0


def test_what_was_mended_is_told_and_taken_out(project, capsys):
    files(project, x=ERROR, y=WARNING)
    pv(capsys, ".", "--write-baseline")
    assert entries(project) == [("SCHEMA-004", 1), ("SCHEMA-009", 1)]
    files(project, x=GOOD)
    code, lines, _ = pv(capsys, ".")
    assert code == 0
    assert re.match(r"known\.json:2:1: warning PV-SUP-003: SCHEMA-004 does not occur any more in x\.yaml: ", lines[0])
    assert pv(capsys, "y.yaml")[1][0].startswith("accept: ")  # this run did not see x.yaml
    assert pv(capsys, ".", "--write-baseline")[2] == "pv: known.json: 1 known, 0 added, 1 taken out\n"
    assert entries(project) == [("SCHEMA-009", 1)]
    files(project, x=ERROR)
    assert pv(capsys, ".")[0] == 1


def test_a_file_that_cannot_be_parsed_is_never_known(project, capsys):
    files(project, x="a: [")
    assert pv(capsys, ".", "--write-baseline")[0] == 1
    assert entries(project) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.yaml", "--write-baseline"], "pv: known.json: nothing was measured, so no baseline is written\n"),
        (["x.yaml", "--accept-new"], "pv: --accept-new means nothing without --write-baseline\n"),
    ],
)
def test_a_baseline_of_nothing_is_refused_and_nothing_is_written(project, capsys, args, message):
    files(project, x=ERROR)
    code, _, err = pv(capsys, *args)
    assert (code, err) == (2, message)
    assert not (project / "known.json").exists()


def test_standard_input_has_no_place_in_a_baseline(project, capsys, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ERROR.encode())))
    assert pv(capsys, "-", "--write-baseline")[::2] == (
        2,
        "pv: known.json: standard input lies nowhere, so no baseline can hold it\n",
    )
