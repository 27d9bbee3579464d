"""The tensor formats of ggml that this engine reads, and their conversion to float32.

Source of the layouts: the block structures in ggml-common.h (block_q4_0 .. block_q6_K) of ggml-org/ggml, and the
conversions dequantize_row_* in ggml-quants.c. All multi-byte numbers are little-endian. The order of float32 operations
is that of gguf-py's gguf.quants, so the results are equal to its results bit for bit, NaN and infinity included.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

CHUNK = 32768
"""Weights that are converted at a time: the intermediate arrays stay in a core's cache, and small."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way to store weights: each `block` consecutive weights of a row take `nbytes` bytes."""

    name: str
    ggml_id: int
    block: int
    nbytes: int


FORMATS: dict[int, Format] = {
    fmt.ggml_id: fmt
    for fmt in (
        Format("F32", 0, 1, 4),
        Format("F16", 1, 1, 2),
        Format("Q4_0", 2, 32, 18),
        Format("Q4_1", 3, 32, 20),
        Format("Q5_0", 6, 32, 22),
        Format("Q5_1", 7, 32, 24),
        Format("Q8_0", 8, 32, 34),
        Format("Q4_K", 12, 256, 144),
        Format("Q5_K", 13, 256, 176),
        Format("Q6_K", 14, 256, 210),
        Format("BF16", 30, 1, 2),
    )
}
"""Every format that `dequantise` knows, by ggml's number for it."""

UNSUPPORTED: dict[int, str] = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}
"""Names of ggml's other formats by number, so that an error can name what a file holds."""


def dequantise(raw: U8, fmt: Format) -> F32:
    """Weights as float32, in a new array.

    raw      (..., k * fmt.nbytes) uint8: the rows as they lie in the file
    returns  (..., k * fmt.block) float32

    Raises ValueError when the rows are not whole blocks. A scale that is infinite or not a number gives what IEEE 754
    arithmetic gives; no warning is issued.
    """
    if raw.dtype != np.uint8 or raw.ndim == 0 or raw.shape[-1] % fmt.nbytes:
        raise ValueError(f"{raw.dtype} of shape {raw.shape} is not rows of {fmt.name} blocks of {fmt.nbytes} bytes")
    blocks = np.ascontiguousarray(raw).reshape(-1, fmt.nbytes)
    out = np.empty((blocks.shape[0], fmt.block), dtype=np.float32)
    convert, step = _CONVERSIONS[fmt.name], CHUNK // fmt.block
    with np.errstate(all="ignore"):
        for start in range(0, blocks.shape[0], step):
            convert(blocks[start : start + step], out[start : start + step])
    return out.reshape(*raw.shape[:-1], raw.shape[-1] // fmt.nbytes * fmt.block)


def _f32(blocks: U8, out: F32) -> None:
    """bytes 0-3: float32."""
    out[:] = blocks.view("<f4")


def _f16(blocks: U8, out: F32) -> None:
    """bytes 0-1: float16 (IEEE binary16)."""
    out[:] = blocks.view("<f2")


def _bf16(blocks: U8, out: F32) -> None:
    """bytes 0-1: the upper half of a float32."""
    np.left_shift(blocks.view("<u2"), 16, out=out.view(np.uint32), dtype=np.uint32)


def _q4_0(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d, float16; 2-17: byte j holds weight j in its low and weight j + 16 in its high four bits.

    weight = d * (q - 8)
    """
    _spread(_nibbles(blocks[:, 2:]), -8, out)
    out *= _half(blocks, 0)


def _q4_1(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d, float16; 2-3: minimum m, float16; 4-19: four-bit q as in Q4_0.

    weight = d * q + m
    """
    _spread(_nibbles(blocks[:, 4:]), 0, out)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _q5_0(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d, float16; 2-5: u32, bit j is the fifth bit of weight j; 6-21: lower four bits as in Q4_0.

    weight = d * (q - 16)
    """
    _spread(_nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6]), -16, out)
    out *= _half(blocks, 0)


def _q5_1(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d, float16; 2-3: minimum m, float16; 4-7: fifth bits as in Q5_0; 8-23: lower bits as in Q4_0.

    weight = d * q + m
    """
    _spread(_nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8]), 0, out)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _q8_0(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d, float16; 2-33: q, int8.

    weight = d * q
    """
    out[:] = blocks[:, 2:].view(np.int8)
    out *= _half(blocks, 0)


def _q4_k(blocks: U8, out: F32) -> None:
    """bytes 0-1: scale d of the scales, float16; 2-3: scale dmin of the minima, float16; 4-15: eight six-bit scales sc
    and minima mn (see `_scales_and_minima`); 16-143: four runs of 32 bytes, one per 64 weights: byte j of a run holds
    weight j in its low and weight j + 32 in its high four bits.

    weight in sub-block s of 32 = (d * sc[s]) * q - (dmin * mn[s])
    """
    scales, minima = _scales_and_minima(blocks)
    weights = out.reshape(-1, 8, 32)
    weights[:] = _sub_blocks(blocks[:, 16:])
    weights *= scales
    weights -= minima


def _q5_k(blocks: U8, out: F32) -> None:
    """bytes 0-15: d, dmin, scales and minima as in Q4_K; 16-47: bit s of byte j is the fifth bit of weight j of
    sub-block s; 48-175: lower four bits as in Q4_K.

    weight in sub-block s of 32 = (d * sc[s]) * q - (dmin * mn[s])
    """
    scales, minima = _scales_and_minima(blocks)
    q = _sub_blocks(blocks[:, 48:])
    high = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]
    q |= (high & 1) << 4
    weights = out.reshape(-1, 8, 32)
    weights[:] = q
    weights *= scales
    weights -= minima


def _q6_k(blocks: U8, out: F32) -> None:
    """bytes 0-127: lower four bits ql; 128-191: upper two bits qh; 192-207: sixteen scales sc, int8; 208-209: scale d
    of the scales, float16.

    Each half of the block (128 weights) has 64 bytes of ql and 32 of qh. For j in 0..31 of a half, ql[j] holds weight j
    (low) and j + 64 (high), ql[j + 32] holds weight j + 32 (low) and j + 96 (high), and the bits 0-1, 2-3, 4-5, 6-7 of
    qh[j] are the upper bits of the weights j, j + 32, j + 64, j + 96.

    weight in sub-block s of 16 = (d * sc[s]) * (q - 32)
    """
    n = blocks.shape[0]
    low = np.empty((n, 2, 2, 64), dtype=np.uint8)
    halves = blocks[:, :128].reshape(n, 2, 64)
    np.bitwise_and(halves, 15, out=low[:, :, 0])
    np.right_shift(halves, 4, out=low[:, :, 1])
    high = blocks[:, 128:192].reshape(n, 2, 1, 32) >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    q = low.reshape(n, 2, 4, 32)
    q |= (high & 3) << 4
    _spread(q.reshape(n, 256), -32, out)
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    weights = out.reshape(n, 16, 16)
    weights *= scales[:, :, None]


def _half(blocks: U8, at: int) -> F32:
    """(n, 1) float32 from the float16 at byte `at` of each block."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def _nibbles(packed: U8) -> U8:
    """(n, 32) from (n, 16): the low four bits of all bytes, then the high ones."""
    q = np.empty((packed.shape[0], 2, 16), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=q[:, 0])
    np.right_shift(packed, 4, out=q[:, 1])
    return q.reshape(-1, 32)


def _fifth_bits(packed: U8) -> U8:
    """(n, 32) of 0 or 16 from the 32 bits of each (n, 4)."""
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    bits <<= 4
    return bits


def _sub_blocks(packed: U8) -> U8:
    """(n, 8, 32) from (n, 128): of each run of 32 bytes, the low four bits, then the high ones."""
    q = np.empty((packed.shape[0], 4, 2, 32), dtype=np.uint8)
    runs = packed.reshape(-1, 4, 32)
    np.bitwise_and(runs, 15, out=q[:, :, 0])
    np.right_shift(runs, 4, out=q[:, :, 1])
    return q.reshape(-1, 8, 32)


def _spread(q: U8, shift: int, out: F32) -> None:
    """out = q + shift; exact, since both are small integers."""
    out[:] = q
    if shift:
        out += np.float32(shift)


def _scales_and_minima(blocks: U8) -> tuple[F32, F32]:
    """(n, 8, 1) scales d * sc and minima dmin * mn of a Q4_K or Q5_K block.

    The lower six bits of the bytes 4-7 are sc[0..3], those of the bytes 8-11 are mn[0..3]. The bytes 12-15 hold the
    lower four bits of sc[4..7] (low) and mn[4..7] (high); their upper two are the bits 6-7 of the bytes 4-7 and 8-11.
    """
    a, b, c = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    sc = np.concatenate([a & 63, (c & 15) | (a >> 6 << 4)], axis=1)
    mn = np.concatenate([b & 63, (c >> 4) | (b >> 6 << 4)], axis=1)
    scales = _half(blocks, 0) * sc.astype(np.float32)
    minima = _half(blocks, 2) * mn.astype(np.float32)
    return scales[:, :, None], minima[:, :, None]


_CONVERSIONS: dict[str, Callable[[U8, F32], None]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
