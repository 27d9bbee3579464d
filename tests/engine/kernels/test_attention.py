"""Tests of rotary positions and attention."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from engine.kernels import heads as heads_module
from falsifiers import integer_model, integer_steps, on_arrays
from tests.engine.kernels.cases import SEEDS, Guarded, f32, same_bits

# ---------------------------------------------------------------- rotary positions


@settings(max_examples=40)
@given(
    seed=SEEDS,
    T=st.integers(1, 3),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    half=st.integers(1, 8),
    rest=st.integers(0, 3),
    past=st.integers(0, 3),
    adjacent=st.booleans(),
)
def test_rotation_turns_pairs_keeps_lengths_and_copies_the_rest(seed, T, group, kv_heads, half, rest, past, adjacent):
    rng = np.random.default_rng(seed)
    heads, head_dim = group * kv_heads, 2 * half + rest
    width, capacity = -(-head_dim // 16) * 16, past + T + 2
    qkv = rng.standard_normal((T, heads + 2 * kv_heads, head_dim)).astype(f32)
    angle = rng.uniform(0, 100, (T, half))
    cosine, sine = np.cos(angle).astype(f32), np.sin(angle).astype(f32)
    q, k = Guarded((T, heads, width), f32, 1), Guarded((T, kv_heads, width), f32, 0)
    keys = Guarded((kv_heads, -(-capacity // 16), width, 16), f32, 1)
    values = Guarded((kv_heads, width // 16, capacity, 16), f32, 1)
    keep, _, _ = map(kernels.address, kernels.kernels_of_cache("float32"))
    kernels.rotate(
        qkv.reshape(T, -1), heads, kv_heads, head_dim, q.array, k.array, keep, keys.address, values.address, capacity,
        4, past, cosine, sine, adjacent,
    )  # fmt: skip
    x = qkv[:, : heads + kv_heads]
    out = np.concatenate([q.array, k.array], axis=1)[..., :head_dim]
    first = np.arange(half) * 2 if adjacent else np.arange(half)
    second = first + 1 if adjacent else first + half
    a, b = x[..., first], x[..., second]
    c, s = (np.broadcast_to(table[:, None, :], a.shape) for table in (cosine, sine))
    same_bits(np.ascontiguousarray(out[..., first]), integer_model.fma(a, c, -(b * s)))
    same_bits(np.ascontiguousarray(out[..., second]), integer_model.fma(a, s, b * c))
    same_bits(np.ascontiguousarray(out[..., 2 * half :]), np.ascontiguousarray(x[..., 2 * half :]))
    assert np.allclose(np.linalg.norm(out, axis=2), np.linalg.norm(x, axis=2), rtol=1e-5)

    positions = range(past, past + T)
    for t, position in enumerate(positions):
        slot = keys.array[:, position // 16, :, position % 16]
        assert slot[:, :head_dim].tobytes() == np.ascontiguousarray(out[t, heads:]).tobytes()
        plane = values.array[:, :, position].reshape(kv_heads, width)
        assert plane[:, :head_dim].tobytes() == qkv[t, heads + kv_heads :].tobytes()
        assert not slot[:, head_dim:].any()
        assert not plane[:, head_dim:].any()
        slot.view(np.uint32)[:] = values.array[:, :, position].view(np.uint32)[:] = 0x01010101
    for cache in (keys, values):
        assert (cache.array.view(np.uint8) == 1).all()
    assert (q.array[..., head_dim:].copy().view(np.uint8) == 1).all()
    assert not k.array[..., head_dim:].any()
    assert all(part.intact() for part in (q, k, keys, values))


# ---------------------------------------------------------------- attention


def attention_case(rng, *, T, past, heads=4, kv_heads=2, head_dim=24, spare=3, kind="float32"):
    """(q, keys, values, past, scale); what lies behind the last position is NaN: it must not be read."""
    q = rng.standard_normal((T, heads, head_dim)).astype(f32)
    keys = rng.standard_normal((kv_heads, past + T + spare, head_dim)).astype(kind)
    values = rng.standard_normal(keys.shape).astype(kind)
    keys[:, past + T :], values[:, past + T :] = np.nan, np.nan
    return q, keys, values, past, f32(1 / math.sqrt(head_dim))


MUCH = [
    (1, 600, 9, 3, 64),  # keys in parts
    (1, 495, 7, 1, 80),
    (1, 511, 5, 5, 112),
    (1, 1100, 32, 2, 16),  # the softmax of many heads
    (40, 30, 9, 3, 64),  # tiles of queries
    (33, 0, 14, 2, 144),
    (17, 250, 3, 3, 40),
]
"""Tokens, keys before them, heads, heads of keys and their entries: more than one task."""


@settings(max_examples=60)
@given(
    seed=SEEDS,
    T=st.integers(1, 6),
    past=st.integers(0, 20),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    head_dim=st.integers(1, 150),
)
def test_attention_is_the_formula(seed, T, past, group, kv_heads, head_dim):
    rng = np.random.default_rng(seed)
    case = attention_case(rng, T=T, past=past, heads=group * kv_heads, kv_heads=kv_heads, head_dim=head_dim)
    out, scores, weights = on_arrays.attend(*case)
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


KINDS = ("float32", "float16")
THREADS = st.integers(1, min(3, numba.config.NUMBA_NUM_THREADS))


def model(q, keys, values, past):
    """What the numpy model of the order makes of a case: mixed, scores and weights."""
    seen = (cache[:, : past + len(q)].astype(f32).swapaxes(0, 1) for cache in (keys, values))
    return integer_steps.attend(q, *seen, past)


def has_the_bits_of_the_model(case, rows=slice(None)):
    q, keys, values, past, scale = case
    for got, want in zip(on_arrays.attend(q, keys, values, past, scale), model(q, keys, values, past), strict=True):
        same_bits(np.ascontiguousarray(got[rows]), np.ascontiguousarray(want[rows]))


@settings(max_examples=60)
@given(
    seed=SEEDS,
    T=st.integers(1, 9),
    past=st.integers(0, 70) | st.integers(120, 140),
    group=st.integers(1, 9),
    kv_heads=st.integers(1, 3),
    head_dim=st.integers(1, 150),
    kind=st.sampled_from(KINDS),
    threads=THREADS,
)
def test_attention_has_the_bits_of_the_model(seed, T, past, group, kv_heads, head_dim, kind, threads):
    """Scores and sums in 16 lanes, weights by one division, values in the order of the keys."""
    numba.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    shape = {"heads": group * kv_heads, "kv_heads": kv_heads, "head_dim": head_dim}
    has_the_bits_of_the_model(attention_case(rng, T=T, past=past, kind=kind, **shape))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("T", "past", "heads", "kv_heads", "head_dim"),
    MUCH,
)
def test_much_work_is_shared_out_and_keeps_the_bits_of_the_model(T, past, heads, kv_heads, head_dim, kind):
    lines = -(-head_dim // 16)
    assert T * heads * (past + T) * lines > heads_module.FEW
    rng = np.random.default_rng(past)
    case = attention_case(rng, T=T, past=past, heads=heads, kv_heads=kv_heads, head_dim=head_dim, kind=kind)
    has_the_bits_of_the_model(case)


def attended_from(given, case, *, softmax):
    """What attention makes of scores that are given, or of a softmax: mixed, and what it left in `given`; no query."""
    q, keys, values, past, scale = case
    T, heads, d = q.shape
    lines, blocks, planes = -(-d // 16), on_arrays.in_blocks(keys), on_arrays.in_planes(values)
    out, weights = Guarded((T, heads, 16 * lines), f32), Guarded(given.shape, f32)
    source = weights if softmax else Guarded(given.shape, f32)
    source.array[:] = given
    _, score, mix = map(kernels.address, kernels.kernels_of_cache(keys.dtype.name))
    kernels.attend(
        score, mix, 0, *map(on_arrays.address, (blocks, planes)), heads, heads // len(keys), past, T, lines,
        keys.shape[1], keys.dtype.itemsize, on_arrays.address(np.array([scale], f32)),
        0 if softmax else source.address, weights.address, out.address, numba.get_num_threads(),
    )  # fmt: skip
    assert all(part.intact() for part in (out, weights, source))
    same_bits(source.array, given)
    return out.array[..., :d].copy(), weights.array.copy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("T", "past", "heads", "kv_heads", "head_dim"), [(3, 5, 4, 2, 24), (1, 0, 3, 1, 7), *MUCH])
def test_attention_goes_on_from_scores_or_a_softmax_that_are_given(T, past, heads, kv_heads, head_dim, kind):
    """From its own it gives its own bits; from others, those of the model, however the work is shared out."""
    rng = np.random.default_rng(past)
    case = attention_case(rng, T=T, past=past, heads=heads, kv_heads=kv_heads, head_dim=head_dim, kind=kind)
    out, scores, weights = on_arrays.attend(*case)
    for mixed, softmax in (attended_from(scores, case, softmax=False), attended_from(weights, case, softmax=True)):
        same_bits(mixed, out)
        same_bits(softmax, weights)
    others = scores + rng.standard_normal(scores.shape).astype(f32)
    mixed, softmax = attended_from(others, case, softmax=False)
    values = case[2].astype(f32)
    for t in (0, T - 1):
        for h in (0, heads - 1):
            seen = past + t + 1
            raised, lanes = integer_steps.exp(others[t, h, :seen] - others[t, h, :seen].max()), np.zeros(16, f32)
            for s in range(seen):
                lanes[s % 16] += raised[s]
            weighed = raised / integer_model.lanes_sum(lanes)
            same_bits(softmax[t, h, :seen], weighed)
            total = np.zeros(head_dim, f32)
            for s in range(seen):
                total = integer_model.fma(np.full_like(total, weighed[s]), values[h // (heads // kv_heads), s], total)
            same_bits(mixed[t, h], total)
    assert attended_from(softmax, case, softmax=True)[0].tobytes() == mixed.tobytes()


@pytest.mark.parametrize(("T", "past"), [(2, 0), (5, 30), (40, 30)])
def test_a_key_ahead_is_mixed_where_the_softmax_that_is_given_weighs_it(T, past):
    """And where it weighs none, no value ahead is read: not even one that is no number."""
    case = attention_case(np.random.default_rng(24), T=T, past=past, head_dim=40)
    _, scores, weights = on_arrays.attend(*case)
    weights[T - 2, 3, past + T - 1] = 0.5
    mixed, _ = attended_from(weights, case, softmax=True)
    values = np.repeat(case[2][:, : past + T], 2, axis=0)
    assert np.allclose(mixed, np.einsum("ths,hsd->thd", weights, values), rtol=1e-4, atol=1e-5)
    weights[T - 2, 3, past + T - 1] = 0
    case[2][:, past + T - 1] = np.nan
    for rows, softmax in ((scores, False), (weights, True)):
        assert np.isfinite(attended_from(rows, case, softmax=softmax)[0][: T - 1]).all()


@settings(max_examples=40)
@given(
    seed=SEEDS,
    T=st.integers(2, 40),
    past=st.integers(0, 140),
    cut=st.integers(1, 39),
    heads=st.sampled_from([(1, 1), (3, 1), (4, 2), (9, 3), (7, 1)]),
    kind=st.sampled_from(KINDS),
    threads=THREADS,
)
def test_no_key_ahead_reaches_a_result(seed, T, past, cut, heads, kind, threads):
    """Keys and values from a position on are NaN: tokens before it do not change in one bit."""
    numba.set_num_threads(threads)
    cut = min(cut, T - 1)
    case = attention_case(np.random.default_rng(seed), T=T, past=past, heads=heads[0], kv_heads=heads[1], kind=kind)
    want = on_arrays.attend(*case)
    for cache in case[1:3]:
        cache[:, past + cut :] = np.nan
    for got, whole in zip(on_arrays.attend(*case), want, strict=True):
        same_bits(np.ascontiguousarray(got[:cut]), np.ascontiguousarray(whole[:cut]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head_dim", [1, 16, 20, 64, 80, 144])
@pytest.mark.parametrize("past", [0, 6, 7, 14, 15, 16, 40])
def test_the_ends_of_blocks_keep_the_bits_of_the_model(past, head_dim, kind):
    has_the_bits_of_the_model(attention_case(np.random.default_rng(past), T=3, past=past, head_dim=head_dim, kind=kind))


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(("T", "past"), [(1, 0), (1, 15), (3, 14), (5, 3)])
def test_nothing_is_written_past_the_output_the_scores_and_the_weights(T, past, wanted):
    q, keys, values, past, scale = attention_case(np.random.default_rng(22), T=T, past=past, head_dim=32)
    out, scores, weights = Guarded(q.shape, f32), *(Guarded((T, 4, past + T), f32) for _ in range(2))
    before, factor = scores.array.tobytes(), np.array([scale], f32)
    _, score, mix = map(kernels.address, kernels.kernels_of_cache("float32"))
    cached = q, on_arrays.in_blocks(keys), on_arrays.in_planes(values)
    kernels.attend(
        score, mix, *map(on_arrays.address, cached), 4, 2, past, T, 2, keys.shape[1], 4, on_arrays.address(factor),
        *((scores.address, weights.address) if wanted else (0, 0)), out.address, 2,
    )  # fmt: skip
    want = on_arrays.attend(q, keys, values, past, scale)
    same_bits(out.array, want[0])
    if wanted:
        same_bits(scores.array, want[1])
        same_bits(weights.array, want[2])
    else:
        assert scores.array.tobytes() == weights.array.tobytes() == before
    assert all(part.intact() for part in (out, scores, weights))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
def test_the_number_of_threads_changes_no_bit():
    case = attention_case(np.random.default_rng(14), T=9, past=4)

    def results(threads):
        numba.set_num_threads(threads)
        return on_arrays.attend(*case)

    alone = results(1)
    for threads in range(2, numba.config.NUMBA_NUM_THREADS + 1):
        for got, want in zip(results(threads), alone, strict=True):
            assert got.tobytes() == want.tobytes()


def test_the_first_token_attends_to_itself_alone():
    q, keys, values, past, scale = attention_case(np.random.default_rng(16), T=3, past=0)
    out, _, weights = on_arrays.attend(q, keys, values, past, scale)
    assert weights[0, :, 0].tolist() == [1.0] * 4
    assert np.array_equal(out[0], np.repeat(values[:, 0], 2, axis=0))


def test_a_score_that_is_not_a_number_makes_its_row_nan_and_no_other():
    q, keys, values, past, scale = attention_case(np.random.default_rng(17), T=3, past=2)
    q[1, 2, 5] = np.nan
    out, scores, weights = on_arrays.attend(q, keys, values, past, scale)
    assert np.isnan(scores[1, 2, :4]).all()
    assert scores[1, 2, 4] == -np.inf
    assert np.isnan(weights[1, 2, :4]).all()
    assert np.isnan(out[1, 2]).all()
    for result in (out, weights):
        rest = result.copy()
        rest[1, 2] = 0
        assert np.isfinite(rest).all()


@pytest.mark.parametrize("place", [0, 2, 7, 8, 17])
def test_one_nan_key_reaches_every_later_token_and_no_earlier_one(place):
    q, keys, values, past, scale = attention_case(np.random.default_rng(18), T=20, past=0)
    keys[1, place, 0] = np.nan  # serves the heads 2 and 3
    out, _, weights = on_arrays.attend(q, keys, values, past, scale)
    assert np.isnan(out[place:, 2:]).all()
    assert np.isfinite(out[:place]).all()
    assert np.isfinite(out[:, :2]).all()
    assert np.isnan(weights[place, 2, : place + 1]).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_reach_what_is_mixed_from_them(bad):
    q, keys, values, past, scale = attention_case(np.random.default_rng(23), T=3, past=0)
    values[0, 1, 7] = bad
    out, _, _ = on_arrays.attend(q, keys, values, past, scale)
    broken = np.zeros(out.shape, bool)
    broken[1:, :2, 7] = True
    assert np.array_equal(~np.isfinite(out), broken)


def test_scores_far_apart_leave_one_weight():
    q, keys, values, past, _ = attention_case(np.random.default_rng(19), T=2, past=3)
    _, scores, weights = on_arrays.attend(q, keys, values, past, f32(1e6))
    assert np.array_equal(weights.argmax(axis=2), scores.argmax(axis=2))
    assert np.array_equal(weights.max(axis=2), np.ones((2, 4), f32))


@pytest.mark.parametrize("largest", range(0, 20, 3))
def test_a_score_of_200_above_the_rest_is_borne_wherever_it_stands(largest):
    q, keys = np.zeros((1, 1, 16), f32), np.zeros((1, 20, 16), f32)
    q[0, 0, 0], keys[0, largest, 0] = 10, 20
    out, scores, weights = on_arrays.attend(q, keys, np.ones_like(keys), 19, 1.0)
    assert scores[0, 0].tolist() == [200.0 if s == largest else 0.0 for s in range(20)]
    assert weights[0, 0].tolist() == [1.0 if s == largest else 0.0 for s in range(20)]
    assert (out == 1).all()


def test_scores_that_are_all_far_below_zero_are_borne():
    q, keys = np.full((1, 1, 16), -10, f32), np.full((1, 5, 16), 20, f32)
    _, scores, weights = on_arrays.attend(q, keys, np.ones_like(keys), 4, 1.0)
    assert scores[0, 0].tolist() == [-3200.0] * 5
    same_bits(weights[0, 0], np.full(5, f32(1) / f32(5)))
