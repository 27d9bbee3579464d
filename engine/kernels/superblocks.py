"""The search for the two levels of scales of a superblock of 256 weights: Q4_K, Q5_K and Q6_K.

The scale of each block is a small whole number times the superblock's own, which is float16; so are the offsets of Q4_K
and Q5_K. Each block is first fitted alone (engine.kernels.search). The superblock's scales are then set so that the
largest is reached, or a little more, each block tries the whole numbers around what it would like, and least squares
over all 256 weights set the superblock's scales anew.

A tile is (blocks, n, LANES) float32: each column is one superblock.
"""

import numpy as np
from numba import njit

from engine.kernels.search import (
    FAR,
    LANES,
    ONE,
    ZERO,
    F,
    beside,
    code,
    codes,
    errors,
    fit_line,
    fit_ray,
    half,
    over,
    sums,
)

_TOP = F(63)
"""The largest scale and minimum of a block in Q4_K and Q5_K: six bits."""
_LOW, _HIGH = F(-32), F(31)
"""The codes of Q6_K."""
_SMALLEST, _LARGEST = F(-128), F(127)
"""The scales of its blocks."""
_AROUND = (ZERO, -ONE, ONE)
_WIDER = (ZERO, -ONE, ONE, F(-2), F(2))


@njit(nogil=True, cache=True)
def line_superblocks(tiles, top, shrink, rounds, reach, scales, minima, block_scales, block_minima, out):
    """Q4_K (top 15) and Q5_K (top 31): weight = scale * block_scale * q - minimum * block_minimum.

    tiles         (T, 8, 32, LANES) float32
    shrink        as in fit_line, as are rounds
    reach         the largest scales and minima of the blocks, at most 63, with which the superblock is tried
    scales        (T, LANES) float32, written, values of float16, as are minima
    block_scales  (T, 8, LANES) uint8, written: 0 to 63, as are block_minima
    out           (T, 8, 32, LANES) uint8, written: codes from 0 to top
    """
    wanted, lowest, error = np.empty((8, LANES), F), np.empty((8, LANES), F), np.empty(LANES, F)
    sc, mn, a, b = np.empty((8, LANES), F), np.empty((8, LANES), F), np.empty((8, LANES), F), np.empty((8, LANES), F)
    d, dmin, best, inverse = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    s, o, largest, deepest = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for t in range(tiles.shape[0]):
        tile = tiles[t]
        for lane in range(LANES):
            largest[lane], deepest[lane], best[lane] = ZERO, ZERO, FAR
        for block in range(8):
            fit_line(tile[block], top, ZERO, shrink, rounds, wanted[block], lowest[block])
            for lane in range(LANES):
                largest[lane] = max(largest[lane], wanted[block, lane])
                deepest[lane] = min(deepest[lane], lowest[block, lane])
        for of_scale in reach:
            for of_minimum in reach:
                for lane in range(LANES):
                    d[lane] = _half_or_more(largest[lane] / of_scale)
                    dmin[lane] = _half_or_more(-deepest[lane] / of_minimum)
                for again in range(2):
                    if again:
                        _refit_line(tile, top, sc, mn, d, dmin)
                    _settle_line(tile, top, wanted, lowest, d, dmin, sc, mn, error)
                    for lane in range(LANES):
                        if error[lane] < best[lane]:
                            best[lane], scales[t, lane], minima[t, lane] = error[lane], d[lane], dmin[lane]
                            for block in range(8):
                                a[block, lane], b[block, lane] = sc[block, lane], mn[block, lane]
        for lane in range(LANES):
            d[lane], dmin[lane] = scales[t, lane], minima[t, lane]
        for up in _AROUND:  # the two were rounded each by itself: their neighbours may fit together better
            for aside in _AROUND:
                for lane in range(LANES):
                    s[lane], o[lane] = beside(d[lane], up), beside(dmin[lane], aside)
                _errors_line(tile, top, a, b, s, o, error)
                for lane in range(LANES):
                    if error[lane] < best[lane]:
                        best[lane], scales[t, lane], minima[t, lane] = error[lane], s[lane], o[lane]
        for block in range(8):
            for lane in range(LANES):
                s[lane], o[lane] = scales[t, lane] * a[block, lane], -(minima[t, lane] * b[block, lane])
                block_scales[t, block, lane] = np.uint8(np.int32(a[block, lane]))
                block_minima[t, block, lane] = np.uint8(np.int32(b[block, lane]))
            codes(tile[block], s, o, ZERO, top, inverse, out[t, block])


@njit(nogil=True, cache=True)
def _errors_line(tile, top, sc, mn, d, dmin, error):
    """The superblocks' errors with these scales."""
    s, o, inverse, e = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for lane in range(LANES):
        error[lane] = ZERO
    for block in range(8):
        for lane in range(LANES):
            s[lane], o[lane] = d[lane] * sc[block, lane], -(dmin[lane] * mn[block, lane])
        errors(tile[block], s, o, ZERO, top, inverse, e)
        for lane in range(LANES):
            error[lane] += e[lane]


@njit(nogil=True, cache=True)
def _settle_line(tile, top, wanted, lowest, d, dmin, sc, mn, error):
    """The best whole numbers sc and mn (8, LANES) around the wanted ones, and the superblocks' errors with them."""
    s, o, inverse = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    a, b, e, best = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for lane in range(LANES):
        error[lane] = ZERO
    for block in range(8):
        for lane in range(LANES):
            best[lane] = FAR
        for up in _AROUND:
            for aside in _AROUND:
                for lane in range(LANES):
                    a[lane] = code(code(wanted[block, lane], over(d[lane]), ZERO, ZERO, _TOP), ONE, -up, ZERO, _TOP)
                    b[lane] = code(
                        code(-lowest[block, lane], over(dmin[lane]), ZERO, ZERO, _TOP), ONE, -aside, ZERO, _TOP
                    )
                    s[lane], o[lane] = d[lane] * a[lane], -(dmin[lane] * b[lane])
                errors(tile[block], s, o, ZERO, top, inverse, e)
                for lane in range(LANES):
                    if e[lane] < best[lane]:
                        best[lane], sc[block, lane], mn[block, lane] = e[lane], a[lane], b[lane]
        for lane in range(LANES):
            error[lane] += best[lane]


@njit(nogil=True, cache=True)
def _refit_line(tile, top, sc, mn, d, dmin):
    """d and dmin anew, by least squares over the superblock for the codes and the whole numbers of the old ones."""
    s, o, inverse, x1 = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    q1, qq, qx = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    ss, sm, mm, sx, mx = (
        np.zeros(LANES, F),
        np.zeros(LANES, F),
        np.zeros(LANES, F),
        np.zeros(LANES, F),
        np.zeros(LANES, F),
    )
    n = F(tile.shape[1])
    for block in range(8):
        for lane in range(LANES):
            s[lane], o[lane] = d[lane] * sc[block, lane], -(dmin[lane] * mn[block, lane])
            inverse[lane], x1[lane] = over(s[lane]), ZERO
        sums(tile[block], inverse, o, ZERO, top, q1, qq, qx)
        for j in range(tile.shape[1]):
            for lane in range(LANES):
                x1[lane] += tile[block, j, lane]
        for lane in range(LANES):
            a, b = sc[block, lane], mn[block, lane]
            ss[lane] += a * a * qq[lane]
            sm[lane] += a * b * q1[lane]
            mm[lane] += b * b * n
            sx[lane] += a * qx[lane]
            mx[lane] += b * x1[lane]
    for lane in range(LANES):
        # the weights are d * (a q) - dmin * b
        determinant = ss[lane] * mm[lane] - sm[lane] * sm[lane]
        if determinant > ZERO:
            scale = (sx[lane] * mm[lane] - mx[lane] * sm[lane]) / determinant
            minimum = (sx[lane] * sm[lane] - mx[lane] * ss[lane]) / determinant
            if scale > ZERO and minimum >= ZERO:
                d[lane], dmin[lane] = half(scale), half(minimum)
        elif ss[lane] > ZERO:
            d[lane] = half(max(sx[lane] / ss[lane], ZERO))
        elif mm[lane] > ZERO:
            dmin[lane] = half(max(-mx[lane] / mm[lane], ZERO))


@njit(nogil=True, cache=True)
def ray_superblocks(tiles, grid, reach, scales, block_scales, out):
    """Q6_K: weight = scale * block_scale * (q - 32).

    tiles         (T, 16, 16, LANES) float32
    grid          as reach in fit_ray
    reach         which scale of a block, from -128 to 127, the largest of them becomes at the start: each is tried
    scales        (T, LANES) float32, written, values of float16
    block_scales  (T, 16, LANES) int8, written
    out           (T, 16, 16, LANES) uint8, written: codes from 0 to 63
    """
    wanted, sc, a = np.empty((16, LANES), F), np.empty((16, LANES), F), np.empty((16, LANES), F)
    error, best = np.empty(LANES, F), np.empty(LANES, F)
    d, s, inverse = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    largest, nothing = np.empty(LANES, F), np.zeros(LANES, F)
    for t in range(tiles.shape[0]):
        tile = tiles[t]
        for lane in range(LANES):
            largest[lane], best[lane] = ZERO, FAR
        for block in range(16):
            fit_ray(tile[block], _LOW, _HIGH, grid, wanted[block])
            for lane in range(LANES):
                if abs(wanted[block, lane]) > abs(largest[lane]):
                    largest[lane] = wanted[block, lane]
        for of_scale in reach:
            for lane in range(LANES):
                d[lane] = _half_or_more(largest[lane] / of_scale)
            for again in range(2):
                if again:
                    _refit_ray(tile, sc, d)
                _settle_ray(tile, wanted, d, sc, error)
                for lane in range(LANES):
                    if error[lane] < best[lane]:
                        best[lane], scales[t, lane] = error[lane], d[lane]
                        for block in range(16):
                            a[block, lane] = sc[block, lane]
        for block in range(16):
            for lane in range(LANES):
                s[lane] = scales[t, lane] * a[block, lane]
                block_scales[t, block, lane] = np.int8(np.int32(a[block, lane]))
            codes(tile[block], s, nothing, _LOW, _HIGH, inverse, out[t, block])


@njit(nogil=True, cache=True)
def _settle_ray(tile, wanted, d, sc, error):
    """The best whole numbers sc (16, LANES) around the wanted ones, and the superblocks' errors with them."""
    s, nothing, inverse = np.empty(LANES, F), np.zeros(LANES, F), np.empty(LANES, F)
    a, e, best = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    for lane in range(LANES):
        error[lane] = ZERO
    for block in range(16):
        for lane in range(LANES):
            best[lane] = FAR
        for up in _WIDER:
            for lane in range(LANES):
                near = code(wanted[block, lane], over(d[lane]), ZERO, _SMALLEST, _LARGEST)
                a[lane] = code(near, ONE, -up, _SMALLEST, _LARGEST)
                s[lane] = d[lane] * a[lane]
            errors(tile[block], s, nothing, _LOW, _HIGH, inverse, e)
            for lane in range(LANES):
                if e[lane] < best[lane]:
                    best[lane], sc[block, lane] = e[lane], a[lane]
        for lane in range(LANES):
            error[lane] += best[lane]


@njit(nogil=True, cache=True)
def _refit_ray(tile, sc, d):
    """d anew, by least squares over the superblock for the codes and the whole numbers of the old one."""
    nothing, inverse = np.zeros(LANES, F), np.empty(LANES, F)
    q1, qq, qx = np.empty(LANES, F), np.empty(LANES, F), np.empty(LANES, F)
    above, below = np.zeros(LANES, F), np.zeros(LANES, F)
    for block in range(16):
        for lane in range(LANES):
            inverse[lane] = over(d[lane] * sc[block, lane])
        sums(tile[block], inverse, nothing, _LOW, _HIGH, q1, qq, qx)
        for lane in range(LANES):
            a = sc[block, lane]
            above[lane] += a * qx[lane]
            below[lane] += a * a * qq[lane]
    for lane in range(LANES):
        d[lane] = half(above[lane] * over(below[lane]))


@njit(nogil=True, cache=True)
def _half_or_more(x):
    """The value of float16 next to x, away from 0: the largest whole number then reaches what it has to."""
    near = half(x)
    if abs(near) >= abs(x):
        return near
    return beside(near, ONE if x > ZERO else -ONE)
