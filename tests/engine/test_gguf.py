"""The GGUF reader: equal to gguf-py on good files, one clear error for each kind of bad one."""

import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import engine.gguf
from engine.errors import EngineError
from engine.formats import FORMATS
from engine.gguf import GGUFFile, read_gguf
from engine.registry import locate
from tests.engine import gguf_files as f

ALIGNMENT = f.pair("general.alignment", f.U32, f.scalar(f.U32, 32))


def write(folder: Path, raw: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(raw)
    return path


def refused(path: Path) -> EngineError:
    with pytest.raises(EngineError) as caught:
        read_gguf(path)
    assert caught.value.hint
    return caught.value


def plain(value: Any) -> Any:
    """Tuples as lists, as gguf-py has them."""
    return [plain(element) for element in value] if isinstance(value, tuple) else value


def assert_equal_to_gguf_py(file: GGUFFile) -> None:
    """The same metadata, and the same tensors down to their bytes and dequantised bits."""
    want = gguf.GGUFReader(file.path)
    fields = {key: field.contents() for key, field in want.fields.items() if not key.startswith("GGUF.")}
    assert {key: plain(value) for key, value in file.metadata.items()} == fields
    assert list(file.tensors) == [tensor.name for tensor in want.tensors]
    for tensor in want.tensors:
        info = file.tensors[tensor.name]
        assert (info.shape, info.format.ggml_id) == (tuple(tensor.shape.tolist()[::-1]), tensor.tensor_type)
        assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert file.raw(tensor.name).tobytes() == tensor.data.tobytes()
        with np.errstate(all="ignore"):
            weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        got = file.dequantised(tensor.name)
        assert got.shape == info.shape
        np.testing.assert_array_equal(got.view(np.uint32).ravel(), weights.view(np.uint32).ravel())


# Good files


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file by gguf-py's writer with a value of every type and a tensor of every format."""
    writer = gguf.GGUFWriter(tmp_path / "written.gguf", "llama")
    writer.add_uint8("n.u8", 255)
    writer.add_int8("n.i8", -128)
    writer.add_uint16("n.u16", 65535)
    writer.add_int16("n.i16", -32768)
    writer.add_uint32("n.u32", 2**32 - 1)
    writer.add_int32("n.i32", -(2**31))
    writer.add_uint64("n.u64", 2**64 - 1)
    writer.add_int64("n.i64", -(2**63))
    writer.add_float32("n.f32", 0.1)
    writer.add_float64("n.f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "Zürich \N{SNOWMAN} {{ bos_token }}")
    writer.add_array("tokens", ["<s>", "Ġthe", "\N{GRINNING FACE}", "", "a\nb"])
    writer.add_array("types", [1, -3, 2**31 - 1])
    writer.add_array("scores", [0.5, -1.25])
    writer.add_array("flags", [True, False, True])
    rng = np.random.default_rng(5)
    for fmt in FORMATS.values():
        for rows in ((), (3,), (2, 3), (2, 1, 3)):
            raw = rng.integers(0, 256, (*rows, 3 * fmt.nbytes), dtype=np.uint8)
            kind = gguf.GGMLQuantizationType(fmt.ggml_id)
            plain_dtype = {"F32": np.float32, "F16": np.float16}.get(fmt.name)
            data = raw if plain_dtype is None else raw.view(plain_dtype)
            writer.add_tensor(f"{fmt.name}.{len(rows) + 1}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "written.gguf"


def test_a_file_of_gguf_py_reads_as_gguf_py_reads_it(written: Path) -> None:
    file = read_gguf(written)
    assert (file.version, file.alignment, len(file.tensors)) == (3, 32, 44)
    assert_equal_to_gguf_py(file)


@pytest.mark.needs_model
def test_a_real_model_reads_as_gguf_py_reads_it() -> None:
    try:
        path = locate("smollm2-135m")
    except EngineError as error:
        pytest.skip(str(error))
    assert_equal_to_gguf_py(read_gguf(path))


def test_every_type_of_value_becomes_a_python_value(written: Path) -> None:
    file = read_gguf(written)
    assert file.metadata["n.u64"] == 2**64 - 1
    assert file.metadata["n.i64"] == -(2**63)
    assert file.metadata["n.f64"] == 0.1
    assert file.metadata["n.f32"] == float(np.float32(0.1))
    assert file.metadata["yes"] is True
    assert file.metadata["no"] is False
    assert file.metadata["text"] == "Zürich ☃ {{ bos_token }}"
    assert file.metadata["tokens"] == ("<s>", "Ġthe", "😀", "", "a\nb")
    assert file.metadata["flags"] == (True, False, True)
    assert all(type(flag) is bool for flag in file.metadata["flags"])


def test_rows_of_a_tensor_are_views_of_the_file_that_cannot_be_written(written: Path) -> None:
    file = read_gguf(written)
    rows = file.raw("Q4_K.3")
    assert rows.shape == (6, 3 * 144)
    assert np.shares_memory(rows, file.data)
    assert file.raw("Q4_K.1").shape == (1, 3 * 144)
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_version_2_reads_as_version_3_does(tmp_path: Path) -> None:
    tensors = [f.tensor("a", [2, 3], 0, 0), f.tensor("b", [4], 1, 32)]
    data = bytes(range(24)) + bytes(8) + bytes(range(8))
    older = read_gguf(write(tmp_path, f.gguf([ALIGNMENT], tensors, data, version=2)))
    assert older.version == 2
    assert_equal_to_gguf_py(older)


@pytest.mark.parametrize(("alignment", "start"), [(8, 96), (64, 128), (65536, 65536)])
def test_the_data_start_at_the_next_multiple_of_the_alignment(tmp_path: Path, alignment: int, start: int) -> None:
    pair = f.pair("general.alignment", f.U32, f.scalar(f.U32, alignment))
    raw = f.gguf([pair], [f.tensor("a", [1], 0, 0)], np.float32(2.5).tobytes(), alignment=alignment)
    file = read_gguf(write(tmp_path, raw))
    assert (file.alignment, file.tensors["a"].offset) == (alignment, start)
    assert file.dequantised("a").tolist() == [2.5]


def test_a_file_may_hold_a_vocabulary_and_no_tensors(tmp_path: Path) -> None:
    assert read_gguf(write(tmp_path, f.gguf([ALIGNMENT]))).tensors == {}


def test_the_shortest_pair_is_accepted(tmp_path: Path) -> None:
    assert read_gguf(write(tmp_path, f.gguf([f.pair("", f.U8, b"\7")]))).metadata == {"": 7}


def test_the_longest_key_and_tensor_name_are_accepted(tmp_path: Path) -> None:
    raw = f.gguf([f.pair("k" * 65535, f.U8, b"\7")], [f.tensor("n" * 64, [1], 0, 0)], bytes(4))
    file = read_gguf(write(tmp_path, raw))
    assert (list(file.metadata), list(file.tensors)) == (["k" * 65535], ["n" * 64])


def test_bytes_after_the_last_tensor_are_padding(tmp_path: Path) -> None:
    raw = f.gguf([], [f.tensor("a", [1], 0, 0)], np.float32(2.5).tobytes() + bytes(28))
    assert read_gguf(write(tmp_path, raw)).dequantised("a").tolist() == [2.5]


def test_arrays_of_arrays_are_nested_tuples(tmp_path: Path) -> None:
    inner = [
        f.array(f.I16, [f.scalar(f.I16, -2)]),
        f.array(f.STRING, [f.string("x"), f.string("")]),
        f.array(f.BOOL, []),
    ]
    file = read_gguf(write(tmp_path, f.gguf([f.pair("nested", f.ARRAY, f.array(f.ARRAY, inner))])))
    assert file.array("nested") == ((-2,), ("x", ""), ())


# Files that are not GGUF at all


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.gguf")
    assert str(error) == f"{tmp_path}/none.gguf: no such file\n  hint: check the path"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert str(refused(tmp_path)).startswith(f"{tmp_path}: is a directory\n")


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)  # else a reader that does open it would wait here for a writer, forever
    try:
        assert str(refused(path)).startswith(f"{path}: is not a regular file\n")
    finally:
        os.close(held)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, f.gguf())
    monkeypatch.setattr(Path, "open", denied)  # root may read everything, so the bits of a real file prove nothing
    assert str(refused(path)).startswith(f"{path}: cannot be read: Permission denied\n")


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"GGUF") / "x.gguf"
    assert str(refused(path)).startswith(f"{path}: cannot be read: Not a directory\n")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"")
    assert str(refused(path)).startswith(f"{path}: is empty\n")


@pytest.mark.parametrize(
    ("raw", "start", "hint"),
    [
        (b"PK\x03\x04rest", "b'PK\\x03\\x04'", "this looks like a zip archive or a PyTorch checkpoint"),
        (b"\x80\x02}q\x00", "b'\\x80\\x02}q'", "this looks like a Python pickle"),
        (b"\x40\0\0\0\0\0\0\0{}", "b'@\\x00\\x00\\x00'", "this looks like a safetensors file"),
        (b"\n<!DOCTYPE html>", "b'\\n<!D'", "this looks like a web page"),
        (b"<HTML>", "b'<HTM'", "this looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "b'vers'", "this is a Git LFS pointer"),
        (b"tjgg\1\0\0\0", "b'tjgg'", "this format came before GGUF"),
        (b"GG", "b'GG'", "give a model in the GGUF format"),
        (b"gguf\3\0\0\0", "b'gguf'", "give a model in the GGUF format"),
    ],
)
def test_another_kind_of_file_is_refused_with_a_guess_at_its_kind(
    tmp_path: Path, raw: bytes, start: str, hint: str
) -> None:
    error = refused(write(tmp_path, raw))
    assert error.args[0] == f"not a GGUF file: it starts with {start}"
    assert error.where == f"{tmp_path}/model.gguf: offset 0"
    assert error.hint.startswith(hint)


def test_a_big_endian_file_of_gguf_py_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "big.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    error = refused(tmp_path / "big.gguf")
    assert (error.args[0], error.where) == ("a big-endian GGUF file", f"{tmp_path}/big.gguf: offset 4")


# Malformed files, one for each check


def text(key: str | bytes, value: bytes) -> bytes:
    return f.gguf([f.pair(key, f.STRING, value)])


def arrayed(kind: int, elements: list[bytes], count: int | None = None) -> bytes:
    return f.gguf([f.pair("k", f.ARRAY, f.array(kind, elements, count))])


def nested(depth: int) -> bytes:
    value = f.array(f.U8, [])
    for _ in range(depth - 1):
        value = f.array(f.ARRAY, [value])
    return f.gguf([f.pair("k", f.ARRAY, value)])


def aligned(kind: int, value: float | str) -> bytes:
    return f.gguf([f.pair("general.alignment", kind, f.scalar(kind, value))])


def one(dims: list[int], kind: int = 0, n_dims: int | None = None, data: bytes = bytes(4)) -> bytes:
    return f.gguf([], [f.tensor("w", dims, kind, 0, n_dims)], data)


def two(second: int, first: int = 0, data: bytes = bytes(256)) -> bytes:
    """Two tensors of 40 bytes at the given offsets."""
    return f.gguf([], [f.tensor("a", [10], 0, first), f.tensor("b", [10], 0, second)], data)


WRAPPED = 4 * 4194305**2 * 211106198978564  # bytes; the number of weights is 4 modulo 2^64
MALFORMED: dict[str, tuple[bytes, str, str]] = {
    "version 1": (f.gguf(version=1), "offset 4", "GGUF version 1 is not supported"),
    "version 4": (f.gguf(version=4), "offset 4", "GGUF version 4 is not supported"),
    "version 0": (f.gguf(version=0), "offset 4", "GGUF version 0 is not supported"),
    "no version": (b"GGUF\3", "offset 4", "the file ends inside the version: 3 bytes are missing"),
    "no counts": (
        b"GGUF\3\0\0\0" + bytes(3),
        "offset 8",
        "the file ends inside the number of tensors: 5 bytes are missing",
    ),
    "too many tensors": (
        f.gguf([ALIGNMENT], n_tensors=2),
        "offset 8",
        "2 tensors are announced, but the rest of the file has room for at most 1",
    ),
    "2^64 - 1 tensors": (
        f.gguf([ALIGNMENT], n_tensors=2**64 - 1),
        "offset 8",
        "18446744073709551615 tensors are announced, but the rest of the file has room for at most 1",
    ),
    "too many pairs": (
        f.gguf([ALIGNMENT], n_pairs=3),
        "offset 16",
        "3 metadata pairs are announced, but the rest of the file has room for at most 2",
    ),
    "a key longer than the file": (
        f.gguf([f.string("k", 2**63) + bytes(20)]),
        "offset 32",
        "the file ends inside a metadata key of 9223372036854775808 bytes: 9223372036854775787 bytes are missing",
    ),
    "a key over the cap": (text("k" * 65536, f.string("")), "offset 24", "a metadata key is longer than 65535 bytes"),
    "NUL in a key": (
        f.gguf([f.pair("general.alignment\0evil", f.U32, f.scalar(f.U32, 64))]),
        "offset 24",
        "a metadata key 'general.alignment\\x00evil' contains NUL",
    ),
    "a key that is not UTF-8": (text(b"k\xff", f.string("")), "offset 33", "a metadata key is not UTF-8"),
    "a key twice": (f.gguf([ALIGNMENT, ALIGNMENT]), "offset 57", "metadata key 'general.alignment' occurs twice"),
    "a value of type 13": (
        f.gguf([f.pair("k", 13, bytes(8))]),
        "offset 33",
        "the value of 'k' has the unknown type 13",
    ),
    "a value cut off": (
        f.gguf([f.pair("k", f.U64, bytes(5))]),
        "offset 37",
        "the file ends inside the value of 'k': 3 bytes are missing",
    ),
    "a bool of 2": (
        f.gguf([f.pair("k", f.BOOL, b"\2")]),
        "offset 37",
        "the value of 'k' has the byte 2 for a bool, which must be 0 or 1",
    ),
    "a string longer than the file": (
        text("k", f.string("abc", 4)),
        "offset 45",
        "the file ends inside the value of 'k' of 4 bytes: 1 bytes are missing",
    ),
    "a string that is not UTF-8": (text("k", f.string(b"ab\xc3")), "offset 47", "the value of 'k' is not UTF-8"),
    "an array of type 13": (
        arrayed(13, [bytes(8)]),
        "offset 37",
        "the value of 'k' has elements of the unknown type 13",
    ),
    "an array without a count": (
        f.gguf([f.pair("k", f.ARRAY, f.u32(f.U8) + bytes(2))]),
        "offset 41",
        "the file ends inside the number of elements of the value of 'k': 6 bytes are missing",
    ),
    "an array of too many numbers": (
        arrayed(f.F64, [bytes(8)], 2),
        "offset 41",
        "2 elements of the value of 'k' are announced, but the rest of the file has room for at most 1",
    ),
    "an array of too many strings": (
        arrayed(f.STRING, [f.string("")], 2**61),
        "offset 41",
        "2305843009213693952 elements of the value of 'k' are announced, "
        "but the rest of the file has room for at most 1",
    ),
    "an array of too many arrays": (
        arrayed(f.ARRAY, [f.array(f.U8, [])], 2),
        "offset 41",
        "2 elements of the value of 'k' are announced, but the rest of the file has room for at most 1",
    ),
    "an element cut off": (
        arrayed(f.STRING, [f.string("abc"), f.string("de", 3)]),
        "offset 68",
        "the file ends inside element 1 of the value of 'k' of 3 bytes: 1 bytes are missing",
    ),
    "an element's length cut off": (
        arrayed(f.STRING, [f.string("abcdefgh"), bytes(7)]),
        "offset 65",
        "the file ends inside the length of element 1 of the value of 'k': 1 bytes are missing",
    ),
    "an element of 2^64 - 1 bytes": (
        arrayed(f.STRING, [f.string("abc", 2**64 - 1)]),
        "offset 57",
        "the file ends inside element 0 of the value of 'k' of 18446744073709551615 bytes: "
        "18446744073709551612 bytes are missing",
    ),
    "an element that is not UTF-8": (
        arrayed(f.STRING, [f.string("abc"), f.string(b"d\x80")]),
        "offset 69",
        "element 1 of the value of 'k' is not UTF-8",
    ),
    "a bool of 255 in an array": (
        arrayed(f.BOOL, [b"\0", b"\1", b"\xff"]),
        "offset 51",
        "the value of 'k' has the byte 255 for a bool, which must be 0 or 1",
    ),
    "arrays nested too deep": (nested(5), "offset 85", "the value of 'k' has arrays nested deeper than 4"),
    "an alignment of 0": (aligned(f.U32, 0), "", "general.alignment is 0, not a power of two from 8 to 65536"),
    "an alignment of 24": (aligned(f.U32, 24), "", "general.alignment is 24, not a power of two from 8 to 65536"),
    "an alignment of 4": (aligned(f.U32, 4), "", "general.alignment is 4, not a power of two from 8 to 65536"),
    "an alignment of 2^31": (
        aligned(f.U32, 2**31),
        "",
        "general.alignment is 2147483648, not a power of two from 8 to 65536",
    ),
    "an alignment that is a string": (
        aligned(f.STRING, "32"),
        "",
        "general.alignment is '32', not a power of two from 8 to 65536",
    ),
    "an alignment that is a number": (
        aligned(f.F32, 32.0),
        "",
        "general.alignment is 32.0, not a power of two from 8 to 65536",
    ),
    "a tensor name over the cap": (
        f.gguf([], [f.tensor("n" * 65, [1], 0, 0)], bytes(4)),
        "offset 24",
        "a tensor name is longer than 64 bytes",
    ),
    "NUL in a tensor name": (
        f.gguf([], [f.tensor("w\0", [1], 0, 0)], bytes(4)),
        "offset 24",
        "a tensor name 'w\\x00' contains NUL",
    ),
    "a tensor name that is not UTF-8": (
        f.gguf([], [f.tensor(b"\xfe", [1], 0, 0)], bytes(4)),
        "offset 32",
        "a tensor name is not UTF-8",
    ),
    "a tensor name twice": (
        f.gguf([], [f.tensor("w", [1], 0, 0), f.tensor("w", [1], 0, 32)], bytes(36)),
        "offset 57",
        "tensor 'w' occurs twice",
    ),
    "no dimensions": (one([]), "tensor 'w'", "it has 0 dimensions, not 1 to 4"),
    "5 dimensions": (one([1] * 5), "tensor 'w'", "it has 5 dimensions, not 1 to 4"),
    "2^32 - 1 dimensions": (one([1], n_dims=2**32 - 1), "tensor 'w'", "it has 4294967295 dimensions, not 1 to 4"),
    "a description cut off": (
        one([1, 1, 1])[:70],
        "offset 65",
        "the file ends inside the description of tensor 'w': 3 bytes are missing",
    ),
    "a dimension of 0": (one([4, 0]), "tensor 'w'", "its shape (0, 4) has a dimension of 0"),
    "a format we do not read": (one([256], 20), "tensor 'w'", "it has format IQ4_NL, which is not supported"),
    "a format nobody knows": (
        one([256], 99),
        "tensor 'w'",
        "it has the unknown format 99, which is not supported",
    ),
    "a format that was removed": (
        one([32], 4),
        "tensor 'w'",
        "it has the unknown format 4, which is not supported",
    ),
    "rows that are not whole blocks": (
        one([48, 2], 2, data=bytes(64)),
        "tensor 'w'",
        "its rows of 48 weights are not whole Q4_0 blocks of 32",
    ),
    "an offset that is not aligned": (two(44), "tensor 'b'", "its offset 44 is not a multiple of 32"),
    "tensors that share their bytes": (
        two(0),
        "tensor 'b'",
        "its data at offset 0 overlap the tensor before them: the next free offset is 64",
    ),
    "tensors that overlap by a few bytes": (
        two(32),
        "tensor 'b'",
        "its data at offset 32 overlap the tensor before them: the next free offset is 64",
    ),
    "a hole between tensors": (
        two(96),
        "tensor 'b'",
        "its data at offset 96 leave a hole before them: the next free offset is 64",
    ),
    "an offset of 2^64 - 32": (
        two(2**64 - 32),
        "tensor 'b'",
        "its data at offset 18446744073709551584 leave a hole before them: the next free offset is 64",
    ),
    "data cut off": (
        two(64, data=bytes(103)),
        "tensor 'b'",
        "the file has 199 bytes, but its tensors need 200: 1 bytes are missing",
    ),
    "data of the first tensor cut off": (
        two(64, data=bytes(39)),
        "tensor 'a'",
        "the file has 135 bytes, but its tensors need 200: 65 bytes are missing",
    ),
    "no data": (
        one([1], data=b""),
        "tensor 'w'",
        "the file has 64 bytes, but its tensors need 68: 4 bytes are missing",
    ),
    "a product that is 4 modulo 2^64": (
        one([4194305, 4194305, 211106198978564]),
        "tensor 'w'",
        f"the file has 100 bytes, but its tensors need {96 + WRAPPED}: {WRAPPED - 4} bytes are missing",
    ),
    "more weights than bytes": (
        one([1000, 1000]),
        "tensor 'w'",
        "the file has 100 bytes, but its tensors need 4000096: 3999996 bytes are missing",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_with_its_reason_and_place(tmp_path: Path, name: str) -> None:
    raw, place, message = MALFORMED[name]
    path = write(tmp_path, raw)
    error = refused(path)
    assert error.args[0] == message
    assert error.where == (f"{path}: {place}" if place else str(path))


def test_no_malformed_file_makes_the_reader_allocate_more_than_a_megabyte(tmp_path: Path) -> None:
    paths = []
    for number, (raw, _, _) in enumerate(MALFORMED.values()):
        paths.append(tmp_path / f"{number}.gguf")
        paths[-1].write_bytes(raw)
    tracemalloc.start()
    try:
        for path in paths:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            refused(path)
            assert tracemalloc.get_traced_memory()[1] - before < 2**20, path
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "element", "place"), [(f.U8, b"\1", "offset 49"), (f.STRING, f.string("ab"), "offset 99")]
)
def test_a_header_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, element: bytes, place: str
) -> None:
    path = write(tmp_path, arrayed(kind, [element] * 60))
    monkeypatch.setattr(engine.gguf, "MAX_HEADER", path.stat().st_size)
    assert len(read_gguf(path).array("k")) == 60
    monkeypatch.setattr(engine.gguf, "MAX_HEADER", 100)
    error = refused(path)
    assert (error.args[0], error.where) == ("the header is longer than 100 bytes", f"{path}: {place}")


def test_an_array_that_fills_a_large_file_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = write(tmp_path, arrayed(f.U8, [], engine.gguf.MAX_HEADER))
    os.truncate(path, engine.gguf.MAX_HEADER + 49)  # sparse: it takes no disk
    tracemalloc.start()
    try:
        assert refused(path).args[0] == "the header is longer than 134217728 bytes"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# Damage at random


def small() -> bytes:
    """A valid file of some 500 bytes with most kinds of values, whose last byte is a tensor's."""
    pairs = [
        f.pair("general.architecture", f.STRING, f.string("llama")),
        f.pair("general.alignment", f.U32, f.scalar(f.U32, 32)),
        f.pair("eps", f.F32, f.scalar(f.F32, 1e-5)),
        f.pair("bos", f.BOOL, b"\1"),
        f.pair("tokens", f.ARRAY, f.array(f.STRING, [f.string(token) for token in ("<s>", "Ġt", "é", "")])),
        f.pair("types", f.ARRAY, f.array(f.I32, [f.scalar(f.I32, number) for number in (3, 1, 1, 6)])),
        f.pair("flags", f.ARRAY, f.array(f.BOOL, [b"\1", b"\0"])),
    ]
    tensors = [f.tensor("norm", [5], 0, 0), f.tensor("q", [32, 3], 2, 32), f.tensor("half", [2, 2], 1, 96)]
    data = f.padded(bytes(range(20))) + f.padded(bytes(range(100, 154))) + bytes(range(8))
    return f.gguf(pairs, tensors, data)


def read_or_refuse(path: Path) -> GGUFFile | None:
    """The file, every tensor of it dequantised; None when it is refused with an EngineError."""
    try:
        file = read_gguf(path)
    except EngineError:
        return None
    for name, info in file.tensors.items():
        assert file.raw(name).size == info.nbytes
        assert file.dequantised(name).shape == info.shape
    return file


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, small())
    assert read_or_refuse(path) is not None
    for length in reversed(range(len(small()))):
        os.truncate(path, length)
        assert read_or_refuse(path) is None, length


def test_every_flipped_bit_is_read_or_refused(tmp_path: Path) -> None:
    raw, path, accepted = small(), write(tmp_path, small()), 0
    with path.open("r+b", buffering=0) as file:
        for index, byte in enumerate(raw):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), index)
                accepted += read_or_refuse(path) is not None
            os.pwrite(file.fileno(), bytes([byte]), index)
    assert path.read_bytes() == raw
    assert 0 < accepted < 8 * len(raw)


DAMAGE = st.lists(st.tuples(st.integers(0, len(small()) - 1), st.integers(0, 255)), min_size=1, max_size=6)


@given(damage=DAMAGE, length=st.none() | st.integers(0, len(small())))
@example(damage=[(16, 255), (23, 255)], length=None)
@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_reads_as_gguf_py_reads_it(
    tmp_path: Path, damage: list[tuple[int, int]], length: int | None
) -> None:
    raw = bytearray(small())
    for index, byte in damage:
        raw[index] = byte
    file = read_or_refuse(write(tmp_path, bytes(raw[:length])))
    if file is not None and not any(map(holds_nan, file.metadata.values())):
        assert_equal_to_gguf_py(file)


def holds_nan(value: Any) -> bool:
    """Whether comparing the value with itself would fail."""
    return any(map(holds_nan, value)) if isinstance(value, tuple) else isinstance(value, float) and math.isnan(value)


# Getters


@pytest.fixture
def mixed(tmp_path: Path) -> GGUFFile:
    pairs = [
        f.pair("integer", f.U16, f.scalar(f.U16, 7)),
        f.pair("number", f.F32, f.scalar(f.F32, 0.5)),
        f.pair("text", f.STRING, f.string("t" * 100)),
        f.pair("flag", f.BOOL, b"\1"),
        f.pair("array", f.ARRAY, f.array(f.U8, [bytes([byte]) for byte in range(100)])),
    ]
    return read_gguf(write(tmp_path, f.gguf(pairs)))


def test_getters_return_values_of_their_type(mixed: GGUFFile) -> None:
    assert mixed.integer("integer") == 7
    assert (mixed.number("number"), mixed.number("integer")) == (0.5, 7)
    assert mixed.text("text") == "t" * 100
    assert mixed.array("array") == tuple(range(100))


def test_getters_return_their_default_for_a_missing_key_only(mixed: GGUFFile) -> None:
    assert mixed.integer("none", default=3) == 3
    assert mixed.text("none", default=None) is None
    assert mixed.array("none", default=()) == ()
    assert mixed.integer("integer", default=3) == 7
    with pytest.raises(EngineError, match="not an integer"):
        mixed.integer("text", default=3)


@pytest.mark.parametrize("getter", [GGUFFile.integer, GGUFFile.number, GGUFFile.text, GGUFFile.array])
def test_a_missing_key_is_an_error_that_names_file_and_key(mixed: GGUFFile, getter: Callable[..., Any]) -> None:
    with pytest.raises(EngineError) as caught:
        getter(mixed, "llama.none")
    assert caught.value.args[0] == "metadata key 'llama.none' is missing"
    assert caught.value.where == str(mixed.path)


@pytest.mark.parametrize(
    ("getter", "key", "message"),
    [
        (GGUFFile.integer, "number", "metadata key 'number' holds a number (0.5), not an integer"),
        (GGUFFile.integer, "flag", "metadata key 'flag' holds a bool (True), not an integer"),
        (GGUFFile.number, "flag", "metadata key 'flag' holds a bool (True), not a number"),
        (GGUFFile.text, "integer", "metadata key 'integer' holds an integer (7), not a string"),
        (GGUFFile.array, "text", f"metadata key 'text' holds a string ('{'t' * 60}'...), not an array"),
        (
            GGUFFile.text,
            "array",
            f"metadata key 'array' holds an array (({', '.join(map(str, range(8)))}, ...)), not a string",
        ),
    ],
)
def test_a_value_of_another_type_is_an_error_that_shows_it(
    mixed: GGUFFile, getter: Callable[..., Any], key: str, message: str
) -> None:
    with pytest.raises(EngineError) as caught:
        getter(mixed, key)
    assert caught.value.args[0] == message
    assert caught.value.where == str(mixed.path)


@pytest.mark.parametrize("read", [GGUFFile.raw, GGUFFile.dequantised])
def test_a_tensor_that_is_missing_is_named(mixed: GGUFFile, read: Callable[..., Any]) -> None:
    with pytest.raises(EngineError, match=r"/model\.gguf: tensor 'blk\.0\.none' is missing\n  hint: "):
        read(mixed, "blk.0.none")
