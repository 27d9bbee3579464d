import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence import recording
from pv.evidence.folder import read
from pv.evidence.recording import complete_all, keep, put
from pv.evidence.run import run_bytes
from pv.evidence.unfinished import bundle, unbundle
from pv.statement import statement_bytes
from tests.pv.evidence.test_folder import BASE
from tests.pv.kept import read_all

MANY = [replace(BASE, seed=seed, test=f"T-{seed % 5}") for seed in range(20)]


def test_a_record_kept_twice_is_one_file_that_is_left_alone(tmp_path):
    keep(tmp_path, [BASE])
    path = tmp_path / "byte-format-v1" / "FALSIFY-BF-001" / f"{sha256(statement_bytes(BASE))}.json"
    inode = path.stat().st_ino
    written = keep(tmp_path, [BASE])
    assert (written.records, written.new) == (1, 0)
    assert path.stat().st_ino == inode
    assert read_all(tmp_path) == ([BASE], [])


def test_eight_runs_at_once_lose_nothing_and_duplicate_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda part: keep(tmp_path, MANY[part : part + 13]), range(8)))
    found = read(tmp_path)
    assert found.problems == ()
    assert len(found.records) == 20
    assert {one.run for one in written} == set(found.chain.runs)
    assert keep(tmp_path, [BASE]).new == 1
    assert len(read(tmp_path).chain.heads) == 1


def test_a_run_that_observed_nothing_is_not_kept(tmp_path):
    with pytest.raises(PvError, match=r"a run that observed nothing is not kept$"):
        keep(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    pass


def kill_at(monkeypatch, step):
    """Die at the n-th step that puts something into the folder or takes something out of it."""
    left = [step]

    def dying(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "mkdir", dying(os.mkdir))
    monkeypatch.setattr(os, "unlink", dying(os.unlink))


@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_kill_at_any_step_leaves_a_chain_that_holds_and_the_next_run_goes_on(tmp_path, monkeypatch, step):
    keep(tmp_path, MANY[:3])
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        killed = False
        try:
            keep(tmp_path, MANY)
        except Killed:
            killed = True
    found = read(tmp_path)
    assert found.problems == ()
    assert killed is bool(found.notes) or not found.notes
    keep(tmp_path, [BASE])
    after = read(tmp_path)
    assert (after.problems, after.notes) == ((), ())
    assert len(after.records) in (4, 21)
    if found.notes:
        assert len(after.records) == 21


def test_what_only_an_unfinished_run_lists_supports_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 14)
        with pytest.raises(Killed):
            keep(tmp_path, MANY)
    found = read(tmp_path)
    assert found.records
    assert found.chain.pending == found.records.keys()
    assert all(kept.runs == () for test in range(5) for kept in found.of("byte-format-v1", f"T-{test}")[0])
    assert found.notes[0].endswith(".pending was left by a run that was interrupted: recording again completes it")


def test_a_full_disk_is_an_error_and_the_next_run_completes_the_one_that_met_it(tmp_path, monkeypatch):
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PvError, match=r"No space left on device\n  hint: what is missing is completed by the next"):
            keep(tmp_path, MANY)
    assert read(tmp_path).problems == ()
    keep(tmp_path, [BASE])
    assert len(read(tmp_path).records) == 21
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / BASE.contract).write_text("a file where a folder should be")
    with pytest.raises(PvError, match=r"\.json: the statement cannot be written: "):
        keep(tmp_path, [BASE])
    (tmp_path / "evidence").write_text("")
    with pytest.raises(PvError, match=r"\.pending: the run cannot be kept: "):
        keep(tmp_path / "evidence", [BASE])


@pytest.mark.parametrize(
    "place", ["evidence", "evidence/_runs", "evidence/byte-format-v1", "evidence/byte-format-v1/FALSIFY-BF-001"]
)
def test_evidence_is_never_written_through_a_symbolic_link(tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PvError, match=rf"{place}: is a symbolic link: evidence is never written through one$"):
        keep(tmp_path / "evidence", [BASE])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_clock_that_was_set_back_dates_no_run_before_what_it_came_after(tmp_path, monkeypatch):
    keep(tmp_path, [BASE])
    (first,) = read(tmp_path).chain.runs.values()
    monkeypatch.setattr(recording, "now", lambda: "2001-01-01T00:00:00Z")
    keep(tmp_path, [BASE])
    found = read(tmp_path)
    assert found.problems == ()
    assert [run.time for run in found.chain.runs.values()] == [first.time, first.time]


def test_a_damaged_file_of_a_record_is_put_right_by_observing_it_again(tmp_path):
    keep(tmp_path, [BASE])
    (path,) = (tmp_path / BASE.contract / BASE.test).iterdir()
    path.write_bytes(b"x")
    keep(tmp_path, [BASE])
    assert read_all(tmp_path) == ([BASE], [])


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: data + b"{}\n", lambda data: b"", lambda data: b"x\n" + data]
)
def test_a_damaged_unfinished_run_is_named_and_never_completed(tmp_path, damage):
    run = run_bytes(_run_of(tmp_path / "source"))
    pending = tmp_path / "evidence" / "_runs" / f"{sha256(run)}.pending"
    pending.parent.mkdir(parents=True)
    pending.write_bytes(damage(bundle(run, [statement_bytes(BASE)])))
    assert len(read(tmp_path / "evidence").problems) == 1
    with pytest.raises(PvError, match=r"\.pending: .*\n  hint: .*remove the file and record again$"):
        complete_all(tmp_path / "evidence")


def _run_of(folder):
    keep(folder, [BASE])
    return next(iter(read(folder).chain.runs.values()))


def test_an_unfinished_run_under_another_name_is_never_completed(tmp_path):
    run = run_bytes(_run_of(tmp_path / "source"))
    pending = tmp_path / "_runs" / f"{'ab' * 32}.pending"
    pending.parent.mkdir(parents=True)
    pending.write_bytes(bundle(run, [statement_bytes(BASE)]))
    with pytest.raises(PvError, match=r"holds another run than its name says"):
        complete_all(tmp_path)


def test_a_run_can_be_put_into_another_folder_as_it_is(tmp_path):
    run = run_bytes(_run_of(tmp_path / "one"))
    data = statement_bytes(BASE)
    _, records = unbundle(bundle(run, [data]))
    put(tmp_path / "two", run, records)
    assert {p.name for p in (tmp_path / "two").rglob("*.json")} == {p.name for p in (tmp_path / "one").rglob("*.json")}
