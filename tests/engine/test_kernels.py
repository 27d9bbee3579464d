"""Tests of engine.kernels: against the integer model bit for bit, and against small float64 formulas."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from engine.fast import FLOATS, SUB_BLOCK, matmul, quantise
from falsifiers import integer_model
from falsifiers.synthetic import NAMED, random_weight

f32 = np.float32
QUANTISED = [name for name in NAMED if name not in FLOATS]
SEEDS = st.integers(0, 2**32 - 1)
SCALED = {"plain": 1.0, "zero": 0.0, "huge": 1e38, "large": 1e30, "tiny": 1e-37, "subnormal": 1e-43, "least": 1e-45}
BROKEN = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def same_bits(got, want):
    """Bit for bit, a NaN's payload aside: IEEE 754 leaves it open."""
    assert got.dtype == want.dtype == f32
    assert got.shape == want.shape
    nan = np.isnan(want)
    assert np.array_equal(np.isnan(got), nan)
    assert np.array_equal(got.view(np.uint32)[~nan], want.view(np.uint32)[~nan])


def activations(rng, T, D, kind):
    x = rng.standard_normal((T, D)).astype(f32)
    if kind in BROKEN:
        x[rng.integers(T), rng.integers(D)] = BROKEN[kind]
        return x
    return np.clip(x, -3, 3) * f32(SCALED[kind])


def quantise_model(x, block):
    """What quantise_rows promises, in numpy: (q, scale)."""
    blocks = x.reshape(x.shape[0], -1, block)
    magnitude = np.abs(blocks)
    first = np.argmax(magnitude, axis=2)[..., None]
    largest = np.take_along_axis(blocks, first, axis=2)
    largest = np.where(largest == 0, f32(0), largest)  # a block of zeros has the scale 0 or 0 / -127
    step = largest / f32(-127) if block == 256 else np.abs(largest) / f32(127)
    safe = np.where(step == 0, f32(1), step)
    with np.errstate(all="ignore"):
        ratio = np.where(step == 0, f32(0), blocks / safe)
    q = np.copysign(np.minimum(np.floor(np.abs(ratio) + f32(0.5)), f32(127)), ratio)
    broken = ~np.isfinite(blocks).all(axis=2, keepdims=True)
    q, step = np.where(broken, f32(1), q), np.where(broken, f32(np.nan), step)
    return q.astype(np.int8).reshape(x.shape), step[..., 0]


# ---------------------------------------------------------------- single operations


def test_half_is_exact_for_all_65536_patterns():
    bits = np.arange(65536, dtype="<u2")
    values = np.empty(65536, f32)
    kernels.widen(kernels.F16, bits.view(np.uint8), values)
    same_bits(values, bits.view("<f2").astype(f32))
    signs = np.signbit(values[np.isnan(values)])
    assert np.array_equal(signs, bits[np.isnan(values)] >> 15 == 1)


def test_half_takes_the_low_byte_first():
    assert kernels.half(np.uint8(0x00), np.uint8(0x3C)) == 1.0
    assert kernels.half(np.uint8(0x01), np.uint8(0x00)) == 2.0**-24


def test_bf16_and_f32_are_widened_without_a_change_of_bits():
    bits = np.arange(65536, dtype="<u2")
    values = np.empty(65536, f32)
    kernels.widen(kernels.BF16, bits.view(np.uint8), values)
    same_bits(values, (bits.astype("<u4") << 16).view("<f4"))
    words = np.random.default_rng(1).integers(0, 2**32, 4096, dtype="<u4")
    values = np.empty(4096, f32)
    kernels.widen(kernels.F32, words.view(np.uint8), values)
    same_bits(values, words.view("<f4"))


def test_exp_is_within_one_unit_in_the_last_place():
    rng = np.random.default_rng(2)
    x = np.concatenate([np.linspace(-87.33, 88.72, 60001), rng.normal(0, 1, 20000), rng.normal(0, 1e-4, 2000)]).astype(
        f32
    )
    got = np.array([kernels.exp(value) for value in x])
    want = np.exp(x.astype(np.float64))
    units = np.abs(got - want) / np.spacing(want.astype(f32))
    assert np.array_equal(got.astype(f32), got)
    assert units.max() <= 1.0, x[units.argmax()]


def test_exp_at_its_edges():
    assert kernels.exp(f32(0)) == 1.0
    assert kernels.exp(f32(-0.0)) == 1.0
    assert kernels.exp(f32(-np.inf)) == 0.0
    assert kernels.exp(f32(np.inf)) == np.inf
    assert math.isnan(kernels.exp(f32(np.nan)))
    least, greatest = f32(-87.33654), f32(88.72283)  # the last arguments whose result is a normal number
    assert kernels.exp(least) >= np.finfo(f32).tiny
    assert kernels.exp(np.nextafter(least, f32(-np.inf))) == 0.0
    assert 3.4e38 < kernels.exp(greatest) < np.inf
    assert kernels.exp(np.nextafter(greatest, f32(np.inf))) == np.inf


def test_tree_sum_adds_lanes_8_4_2_and_1_apart():
    rng = np.random.default_rng(3)
    for _ in range(50):
        lanes = (rng.standard_normal(16) * 10.0 ** rng.integers(-6, 7, 16)).astype(f32)
        want = integer_model.lanes_sum(lanes.copy())
        assert f32(kernels.tree_sum(lanes)).tobytes() == f32(want).tobytes()


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 31, 32, 64, 100, 576])
def test_dot_has_the_order_of_the_model(n):
    rng = np.random.default_rng(n)
    for _ in range(10):
        a, b = (rng.standard_normal((2, n)) * 10.0 ** rng.integers(-3, 4, n)).astype(f32)
        got = kernels.dot(a, b, np.full(16, np.nan, f32))
        assert f32(got).tobytes() == integer_model.dot(a, b).tobytes()


def test_dot16_is_exact_at_the_ends_of_int8():
    for a in (-128, -127, 127):
        for b in (-128, 127):
            x, y = np.full(48, a, np.int8), np.full(48, b, np.int8)
            x[:16], y[32:] = 99, 99  # outside of the 16
            assert kernels.dot16(x, 16, y, 16) == 16 * a * b


# ---------------------------------------------------------------- quantised activations


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, T=st.integers(1, 3), blocks=st.integers(1, 3), kind=st.sampled_from([*SCALED, *BROKEN]))
@pytest.mark.parametrize(("block", "sub"), [(256, 32), (256, 16), (32, 32)])
def test_activations_are_quantised_as_the_model_says(block, sub, seed, T, blocks, kind):
    x = activations(np.random.default_rng(seed), T, blocks * block, kind)
    q, scale, sums = quantise(x, block, sub)
    want_q, want_scale = quantise_model(x, block)
    same_bits(scale, want_scale)
    assert np.array_equal(q, want_q)
    assert np.array_equal(sums, q.astype(np.int32).reshape(T, -1, sub).sum(axis=2))


def test_the_entry_of_largest_magnitude_becomes_127_and_of_k_formats_minus_127():
    for largest in (3.0, -3.0):
        x = np.linspace(-1, 1, 256, dtype=f32)[None, :]
        x[0, 77] = largest
        q, scale, _ = quantise(x, 256, 32)
        assert (q[0, 77], scale[0, 0]) == (-127, f32(largest) / f32(-127))
        q, scale, _ = quantise(x[:, 64:96].copy(), 32, 32)
        assert (q[0, 13], scale[0, 0]) == (127 * np.sign(largest), f32(3) / f32(127))


def test_halves_are_rounded_away_from_zero():
    x = np.zeros((1, 32), f32)
    x[0, :5] = 127, 0.5, -0.5, 1.5, -2.5
    assert quantise(x, 32, 32)[0][0, :5].tolist() == [127, 1, -1, 2, -3]


# ---------------------------------------------------------------- matrix products


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    T=st.integers(1, 4),
    rows=st.integers(1, 5),
    blocks=st.integers(1, 3),
    kind=st.sampled_from([*SCALED, *BROKEN]),
    any_bytes=st.booleans(),
)
@pytest.mark.parametrize("name", QUANTISED)
def test_every_quantised_format_has_the_bits_of_the_integer_model(name, seed, T, rows, blocks, kind, any_bytes):
    rng, fmt = np.random.default_rng(seed), NAMED[name]
    D = blocks * fmt.block
    weight = random_weight(rng, name, rows, D, fmt)
    if any_bytes:  # scales that are huge, NaN or infinite as well
        weight.raw[:] = rng.integers(0, 256, weight.raw.shape, dtype=np.uint8)
    x = activations(rng, T, D, kind)
    (got,) = matmul(x, weight)
    q, scale, _ = quantise(x, fmt.block, SUB_BLOCK.get(name, 32))
    with np.errstate(all="ignore"):
        want = integer_model.matmul(name, weight.raw, fmt.block, q, scale)
    same_bits(got, want)
    if kind in BROKEN:
        assert np.isnan(got[~np.isfinite(x).all(axis=1)]).all()


@pytest.mark.parametrize("name", QUANTISED)
def test_the_largest_codes_and_activations_do_not_overflow_an_integer(name):
    fmt = NAMED[name]
    weight = random_weight(np.random.default_rng(0), name, 3, fmt.block, fmt)
    places = {at for at in (0, 208 if name == "Q6_K" else 0) if at < fmt.nbytes}
    for value in (0xFF, 0x00, 0x80, 0x7F):
        raw = np.full_like(weight.raw, value)
        for at in places:
            raw[:, at : at + 2] = weight.raw[:, at : at + 2]
        if name[-1] in "1K" and name != "Q6_K":
            raw[:, 2:4] = weight.raw[:, 2:4]
        extreme = type(weight)(name, raw, fmt, 3, fmt.block)
        for x in (np.full((2, fmt.block), 5, f32), np.full((2, fmt.block), -5, f32)):
            q, scale, _ = quantise(x, fmt.block, SUB_BLOCK.get(name, 32))
            same_bits(matmul(x, extreme)[0], integer_model.matmul(name, raw, fmt.block, q, scale))


@pytest.mark.parametrize("name", [*NAMED])
def test_a_product_is_close_to_that_of_the_dequantised_weights(name):
    rng, fmt = np.random.default_rng(11), NAMED[name]
    weight = random_weight(rng, name, 64, 512, fmt)
    x = rng.standard_normal((5, 512)).astype(f32)
    want = x.astype(np.float64) @ weight.dequantised().astype(np.float64).T
    (got,) = matmul(x, weight)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert error <= (1e-6 if name in FLOATS else 0.01)


@pytest.mark.parametrize("D", [1, 15, 64, 100])
@pytest.mark.parametrize("name", FLOATS)
def test_every_float_format_has_the_bits_of_the_model(name, D):
    rng, fmt = np.random.default_rng(D), NAMED[name]
    weight = random_weight(rng, name, 7, D, fmt)
    x = rng.standard_normal((3, D)).astype(f32)
    (got,) = matmul(x, weight)
    rows = weight.dequantised()
    same_bits(got, np.array([[integer_model.dot(row, x[t]) for row in rows] for t in range(3)]))


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q4_1", "Q8_0", "F16"])
def test_one_token_alone_has_the_bits_that_it_has_among_others(name):
    rng, fmt = np.random.default_rng(12), NAMED[name]
    weight = random_weight(rng, name, 33, 512, fmt)
    x = rng.standard_normal((9, 512)).astype(f32)
    (together,) = matmul(x, weight)
    for t in range(9):
        same_bits(matmul(x[t : t + 1].copy(), weight)[0], together[t : t + 1])


def test_weights_that_share_a_quantisation_give_what_each_gives_alone():
    rng = np.random.default_rng(13)
    weights = [
        random_weight(rng, name, 8, 256, NAMED[name]) for name in ("Q4_K", "Q6_K", "Q8_0", "F16", "Q5_K", "Q4_0")
    ]
    x = rng.standard_normal((2, 256)).astype(f32)
    for got, weight in zip(matmul(x, *weights), weights, strict=True):
        same_bits(got, matmul(x, weight)[0])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(14)
    x = rng.standard_normal((6, 512)).astype(f32)
    weights = [random_weight(rng, name, 101, 512, NAMED[name]) for name in NAMED]
    case = attention_case(rng, T=9, past=4)

    def results(threads):
        numba.set_num_threads(threads)
        return [*matmul(x, *weights), *attended(*case)]

    alone = results(1)
    for threads in range(2, numba.config.NUMBA_NUM_THREADS + 1):
        for got, want in zip(results(threads), alone, strict=True):
            same_bits(got, want)


# ---------------------------------------------------------------- the rest of a layer


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, T=st.integers(1, 4), D=st.integers(1, 70), power=st.integers(-12, 12))
def test_rmsnorm_is_the_formula_in_the_model_s_order(seed, T, D, power):
    rng = np.random.default_rng(seed)
    x, gain = (rng.standard_normal((T, D)) * 10.0**power).astype(f32), rng.standard_normal(D).astype(f32)
    out = np.empty_like(x)
    kernels.rmsnorm(out, x, gain, 1e-5)
    mean = np.array([integer_model.dot(row, row) for row in x]) / f32(D)
    scale = f32(1) / np.sqrt(mean + f32(1e-5))
    same_bits(out, x * scale[:, None] * gain)
    wide = x.astype(np.float64)
    want = wide / np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + 1e-5) * gain
    assert np.allclose(out, want, rtol=2e-6, atol=1e-30)
    kernels.rmsnorm(x, x, gain, 1e-5)
    same_bits(x, out)


def test_rmsnorm_ignores_the_scale_of_a_row():
    x = np.random.default_rng(15).standard_normal((3, 64)).astype(f32)
    want, got = np.empty_like(x), np.empty_like(x)
    kernels.rmsnorm(want, x, np.ones(64, f32), 1e-5)
    for k in (-3, 1, 10):
        kernels.rmsnorm(got, np.ldexp(x, k), np.ones(64, f32), math.ldexp(1e-5, 2 * k))
        same_bits(got, want)


def test_rmsnorm_of_zeros_is_zero_and_a_nan_stays_in_its_row():
    x = np.zeros((2, 32), f32)
    x[1, 5] = np.nan
    out = np.empty_like(x)
    kernels.rmsnorm(out, x, np.ones(32, f32), 1e-5)
    assert not out[0].any()
    assert np.isnan(out[1]).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    T=st.integers(1, 3),
    heads=st.integers(1, 3),
    half=st.integers(1, 8),
    rest=st.integers(0, 3),
    adjacent=st.booleans(),
)
def test_rotation_turns_pairs_keeps_lengths_and_copies_the_rest(seed, T, heads, half, rest, adjacent):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, heads, 2 * half + rest)).astype(f32)
    angle = rng.uniform(0, 100, (T, half))
    cosine, sine = np.cos(angle).astype(f32), np.sin(angle).astype(f32)
    out = np.full_like(x, np.nan)
    kernels.rotate(out, x, cosine, sine, adjacent)
    first = np.arange(half) * 2 if adjacent else np.arange(half)
    second = first + 1 if adjacent else first + half
    a, b = x[..., first], x[..., second]
    c, s = (np.broadcast_to(table[:, None, :], a.shape) for table in (cosine, sine))
    same_bits(np.ascontiguousarray(out[..., first]), integer_model.fma(a, c, -(b * s)))
    same_bits(np.ascontiguousarray(out[..., second]), integer_model.fma(a, s, b * c))
    same_bits(np.ascontiguousarray(out[..., 2 * half :]), np.ascontiguousarray(x[..., 2 * half :]))
    assert np.allclose(np.linalg.norm(out, axis=2), np.linalg.norm(x, axis=2), rtol=1e-5)
    kernels.rotate(x, x, cosine, sine, adjacent)
    same_bits(x, out)


def attention_case(rng, *, T, past, heads=4, kv_heads=2, head_dim=24, spare=3):
    """(q, keys, values, past, scale); what lies behind the last position is NaN: it must not be read."""
    q = rng.standard_normal((T, heads, head_dim)).astype(f32)
    keys = rng.standard_normal((kv_heads, past + T + spare, head_dim)).astype(f32)
    values = rng.standard_normal(keys.shape).astype(f32)
    keys[:, past + T :], values[:, past + T :] = np.nan, np.nan
    return q, keys, values, past, f32(1 / math.sqrt(head_dim))


def attended(q, keys, values, past, scale):
    T, heads, head_dim = q.shape
    out = np.full((T, heads, head_dim), np.nan, f32)
    scores, weights = (np.full((T, heads, past + T), np.nan, f32) for _ in range(2))
    kernels.attend(out, scores, weights, q, keys, values, past, scale)
    return out, scores, weights


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    T=st.integers(1, 6),
    past=st.integers(0, 20),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    head_dim=st.integers(1, 40),
)
def test_attention_is_the_formula(seed, T, past, group, kv_heads, head_dim):
    rng = np.random.default_rng(seed)
    case = attention_case(rng, T=T, past=past, heads=group * kv_heads, kv_heads=kv_heads, head_dim=head_dim)
    out, scores, weights = attended(*case)
    q, keys, values, _, scale = case
    S = past + T
    k, v = (np.repeat(cache[:, :S].astype(np.float64), group, axis=0) for cache in (keys, values))
    ahead = np.arange(S)[None, None, :] > (past + np.arange(T))[:, None, None]
    want = np.where(ahead, -np.inf, np.einsum("thd,hsd->ths", q, k) * scale)
    raised = np.exp(want - want.max(axis=2, keepdims=True))
    softmax = raised / raised.sum(axis=2, keepdims=True)
    assert np.array_equal(scores == -np.inf, np.broadcast_to(ahead, scores.shape))
    assert not weights[np.broadcast_to(ahead, weights.shape)].any()
    assert np.allclose(scores, want, rtol=1e-4, atol=1e-5)
    assert np.allclose(weights, softmax, rtol=1e-4, atol=1e-6)
    assert np.allclose(weights.sum(axis=2), 1, atol=1e-6)
    assert np.allclose(out, np.einsum("ths,hsd->thd", softmax, v), rtol=1e-4, atol=1e-5)


def test_the_first_token_attends_to_itself_alone():
    q, keys, values, past, scale = attention_case(np.random.default_rng(16), T=3, past=0)
    out, _, weights = attended(q, keys, values, past, scale)
    assert weights[0, :, 0].tolist() == [1.0] * 4
    assert np.array_equal(out[0], np.repeat(values[:, 0], 2, axis=0))


def test_a_score_that_is_not_a_number_makes_its_row_nan_and_no_other():
    q, keys, values, past, scale = attention_case(np.random.default_rng(17), T=3, past=2)
    q[1, 2, 5] = np.nan
    out, scores, weights = attended(q, keys, values, past, scale)
    assert np.isnan(scores[1, 2, :4]).all()
    assert scores[1, 2, 4] == -np.inf
    assert np.isnan(weights[1, 2, :4]).all()
    assert np.isnan(out[1, 2]).all()
    for result in (out, weights):
        rest = result.copy()
        rest[1, 2] = 0
        assert np.isfinite(rest).all()


def test_one_nan_key_reaches_every_later_token_and_no_earlier_one():
    q, keys, values, past, scale = attention_case(np.random.default_rng(18), T=4, past=0)
    keys[1, 2, 0] = np.nan  # serves the heads 2 and 3
    out, _, weights = attended(q, keys, values, past, scale)
    assert np.isnan(out[2:, 2:]).all()
    assert np.isfinite(out[:2]).all()
    assert np.isfinite(out[:, :2]).all()
    assert np.isnan(weights[2, 2, :3]).all()


def test_scores_far_apart_leave_one_weight():
    q, keys, values, past, _ = attention_case(np.random.default_rng(19), T=2, past=3)
    _, scores, weights = attended(q, keys, values, past, f32(1e6))
    assert np.array_equal(weights.argmax(axis=2), scores.argmax(axis=2))
    assert np.array_equal(weights.max(axis=2), np.ones((2, 4), f32))


def test_silu_is_the_formula_everywhere():
    x = np.concatenate([np.linspace(-120, 120, 20001), [0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38]]).astype(f32)[None, :]
    out = np.empty_like(x)
    kernels.silu(out, x)
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        want = wide / (1 + np.exp(-wide))
    assert np.allclose(out, want, rtol=3e-7, atol=1e-35)
    raised = np.array([kernels.exp(-value) for value in x[0]], f32)
    same_bits(out, x / (f32(1) + raised))  # one division, no reciprocal
    kernels.silu(x, x)
    same_bits(x, out)


def test_silu_of_what_is_not_finite():
    x = np.array([[np.nan, np.inf, -np.inf]], f32)
    kernels.silu(x, x)
    assert np.isnan(x[0, 0])
    assert x[0, 1] == np.inf
    assert np.isnan(x[0, 2])  # -inf * 0, as in the reference path


@pytest.mark.parametrize("kernel", ["add", "multiply"])
def test_sums_and_products_are_those_of_ieee_in_place_or_not(kernel):
    rng = np.random.default_rng(20)
    a, b = (rng.standard_normal((2, 5, 33)) * 10.0 ** rng.integers(-18, 19, (2, 5, 33))).astype(f32)
    want = a + b if kernel == "add" else a * b
    for out in (np.empty_like(a), a, b):
        first, second = a.copy(), b.copy()
        place = first if out is a else second if out is b else out
        getattr(kernels, kernel)(place, first, second)
        same_bits(place, want)


def test_a_single_row_is_added_to_every_row():
    rng = np.random.default_rng(21)
    x, bias = rng.standard_normal((4, 9)).astype(f32), rng.standard_normal((1, 9)).astype(f32)
    want = x + bias
    kernels.add(x, x, bias)
    same_bits(x, want)
