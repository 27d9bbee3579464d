"""Tests of falsifiers.synthetic: a random model must be able to show a defect."""

import numpy as np
import pytest

from engine.formats import FORMATS
from engine.reference import ReferencePath
from falsifiers.synthetic import NAMED, random_model, random_weight

TOKENS = [7, 300, 21, 7, 128]


def models():
    return {name: random_model(np.random.default_rng(1), name) for name in ("qwen2", "llama")}


def test_one_seed_gives_one_model():
    one, two = models()["qwen2"], models()["qwen2"]
    assert np.array_equal(one.embedding.raw, two.embedding.raw)
    assert np.array_equal(one.layers[1].down.raw, two.layers[1].down.raw)
    other = random_model(np.random.default_rng(2), "qwen2")
    assert not np.array_equal(one.embedding.raw, other.embedding.raw)


def test_the_layers_use_every_weight_format():
    for model in models().values():
        used = {getattr(layer, m).format.name for layer in model.layers for m in ("q", "k", "v", "attn_out")}
        used |= {getattr(layer, m).format.name for layer in model.layers for m in ("gate", "up", "down")}
        assert used == {fmt.name for fmt in FORMATS.values()}


def test_the_two_architectures_differ_in_all_that_may_differ():
    qwen, llama = models()["qwen2"], models()["llama"]
    assert (qwen.config.pairing, llama.config.pairing) == ("halves", "adjacent")
    assert (qwen.config.tied, llama.config.tied) == (True, False)
    assert qwen.output is qwen.embedding
    assert llama.output is not llama.embedding
    assert qwen.layers[0].qkv_bias is not None
    assert llama.layers[0].qkv_bias is None
    assert qwen.rope_factors is None
    assert llama.rope_factors is not None
    assert qwen.config.heads > qwen.config.kv_heads > 1


@pytest.mark.parametrize("name", NAMED)
def test_a_random_weight_is_finite_of_the_size_that_a_trained_one_has(name):
    weight = random_weight(np.random.default_rng(3), name, 40, 512, NAMED[name])
    values = weight.dequantised()
    assert (weight.raw.shape, weight.raw.dtype) == ((40, 512 // NAMED[name].block * NAMED[name].nbytes), np.uint8)
    assert values.shape == (40, 512)
    assert np.isfinite(values).all()
    assert 0.3 <= float(values.std()) * np.sqrt(512) <= 3
    assert abs(float(values.mean())) <= 0.3 * float(values.std())


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_every_shape_fits_and_every_stage_is_finite_and_alive(architecture):
    seen = {}

    def tap(stage, layer, array):
        seen[stage, layer] = array.copy()

    ReferencePath(models()[architecture]).forward(TOKENS, tap)
    for (stage, _), array in seen.items():
        values = array[np.isfinite(array)] if stage == "attn_scores" else array
        assert np.isfinite(values).all()
        assert 1e-3 < float(values.std()) < 1e3, stage
    weights = seen["attn_softmax", 1][-1]
    assert weights.max() < 0.99  # attention looks at more than one token, else a defect in it would not show
