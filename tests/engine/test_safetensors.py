"""Tests of engine.safetensors: equal to the `safetensors` package on what is right, and stricter on what is not."""

import contextlib
import json
import struct

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import engine.safetensors
from engine.errors import EngineError
from engine.safetensors import read_safetensors
from tests.engine.checkpoints import entry, packed

TWO = {"a": entry("F32", (2, 2), 0, 16), "b": entry("F16", (3,), 16, 22)}
DATA = np.arange(4, dtype="<f4").tobytes() + np.array([1, 2, 3], "<f2").tobytes()


def write(folder, raw):
    path = folder / "m.safetensors"
    path.write_bytes(raw)
    return path


def refused(path):
    with pytest.raises(EngineError) as caught:
        read_safetensors(path)
    assert caught.value.where.startswith(str(path))
    assert caught.value.hint
    return caught.value


# ---------------------------------------------------------------- what is read


def test_a_file_of_the_package_is_read_as_the_package_reads_it(tmp_path):
    rng = np.random.default_rng(1)
    values = {
        "matrix": rng.standard_normal((3, 5)).astype(np.float32),
        "half": rng.standard_normal((2, 3, 4)).astype(np.float16),
        "scalar": np.array(2.5, np.float32),
        "none": np.zeros((0, 4), np.float16),
        "ä": np.ones(7, np.float32),
    }
    path = tmp_path / "m.safetensors"
    save_file(values, path, metadata={"format": "np"})
    file = read_safetensors(path)
    assert file.metadata == {"format": "np"}
    assert {name: info.shape for name, info in file.tensors.items()} == {n: v.shape for n, v in values.items()}
    for name in ("matrix", "half", "ä"):
        assert np.array_equal(file.dequantised(name), values[name].astype(np.float32))
    content = path.read_bytes()
    for name, info in file.tensors.items():
        assert content[info.offset : info.offset + info.nbytes] == values[name].tobytes()


def test_bfloat16_is_read_as_the_upper_half_of_a_float32(tmp_path):
    data = np.array([0x3F80, 0xC040, 0x7F80, 0x0001], "<u2").tobytes()
    file = read_safetensors(write(tmp_path, packed({"t": entry("BF16", (4,), 0, 8)}, data)))
    assert file.dequantised("t").tolist() == [1.0, -3.0, np.inf, 2.0**-133]


def test_tensors_come_in_the_order_of_their_data_not_of_their_names(tmp_path):
    header = {"z": entry("F32", (1,), 0, 4), "a": entry("F32", (1,), 4, 8), "m": entry("F32", (1,), 8, 12)}
    shuffled = {name: header[name] for name in ("m", "z", "a")}
    data = np.array([1, 2, 3], "<f4").tobytes()
    file = read_safetensors(write(tmp_path, packed(shuffled, data)))
    assert list(file.tensors) == ["z", "a", "m"]
    assert [file.dequantised(name)[0] for name in "zam"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("spaces", range(4))
def test_a_header_of_any_length_is_read(tmp_path, spaces):
    text = json.dumps(TWO).encode() + b" " * spaces
    file = read_safetensors(write(tmp_path, packed(text, DATA, padding=1)))
    assert file.dequantised("a").tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert file.dequantised("b").tolist() == [1.0, 2.0, 3.0]


def test_the_weights_stay_in_the_mapped_file(tmp_path):
    file = read_safetensors(write(tmp_path, packed(TWO, DATA)))
    assert np.shares_memory(file.raw("a"), file.data)
    assert not file.data.flags.writeable


def test_a_file_without_tensors_is_read(tmp_path):
    assert read_safetensors(write(tmp_path, packed({}))).tensors == {}


# ---------------------------------------------------------------- what is refused: the bytes around

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
AROUND = [
    (b"\x01\x02", 0, "the file ends inside the header's length: it has 2 bytes, not 8"),
    (
        packed(TWO, DATA, length=2**63),
        0,
        "a header of 9223372036854775808 bytes is announced, but the rest of the file",
    ),
    (packed(TWO, length=500), 0, "a header of 500 bytes is announced, but the rest of the file has"),
    (packed(b"", length=0) + b" " * 9, 0, "a header of 0 bytes is announced, but 2 to 100000000 are allowed"),
    (b"GGUF" + bytes(40), 0, "not a safetensors file"),
    (LFS, 0, "not a safetensors file: it starts with b'version '"),
    (b"<html><body>Not found</body></html>", 0, "not a safetensors file: it starts with b'<html><b'"),
    (packed(b'["a"]'), 8, "the header starts with b'[', not with '{'"),
    (packed(b' {"a": 1}'), 8, "the header starts with b' ', not with '{'"),
    (packed(b'{"a": 1,}'), 16, "the header is not JSON: "),
    (packed('{"ä": 1,}'.encode()), 17, "the header is not JSON: "),
    (packed(b'{"a\xff": 1}'), 11, "the header is not UTF-8"),
    (packed(b'{"a": NaN}'), 14, "the header is not JSON: NaN"),
    (packed(b'{"a": {"shape": 1' + b"0" * 5000 + b"}}"), 8, "the header cannot be read: "),
    (packed(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 8, "the header cannot be read: "),
    (packed(b'{"a": {}, "b": {}, "a": {}}'), 27, "'a' occurs twice"),
    (packed(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), 31, "'dtype' occurs twice"),
    (packed({"__metadata__": {"a": 1}}), 8, "__metadata__ is not a mapping of names to texts"),
    (packed({"__metadata__": []}), 8, "__metadata__ is not a mapping of names to texts"),
    (packed(TWO, DATA + b"xyz", padding=1), 8 + len(json.dumps(TWO)) + 22, "3 bytes behind the last tensor belong"),
]


@pytest.mark.parametrize(("raw", "at", "message"), AROUND, ids=[str(number) for number in range(len(AROUND))])
def test_a_file_that_is_not_whole_is_refused_with_the_byte(tmp_path, raw, at, message):
    path = write(tmp_path, raw)
    error = refused(path)
    assert error.args[0].startswith(message)
    assert error.where == f"{path}: offset {at}"


def test_an_lfs_pointer_and_a_gguf_file_are_told_by_their_hint(tmp_path):
    assert "git lfs pull" in refused(write(tmp_path, LFS)).hint
    assert "GGUF" in refused(write(tmp_path, b"GGUF" + bytes(40))).hint


def test_a_header_longer_than_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, packed(TWO, DATA))
    monkeypatch.setattr(engine.safetensors, "MAX_HEADER", 20)
    assert refused(path).args[0].endswith("bytes is announced, but 2 to 20 are allowed")


# ---------------------------------------------------------------- what is refused: one tensor

ONE = [
    ({"dtype": "I64"}, "its dtype 'I64' is not supported"),
    ({"dtype": "F8_E4M3"}, "its dtype 'F8_E4M3' is not supported"),
    ({"dtype": "Q8_0"}, "its dtype 'Q8_0' is not supported"),
    ({"dtype": "f32"}, "its dtype 'f32' is not supported"),
    ({"dtype": 7}, "its dtype 7 is not supported"),
    ({"dtype": ["F32"]}, "its dtype ['F32'] is not supported"),
    ({"shape": None}, "its shape is None, not a list of numbers >= 0"),
    ({"shape": [2, -2]}, "its shape is [2, -2], not a list of numbers >= 0"),
    ({"shape": [2.0, 2]}, "its shape is [2.0, 2], not a list of numbers >= 0"),
    ({"shape": [True, 4]}, "its shape is [True, 4], not a list of numbers >= 0"),
    ({"shape": [2**63, 2]}, "its shape is [9223372036854775808, 2], not a list of numbers >= 0"),
    ({"shape": [2, 3]}, "F32 of shape (2, 3) takes 24 bytes, but its data_offsets [0, 16] have 16"),
    ({"shape": []}, "F32 of shape () takes 4 bytes, but its data_offsets [0, 16] have 16"),
    ({"shape": [2**62, 2]}, "its shape (4611686018427387904, 2) is larger than any file"),
    ({"shape": [2**62, 2, 0]}, "its shape (4611686018427387904, 2, 0) is larger than any file"),
    ({"shape": [2**62] * 300_000}, "its shape (4611686018427387904, 46"),
    ({"dtype": "F16"}, "F16 of shape (2, 2) takes 8 bytes, but its data_offsets [0, 16] have 16"),
    ({"data_offsets": [0]}, "its data_offsets are [0], not [begin, end]"),
    ({"data_offsets": [16, 0]}, "its data_offsets are [16, 0], not [begin, end]"),
    ({"data_offsets": [-16, 0]}, "its data_offsets are [-16, 0], not [begin, end]"),
    ({"data_offsets": [0, 16, 22]}, "its data_offsets are [0, 16, 22], not [begin, end]"),
    ({"data_offsets": "0-16"}, "its data_offsets are '0-16', not [begin, end]"),
    ({"offset": 0}, "its description has the keys 'dtype', 'shape', 'data_offsets', 'offset', not dtype, shape, data"),
]


@pytest.mark.parametrize(("changes", "message"), ONE, ids=[str(row[0])[:40] for row in ONE])
def test_a_tensor_that_contradicts_itself_is_refused_by_name(tmp_path, changes, message):
    path = write(tmp_path, packed(TWO | {"a": TWO["a"] | changes}, DATA))
    error = refused(path)
    assert error.args[0].startswith(message)
    assert error.where == f"{path}: tensor 'a'"


@pytest.mark.parametrize("described", [None, 3, "x", [], {}, {"dtype": "F32", "shape": [1]}])
def test_what_is_no_description_is_refused(tmp_path, described):
    assert refused(write(tmp_path, packed({"a": described}))).args[0].startswith("its description ")


# ---------------------------------------------------------------- what is refused: tensors against each other


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (12, "its data at offset {} overlaps the data of the tensor before it, which ends at {}"),
        (0, "its data at offset {} overlaps the data of the tensor before it, which ends at {}"),
        (18, "its data at offset {} leaves a gap before it, which ends at {}"),
    ],
)
def test_data_that_overlap_or_leave_a_gap_are_refused(tmp_path, begin, message):
    header = TWO | {"b": entry("F32", (4,), begin, begin + 16)}
    path = write(tmp_path, packed(header, bytes(begin + 16)))
    start = path.stat().st_size - begin - 16
    error = refused(path)
    assert error.args[0] == message.format(start + begin, start + 16)
    assert error.where == f"{path}: tensor 'b'"


def test_the_first_tensor_begins_where_the_header_ends(tmp_path):
    path = write(tmp_path, packed({"a": entry("F32", (1,), 4, 8)}, bytes(8)))
    assert "leaves a gap before it" in refused(path).args[0]


@pytest.mark.parametrize("missing", [1, 5, 6, 7, 21, 22])
def test_a_file_that_was_cut_short_is_refused_with_what_is_missing(tmp_path, missing):
    raw = packed(TWO, DATA)
    path = write(tmp_path, raw[:-missing])
    error = refused(path)
    assert error.args[0] == (
        f"the file has {len(raw) - missing} bytes, but its tensors need {len(raw)}: {missing} bytes are missing"
    )
    assert error.where == f"{path}: tensor {'b' if missing <= 6 else 'a'!r}"


# ---------------------------------------------------------------- properties


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_read_as_the_package_reads_it(tmp_path_factory, data):
    raw = bytearray(packed({"__metadata__": {"k": "v"}} | TWO, DATA))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 23))
        raw[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789{}[]",:')))
    cut = data.draw(st.integers(0, 3))
    path = write(tmp_path_factory.mktemp("s"), bytes(raw[: len(raw) - cut]))
    try:
        file = read_safetensors(path)
    except EngineError:
        return
    with safetensors.safe_open(path, "np") as theirs:
        assert set(theirs.keys()) == set(file.tensors)
        for name, info in file.tensors.items():
            assert theirs.get_slice(name).get_shape() == list(info.shape)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_arbitrary_bytes_give_an_engine_error_or_a_file(tmp_path_factory, body, length):
    path = write(tmp_path_factory.mktemp("s"), struct.pack("<Q", length) + b"{" + body)
    with contextlib.suppress(EngineError):
        assert read_safetensors(path).path == path


@pytest.mark.parametrize(
    "raw",
    [
        packed(TWO, DATA[:-1]),
        packed(TWO, DATA + b"x"),
        packed(TWO | {"b": entry("F16", (3,), 12, 18)}, DATA),
        packed(TWO | {"b": entry("F16", (2,), 18, 22)}, DATA),
        packed(TWO | {"a": entry("F32", (2, 3), 0, 16)}, DATA),
        packed(TWO, DATA, length=2**40),
    ],
)
def test_the_package_refuses_these_too(tmp_path, raw):
    path = write(tmp_path, raw)
    refused(path)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.safe_open(path, "np").__enter__()
