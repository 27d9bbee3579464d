"""What tests of the llama.cpp oracle share: models, captured stages, and their distance from the reference path."""

from functools import cache

import numpy as np
import pytest

from engine.errors import EngineError
from engine.paths import open_path
from engine.registry import locate

PROMPT = "The file is closed when the block ends, even if an exception occurs."
PRODUCTS = frozenset({"qkv_matmul", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head"})
COPIED = frozenset({"embedding", "qkv_bias", "post_attn_residual", "post_ffn_residual"})
"""Sums of two float32 numbers at most: there is one right result."""
FLOAT32 = 1e-12
"""NMSE of anything else; measured: 2e-14 and less, but 8e-13 after the rotation at position 400 (angles in float32)."""
ISOLATED = {"F32": 1e-12, "F16": 2e-7, "BF16": 1e-5, "Q8_0": 3e-4}
"""NMSE of a product alone, by the weights; measured: 4e-14, 8e-8, 5e-6, 1.1e-4."""
MODELS = {
    "tiny-qwen2": (1e-3, 5e-3),
    "tiny-qwen2-f16": (2e-7, 1e-6),
    "smollm2-135m": (5e-4, 2e-2),
}
"""NMSE of a product alone, and of any stage with what was carried; measured on SmolLM2: 1.7e-4 and 4.7e-3."""


@cache
def located(name):
    try:
        return locate(name)
    except EngineError as error:
        pytest.skip(str(error))


def captured(runner, tokens):
    stages = {}

    def tap(stage, layer, array):
        assert (stage, layer) not in stages
        stages[stage, layer] = np.array(array)

    logits = runner.forward(tokens, tap)
    return logits, stages


def nmse(got, want):
    """Of the values that are finite, which must be the same ones on both sides."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype == np.float32
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    assert np.isfinite(got[finite]).all()
    got, want = got[finite].astype(np.float64), want[finite].astype(np.float64)
    return float(((got - want) ** 2).sum() / (want**2).sum())


def isolated(model, tokens, theirs):
    """NMSE of each of their stages from the one that the reference path computes of their input to it."""
    found = {}

    def tap(stage, layer, array):
        if (stage, layer) not in theirs:
            return None
        found[stage, layer] = nmse(theirs[stage, layer], array)
        return theirs[stage, layer]

    open_path(model, "reference", capacity=len(tokens)).forward(tokens, tap)
    return found


def assert_isolated(found, product):
    for (stage, layer), error in found.items():
        limit = product if stage in PRODUCTS else 0.0 if stage in COPIED else FLOAT32
        assert error <= limit, (stage, layer)
