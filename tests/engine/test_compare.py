"""The comparison of arrays: nothing that differs goes unseen."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engine import compare as module
from engine.compare import compare

INF, NAN = math.inf, math.nan
BITS = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001])
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=60)


def words(*bits):
    return np.array(bits, np.uint32).view(np.float32)


def values(*numbers):
    return np.array(numbers, np.float32)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)


@given(st.lists(BITS, min_size=1, max_size=40))
@settings(deadline=None)
def test_an_array_is_exactly_equal_to_itself(bits):
    c = compare(words(*bits), words(*bits))
    assert (c.equal_bits, c.different, c.max_abs, c.max_ulp, c.worst) == (True, 0, 0.0, 0, None)
    assert (c.first, c.largest) == ((), ())
    if c.left_out == c.count:
        assert (c.rms, c.nmse, c.cosine) == (None, None, None)
    else:
        assert (c.rms, c.nmse, c.cosine) == (0.0, 0.0, 1.0)


@given(st.data())
@settings(deadline=None)
def test_a_single_changed_bit_is_found_with_its_coordinate(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    size = math.prod(shape)
    bits = data.draw(st.lists(BITS, min_size=size, max_size=size))
    index, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 31))
    a, b = words(*bits).reshape(shape), words(*bits).reshape(shape)
    b.view(np.uint32)[np.unravel_index(index, shape)] ^= np.uint32(1 << bit)
    c = compare(a, b, shape=shape)
    assert c.different == 1
    (found,) = c.first
    assert repr(c.largest) == repr((found,))  # as text, since a NaN is not equal to itself
    assert repr(c.worst) == repr(found)
    assert found.index == index
    assert found.coordinate == np.unravel_index(index, shape)
    assert (found.a_bits, found.b_bits) == (bits[index], bits[index] ^ (1 << bit))


@given(st.lists(st.tuples(BITS, BITS), min_size=1, max_size=40))
@settings(deadline=None)
def test_swapping_the_sides_swaps_what_is_counted(pairs):
    a, b = (words(*side) for side in zip(*pairs, strict=True))
    c, d = compare(a, b), compare(b, a)
    assert (c.different, c.left_out, c.max_ulp) == (d.different, d.left_out, d.max_ulp)
    assert (c.nonfinite_a, c.nonfinite_b) == (d.nonfinite_b, d.nonfinite_a)
    assert repr(c.max_abs) == repr(d.max_abs)
    assert repr(c.rms) == repr(d.rms)
    assert [x.index for x in c.first] == [x.index for x in d.first]
    assert [x.index for x in c.largest] == [x.index for x in d.largest]


@given(PAIRS, st.integers(0, 8))
@settings(deadline=None)
def test_the_measures_agree_with_naive_arithmetic(pairs, limit):
    c = compare(*(np.array(side, np.float32) for side in zip(*pairs, strict=True)), limit=limit)
    aa, bb = (math.fsum(x * x for x in side) for side in zip(*pairs, strict=True))
    dd = math.fsum((x - y) ** 2 for x, y in pairs)
    assert c.max_abs == max(abs(x - y) for x, y in pairs)
    assert c.rms == pytest.approx(math.sqrt(dd / len(pairs)), rel=1e-12)
    if bb:
        assert c.nmse == pytest.approx(dd / bb, rel=1e-12)
    if aa and bb:
        cosine = math.fsum(x * y for x, y in pairs) / math.sqrt(aa * bb)
        assert c.cosine == pytest.approx(cosine, rel=1e-9, abs=1e-12)
    changed = [i for i, (x, y) in enumerate(pairs) if np.float32(x).tobytes() != np.float32(y).tobytes()]
    assert c.different == len(changed)
    assert [x.index for x in c.first] == changed[:limit]
    ordered = sorted(changed, key=lambda i: (-abs(pairs[i][0] - pairs[i][1]), i))
    assert [x.index for x in c.largest] == ordered[:limit]
    assert [x.diff for x in c.largest] == [pairs[i][0] - pairs[i][1] for i in ordered[:limit]]


@pytest.mark.parametrize("limit", [0, 1, 3, 20])
def test_the_pieces_in_which_an_array_is_read_do_not_show(limit, small_chunks):
    rng = np.random.default_rng(5)
    b = rng.integers(-4, 4, 60).astype(np.float32)
    a = b.copy()
    a[rng.choice(60, 25, replace=False)] += rng.integers(-2, 3, 25).astype(np.float32)
    a[[13, 50]] = NAN, INF
    in_pieces = compare(a, b, limit=limit)
    module.CHUNK = 1000  # small_chunks puts it back
    assert repr(in_pieces) == repr(compare(a, b, limit=limit))


@given(FINITE)
@settings(deadline=None)
@example(np.finfo(np.float32).max.item())
@example(-0.0)
@example(-1.401298464324817e-45)
@example(np.nextafter(np.float32(2), np.float32(0)).item())
def test_neighbouring_floats_are_one_ulp_apart(x):
    with np.errstate(over="ignore"):  # the neighbour of the largest is infinity
        y = np.nextafter(np.float32(x), np.float32(INF))
    assert compare(values(x), values(y)).max_ulp == 1


@pytest.mark.parametrize(
    ("a", "b", "ulp"),
    [
        (0.0, -0.0, 0),
        (1e-45, -1e-45, 2),
        (1e-45, -0.0, 1),
        (1.0, 2.0, 1 << 23),
        (-1.0, 1.0, 2 * 0x3F800000),
        (INF, 3.4028235e38, 1),
        (INF, -INF, 2 * 0x7F800000),
    ],
)
def test_ulps_count_the_floats_between(a, b, ulp):
    assert compare(values(a), values(b)).max_ulp == ulp


def test_the_sign_of_a_zero_is_a_difference_of_bits_and_of_nothing_else():
    c = compare(values(0.0, 1.0), values(-0.0, 1.0))
    assert (c.equal_bits, c.different, c.max_abs, c.rms, c.nmse, c.cosine) == (False, 1, 0.0, 0.0, 0.0, 1.0)
    assert c.worst.index == 0


@pytest.mark.parametrize(("a", "b"), [(NAN, 1.0), (1.0, NAN), (INF, NAN)])
def test_a_nan_on_one_side_shows_in_every_measure(a, b):
    c = compare(values(9.0, a, 2.0), values(1.0, b, 2.0))
    assert all(math.isnan(measure) for measure in (c.max_abs, c.rms, c.nmse, c.cosine))
    assert c.max_ulp is None
    assert not c.equal_bits
    assert (c.worst.index, [x.index for x in c.largest]) == (1, [1, 0])
    assert (c.nonfinite_a, c.nonfinite_b) == (int(not math.isfinite(a)), int(not math.isfinite(b)))


def test_two_nans_of_other_bits_differ():
    c = compare(words(0x7FC00000, 0x3F800000), words(0x7F800001, 0x3F800000))
    assert (c.different, c.left_out, c.max_ulp) == (1, 0, None)
    assert math.isnan(c.max_abs)
    assert (c.worst.a_bits, c.worst.b_bits) == (0x7FC00000, 0x7F800001)


def test_an_infinity_on_one_side_is_an_infinite_difference():
    c = compare(values(INF, 5.0), values(1.0, 2.0))
    assert (c.max_abs, c.rms, c.nmse) == (INF, INF, INF)
    assert math.isnan(c.cosine)
    c = compare(values(-INF, 5.0), values(INF, 2.0))
    assert (c.max_abs, c.nonfinite_a, c.nonfinite_b) == (INF, 1, 1)


def test_masked_scores_are_equal_and_left_out_of_the_sums():
    c = compare(values(-INF, 3.0, -INF, 5.0), values(-INF, 1.0, -INF, 5.0))
    assert (c.left_out, c.different, c.nonfinite_a, c.nonfinite_b) == (2, 1, 2, 2)
    assert (c.rms, c.nmse, c.max_abs) == (math.sqrt(2.0), 4 / 26, 2.0)


def test_measures_that_are_not_defined_are_none():
    zero, one = values(0.0, 0.0), values(1.0, 0.0)
    assert (compare(zero, zero).nmse, compare(zero, zero).cosine) == (0.0, 1.0)
    assert (compare(one, zero).nmse, compare(one, zero).cosine) == (None, None)
    assert (compare(zero, one).nmse, compare(zero, one).cosine) == (1.0, None)


def test_b_is_the_reference():
    c = compare(values(3.0), values(1.0))
    assert (c.nmse, c.worst.diff) == (4.0, 2.0)
    assert compare(values(1.0), values(3.0)).nmse == 4 / 9


@given(st.lists(st.integers(-(1 << 20), 1 << 20), min_size=1), st.sampled_from([2.0, 0.5, -2.0]))
@settings(deadline=None)
def test_the_cosine_of_a_scaled_array_never_leaves_minus_one_to_one(numbers, factor):
    b = np.array(numbers, np.float32)
    assume(np.any(b))
    a = b * np.float32(factor)
    assert compare(a, b).cosine == pytest.approx(math.copysign(1.0, factor), abs=1e-12)
    assert abs(compare(a, b).cosine) <= 1


@pytest.mark.parametrize(("a", "b"), [(values(), values()), (values(1.0), values(1.0, 2.0))])
def test_arrays_of_no_or_other_sizes_are_a_defect_of_the_caller(a, b):
    with pytest.raises(ValueError, match=f"^{a.size} and {b.size} values cannot be compared$"):
        compare(a, b)
