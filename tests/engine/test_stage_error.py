"""Tests of engine.stage_error: groups, errors against a plain computation, what is not finite, ratios to a floor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.stage_error import (
    RESOLUTION,
    SINGLE_ALLOWANCE,
    WHOLE_ALLOWANCE,
    Ratio,
    Worst,
    groups,
    measure,
    ratio,
)
from engine.stages import NAMES
from falsifiers.subject import shapes
from falsifiers.synthetic import random_model

CONFIG = random_model(np.random.default_rng(3), "qwen2").config  # 4 heads on 2 key/value heads of 64
HEADS = {"qkv_matmul": 8, "qkv_bias": 8, "q_post_rope": 4, "k_post_rope": 2, "attn_scores": 4}
HEADS |= {"attn_softmax": 4, "attention": 4}


def pair(stage, seed=0, T=5):
    rng = np.random.default_rng(seed)
    sizes = {name: getattr(CONFIG, name) for name in ("hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab")}
    b = rng.standard_normal(shapes(sizes, T)[stage]).astype(np.float32)
    return b + (rng.standard_normal(b.shape) * 1e-3).astype(np.float32), b


@pytest.mark.parametrize("stage", NAMES)
def test_each_token_and_head_is_measured_apart(stage):
    a, b = pair(stage)
    error = measure(a, b, stage, CONFIG)
    tokens = 1 if stage == "lm_head" else 5
    assert error.rms.shape == error.scale.shape == error.count.shape == (tokens, HEADS.get(stage, 1))
    d = a.astype(np.float64) - b
    for t in range(tokens):
        for g in range(HEADS.get(stage, 1)):
            if stage == "lm_head":
                part = (slice(None),)
            elif d.ndim == 3:
                part = (t, g)
            else:
                width = d.shape[1] // HEADS.get(stage, 1)
                part = (t, slice(g * width, (g + 1) * width))
            assert error.rms[t, g] == pytest.approx(math.sqrt(np.mean(d[part] ** 2)), rel=1e-12)
            assert error.scale[t, g] == pytest.approx(math.sqrt(np.mean(b[part].astype(float) ** 2)), rel=1e-12)
    assert error.whole == pytest.approx(math.sqrt(np.mean(d**2)), rel=1e-12)
    assert error.nmse == pytest.approx(float(np.sum(d**2) / np.sum(b.astype(float) ** 2)), rel=1e-12)
    where = np.unravel_index(np.argmax(np.abs(d)), d.shape)
    assert error.worst == Worst(tuple(map(int, where)), float(a[where]), float(b[where]))
    assert 0.999 < error.cosine < 1


def test_an_unknown_stage_has_no_groups():
    with pytest.raises(ValueError, match=r"^unknown stage 'attn'$"):
        groups("attn", CONFIG)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_on_one_side_is_an_infinite_error_there_alone(bad, side):
    sides = pair("attention")
    sides[side][2, 70] = bad  # head 1 of token 2
    error = measure(*sides, "attention", CONFIG)
    assert np.argwhere(np.isinf(error.rms)).tolist() == [[2, 1]]
    assert error.nmse == error.whole == math.inf
    assert math.isnan(error.cosine)
    assert error.worst.coordinate == (2, 70)
    assert np.isfinite(error.scale).all()
    found = ratio(error, measure(*pair("attention"), "attention", CONFIG))
    assert (found.whole, found.single, found.at, found.within) == (math.inf, math.inf, (2, 1), False)


def test_a_nan_on_both_sides_is_an_infinite_error():
    a, b = pair("ffn_out")
    a[1, 3] = b[1, 3] = np.nan
    assert measure(a, b, "ffn_out", CONFIG).nmse == math.inf


def test_infinities_of_opposite_sign_are_an_infinite_error():
    a, b = pair("ffn_out")
    a[1, 3], b[1, 3] = np.inf, -np.inf
    assert measure(a, b, "ffn_out", CONFIG).nmse == math.inf


def test_masked_scores_are_left_out():
    a, b = pair("attn_scores")
    whole = measure(a, b, "attn_scores", CONFIG)
    a[:, :, 3:] = b[:, :, 3:] = -np.inf
    masked = measure(a, b, "attn_scores", CONFIG)
    assert (masked.count == 3).all()
    assert masked.rms[0, 0] == pytest.approx(math.sqrt(np.mean((a[0, 0, :3].astype(float) - b[0, 0, :3]) ** 2)))
    assert masked.whole != whole.whole
    a[0] = b[0] = -np.inf  # a token of which nothing is left
    assert measure(a, b, "attn_scores", CONFIG).rms[0].tolist() == [0, 0, 0, 0]


def test_equal_sides_have_no_error_and_no_worst_place():
    _, b = pair("ffn_up")
    error = measure(b.copy(), b, "ffn_up", CONFIG)
    assert (error.nmse, error.whole, error.cosine, error.worst) == (0, 0, 1, None)
    assert ratio(error, error) == Ratio(0.0, 0.0, (0, 0))


def test_zeros_have_an_error_that_nothing_excuses():
    a, b = pair("ffn_up")
    assert measure(a, np.zeros_like(b), "ffn_up", CONFIG).nmse == math.inf
    error = measure(np.zeros_like(b), b, "ffn_up", CONFIG)
    assert (error.nmse, error.cosine) == (1, 0)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((5, 256), (4, 256), r"attention: shapes \(5, 256\) and \(4, 256\) cannot be compared"),
        ((0, 256), (0, 256), r"attention: shapes \(0, 256\) and \(0, 256\) cannot be compared"),
        ((5, 255), (5, 255), r"attention: shape \(5, 255\) does not divide into 4 groups for each token"),
    ],
)
def test_shapes_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        measure(np.ones(a, np.float32), np.ones(b, np.float32), "attention", CONFIG)


def test_one_wrong_head_of_one_token_shows_where_the_whole_stage_does_not():
    a, b = pair("attention", T=40)
    floor = measure(a, b, "attention", CONFIG)
    wrong = b + (np.random.default_rng(9).standard_normal(b.shape) * 1e-3).astype(np.float32)
    assert ratio(measure(wrong, b, "attention", CONFIG), floor).within
    wrong[17, 128] += 0.05
    found = ratio(measure(wrong, b, "attention", CONFIG), floor)
    assert found.at == (17, 2)
    assert found.whole < WHOLE_ALLOWANCE
    assert found.single > SINGLE_ALLOWANCE
    assert not found.within


def test_an_error_spread_over_the_stage_shows_where_no_single_head_does():
    a, b = pair("ffn_gate")
    floor = measure(a, b, "ffn_gate", CONFIG)
    more = measure(b + (a - b) * np.float32(1.5), b, "ffn_gate", CONFIG)
    found = ratio(more, floor)
    assert found.whole == pytest.approx(1.5, rel=1e-3)
    assert found.single < SINGLE_ALLOWANCE
    assert not found.within


def test_floors_of_both_sides_add_in_quadrature():
    a, b = pair("ffn_gate")
    error = measure(a, b, "ffn_gate", CONFIG)
    assert ratio(error, error, error).whole == pytest.approx(1 / math.sqrt(2))
    assert ratio(error, error, error).single == pytest.approx(1 / math.sqrt(2))


def test_no_floor_lies_below_the_resolution_of_float32():
    _, b = pair("ffn_gate")
    b[0] *= np.float32(1e-3)  # a small token: its sums may still have been of large terms
    none = measure(b, b, "ffn_gate", CONFIG)
    step = np.float32(RESOLUTION / 2 * none.size)
    error = measure(b + step, b, "ffn_gate", CONFIG)
    found = ratio(error, none)
    assert found.whole == pytest.approx(0.5, rel=0.1)
    assert found.single < 1
    b[1] *= np.float32(1e3)  # and a large one has large steps
    none = measure(b, b, "ffn_gate", CONFIG)
    assert ratio(measure(b * np.float32(1 + 2**-23), b, "ffn_gate", CONFIG), none).single < 1


def test_a_floor_that_is_not_finite_justifies_nothing():
    a, b = pair("ffn_gate")
    error, none = measure(a, b, "ffn_gate", CONFIG), measure(b, b, "ffn_gate", CONFIG)
    a[0, 0] = np.inf
    floor = measure(a, b, "ffn_gate", CONFIG)
    assert ratio(error, floor).within is False
    assert ratio(floor, floor).within is False
    assert ratio(none, floor).within is True


def test_floors_of_another_shape_are_refused():
    error, other = (measure(*pair("ffn_gate", T=T), "ffn_gate", CONFIG) for T in (5, 4))
    with pytest.raises(ValueError, match=r"^an error of shape \(5, 1\) has no floor in \[\(4, 1\)\]$"):
        ratio(error, other)
    with pytest.raises(ValueError, match=r"^an error of shape \(5, 1\) has no floor in \[\]$"):
        ratio(error)


values = st.floats(width=32)
rows = arrays.arrays(np.float32, (3, 256), elements=values, fill=st.floats(-8, 8, width=32))


@given(rows, rows)
def test_no_nan_and_no_lone_infinity_ever_passes(a, b):
    error = measure(a, b, "attention", CONFIG)
    assert not np.isnan(error.rms).any()
    assert not math.isnan(error.nmse)
    bad = ~((a == b) | (np.isfinite(a) & np.isfinite(b)))
    assert bad.any() == (error.nmse == math.inf and math.isnan(error.cosine))
    for token, column in np.argwhere(bad):
        assert error.rms[token, column // 64] == math.inf
    found = ratio(error, measure(b, b, "attention", CONFIG))
    assert not math.isnan(found.whole + found.single)
    assert not (bad.any() and found.within)
    assert error.worst is not None or not bad.any()


@given(rows, st.floats(1e-3, 8))
def test_the_ratio_of_an_error_to_itself_is_at_most_one(a, factor):
    a = np.nan_to_num(a, nan=1, posinf=1, neginf=1).clip(-1e15, 1e15)
    error = measure(a * np.float32(factor), a, "q_post_rope", CONFIG)
    found = ratio(error, error)
    assert found.whole <= 1
    assert found.single <= 1
