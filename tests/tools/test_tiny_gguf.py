"""The embedded model's two files: made of one set of weights, and complete for every reader."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, quants

from tools.tiny_gguf import gguf_weights, tensor_kind

MODELS = Path(__file__).resolve().parents[2] / "engine" / "models"
F16, Q4_K_M = MODELS / "tiny-qwen2-f16.gguf", MODELS / "tiny-qwen2-q4_k_m.gguf"
ERROR = {Kind.F32: 0.0, Kind.Q4_K: 0.08, Kind.Q6_K: 0.02}  # relative RMSE of normal weights is 0.071 and 0.017


@pytest.fixture(scope="module")
def f16():
    return GGUFReader(F16)


@pytest.fixture(scope="module")
def q4_k_m():
    return GGUFReader(Q4_K_M)


def value(reader, key):
    return reader.fields[key].contents()


def test_both_files_hold_the_same_weights_but_for_the_quantisation(f16, q4_k_m):
    exact = {tensor.name: tensor for tensor in f16.tensors}
    assert [tensor.name for tensor in q4_k_m.tensors] == list(exact)
    for tensor in q4_k_m.tensors:
        want = np.asarray(exact[tensor.name].data, dtype=np.float32)
        got = quants.dequantize(tensor.data, tensor.tensor_type)
        rmse = float(np.sqrt(np.mean(np.square(got - want)) / np.mean(np.square(want))))
        assert rmse <= ERROR[tensor.tensor_type], tensor.name


def test_both_files_differ_only_in_the_metadata_that_names_the_format(f16, q4_k_m):
    assert list(f16.fields) == list(q4_k_m.fields)
    differing = [key for key in f16.fields if value(f16, key) != value(q4_k_m, key)]
    assert differing == ["general.file_type"]
    assert (value(f16, "general.file_type"), value(q4_k_m, "general.file_type")) == (1, 15)


def test_the_mix_is_that_of_q4_k_m(q4_k_m):
    six_bits = {tensor.name for tensor in q4_k_m.tensors if tensor.tensor_type == Kind.Q6_K}
    layers = {f"blk.{layer}.{name}.weight" for layer in (2, 3) for name in ("attn_v", "ffn_down")}
    assert six_bits == {"token_embd.weight"} | layers
    assert {tensor.tensor_type for tensor in q4_k_m.tensors} == {Kind.F32, Kind.Q4_K, Kind.Q6_K}


def test_the_biases_of_query_key_and_value_are_large_enough_to_be_missed(f16):
    """An engine that forgets one must not pass unnoticed."""
    biases = [tensor for tensor in f16.tensors if re.fullmatch(r"blk\.\d\.attn_[qkv]\.bias", tensor.name)]
    assert len(biases) == 12
    assert all(float(np.sqrt(np.mean(np.square(tensor.data)))) >= 0.01 for tensor in biases)


def test_every_token_has_a_type_and_the_special_ones_come_last(f16):
    tokens, types = value(f16, "tokenizer.ggml.tokens"), value(f16, "tokenizer.ggml.token_type")
    assert len(tokens) == len(set(tokens)) == len(types) == 2048
    assert tokens[-3:] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert set(types[:-3]) == {1}
    assert types[-3:] == [3, 3, 3]


def test_the_page_beside_the_files_names_their_digests():
    page = (MODELS / "README.md").read_text("utf-8")
    for path in (F16, Q4_K_M):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert f"| `{path.name}` | {len(content):,} | `{digest}` |" in page


def test_both_files_together_stay_below_11_megabytes():
    assert F16.stat().st_size + Q4_K_M.stat().st_size <= 11_000_000


def test_a_deeper_model_keeps_six_bits_at_both_ends_and_in_every_third_layer_between():
    kinds = [tensor_kind(f"blk.{layer}.ffn_down.weight", 2, 24, k_quants=True) for layer in range(24)]
    assert [layer for layer, kind in enumerate(kinds) if kind == Kind.Q6_K] == [
        0,
        1,
        2,
        5,
        8,
        11,
        14,
        17,
        20,
        21,
        22,
        23,
    ]


def test_a_tied_output_matrix_is_written_once_under_the_name_of_the_embedding():
    embedding = np.ones((2, 2), dtype=np.float32)
    weights = gguf_weights({"model.embed_tokens.weight": embedding, "lm_head.weight": embedding})
    assert list(weights) == ["token_embd.weight"]


def test_matrices_are_rounded_to_float16_and_vectors_are_not():
    third = np.float32(1 / 3)
    weights = gguf_weights(
        {
            "model.layers.3.self_attn.q_proj.weight": np.full((1, 1), third),
            "model.layers.3.self_attn.q_proj.bias": np.full(1, third),
        }
    )
    assert weights["blk.3.attn_q.weight"][0, 0] == np.float32(np.float16(third)) != third
    assert weights["blk.3.attn_q.bias"][0] == third
