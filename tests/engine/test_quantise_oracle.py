"""Comparison of the quantiser with ggml's own, and of the files with what llama.cpp makes of them."""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.formats import dequantise
from engine.gguf import read_gguf
from engine.mixes import MIXES, NAMED
from engine.model import read_model
from engine.paths import open_path
from engine.quantise import quantise
from engine.quantise_file import quantise_file
from engine.registry import locate
from tests.engine.weights import families, squared_error

pytestmark = pytest.mark.oracle

SEARCHED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
TRAINED = {
    "tiny-qwen2-f16": ("token_embd.weight", "blk.0.attn_v.weight", "blk.1.ffn_down.weight"),
    "smollm2-135m": ("blk.0.ffn_down.weight", "blk.12.ffn_down.weight"),
}


@cache
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `oracles`)")


@cache
def ggml():
    """ggml's function that quantises rows (ggml.h)."""
    folder = Path(llama_cpp().__file__).parent / "lib"
    library = ctypes.CDLL(str(next(path for path in sorted(folder.glob("*ggml-base*")))))
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return function


def by_ggml(weights, fmt):
    rows, columns = weights.shape
    out = np.zeros((rows, columns // fmt.block * fmt.nbytes), np.uint8)
    written = ggml()(fmt.ggml_id, weights.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    assert written == out.nbytes
    return out


def ratio(weights, name):
    """Our squared error over ggml's."""
    fmt = NAMED[name]
    ours, theirs = (
        squared_error(dequantise(raw, fmt), weights) for raw in (quantise(weights, fmt), by_ggml(weights, fmt))
    )
    return ours / theirs if theirs else float(ours > 0)


@pytest.mark.parametrize("name", SEARCHED)
def test_no_family_of_weights_has_a_larger_error_than_with_ggml(name):
    for seed in range(3):
        for kind, weights in families(32, 1024, seed).items():
            assert ratio(weights, name) <= 1 + 1e-9, (kind, seed)


@pytest.mark.parametrize(
    ("name", "most"),
    {"Q4_0": 0.90, "Q4_1": 0.80, "Q5_0": 0.90, "Q5_1": 0.79, "Q4_K": 0.95, "Q5_K": 0.90, "Q6_K": 0.87}.items(),
)
def test_trained_weights_have_a_smaller_error_than_with_ggml(name, most):
    file = read_gguf(locate("tiny-qwen2-f16"))
    for tensor in TRAINED["tiny-qwen2-f16"]:
        assert ratio(file.dequantised(tensor), name) <= most, tensor


@pytest.mark.needs_model
@pytest.mark.parametrize("name", SEARCHED)
def test_weights_of_a_published_model_have_no_larger_error_than_with_ggml(name):
    try:
        file = read_gguf(locate("smollm2-135m"))
    except EngineError as error:
        pytest.skip(str(error))
    for tensor in TRAINED["smollm2-135m"]:
        assert ratio(file.dequantised(tensor), name) <= 1 + 1e-9, tensor


def test_the_bytes_of_q8_0_are_those_of_ggml():
    fmt = NAMED["Q8_0"]
    for kind, weights in families(32, 1024).items():
        if "below" not in kind:  # there, ggml's codes are of a scale that is 0
            assert np.array_equal(quantise(weights, fmt), by_ggml(weights, fmt)), kind


@pytest.mark.parametrize("mix", ["q8_0", "q4_k_m", "q5_k_s", "q4_0"])
def test_llama_cpp_quantises_to_the_same_formats_and_keys(tmp_path, mix):
    source = locate("tiny-qwen2-f16")
    module = llama_cpp()
    settings = module.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = MIXES[mix].file_type, 2
    theirs = tmp_path / "theirs.gguf"
    assert module.llama_model_quantize(bytes(source), bytes(theirs), ctypes.byref(settings)) == 0
    quantise_file(read_gguf(source), MIXES[mix], tmp_path / "ours.gguf")
    a, b = read_gguf(tmp_path / "ours.gguf"), read_gguf(theirs)
    assert a.metadata == b.metadata
    assert {name: info.format for name, info in a.tensors.items()} == {
        name: info.format for name, info in b.tensors.items()
    }
    if mix == "q8_0":
        assert all(np.array_equal(a.raw(name), b.raw(name)) for name in a.tensors)


@pytest.mark.parametrize("mix", list(MIXES))
def test_llama_cpp_runs_the_file_and_has_our_logits(tmp_path, mix):
    path = tmp_path / "m.gguf"
    quantise_file(read_gguf(locate("tiny-qwen2-f16")), MIXES[mix], path)
    tokens = [5, 60, 700, 33, 34, 35]
    llama = llama_cpp().Llama(str(path), logits_all=True, verbose=False, n_ctx=64, n_threads=2)
    try:
        llama.eval(tokens)
        want = np.array(llama.scores[len(tokens) - 1], np.float64)
    finally:
        llama.close()
    got = open_path(read_model(read_gguf(path)), "reference", capacity=6).forward(tokens).astype(np.float64)
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) >= 0.999
