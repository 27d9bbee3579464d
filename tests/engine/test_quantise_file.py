"""Tests of engine.quantise_file: what stays, what is written anew, and what is refused with its coordinates."""

import gguf
import numpy as np
import pytest

from engine.errors import EngineError
from engine.formats import dequantise
from engine.gguf import read_gguf
from engine.mixes import MIXES, NAMED
from engine.model import read_model
from engine.paths import open_path
from engine.quantise import CHUNK, quantise
from engine.quantise_file import quantise_file
from engine.registry import locate
from tests.engine.model_files import keys, tensors, write

CHANGED = {"general.file_type", "general.quantization_version"}


@pytest.fixture(scope="module")
def full():
    """The packaged model in F16."""
    return read_gguf(locate("tiny-qwen2-f16"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two layers in F32 whose rows are 64 and 96 weights."""
    return read_gguf(write(tmp_path_factory.mktemp("small") / "small.gguf", keys("qwen2"), tensors("qwen2")))


def quantised(file, mix, path, **options):
    size = quantise_file(file, MIXES[mix], path, **options)
    assert size == path.stat().st_size
    return read_gguf(path)


def raw_pairs(file):
    return {key: file.data[place].tobytes() for key, place in file.pairs.items()}


@pytest.mark.parametrize("mix", ["q4_k_m", "q8_0", "f32"])
def test_metadata_stay_byte_for_byte_but_for_what_is_said_of_the_formats(full, tmp_path, mix):
    got = quantised(full, mix, tmp_path / "m.gguf")
    before, after = raw_pairs(full), raw_pairs(got)
    assert list(after) == list(before)
    assert {key for key in before if before[key] != after[key]} <= CHANGED
    assert got.metadata["general.file_type"] == MIXES[mix].file_type
    assert got.metadata["general.quantization_version"] == 2


def test_keys_that_were_missing_are_added(small, tmp_path):
    assert not CHANGED & small.metadata.keys()
    got = quantised(small, "q4_0", tmp_path / "m.gguf")
    assert list(got.metadata) == [*small.metadata, "general.file_type", "general.quantization_version"]
    assert (got.metadata["general.file_type"], got.metadata["general.quantization_version"]) == (2, 2)


def test_the_formats_are_those_of_the_packaged_file_of_this_mix(full, tmp_path):
    got, want = quantised(full, "q4_k_m", tmp_path / "m.gguf"), read_gguf(locate("tiny-qwen2"))
    assert {name: info.format for name, info in got.tensors.items()} == {
        name: info.format for name, info in want.tensors.items()
    }
    assert got.metadata == want.metadata
    assert list(got.tensors) == list(full.tensors)


def test_each_tensor_holds_what_its_weights_quantise_to(full, tmp_path):
    got = quantised(full, "q5_k_m", tmp_path / "m.gguf")
    for name, info in got.tensors.items():
        weights = full.dequantised(name)
        want = quantise(weights.reshape(info.rows, -1), info.format)
        assert np.array_equal(got.raw(name), want), name
        if weights.ndim == 1:
            assert info.format.name == "F32"
    assert {info.format.name for info in got.tensors.values()} == {"F32", "Q5_K", "Q6_K"}


def test_a_tensor_larger_than_what_is_worked_on_at_a_time_keeps_its_order(full, tmp_path):
    assert np.prod(full.tensors["token_embd.weight"].shape) > CHUNK
    got = quantised(full, "f32", tmp_path / "m.gguf", threads=1)
    for name in full.tensors:
        assert np.array_equal(got.dequantised(name), full.dequantised(name))


def test_the_bytes_do_not_depend_on_the_number_of_threads(full, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(5))
    for threads in (1, 2, 5):
        quantised(full, "q4_k_m", tmp_path / f"{threads}.gguf", threads=threads)
    assert len({(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 5)}) == 1


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_that_there_are_not_are_refused(full, tmp_path, threads):
    with pytest.raises(EngineError, match=rf"^--threads: {threads} threads asked for\n  hint: 1 to \d+ are possible"):
        quantise_file(full, MIXES["q8_0"], tmp_path / "m.gguf", threads=threads)
    assert list(tmp_path.iterdir()) == []


def test_the_next_token_of_a_quantised_model_is_hardly_another(full, tmp_path):
    tokens = [5, 60, 700, 33, 34, 35]
    want = open_path(read_model(full), "reference", capacity=6).forward(tokens)
    for mix, most in (("q8_0", 0.03), ("q6_k", 0.05), ("q4_k_m", 0.3)):
        model = read_model(quantised(full, mix, tmp_path / f"{mix}.gguf"))
        got = open_path(model, "reference", capacity=6).forward(tokens)
        assert np.sqrt(np.mean((got - want) ** 2)) <= most * want.std()


def test_rows_that_do_not_fit_are_told_of_tensor_by_tensor(small, tmp_path):
    lines = []
    got = quantised(small, "q4_k_m", tmp_path / "m.gguf", tell=lines.append)
    matrices = [name for name, info in small.tensors.items() if len(info.shape) == 2]
    told = [line for line in lines if "not whole" in line]
    assert [line.split(":")[0] for line in told] == matrices
    assert told[0] == ("token_embd.weight: rows of 64 weights are not whole Q6_K blocks of 256; written as Q8_0")
    assert {info.format.name for info in got.tensors.values()} == {"F32", "Q5_0", "Q8_0"}


def test_what_has_its_format_already_is_copied_and_nothing_is_told(tmp_path):
    packed = read_gguf(locate("tiny-qwen2"))
    lines = []
    got = quantised(packed, "q4_k_m", tmp_path / "m.gguf", tell=lines.append)
    assert lines == []
    assert got.data.tobytes() == packed.data.tobytes()


def test_what_is_quantised_a_second_time_is_told_of(full, tmp_path):
    packed, lines = read_gguf(locate("tiny-qwen2")), []
    quantised(packed, "q5_k_m", tmp_path / "m.gguf", tell=lines.append)
    again = [line for line in lines if "anew" in line]
    first = next(name for name, info in packed.tensors.items() if info.format.name == "Q4_K")
    count = sum(info.format.name == "Q4_K" for info in packed.tensors.values())
    assert again == [
        f"{count} tensors are quantised anew, first {first} from Q4_K to Q5_K: the errors add up, so take a file in "
        "F16, BF16 or F32 if there is one"
    ]
    lines.clear()
    quantised(packed, "f16", tmp_path / "f16.gguf", tell=lines.append)
    assert lines == []


def test_an_alignment_that_the_file_asks_for_is_kept(tmp_path):
    path = tmp_path / "wide.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in keys("llama", general__alignment=128).items():
        if key != "general.architecture":
            kind = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            kind.get(type(value), lambda key, value: writer.add_array(key, list(value)))(key, value)
    writer.data_alignment = 128
    for name, values in tensors("llama").items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.alignment == 128
    got = quantised(file, "q8_0", tmp_path / "m.gguf")
    assert got.alignment == 128
    for name, info in got.tensors.items():
        assert info.offset % 128 == 0
        assert np.array_equal(got.raw(name), quantise(file.dequantised(name).reshape(info.rows, -1), info.format))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize(("name", "at"), [("blk.1.ffn_up.weight", (70, 3)), ("blk.0.attn_norm.weight", (5,))])
def test_a_weight_that_is_not_finite_is_an_error_with_its_coordinates(tmp_path, name, at, value, word):
    weights = tensors("qwen2")
    weights[name][at] = value
    file = read_gguf(write(tmp_path / "bad.gguf", keys("qwen2"), weights))
    for mix in ("q4_0", "f32"):  # copied or not
        with pytest.raises(EngineError) as caught:
            quantise_file(file, MIXES[mix], tmp_path / "m.gguf")
        assert str(caught.value) == (
            f"{tmp_path}/bad.gguf: tensor '{name}': weight [{', '.join(map(str, at))}] is {word}\n"
            "  hint: the file is damaged, or its training failed: obtain the model again"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_the_first_bad_weight_of_a_large_tensor_is_found_where_it_is(tmp_path):
    rows = 3 * CHUNK // 64 // 1000 * 1000
    weights = tensors("qwen2")
    found = weights["token_embd.weight"]
    file = read_gguf(write(tmp_path / "a.gguf", keys("qwen2"), weights))
    big = np.zeros((rows, 64), np.float32)
    big[: len(found)] = found
    big[rows - 2, 61] = np.nan
    from engine.quantise_file import _convert

    info = file.tensors["blk.0.ffn_down.weight"]
    wide = type(info)("x.weight", big.shape, NAMED["F32"], 0, big.nbytes)
    start = rows - 1000
    with pytest.raises(EngineError, match=rf"tensor 'x.weight': weight \[{rows - 2}, 61\] is nan"):
        _convert(file, wide, NAMED["Q4_0"], big[start:].view(np.uint8), start)


def test_a_weight_too_large_for_its_format_is_an_error(tmp_path):
    weights = tensors("qwen2")
    weights["blk.0.attn_q.weight"][2, 9] = -1e5
    file = read_gguf(write(tmp_path / "big.gguf", keys("qwen2"), weights))
    with pytest.raises(EngineError) as caught:
        quantise_file(file, MIXES["f16"], tmp_path / "m.gguf")
    assert str(caught.value) == (
        f"{tmp_path}/big.gguf: tensor 'blk.0.attn_q.weight': weight [2, 9] is -100000, but F16 ends at 65504\n"
        "  hint: choose bf16 or f32, or look how the weight came to be so large"
    )
    for mix in ("bf16", "f32"):
        got = quantised(file, mix, tmp_path / f"{mix}.gguf")
        assert got.dequantised("blk.0.attn_q.weight")[2, 9] == pytest.approx(-1e5, rel=0.01)


def test_a_copied_weight_may_be_larger_than_what_would_be_quantised(tmp_path):
    weights = tensors("qwen2")
    path = write(tmp_path / "q8.gguf", keys("qwen2"), weights, "Q8_0")
    info = read_gguf(path).tensors["blk.0.attn_q.weight"]
    content = bytearray(path.read_bytes())
    content[info.offset : info.offset + 2] = np.float16(60000).tobytes()
    path.write_bytes(content)
    file = read_gguf(path)
    assert np.abs(file.dequantised("blk.0.attn_q.weight")).max() > 1e6
    got = quantised(file, "q8_0", tmp_path / "m.gguf")
    assert np.array_equal(got.raw("blk.0.attn_q.weight"), file.raw("blk.0.attn_q.weight"))


def test_what_is_needed_is_compiled_before_threads_start_and_no_more(full, tmp_path, monkeypatch):
    asked, lines = [], []
    monkeypatch.setattr("engine.quantise_file.compile_kernels", lambda formats, tell: asked.append((formats, tell)))
    tell = lines.append
    quantised(full, "q4_0", tmp_path / "m.gguf", tell=tell)
    assert asked == [({NAMED["Q4_0"], NAMED["Q6_K"]}, tell)]


def test_what_exists_is_told_of_before_anything_is_compiled(full, tmp_path, monkeypatch):
    def asked(formats, tell):
        raise AssertionError("compiled")

    monkeypatch.setattr("engine.quantise_file.compile_kernels", asked)
    path = tmp_path / "m.gguf"
    path.write_text("mine")
    with pytest.raises(EngineError, match="exists already"):
        quantise_file(full, MIXES["q8_0"], path)
    assert path.read_text() == "mine"


def test_gguf_py_reads_the_same_weights(full, tmp_path):
    got = quantised(full, "q4_k_m", tmp_path / "m.gguf")
    for theirs in gguf.GGUFReader(tmp_path / "m.gguf").tensors:
        assert np.array_equal(theirs.data.view(np.uint8).reshape(got.raw(theirs.name).shape), got.raw(theirs.name))
        info = got.tensors[theirs.name]
        assert np.array_equal(
            gguf.quants.dequantize(theirs.data, theirs.tensor_type).reshape(info.shape),
            dequantise(got.raw(theirs.name), info.format).reshape(info.shape),
        )
