"""The search for the scales of quantised blocks: least squares over many starting points, LANES blocks at a time.

A tile is (n, LANES) float32: each column is one block of n weights. What is done to a block is done lane by lane in a
fixed order and in float32, without one fused multiply-add: every CPU finds the same scales, whatever the number of
threads. A weight x is approximated by scale * q + offset, with q the nearest whole number from low to high.
"""

import numpy as np
from numba import njit

LANES = 64
F = np.float32
ZERO, ONE, TWO = F(0), F(1), F(2)
FAR = F(3e38)
"""Larger than every error: weights end at 65504, and a block has at most 256 of them."""

_MAGIC = F(1.5 * 2**23)  # added and taken away again, it rounds what is below 2^22 to a whole number, ties to even
_SPLIT = F(2**13 + 1)  # Veltkamp's constant for the upper 11 bits of a product
_NORMAL, _TO_STEPS = F(2**-14), F(0.75)  # below 2^-14, halves are multiples of 2^-24: the steps of floats from 0.5 to 1
_SMALLEST, _ULP = F(2**-24), F(2**-10)
_NOTHING, _LARGEST = F(1e-30), F(65504)
_NOISE = F(2**-20)  # of a block's squares: where many starts fit it exactly, the first is kept, as in its neighbours


@njit(nogil=True, cache=True)
def half(x):
    """The nearest finite value of float16."""
    x = min(max(x, -_LARGEST), _LARGEST)
    if abs(x) < _NORMAL:
        return (x + _TO_STEPS) - _TO_STEPS
    split = x * _SPLIT
    return split - (split - x)


@njit(nogil=True, cache=True)
def beside(x, direction):
    """A neighbour of x, a value of float16: the next one up or down, or the one behind (1 or -1), or x itself (0)."""
    return half(x + direction * max(abs(x) * _ULP, _SMALLEST))


@njit(nogil=True, cache=True)
def over(x):
    """1 / x, and 0 where x is so small that it may not be finite: the scales of every format end far above."""
    return ONE / x if abs(x) > _NOTHING else ZERO


@njit(nogil=True, cache=True)
def code(x, inverse, offset, low, high):
    """The whole number from low to high that is nearest to (x - offset) * inverse, ties to even."""
    return (min(max((x - offset) * inverse, low), high) + _MAGIC) - _MAGIC


@njit(nogil=True, cache=True)
def sums(tile, inverse, offset, low, high, q1, qq, qx):
    """The sums of q, q^2 and q * x over each block, into q1, qq and qx (LANES,), for codes of 1 / scale and offset."""
    for lane in range(LANES):
        q1[lane], qq[lane], qx[lane] = ZERO, ZERO, ZERO
    for j in range(0, tile.shape[0], 4):  # by fours: the sums are then loaded and stored a quarter as often
        for lane in range(LANES):
            i, o = inverse[lane], offset[lane]
            a, b, c, d = tile[j, lane], tile[j + 1, lane], tile[j + 2, lane], tile[j + 3, lane]
            qa, qb = code(a, i, o, low, high), code(b, i, o, low, high)
            qc, qd = code(c, i, o, low, high), code(d, i, o, low, high)
            q1[lane] += (qa + qb) + (qc + qd)
            qq[lane] += (qa * qa + qb * qb) + (qc * qc + qd * qd)
            qx[lane] += (qa * a + qb * b) + (qc * c + qd * d)


@njit(nogil=True, cache=True)
def errors(tile, scale, offset, low, high, inverse, out):
    """The squared error of each block, into out (LANES,), for the best codes of a scale and an offset as they are.

    inverse  (LANES,) float32, overwritten with 1 / scale
    """
    for lane in range(LANES):
        out[lane], inverse[lane] = ZERO, over(scale[lane])
    for j in range(0, tile.shape[0], 4):
        for lane in range(LANES):
            i, s, o = inverse[lane], scale[lane], offset[lane]
            a, b, c, d = tile[j, lane], tile[j + 1, lane], tile[j + 2, lane], tile[j + 3, lane]
            a -= s * code(a, i, o, low, high) + o
            b -= s * code(b, i, o, low, high) + o
            c -= s * code(c, i, o, low, high) + o
            d -= s * code(d, i, o, low, high) + o
            out[lane] += (a * a + b * b) + (c * c + d * d)


@njit(nogil=True, cache=True)
def codes(tile, scale, offset, low, high, inverse, out):
    """The best codes of each block less `low`, into out (n, LANES) uint8; inverse as in `errors`."""
    for lane in range(LANES):
        inverse[lane] = over(scale[lane])
    for j in range(tile.shape[0]):
        for lane in range(LANES):
            out[j, lane] = np.uint8(np.int32(code(tile[j, lane], inverse[lane], offset[lane], low, high) - low))


@njit(nogil=True, cache=True)
def bounds(tile, low, high):
    """The smallest and the largest weight of each block, into low and high (LANES,)."""
    for lane in range(LANES):
        low[lane], high[lane] = FAR, -FAR
    for j in range(tile.shape[0]):
        for lane in range(LANES):
            low[lane], high[lane] = min(low[lane], tile[j, lane]), max(high[lane], tile[j, lane])


@njit(nogil=True, cache=True)
def fit_line(tile, top, ceiling, shrink, rounds, best_scale, best_offset):
    """A scale >= 0 and an offset for each block, unrounded, with q from 0 to top.

    ceiling  the largest offset that is allowed
    shrink   by which parts of a block's width the range that q covers may fall short at either end: each pair is tried
    rounds   how often codes and least squares take turns from each start
    """
    n = F(tile.shape[0])
    low, high, x1, xx = np.empty(LANES, F), np.empty(LANES, F), np.zeros(LANES, F), np.zeros(LANES, F)
    scale, offset, inverse, best = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.full(LANES, FAR, F)
    q1, qq, qx, middle = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    near = np.empty(tile.shape, F)
    bounds(tile, low, high)
    for lane in range(LANES):
        low[lane] = min(low[lane], ceiling)
        middle[lane] = low[lane] + (high[lane] - low[lane]) * F(0.5)
        low[lane] -= middle[lane]
        high[lane] -= middle[lane]
    for j in range(tile.shape[0]):  # around 0, where the sums of least squares keep their digits
        for lane in range(LANES):
            x = tile[j, lane] - middle[lane]
            near[j, lane] = x
            x1[lane] += x
            xx[lane] += x * x
    for first in shrink:
        for last in shrink:
            for lane in range(LANES):
                width = high[lane] - low[lane]
                scale[lane] = width * (ONE - first - last) / top
                offset[lane] = min(low[lane] + first * width, ceiling - middle[lane])
            for _ in range(rounds):
                for lane in range(LANES):
                    inverse[lane] = over(scale[lane])
                sums(near, inverse, offset, ZERO, top, q1, qq, qx)
                for lane in range(LANES):
                    s1, s2, sx, of_x, most = q1[lane], qq[lane], qx[lane], x1[lane], ceiling - middle[lane]
                    below = n * s2 - s1 * s1
                    s = (n * sx - s1 * of_x) / below if below > ZERO else ZERO
                    m = (of_x - s * s1) / n
                    if m > most:
                        m = most
                        s = (sx - m * s1) * over(s2)
                    s = max(s, ZERO)
                    error = xx[lane] + s * (s * s2 + TWO * (m * s1 - sx)) + m * (n * m - TWO * of_x)
                    scale[lane], offset[lane] = s, m
                    if error < best[lane] - xx[lane] * _NOISE:
                        best[lane], best_scale[lane], best_offset[lane] = error, s, m + middle[lane]


@njit(nogil=True, cache=True)
def extremes(tile, extreme):
    """The weight of each block that is farthest from 0, with its sign, into extreme (LANES,)."""
    for lane in range(LANES):
        extreme[lane] = ZERO
    for j in range(tile.shape[0]):
        for lane in range(LANES):
            if abs(tile[j, lane]) > abs(extreme[lane]):
                extreme[lane] = tile[j, lane]


@njit(nogil=True, cache=True)
def fit_ray(tile, low, high, reach, best_scale):
    """A scale of either sign for each block, unrounded, with q from low to high and no offset.

    reach  to which code, whole or not, the weight that is farthest from 0 is sent at the start: each is tried
    """
    extreme, best = np.empty(LANES, F), np.full(LANES, -ONE, F)
    inverse, offset = np.empty(LANES, F), np.zeros(LANES, F)
    q1, qq, qx = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    extremes(tile, extreme)
    for code_of_it in reach:
        for lane in range(LANES):
            inverse[lane] = code_of_it * over(extreme[lane])
        sums(tile, inverse, offset, low, high, q1, qq, qx)
        for lane in range(LANES):
            s = qx[lane] * over(qq[lane])
            gain = s * qx[lane]  # by how much the error falls below that of an empty block
            if gain > best[lane]:
                best[lane], best_scale[lane] = gain, s


@njit(nogil=True, cache=True)
def line_blocks(tiles, top, shrink, rounds, scales, offsets, out):
    """Blocks with a scale and an offset in float16: Q4_1 and Q5_1.

    tiles    (T, n, LANES) float32
    scales   (T, LANES) float32, written, values of float16, as are offsets
    out      (T, n, LANES) uint8, written: codes from 0 to top
    """
    scale, offset, low, high = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    s, o, inverse, error = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    q1, qq, qx, best = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for t in range(tiles.shape[0]):
        tile, best_scale, best_offset = tiles[t], scales[t], offsets[t]
        bounds(tile, low, high)
        for lane in range(LANES):  # what ggml takes, which stays where nothing better is found
            best_scale[lane] = half((high[lane] - low[lane]) / top)
            best_offset[lane] = half(low[lane])
        errors(tile, best_scale, best_offset, ZERO, top, inverse, best)
        fit_line(tile, top, FAR, shrink, rounds, scale, offset)
        for aside in (ZERO, -ONE, ONE):
            for lane in range(LANES):
                o[lane] = beside(half(offset[lane]), aside)
                inverse[lane] = over(scale[lane])
            sums(tile, inverse, o, ZERO, top, q1, qq, qx)
            for up in (ZERO, -ONE, ONE):
                for lane in range(LANES):
                    s[lane] = beside(half((qx[lane] - o[lane] * q1[lane]) * over(qq[lane])), up)
                errors(tile, s, o, ZERO, top, inverse, error)
                for lane in range(LANES):
                    if error[lane] < best[lane]:
                        best[lane], best_scale[lane], best_offset[lane] = error[lane], s[lane], o[lane]
        codes(tile, best_scale, best_offset, ZERO, top, inverse, out[t])


@njit(nogil=True, cache=True)
def ray_blocks(tiles, low, high, reach, scales, out):
    """Blocks with a scale in float16 alone: Q4_0 and Q5_0.

    tiles    (T, n, LANES) float32
    scales   (T, LANES) float32, written, values of float16
    out      (T, n, LANES) uint8, written: codes from 0 to high - low
    """
    scale, s, inverse, nothing = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.zeros(LANES, F)
    error, best, extreme = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for t in range(tiles.shape[0]):
        tile, best_scale = tiles[t], scales[t]
        extremes(tile, extreme)
        for lane in range(LANES):  # as above
            best_scale[lane] = half(extreme[lane] / low)
        errors(tile, best_scale, nothing, low, high, inverse, best)
        fit_ray(tile, low, high, reach, scale)
        for up in (ZERO, -ONE, ONE):
            for lane in range(LANES):
                s[lane] = beside(half(scale[lane]), up)
            errors(tile, s, nothing, low, high, inverse, error)
            for lane in range(LANES):
                if error[lane] < best[lane]:
                    best[lane], best_scale[lane] = error[lane], s[lane]
        codes(tile, best_scale, nothing, low, high, inverse, out[t])
