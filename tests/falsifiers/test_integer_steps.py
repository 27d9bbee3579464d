"""Tests of falsifiers.integer_steps: an oracle, so it is held against float64 and not against kernels."""

import numpy as np
import pytest

from engine.formats import dequantise
from engine.reference import rmsnorm, softmax
from engine.reference import silu as reference_silu
from falsifiers.integer_model import lanes_sum
from falsifiers.integer_steps import attend, exp, kept, norm, rope_tables, rotate, silu, widened
from falsifiers.synthetic import NAMED, random_weight

f32 = np.float32


def ulps(a, b):
    return np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32).astype(np.int64)).max()


def test_exp_is_within_one_unit_in_the_last_place_and_exact_at_its_limits():
    x = np.concatenate([np.linspace(-87.3, 88.72, 20001), np.linspace(-1, 1, 2001)]).astype(f32)
    assert ulps(exp(x), np.exp(x.astype(np.float64)).astype(f32)) <= 1
    limits = np.array([-np.inf, -87.4, 88.8, np.inf, 0.0, -0.0], f32)
    assert exp(limits).tolist() == [0, 0, np.inf, np.inf, 1, 1]
    assert np.isnan(exp(np.array([np.nan], f32))[0])
    assert exp(np.ones((2, 3), f32)).shape == (2, 3)


@pytest.mark.parametrize("columns", [16, 100, 576])
def test_a_norm_divides_by_the_root_mean_square(columns):
    rng = np.random.default_rng(1)
    x, gain = rng.standard_normal((4, columns)).astype(f32), rng.uniform(0.5, 2, columns).astype(f32)
    got = norm(x, gain, 1e-2)
    assert got.dtype == f32
    assert np.allclose(got, rmsnorm(x.astype(np.float64), gain, 1e-2), rtol=5e-7, atol=0)


@pytest.mark.parametrize(("scale", "factors"), [(1.0, None), (4.0, np.array([1, 2, 4, 8], f32))])
def test_rotary_tables_are_cosines_and_sines(scale, factors):
    cosine, sine = rope_tables(300, 10000.0, 8, scale, factors)
    frequency = 10000.0 ** (-2 * np.arange(4) / 8) / (1 if factors is None else factors)
    angle = np.arange(300)[:, None] / scale * frequency
    assert cosine.dtype == sine.dtype == f32
    assert np.abs(cosine - np.cos(angle)).max() <= 2.0**-24
    assert np.abs(sine - np.sin(angle)).max() <= 2.0**-24


def test_a_cache_in_float16_rounds_to_the_nearest_and_ties_to_even():
    x = np.array(
        [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-20, -65519, 65520, 2.0**-25, 3 * 2.0**-25, 1e-9], f32
    )
    want = np.array([1, 1 + 2.0**-9, 1 + 2.0**-10, -65504, np.inf, 0, 2.0**-23, 0], f32)
    assert np.array_equal(kept(x, "float16"), want)
    assert kept(x, "float16").dtype == kept(x, "float32").dtype == f32
    assert np.array_equal(kept(x, "float32"), x)


@pytest.mark.parametrize("adjacent", [True, False])
def test_a_rotation_turns_each_pair_and_leaves_the_rest(adjacent):
    rng = np.random.default_rng(2)
    x, angle = rng.standard_normal((3, 2, 10)).astype(f32), rng.uniform(0, 6, (3, 4))
    got = rotate(x, np.cos(angle).astype(f32), np.sin(angle).astype(f32), adjacent=adjacent)
    pairs = [(2 * i, 2 * i + 1) if adjacent else (i, i + 4) for i in range(4)]
    for t in range(3):
        for i, (first, second) in enumerate(pairs):
            plane = x[t, :, first] + 1j * x[t, :, second]
            turned = plane * np.exp(1j * angle[t, i])
            assert np.allclose(got[t, :, first] + 1j * got[t, :, second], turned, atol=1e-6)
    assert np.array_equal(got[..., 8:], x[..., 8:])


def test_attention_mixes_what_a_token_sees():
    rng = np.random.default_rng(3)
    q, keys, values = (rng.standard_normal(shape).astype(f32) for shape in ((3, 4, 20), (7, 2, 20), (7, 2, 20)))
    mixed, scores, weights = attend(q, keys, values, 4)
    ahead = np.arange(7)[None, :] > 4 + np.arange(3)[:, None]
    products = np.einsum("thd,shd->ths", q.astype(np.float64), np.repeat(keys, 2, axis=1)) / np.sqrt(20)
    want = np.where(ahead[:, None, :], -np.inf, products)
    assert np.array_equal(np.isinf(scores), np.isinf(want))
    assert np.allclose(scores[np.isfinite(want)], want[np.isfinite(want)], atol=1e-6)
    assert np.allclose(weights, softmax(want), atol=1e-6)
    assert not weights[np.isinf(want)].any()
    assert np.allclose(mixed, np.einsum("ths,shd->thd", softmax(want), np.repeat(values, 2, axis=1)), atol=1e-6)


def test_silu_is_the_formula():
    x = np.linspace(-80, 80, 4001).astype(f32)
    assert np.allclose(silu(x), reference_silu(x.astype(np.float64)), rtol=4e-7, atol=1e-36)


@pytest.mark.parametrize("name", NAMED)
def test_weights_are_widened_with_the_roundings_of_ggml(name):
    fmt = NAMED[name]
    weight = random_weight(np.random.default_rng(4), name, 40, 3 * max(fmt.block, 32), fmt)
    got = widened(name, weight.raw)
    assert got.dtype == f32
    assert got.tobytes() == dequantise(weight.raw, fmt).tobytes()  # which is gguf-py's, bit for bit


def test_exponentials_are_summed_in_sixteen_lanes():
    """One key outweighs 16 others by e^17: added to it one by one they would vanish, in other lanes they do not."""
    q, keys = np.zeros((1, 1, 16), f32), np.zeros((17, 1, 16), f32)
    q[0, 0, 0], keys[0, 0, 0] = 1, 68
    _, scores, weights = attend(q, keys, np.zeros_like(keys), 16)
    assert scores[0, 0].tolist() == [17.0] + [0.0] * 16
    small = exp(np.array([-17], f32))[0]
    assert f32(1) + small == 1
    lanes = np.array([1] + [small] * 15, f32)  # the seventeenth key meets the first in lane 0
    assert weights[0, 0, 0] == f32(1) / lanes_sum(lanes) < 1
