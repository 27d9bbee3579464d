"""Tests of engine.numerics, against the C library's functions and against exact rational arithmetic."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from engine.numerics import cos_sin, exp, llama3_factors, rope_frequencies, rope_tables


def each(function, values):
    """The C library's function of every value: numpy's own, which are vectors, may be further off."""
    return np.array([function(value) for value in values.tolist()])


def units(got, want):
    """Distance in units in the last place of `want`."""
    return np.abs(got - want) / np.spacing(np.abs(want))


def test_exp_is_within_two_units_in_the_last_place():
    rng = np.random.default_rng(1)
    x = np.concatenate([np.linspace(-708, 0, 100001), -rng.exponential(1, 20000), -rng.exponential(1e-6, 2000)])
    assert units(exp(x), each(math.exp, x)).max() <= 2


def test_exp_at_its_edges():
    got = exp(np.array([0.0, -0.0, -708.0, np.nextafter(-708.0, -np.inf), -1e300, -np.inf, np.nan]))
    assert got[:2].tolist() == [1.0, 1.0]
    assert got[2] == pytest.approx(math.exp(-708), rel=1e-15)
    assert got[3:6].tolist() == [0.0, 0.0, 0.0]
    assert math.isnan(got[6])


def test_exp_keeps_the_shape():
    assert exp(np.zeros((2, 3))).shape == (2, 3)
    assert exp(np.zeros(0)).shape == (0,)


def test_cosine_and_sine_are_within_2_to_the_minus_52():
    rng = np.random.default_rng(2)
    angle = np.concatenate([np.linspace(0, 100, 100001), rng.uniform(0, 2**20, 100000), rng.exponential(1e-3, 1000)])
    cosine, sine = cos_sin(angle)
    want_cosine, want_sine = each(math.cos, angle), each(math.sin, angle)
    assert np.abs(cosine - want_cosine).max() <= 2.0**-52
    assert np.abs(sine - want_sine).max() <= 2.0**-52
    plain = (np.abs(want_cosine) > 1e-3) & (np.abs(want_sine) > 1e-3)
    assert units(cosine, want_cosine)[plain].max() <= 4
    assert units(sine, want_sine)[plain].max() <= 4


def test_cosine_and_sine_at_multiples_of_a_right_angle():
    cosine, sine = cos_sin(np.arange(5) * math.pi / 2)
    assert np.allclose(cosine, [1, 0, -1, 0, 1], atol=1e-15)
    assert np.allclose(sine, [0, 1, 0, -1, 0], atol=1e-15)
    assert cos_sin(np.array([0.0])) == (1.0, 0.0)


@pytest.mark.parametrize("angle", [-1e-9, 2.0**20, np.inf, -np.inf, np.nan])
def test_an_angle_that_would_lose_its_fraction_is_refused(angle):
    with pytest.raises(ValueError, match=r"^an angle outside 0 <= angle < 2\^20 would lose its fraction$"):
        cos_sin(np.array([0.5, angle]))


@pytest.mark.parametrize(("base", "rope_dim"), [(10000.0, 64), (100000.0, 64), (1e6, 128), (500000.0, 128), (1.5, 2)])
def test_rope_frequencies_are_correctly_rounded(base, rope_dim):
    """f is the float nearest to base^(-2i/d) iff base^(-2i) lies between the d-th powers of the midpoints around it."""
    got = rope_frequencies(base, rope_dim)
    assert got.shape == (rope_dim // 2,)
    assert got[0] == 1.0
    for i, frequency in enumerate(got):
        if i == 0:
            continue
        below, above = np.nextafter(frequency, 0), np.nextafter(frequency, np.inf)
        low, high = ((Fraction(float(frequency)) + Fraction(float(near))) / 2 for near in (below, above))
        exact = 1 / Fraction(base) ** (2 * i)
        assert low**rope_dim <= exact <= high**rope_dim


def test_rope_frequencies_leave_the_callers_decimal_context_alone():
    with localcontext() as context:
        context.prec = 5
        rope_frequencies(10000.0, 8)
        assert context.prec == 5
        assert Decimal(1) / Decimal(3) == Decimal("0.33333")


def test_llama_3_stretches_long_wavelengths_and_keeps_short_ones():
    """By a plain loop over the rule as its authors publish it (llama-models, apply_scaling)."""
    got = llama3_factors(500000.0, 64, 32.0, 1.0, 4.0, 8192)
    want = []
    for i in range(32):
        frequency = 500000.0 ** (-2 * i / 64)
        length = 2 * math.pi / frequency
        if length < 8192 / 4:
            want.append(1.0)
        elif length > 8192 / 1:
            want.append(32.0)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            want.append(frequency / ((1 - smooth) * frequency / 32 + smooth * frequency))
    assert got.dtype == np.float32
    assert got.tolist() == pytest.approx(want, rel=1e-6)
    assert (got[0], got[-1]) == (1, 32)
    assert {1.0, 32.0} < set(got.tolist())


def test_rope_tables_are_cosines_and_sines_of_position_times_frequency():
    cosine, sine = rope_tables(50, 10000.0, 16, 1.0, None)
    angle = np.arange(50)[:, None] * 10000.0 ** (-np.arange(0, 16, 2) / 16)
    assert cosine.dtype == sine.dtype == np.float32
    assert cosine.shape == sine.shape == (50, 8)
    assert np.abs(cosine - np.cos(angle)).max() <= 6e-8
    assert np.abs(sine - np.sin(angle)).max() <= 6e-8
    assert cosine[0].tolist() == [1.0] * 8
    assert sine[0].tolist() == [0.0] * 8


def test_scaling_divides_positions_and_factors_divide_frequencies():
    plain, _ = rope_tables(41, 10000.0, 16, 1.0, None)
    scaled, _ = rope_tables(41, 10000.0, 16, 4.0, None)
    assert np.array_equal(scaled[::4], plain[:11])
    factors = np.full(8, 2, np.float32)
    factors[0] = 1
    factored, _ = rope_tables(41, 10000.0, 16, 1.0, factors)
    assert np.array_equal(factored[:, 0], plain[:, 0])
    assert np.array_equal(factored[::2, 1:], plain[:21, 1:])
