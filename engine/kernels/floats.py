"""Products of weights that are stored as floating-point numbers: F32, F16, BF16.

Sixteen lanes: element i of a row goes to lane i mod 16 by a fused multiply-add, rows are continued with zeros to whole
vectors, and the lanes are summed in a fixed tree, 8, 4, 2, 1 apart.
"""

from collections.abc import Callable
from typing import Any

from engine.kernels.simd import (
    F32,
    I8,
    I16,
    I32,
    Builder,
    Value,
    at,
    counting,
    fma,
    folded,
    half,
    kernel,
    load,
    number,
    smaller,
    splat,
    store,
    times,
    variable,
    vector,
)

LANES = 16
FLOATS = vector(F32, LANES)
SIDE = 4
"""Rows of weights and tokens of a tile: 16 sums, as many as one fold joins."""
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def floating(name: str) -> Any:
    """The kernel of a format.

    weights  address of the first row; rows lie `stride` bytes apart, `last` + 1 of them count (at most 4)
    columns  of a row
    x        address of the first token (columns,) float32; tokens lie `pitch` bytes apart, `newest` + 1 count
    out      address of (4, 4) float32, written: rows first
    """
    size = SIZES[name]

    def tile4(
        b: Builder, weights: Value, stride: Value, last: Value, columns: Value, x: Value, pitch: Value, newest: Value,
        out: Value,
    ) -> None:  # fmt: skip
        rows = [at(b, weights, b.mul(smaller(b, last, number(i)), stride)) for i in range(SIDE)]
        tokens = [at(b, x, b.mul(smaller(b, newest, number(i)), pitch)) for i in range(SIDE)]
        sums = [variable(b, splat(FLOATS, 0.0)) for _ in range(SIDE * SIDE)]

        def meet(left: list[Value], right: list[Value]) -> None:
            for index, place in enumerate(sums):
                b.store(fma(b, left[index // SIDE], right[index % SIDE], b.load(place)), place)

        whole = b.sdiv(columns, number(LANES))
        with counting(b, whole) as step:
            meet(
                [_widened(b, name, row, times(b, step, LANES * size)) for row in rows],
                [load(b, token, FLOATS, times(b, step, LANES * 4)) for token in tokens],
            )
        done = times(b, whole, LANES)
        left = b.sub(columns, done)
        with b.if_then(b.icmp_signed(">", left, number(0))):
            ends = [_end(b, row, times(b, done, size), left, size) for row in rows]
            meet(
                [_widened(b, name, end, number(0)) for end in ends],
                [load(b, _end(b, token, times(b, done, 4), left, 4), FLOATS) for token in tokens],
            )
        # lane bits 3, 2, 1, 0 become those of the vector's number: rows in the upper two, tokens in the lower
        joined = folded(b, [b.load(sums[_reversed(i)]) for i in range(SIDE * SIDE)], (8, 4, 2, 1), "fadd")
        store(b, joined, out)

    tile4.__name__ = f"tile4_{name.lower()}"
    return kernel(tile4)


def _reversed(number_: int) -> int:
    """Four bits from right to left: `folded` puts the lowest bit of a vector's number into the highest of the lane."""
    return int(f"{number_:04b}"[::-1], 2)


def _widened(b: Builder, name: str, address: Value, offset: Value) -> Value:
    """16 weights as float32; exact."""
    if name == "F32":
        return load(b, address, FLOATS, offset)
    bits = load(b, address, vector(I16, LANES), offset)
    if name == "F16":
        return half(b, bits)
    wide = vector(I32, LANES)
    return b.bitcast(b.shl(b.zext(bits, wide), splat(wide, 16)), FLOATS)


def _end(b: Builder, address: Value, offset: Value, count: Value, size: int) -> Value:
    """The address of a copy of the last `count` elements, fewer than 16, with zeros behind them."""
    place = variable(b, splat(vector(I8, LANES * size), 0))
    copy = b.ptrtoint(place, offset.type)
    with counting(b, times(b, count, size)) as i:
        store(b, load(b, address, I8, b.add(offset, i)), copy, i)
    return copy


TILES: dict[str, Callable[..., None]] = {name: floating(name) for name in SIZES}
