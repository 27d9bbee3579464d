"""Tests of engine.synth: files of full size, of which no more is drawn than a test looks at."""

import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.formats import FORMATS
from engine.gguf import GGUFFile, read_gguf
from engine.gguf_writer import header
from engine.mixes import MIXES
from engine.model import read_model
from engine.numerics import llama3_factors
from engine.paths import open_path
from engine.synth import plan, rope_factors, synthesise
from engine.synth_models import LIKES

PARAMETERS = {
    "qwen2-7b": 7_615_616_512,
    "qwen2.5-0.5b": 494_032_768,
    "llama-3.2-1b": 1_235_814_400,
    "smollm2-135m": 134_515_008,
}
"""As the safetensors files of the real models count them."""


@cache
def hollow(folder: Path, like: str) -> GGUFFile:
    """A q4_k_m file with everything but the matrices: holes are where they would be."""
    pairs, tensors = plan(LIKES[like], MIXES["q4_k_m"], 0)
    path = folder / f"{like}.gguf"
    path.write_bytes(header(pairs, tensors))
    os.truncate(path, path.stat().st_size + sum(tensor.nbytes + 31 for tensor in tensors))
    places = read_gguf(path).tensors
    with path.open("r+b") as file:
        for tensor in tensors:
            if len(tensor.shape) == 1:
                file.seek(places[tensor.name].offset)
                file.writelines(tensor.chunks())
    return read_gguf(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hollow")


@pytest.mark.parametrize("like", LIKES)
def test_a_file_has_the_configuration_and_the_parameters_of_the_real_model(folder, like):
    file, want = hollow(folder, like), LIKES[like].config
    got = read_model(file).config
    assert replace(got, rms_eps=want.rms_eps) == want
    assert got.rms_eps == np.float32(want.rms_eps)
    factors = want.rope_dim // 2 if like == "llama-3.2-1b" else 0
    assert sum(math.prod(info.shape) for info in file.tensors.values()) == PARAMETERS[like] + factors


@pytest.mark.parametrize("like", LIKES)
def test_a_file_says_of_its_tokens_and_formats_what_that_of_the_real_model_says(folder, like):
    real = {
        "qwen2-7b": ("qwen2", 151643, 151645, False),
        "qwen2.5-0.5b": ("qwen2", 151643, 151645, False),
        "llama-3.2-1b": ("llama-bpe", 128000, 128009, None),
        "smollm2-135m": ("smollm", 1, 2, False),
    }[like]
    keys = ("pre", "bos_token_id", "eos_token_id", "add_bos_token")
    metadata = hollow(folder, like).metadata
    assert tuple(metadata.get(f"tokenizer.ggml.{key}") for key in keys) == real
    assert metadata["general.file_type"] == 15


def test_a_llama_3_has_the_factors_of_its_rule_and_a_qwen2_has_none():
    assert rope_factors(LIKES["llama-3.2-1b"]).tolist() == llama3_factors(5e5, 64, 32.0, 1.0, 4.0, 8192).tolist()
    assert rope_factors(LIKES["qwen2-7b"]) is None


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "small.gguf"
    size = synthesise("smollm2-135m", MIXES["q4_k_m"], path)
    assert size == path.stat().st_size
    return path


def test_activations_keep_their_size_through_all_layers(small):
    model = read_model(read_gguf(small))
    sizes, logits = {}, None

    def tap(stage, layer, array):
        assert stage in ("attn_scores",) or np.isfinite(array).all(), (stage, layer)
        if stage in ("attn_norm", "qkv_matmul", "attention", "attn_out", "ffn_gate", "ffn_out", "post_ffn_residual"):
            sizes[stage, layer] = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))

    logits = open_path(model, "fast", capacity=6).forward([17, 900, 20000, 49000, 1, 555], tap)
    assert len(sizes) == 7 * 30
    assert min(sizes.values()) > 0.02
    assert max(sizes.values()) < 10
    assert logits.std() > 0.5
    assert np.abs(logits).max() < 20


def test_gguf_py_reads_the_same_tensors_and_keys(small):
    reader = gguf.GGUFReader(small)
    ours = read_gguf(small)
    assert [tensor.name for tensor in reader.tensors] == list(ours.tensors)
    for theirs in reader.tensors:
        info = ours.tensors[theirs.name]
        assert (theirs.tensor_type, tuple(theirs.shape.tolist()[::-1])) == (info.format.ggml_id, info.shape)
        assert theirs.data_offset == info.offset
    for key in ("general.name", "llama.rope.freq_base", "tokenizer.ggml.add_bos_token", "llama.block_count"):
        assert reader.fields[key].contents() == ours.metadata[key]
    assert {info.format for info in ours.tensors.values()} < set(FORMATS.values())


@pytest.mark.oracle
def test_llama_cpp_loads_the_file_and_has_our_logits(small):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `oracles`)")
    tokens = [17, 900, 20000, 49000, 1, 555]
    llama = llama_cpp.Llama(str(small), logits_all=True, verbose=False, n_ctx=64, n_threads=2)
    try:
        llama.eval(tokens)
        want = np.array(llama.scores[len(tokens) - 1], np.float64)
    finally:
        llama.close()
    got = open_path(read_model(read_gguf(small)), "reference", capacity=6).forward(tokens).astype(np.float64)
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) >= 0.999
