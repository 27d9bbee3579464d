import json
import re
import shutil

import pytest

from pv.cli import main
from pv.evidence.recording import keep
from tests.pv.evidence.test_merging import ARM, ON_ARM, files
from tests.pv.stranger import Stranger


@pytest.fixture
def recorded(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    monkeypatch.chdir(stranger.path)
    stranger.run("--falsify", "--record")
    return stranger


def pv(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(["evidence", *arguments])
    return (code, *capsys.readouterr())


def test_evidence_that_nobody_touched_verifies(recorded, capsys):
    code, out, err = pv(capsys, "verify")
    assert (code, err) == (0, "")
    assert re.fullmatch(
        r"evidence \S+: 1 runs, 1 heads, 3 records, 1 machines; 0 records released, 0 pending; "
        r"0 problems: the chain holds\n",
        out,
    )
    assert pv(capsys, "verify", "evidence")[0] == 0


def test_the_first_broken_link_is_named(recorded, capsys):
    place = sorted(recorded.records())[0]
    (recorded.path / "evidence" / place).unlink()
    code, out, _ = pv(capsys, "verify")
    assert code == 1
    assert out.splitlines()[0] == f"the first broken link is {recorded.path}/evidence/{place}"
    assert out.splitlines()[-1].endswith("1 problems: the chain does not hold")
    told = json.loads(pv(capsys, "verify", "--json")[1])
    assert (told["schema"], told["holds"], told["counts"]["problems"]) == ("pv-evidence/1", False, 1)
    assert told["problems"][0]["path"].endswith(place)


def test_without_the_weights_evidence_verifies_all_the_same(recorded, capsys, monkeypatch):
    monkeypatch.setenv("PV_MODELS", "/nowhere")
    assert pv(capsys, "verify")[0] == 0


def test_nothing_verified_is_not_green(recorded, capsys):
    code, _, err = pv(capsys, "verify", "none")
    assert code == 2
    assert err == "pv: none: no such folder: nothing was verified\n  hint: pytest --falsify --record\n"
    (recorded.path / "empty").mkdir()
    code, out, err = pv(capsys, "verify", "empty")
    assert (code, err) == (2, "pv: nothing was verified: empty holds no run\n")
    assert out.endswith("the chain is empty\n")


def test_a_folder_of_something_else_is_one_error_and_nothing_of_it_is_read(recorded, capsys, monkeypatch):
    other = recorded.path / "other"
    (other / "sum" / "FALSIFY-SUM-001").mkdir(parents=True)
    for name in ("README.md", "sum/x.json", "sum/FALSIFY-SUM-001/x.json"):
        (other / name).write_text("{}")
    (other / "sum" / "pipe").symlink_to("nowhere")
    what = (
        "is no folder of evidence: it holds neither _runs nor a record, and nothing was read\n  hint: name the folder"
    )
    told = f"pv: other: {what} that _runs lies in\n"
    before = files(recorded.path / "evidence")
    monkeypatch.setattr("pv.evidence.shelf.fill", lambda *_: pytest.fail("a file was read"))
    for arguments in (["verify", "other"], ["verify", "other", "--json"], ["merge", "other"]):
        assert pv(capsys, *arguments) == (2, "", told)
    assert pv(capsys, "merge", "evidence", "--into", "other") == (2, "", told)
    assert files(recorded.path / "evidence") == before
    code, out, err = pv(capsys, "verify", "pytest.ini")
    assert (code, out, err[:50]) == (2, "", "pv: pytest.ini: is no folder: nothing was verified")


@pytest.mark.parametrize("left", ["_runs", "sum", "_signatures"])
def test_foreign_files_in_a_folder_that_holds_anything_of_evidence_are_named(recorded, capsys, left):
    folder = recorded.path / "evidence"
    (folder / "_signatures").mkdir()
    for name in ("_runs", "sum", "_signatures"):
        if name != left:
            shutil.rmtree(folder / name)
    (folder / "README.md").write_text("a note")
    code, out, _ = pv(capsys, "verify")
    assert code == 1
    assert f"{folder}/README.md: is no statement" in out
    assert pv(capsys, "merge", "evidence", "--into", "new")[0] == 1


def test_merged_evidence_names_what_came_and_verifies(recorded, capsys):
    keep(recorded.path / "matrix", [ON_ARM], machine=ARM)
    code, out, _ = pv(capsys, "merge", "matrix")
    assert code == 0
    first, last = out.splitlines()
    assert first == "matrix: 1 runs and 1 records taken over"
    assert "2 runs, 2 heads, 4 records, 2 machines" in last
    assert pv(capsys, "merge", "matrix", "--into", "all")[0] == 0
    assert files(recorded.path / "all") == files(recorded.path / "matrix")


def test_a_source_that_does_not_verify_is_a_reject_and_one_that_is_missing_a_decline(recorded, capsys):
    keep(recorded.path / "matrix", [ON_ARM], machine=ARM)
    next((recorded.path / "matrix" / "_runs").iterdir()).unlink()
    code, _, err = pv(capsys, "merge", "matrix")
    assert code == 1
    assert "is a record that no run lists" in err
    assert pv(capsys, "merge", "nowhere")[0] == 2


def test_collecting_removes_what_no_level_rests_on(recorded, capsys):
    recorded.change("subject.py", "MODULUS = 251", "MODULUS = 251  # prime")
    recorded.run("--falsify", "--record")
    capsys.readouterr()
    before = files(recorded.path)
    code, out, _ = pv(capsys, "gc", "--dry-run")
    assert (code, out.startswith("3 of 6 records would be removed, ")) == (0, True)
    assert files(recorded.path) == before
    code, out, _ = pv(capsys, "gc")
    assert (code, out.startswith("3 of 6 records removed, ")) == (0, True)
    assert len(recorded.records()) == 3
    assert "3 records released" in pv(capsys, "verify")[1]
    assert pv(capsys, "gc")[1] == "0 of 3 records removed, 0 bytes\n"
    assert main(["status"]) == 0
    assert "PARTIAL" in capsys.readouterr().out


def test_nothing_is_collected_while_something_cannot_be_believed_or_bound(recorded, capsys):
    (recorded.path / "evidence" / "stray").write_text("")
    assert pv(capsys, "gc")[0] == 1
    (recorded.path / "evidence" / "stray").unlink()
    recorded.change("contracts/sum.yaml", "attacks:below_modulus", "attack:below_modulus")
    code, _, err = pv(capsys, "gc")
    assert code == 2
    assert err.startswith("pv: nothing is removed: FALSIFY-SUM-001 cannot be bound: ")
    assert len(recorded.records()) == 3
