"""Tests of engine.hashing: the sha256 is that of the file that the block read, and no thread outlives the block."""

import os
import threading
from hashlib import sha256
from pathlib import Path
from threading import Event

import pytest

from engine import hashing
from engine.errors import EngineError
from engine.hashing import sha256_beside

CHANGED = "was changed or replaced while it was read\n  hint: run the command again when nothing writes to the file"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(200)))
    return path


@pytest.fixture
def late(monkeypatch):
    """The thread waits until this is set: the block does something to the file before it is read."""
    done, real = Event(), hashing._sha256

    def waiting(*arguments):
        assert done.wait(60)
        return real(*arguments)

    monkeypatch.setattr(hashing, "_sha256", waiting)
    return done


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 200])
def test_the_sha256_is_that_of_all_bytes(file, monkeypatch, size):
    monkeypatch.setattr(hashing, "CHUNK", 7)
    file.write_bytes(bytes(range(size)))
    with sha256_beside(file) as digest:
        assert digest() == digest() == sha256(bytes(range(size))).hexdigest()


def test_the_block_runs_while_the_file_is_hashed(file, late):
    with sha256_beside(file) as digest:
        late.set()  # nobody would, if the block had to wait
        assert digest() == sha256(bytes(range(200))).hexdigest()


def replaced(file):
    """Another file of the same bytes and times."""
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


def changed(file):
    """As many other bytes."""
    file.write_bytes(bytes(200))
    os.utime(file, ns=(0, 1))


@pytest.mark.parametrize("done_to", [replaced, changed])
def test_a_file_that_is_not_the_one_that_the_block_opened_is_refused(file, late, done_to):
    with sha256_beside(file) as digest:
        done_to(file)
        late.set()
        with pytest.raises(EngineError) as error:
            digest()
    assert str(error.value) == f"{file}: {CHANGED}"


@pytest.mark.parametrize("done_to", [replaced, changed])
def test_a_file_that_changes_while_it_is_hashed_is_refused(file, monkeypatch, done_to):
    class Touching:
        """A sha256 in the midst of which somebody does that to the file."""

        def update(self, chunk):
            done_to(file)

        def hexdigest(self):
            return "0" * 64

    monkeypatch.setattr(hashing.hashlib, "sha256", Touching)
    with sha256_beside(file) as digest, pytest.raises(EngineError, match="was changed or replaced"):
        digest()


def test_a_file_that_vanishes_is_one_error(file, late):
    with sha256_beside(file) as digest:
        file.unlink()
        late.set()
        with pytest.raises(EngineError) as error:
            digest()
    told = "cannot be read: No such file or directory\n  hint: check its permissions and its disk"
    assert str(error.value) == f"{file}: {told}"


def test_an_error_of_the_disk_is_one_error(monkeypatch):
    memory = Path("/proc/self/mem")  # nothing is mapped at its start: the system says EIO
    with sha256_beside(memory) as digest, pytest.raises(EngineError, match=r"^/proc/self/mem: cannot be read: Input/"):
        digest()


def test_a_file_that_is_missing_before_is_one_error(tmp_path):
    with (
        pytest.raises(EngineError, match=r"none\.gguf: cannot be read: No such file"),
        sha256_beside(tmp_path / "none.gguf"),
    ):
        pass


@pytest.mark.parametrize("failing", [True, False])
def test_no_thread_outlives_the_block(file, monkeypatch, failing):
    """Whoever has not asked for the sha256 does not wait for the rest of the file."""
    told = []
    monkeypatch.setattr(hashing, "_sha256", lambda path, identity, over: told.append(over.wait(60)))
    before = threading.active_count()
    try:
        with sha256_beside(file):
            assert threading.active_count() == before + 1
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert failing
    assert threading.active_count() == before
    assert told == [True]


def test_nothing_is_read_once_the_block_is_over(file):
    over = Event()
    over.set()
    assert hashing._sha256(file, hashing._identity(file), over) == sha256(b"").hexdigest()
