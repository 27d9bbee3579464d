"""Weights as a kernel would decode them that takes a block of their format for something else."""

from typing import Any

import numpy as np

from engine.model import Weight
from falsifiers.faulty_steps import in_blocks, in_float32
from falsifiers.synthetic import SCALES

Array = Any
CODES = {"Q4_0": 2, "Q4_1": 4, "Q5_0": 6, "Q5_1": 8, "Q4_K": 16, "Q5_K": 48}
"""Where the four-bit codes of a block begin; they go to its end."""
FIFTH_BITS = {"Q5_0": slice(2, 6), "Q5_1": slice(4, 8), "Q5_K": slice(16, 48)}


def high_bits_of_scales_lost(weight: Weight) -> Weight:
    """Q4_K and Q5_K: the bytes 4-11 keep six bits, so that the scales and minima 4-7 lose the upper two of theirs."""

    def change(blocks: Array) -> None:
        blocks[:, 4:12] &= 63

    return in_blocks(weight, change)


def minimum_negated(weight: Weight) -> Weight:
    """Q4_1, Q5_1, Q4_K, Q5_K: the float16 of the minimum, bytes 2-3, has the other sign."""

    def change(blocks: Array) -> None:
        blocks[:, 3] ^= 0x80

    return in_blocks(weight, change)


def nibbles_exchanged(weight: Weight) -> Weight:
    """The low and the high four bits of each byte of codes change places."""
    start = CODES[weight.format.name]

    def change(blocks: Array) -> None:
        codes = blocks[:, start:]
        codes[:] = codes << 4 | codes >> 4

    return in_blocks(weight, change)


def nibbles_interleaved(weight: Weight) -> Weight:
    """A byte of codes holds two weights that lie side by side, not half a run apart."""
    start = CODES[weight.format.name]
    half = 32 if weight.format.block == 256 else 16

    def change(blocks: Array) -> None:
        runs = blocks[:, start:].reshape(len(blocks), -1, half)
        codes = np.stack([runs & 15, runs >> 4], axis=3).reshape(*runs.shape[:2], 2, half)
        blocks[:, start:] = (codes[:, :, 0] | codes[:, :, 1] << 4).reshape(len(blocks), -1)

    return in_blocks(weight, change)


def fifth_bits_lost(weight: Weight) -> Weight:
    """The fifth bit of each code is 0."""

    def change(blocks: Array) -> None:
        blocks[:, FIFTH_BITS[weight.format.name]] = 0

    return in_blocks(weight, change)


def last_block_lost(weight: Weight) -> Weight:
    """Each row ends one block earlier: the last block is all zeros."""

    def change(blocks: Array) -> None:
        blocks.reshape(weight.rows, -1, weight.format.nbytes)[:, -1] = 0

    return in_blocks(weight, change)


def offset_is_one_less(weight: Weight) -> Weight:
    """Q6_K: weight = d sc (q - 31)."""
    blocks = weight.raw.reshape(weight.rows, -1, weight.format.nbytes)
    d = np.ascontiguousarray(blocks[..., 208:210]).view("<f2").astype(np.float32)
    scales = d * np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    return in_float32(weight, weight.dequantised() + np.repeat(scales.reshape(weight.rows, -1), 16, axis=1))


def scale_read_as_bfloat16(weight: Weight) -> Weight:
    """The two bytes of each block's scale are taken for bfloat16."""
    at = SCALES[weight.format.name][0]
    blocks = weight.raw.reshape(weight.rows, -1, weight.format.nbytes)
    bits = np.ascontiguousarray(blocks[..., at : at + 2]).view("<u2")[..., 0]
    right = bits.view("<f2").astype(np.float32)
    wrong = (bits.astype(np.uint32) << 16).view(np.float32)
    ratio = np.divide(wrong, right, out=np.zeros_like(right), where=right != 0)

    def without(blocks: Array) -> None:
        blocks[:, at : at + 2] = 0

    rest = in_blocks(weight, without).dequantised()
    scaled = (weight.dequantised() - rest) * np.repeat(ratio, weight.format.block, axis=1)
    return in_float32(weight, rest + scaled)


def transposed(weight: Weight) -> Weight:
    """A square matrix whose columns are taken for its rows."""
    return in_float32(weight, weight.dequantised().T)
