"""Tests of engine.kernels.simd: the code of every variant that this process can compile."""

import numpy as np
import pytest

from engine.kernels import simd
from engine.kernels.simd import F32, I8, I16, I32, load, store, times, vector
from engine.variants import AVX2, VNNI, available, chosen
from falsifiers import integer_model
from tests.engine.kernels.cases import f32, run, same_bits


@pytest.fixture(params=available()[available().index(chosen()) :])
def variant(request, monkeypatch):
    """The IR that is written in a test is that of this variant: the chosen one, or one that needs less."""
    monkeypatch.setattr(simd, "chosen", lambda: request.param)
    return request.param


def dots(total, codes, signed, *, negative):
    """total (lines, n) plus products of four, line by line."""
    lines, n = total.shape
    out = total.copy()

    def each_line(b, codes, signed, count, out):
        with simd.counting(b, count) as line:
            left, right = (load(b, place, vector(I8, 4 * n), times(b, line, 4 * n)) for place in (codes, signed))
            before = load(b, out, vector(I32, n), times(b, line, 4 * n))
            store(b, simd.dot4(b, before, left, right, negative=negative), out, times(b, line, 4 * n))

    run(each_line, codes, signed, lines, out)
    return out


@pytest.mark.parametrize("n", [8, 16])
@pytest.mark.parametrize("negative", [False, True])
def test_dot4_is_exact_up_to_the_ends_of_what_it_may_be_given(variant, n, negative):
    if negative and variant == VNNI:
        return  # its instruction wants unsigned codes, so no format gives it others
    rng = np.random.default_rng(1)
    ends = [-128, -127, -1, 0, 127] if negative else [0, 1, 64 if variant == AVX2 else 255]
    low, high = ends[0], ends[-1]
    codes = rng.integers(low, high + 1, (200, 4 * n))
    codes[: 4 * len(ends)] = np.repeat(ends, 4)[:, None]
    codes[60:100] = rng.choice(ends, (40, 4 * n))
    signed = rng.integers(-127, 128, codes.shape)
    signed[: 4 * len(ends)] = np.tile([127, -127, 0, -1], len(ends))[:, None]
    signed[60:100] = rng.choice([127, -127], (40, 4 * n))
    total = rng.integers(-(2**30), 2**30, (200, n))
    want = total + (codes * signed).reshape(200, n, 4).sum(axis=2)
    narrow = codes.astype(np.int8 if negative else np.uint8)
    got = dots(total.astype(np.int32), narrow, signed.astype(np.int8), negative=negative)
    assert np.array_equal(got, want)


def test_dot2_is_exact():
    rng = np.random.default_rng(2)
    x, y = rng.integers(-(2**15), 2**15, (2, 32)).astype(np.int16)
    x[:8], y[:8] = [-32768, 32767] * 4, [32767, 32767, -32768, -32768] * 2
    total = rng.integers(-1000, 1000, 16).astype(np.int32)
    out = total.copy()

    def one_line(b, x, y, out):
        left, right = load(b, x, vector(I16, 32)), load(b, y, vector(I16, 32))
        store(b, simd.dot2(b, load(b, out, vector(I32, 16)), left, right), out)

    run(one_line, x, y, out)
    want = total + (x.astype(np.int64) * y).reshape(16, 2).sum(axis=1)
    assert np.array_equal(out, want)


def test_half_is_exact_for_all_65536_patterns(variant):
    bits = np.arange(65536, dtype="<u2")
    out = np.empty(65536, f32)

    def each_line(b, bits, count, out):
        with simd.counting(b, count) as line:
            store(b, simd.half(b, load(b, bits, vector(I16, 16), times(b, line, 32))), out, times(b, line, 64))

    run(each_line, bits, 4096, out)
    same_bits(out, bits.view("<f2").astype(f32))
    nan = np.isnan(out)
    assert np.array_equal(np.signbit(out[nan]), bits[nan] >> 15 == 1)


def test_halved_rounds_to_the_nearest_and_ties_to_even(variant):
    """All float16, all middles between two, the float32 beside each, both ends of each range, and NaN bit for bit."""
    finite = np.arange(0x7C00, dtype="<u2").view("<f2").astype(f32)
    middles = np.append((finite[:-1] + finite[1:]) / 2, f32(65520))
    near = [np.nextafter(middles, f32(end)) for end in (0, np.inf)]
    ends = np.array([1e-45, 2.0**-25, 2.0**-126, 65536, 1e38, np.finfo(f32).max, np.inf], f32)
    size = np.concatenate([finite, middles, *near, ends])
    size = np.pad(size, (0, -len(size) % 16))
    x = np.concatenate([size, -size])
    nan = np.array([0x7F800001, 0x7FC00000, 0x7FABCDEF, 0xFF802000, 0xFFFFFFFF, 0xFFC00001, 0xFF987654, 0x7FFFFFFF] * 2)
    x = np.concatenate([x, nan.astype(np.uint32).view(f32)])
    out = np.empty(len(x), np.uint16)

    def each_line(b, x, count, out):
        with simd.counting(b, count) as line:
            store(b, simd.halved(b, load(b, x, vector(F32, 16), times(b, line, 64))), out, times(b, line, 32))

    run(each_line, x, len(x) // 16, out)
    with np.errstate(over="ignore"):
        want = x[:-16].astype(np.float16).view(np.uint16)
    assert np.array_equal(out[:-16], want)
    kept = nan >> 16 & 0x8000 | 0x7E00 | nan >> 13 & 0x3FF
    assert np.array_equal(out[-16:], kept)


def test_fma_rounds_once():
    rng = np.random.default_rng(3)
    a, b, c = rng.standard_normal((3, 16)).astype(f32)
    c[:8] = -(a[:8] * b[:8])  # what is left is the error of the product
    values, out = np.stack([a, b, c]), np.empty(16, f32)

    def one_line(b, values, out):
        x, y, z = (load(b, values, vector(F32, 16), 64 * i) for i in range(3))
        store(b, simd.fma(b, x, y, z), out)

    run(one_line, values, out)
    assert out[:8].any()
    same_bits(out, integer_model.fma(a, b, c))


# ---------------------------------------------------------------- lanes


def lines_of(count, kind=np.int32):
    """`count` vectors of 16, no two sums of which are equal by accident."""
    return np.random.default_rng(4).integers(-(2**20), 2**20, (count, 16)).astype(kind)


@pytest.mark.parametrize("distances", [(1,), (1, 2, 4), (4, 1), (8, 4, 2), (8, 4, 2, 1), (1, 2, 4, 8)])
def test_folded_sums_the_lanes_that_the_distances_tell_apart(distances):
    vectors, out = lines_of(2 ** len(distances)), np.empty(16, np.int32)

    def one_line(b, vectors, out):
        lines = [load(b, vectors, vector(I32, 16), 64 * i) for i in range(2 ** len(distances))]
        store(b, simd.folded(b, lines, distances), out)

    run(one_line, vectors, out)
    mask = sum(distances)
    for lane in range(16):
        number = sum(1 << i for i, distance in enumerate(distances) if lane & distance)
        summed = [other for other in range(16) if other & ~mask == lane & ~mask]
        assert out[lane] == vectors[number, summed].sum(), lane


def test_floats_are_folded_with_the_first_distance_first():
    lanes, out = np.zeros((16, 16), f32), np.empty(16, f32)
    lanes[:, [0, 8, 4]] = 2.0**24, 1, -(2.0**24)  # 1 is lost only where 8 is added to 0 before 4 is

    def one_line(b, lanes, out):
        vectors = [load(b, lanes, vector(F32, 16), 64 * i) for i in range(16)]
        store(b, simd.folded(b, vectors, (8, 4, 2, 1), "fadd"), out)

    run(one_line, lanes, out)
    assert not out.any()
    lanes[:, [0, 8, 4]] = 2.0**24, -(2.0**24), 1
    run(one_line, lanes, out)
    assert (out == 1).all()


@pytest.mark.parametrize("distances", [(1, 2, 4, 8), (1, 2, 4)])
def test_exchanged_transposes(distances):
    count = 2 ** len(distances)
    vectors = lines_of(count)
    out = np.empty_like(vectors)

    def all_lines(b, vectors, out):
        lines = [load(b, vectors, vector(I32, 16), 64 * i) for i in range(count)]
        for i, line in enumerate(simd.exchanged(b, lines, distances)):
            store(b, line, out, 64 * i)

    run(all_lines, vectors, out)
    square = vectors.reshape(count, -1, count)  # lanes beyond `count` are further squares
    assert np.array_equal(out.reshape(count, -1, count), square.transpose(2, 1, 0))


def test_shapes_of_vectors():
    source, out = lines_of(2), np.zeros((6, 16), np.int32)

    def all_lines(b, source, out):
        x, y = (load(b, source, vector(I32, 16), 64 * i) for i in range(2))
        low, high = simd.halves(b, x)
        eights = simd.concat(b, high, low)
        store(b, eights, out)
        store(b, simd.pick(b, x, [3, 19, *range(14)], y), out, 64)
        first = b.extract_element(x, I32(5))
        store(b, simd.broadcast(b, first, 16), out, 128)
        store(b, simd.gathered(b, [b.extract_element(y, I32(15 - i)) for i in range(16)]), out, 192)
        store(b, simd.splat(vector(I32, 16), -7), out, 256)

    run(all_lines, source, out)
    x, y = source
    assert np.array_equal(out[0], np.concatenate([x[8:], x[:8]]))
    assert out[1].tolist() == [x[3], y[3], *x[:14]]
    assert np.array_equal(out[2:5], [np.full(16, x[5]), y[::-1], np.full(16, -7)])
    assert not out[5].any()
