"""The kernels of products and of the cache as functions with an address, each compiled when its format is first met.

One by one and by name, since numba's cache on disk tells the functions of a file apart by their names.
"""

import functools
from collections.abc import Callable
from typing import Any

from numba import cfunc, types

from engine.kernels import prepared
from engine.kernels.attention import KEEPS, MIXES, SCORES
from engine.kernels.dots import DOTS
from engine.kernels.floats import TILES as FLOATS
from engine.kernels.tiles import TILES

DOT_Q4_0 = DOTS["Q4_0"]
DOT_Q4_1 = DOTS["Q4_1"]
DOT_Q5_0 = DOTS["Q5_0"]
DOT_Q5_1 = DOTS["Q5_1"]
DOT_Q8_0 = DOTS["Q8_0"]
DOT_Q4_K = DOTS["Q4_K"]
DOT_Q5_K = DOTS["Q5_K"]
DOT_Q6_K = DOTS["Q6_K"]
TILE_Q4_0 = TILES["Q4_0"]
TILE_Q4_1 = TILES["Q4_1"]
TILE_Q5_0 = TILES["Q5_0"]
TILE_Q5_1 = TILES["Q5_1"]
TILE_Q8_0 = TILES["Q8_0"]
TILE_Q4_K = TILES["Q4_K"]
TILE_Q5_K = TILES["Q5_K"]
TILE_Q6_K = TILES["Q6_K"]
FLOAT_F32 = FLOATS["F32"]
FLOAT_F16 = FLOATS["F16"]
FLOAT_BF16 = FLOATS["BF16"]
SCORES_FLOAT32 = SCORES["float32"]
SCORES_FLOAT16 = SCORES["float16"]
MIX_FLOAT32 = MIXES["float32"]
MIX_FLOAT16 = MIXES["float16"]
KEEP_FLOAT32 = KEEPS["float32"]
KEEP_FLOAT16 = KEEPS["float16"]


def dot_q4_0(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q4_0(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q4_1(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q4_1(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q5_0(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q5_0(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q5_1(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q5_1(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q8_0(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q8_0(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q4_k(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q4_K(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q5_k(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q5_K(weights, stride, rows, blocks, q, scale, sums, out)


def dot_q6_k(weights, stride, rows, blocks, q, scale, sums, out):
    DOT_Q6_K(weights, stride, rows, blocks, q, scale, sums, out)


def tile_q4_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q4_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q4_1(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q4_1(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q5_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q5_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q5_1(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q5_1(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q8_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q8_0(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q4_k(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q4_K(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q5_k(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q5_K(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def tile_q6_k(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch):
    TILE_Q6_K(weights, stride, last, blocks, tokens, q, scale, sums, out, scratch)


def float_f32(weights, stride, last, columns, x, pitch, newest, out):
    FLOAT_F32(weights, stride, last, columns, x, pitch, newest, out)


def float_f16(weights, stride, last, columns, x, pitch, newest, out):
    FLOAT_F16(weights, stride, last, columns, x, pitch, newest, out)


def float_bf16(weights, stride, last, columns, x, pitch, newest, out):
    FLOAT_BF16(weights, stride, last, columns, x, pitch, newest, out)


def scores_float32(count, queries, keys, blocks, lines, scale, scores, pitch):
    SCORES_FLOAT32(count, queries, keys, blocks, lines, scale, scores, pitch)


def scores_float16(count, queries, keys, blocks, lines, scale, scores, pitch):
    SCORES_FLOAT16(count, queries, keys, blocks, lines, scale, scores, pitch)


def mix_float32(count, weights, pitch, values, plane, keys, lines, outs, skip):
    MIX_FLOAT32(count, weights, pitch, values, plane, keys, lines, outs, skip)


def mix_float16(count, weights, pitch, values, plane, keys, lines, outs, skip):
    MIX_FLOAT16(count, weights, pitch, values, plane, keys, lines, outs, skip)


def keep_float32(key, value, lines, column, row, plane):
    KEEP_FLOAT32(key, value, lines, column, row, plane)


def keep_float16(key, value, lines, column, row, plane):
    KEEP_FLOAT16(key, value, lines, column, row, plane)


def kernels_of(name: str) -> tuple[str, ...]:
    """The kernels of a format by name: for single tokens and for many; of floats, one for both."""
    if name in FLOATS:
        return (f"float_{name.lower()}",)
    return (f"dot_{name.lower()}", f"tile_{name.lower()}")


def kernels_of_cache(kind: str) -> tuple[str, str, str]:
    """The kernels of a kind of cache by name: what fills it, what reads keys, what reads values."""
    return f"keep_{kind}", f"scores_{kind}", f"mix_{kind}"


@functools.cache
def address(kernel: str) -> int:
    """Where the compiled function of a kernel lies, as dot_q4_k; numba compiles it, or finds it in its cache."""
    function: Callable[..., None] = globals()[kernel]
    with prepared.cache():
        compiled = cfunc(types.void(*[types.int64] * function.__code__.co_argcount), cache=True)(function)
    _kept.append(compiled)
    return int(compiled.address)


_kept: list[Any] = []
"""What the addresses lead to must not be freed."""
