"""Tests of engine.reference: its parts against their definitions, its tap, its cache."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.reference import ReferencePath, matmul, mix, rmsnorm, silu, softmax
from engine.stages import NAMES, ORDER, WHOLE
from falsifiers.subject import shapes as expected_shapes
from falsifiers.synthetic import random_model

TOKENS = [7, 300, 21, 7, 128, 42]
ARCHITECTURES = ("qwen2", "llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def model(request):
    return random_model(np.random.default_rng(31), request.param)


def traced(path, tokens):
    seen = []
    logits = path.forward(tokens, tap=lambda stage, layer, array: seen.append((stage, layer, array.copy())))
    return logits, seen


def test_every_stage_is_tapped_once_in_the_order_of_execution(model):
    _, seen = traced(ReferencePath(model), TOKENS)
    per_layer = [name for name in NAMES if name not in WHOLE and name != "embedding"]
    want = [("embedding", 0)]
    want += [(name, layer) for layer in range(model.config.n_layers) for name in per_layer]
    want += [("final_norm", None), ("lm_head", None)]
    assert [(stage, layer) for stage, layer, _ in seen] == want
    assert [ORDER[stage] for stage, layer, _ in seen if layer in (0, None)] == list(range(20))


def test_every_tapped_tensor_is_float32_contiguous_and_of_the_shape_that_the_configuration_predicts(model):
    c = model.config
    sizes = {name: getattr(c, name) for name in ("hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab")}
    shapes = expected_shapes(sizes, len(TOKENS))
    logits, seen = traced(ReferencePath(model), TOKENS)
    for stage, _, array in seen:
        assert (array.dtype, array.shape, array.flags.c_contiguous) == (np.float32, shapes[stage], True)
    assert np.array_equal(seen[-1][2], logits)


def test_a_tap_changes_nothing(model):
    assert np.array_equal(traced(ReferencePath(model), TOKENS)[0], ReferencePath(model).forward(TOKENS))


def test_the_stages_are_linked_as_a_decoder_links_them(model):
    c = model.config
    _, seen = traced(ReferencePath(model), TOKENS)
    at = {(stage, layer): array.astype(np.float64) for stage, layer, array in seen}
    embedding = model.embedding.dequantised()[TOKENS]
    assert np.array_equal(at["embedding", 0], embedding)
    x = at["embedding", 0]
    for i, layer in enumerate(model.layers):

        def close(stage, want, i=i):
            assert np.allclose(at[stage, i], want, rtol=1e-5, atol=1e-6), stage

        close("attn_norm", rmsnorm(x, layer.attn_norm, c.rms_eps))
        close("qkv_matmul", np.hstack([matmul(at["attn_norm", i], w) for w in (layer.q, layer.k, layer.v)]))
        close("qkv_bias", at["qkv_matmul", i] + (0 if layer.qkv_bias is None else layer.qkv_bias))
        close("ffn_norm", rmsnorm(at["post_attn_residual", i], layer.ffn_norm, c.rms_eps))
        close("attn_softmax", softmax(at["attn_scores", i]))
        v = at["qkv_bias", i][:, c.q_width + c.kv_width :].reshape(len(TOKENS), c.kv_heads, c.head_dim)
        k = at["k_post_rope", i].reshape(len(TOKENS), c.kv_heads, c.head_dim)
        q = at["q_post_rope", i].reshape(len(TOKENS), c.heads, c.head_dim)
        for h in range(c.heads):
            shared = h // (c.heads // c.kv_heads)
            scores = q[:, h] @ k[:, shared].T / math.sqrt(c.head_dim)
            visible = np.tril(np.ones_like(scores, dtype=bool))
            assert np.array_equal(np.isneginf(at["attn_scores", i][:, h]), ~visible)
            assert np.allclose(at["attn_scores", i][:, h][visible], scores[visible], rtol=1e-5, atol=1e-5)
            want = at["attn_softmax", i][:, h] @ v[:, shared]
            got = at["attention", i].reshape(len(TOKENS), c.heads, c.head_dim)[:, h]
            assert np.allclose(got, want, rtol=1e-5, atol=1e-6)
        close("attn_out", matmul(at["attention", i], layer.attn_out))
        close("post_attn_residual", x + at["attn_out", i])
        close("ffn_gate", matmul(at["ffn_norm", i], layer.gate))
        close("ffn_up", matmul(at["ffn_norm", i], layer.up))
        close("ffn_silu", at["ffn_gate", i] / (1 + np.exp(-at["ffn_gate", i])))
        close("ffn_swigl", at["ffn_silu", i] * at["ffn_up", i])
        close("ffn_out", matmul(at["ffn_swigl", i], layer.down))
        x = at["post_attn_residual", i] + at["ffn_out", i]
        close("post_ffn_residual", x)
    assert np.allclose(at["final_norm", None], rmsnorm(x, model.final_norm, c.rms_eps), rtol=1e-5, atol=1e-6)
    assert np.allclose(at["lm_head", None], matmul(at["final_norm", None][-1:], model.output)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cuts", [(1,), (3,), (5,), (1, 2, 3, 4, 5)])
def test_chunks_give_the_logits_of_the_whole(model, cuts):
    whole = ReferencePath(model).forward(TOKENS)
    path = ReferencePath(model)
    for start, stop in zip((0, *cuts), (*cuts, len(TOKENS)), strict=True):
        assert path.position == start
        logits = path.forward(TOKENS[start:stop])
    assert path.position == len(TOKENS)
    assert np.allclose(logits, whole, rtol=1e-6, atol=1e-7)


def test_later_tokens_do_not_change_earlier_rows(model):
    _, first = traced(ReferencePath(model), TOKENS)
    _, second = traced(ReferencePath(model), [*TOKENS[:4], 99, 5])
    for (stage, _, a), (_, _, b) in zip(first, second, strict=True):
        if stage != "lm_head":
            assert np.allclose(a[:4], b[:4], rtol=1e-6, atol=1e-7)
            assert not np.array_equal(a[4:], b[4:])


def test_positions_matter(model):
    logits = ReferencePath(model).forward([7, 8, 9])
    assert not np.allclose(logits, ReferencePath(model).forward([8, 7, 9]), atol=1e-3)


@pytest.mark.parametrize(("pairing", "partner"), [("adjacent", 1), ("halves", 8)])
def test_rotation_pairs_elements_as_the_file_needs_it(model, pairing, partner):
    config = replace(model.config, pairing=pairing, rope_dim=16, rope_base=100.0, rope_scale=2.0)
    path = ReferencePath(replace(model, config=config, rope_factors=None))
    x = np.zeros((1, 1, 64))
    x[0, 0, 0], x[0, 0, 40] = 1.0, 5.0
    turned = path.rotate(x, np.array([3]))
    want = np.zeros(64)
    want[0], want[partner], want[40] = math.cos(1.5), math.sin(1.5), 5.0  # position 3 / 2, frequency 1
    assert np.allclose(turned[0, 0], want)
    slow = np.zeros((1, 1, 64))
    slow[0, 0, 2 if pairing == "adjacent" else 1] = 1.0
    factors = np.full(8, 4, np.float32)
    slower = ReferencePath(replace(model, config=config, rope_factors=factors)).rotate(slow, np.array([3]))
    assert slower.max() == pytest.approx(math.cos(1.5 * 100 ** (-1 / 8) / 4))


def test_rotary_factors_of_the_model_are_used(model):
    doubled = replace(model, rope_factors=np.full(model.config.rope_dim // 2, 2, np.float32))
    single = replace(model, rope_factors=None)
    x = np.random.default_rng(0).standard_normal((1, 4, 64))
    assert np.allclose(ReferencePath(doubled).rotate(x, np.array([10])), ReferencePath(single).rotate(x, np.array([5])))


def test_softmax_gives_no_weight_to_what_is_masked():
    weights = softmax(np.array([[1.0, 2.0, -np.inf], [1000.0, -1000.0, 0.0]]))
    assert np.allclose(weights, [[1 / (1 + math.e), math.e / (1 + math.e), 0], [1, 0, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_weighs_nothing_adds_nothing_even_if_it_is_not_finite(bad):
    weights = np.array([[[0.25, 0.75, 0.0]], [[0.25, 0.25, 0.5]]])
    values = np.array([[[1.0, 2.0]], [[3.0, 4.0]], [[bad, 5.0]]])
    mixed = mix(weights, values)
    assert np.array_equal(mixed[0, 0], [2.5, 3.5])
    assert not np.isfinite(mixed[1, 0, 0])
    assert mixed[1, 0, 1] == 0.25 * 2 + 0.25 * 4 + 0.5 * 5
    spread = np.full((1, 1, 3), np.nan)
    assert np.isnan(mix(spread, values)).all()


def test_silu_does_not_overflow():
    assert np.allclose(silu(np.array([-1e4, -1.0, 0.0, 1.0, 1e4])), [0, -0.2689414, 0, 0.7310586, 1e4])


def test_rmsnorm_puts_epsilon_inside_the_root():
    got = rmsnorm(np.array([[3.0, 4.0]]), np.array([1, 2], np.float32), 0.5)
    assert np.allclose(got, np.array([[3.0, 8.0]]) / math.sqrt(13))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_reaches_the_logits_without_a_warning(model, bad):
    broken = replace(model, final_norm=model.final_norm.copy())
    broken.final_norm[3] = bad
    assert not np.isfinite(ReferencePath(broken).forward(TOKENS)).all()
    layer = replace(model.layers[0], ffn_norm=model.layers[0].ffn_norm * np.float32(bad))
    broken = replace(model, layers=(layer, model.layers[1]))
    assert np.isnan(ReferencePath(broken).forward(TOKENS)).all()


def test_the_path_names_itself():
    assert (ReferencePath.name, ReferencePath.variant) == ("reference", "numpy-float64")
