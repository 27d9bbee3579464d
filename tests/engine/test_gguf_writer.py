"""Tests of engine.gguf_writer: what is written is what both readers read, and nothing is left of what failed."""

import errno
import os

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.formats import FORMATS
from engine.gguf import read_gguf
from engine.gguf_writer import BOOL, F32, I32, STRING, U32, Tensor, header, pair, write_gguf
from tests.engine import gguf_files

FLOAT, HALF, Q8_0 = FORMATS[0], FORMATS[1], FORMATS[8]


def tensor(name, array, fmt=FLOAT):
    return Tensor(name, array.shape, fmt, lambda: iter([array[:1], array[1:]]))


def test_both_readers_read_what_was_written(tmp_path):
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(5, dtype=np.float16)
    c = np.arange(3 * 68, dtype=np.uint8).reshape(3, 68)
    path = tmp_path / "m.gguf"
    pairs = [
        pair("general.architecture", "llama"),
        pair("n", 7),
        pair("f", 0.5),
        pair("b", True),
        pair("l", ["x", "é"]),
    ]
    pairs += [pair("i", [-1, 2], I32), pair("none", [], STRING), pair("flags", [True, False])]
    tensors = [tensor("a", a), tensor("b", b, HALF), Tensor("c", (3, 64), Q8_0, lambda: [c])]
    size = write_gguf(path, pairs, tensors)
    assert size == path.stat().st_size
    assert size % 32 == 0
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert ours.version == 3
    assert ours.metadata == {
        "general.architecture": "llama",
        "n": 7,
        "f": 0.5,
        "b": True,
        "l": ("x", "é"),
        "i": (-1, 2),
        "none": (),
        "flags": (True, False),
    }
    for key, value in ours.metadata.items():
        if key != "none":  # gguf-py has no contents for an empty array
            assert theirs.fields[key].contents() == (list(value) if isinstance(value, tuple) else value)
    assert [info.shape for info in ours.tensors.values()] == [(2, 3), (5,), (3, 64)]
    assert np.array_equal(ours.dequantised("a"), a)
    assert np.array_equal(ours.dequantised("b"), b)
    assert np.array_equal(ours.raw("c"), c)
    for ours_, theirs_ in zip(ours.tensors.values(), theirs.tensors, strict=True):
        assert ours_.offset == theirs_.data_offset
        assert ours_.offset % 32 == 0


def test_a_wider_alignment_is_kept_to(tmp_path):
    path = tmp_path / "m.gguf"
    arrays = {name: np.full(3, n, np.float32) for n, name in enumerate("ab")}
    write_gguf(path, [pair("general.alignment", 256)], [tensor(*item) for item in arrays.items()], alignment=256)
    file = read_gguf(path)
    assert {info.offset % 256 for info in file.tensors.values()} == {0}
    assert file.tensors["b"].offset - file.tensors["a"].offset == 256
    assert all(np.array_equal(file.dequantised(name), array) for name, array in arrays.items())


@given(
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.just(U32)),
        st.tuples(st.integers(-(2**31), 2**31 - 1), st.just(I32)),
        st.tuples(st.floats(width=32, allow_nan=False), st.just(F32)),
        st.tuples(st.booleans(), st.just(BOOL)),
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.just(STRING)),
    ),
    st.booleans(),
)
def test_a_pair_has_the_bytes_of_the_specification(value, many):
    value, kind = value
    same = {U32: gguf_files.U32, I32: gguf_files.I32, F32: gguf_files.F32, BOOL: gguf_files.BOOL}
    theirs = same.get(kind, gguf_files.STRING)
    one = gguf_files.scalar(theirs, value)
    if many:
        assert pair("k", [value, value], kind) == gguf_files.pair(
            "k", gguf_files.ARRAY, gguf_files.array(theirs, [one, one])
        )
    else:
        assert pair("k", value, kind) == gguf_files.pair("k", theirs, one)


def test_the_type_of_a_value_is_its_own_unless_another_is_named():
    assert pair("k", True) == pair("k", True, BOOL) != pair("k", 1)
    assert pair("k", 1) == pair("k", 1, U32)
    assert pair("k", ["a"]) == pair("k", ["a"], STRING)


def test_what_a_reader_would_refuse_is_a_mistake_of_the_caller():
    assert Tensor("é" * 32, (32,), Q8_0, list).nbytes == 34
    for name, shape in (("a", ()), ("a", (1, 1, 1, 1, 1)), ("a", (3, 0)), ("a", (3, 33)), ("é" * 33, (32,))):
        with pytest.raises(ValueError, match=r"^tensor "):
            Tensor(name, shape, Q8_0, list)
    twice = [tensor("a", np.zeros(2, np.float32))] * 2
    with pytest.raises(ValueError, match=r"^two tensors have one name$"):
        header([], twice)


@pytest.mark.parametrize("length", [3, 5])
def test_a_tensor_of_another_length_than_it_said_leaves_nothing_behind(tmp_path, length):
    wrong = Tensor("a", (4,), FLOAT, lambda: [np.zeros(length, np.float32)])
    with pytest.raises(ValueError, match=rf"^tensor 'a' came as {4 * length} bytes, not 16$"):
        write_gguf(tmp_path / "m.gguf", [], [wrong])
    assert os.listdir(tmp_path) == []


def test_what_exists_is_not_overwritten(tmp_path):
    taken = tmp_path / "m.gguf"
    taken.write_text("mine")
    with pytest.raises(EngineError, match="exists already"):
        write_gguf(taken, [], [])
    assert taken.read_text() == "mine"
    with pytest.raises(EngineError, match="is a folder"):
        write_gguf(tmp_path, [], [])


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_without_room_is_told_of_before_a_tensor_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    asked = []
    path = tmp_path / "m.gguf"
    tensors = [Tensor("a", (4,), FLOAT, lambda: asked.append(1) or [np.zeros(4, np.float32)])]
    with pytest.raises(EngineError) as caught:
        write_gguf(path, [], tensors)
    size = len(header([], tensors)) + 32
    assert str(caught.value) == (
        f"{path}: a file of {size} bytes cannot be written: No space left on device\n"
        "  hint: choose another folder, or make room and give write permission there"
    )
    assert (asked, os.listdir(tmp_path)) == ([], [])


def test_a_disk_that_fails_in_the_middle_leaves_nothing_behind(tmp_path):
    def chunks():
        yield np.zeros(2, np.float32)
        full()

    with pytest.raises(EngineError, match="No space left on device"):
        write_gguf(tmp_path / "m.gguf", [], [Tensor("a", (4,), FLOAT, chunks)])
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    def chunks():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(tmp_path / "m.gguf", [], [Tensor("a", (4,), FLOAT, chunks)])
    assert os.listdir(tmp_path) == []
