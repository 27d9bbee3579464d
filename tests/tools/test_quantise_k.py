"""The quantiser against gguf-py's dequantisation, and against the grid that anybody would write first."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tools.quantise_k import pack_q4_k, pack_q6_k, quantise_q4_k, quantise_q6_k

FORMATS = {"Q4_K": (quantise_q4_k, Kind.Q4_K), "Q6_K": (quantise_q6_k, Kind.Q6_K)}
BYTES = {"Q4_K": 144, "Q6_K": 210}
RMSE = {  # relative; measured 0.07058, 0.01687, 0.08525 and 0.02207, and more with any part of the search left out
    ("Q4_K", "normal"): 0.0708,
    ("Q6_K", "normal"): 0.0169,
    ("Q4_K", "long-tailed"): 0.0856,
    ("Q6_K", "long-tailed"): 0.0221,
}


def seen(rows, name):
    """What a reader of the packed rows sees."""
    quantise, kind = FORMATS[name]
    return quants.dequantize(quantise(rows), kind)


def obvious_grid(rows, name):
    """Round to a grid from the smallest to the largest weight of each block, its ends not even rounded."""
    if name == "Q4_K":
        x = rows.reshape(-1, 32)
        low = np.minimum(x.min(axis=1, keepdims=True), 0)
        step = (x.max(axis=1, keepdims=True) - low) / 15
        return (np.rint((x - low) / step) * step + low).reshape(rows.shape)
    x = rows.reshape(-1, 16)
    step = np.abs(x).max(axis=1, keepdims=True) / 31
    return (np.rint(x / step) * step).reshape(rows.shape)


def relative_rmse(rows, got):
    return float(np.sqrt(np.mean(np.square(rows - got)) / np.mean(np.square(rows))))


def weights(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.standard_normal((64, 512), dtype=np.float32) * np.float32(0.02)
    if kind == "long-tailed":
        return rng.standard_t(4, (64, 512)).astype(np.float32)
    return rng.standard_normal((64, 512), dtype=np.float32) * np.exp(rng.standard_normal((64, 512))).astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_q4_k_bytes_mean_scale_times_code_minus_minimum(seed):
    rng = np.random.default_rng(seed)
    d, dmin = rng.standard_normal((2, 3, 1)).astype(np.float16)
    scale, minimum = rng.integers(0, 64, (2, 3, 8), dtype=np.uint8)
    q = rng.integers(0, 16, (3, 8, 32), dtype=np.uint8)
    got = quants.dequantize(pack_q4_k(d, dmin, scale, minimum, q), Kind.Q4_K)
    step, offset = d.astype(np.float32) * scale, dmin.astype(np.float32) * minimum
    np.testing.assert_array_equal(got, (step[..., None] * q - offset[..., None]).reshape(3, 256))


@given(st.integers(0, 2**32 - 1))
def test_q6_k_bytes_mean_scale_times_code_less_32(seed):
    rng = np.random.default_rng(seed)
    d = rng.standard_normal((3, 1)).astype(np.float16)
    scale = rng.integers(-128, 128, (3, 16), dtype=np.int8)
    q = rng.integers(0, 64, (3, 16, 16), dtype=np.uint8)
    got = quants.dequantize(pack_q6_k(d, scale, q), Kind.Q6_K)
    step = d.astype(np.float32) * scale
    np.testing.assert_array_equal(got, (step[..., None] * (q.astype(np.float32) - 32)).reshape(3, 256))


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_of_512_weights_fills_two_superblocks(name):
    packed = FORMATS[name][0](weights("normal"))
    assert packed.shape == (64, 2 * BYTES[name])
    assert packed.dtype == np.uint8


@pytest.mark.parametrize(("name", "kind"), RMSE)
def test_weights_come_back_within_the_expected_error(name, kind):
    rows = weights(kind)
    assert relative_rmse(rows, seen(rows, name)) <= RMSE[name, kind]


@pytest.mark.parametrize("kind", ["normal", "long-tailed", "scattered"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_search_beats_the_obvious_grid(name, kind):
    """Measured: 5 to 14 % less error, though the grid here keeps its scales unrounded."""
    rows = weights(kind)
    assert relative_rmse(rows, seen(rows, name)) <= 0.97 * relative_rmse(rows, obvious_grid(rows, name))


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None)
@given(rows=arrays(np.float32, (2, 256), elements=st.floats(-1000, 1000, width=32)))
def test_no_weight_is_further_off_than_a_step_of_its_superblock(name, rows):
    """The widest block's step bounds a superblock's errors; rounding its scale to 6 or 7 bits adds a little."""
    width = np.abs(rows).max(axis=1, keepdims=True)
    limit = {"Q4_K": 2 * width / 15, "Q6_K": width / 31}[name] + 2.0**-20
    off = np.abs(rows - seen(rows, name))
    assert np.all(off <= limit)


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_stay_zeros(name):
    assert not seen(np.zeros((1, 256), dtype=np.float32), name).any()


@pytest.mark.parametrize("name", FORMATS)
def test_a_block_of_one_value_keeps_it(name):
    rows = np.full((1, 256), -0.75, dtype=np.float32)
    np.testing.assert_allclose(seen(rows, name), rows, rtol=1e-2)


@pytest.mark.parametrize("name", FORMATS)
def test_weights_near_the_smallest_float16_are_not_lost(name):
    rows = np.full((1, 256), 1e-5, dtype=np.float32)
    np.testing.assert_allclose(seen(rows, name), rows, rtol=0.05)


@pytest.mark.parametrize("name", FORMATS)
def test_weights_too_small_for_a_float16_scale_become_zeros(name):
    assert not seen(np.full((1, 256), 1e-30, dtype=np.float32), name).any()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -2e7])
def test_a_weight_that_no_scale_can_hold_is_refused(name, bad):
    rows = np.zeros((1, 256), dtype=np.float32)
    rows[0, 5] = bad
    with pytest.raises(ValueError, match=r"^every weight must lie within \+-1e\+07$"):
        FORMATS[name][0](rows)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(2, 255), (256,), (0, 256)])
def test_rows_that_do_not_fill_superblocks_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"^rows must be \(R, C\) with C a multiple of 256, not \(\d+,"):
        FORMATS[name][0](np.zeros(shape, dtype=np.float32))
