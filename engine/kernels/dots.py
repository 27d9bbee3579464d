"""Dot products of weights with one row of activations: eight rows at a time, straight from the file.

Eight rows, since their sums are then folded together and joined as one vector: what a row costs beyond its bytes is
shared. Rows beyond the last are computed as the last one again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.kernels.blocks import LAYOUTS, ORDER, Layout, codes, codes_256, codes_of_two, header, scales_of, sub_scales
from engine.kernels.simd import (
    F32,
    I8,
    I16,
    I32,
    Builder,
    Value,
    at,
    broadcast,
    concat,
    counting,
    dot4,
    floats,
    fma,
    folded,
    gathered,
    halves,
    kernel,
    larger,
    load,
    number,
    pick,
    prefetch,
    scaled,
    smaller,
    splat,
    store,
    times,
    variable,
    vector,
)

ROWS = 8
AHEAD = 8192
"""Bytes, at least, that memory is asked for ahead. The hardware sees eight streams that end soon, and foresees none."""

INTS, EIGHT = vector(I32, 16), vector(I32, ROWS)
FLOATS = vector(F32, ROWS)


def quantised(layout: Layout) -> Any:
    """The kernel of a format.

    weights  address of the first of `rows` rows, which lie `stride` bytes apart
    blocks   in a row
    q        address of the activations: (blocks, block) int8, their scales (blocks,) float32, their sums over
             sub-blocks: (blocks,) int32, of 256 (blocks, subs) int16
    out      address of `rows` float32, written
    """

    def dot(
        b: Builder, weights: Value, stride: Value, rows: Value, blocks: Value, q: Value, scale: Value, sums: Value,
        out: Value,
    ) -> None:  # fmt: skip
        total = variable(b, splat(FLOATS, 0.0))
        ahead = larger(b, times(b, stride, ROWS), number(AHEAD))
        with counting(b, b.sdiv(b.add(rows, number(ROWS - 1)), number(ROWS))) as eight:
            first = times(b, eight, ROWS)
            last = b.sub(b.sub(rows, first), number(1))
            here = [at(b, weights, b.mul(b.add(first, smaller(b, last, number(row))), stride)) for row in range(ROWS)]
            x = _Activations(q, scale, sums)
            b.store(splat(FLOATS, 0.0), total)
            if layout.block == 256:
                with counting(b, blocks) as index:
                    _ask_for(b, at(b, here[0], ahead), index, ROWS * layout.nbytes)
                    _meet_256(b, layout, index, here, x, total)
            else:
                pairs = b.sdiv(blocks, number(2))
                with counting(b, pairs) as pair:
                    index = times(b, pair, 2)
                    _ask_for(b, at(b, here[0], ahead), pair, 2 * ROWS * layout.nbytes)
                    _meet_two(b, layout, index, here, x, total)
                index = times(b, pairs, 2)
                with b.if_then(b.icmp_signed("<", index, blocks), likely=False):
                    _meet_one(b, layout, index, here, x, total)
            _write(b, b.load(total), at(b, out, times(b, first, 4)), last)

    dot.__name__ = f"dot_{layout.name.lower()}"
    return kernel(dot)


@dataclass(frozen=True, slots=True)
class _Activations:
    """Addresses: see `quantised`."""

    q: Value
    scale: Value
    sums: Value


def _ask_for(b: Builder, start: Value, step: Value, size: int) -> None:
    """Ask for the `step`-th `size` bytes from an address, in the order of the memory: a group of rows lies in a row.

    Into the second level of the cache: the first has few places for what is on its way, and holding them halves the
    rate at which memory is read.
    """
    here = at(b, start, times(b, step, size))
    for line in range(0, size, 64):
        prefetch(b, at(b, here, line))


def _meet_256(b: Builder, layout: Layout, index: Value, rows: list[Value], x: _Activations, total: Value) -> None:
    """The blocks of 256 of 8 rows times the activations, with their integer scales; joined to the totals."""
    of_x = b.sext(load(b, x.sums, vector(I16, layout.subs), times(b, index, 2 * layout.subs)), vector(I32, layout.subs))
    groups = [load(b, x.q, vector(I8, 32), at(b, times(b, index, 256), 32 * group)) for group in range(8)]
    order = ORDER[layout.name]
    exact, lower = [], []
    for row in rows:
        block = at(b, row, times(b, index, layout.nbytes))
        scales, minima = sub_scales(b, layout, block)
        whole = splat(INTS, 0)
        if layout.offset:  # one sub-block per lane; offsets are powers of two
            whole = b.neg(b.shl(b.mul(scales, of_x), splat(INTS, layout.offset.bit_length() - 1)))
        for pair, unsigned in zip(order, codes_256(b, layout, block), strict=True):
            four = concat(b, *(groups[group] for group in pair))
            part = dot4(b, splat(INTS, 0), unsigned, four, negative=layout.negative)
            weights = [32 * pair[lane // 8] + 4 * (lane % 8) for lane in range(16)]
            whole = scaled(b, whole, part, pick(b, scales, [weight // layout.sub for weight in weights]))
        exact.append(whole)
        if minima is not None:
            lower.append(b.mul(minima, of_x))
    sums = b.add(*halves(b, folded(b, exact, (1, 2, 4))))
    _join(b, layout, index, rows, x.scale, sums, folded(b, lower, (1, 2, 4)) if lower else None, total)


def _meet_two(b: Builder, layout: Layout, index: Value, rows: list[Value], x: _Activations, total: Value) -> None:
    """Two blocks of 32 of 8 rows times the activations; joined to the totals one after the other."""
    both = [index, b.add(index, number(1))]
    four = load(b, x.q, vector(I8, 64), times(b, index, 32))
    products = []
    for row in rows:
        unsigned = codes_of_two(b, layout, *(at(b, row, times(b, i, layout.nbytes)) for i in both))
        products.append(dot4(b, splat(INTS, 0), unsigned, four, negative=layout.negative))
    for i, part in zip(both, halves(b, folded(b, products, (1, 2, 4))), strict=True):
        _join_32(b, layout, i, rows, x, part, total)


def _meet_one(b: Builder, layout: Layout, index: Value, rows: list[Value], x: _Activations, total: Value) -> None:
    """The last block of 32 of rows that have an odd number of them."""
    four = load(b, x.q, vector(I8, 32), times(b, index, 32))
    products = []
    for row in rows:
        (unsigned,) = codes(b, layout, at(b, row, times(b, index, layout.nbytes)))
        products.append(dot4(b, splat(EIGHT, 0), unsigned, four, negative=layout.negative))
    _join_32(b, layout, index, rows, x, folded(b, products, (1, 2, 4)), total)


def _join_32(
    b: Builder, layout: Layout, index: Value, rows: list[Value], x: _Activations, exact: Value, total: Value
) -> None:
    of_x = broadcast(b, load(b, x.sums, I32, times(b, index, 4)), ROWS)
    if layout.offset:
        exact = b.sub(exact, b.mul(of_x, splat(EIGHT, layout.offset)))
    _join(b, layout, index, rows, x.scale, exact, of_x, total)


def _join(
    b: Builder, layout: Layout, index: Value, rows: list[Value], scale: Value, exact: Value, lower: Value | None,
    total: Value,
) -> None:  # fmt: skip
    """total += scale * exact, with one rounding; and, of a format that has minima, minimum * lower."""
    step = broadcast(b, load(b, scale, F32, times(b, index, 4)), ROWS)
    blocks = [at(b, row, times(b, index, layout.nbytes)) for row in rows]
    scales, minima = scales_of(b, layout, gathered(b, [header(b, layout, block) for block in blocks]))
    joined = fma(b, b.fmul(scales, step), floats(b, exact), b.load(total))
    if minima is not None and lower is not None:
        joined = fma(b, b.fmul(minima, step), floats(b, lower), joined)
    b.store(joined, total)


def _write(b: Builder, values: Value, out: Value, last: Value) -> None:
    """The first last + 1 of 8 float32; nothing behind them is touched: it belongs to another task."""
    with b.if_else(b.icmp_signed(">=", last, number(ROWS - 1))) as (whole, part):
        with whole:
            store(b, values, out)
        with part:
            for row in range(ROWS - 1):
                with b.if_then(b.icmp_signed("<=", number(row), last)):
                    store(b, b.extract_element(values, I32(row)), out, 4 * row)


DOTS: dict[str, Callable[..., None]] = {layout.name: quantised(layout) for layout in LAYOUTS}
