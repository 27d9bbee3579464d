"""Tests of engine.kernels.floats: widening is exact, and products have the lanes, the tree and the one rounding."""

import numpy as np
import pytest

from engine.kernels import floats
from engine.kernels.simd import counting, store, times
from engine.model import Weight
from falsifiers import integer_model, on_arrays
from falsifiers.synthetic import NAMED, random_weight
from tests.engine.kernels.cases import FLOATS, Guarded, call, f32, run, same_bits

SIZES = [0, 1, 15, 16, 17, 31, 32, 64, 100, 576]


def model_product(x, rows):
    return np.array([[integer_model.dot(row, token) for row in rows] for token in x], f32).reshape(len(x), len(rows))


@pytest.mark.parametrize("name", FLOATS)
def test_weights_are_widened_without_a_change_of_bits(name):
    bits = np.arange(65536, dtype="<u2")
    words = np.random.default_rng(1).integers(0, 2**32, 65536, dtype="<u4")
    source, want = {
        "F16": (bits, bits.view("<f2").astype(f32)),
        "BF16": (bits, (bits.astype("<u4") << 16).view("<f4")),
        "F32": (words, words.view("<f4")),
    }[name]
    out = np.empty(65536, f32)

    def each_line(b, source, count, out):
        with counting(b, count) as line:
            widened = floats._widened(b, name, source, times(b, line, 16 * floats.SIZES[name]))
            store(b, widened, out, times(b, line, 64))

    run(each_line, source, 4096, out)
    same_bits(out, want)
    if name != "F16":  # a conversion may make a quiet NaN of a signalling one
        assert out.tobytes() == want.tobytes()


def test_a_product_takes_the_low_byte_first():
    raw = np.array([[0x00, 0x3C], [0x01, 0x00]], np.uint8)
    assert on_arrays.matmul(np.ones((1, 1), f32), Weight("w", raw, NAMED["F16"], 2, 1)).tolist() == [[1.0, 2.0**-24]]


def test_a_product_keeps_every_float16():
    bits = np.arange(65536, dtype="<u2")
    weight = Weight("patterns", bits.view(np.uint8).reshape(65536, 2), NAMED["F16"], 65536, 1)
    want = bits.view("<f2").astype(f32)
    want[want == 0] = 0  # the other lanes add 0 to -0
    for tokens in (1, 5):
        for row in on_arrays.matmul(np.ones((tokens, 1), f32), weight):
            same_bits(row, want)


@pytest.mark.parametrize("D", SIZES)
@pytest.mark.parametrize("name", FLOATS)
def test_every_float_format_has_the_bits_of_the_model(name, D):
    rng = np.random.default_rng(D)
    weight = random_weight(rng, name, 7, max(D, 1), NAMED[name])
    weight = Weight(name, np.ascontiguousarray(weight.raw[:, : D * floats.SIZES[name]]), NAMED[name], 7, D)
    x = (rng.standard_normal((6, D)) * 10.0 ** rng.integers(-3, 4, (6, D))).astype(f32)
    rows = weight.dequantised() if D else np.zeros((7, 0), f32)
    same_bits(on_arrays.matmul(x, weight), model_product(x, rows))


@pytest.mark.parametrize("tokens", range(1, 10))
def test_any_number_of_rows_and_tokens_fits_the_tiles(tokens):
    rng = np.random.default_rng(tokens)
    for rows in (1, 2, 3, 4, 5, 8, 65, 67):  # a task has 64 rows
        weight = random_weight(rng, "F32", rows, 20, NAMED["F32"])
        x = rng.standard_normal((tokens, 20), dtype=f32)
        same_bits(on_arrays.matmul(x, weight), model_product(x, weight.dequantised()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [3, 17])
def test_what_is_not_finite_stays_in_its_row_and_its_token(bad, place):
    """17 lies in the end of a row, behind its whole vectors."""
    values = np.random.default_rng(2).standard_normal((6, 20)).astype("<f4")
    values[4, place] = bad
    x = np.ones((5, 20), f32)
    x[2, place] = bad
    got = on_arrays.matmul(x, Weight("w", values.view(np.uint8), NAMED["F32"], 6, 20))
    broken = np.zeros((5, 6), bool)
    broken[2], broken[:, 4] = True, True
    assert np.array_equal(~np.isfinite(got), broken)


@pytest.mark.parametrize(("last", "newest"), [(0, 0), (1, 3), (3, 1)])
def test_beyond_the_last_row_and_the_newest_token_nothing_is_read(last, newest):
    """Rows and tokens beyond are computed as the last again: NaN there would show in the tile."""
    rng = np.random.default_rng(3)
    weights, x = rng.standard_normal((4, 20), dtype=f32), rng.standard_normal((4, 20), dtype=f32)
    weights[last + 1 :], x[newest + 1 :] = np.nan, np.nan
    out = Guarded((4, 4), f32)
    call(floats.TILES["F32"], weights, 80, last, 20, x, 80, newest, out.array)
    rows, tokens = np.minimum(np.arange(4), last), np.minimum(np.arange(4), newest)
    same_bits(out.array, model_product(x[tokens], weights[rows]).T.copy())
    assert out.intact()
