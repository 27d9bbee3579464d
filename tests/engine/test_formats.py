"""Dequantisation against gguf-py, bit for bit."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats import CHUNK, FORMATS, UNSUPPORTED, Format, dequantise

ALL = sorted(FORMATS.values(), key=lambda fmt: fmt.ggml_id)
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
"""Where the float16 scales of each format lie in its block."""
PECULIAR = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0xFE07, 0x7C01, 0xFD55]
"""Zeros, subnormals, the largest number, infinities, quiet and signalling NaN, as float16 bits."""


def oracle(raw: np.ndarray, fmt: Format) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(fmt.ggml_id))


def assert_same_bits(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@st.composite
def blocks(draw: st.DrawFn, fmt: Format) -> np.ndarray:
    """(rows, k * fmt.nbytes) uint8 of any bytes, with peculiar scales more often than chance would have them."""
    rows, k = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    raw = np.frombuffer(
        draw(st.binary(min_size=rows * k * fmt.nbytes, max_size=rows * k * fmt.nbytes)), np.uint8
    ).copy()
    for block in raw.reshape(-1, fmt.nbytes):
        for at in HALVES.get(fmt.name, []):
            if draw(st.booleans()):
                block[at : at + 2].view("<u2")[:] = draw(st.sampled_from(PECULIAR))
    return raw.reshape(rows, k * fmt.nbytes)


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
@given(data=st.data())
@settings(deadline=None)
def test_any_bytes_dequantise_as_in_gguf_py(fmt: Format, data: st.DataObject) -> None:
    raw = data.draw(blocks(fmt))
    assert_same_bits(dequantise(raw, fmt), oracle(raw, fmt))


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_tensors_larger_than_a_chunk_dequantise_as_in_gguf_py(fmt: Format) -> None:
    k = (2 * CHUNK + CHUNK // 2) // fmt.block + 1  # blocks per row: no chunk ends where a row does
    raw = np.random.default_rng(7).integers(0, 256, (3, k * fmt.nbytes), dtype=np.uint8)
    assert_same_bits(dequantise(raw, fmt), oracle(raw, fmt))


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_the_result_is_a_new_array_that_can_be_written(fmt: Format) -> None:
    raw = np.zeros((2, fmt.nbytes), dtype=np.uint8)
    raw.flags.writeable = False  # as a mapped file is
    got = dequantise(raw, fmt)
    got += 1
    assert not raw.any()


def test_leading_dimensions_are_kept_and_rows_need_not_be_contiguous() -> None:
    fmt = FORMATS[2]
    raw = np.random.default_rng(1).integers(0, 256, (2, 6, 5 * fmt.nbytes), dtype=np.uint8)
    got = dequantise(raw[:, ::2], fmt)
    assert got.shape == (2, 3, 160)
    assert_same_bits(got, dequantise(np.ascontiguousarray(raw[:, ::2]), fmt))


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_no_rows_give_no_weights(fmt: Format) -> None:
    assert dequantise(np.empty((0, 2 * fmt.nbytes), dtype=np.uint8), fmt).shape == (0, 2 * fmt.block)


@pytest.mark.parametrize("shape", [(17,), (2, 19), ()])
def test_rows_that_are_not_whole_blocks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^uint8 of shape \(.*\) is not rows of Q4_0 blocks of 18 bytes$"):
        dequantise(np.zeros(shape, dtype=np.uint8), FORMATS[2])


def test_bytes_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^int8 of shape \(18,\) is not rows of Q4_0 blocks of 18 bytes$"):
        dequantise(np.zeros(18, dtype=np.int8), FORMATS[2])


def test_the_table_of_formats_agrees_with_gguf_py() -> None:
    for kind in gguf.GGMLQuantizationType:
        if kind in FORMATS:
            fmt = FORMATS[kind]
            assert (fmt.name, fmt.ggml_id, (fmt.block, fmt.nbytes)) == (kind.name, kind, gguf.GGML_QUANT_SIZES[kind])
        elif kind in UNSUPPORTED:
            assert UNSUPPORTED[kind] == kind.name
    assert len(FORMATS) == 11
    assert not FORMATS.keys() & UNSUPPORTED.keys()
