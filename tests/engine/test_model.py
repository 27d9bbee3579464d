"""Tests of engine.model: what is read, and everything that is refused, with the message."""

import re

import numpy as np
import pytest

from engine.checkpoint import read_checkpoint
from engine.errors import EngineError
from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.model import read_model
from engine.reference import ReferencePath
from engine.registry import locate
from tests.engine import checkpoints
from tests.engine.model_files import END, HEAD_DIM, VOCAB, keys, small_model, tensors, write

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


def test_rope_factors_are_read(tmp_path):
    factors = np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)
    model = read(tmp_path, keys("llama"), tensors("llama") | {"rope_freqs.weight": factors})
    assert np.array_equal(model.rope_factors, factors)
    assert read(tmp_path, keys("llama"), tensors("llama")).rope_factors is None


def test_the_packaged_models_are_read():
    for name, tied in (("tiny-qwen2", True), ("tiny-qwen2-f16", True)):
        model = read_model(read_gguf(locate(name)))
        assert (model.config.architecture, model.config.qkv_bias, model.config.tied) == ("qwen2", True, tied)


# ---------------------------------------------------------------- what is refused


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


# ---------------------------------------------------------------- folders of the Hugging Face layout

PATHS = (lambda model: FastPath(model, capacity=16, threads=2), ReferencePath)
IDS = [1, 5, 200, 257, 30, 104, 105]


def stages(model, start):
    """Logits and every tensor of a forward pass, by stage and layer."""
    found = {}
    start(model).forward(IDS, tap=lambda stage, layer, array: found.__setitem__((stage, layer), array.copy()))
    return found


@pytest.mark.parametrize("start", PATHS, ids=["fast", "reference"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_qwen2_gives_the_same_bits_from_either_format(tmp_path, dtype, tied, shards, start):
    settings = checkpoints.config("qwen2", tie_word_embeddings=tied)
    folder = checkpoints.write(tmp_path / "m", settings, checkpoints.weights("qwen2", tied=tied), dtype, shards=shards)
    theirs = read_model(read_gguf(write(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2", tied=tied), dtype)))
    ours = checkpoints.read(folder)
    assert ours.layers[0].q.format.name == dtype
    want = stages(theirs, start)
    got = stages(ours, start)
    assert got.keys() == want.keys()
    for key, values in want.items():
        assert np.array_equal(got[key], values), key


@pytest.mark.parametrize("start", PATHS, ids=["fast", "reference"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_llama_rotates_its_halves_to_the_same_bits_as_the_permuted_pairs_of_a_gguf_file(tmp_path, dtype, start):
    ours = stages(checkpoints.read(checkpoints.small_checkpoint(tmp_path, "llama", dtype)), start)
    theirs = stages(small_model(tmp_path, "llama", dtype), start)
    for stage in ("q_post_rope", "k_post_rope"):
        turned = theirs[stage, 0]
        want = np.array([checkpoints.halved(row.reshape(-1, 1)).ravel() for row in turned])
        assert np.array_equal(ours[stage, 0], want)
        assert not np.array_equal(ours[stage, 0], turned)
    logits, want = ours["lm_head", None], theirs["lm_head", None]
    assert np.abs(logits - want).max() <= 1e-6 * np.abs(want).max()  # the sum over a head goes in another order


@pytest.mark.parametrize("start", PATHS, ids=["fast", "reference"])
def test_llama3_scaling_gives_the_bits_of_a_gguf_file_with_rope_factors(tmp_path, start):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    settings = checkpoints.config("qwen2", rope_scaling=scaling | {"original_max_position_embeddings": 16})
    ours = checkpoints.read(checkpoints.write(tmp_path / "m", settings, checkpoints.weights("qwen2")))
    assert not np.array_equal(ours.rope_factors, np.ones(HEAD_DIM // 2))
    metadata, values = keys("qwen2"), tensors("qwen2") | {"rope_freqs.weight": ours.rope_factors}
    want = stages(read_model(read_gguf(write(tmp_path / "m.gguf", metadata, values))), start)
    got = stages(ours, start)
    assert all(np.array_equal(got[key], values) for key, values in want.items())


@pytest.mark.parametrize("start", PATHS, ids=["fast", "reference"])
def test_weights_that_lie_at_odd_addresses_give_the_same_bits(tmp_path, start):
    even = checkpoints.read(checkpoints.small_checkpoint(tmp_path / "even", "qwen2"))
    values, odd = checkpoints.weights("qwen2"), None
    for padding in (3, 5, 7):  # older writers did not pad the header
        folder = checkpoints.write(tmp_path / str(padding), checkpoints.config("qwen2"), values, padding=padding)
        odd = checkpoints.read(folder)
        if odd.layers[0].q.raw.ctypes.data % 2:
            break
    assert odd.layers[0].q.raw.ctypes.data % 2
    assert np.array_equal(start(odd).forward(IDS), start(even).forward(IDS))


def test_the_matrices_of_a_folder_stay_in_its_mapped_files(tmp_path):
    checkpoint = read_checkpoint(checkpoints.small_checkpoint(tmp_path, "llama", "BF16", shards=2))
    model = read_model(checkpoint)
    for weight in (model.embedding, model.output, model.layers[1].q, model.layers[1].down):
        assert np.shares_memory(weight.raw, checkpoint.shards[checkpoint.owners[weight.name]].data)
        assert not weight.raw.flags.writeable
    assert model.path == tmp_path / "llama"


def of_folder(tmp_path, arch="qwen2", *, drop=(), more=None, **changes):
    values = {name: array for name, array in checkpoints.weights(arch).items() if name not in drop}
    return checkpoints.write(tmp_path / "m", checkpoints.config(arch, **changes), values | (more or {}))


def test_an_output_matrix_beside_tied_embeddings_must_be_the_same(tmp_path):
    embedding = checkpoints.weights("qwen2")["model.embed_tokens.weight"]
    model = checkpoints.read(of_folder(tmp_path, more={"lm_head.weight": embedding}))
    assert model.output is model.embedding
    folder = of_folder(tmp_path, more={"lm_head.weight": -embedding})
    message = r"m: tie_word_embeddings is true, but lm_head.weight is not model.embed_tokens.weight\n"
    with pytest.raises(EngineError, match=message):
        checkpoints.read(folder)
    for shape in ((), (0,), (VOCAB, 63)):
        folder = of_folder(tmp_path, more={"lm_head.weight": np.ones(shape, np.float32)})
        with pytest.raises(EngineError, match=r"tensor 'lm_head.weight' has shape "):
            checkpoints.read(folder)


def test_frequencies_that_an_older_transformers_stored_are_left_aside(tmp_path):
    names = [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(3)]
    stored = {name: np.ones(8, np.float32) for name in names}
    plain = checkpoints.read(of_folder(tmp_path / "plain"))
    model = checkpoints.read(of_folder(tmp_path, more={name: stored[name] for name in names[:2]}))
    assert np.array_equal(ReferencePath(model).forward(IDS), ReferencePath(plain).forward(IDS))
    with pytest.raises(EngineError, match=r"does not have: model.layers.2.self_attn.rotary_emb.inv_freq\n"):
        checkpoints.read(of_folder(tmp_path, more=stored))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ("model.norm.weight",)}, "tensor 'model.norm.weight' is missing"),
        (
            {"drop": ("model.layers.1.self_attn.k_proj.bias",)},
            "tensor 'model.layers.1.self_attn.k_proj.bias' is missing",
        ),
        ({"tie_word_embeddings": None}, "tensor 'lm_head.weight' is missing"),
        (
            {"vocab_size": 10**9},
            r"'model.embed_tokens.weight' has shape \(258, 64\), the configuration needs \(1000000000, 64\)",
        ),
        (
            {"num_hidden_layers": 3},
            "tensor 'model.layers.2.input_layernorm.weight' is missing|'model.layers.2.self_attn",
        ),
        ({"num_hidden_layers": 1}, "does not have: model.layers.1.input_layernorm.weight, "),
        (
            {"head_dim": 32},
            r"'model.layers.0.self_attn.q_proj.bias' has shape \(64,\), the configuration needs \(128,\)",
        ),
        ({"num_hidden_layers": 2**31 - 1}, "tensor 'model.layers.2.self_attn.q_proj.bias' is missing"),
        (
            {"model_type": "llama", "architectures": None},
            "a llama model of this configuration does not have: .*_proj.bias",
        ),
        (
            {"more": {"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}},
            "does not have: .*q_norm.weight",
        ),
    ],
    ids=str,
)
def test_a_folder_whose_weights_are_not_those_of_its_configuration_is_refused(tmp_path, changes, message):
    with pytest.raises(EngineError, match=message) as caught:
        checkpoints.read(of_folder(tmp_path, **changes))
    assert caught.value.where == str(tmp_path / "m")
