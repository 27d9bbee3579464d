"""Tests of falsifiers.integer_forward: what it computes is what the model means, and it is the order of the kernels."""

import ast
from pathlib import Path

import numpy as np
import pytest

import falsifiers
from engine.fast import FastPath
from engine.reference import ReferencePath
from engine.variants import KV_CACHES
from falsifiers.integer_forward import forward
from falsifiers.synthetic import NAMED, random_model
from tests.engine.widths import WIDTHS, of_width

TOKENS = [7, 300, 21, 7, 128, 42, 350]


def traced(path):
    found = {}
    path.forward(TOKENS, lambda stage, layer, array: found.update({(stage, layer): array.copy()}))
    return found


def error(got, want):
    shown = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), shown)
    return float(np.linalg.norm(got[shown] - want[shown]) / np.linalg.norm(want[shown]))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize(("every", "limit"), [(None, 0.05), ("F32", 5e-6), ("BF16", 5e-6), ("Q8_0", 0.05)])
def test_every_stage_is_what_the_weights_mean(architecture, every, limit):
    model = random_model(np.random.default_rng(5), architecture, every)
    got, want = forward(model, TOKENS), traced(ReferencePath(model))
    assert list(got) == list(want)
    for key, values in want.items():
        assert got[key].dtype == np.float32
        assert got[key].shape == values.shape
        assert error(got[key], values) <= limit, key


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("every", [None, *NAMED])
def test_every_stage_has_the_bits_of_the_fast_path(architecture, every):
    model = random_model(np.random.default_rng(6), architecture, every)
    got, want = forward(model, TOKENS), traced(FastPath(model, capacity=8))
    assert got.keys() == want.keys()
    assert [key for key in want if got[key].tobytes() != want[key].tobytes()] == []


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_cache_in_float16_changes_what_attention_reads_and_nothing_before(architecture):
    model = random_model(np.random.default_rng(8), architecture)
    got, plain = forward(model, TOKENS, "float16"), forward(model, TOKENS)
    want = traced(FastPath(model, capacity=8, kv_cache="float16"))
    assert [key for key in want if got[key].tobytes() != want[key].tobytes()] == []
    first = [
        stage for (stage, layer), values in got.items() if layer == 0 and np.array_equal(values, plain[stage, layer])
    ]
    assert first == ["embedding", "attn_norm", "qkv_matmul", "qkv_bias", "q_post_rope", "k_post_rope"]
    assert 0 < error(got["lm_head", None], plain["lm_head", None]) < 0.05


@pytest.mark.parametrize("kv_cache", KV_CACHES)
@pytest.mark.parametrize("widths", WIDTHS, ids=lambda widths: str(widths["hidden"]))
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_widths_that_fill_no_vector_keep_the_order(architecture, widths, kv_cache):
    rng = np.random.default_rng(7)
    odd = of_width(random_model(rng, architecture), rng, **widths)
    got, want = forward(odd, TOKENS, kv_cache), traced(FastPath(odd, capacity=8, kv_cache=kv_cache))
    assert [key for key in want if got[key].tobytes() != want[key].tobytes()] == []


def test_nothing_but_the_models_data_comes_from_the_engine():
    """What computes is written apart: no kernel, no conversion and no table of the engine is used, and no numba."""
    folder = Path(str(falsifiers.__file__)).parent
    found = set()
    for name in ("integer_forward", "integer_steps", "integer_model"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    outside = {name for name in found if name.split(".")[0] in ("engine", "numba", "pv", "llvmlite")}
    assert outside == {"engine.model.Model", "engine.model.Weight"}
