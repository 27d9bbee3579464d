"""What a forward pass does head by head: rotary positions, the cache of keys and values, attention.

The cache of a layer, in float32 or float16: keys (kv_heads, blocks, width, 16), so that a block holds 16 positions; and
values (kv_heads, width / 16, capacity, 16). `width` is the length of a head, continued with zeros to whole vectors.

Nothing here checks a bound, as in `steps`.
"""

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from engine.kernels import attention
from engine.kernels.rows import LANES, LINE
from engine.kernels.simd import calling

SIDE = attention.SIDE
weigh_row, continued, clear_row = attention.weigh_row, attention.continued, attention.clear_row
call_scores, call_mix, call_keep = calling(8), calling(9), calling(6)

TILE = 16
"""Queries of a task: their scores stay in the second level of the cache."""
RANGE = 8
"""Blocks of 16 keys that a task's queries meet one after the other: they stay in the first."""
PART = 16
"""Blocks of 16 keys that are one task where a single token attends to many."""
FEW = 16384
"""Products of 16 entries that one thread makes before others are awake."""
LITTLE = 32768
"""Scores whose softmax one thread computes meanwhile."""


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c in float32 with one rounding (IEEE 754 fusedMultiplyAdd)."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@njit(cache=True)
def rotate(
    qkv, heads, kv_heads, head_dim, q, k, keep, keys, values, capacity, size, past, cosine, sine, adjacent
):  # fmt: skip
    """Rotary positions on queries and keys; keys and values into the cache.

    qkv           (T, (heads + 2 kv_heads) head_dim) float32
    q, k          (T, heads or kv_heads, width) float32, of which head_dim are written
    keep          address of the kernel that fills the cache
    keys, values  addresses of the layer's cache for `capacity` positions, `size` bytes an entry, written from `past`
    cosine, sine  (T, half) float32, rows for the positions of the T tokens
    adjacent      pairs are (2i, 2i + 1); else (i, i + half); entries past 2 * half are copied
    """
    T, half_dim, width = qkv.shape[0], cosine.shape[1], k.shape[2]
    blocks, lines = (capacity + LANES - 1) // LANES, width // LANES
    value = np.zeros(width, np.float32)
    for t in range(T):
        for h in range(heads + kv_heads):
            to = q[t, h] if h < heads else k[t, h - heads]
            start = h * head_dim
            for i in range(half_dim):
                first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + half_dim)
                a, b, c, s = qkv[t, start + first], qkv[t, start + second], cosine[t, i], sine[t, i]
                to[first] = fma(a, c, -(b * s))
                to[second] = fma(a, s, b * c)
            for i in range(2 * half_dim, head_dim):
                to[i] = qkv[t, start + i]
        block, lane = (past + t) // LANES, (past + t) % LANES
        for h in range(kv_heads):
            start = (heads + kv_heads + h) * head_dim
            for i in range(head_dim):
                value[i] = qkv[t, start + i]
            column = keys + ((h * blocks + block) * width * LANES + lane) * size
            row = values + (h * lines * capacity + past + t) * LANES * size
            call_keep(keep, k[t, h].ctypes.data, value.ctypes.data, lines, column, row, capacity * LANES * size)


@njit(cache=True, parallel=True)
def attend(
    score, mix, q, keys, values, heads, group, past, T, lines, capacity, size, scale, scores, weights, out, threads
):  # fmt: skip
    """Causal attention over the cache of a layer.

    score, mix      addresses of the kernels that read keys and values
    q, out          addresses of (T, heads, 16 * lines) float32, out written
    keys, values    addresses of the cache for `capacity` positions, `size` bytes an entry; `group` heads share one
    scores, weights addresses of (T, heads, past + T) float32, written, or 0: nobody wants them
    scale           address of one float32

    q 0: the scores are given, and read; q and scores 0: the weights are. A key ahead that they show is then seen.
    threads         that will share the work: told, since numba cannot keep code that asks
    """
    kv_heads, S = heads // group, past + T
    of_keys = (capacity + LANES - 1) // LANES * lines * LANES * LANES * size
    of_values = lines * capacity * LANES * size
    plane = capacity * LANES * size
    tile = min(TILE, (T * heads // (4 * threads) + SIDE) // SIDE * SIDE)
    tiles = (T * group + tile - 1) // tile
    if T * heads * S * lines <= FEW:
        for kv in range(kv_heads):
            queries(
                score, mix, q, keys + kv * of_keys, values + kv * of_values, heads, group, kv, 0, T * group, past, S,
                lines, plane, size, scale, scores, weights, out,
            )  # fmt: skip
    elif T > 1:
        for task in prange(kv_heads * tiles):
            # the last tokens see most: each thread gets as many of them as of the first
            number = task // 2 if task % 2 == 0 else kv_heads * tiles - 1 - task // 2
            kv, first = number % kv_heads, number // kv_heads * tile
            queries(
                score, mix, q, keys + kv * of_keys, values + kv * of_values, heads, group, kv, first,
                min(tile, T * group - first), past, S, lines, plane, size, scale, scores, weights, out,
            )  # fmt: skip
    else:
        own, places, seen = rooms(q, out, heads, heads, 0, 0, heads, past, S, lines)
        blocks = (S + LANES - 1) // LANES
        parts = (blocks + PART - 1) // PART
        if q == 0:
            fill(own, seen, scores, weights, heads, heads, 0, 0, S)
        else:
            for task in prange(kv_heads * parts):
                kv, part = task // parts, task % parts
                first, last = part * PART, min(blocks, (part + 1) * PART)
                score_blocks(
                    score, places, seen, own, kv * group, (kv + 1) * group, keys + kv * of_keys, first, last, lines,
                    size, scale,
                )  # fmt: skip
        if q != 0 or scores != 0:
            if heads * S <= LITTLE:
                for h in range(heads):
                    weigh(own[h], seen[h], S, h, scores, weights)
            else:
                for h in prange(heads):
                    weigh(own[h], seen[h], S, h, scores, weights)
        pairs = (lines + 1) // 2
        for task in prange(kv_heads * pairs):
            kv, line = task // pairs, task % pairs * 2
            mix_planes(
                mix, places, seen, own, kv * group, (kv + 1) * group, values + kv * of_values, plane, line,
                min(2, lines - line), size,
            )  # fmt: skip


@njit(cache=True)
def queries(
    score, mix, q, keys, values, heads, group, kv, first, count, past, S, lines, plane, size, scale, scores, weights,
    out,
):  # fmt: skip
    """Attention of some queries of a head of keys: query i is head i % group of token i // group."""
    own, places, seen = rooms(q, out, heads, group, kv, first, count, past, S, lines)
    if q == 0:
        fill(own, seen, scores, weights, heads, group, kv, first, S)
    else:
        blocks = (seen[count - 1] + LANES - 1) // LANES
        for start in range(0, blocks, RANGE):
            last = min(blocks, start + RANGE)
            score_blocks(score, places, seen, own, 0, count, keys, start, last, lines, size, scale)
    if q != 0 or scores != 0:
        for i in range(count):
            row = (first + i) // group * heads + kv * group + (first + i) % group
            weigh(own[i], seen[i], S, row, scores, weights)
    mix_planes(mix, places, seen, own, 0, count, values, plane, 0, lines, size)


@njit(cache=True)
def rooms(q, out, heads, group, kv, first, count, past, S, lines):
    """Room for the scores of some queries, the addresses of each and of its output, and how many keys it sees.

    Outputs are cleared. A row of scores has room for 16 more; rows lie no power of two apart.
    """
    own = np.empty((count, (S + LANES - 1) // LANES * LANES + LANES), np.float32)
    places, seen = np.empty((2, count), np.int64), np.empty(count, np.int64)
    for i in range(count):
        t, h = (first + i) // group, kv * group + (first + i) % group
        offset = (t * heads + h) * lines * LINE
        places[0, i], places[1, i], seen[i] = q + offset, out + offset, past + t + 1
    return own, places, seen


@njit(cache=True)
def fill(own, seen, scores, weights, heads, group, kv, first, S):
    """The room filled with scores that are given, or weights where scores is 0.

    Where one of these queries is given more than -inf or 0 for a key ahead, all of them see all keys.
    """
    given, nothing = scores if scores != 0 else weights, np.float32(-np.inf if scores != 0 else 0.0)
    filling, ahead = np.zeros(1, np.float32), False
    for i in range(len(own)):
        row = (first + i) // group * heads + kv * group + (first + i) % group
        continued(given + row * S * 4, S, S, filling.ctypes.data, own[i].ctypes.data)
        for s in range(seen[i], S):
            ahead |= own[i, s] != nothing
    if ahead:
        seen[:] = S


@njit(cache=True)
def score_blocks(score, places, seen, own, low, high, keys, first, last, lines, size, scale):
    """Scores of the queries low .. high - 1 with the blocks first .. last - 1, as far as a tile of queries sees."""
    pitch, block = own.shape[1] * 4, lines * LANES * LANES * size
    for i in range(low, high, SIDE):
        count = min(SIDE, high - i)
        end = min(last, (seen[i + count - 1] + LANES - 1) // LANES)
        if first < end:
            call_scores(
                score, count, places[0, i:].ctypes.data, keys + first * block, end - first, lines, scale,
                own.ctypes.data + i * pitch + first * LINE, pitch,
            )  # fmt: skip


@njit(cache=True)
def weigh(own, seen, S, row, scores, weights):
    """The softmax of a query's scores, in place; both into row `row` of what is wanted, as wide as S."""
    filling = np.array([-np.inf, 0.0], np.float32)
    if scores != 0:
        continued(own.ctypes.data, seen, S, filling.ctypes.data, scores + row * S * 4)
    weigh_row(own.ctypes.data, seen)
    if weights != 0:
        continued(own.ctypes.data, seen, S, filling.ctypes.data + 4, weights + row * S * 4)


@njit(cache=True)
def mix_planes(mix, places, seen, own, low, high, values, plane, line, lines, size):
    """The outputs of the queries low .. high - 1 in the planes from `line` on; each reads the values that it sees."""
    pitch, step = own.shape[1] * 4, LANES * RANGE
    values += line * plane
    for i in range(low, high):
        clear_row(places[1, i] + line * LINE, lines)
    for start in range(0, seen[high - 1], step):
        for i in range(low, high, SIDE):
            count = min(SIDE, high - i)
            shared = min(start + step, seen[i])  # by all of them
            weights, outs = own.ctypes.data + i * pitch, places[1, i:].ctypes.data
            if start < shared:
                call_mix(
                    mix, count, weights + 4 * start, pitch, values + start * LANES * size, plane, shared - start,
                    lines, outs, line * LINE,
                )  # fmt: skip
            for j in range(count):
                begin, end = max(start, shared), min(start + step, seen[i + j])
                if begin < end:
                    call_mix(
                        mix, 1, weights + j * pitch + 4 * begin, pitch, values + begin * LANES * size, plane,
                        end - begin, lines, outs + 8 * j, line * LINE,
                    )  # fmt: skip
