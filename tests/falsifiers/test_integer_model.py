"""Tests of falsifiers.integer_model: an oracle, so it is held against exact arithmetic and not against kernels."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats import dequantise
from falsifiers import integer_model
from falsifiers.synthetic import NAMED, random_weight

f32 = np.float32
QUANTISED = [name for name in NAMED if name not in ("F32", "F16", "BF16")]
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rounded(exact):
    """The float32 nearest to a fraction, ties to even, found among the neighbours of a first guess."""
    guess = f32(np.clip(float(exact), -3e38, 3e38))
    near = [np.nextafter(guess, f32(-np.inf)), guess, np.nextafter(guess, f32(np.inf))]
    near = [value for value in near if np.isfinite(value)]
    return min(near, key=lambda value: (abs(Fraction(float(value)) - exact), int(value.view(np.uint32)) & 1))


@settings(max_examples=400, deadline=None)
@given(a=FLOATS, b=FLOATS, c=FLOATS)
def test_fma_rounds_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if abs(exact) > Fraction(3 * 10**38):
        return  # overflow: the next test
    got = integer_model.fma(*(np.array([v], f32) for v in (a, b, c)))
    assert Fraction(float(got[0])) == Fraction(float(rounded(exact)))


@pytest.mark.parametrize(
    ("a", "b", "c", "want"),
    [
        (1 + 2**-12, 1 + 2**-12, 2.0**-60, 1 + 2**-11 + 2**-23),  # two roundings would take the tie to even
        (1 + 2**-12, 1 + 2**-12, -(2.0**-60), 1 + 2**-11),
        (1 + 2**-23, 1 - 2**-23, -1.0, -(2.0**-46)),  # a product that is rounded first gives 0
        (2.0**-100, 2.0**-100, 0.0, 0.0),
        (2.0**-75, 2.0**-74, 2.0**-149, 2.0**-149 + 2.0**-149),
        (2.0**-75, 2.0**-75, 2.0**-149, 2.0**-148),  # a tie between subnormal numbers, to even
        (2.0**-76, 2.0**-75, 2.0**-149, 2.0**-149),
        (3e38, 3.0, 0.0, np.inf),
        (-3e38, 3.0, 0.0, -np.inf),
        (np.inf, 1.0, 0.0, np.inf),
    ],
)
def test_fma_where_rounding_is_hard(a, b, c, want):
    with np.errstate(all="ignore"):
        got = integer_model.fma(*(np.array([v], f32) for v in (a, b, c)))
    assert got[0] == f32(want)


def test_fma_of_what_is_not_a_number():
    with np.errstate(all="ignore"):
        for a, b, c in ((np.nan, 1, 1), (1, np.nan, 1), (1, 1, np.nan), (np.inf, 0, 1), (np.inf, 1, -np.inf)):
            assert np.isnan(integer_model.fma(*(np.array([v], f32) for v in (a, b, c)))[0])


@pytest.mark.parametrize("name", QUANTISED)
def test_unpacked_integers_are_the_dequantised_weights(name):
    fmt = NAMED[name]
    raw = random_weight(np.random.default_rng(3), name, 5, 3 * fmt.block, fmt).raw.reshape(5, 3, -1)
    q, scales, minima, d, dmin = integer_model.unpack(name, raw)
    assert q.shape[:2] == (5, 3)
    assert q.shape[2] * q.shape[3] == fmt.block
    wide = (array.astype(np.float64) for array in (d[..., None, None], dmin[..., None, None]))
    scale, least = wide
    values = (scale * scales[..., None] * q - least * minima[..., None]).reshape(5, -1)
    want = dequantise(raw.reshape(5, -1), fmt).reshape(5, -1)
    assert np.abs(values - want).max() <= 1e-6 * np.abs(want).max()


@pytest.mark.parametrize("name", QUANTISED)
def test_a_product_is_that_of_the_weights_and_the_rounded_activations(name):
    rng, fmt = np.random.default_rng(4), NAMED[name]
    weight = random_weight(rng, name, 6, 2 * fmt.block, fmt)
    q = rng.integers(-127, 128, (3, 2 * fmt.block)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, (3, 2)).astype(f32)
    got = integer_model.matmul(name, weight.raw, fmt.block, q, scale)
    x = q * np.repeat(scale.astype(np.float64), fmt.block, axis=1)
    want = x @ weight.dequantised().astype(np.float64).T
    assert got.dtype == f32
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_lanes_are_summed_8_4_2_and_1_apart():
    lanes = np.zeros(16, f32)
    lanes[0], lanes[8], lanes[4] = 2.0**24, 1, -(2.0**24)  # 1 is lost, for lane 8 joins lane 0 before lane 4 does
    assert integer_model.lanes_sum(lanes) == 0
    lanes[0], lanes[8], lanes[4] = 2.0**24, -(2.0**24), 1
    assert integer_model.lanes_sum(lanes) == 1


@pytest.mark.parametrize("n", [0, 1, 16, 17, 100])
def test_dot_is_the_sum_of_products(n):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, n)).astype(f32)
    exact = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))
    assert abs(float(integer_model.dot(a, b)) - float(exact)) <= 1e-5
