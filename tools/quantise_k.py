"""Q4_K and Q6_K: from float32 rows to the bytes of a GGUF file.

Both formats cut a row into superblocks of 256 weights. Q4_K holds 8 blocks of 32 with `x = d*s*q - dmin*m`, s and m of
6 bits, q of 4; Q6_K holds 16 blocks of 16 with `x = d*s*(q - 32)`, s an int8, q of 6 bits; d and dmin are float16.
Layouts: block_q4_K and block_q6_K in ggml-common.h of ggml.

A quantiser has to choose s, m and q. This one minimises the squared error weighted by |x| + rms(block): it tries
several grids per block, fits scale and minimum to each by least squares, rounds them to what the superblock can hold,
and at last looks at the neighbours of the rounded codes, with the values that a reader will see.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SUPERBLOCK = 256
Q4_K_BYTES = 144
Q6_K_BYTES = 210
LARGEST = 1e7  # the largest code times the largest float16 reaches a little further
NOTHING = 2.0**-25  # half the smallest step that a float16 scale can make: nearer to 0 than to anything else
AT_ONCE = 4096  # superblocks worked on together: the arrays of one search stay within some 100 MB


def quantise_q4_k(rows: Floats) -> Bytes:
    """Pack (R, C) float32, C a multiple of 256, into (R, C/256*144) uint8. Raises ValueError for anything else."""
    return _packed(rows, Q4_K_BYTES, _q4_k)


def quantise_q6_k(rows: Floats) -> Bytes:
    """Pack (R, C) float32, C a multiple of 256, into (R, C/256*210) uint8. Raises ValueError for anything else."""
    return _packed(rows, Q6_K_BYTES, _q6_k)


def _packed(rows: Floats, nbytes: int, pack: Callable[[Floats], Bytes]) -> Bytes:
    if rows.ndim != 2 or not rows.size or rows.shape[1] % SUPERBLOCK:
        raise ValueError(f"rows must be (R, C) with C a multiple of {SUPERBLOCK}, not {rows.shape}")
    if not np.abs(rows).max() <= LARGEST:  # a NaN fails it too
        raise ValueError(f"every weight must lie within +-{LARGEST:g}")
    blocks = np.asarray(rows, dtype=np.float32).reshape(-1, SUPERBLOCK)
    blocks = np.where(np.abs(blocks) < NOTHING, np.float32(0), blocks)
    parts = [pack(blocks[start : start + AT_ONCE]) for start in range(0, len(blocks), AT_ONCE)]
    return np.concatenate(parts).reshape(rows.shape[0], rows.shape[1] // SUPERBLOCK * nbytes)


def _importance(x: Floats) -> Floats:
    """How much an error in each weight counts: more in a large one, and never nothing."""
    importance: Floats = np.abs(x) + np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) + np.float32(1e-30)
    return importance


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _error(weight: Floats, x: Floats, seen: Floats) -> Floats:
    error: Floats = np.sum(weight * np.square(x - seen), axis=-1)
    return error


def _float16_above(x: Floats) -> NDArray[np.float16]:
    """The next float16 at or beyond x, away from 0: the largest code then always reaches what it has to."""
    near = x.astype(np.float16)
    return np.where(np.abs(near) < np.abs(x), np.nextafter(near, np.copysign(np.float16(np.inf), near)), near)


# Q4_K


def _q4_k(superblocks: Floats) -> Bytes:
    """(N, 256) float32 -> (N, 144) uint8."""
    x = superblocks.reshape(-1, 8, 32)
    weight = _importance(x)
    scale, minimum = _fit_q4(x, weight)
    d = _float16_above(scale.max(axis=1, keepdims=True) / np.float32(63))
    dmin = _float16_above(minimum.max(axis=1, keepdims=True) / np.float32(63))
    scale_code, minimum_code = _settle_q4(x, weight, scale, minimum, d, dmin)
    q = _codes_q4(x, *_grid_q4(d, dmin, scale_code, minimum_code))
    return pack_q4_k(d, dmin, scale_code, minimum_code, q)


def pack_q4_k(
    d: NDArray[np.float16], dmin: NDArray[np.float16], scale_code: Bytes, minimum_code: Bytes, q: Bytes
) -> Bytes:
    """The bytes of N superblocks, (N, 144).

    d, dmin       (N, 1) float16
    scale_code    (N, 8) uint8 below 64, as is minimum_code
    q             (N, 8, 32) uint8 below 16
    """
    count = len(q)
    out = np.empty((count, Q4_K_BYTES), dtype=np.uint8)
    out[:, 0:2] = d.view(np.uint8)
    out[:, 2:4] = dmin.view(np.uint8)
    low, high = scale_code[:, :4], scale_code[:, 4:]
    low_minimum, high_minimum = minimum_code[:, :4], minimum_code[:, 4:]
    out[:, 4:8] = low | (high >> 4) << 6
    out[:, 8:12] = low_minimum | (high_minimum >> 4) << 6
    out[:, 12:16] = (high & 15) | (high_minimum & 15) << 4
    pairs = q.reshape(count, 4, 2, 32)
    out[:, 16:] = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(count, 128)
    return out


def _fit_q4(x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """The best unrounded (scale, minimum) of each block, both >= 0: (N, 8) each, for x = scale*q - minimum."""
    lowest = np.minimum(x.min(axis=-1), 0)
    width = x.max(axis=-1) - lowest
    best_scale, best_minimum = np.zeros_like(width), np.zeros_like(width)
    best = np.full(width.shape, np.inf, dtype=np.float32)
    sum_w, sum_x = weight.sum(axis=-1), (weight * x).sum(axis=-1)
    for steps in np.arange(13.0, 17.01, 0.25, dtype=np.float32):
        inverse = _ratio(np.broadcast_to(steps, width.shape), width)[..., None]
        q = np.rint(inverse * (x - lowest[..., None])).clip(0, 15).astype(np.float32)
        sum_q, sum_qq = (weight * q).sum(axis=-1), (weight * q * q).sum(axis=-1)
        sum_qx = (weight * q * x).sum(axis=-1)
        scale = _ratio(sum_w * sum_qx - sum_q * sum_x, sum_w * sum_qq - sum_q * sum_q)
        minimum = (scale * sum_q - sum_x) / sum_w
        without = minimum < 0  # the format cannot add: refit the scale alone
        scale = np.where(without, _ratio(sum_qx, sum_qq), scale).clip(min=0)
        minimum = minimum.clip(min=0)
        error = _error(weight, x, scale[..., None] * q - minimum[..., None])
        better = error < best
        best = np.where(better, error, best)
        best_scale, best_minimum = np.where(better, scale, best_scale), np.where(better, minimum, best_minimum)
    return best_scale, best_minimum


def _settle_q4(
    x: Floats, weight: Floats, scale: Floats, minimum: Floats, d: NDArray[np.float16], dmin: NDArray[np.float16]
) -> tuple[Bytes, Bytes]:
    """6-bit codes of scale and minimum: the nearest, or a neighbour of it where the real error is smaller."""
    nearest_scale = np.rint(_ratio(scale, d.astype(np.float32) + np.zeros_like(scale)))
    nearest_minimum = np.rint(_ratio(minimum, dmin.astype(np.float32) + np.zeros_like(minimum)))
    best = np.full(scale.shape, np.inf, dtype=np.float32)
    best_scale, best_minimum = np.zeros(scale.shape, np.uint8), np.zeros(scale.shape, np.uint8)
    for up in (0, -1, 1):
        for aside in (0, -1, 1, -2, 2):
            scale_code = (nearest_scale + up).clip(0, 63).astype(np.uint8)
            minimum_code = (nearest_minimum + aside).clip(0, 63).astype(np.uint8)
            step, offset = _grid_q4(d, dmin, scale_code, minimum_code)
            seen = step[..., None] * _codes_q4(x, step, offset) - offset[..., None]
            error = _error(weight, x, seen)
            better = error < best
            best = np.where(better, error, best)
            best_scale = np.where(better, scale_code, best_scale)
            best_minimum = np.where(better, minimum_code, best_minimum)
    return best_scale, best_minimum


def _grid_q4(
    d: NDArray[np.float16], dmin: NDArray[np.float16], scale_code: Bytes, minimum_code: Bytes
) -> tuple[Floats, Floats]:
    """Step and offset of each block, as a reader computes them: float32 products of the float16 values."""
    return d.astype(np.float32) * scale_code, dmin.astype(np.float32) * minimum_code


def _codes_q4(x: Floats, step: Floats, offset: Floats) -> Bytes:
    return np.rint(_ratio(x + offset[..., None], step[..., None] + np.zeros_like(x))).clip(0, 15).astype(np.uint8)


# Q6_K


def _q6_k(superblocks: Floats) -> Bytes:
    """(N, 256) float32 -> (N, 210) uint8."""
    x = superblocks.reshape(-1, 16, 16)
    weight = _importance(x)
    scale = _fit_q6(x, weight)
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1)[:, None], axis=1)
    d = _float16_above(largest / np.float32(-128))  # int8 reaches one further down than up
    code = _settle_q6(x, weight, scale, d)
    return pack_q6_k(d, code, _codes_q6(x, d.astype(np.float32) * code))


def pack_q6_k(d: NDArray[np.float16], scale_code: NDArray[np.int8], q: Bytes) -> Bytes:
    """The bytes of N superblocks, (N, 210).

    d             (N, 1) float16
    scale_code    (N, 16) int8
    q             (N, 16, 16) uint8 below 64, 32 standing for 0
    """
    count = len(q)
    low, high = (q & 15).reshape(count, 2, 4, 32), (q >> 4).reshape(count, 2, 4, 32)
    out = np.empty((count, Q6_K_BYTES), dtype=np.uint8)
    out[:, 0:128] = (low[:, :, :2] | low[:, :, 2:] << 4).reshape(count, 128)
    out[:, 128:192] = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(count, 64)
    out[:, 192:208] = scale_code.view(np.uint8)
    out[:, 208:210] = d.view(np.uint8)
    return out


def _fit_q6(x: Floats, weight: Floats) -> Floats:
    """The best unrounded scale of each block, of either sign: (N, 16), for x = scale*(q - 32)."""
    extreme = np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], axis=-1)
    best_scale = np.zeros(x.shape[:2], dtype=np.float32)
    best = np.full(x.shape[:2], -np.inf, dtype=np.float32)
    for steps in np.arange(-34.0, -29.99, 0.25, dtype=np.float32):
        q = np.rint(_ratio(np.broadcast_to(steps, extreme.shape), extreme) * x).clip(-32, 31)
        sum_qx, sum_qq = (weight * q * x).sum(axis=-1), (weight * q * q).sum(axis=-1)
        scale = _ratio(sum_qx, sum_qq)
        gain = scale * sum_qx  # by how much the error falls below that of an all-zero block
        better = gain > best
        best, best_scale = np.where(better, gain, best), np.where(better, scale, best_scale)
    return best_scale


def _settle_q6(x: Floats, weight: Floats, scale: Floats, d: NDArray[np.float16]) -> NDArray[np.int8]:
    """int8 codes of the scales: the nearest, or a neighbour of it where the real error is smaller."""
    nearest = np.rint(_ratio(scale, d.astype(np.float32) + np.zeros_like(scale)))
    best = np.full(scale.shape, np.inf, dtype=np.float32)
    best_code = np.zeros(scale.shape, np.int8)
    for up in (0, -1, 1, -2, 2):
        code = (nearest + up).clip(-128, 127).astype(np.int8)
        step = d.astype(np.float32) * code
        error = _error(weight, x, step[..., None] * (_codes_q6(x, step).astype(np.float32) - 32))
        better = error < best
        best, best_code = np.where(better, error, best), np.where(better, code, best_code)
    return best_code


def _codes_q6(x: Floats, step: Floats) -> Bytes:
    return (np.rint(_ratio(x, step[..., None] + np.zeros_like(x))).clip(-32, 31) + 32).astype(np.uint8)
