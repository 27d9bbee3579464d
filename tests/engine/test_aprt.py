"""The APRT file: every bit comes back, and every malformed file is refused with its reason."""

import os
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import aprt
from engine.errors import EngineError

LAYERS = st.none() | st.integers(0, 0xFFFFFFFE)
WORDS = st.lists(st.integers(0, 0xFFFFFFFF) | st.sampled_from([0x7FC00000, 0x7F800001, 0xFFC00001, 0x80000000]))


def floats(*words):
    return np.array(words, np.uint32).view(np.float32)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("aprt")


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "x.bin"
    aprt.write_tensor(path, 3, np.arange(6, dtype=np.float32).reshape(2, 3))
    return path


def test_a_file_holds_exactly_the_bytes_of_the_format(written):
    want = b"APRT" + bytes([3, 0, 0, 0]) + bytes([6, 0, 0, 0]) + struct.pack("<6f", 0, 1, 2, 3, 4, 5)
    assert written.read_bytes() == want


def test_a_whole_model_stage_has_the_layer_ffffffff():
    assert aprt.pack_header(None, 1) == b"APRT\xff\xff\xff\xff\x01\x00\x00\x00"


@given(layer=LAYERS, words=WORDS)
@settings(deadline=None)
def test_a_tensor_comes_back_with_every_bit(scratch, layer, words):
    path = scratch / "x.bin"
    aprt.write_tensor(path, layer, floats(*words))
    tensor = aprt.read_tensor(path)
    assert tensor.layer == layer
    assert tensor.values.view(np.uint32).tolist() == words
    assert aprt.header(path) == aprt.Header(layer, len(words))
    assert path.stat().st_size == 12 + 4 * len(words)


def test_signalling_nans_stay_signalling_in_an_array_with_gaps(tmp_path):
    array = floats(0x7FC00000, 1, 0x7F800001, 2, 0xFF812345, 3).reshape(3, 2)[:, 0]
    aprt.write_tensor(tmp_path / "x.bin", None, array)
    assert aprt.read_tensor(tmp_path / "x.bin").values.view(np.uint32).tolist() == [0x7FC00000, 0x7F800001, 0xFF812345]


def test_a_transposed_array_is_written_in_row_major_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    aprt.write_tensor(tmp_path / "x.bin", 0, array.T)
    assert aprt.read_tensor(tmp_path / "x.bin").values.tolist() == [0, 3, 1, 4, 2, 5]


def test_a_single_number_is_a_tensor_of_one_value(tmp_path):
    aprt.write_tensor(tmp_path / "x.bin", 0, np.array(7, np.float32))
    assert aprt.read_tensor(tmp_path / "x.bin").values.tolist() == [7]


def test_what_was_read_cannot_be_written_to(written):
    values = aprt.read_tensor(written).values
    assert values.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


@pytest.mark.parametrize("dtype", ["<f8", "<f2", "<i4", "<u4", ">f4"])
def test_another_dtype_is_refused_not_converted(tmp_path, dtype):
    with pytest.raises(TypeError, match=f"^a stage tensor must be float32 in the byte order of this .*, not {dtype}$"):
        aprt.write_tensor(tmp_path / "x.bin", 0, np.zeros(2, dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layer", [-1, 0xFFFFFFFF, 1 << 40])
def test_a_layer_that_the_header_cannot_hold_is_refused(tmp_path, layer):
    with pytest.raises(EngineError, match=rf"^layer {layer} does not fit the header: it must lie in 0\.\.4294967294$"):
        aprt.write_tensor(tmp_path / "x.bin", layer, np.zeros(2, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [-1, 1 << 32])
def test_a_count_that_the_header_cannot_hold_is_refused(count):
    with pytest.raises(EngineError, match=rf"^{count} values do not fit the header: it counts up to 4294967295\n"):
        aprt.pack_header(0, count)
    assert aprt.pack_header(0, 0xFFFFFFFF).endswith(b"\xff\xff\xff\xff")


READERS = pytest.mark.parametrize("read", [aprt.header, aprt.read_tensor])


@READERS
@pytest.mark.parametrize("length", [0, 1, 4, 11])
def test_a_file_that_ends_inside_the_header_is_refused(written, read, length):
    written.write_bytes(written.read_bytes()[:length])
    message = f"x.bin: offset {length}: the file ends inside the header: {length} bytes, a header has 12\n"
    with pytest.raises(EngineError, match=message):
        read(written)


@READERS
def test_another_magic_is_refused(written, read):
    written.write_bytes(b"GGUF" + written.read_bytes()[4:])
    with pytest.raises(
        EngineError, match=r"x\.bin: offset 0: not a stage tensor: the file starts with b'GGUF', not b'AP"
    ):
        read(written)


@READERS
@pytest.mark.parametrize("size", [12, 35, 37, 40])
def test_a_size_that_the_header_does_not_announce_is_refused(written, read, size):
    written.write_bytes((written.read_bytes() + bytes(8))[:size])
    message = rf"x\.bin: offset 8: the header announces 6 values, so the file must be 36 bytes long, but it is {size}\n"
    with pytest.raises(EngineError, match=message):
        read(written)


@READERS
def test_a_header_that_announces_the_most_values_reserves_no_memory(written, read):
    written.write_bytes(written.read_bytes()[:8] + b"\xff" * 4 + bytes(24))
    with pytest.raises(EngineError, match="announces 4294967295 values, so the file must be 17179869192 bytes long"):
        read(written)


@READERS
def test_a_folder_a_pipe_and_nothing_are_no_tensor_files(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "is a folder, not a tensor file"),
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(EngineError, match=f"^{re.escape(str(path))}: {message}$"):
            read(path)


def test_a_file_is_replaced_whole_and_an_open_mapping_keeps_the_old_values(written):
    old = aprt.read_tensor(written).values
    aprt.write_tensor(written, 3, np.full(6, 9, np.float32))
    assert old.tolist() == [0, 1, 2, 3, 4, 5]
    assert aprt.read_tensor(written).values.tolist() == [9] * 6
    assert [path.name for path in written.parent.iterdir()] == ["x.bin"]


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(EngineError, match=r"none/x\.bin: cannot be written: No such file or directory\n"):
        aprt.write_tensor(tmp_path / "none" / "x.bin", 0, np.zeros(2, np.float32))


def test_the_permissions_are_those_of_any_new_file(tmp_path, written):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert written.stat().st_mode == plain.stat().st_mode
