"""Tests of engine.kernel_folders: what is old goes, what is used stays, and a process survives the loss of its own."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import kernel_folders
from engine.kernel_folders import KEPT, LOCK, UNUSED, hold, prune
from engine.kernels import prepared

ROOT = Path(__file__).parents[2]
DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of compiled kernels, of 1000 bytes, that was used some days ago."""

    def made(name, days=0.0):
        path = tmp_path / name
        (path / "kernels_1").mkdir(parents=True)
        (path / "kernels_1/steps.nbi").write_bytes(bytes(1000))
        for one in (path / "kernels_1/steps.nbi", path / "kernels_1", path):
            os.utime(one, (time.time() - days * DAY,) * 2)
        return path

    return made


def others(folder, days):
    return [folder(f"avx2-{number:016x}", ago) for number, ago in enumerate(days)]


def test_the_last_used_stay_and_what_was_not_used_for_30_days_goes(folder):
    current = folder("avx2-" + "f" * 16, 90)
    few = others(folder, [1, 31, 29, 400])
    assert prune(current) == (2, 2000)
    assert [path.exists() for path in few] == [True, False, True, False]
    assert current.exists()
    assert prune(current) == (0, 0)


def test_of_many_the_last_used_stay(folder):
    current = folder("avx2-" + "f" * 16)
    many = others(folder, [number / 8 for number in range(KEPT + 3)][::-1])
    assert prune(current) == (3, 3000)
    assert [path.exists() for path in many] == [False] * 3 + [True] * KEPT


def test_variants_of_the_same_sources_stay_however_old(folder):
    mine = [folder(f"{variant}-{'f' * 16}", 400) for variant in ("avx512-vnni", "avx2", "generic")]
    assert prune(mine[0]) == (0, 0)
    assert all(path.exists() for path in mine)


def test_what_is_no_folder_of_kernels_is_nobody_s_to_remove(folder, tmp_path):
    current = folder("avx2-" + "f" * 16)
    foreign = [folder(name, 400) for name in ("engine_0123456789abcdef", "avx2-0123", "avx9-" + "0" * 16, "notes")]
    (tmp_path / ("avx2-" + "1" * 16)).symlink_to(foreign[3])
    assert prune(current) == (0, 0)
    assert all((path / "kernels_1/steps.nbi").exists() for path in foreign)
    assert (tmp_path / ("avx2-" + "1" * 16)).is_symlink()


def test_what_a_killed_process_left_half_removed_goes(folder):
    current = folder("avx2-" + "f" * 16)
    left = folder(".removed-generic-" + "0" * 16)
    assert prune(current) == (1, 1000)
    assert not left.exists()


def test_a_folder_that_a_process_holds_stays_until_it_ends(folder):
    current = folder("avx2-" + "f" * 16)
    (held,) = others(folder, [400])
    code = (
        f"from pathlib import Path\nfrom engine.kernel_folders import hold\nhold(Path({str(held)!r}))\nprint(); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"\n"
        assert prune(current) == (0, 0)  # it was used just now
        for path in (held / LOCK, held):
            os.utime(path, (0, 0))
        assert prune(current) == (0, 0)  # it is in use
        assert (held / "kernels_1/steps.nbi").exists()
        one.communicate(b"\n")
    os.utime(held / LOCK, (0, 0))
    assert prune(current) == (1, 1000)
    assert not held.exists()


def test_holding_notes_the_use(folder):
    (held,) = others(folder, [400])
    (held / LOCK).touch()
    os.utime(held / LOCK, (0, 0))
    hold(held)
    assert time.time() - kernel_folders.UNUSED < (held / LOCK).stat().st_mtime
    assert prune(folder("avx2-" + "f" * 16)) == (0, 0)


def test_whoever_loads_the_kernels_holds_their_folder():
    with open(Path(prepared.FOLDER) / LOCK) as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_is_pruned_before_it_is_locked_is_made_again(folder, monkeypatch):
    (lost,) = others(folder, [0])
    lock = kernel_folders.fcntl.flock

    def pruned_first(file, how):
        monkeypatch.setattr(kernel_folders.fcntl, "flock", lock)
        lost.rename(lost.with_name("gone"))
        lock(file, how)

    monkeypatch.setattr(kernel_folders.fcntl, "flock", pruned_first)
    hold(lost)
    os.utime(lost / LOCK, (0, 0))
    os.utime(lost, (0, 0))
    assert prune(folder("avx2-" + "f" * 16)) == (0, 0)  # the new one is held


def test_a_folder_that_cannot_be_written_is_used_without(tmp_path):
    (tmp_path / "file").write_text("")
    hold(tmp_path / "file/avx2-0123456789abcdef")


def test_a_folder_that_may_not_be_removed_stays_and_is_not_counted(folder, monkeypatch):
    current = folder("avx2-" + "f" * 16)
    others(folder, [400, 500])
    remove, refused = kernel_folders.shutil.rmtree, []

    def refusing(path):
        if not refused:
            refused.append(path)
            raise PermissionError(13, "Permission denied", str(path))
        remove(path)

    monkeypatch.setattr(kernel_folders.shutil, "rmtree", refusing)
    assert prune(current) == (1, 1000)
    assert len(refused) == 1


LAZY = """
import shutil, sys
from pathlib import Path
from engine.kernels import formats, prepared
first = formats.address("float_f32")
shutil.rmtree(prepared.FOLDER)
assert formats.address("float_f16")
assert any(Path(prepared.FOLDER).rglob("*float_f16*.nbi")), "compiled, and kept again"
"""


def test_a_process_whose_folder_is_gone_compiles_what_it_still_needs(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LAZY],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_times_are_a_month_and_the_number_is_small():
    assert (UNUSED, KEPT) == (30 * DAY, 12)
