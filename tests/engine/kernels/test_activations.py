"""Tests of the activations as integers, which the products with quantised weights read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from falsifiers import integer_model, on_arrays
from tests.engine.kernels.cases import BROKEN, SCALED, SEEDS, Guarded, activations, f32, same_bits


def quantised(x, block):
    """What the kernel promises, in numpy: (integers, scales); what is not finite makes its block NaN and ones."""
    blocks = x.reshape(len(x), -1, block)
    finite = np.isfinite(blocks).all(axis=2)
    with np.errstate(all="ignore"):
        q, scale = integer_model.quantise(np.where(finite[..., None], blocks, f32(0)).reshape(x.shape), block)
    q = np.where(finite[..., None], q.reshape(blocks.shape), np.int8(1)).reshape(x.shape)
    return q, np.where(finite, scale, f32(np.nan))


def check(x, block):
    q, scale, sums = on_arrays.quantised(x, block)
    want_q, want_scale = quantised(x, block)
    same_bits(scale, want_scale)
    assert np.array_equal(q, want_q)
    assert set(sums) == ({32} if block == 32 else {16, 32})
    for size, got in sums.items():
        assert np.array_equal(got, q.astype(np.int32).reshape(len(x), -1, size).sum(axis=2))


@settings(max_examples=60)
@given(seed=SEEDS, T=st.integers(1, 9), blocks=st.integers(1, 3), kind=st.sampled_from([*SCALED, *BROKEN]))
@pytest.mark.parametrize("block", [32, 256])
def test_activations_are_quantised_as_the_model_says(block, seed, T, blocks, kind):
    check(activations(np.random.default_rng(seed), T, blocks * block, kind), block)


@pytest.mark.parametrize("block", [32, 256])
def test_steps_among_the_smallest_numbers_are_coarse(block):
    """180 * 2^-149 over 127 is 2^-149: the ratio is 180, the integer 127."""
    x = (np.random.default_rng(1).integers(-180, 181, (5, 512)) * 2.0**-149).astype(f32)
    x[:, 5::block] = f32(180 * 2.0**-149)
    x[1] = 0
    x[2] = -0.0
    check(x, block)
    assert np.abs(on_arrays.quantised(x, block)[0]).max() == 127


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [32, 256])
def test_one_entry_that_is_not_finite_spoils_its_block_wherever_it_stands(block, value):
    for place in range(block):
        x = np.ones((1, 3 * block), f32)
        x[0, block + place] = value
        q, scale, _ = on_arrays.quantised(x, block)
        assert np.isnan(scale[0]).tolist() == [False, True, False]
        assert (q[0, block : 2 * block] == 1).all()


@pytest.mark.parametrize("largest", [3.0, -3.0])
def test_the_entry_of_largest_magnitude_becomes_127_and_of_k_formats_minus_127(largest):
    for place in (0, 77, 95, 255):
        x = np.linspace(-1, 1, 256, dtype=f32)[None, :]
        x[0, place] = largest
        q, scale, _ = on_arrays.quantised(x, 256)
        assert (q[0, place], scale[0, 0]) == (-127, f32(largest) / f32(-127))
        q, scale, _ = on_arrays.quantised(x, 32)
        assert (q[0, place], scale[0, place // 32]) == (127 * np.sign(largest), f32(3) / f32(127))


def test_of_equal_magnitudes_the_first_decides_the_sign_of_the_scale():
    for first in range(255):
        for second in {first + 1, 255}:
            for sign in (1, -1):
                x = np.zeros((1, 256), f32)
                x[0, [first, second]] = sign, -sign
                q, scale, _ = on_arrays.quantised(x, 256)
                assert (q[0, first], q[0, second], np.sign(scale[0, 0])) == (-127, 127, -sign)


def test_halves_are_rounded_away_from_zero():
    x = np.zeros((1, 256), f32)
    x[0, :8] = 127, 0.5, -0.5, 1.5, -2.5, 0.49999997, 126.5, -126.49999
    want = [127, 1, -1, 2, -3, 1, 127, -126]  # 0.49999997 + 0.5 is 1 in float32
    assert on_arrays.quantised(x, 32)[0][0, :8].tolist() == want
    assert on_arrays.quantised(x, 256)[0][0, :8].tolist() == [-value for value in want]
    check(x, 32)
    check(x, 256)


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kinds", [kernels.BY_32, kernels.BY_256, kernels.BY_32 | kernels.BY_256])
def test_only_the_wanted_blocks_of_the_tokens_are_written(kinds, tokens):
    """Rows that fill up the last group, blocks of the other length and what lies around stay as they are."""
    columns, laid_out = 512, kernels.padded(tokens)
    x = np.random.default_rng(2).standard_normal((tokens, columns), dtype=f32)
    few, many = columns // 32, columns // 256
    parts = {
        kernels.Q32: Guarded((few, laid_out, 32), np.int8), kernels.SCALE32: Guarded((few, laid_out), f32),
        kernels.SUMS32: Guarded((few, laid_out), np.int32), kernels.Q256: Guarded((many, laid_out, 256), np.int8),
        kernels.SCALE256: Guarded((many, laid_out), f32), kernels.SUMS16: Guarded((many, laid_out, 16), np.int16),
        kernels.SUMS256: Guarded((many, laid_out, 8), np.int16),
    }  # fmt: skip
    before = {index: part.array.tobytes() for index, part in parts.items()}
    a = np.zeros((1, 8), np.int64)
    for index, part in parts.items():
        a[0, index] = part.address
    kernels.quantise(on_arrays.address(x), x.strides[0], tokens, columns, kinds, a)
    for index, part in parts.items():
        assert part.intact(), index
        untouched = part.array.copy()
        if kinds & (kernels.BY_32 if index <= kernels.SUMS32 else kernels.BY_256):
            untouched[:, :tokens].view(np.uint8)[...] = 0xA5
            assert part.array.tobytes() != before[index]
        assert untouched.tobytes() == before[index]
    if kinds & kernels.BY_32:
        got = parts[kernels.Q32].array[:, :tokens].swapaxes(0, 1).reshape(tokens, columns)
        assert np.array_equal(got, quantised(x, 32)[0])
    if kinds & kernels.BY_256:
        got = parts[kernels.Q256].array[:, :tokens].swapaxes(0, 1).reshape(tokens, columns)
        assert np.array_equal(got, quantised(x, 256)[0])
