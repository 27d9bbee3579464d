"""Tests of engine.model: what is read, and everything that is refused, with the message."""

import re

import numpy as np
import pytest

from engine.errors import EngineError
from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.model import read_model
from engine.reference import ReferencePath
from engine.registry import locate
from tests.engine.model_files import END, FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB, keys, tensors, write

ARCHITECTURES = ("qwen2", "llama")


def read(tmp_path, metadata, weights):
    return read_model(read_gguf(write(tmp_path / "m.gguf", metadata, weights)))


def refused(tmp_path, message, metadata=None, weights=None):
    metadata = keys("qwen2") if metadata is None else metadata
    with pytest.raises(EngineError, match=message) as caught:
        read(tmp_path, metadata, tensors("qwen2") if weights is None else weights)
    assert caught.value.where.startswith(str(tmp_path / "m.gguf"))


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_configuration_is_that_of_the_file(tmp_path, arch):
    c = read(tmp_path, keys(arch), tensors(arch)).config
    assert (c.architecture, c.name, c.n_layers, c.hidden, c.ffn) == (arch, f"small-{arch}", LAYERS, HIDDEN, FFN)
    assert (c.heads, c.kv_heads, c.head_dim, c.vocab, c.context) == (HEADS, KV_HEADS, HEAD_DIM, VOCAB, 32)
    assert (c.rope_base, c.rope_dim, c.rope_scale) == (10000.0, HEAD_DIM, 1.0)
    assert c.rms_eps == pytest.approx(1e-5, rel=1e-6)
    assert (c.q_width, c.kv_width) == (64, 32)
    assert c.pairing == {"qwen2": "halves", "llama": "adjacent"}[arch]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_ties_and_biases_are_those_of_the_tensors_not_of_the_architecture(tmp_path, arch, tied, bias):
    weights = tensors(arch, bias=bias, tied=tied)
    model = read(tmp_path, keys(arch), weights)
    assert (model.config.tied, model.config.qkv_bias) == (tied, bias)
    assert (model.output is model.embedding) == tied
    want = weights["token_embd.weight" if tied else "output.weight"]
    assert np.array_equal(model.output.dequantised(), want)
    for index, layer in enumerate(model.layers):
        if not bias:
            assert layer.qkv_bias is None
            continue
        parts = [weights[f"blk.{index}.attn_{part}.bias"] for part in "qkv"]
        assert np.array_equal(layer.qkv_bias, np.concatenate(parts))


def test_every_tensor_of_a_layer_lands_in_its_own_field(tmp_path):
    weights = tensors("llama")
    model = read(tmp_path, keys("llama"), weights)
    fields = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "attn_out": "attn_output"}
    fields |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    for index, layer in enumerate(model.layers):
        for field, name in fields.items():
            weight = getattr(layer, field)
            want = weights[f"blk.{index}.{name}.weight"]
            assert (weight.rows, weight.columns) == want.shape
            assert np.array_equal(weight.dequantised(), want)
        assert np.array_equal(layer.attn_norm, weights[f"blk.{index}.attn_norm.weight"])
        assert np.array_equal(layer.ffn_norm, weights[f"blk.{index}.ffn_norm.weight"])
    assert np.array_equal(model.final_norm, weights["output_norm.weight"])


def test_optional_keys_have_the_defaults_of_the_specification(tmp_path):
    metadata = keys("llama", attention__head_count_kv=None, rope__freq_base=None, general__name=None)
    weights = tensors("llama")
    for index in range(LAYERS):
        for part in "kv":
            weights[f"blk.{index}.attn_{part}.weight"] = np.zeros((HIDDEN, HIDDEN), np.float32)
    c = read(tmp_path, metadata, weights).config
    assert (c.kv_heads, c.rope_base, c.name) == (HEADS, 10000.0, "m")


def test_a_head_may_be_longer_than_the_hidden_size_divided_by_heads(tmp_path):
    weights = tensors("llama")
    for index in range(LAYERS):
        for part, rows in {"q": 32 * HEADS, "k": 32 * KV_HEADS, "v": 32 * KV_HEADS}.items():
            weights[f"blk.{index}.attn_{part}.weight"] = np.zeros((rows, HIDDEN), np.float32)
        weights[f"blk.{index}.attn_output.weight"] = np.zeros((HIDDEN, 32 * HEADS), np.float32)
    c = read(tmp_path, keys("llama", attention__key_length=32, attention__value_length=32), weights).config
    assert (c.head_dim, c.q_width, c.kv_width, c.rope_dim) == (32, 128, 64, 32)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 1.0),
        ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, 1.0),
        ({"rope__scaling__type": "none", "rope__scale_linear": 4.0}, 1.0),
        ({"rope__scaling__type": "linear"}, 1.0),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, 4.0),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0, "rope__scale_linear": 2.0}, 4.0),
        ({"rope__scaling__factor": 4.0}, 4.0),
        ({"rope__scale_linear": 2.0}, 2.0),
    ],
)
def test_positions_are_scaled_as_llama_cpp_reads_the_keys(tmp_path, changes, scale):
    assert read(tmp_path, keys("llama", **changes), tensors("llama")).config.rope_scale == scale


def test_rope_factors_are_read(tmp_path):
    factors = np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)
    model = read(tmp_path, keys("llama"), tensors("llama") | {"rope_freqs.weight": factors})
    assert np.array_equal(model.rope_factors, factors)
    assert read(tmp_path, keys("llama"), tensors("llama")).rope_factors is None


def test_a_window_that_never_closes_is_no_window(tmp_path):
    for window in (0, 32, 4096):
        assert read(tmp_path, keys("qwen2", attention__sliding_window=window), tensors("qwen2")).config.context == 32


def test_the_packaged_models_are_read():
    for name, tied in (("tiny-qwen2", True), ("tiny-qwen2-f16", True)):
        model = read_model(read_gguf(locate(name)))
        assert (model.config.architecture, model.config.qkv_bias, model.config.tied) == ("qwen2", True, tied)


# ---------------------------------------------------------------- what is refused

KEYS = [
    ({"general__architecture": "gpt2"}, r"architecture 'gpt2' is not supported\n  hint: supported: llama, qwen2$"),
    ({"embedding_length": None}, r"metadata key 'qwen2.embedding_length' is missing"),
    ({"block_count": None}, r"metadata key 'qwen2.block_count' is missing"),
    ({"feed_forward_length": None}, r"metadata key 'qwen2.feed_forward_length' is missing"),
    ({"context_length": None}, r"metadata key 'qwen2.context_length' is missing"),
    ({"attention__head_count": None}, r"metadata key 'qwen2.attention.head_count' is missing"),
    ({"attention__layer_norm_rms_epsilon": None}, r"'qwen2.attention.layer_norm_rms_epsilon' is missing"),
    ({"block_count": 0}, r"qwen2.block_count is 0, not a positive number"),
    ({"block_count": 2**31}, r"qwen2.block_count is 2147483648, not a positive number"),
    ({"context_length": 0}, r"qwen2.context_length is 0, not a positive number"),
    ({"attention__head_count": 0}, r"qwen2.attention.head_count is 0, not a positive number"),
    ({"attention__head_count": 1000}, r"qwen2.attention.key_length is 0, not a positive number"),
    ({"embedding_length": "64"}, r"metadata key 'qwen2.embedding_length' holds a string \('64'\), not an integer"),
    (
        {"attention__head_count": 4, "attention__head_count_kv": 3},
        r"4 query heads cannot share 3 key/value heads evenly",
    ),
    ({"attention__head_count_kv": 8}, r"4 query heads cannot share 8 key/value heads evenly"),
    ({"attention__value_length": 8}, r"keys and values of different length are not supported"),
    ({"rope__dimension_count": 15}, r"qwen2.rope.dimension_count 15 does not fit a head of 16"),
    ({"rope__dimension_count": 18}, r"qwen2.rope.dimension_count 18 does not fit a head of 16"),
    ({"rope__scaling__type": "yarn"}, r"RoPE scaling 'yarn' is not supported\n  hint: supported: none, linear"),
    ({"rope__scaling__factor": 0.0}, r"RoPE scaling factor 0.0 is not a finite number above 0"),
    ({"rope__scaling__factor": -1.0}, r"RoPE scaling factor -1.0 is not a finite number above 0"),
    ({"rope__scaling__factor": float("nan")}, r"RoPE scaling factor nan is not a finite number above 0"),
    ({"rope__scaling__factor": float("inf")}, r"RoPE scaling factor inf is not a finite number above 0"),
    ({"rope__scaling__attn_factor": 0.5}, r"a RoPE attention factor \(0.5\) is not supported"),
    ({"expert_count": 8}, r"mixtures of experts are not supported"),
    ({"attention__sliding_window": 16}, r"sliding-window attention is not supported \(window 16, context 32\)"),
    ({"attention__layer_norm_rms_epsilon": 0.0}, r"impossible constants: RMS epsilon 0.0, RoPE base 10000.0"),
    ({"attention__layer_norm_rms_epsilon": 1.0}, r"impossible constants: RMS epsilon 1.0, RoPE base 10000.0"),
    ({"attention__layer_norm_rms_epsilon": float("nan")}, r"impossible constants: RMS epsilon nan"),
    ({"rope__freq_base": 1.0}, r"impossible constants: .* RoPE base 1.0"),
    ({"rope__freq_base": float("inf")}, r"impossible constants: .* RoPE base inf"),
    ({"rope__freq_base": float("nan")}, r"impossible constants: .* RoPE base nan"),
    ({"tokenizer__ggml__tokens": None}, r"metadata key 'tokenizer.ggml.tokens' is missing"),
    ({"tokenizer__ggml__tokens": ("a", "b")}, r"the vocabulary has 2 tokens, yet the embedding has 258 rows"),
]


@pytest.mark.parametrize(("changes", "message"), KEYS, ids=[", ".join(map(str, row[0].items())) for row in KEYS])
def test_a_configuration_that_would_be_computed_wrongly_is_refused(tmp_path, changes, message):
    arch = changes.get("general__architecture", "qwen2")
    refused(tmp_path, message, keys(arch, **{k: v for k, v in changes.items() if k != "general__architecture"}))


@pytest.mark.parametrize("name", [*tensors("qwen2"), "output.weight"])
def test_each_tensor_that_is_missing_is_named(tmp_path, name):
    weights = tensors("qwen2", tied=name != "output.weight")
    del weights[name]
    if name == "output.weight":  # then the embedding serves
        assert read(tmp_path, keys("qwen2"), weights).config.tied
        return
    refused(tmp_path, rf"tensor '{re.escape(name)}' is missing$", weights=weights)


@pytest.mark.parametrize("name", [*tensors("qwen2", tied=False), "rope_freqs.weight"])
def test_each_tensor_of_a_wrong_shape_is_named(tmp_path, name):
    weights = tensors("qwen2", tied=False) | {"rope_freqs.weight": np.ones(HEAD_DIM // 2, np.float32)}
    shape = weights[name].shape
    weights[name] = np.ones((*shape[:-1], shape[-1] * 2), np.float32)
    need, found = re.escape(str(shape)), re.escape(str(weights[name].shape))
    refused(
        tmp_path, rf"tensor '{re.escape(name)}' has shape {found}, the configuration needs {need}\n", weights=weights
    )


def test_a_transposed_matrix_is_refused(tmp_path):
    weights = tensors("qwen2")
    weights["blk.0.ffn_down.weight"] = weights["blk.0.ffn_down.weight"].T.copy()
    refused(
        tmp_path, r"'blk.0.ffn_down.weight' has shape \(96, 64\), the configuration needs \(64, 96\)", weights=weights
    )


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["blk.0.attn_q_norm.weight"], "blk.0.attn_q_norm.weight"),
        (["blk.0.attn_output.bias"], "blk.0.attn_output.bias"),
        (["blk.2.attn_norm.weight"], "blk.2.attn_norm.weight"),
        ([f"extra.{n}" for n in range(7)], "extra.0, extra.1, extra.2, extra.3, extra.4 and 2 more"),
    ],
)
def test_a_tensor_that_would_be_left_out_is_refused(tmp_path, names, listed):
    weights = tensors("qwen2") | {name: np.ones(16, np.float32) for name in names}
    message = rf"tensors that a qwen2 model of this configuration does not have: {re.escape(listed)}\n"
    refused(tmp_path, message, weights=weights)


def test_a_bias_in_later_layers_only_is_refused(tmp_path):
    weights = tensors("qwen2")
    for part in "qkv":
        del weights[f"blk.0.attn_{part}.bias"]
    refused(tmp_path, r"does not have: blk.1.attn_k.bias, blk.1.attn_q.bias, blk.1.attn_v.bias\n", weights=weights)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_rope_factors_that_are_not_positive_are_refused(tmp_path, bad):
    factors = np.ones(HEAD_DIM // 2, np.float32)
    factors[3] = bad
    weights = tensors("llama") | {"rope_freqs.weight": factors}
    refused(tmp_path, r"rope_freqs.weight holds values that are not finite and positive", keys("llama"), weights)


# ---------------------------------------------------------------- files by gguf-py run


@pytest.mark.parametrize("quantise", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_0"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_small_file_of_each_architecture_runs_through_both_paths(tmp_path, arch, quantise):
    path = write(tmp_path / "m.gguf", keys(arch), tensors(arch), quantise)
    model = read_model(read_gguf(path))
    prompt = list(f"hi {END}".encode())
    fast = FastPath(model, capacity=len(prompt), threads=1).forward(prompt)
    want = ReferencePath(model).forward(prompt)
    assert fast.shape == want.shape == (VOCAB,)
    cosine = float(fast @ want / (np.linalg.norm(fast) * np.linalg.norm(want)))
    assert cosine >= (0.999 if quantise[0] == "Q" else 1 - 1e-6)


def test_a_vocabulary_and_its_embedding_of_one_row_less_are_refused(tmp_path):
    weights = tensors("qwen2")
    weights["token_embd.weight"] = weights["token_embd.weight"][:-1].copy()
    refused(tmp_path, "the vocabulary has 258 tokens, yet the embedding has 257 rows", weights=weights)
