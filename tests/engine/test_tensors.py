"""Tests of engine.tensors: what is mapped, and what is refused. The readers of formats have tests of their own."""

import os

import numpy as np
import pytest

from engine.errors import EngineError
from engine.formats import FORMATS
from engine.tensors import TensorFile, TensorInfo, looks_like, map_file


@pytest.fixture
def file(tmp_path):
    """A file of one matrix (2, 3) of float32 behind one odd byte, and one vector of float16."""
    data = b"?" + np.arange(6, dtype="<f4").tobytes() + np.array([0.5, -2.0], "<f2").tobytes()
    (tmp_path / "f").write_bytes(data)
    tensors = {"m": TensorInfo("m", (2, 3), FORMATS[0], 1, 24), "v": TensorInfo("v", (2,), FORMATS[1], 25, 4)}
    return TensorFile(path=tmp_path / "f", tensors=tensors, data=np.frombuffer(map_file(tmp_path / "f"), np.uint8))


def test_a_tensor_is_read_in_its_shape_wherever_it_lies(file):
    assert file.dequantised("m").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert file.dequantised("v").tolist() == [0.5, -2.0]
    assert (file.raw("m").shape, file.raw("v").shape) == ((2, 12), (1, 4))


def test_raw_bytes_are_a_view_of_the_file_and_not_a_copy(file):
    assert np.shares_memory(file.raw("m"), file.data)
    assert not file.raw("m").flags.writeable


@pytest.mark.parametrize("read", [TensorFile.raw, TensorFile.dequantised, TensorFile.tensor])
def test_a_tensor_that_is_missing_is_named(file, read):
    with pytest.raises(EngineError, match=r"/f: tensor 'x' is missing\n  hint: the file is damaged"):
        read(file, "x")


def test_what_cannot_be_mapped_is_an_error_that_says_why(tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "empty": "is empty",
        "pipe": "is not a regular file",
        "loop": "cannot be read: Too many levels of symbolic links",
        "none": "no such file",
        "": "is a directory",
    }.items():
        with pytest.raises(EngineError) as caught:
            map_file(tmp_path / name)
        assert (caught.value.where, caught.value.args[0]) == (str(tmp_path / name), reason)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"version https://", "Git LFS pointer"),
        (b"\n <!DOCTYPE html>", "web page"),
        (b"PK\x03\x04", "zip archive"),
        (b"\x80\x02", "pickle"),
        (b"{\n  ", "JSON"),
        (b"GGML", "came before GGUF"),
    ],
)
def test_another_kind_of_file_is_guessed(start, words):
    assert words in looks_like(start)


def test_nothing_is_guessed_about_unknown_bytes():
    assert looks_like(b"\x01\x02\x03") is looks_like(b"") is None
