"""Tests of engine.gguf_config: what the keys of a GGUF file mean, and everything that is refused."""

import numpy as np
import pytest

from tests.engine.model_files import FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB, keys, tensors
from tests.engine.test_model import ARCHITECTURES, read, refused

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


def test_a_window_that_never_closes_is_no_window(tmp_path):
    for window in (0, 32, 4096):
        assert read(tmp_path, keys("qwen2", attention__sliding_window=window), tensors("qwen2")).config.context == 32


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


def test_a_vocabulary_and_its_embedding_of_one_row_less_are_refused(tmp_path):
    weights = tensors("qwen2")
    weights["token_embd.weight"] = weights["token_embd.weight"][:-1].copy()
    refused(tmp_path, "the vocabulary has 258 tokens, yet the embedding has 257 rows", weights=weights)
