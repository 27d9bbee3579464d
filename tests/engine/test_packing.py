"""Tests of engine.packing: any codes and scales come back when the bytes are read by gguf-py."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.packing import pack_4, pack_5, pack_6_k, pack_8, pack_k

HALVES = st.floats(-64, 64, width=16).map(np.float32)


def numbers(shape, low, high, dtype=np.uint8):
    return arrays.arrays(dtype, shape, elements=st.integers(low, high))


def scales(count=3):
    return arrays.arrays(np.float32, (count,), elements=HALVES)


def read(blocks, name):
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])


@pytest.mark.parametrize(
    ("pack", "top", "plain", "offset"), [(pack_4, 15, "Q4_0", "Q4_1"), (pack_5, 31, "Q5_0", "Q5_1")]
)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_codes_of_four_and_five_bits(pack, top, plain, offset, data):
    codes, d, m = data.draw(numbers((3, 32), 0, top)), data.draw(scales()), data.draw(scales())
    q = codes.astype(np.float32)
    assert np.array_equal(read(pack(codes, d), plain), d[:, None] * (q - (top + 1) // 2))
    assert np.array_equal(read(pack(codes, d, m), offset), d[:, None] * q + m[:, None])


@given(codes=numbers((3, 32), -128, 127, np.int8), d=scales())
@settings(deadline=None, max_examples=30)
def test_codes_of_eight_bits(codes, d):
    assert np.array_equal(read(pack_8(codes, d), "Q8_0"), d[:, None] * codes)


@pytest.mark.parametrize(("name", "top"), [("Q4_K", 15), ("Q5_K", 31)])
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_superblocks_with_minima(name, top, data):
    codes = data.draw(numbers((2, 256), 0, top))
    d, dmin = data.draw(scales(2)), data.draw(scales(2))
    sc, mn = data.draw(numbers((2, 8), 0, 63)), data.draw(numbers((2, 8), 0, 63))
    blocks = pack_k(codes, d, dmin, sc, mn, fifth=top == 31)
    q = codes.reshape(2, 8, 32).astype(np.float32)
    want = (d[:, None] * sc)[..., None] * q - (dmin[:, None] * mn)[..., None]
    assert np.array_equal(read(blocks, name), want.reshape(2, 256))


@given(codes=numbers((2, 256), 0, 63), d=scales(2), sc=numbers((2, 16), -128, 127, np.int8))
@settings(deadline=None, max_examples=30)
def test_superblocks_of_six_bits(codes, d, sc):
    blocks = pack_6_k(codes, d, sc)
    want = (d[:, None] * sc)[..., None] * (codes.reshape(2, 16, 16).astype(np.float32) - 32)
    assert np.array_equal(read(blocks, "Q6_K"), want.reshape(2, 256))
