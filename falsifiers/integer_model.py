"""An integer model of the fast path's matrix product: numpy and no numba, same canonical order, so the same bits.

The order (see engine/kernels): blocks by index; a block's products are summed exactly in integers; the sum joins the
row by one fused multiply-add in float32, the minimum's by a second one. Written from ggml's block layouts, apart from
the kernels: where the two disagree in one bit, one of them is wrong.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def fma(a: F32, b: F32, c: F32) -> F32:
    """a * b + c with one rounding, elementwise in float32.

    The product is exact in float64; the sum is rounded to odd there, so that the second rounding, to float32, is right
    (Boldo and Melquiond 2008, Emulation of FMA and correctly rounded sums).
    """
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + addend
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)  # Knuth's exact error of the sum
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, toward), total)
    return odd.astype(np.float32)


def unpack(name: str, raw: NDArray[np.uint8]) -> tuple[Any, Any, Any, F32, F32]:
    """Blocks (rows, blocks, bytes) as integers (q, sub-scales, sub-minima, d, dmin): weight = d scale q - dmin minimum.

    q (rows, blocks, subs, entries) int64; sub-scales, sub-minima (rows, blocks, subs) int64; d, dmin (rows, blocks).
    """
    rows, blocks = raw.shape[:2]
    wide = raw.astype(np.int64)

    def half(at: int) -> F32:
        return np.ascontiguousarray(raw[..., at : at + 2]).view("<f2")[..., 0].astype(np.float32)

    ones = np.ones((rows, blocks, 1), np.int64)
    zero = np.zeros((rows, blocks), np.float32)
    if name in ("Q4_K", "Q5_K"):
        s = wide[..., 4:16]
        scales = np.concatenate([s[..., :4] & 63, (s[..., 8:] & 15) + 16 * (s[..., :4] // 64)], axis=2)
        minima = np.concatenate([s[..., 4:8] & 63, s[..., 8:] // 16 + 16 * (s[..., 4:8] // 64)], axis=2)
        codes = wide[..., -128:].reshape(rows, blocks, 4, 1, 32)
        q = np.concatenate([codes & 15, codes >> 4], axis=3).reshape(rows, blocks, 8, 32)
        if name == "Q5_K":
            q = q + 16 * ((wide[..., 16:48][:, :, None, :] >> np.arange(8)[:, None]) & 1)
        return q, scales, minima, half(0), half(2)
    if name == "Q6_K":
        low, high = wide[..., :128].reshape(rows, blocks, 2, 1, 64), wide[..., 128:192].reshape(rows, blocks, 2, 1, 32)
        nibbles = np.concatenate([low & 15, low >> 4], axis=3).reshape(rows, blocks, 2, 4, 32)
        q = nibbles + 16 * ((high >> (2 * np.arange(4)[:, None])) & 3) - 32
        scales = np.ascontiguousarray(raw[..., 192:208]).view(np.int8).astype(np.int64)
        return q.reshape(rows, blocks, 16, 16), scales, 0 * scales, half(208), zero
    if name == "Q8_0":
        q = np.ascontiguousarray(raw[..., 2:]).view(np.int8).astype(np.int64)
        return q[:, :, None, :], ones, 0 * ones, half(0), zero
    codes = wide[..., -16:]
    q = np.concatenate([codes & 15, codes >> 4], axis=2)
    if name in ("Q5_0", "Q5_1"):
        bits = np.ascontiguousarray(raw[..., -20:-16]).view("<u4").astype(np.int64)
        q = q + 16 * ((bits >> np.arange(32)) & 1)
    if name in ("Q4_1", "Q5_1"):
        return q[:, :, None, :], ones, ones, half(0), -half(2)
    return (q - (8 if name == "Q4_0" else 16))[:, :, None, :], ones, 0 * ones, half(0), zero


def quantise(x: F32, block: int) -> tuple[NDArray[np.int8], F32]:
    """Finite activations x (T, D) as int8 (T, D) and scales (T, D / block), half away from zero.

    The scale makes the largest magnitude -127 in blocks of 256 (the first of equal ones), 127 in blocks of 32.
    """
    T, D = x.shape
    blocks = x.reshape(T, -1, block)
    peaks = np.take_along_axis(blocks, np.argmax(np.abs(blocks), axis=2)[..., None], axis=2)
    peaks = peaks + np.float32(0)  # a block of -0 has the scale of a block of 0
    scale: F32 = (peaks / np.float32(-127) if block == 256 else np.abs(peaks) / np.float32(127)).astype(np.float32)
    ratio = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale != 0)
    rounded = np.copysign(np.minimum(np.floor(np.abs(ratio) + np.float32(0.5)), np.float32(127)), ratio)
    return rounded.astype(np.int8).reshape(T, D), scale[..., 0]


def rest(x: F32, q: NDArray[np.int8], scale: F32) -> F32:
    """What rounding left of activations x (T, D): x - q * scale, with one rounding."""
    steps = np.repeat(-scale, x.shape[1] // scale.shape[1], axis=1)
    return fma(q.astype(np.float32), steps, x)


def matmul(name: str, raw: NDArray[np.uint8], block: int, q: NDArray[np.int8], scale: F32) -> F32:
    """(T, rows) float32: quantised activations q (T, D), scale (T, D / block), times weights raw (rows, bytes)."""
    (T, D), step = q.shape, 4096
    if len(raw) > step:  # integers take much more memory than their codes
        parts = [matmul(name, raw[at : at + step], block, q, scale) for at in range(0, len(raw), step)]
        return np.concatenate(parts, axis=1)
    rows, blocks = len(raw), D // block
    weights, scales, minima, d, dmin = unpack(name, raw.reshape(rows, blocks, -1))
    y = q.astype(np.float64).reshape(T, blocks, block)
    scaled = (weights * scales[..., None]).reshape(rows, blocks, block).astype(np.float64)
    # integers below 2^53 in float64: exact, in whatever order they are added
    exact = np.matmul(scaled.transpose(1, 0, 2), y.transpose(1, 2, 0)).astype(np.float32)
    sums = y.reshape(T, blocks, scales.shape[2], -1).sum(axis=3)
    least = np.matmul(minima.astype(np.float64).transpose(1, 0, 2), sums.transpose(1, 2, 0)).astype(np.float32)
    total = np.zeros((T, rows), np.float32)
    for b in range(blocks):
        total = fma(d[None, :, b] * scale[:, b, None], exact[b].T, total)
        if name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K"):
            total = fma(-(dmin[None, :, b] * scale[:, b, None]), least[b].T, total)
    return total


def lanes_sum(terms: NDArray[Any]) -> Any:
    """Sum of 16 lanes (16, ..) in the fixed tree: 8, 4, 2, 1 apart."""
    while terms.shape[0] > 1:
        terms = terms[: terms.shape[0] // 2] + terms[terms.shape[0] // 2 :]
    return terms[0]


def dots(a: F32, b: F32) -> F32:
    """Dot products over the last axis of a (.., n) and b (.., n), whose other axes are broadcast.

    Element i joins lane i mod 16 by a fused multiply-add, in the order of i; then the lanes are summed.
    """
    pad = [(0, -a.shape[-1] % 16)]
    a, b = (np.pad(x, [(0, 0)] * (x.ndim - 1) + pad) for x in (a, b))
    lanes = np.zeros((*np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), 16), np.float32)
    for start in range(0, a.shape[-1], 16):
        lanes = fma(a[..., start : start + 16], b[..., start : start + 16], lanes)
    total: F32 = lanes_sum(np.moveaxis(lanes, -1, 0))
    return total


def dot(a: F32, b: F32) -> np.float32:
    """Dot product of two float32 vectors (n,)."""
    return np.float32(dots(a, b))
