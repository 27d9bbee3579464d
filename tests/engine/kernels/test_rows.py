"""Tests of what happens to one row: exponentials, sums of lanes, norm, SwiGLU; and of what is written around it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from engine.kernels import rows
from engine.kernels.simd import F32, counting, load, store, times, vector
from falsifiers import integer_model, on_arrays
from tests.engine.kernels.cases import SEEDS, Guarded, f32, run, same_bits

LANES = kernels.LANES
EDGES = f32(-87.33654), f32(88.72283)
"""The first and the last argument of which e^x is a normal number."""


def exp(value):
    return on_arrays.exp(np.array([value], f32))[0]


def test_exp_is_within_one_unit_in_the_last_place():
    rng = np.random.default_rng(2)
    spans = [np.linspace(*EDGES, 60001), rng.normal(0, 1, 20000), rng.normal(0, 1e-4, 2000)]
    x = np.concatenate(spans).astype(f32)
    got = on_arrays.exp(x)
    want = np.exp(x.astype(np.float64))
    units = np.abs(got - want) / np.spacing(want.astype(f32))
    assert got.dtype == f32
    assert units.max() <= 1.0, x[units.argmax()]


def test_exp_at_its_edges():
    assert exp(0) == 1.0
    assert exp(-0.0) == 1.0
    assert exp(-np.inf) == 0.0
    assert exp(np.inf) == np.inf
    assert math.isnan(exp(np.nan))
    assert math.isnan(exp(-np.nan))
    assert exp(-3e38) == 0.0
    assert exp(3e38) == np.inf
    least, greatest = EDGES
    assert exp(least) >= np.finfo(f32).tiny
    assert exp(np.nextafter(least, f32(-np.inf))) == 0.0
    assert 3.4e38 < exp(greatest) < np.inf
    assert exp(np.nextafter(greatest, f32(np.inf))) == np.inf


def test_exp_of_one_lane_does_not_depend_on_its_neighbours():
    x = np.array([1.0, np.nan, np.inf, -np.inf, 88.9, -88.0, 0.5, -0.5] * 2, f32)
    same_bits(on_arrays.exp(x), np.array([exp(value) for value in x], f32))


def test_tree_adds_lanes_8_4_2_and_1_apart():
    rng = np.random.default_rng(3)
    lanes = (rng.standard_normal((50, 16)) * 10.0 ** rng.integers(-6, 7, (50, 16))).astype(f32)
    out = np.empty(50, f32)

    def each_line(b, lanes, count, out):
        with counting(b, count) as line:
            store(b, rows.tree(b, load(b, lanes, vector(F32, LANES), times(b, line, 64))), out, times(b, line, 4))

    run(each_line, lanes, 50, out)
    same_bits(out, np.array([integer_model.lanes_sum(line.copy()) for line in lanes]))


# ---------------------------------------------------------------- norm


@settings(max_examples=40)
@given(seed=SEEDS, T=st.integers(1, 10), D=st.integers(1, 70), power=st.integers(-12, 12))
def test_norm_is_the_formula_in_the_order_of_the_model(seed, T, D, power):
    rng = np.random.default_rng(seed)
    x, gain = (rng.standard_normal((T, D)) * 10.0**power).astype(f32), rng.standard_normal(D).astype(f32)
    out = np.ascontiguousarray(on_arrays.norm(x, gain, 1e-5))
    mean = np.array([integer_model.dot(row, row) for row in x]) / f32(D)
    scale = f32(1) / np.sqrt(mean + f32(1e-5))
    same_bits(out, x * scale[:, None] * gain)
    wide = x.astype(np.float64)
    want = wide / np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + 1e-5) * gain
    assert np.allclose(out, want, rtol=2e-6, atol=1e-30)


def test_norm_ignores_the_scale_of_a_row():
    x, ones = np.random.default_rng(15).standard_normal((3, 64)).astype(f32), np.ones(64, f32)
    want = on_arrays.norm(x, ones, 1e-5)
    for k in (-3, 1, 10):
        same_bits(on_arrays.norm(np.ldexp(x, k), ones, math.ldexp(1e-5, 2 * k)), want)


@pytest.mark.parametrize("T", [2, 9])
def test_norm_of_zeros_is_zero_and_a_nan_stays_in_its_row(T):
    x = np.zeros((T, 32), f32)
    x[1, 5] = np.nan
    out = on_arrays.norm(x, np.ones(32, f32), 1e-5)
    assert not out[[0, *range(2, T)]].any()
    assert np.isnan(out[1]).all()


@pytest.mark.parametrize("T", [1, 3, 8, 11])
def test_what_is_added_before_the_norm_stays_in_x_and_nothing_else_is_written(T):
    """The sums are those of IEEE 754, in place; other and gain are read alone."""
    rng = np.random.default_rng(20)
    x, other, out = (Guarded((T, 48), f32, 0) for _ in range(3))
    gain, settings_ = Guarded((48,), f32, 0), np.array([48, 1e-5], f32)
    x.array[:], other.array[:] = rng.standard_normal((2, T, 48)) * 10.0 ** rng.integers(-12, 13, (2, T, 48))
    gain.array[:] = rng.standard_normal(48)
    kept = [part.array.copy() for part in (other, gain)]
    want = x.array + other.array
    arguments = (gain.address, 192, T, on_arrays.address(settings_), out.address)
    kernels.add_norm(x.address, other.address, *arguments)
    same_bits(x.array, want)
    same_bits(out.array, on_arrays.norm(want, gain.array, 1e-5))
    out.array[:] = 0
    kernels.add_norm(x.address, 0, *arguments)
    same_bits(x.array, want)
    same_bits(out.array, on_arrays.norm(want, gain.array, 1e-5))
    for part, before in zip((other, gain), kept, strict=True):
        same_bits(part.array, before)
    assert all(part.intact() for part in (x, other, out, gain))


# ---------------------------------------------------------------- SwiGLU


def swiglu(gate, up, silu=True):
    """(silu, out) of gate and up (T, D), which lie side by side as a product leaves them."""
    T, D = gate.shape
    both, out = np.concatenate([gate, up], axis=1), Guarded((T, D), f32)
    activated = Guarded((T, D), f32)
    start = on_arrays.address(both)
    kernels.swiglu(start, start + 4 * D, 8 * D, 4 * D, T, activated.address if silu else 0, out.address)
    assert activated.intact()
    assert out.intact()
    return activated.array, out.array


@pytest.mark.parametrize("D", [16, 1008, 1024, 1040, 2064])
@pytest.mark.parametrize("T", [1, 5])
def test_swiglu_goes_on_from_a_silu_that_is_given(T, D):
    rng = np.random.default_rng(D)
    both, silu, out = rng.standard_normal((T, 2 * D)).astype(f32), Guarded((T, D), f32), Guarded((T, D), f32)
    silu.array[:] = given = rng.standard_normal((T, D)).astype(f32)
    kernels.swiglu(0, on_arrays.address(both) + 4 * D, 8 * D, 4 * D, T, silu.address, out.address)
    same_bits(out.array, given * both[:, D:])
    same_bits(silu.array, given)
    assert silu.intact()
    assert out.intact()


def silu_model(x):
    raised = on_arrays.exp(-x.ravel()).reshape(x.shape)
    return x / (f32(1) + raised)  # one division, no reciprocal


@pytest.mark.parametrize("D", [16, 1008, 1024, 1040, 2064])
@pytest.mark.parametrize("T", [1, 5])
def test_swiglu_is_the_formula_in_parts_of_1024(T, D):
    rng = np.random.default_rng(D)
    gate, up = (rng.standard_normal((2, T, D)) * 10.0 ** rng.integers(-6, 3, (2, T, D))).astype(f32)
    silu, out = swiglu(gate, up)
    same_bits(silu, silu_model(gate))
    same_bits(out, silu * up)
    nobody_wants_it, alone = swiglu(gate, up, silu=False)
    same_bits(alone, out)
    assert (nobody_wants_it.view(np.uint8) == 0xA5).all()


def test_silu_is_the_formula_everywhere():
    x = np.concatenate([np.linspace(-120, 120, 19994), [0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38]]).astype(f32)[None, :]
    silu, out = swiglu(x, np.ones_like(x))
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        want = wide / (1 + np.exp(-wide))
    assert np.allclose(silu, want, rtol=3e-7, atol=1e-35)
    same_bits(silu, silu_model(x))
    same_bits(out, silu)


def test_silu_of_what_is_not_finite():
    x = np.zeros((1, 16), f32)
    x[0, :3] = np.nan, np.inf, -np.inf
    silu, _ = swiglu(x, x)
    assert np.isnan(silu[0, 0])
    assert silu[0, 1] == np.inf
    assert np.isnan(silu[0, 2])  # -inf * 0, as in the reference path
    assert not silu[0, 3:].any()


def test_exponentials_are_written_in_their_place_alone():
    x, out = np.linspace(-1, 1, 48, dtype=f32), Guarded((48,), f32)
    kernels.exponentials(on_arrays.address(x), 3, out.address)
    same_bits(out.array, on_arrays.exp(x))
    assert out.intact()
