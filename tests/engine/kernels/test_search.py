"""Tests of engine.kernels.search, on the compiled kernels: rounding, sums and fits against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.search import (
    FAR,
    LANES,
    beside,
    code,
    codes,
    errors,
    fit_line,
    fit_ray,
    half,
    sums,
)
from engine.quantise import _ROUNDS, _SHRINK

F = np.float32
INVERSE = np.linspace(0.5, 12, LANES, dtype=F)


def tile(n: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, LANES)).astype(F)


def test_half_keeps_every_value_of_float16():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for value in every[np.isfinite(every)][::7].astype(F):
        assert half(value) == value


@given(st.floats(-1e6, 1e6, width=32))
@settings(deadline=None)
def test_half_gives_the_nearest_finite_value_of_float16(x):
    got = half(F(x))
    near = np.float16(np.clip(x, -65504, 65504))
    assert got == F(np.float16(got))
    assert abs(float(got) - x) == abs(float(near) - x)


@given(st.floats(-65504, 65504, width=16))
@settings(deadline=None)
def test_a_neighbour_is_one_of_the_next_two_values_of_float16(x):
    x = np.float16(x)
    for direction in (-1, 1):
        first = np.nextafter(x, np.float16(direction * 65504))
        second = np.nextafter(first, np.float16(direction * 65504))
        assert beside(F(x), F(direction)) in (F(first), F(second))
    assert beside(F(x), F(0)) == x


@given(st.floats(-1000, 1000, width=32), st.floats(-1, 1, width=32))
@settings(deadline=None)
def test_a_code_is_the_nearest_whole_number_within_its_bounds(x, offset):
    got = code(F(x), F(3), F(offset), F(-8), F(7))
    assert got == np.rint(np.clip((F(x) - F(offset)) * F(3), -8, 7))


def coded(x, inverse, offset, low, high):
    return np.rint(np.clip((x - offset) * inverse, low, high)).astype(np.float64)


@pytest.mark.parametrize("n", [16, 32])
def test_sums_are_those_of_the_codes(n):
    x, offset = tile(n), np.linspace(-1, 1, LANES, dtype=F)
    found = [np.empty(LANES, F) for _ in range(3)]
    sums(x, INVERSE, offset, F(0), F(15), *found)
    q = coded(x, INVERSE, offset, 0, 15)
    for got, want in zip(found, (q.sum(axis=0), (q * q).sum(axis=0), (q * x).sum(axis=0)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_errors_and_codes_are_those_of_the_scales_as_they_are():
    x, offset, scale = tile(), np.linspace(-1, 1, LANES, dtype=F), (1 / INVERSE).astype(F)
    scale[3] = 0
    found, inverse, written = np.empty(LANES, F), np.empty(LANES, F), np.empty((32, LANES), np.uint8)
    errors(x, scale, offset, F(-8), F(7), inverse, found)
    codes(x, scale, offset, F(-8), F(7), inverse, written)
    q = coded(x, inverse, offset, -8, 7)
    assert not q[:, 3].any()
    np.testing.assert_array_equal(written, q + 8)
    np.testing.assert_allclose(found, ((x - (scale * q + offset)) ** 2).sum(axis=0), rtol=1e-4)


def brute_force(x, low, high, steps, offsets):
    """The smallest squared error of one block over a dense grid of scales, and offsets if there are any."""
    best = np.inf
    for step in steps:
        for offset in offsets:
            q = np.rint(np.clip((x - offset) / step, low, high))
            best = min(best, float(((x - offset - step * q) ** 2).sum()))
    return best


@pytest.mark.parametrize("top", [15, 31])
def test_a_fitted_line_is_near_the_best_of_a_dense_grid(top):
    x, scale, offset, inverse, found = tile(), *(np.empty(LANES, F) for _ in range(4))
    fit_line(x, F(top), FAR, _SHRINK, _ROUNDS, scale, offset)
    errors(x, scale, offset, F(0), F(top), inverse, found)
    total = 0.0
    for lane in range(0, LANES, 16):
        block = x[:, lane].astype(np.float64)
        width = block.max() - block.min()
        steps, offsets = np.linspace(0.75, 1.1, 80) * width / top, block.min() + np.linspace(-0.06, 0.16, 80) * width
        total += brute_force(block, 0, top, steps, offsets)
    assert found[::16].sum() <= 1.02 * total


def test_the_offset_of_a_line_keeps_to_its_ceiling():
    x = np.abs(tile()) + F(0.1)
    scale, offset = np.empty(LANES, F), np.empty(LANES, F)
    fit_line(x, F(15), F(0), _SHRINK, _ROUNDS, scale, offset)
    assert offset.max() <= 1e-6
    assert offset.min() < -0.01
    fit_line(-x, F(15), F(0), _SHRINK, _ROUNDS, scale, offset)
    assert offset.max() < -1
    assert scale.min() > 0


@pytest.mark.parametrize("low", [-8, -16])
def test_a_fitted_ray_is_near_the_best_of_a_dense_grid(low):
    x, scale, inverse, found = tile(), *(np.empty(LANES, F) for _ in range(3))
    reach = np.linspace(low - 1, low + 3, 17, dtype=F)
    fit_ray(x, F(low), F(-low - 1), np.concatenate([reach, -reach]), scale)
    errors(x, scale, np.zeros(LANES, F), F(low), F(-low - 1), inverse, found)
    total = 0.0
    for lane in range(0, LANES, 8):
        block = x[:, lane].astype(np.float64)
        steps = np.abs(block).max() / np.linspace(-low - 4, -low + 2, 500)
        total += brute_force(block, low, -low - 1, [*steps, *-steps], [0])
    assert found[::8].sum() <= 1.01 * total
