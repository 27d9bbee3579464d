"""From codes and scales to the bytes of a block: the way back of engine.formats, whose docstrings give the layouts.

All arrays hold one block per row: scales and offsets (N,) float32 that are values of float16, codes (N, block) uint8.
"""

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
_FOUR = np.uint8(15)


def pack_4(codes: U8, *scales: F32) -> U8:
    """Q4_0 with scales, Q4_1 with scales and offsets; codes (N, 32) from 0 to 15."""
    return np.concatenate([*map(_half, scales), _pairs(codes[:, :16], codes[:, 16:])], axis=1)


def pack_5(codes: U8, *scales: F32) -> U8:
    """Q5_0 with scales, Q5_1 with scales and offsets; codes (N, 32) from 0 to 31."""
    fifth = np.packbits(codes >> 4, axis=1, bitorder="little")
    return np.concatenate([*map(_half, scales), fifth, _pairs(codes[:, :16] & _FOUR, codes[:, 16:] & _FOUR)], axis=1)


def pack_8(codes: NDArray[np.int8], scales: F32) -> U8:
    """Q8_0; codes (N, 32) int8."""
    return np.concatenate([_half(scales), codes.view(np.uint8)], axis=1)


def pack_k(codes: U8, scales: F32, minima: F32, block_scales: U8, block_minima: U8, *, fifth: bool) -> U8:
    """Q4_K, or Q5_K with a fifth bit; block_scales and block_minima (N, 8) below 64, codes (N, 256)."""
    low, high = block_scales[:, :4], block_scales[:, 4:]
    low_minima, high_minima = block_minima[:, :4], block_minima[:, 4:]
    six = [low | high >> 4 << 6, low_minima | high_minima >> 4 << 6, (high & 15) | (high_minima & 15) << 4]
    parts = codes.reshape(-1, 8, 32)
    bits = [np.bitwise_or.reduce(parts >> 4 << np.arange(8, dtype=np.uint8)[:, None], axis=1)] if fifth else []
    fours = [_pairs(parts[:, block] & _FOUR, parts[:, block + 1] & _FOUR) for block in (0, 2, 4, 6)]
    return np.concatenate([_half(scales), _half(minima), *six, *bits, *fours], axis=1)


def pack_6_k(codes: U8, scales: F32, block_scales: NDArray[np.int8]) -> U8:
    """Q6_K; block_scales (N, 16) int8, codes (N, 256) below 64."""
    low, high = (codes & _FOUR).reshape(-1, 4, 64), (codes >> 4).reshape(-1, 2, 4, 32)
    fours = [_pairs(low[:, part], low[:, part + 1]) for part in (0, 2)]
    twos = np.bitwise_or.reduce(high << np.array([[0], [2], [4], [6]], np.uint8), axis=2).reshape(-1, 64)
    return np.concatenate([*fours, twos, block_scales.view(np.uint8), _half(scales)], axis=1)


def _half(values: F32) -> U8:
    """(N, 2) bytes: float16."""
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _pairs(low: U8, high: U8) -> U8:
    """Bytes with one code in the low and another in the high four bits."""
    joined: U8 = high << np.uint8(4)
    joined |= low
    return joined
