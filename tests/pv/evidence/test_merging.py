from dataclasses import replace

import pytest

from pv.errors import PvError
from pv.evidence.collecting import idle, release
from pv.evidence.folder import read
from pv.evidence.machine import Machine
from pv.evidence.merging import BrokenEvidenceError, merge
from pv.evidence.recording import keep
from tests.pv.evidence.test_folder import BASE

ARM = Machine(cores=("0x41 8 0x3 0xd40 1",), cpu="Neoverse", architecture="aarch64", system="Linux")
THERE = {"cores": "0x41 8 0x3 0xd40 1", "cpu": "Neoverse", "machine": "aarch64", "system": "Linux"}
ON_ARM = replace(BASE, environment={**BASE.environment, **THERE})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_runs_of_other_machines_are_taken_over_with_their_records(tmp_path):
    keep(tmp_path / "here", [BASE])
    keep(tmp_path / "there", [ON_ARM], machine=ARM)
    keep(tmp_path / "there", [ON_ARM, replace(ON_ARM, seed=8)], machine=ARM)
    (done,) = merge(tmp_path / "here", [tmp_path / "there"])
    assert (done.runs, done.records) == (2, 2)
    found = read(tmp_path / "here")
    assert found.problems == ()
    assert len(found.chain.heads) == 2
    assert {run.machine for run in found.chain.runs.values()} >= {ARM}
    assert files(tmp_path / "there").items() <= files(tmp_path / "here").items()


def test_merging_again_adds_nothing(tmp_path):
    keep(tmp_path / "here", [BASE])
    keep(tmp_path / "there", [ON_ARM], machine=ARM)
    merge(tmp_path / "here", [tmp_path / "there"])
    before = files(tmp_path / "here")
    (done,) = merge(tmp_path / "here", [tmp_path / "there"])
    assert (done.runs, done.records) == (0, 0)
    assert files(tmp_path / "here") == before


def test_a_folder_that_does_not_exist_yet_takes_all(tmp_path):
    keep(tmp_path / "there", [BASE])
    merge(tmp_path / "new", [tmp_path / "there"])
    assert files(tmp_path / "new") == files(tmp_path / "there")


def test_released_records_stay_released(tmp_path):
    keep(tmp_path / "there", [BASE, replace(BASE, seed=8)])
    evidence = read(tmp_path / "there")
    release(evidence, idle(evidence, {evidence.of(BASE.contract, BASE.test)[0][0].digest}))
    merge(tmp_path / "new", [tmp_path / "there"])
    assert read(tmp_path / "new").problems == ()
    assert files(tmp_path / "new") == files(tmp_path / "there")


def test_nothing_is_taken_from_any_source_if_one_does_not_verify(tmp_path):
    keep(tmp_path / "good", [BASE])
    keep(tmp_path / "bad", [ON_ARM], machine=ARM)
    (record,) = (tmp_path / "bad" / BASE.contract / BASE.test).iterdir()
    record.write_bytes(record.read_bytes() + b" ")
    with pytest.raises(BrokenEvidenceError, match=rf"^{record}: was changed after it was written: .*\n  hint: `pv e"):
        merge(tmp_path / "here", [tmp_path / "good", tmp_path / "bad"])
    assert not (tmp_path / "here").exists()


def test_nothing_is_merged_into_what_does_not_verify(tmp_path):
    keep(tmp_path / "good", [BASE])
    (tmp_path / "here" / "_runs").mkdir(parents=True)
    (tmp_path / "here" / "stray").write_text("")
    with pytest.raises(BrokenEvidenceError, match=r"here/stray: is no statement"):
        merge(tmp_path / "here", [tmp_path / "good"])
    (tmp_path / "here" / "_runs").rmdir()
    with pytest.raises(PvError, match=r"here: is no folder of evidence"):
        merge(tmp_path / "here", [tmp_path / "good"])
    assert files(tmp_path / "here") == {"stray": b""}


@pytest.mark.parametrize(
    ("source", "why"),
    [("none", "no such folder"), ("empty", "holds no run of evidence"), ("here", "is the folder that is merged into")],
)
def test_a_source_that_can_give_nothing_is_an_error(tmp_path, source, why):
    keep(tmp_path / "here", [BASE])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PvError, match=rf"{source}: {why}"):
        merge(tmp_path / "here", [tmp_path / source])


def test_folders_that_verify_alone_and_not_together_are_not_merged(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "ab" * size)
    keep(tmp_path / "here", [BASE])
    keep(tmp_path / "there", [ON_ARM], machine=ARM)
    before = files(tmp_path / "here")
    with pytest.raises(BrokenEvidenceError, match=r"a copy: together they do not verify, and nothing was written"):
        merge(tmp_path / "here", [tmp_path / "there"])
    assert files(tmp_path / "here") == before
