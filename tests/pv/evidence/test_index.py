import os
import time
from dataclasses import replace

import pytest

from pv.evidence import folder as reading
from pv.evidence import index as module
from pv.evidence.folder import read
from pv.evidence.recording import keep
from pv.outcome import Outcome
from tests.pv.evidence.test_folder import BASE

MANY = [replace(BASE, seed=seed, test=f"T-{seed % 3}") for seed in range(9)]


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """A folder of evidence that was read once, some time after it was written."""
    monkeypatch.setenv("PV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "RACY_NS", 0)
    keep(tmp_path / "evidence", MANY)
    time.sleep(0.02)  # a tick of the file system's clock
    read(tmp_path / "evidence")
    return tmp_path / "evidence"


@pytest.fixture
def filled(monkeypatch):
    """The tests whose records are read from their files."""
    seen = []
    original = reading.fill

    def fill(folder, home, names):
        seen.append(home)
        return original(folder, home, names)

    monkeypatch.setattr(reading, "fill", fill)
    return seen


def test_what_was_read_is_not_read_again_and_is_the_same(remembered, filled):
    again, anew = read(remembered), read(remembered, remember=False)
    assert filled == [f"byte-format-v1/T-{number}" for number in range(3)]
    assert again.records == anew.records
    assert again.chain == anew.chain
    assert again.problems == anew.problems == ()


def test_only_the_folder_that_changed_is_read_again(remembered, filled):
    keep(remembered, [replace(BASE, seed=99, test="T-1")])
    assert len(read(remembered).records) == 10
    assert filled == ["byte-format-v1/T-1"]


@pytest.mark.parametrize("same_size", [True, False])
def test_an_edited_file_is_read_again_even_with_its_old_size_and_time(remembered, same_size):
    path = next((remembered / "byte-format-v1" / "T-2").iterdir())
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data.replace(b"SURVIVED", b"SURVIVES") if same_size else data + b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (problem,) = read(remembered).problems
    assert problem.path == str(path)
    assert problem.why.startswith("was changed after it was written")


def test_a_removed_file_and_a_removed_folder_are_missed(remembered):
    for path in (remembered / "byte-format-v1" / "T-2").iterdir():
        path.unlink()
    (remembered / "byte-format-v1" / "T-2").rmdir()
    assert len(read(remembered).problems) == 3
    assert {problem.why[:10] for problem in read(remembered).problems} == {"is missing"}


def test_a_removed_run_is_missed(remembered):
    keep(remembered, [BASE])
    first = next(iter(read(remembered).chain.runs))
    (remembered / "_runs" / f"{first}.json").unlink()
    assert any(first in problem.path for problem in read(remembered).problems)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-20], lambda data: b"\xff" * 100])
def test_a_damaged_index_is_no_error_and_is_made_anew(remembered, filled, damage):
    (index,) = (remembered.parent / "cache" / "evidence").glob("*.index")
    index.write_bytes(damage(index.read_bytes()))
    assert len(read(remembered).records) == 9
    assert len(filled) == 3
    assert len(read(remembered).records) == 9
    assert len(filled) == 3


def test_an_edited_entry_of_the_index_is_not_believed(remembered, filled):
    (index,) = (remembered.parent / "cache" / "evidence").glob("*.index")
    data = index.read_bytes()
    assert b"SURVIVED" in data
    index.write_bytes(data.replace(b"SURVIVED", Outcome.FALSIFIED.value[:8].encode()))
    assert {record.outcome for record in read(remembered).records.values()} == {Outcome.SURVIVED}
    assert filled


def test_an_index_that_other_sources_of_pv_wrote_is_not_believed(remembered, filled, monkeypatch):
    monkeypatch.setattr(module, "key", lambda: "pv-other")
    read(remembered)
    assert len(filled) == 3


def test_what_was_written_a_moment_ago_is_not_remembered(tmp_path, filled, monkeypatch):
    monkeypatch.setenv("PV_CACHE_DIR", str(tmp_path / "cache"))
    keep(tmp_path / "evidence", MANY)
    read(tmp_path / "evidence")
    read(tmp_path / "evidence")
    assert len(filled) == 6


def test_damage_is_never_remembered(remembered, filled):
    path = next((remembered / "byte-format-v1" / "T-0").iterdir())
    data = path.read_bytes()
    path.write_bytes(b"x")
    time.sleep(0.02)
    assert len(read(remembered).problems) == 1
    path.write_bytes(data)
    assert read(remembered).problems == ()


def test_only_some_folders_are_remembered_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "RACY_NS", 0)
    monkeypatch.setattr(module, "MAX_FILES", 2)
    for name in "abc":
        keep(tmp_path / name, [BASE])
    time.sleep(0.02)
    for name in "abc":
        read(tmp_path / name)
    assert len(list((tmp_path / "cache" / "evidence").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PV_CACHE_DIR", os.devnull)
    keep(tmp_path, MANY)
    assert len(read(tmp_path).records) == 9
