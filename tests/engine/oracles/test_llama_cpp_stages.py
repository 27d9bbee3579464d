"""llama.cpp as an oracle: which stages come, in which layout, and how far they lie from ours.

The reference path is forced: its tap puts llama.cpp's output in at every stage, so that what it computes for a stage
is from llama.cpp's own input, and the difference is what llama.cpp rounds in that stage alone. It rounds activations in
its products, to the type that goes with the weights; everywhere else it computes in float32. So a tensor in a wrong
layout, or that of another node, is off by ten orders of magnitude.
"""

import numpy as np
import pytest

from engine.errors import EngineError
from engine.opening import open_model
from engine.oracles import ggml, llama_cpp, llama_cpp_stages
from engine.paths import open_path
from engine.stages import NAMES, WHOLE
from tests.engine import model_files
from tests.engine.model_files import HIDDEN, keys, tensors, write
from tests.engine.oracles.llamas import (
    FLOAT32,
    ISOLATED,
    MODELS,
    PRODUCTS,
    PROMPT,
    assert_isolated,
    captured,
    isolated,
    located,
    nmse,
)

pytestmark = pytest.mark.oracle
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `llama-cpp`)")


def expected(config):
    """What the oracle gives, in the order in which it comes."""
    layers = [(stage, layer) for layer in range(config.n_layers) for stage in NAMES if stage not in WHOLE]
    kept = [key for key in layers if key[0] != "ffn_silu" and (key[0] != "embedding" or key[1] == 0)]
    return [*kept, ("final_norm", None), ("lm_head", None)]


@pytest.mark.parametrize("name", [*list(MODELS)[:2], pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
def test_19_stages_of_every_layer_agree_with_the_reference_path_alone_and_with_what_is_carried(oracles, name):
    oracle, model = oracles(located(name)), open_model(located(name)).model
    tokens = oracle.tokens(PROMPT)
    logits, theirs = captured(oracle, tokens)
    assert oracle.missing == ("ffn_silu",)
    assert list(theirs) == expected(model.config)
    assert np.array_equal(logits, theirs["lm_head", None])
    product, carried = MODELS[name]
    assert_isolated(isolated(model, tokens, theirs), product)
    _, ours = captured(open_path(model, "reference", capacity=len(tokens)), tokens)
    for key, array in theirs.items():
        assert nmse(array, ours[key]) <= carried, key


@pytest.mark.parametrize("length", [1, 2, 4, 17, 255, 256, 257, 400])
@pytest.mark.parametrize(
    "options",
    [("qwen2",), ("llama",), ("llama", True, True), ("qwen2", False)],
    ids=lambda options: "-".join(map(str, options)),
)
def test_on_float32_weights_every_stage_agrees_to_float32_at_any_length(oracles, small, options, length):
    """Keys are padded to a multiple of 256; with 4 tokens, tokens and heads are as many."""
    path = small(*options)
    model, tokens = open_model(path).model, [index * 7 % 250 for index in range(length)]
    _, theirs = captured(oracles(path), tokens)
    assert list(theirs) == expected(model.config)
    assert_isolated(isolated(model, tokens, theirs), ISOLATED["F32"])
    _, ours = captured(open_path(model, "reference", capacity=length), tokens)
    for key, array in theirs.items():
        assert nmse(array, ours[key]) <= 5e-12, key  # 2e-12 at length 400


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, {}),
        ({"rope__freq_base": 500000.0}, {"rope_freqs.weight": np.linspace(1, 8, 8, dtype=np.float32)}),
    ],
)
def test_other_rotations_are_read_as_we_read_them(tmp_path, changes, more):
    path = write(tmp_path / "model.gguf", keys("llama", **changes), tensors("llama") | more)
    oracle = llama_cpp.open_model(path)
    try:
        assert_isolated(isolated(open_model(path).model, range(30), captured(oracle, range(30))[1]), ISOLATED["F32"])
    finally:
        oracle.close()


def test_scores_of_a_single_head_are_those_before_its_softmax_is_written(tmp_path, monkeypatch):
    """Its softmax is as large as the mask, and may be computed in its place."""
    monkeypatch.setattr(model_files, "HEAD_DIM", HIDDEN)
    monkeypatch.setattr(model_files, "KV_HEADS", 1)
    metadata = keys("llama", attention__head_count=1, attention__head_count_kv=1)
    path = write(tmp_path / "model.gguf", metadata, tensors("llama"))
    oracle = llama_cpp.open_model(path)
    try:
        assert_isolated(isolated(open_model(path).model, range(9), captured(oracle, range(9))[1]), ISOLATED["F32"])
    finally:
        oracle.close()


@pytest.mark.parametrize("quantise", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_only_products_round_and_they_round_as_their_weights_say(oracles, small, arch, quantise):
    path = small(arch, quantise=quantise)
    model, tokens = open_model(path).model, list(range(40, 60))
    found = isolated(model, tokens, captured(oracles(path), tokens)[1])
    assert_isolated(found, ISOLATED[quantise])
    assert min(error for (stage, _), error in found.items() if stage in PRODUCTS) > 100 * FLOAT32


def to_float16(x):
    return x.astype(np.float16).astype(np.float64)


def to_int8(x):
    """A superblock of 256 shares a scale: the largest magnitude is 127."""
    blocks = x.reshape(-1, 256).astype(np.float64)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    return (np.rint(blocks / scale) * scale).reshape(x.shape)


@pytest.mark.parametrize(("name", "rounded"), [("tiny-qwen2-f16", to_float16), ("tiny-qwen2", to_int8)])
def test_a_product_is_that_of_its_rounded_activations_to_float32(oracles, name, rounded):
    """F16 weights take activations in F16, K-quants in int8: nothing else is lost, in any layer."""
    oracle, model = oracles(located(name)), open_model(located(name)).model
    _, theirs = captured(oracle, oracle.tokens(PROMPT))
    for index, layer in enumerate(model.layers):
        for stage, source, weight in (
            ("attn_out", "attention", layer.attn_out),
            ("ffn_gate", "ffn_norm", layer.gate),
            ("ffn_up", "ffn_norm", layer.up),
            ("ffn_out", "ffn_swigl", layer.down),
        ):
            want = rounded(theirs[source, index]) @ weight.dequantised().astype(np.float64).T
            assert nmse(theirs[stage, index], want.astype(np.float32)) <= FLOAT32, (stage, index)


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_a_captured_array_is_the_receivers_own(oracles, small, arch):
    """Without biases too, where qkv_bias is what qkv_matmul is; and none keeps a larger one alive."""
    oracle, held = oracles(small(arch)), []
    logits = oracle.forward([5, 6, 7], lambda stage, layer, array: held.append((array, array.copy())))
    kept = logits.copy()
    oracle.forward([9, 10, 11, 12], lambda *_: None)
    assert np.array_equal(logits, kept)
    arrays = [array for array, _ in held]
    for index, (array, copy) in enumerate(held):
        assert np.array_equal(array, copy)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.base is None or array.base.nbytes == array.nbytes
        assert not any(np.shares_memory(array, other) for other in arrays[index + 1 :])


def test_stages_that_come_in_some_layers_only_are_missing(monkeypatch):
    """The values of the second layer are not recognised before their bias is added."""
    part_of = llama_cpp_stages.Stages._part_of
    monkeypatch.setattr(
        llama_cpp_stages.Stages,
        "_part_of",
        lambda self, tensor: (None, None) if (found := part_of(self, tensor)) == ("v", 1) else found,
    )
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    assert oracle.missing == ("qkv_matmul", "ffn_silu")
    _, stages = captured(oracle, [5, 6])
    assert not {stage for stage, _ in stages} & set(oracle.missing)
    monkeypatch.setattr(llama_cpp_stages.Stages, "_part_of", lambda self, tensor: (None, None))
    with pytest.raises(EngineError, match=r"^llama-cpp: llama.cpp did not give embedding, attn_norm, "):
        captured(oracle, [5, 6])
    oracle.close()


def test_a_node_of_another_layer_is_refused(oracles, monkeypatch):
    oracle, part_of = oracles(located("tiny-qwen2")), llama_cpp_stages.Stages._part_of
    other = {("ffn_up", 1): ("ffn_up", 2)}
    monkeypatch.setattr(
        llama_cpp_stages.Stages, "_part_of", lambda self, tensor: other.get(found := part_of(self, tensor), found)
    )
    with pytest.raises(EngineError, match=r"^llama-cpp: llama.cpp computed ffn_up of layer 2 out of turn, or twice$"):
        oracle.forward([5, 6], lambda *_: None)


@pytest.mark.parametrize(
    ("owner", "name", "value", "message"),
    [
        (llama_cpp_stages._PRODUCTS, "ffn_up", "ffn_gate", r"computed ffn_gate of layer 0 out of turn, or twice$"),
        (llama_cpp_stages._NODES, ("l_out", "ADD"), "none", r"computed attn_norm of layer 1 out of turn, or twice$"),
        (llama_cpp_stages._NODES, ("kqv", "MUL_MAT"), "kq", r"computed kq of layer 0 out of turn, or twice$"),
        (
            llama_cpp_stages._NODES,
            ("result_norm", "MUL"),
            "lm_head",
            r"lm_head has the lengths \(1, 1, 2, 256\), the prompt needs \(1, 1, 2, 2048\)$",
        ),
    ],
)
def test_a_graph_that_is_not_as_we_read_it_is_refused(oracles, monkeypatch, owner, name, value, message):
    oracle = oracles(located("tiny-qwen2"))
    monkeypatch.setitem(owner, name, value)
    with pytest.raises(EngineError, match=rf"^llama-cpp: llama.cpp('s)? {message}"):
        oracle.forward([5, 6], lambda *_: None)


def test_attention_to_padding_or_with_more_than_a_mask_is_refused(oracles, monkeypatch):
    oracle, read = oracles(located("tiny-qwen2")), ggml.Ggml.read
    for changed, message in (
        ("mask", "attends to keys that are not the prompt's$"),
        ("softmax", "attends to keys that are not the prompt's$"),
        ("rows", r"scores, softmax and mask have the lengths \(1, 4, 2, 256\), \(1, 4, 2, 256\) and \(1, 256\), "),
    ):

        def planted(self, tensor, changed=changed):
            array, name = read(self, tensor), self.name(tensor)
            if "mask" in name and changed == "mask":
                array[..., 2] = 0
            if "mask" in name and changed == "rows":
                array = array[..., :1, :]
            if name.startswith("kq_soft_max") and changed == "softmax":
                array[..., 2] = 1e-30
            return array

        monkeypatch.setattr(ggml.Ggml, "read", planted)
        with pytest.raises(EngineError, match=rf"^llama-cpp: llama.cpp('s)? {message}"):
            oracle.forward([5, 6], lambda *_: None)
    monkeypatch.setattr(ggml.Ggml, "parameter", lambda self, tensor, index: 0.125)
    with pytest.raises(
        EngineError, match=r"^llama-cpp: llama.cpp's softmax has no mask, or a slope or sinks beside it$"
    ):
        oracle.forward([5, 6], lambda *_: None)
