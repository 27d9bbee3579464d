"""Dot products of weights with one row of activations: eight rows at a time, straight from the file.

Eight rows, since their sums are then folded together and joined as one vector: what a row costs beyond its bytes is
shared. Rows beyond the last are computed as the last one again.
"""

from collections.abc import Callable
from typing import Any

from engine.kernels.blocks import LAYOUTS, Layout, codes, header, scales_of, sub_scales
from engine.kernels.simd import (
    F32,
    I8,
    I16,
    I32,
    Builder,
    Value,
    at,
    broadcast,
    counting,
    dot4,
    floats,
    fma,
    folded,
    gathered,
    halves,
    kernel,
    load,
    number,
    pick,
    prefetch,
    splat,
    store,
    times,
    variable,
    vector,
)

ROWS = 8
AHEAD = 2 * ROWS
"""How many rows ahead the memory is asked for: the hardware sees eight streams that end soon, and foresees none."""

INTS, SUMS = vector(I32, 16), vector(I32, 8)
FLOATS = vector(F32, 8)


def quantised(layout: Layout) -> Any:
    """The kernel of a format.

    weights  address of the first row; rows lie `stride` bytes apart, `last` + 1 of them count (at most 8)
    blocks   in a row
    q        address of the activations: (blocks, block) int8, their scales (blocks,) float32, their sums over
             sub-blocks: (blocks,) int32, of 256 (blocks, subs) int16
    out      address of 8 float32, written
    """

    def dot8(
        b: Builder, weights: Value, stride: Value, last: Value, blocks: Value, q: Value, scale: Value, sums: Value,
        out: Value,
    ) -> None:  # fmt: skip
        rows = [at(b, weights, b.mul(_least(b, last, row), stride)) for row in range(ROWS)]
        ahead = times(b, stride, AHEAD)
        total = variable(b, splat(FLOATS, 0.0))
        with counting(b, blocks) as index:
            here = [at(b, row, times(b, index, layout.nbytes)) for row in rows]
            for block in here:
                for line in range(0, layout.nbytes, 64):
                    prefetch(b, at(b, at(b, block, ahead), line))
            activations = Activations(b, layout, index, q, sums)
            exact, least = (_exact_k if layout.block == 256 else _exact_32)(b, layout, here, activations)
            step = broadcast(b, load(b, scale, F32, times(b, index, 4)), ROWS)
            scales, minima = scales_of(b, layout, gathered(b, [header(b, layout, block) for block in here]))
            joined = fma(b, b.fmul(scales, step), floats(b, exact), b.load(total))
            if minima is not None:
                joined = fma(b, b.fmul(minima, step), floats(b, least), joined)
            b.store(joined, total)
        store(b, b.load(total), out)

    dot8.__name__ = f"dot8_{layout.name.lower()}"
    return kernel(dot8)


class Activations:
    """The activations that meet one block, as vectors: q and the sums over its sub-blocks."""

    def __init__(self, b: Builder, layout: Layout, index: Value, q: Value, sums: Value) -> None:
        size = min(layout.block, 64)
        self.q = [
            load(b, q, vector(I8, size), at(b, times(b, index, layout.block), start))
            for start in range(0, layout.block, size)
        ]
        if layout.block == 32:
            self.sums = load(b, sums, I32, times(b, index, 4))
        else:
            short = load(b, sums, vector(I16, layout.subs), times(b, index, 2 * layout.subs))
            self.sums = b.sext(short, vector(I32, layout.subs))


def _least(b: Builder, last: Value, row: int) -> Value:
    return b.select(b.icmp_signed("<", last, number(row)), last, number(row))


def _exact_32(b: Builder, layout: Layout, blocks: list[Value], x: Activations) -> tuple[Value, Value]:
    """The sums of 8 blocks of 32, and what their minima are multiplied by (8 int32 each)."""
    sums = []
    for block in blocks:
        (unsigned,) = codes(b, layout, block)
        sums.append(dot4(b, splat(SUMS, 0), unsigned, x.q[0], negative=layout.negative))
    exact = folded(b, sums, (1, 2, 4))
    if layout.offset:
        exact = b.sub(exact, broadcast(b, b.mul(x.sums, I32(layout.offset)), ROWS))
    return exact, broadcast(b, x.sums, ROWS)


def _exact_k(b: Builder, layout: Layout, blocks: list[Value], x: Activations) -> tuple[Value, Value | None]:
    """The sums of 8 blocks of 256 with their integer scales, and those of their minima (8 int32 each)."""
    lanes = layout.sub // 4  # of a vector's 16 that belong to one sub-block
    sums, least = [], []
    for block in blocks:
        scales, minima = sub_scales(b, layout, block)
        total = splat(INTS, 0)
        if layout.offset:  # one sub-block per lane
            total = b.mul(b.mul(scales, x.sums), splat(INTS, -layout.offset))
        for i, unsigned in enumerate(codes(b, layout, block)):
            part = dot4(b, splat(INTS, 0), unsigned, x.q[i], negative=layout.negative)
            first = i * 16 // lanes
            total = b.add(total, b.mul(part, pick(b, scales, [first + lane // lanes for lane in range(16)])))
        sums.append(total)
        if minima is not None:
            least.append(b.mul(minima, x.sums))
    exact = b.add(*halves(b, folded(b, sums, (1, 2, 4))))
    return exact, folded(b, least, (1, 2, 4)) if least else None


DOTS: dict[str, Callable[..., None]] = {layout.name: quantised(layout) for layout in LAYOUTS}
