"""Products of weights with many rows of activations, in tiles of 16 rows of weights.

A block of 16 rows is unpacked once, turned so that a vector's lanes are the rows, and met with every token. Each lane
makes the same sums in the same order as `dots` does.
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
    concat,
    counting,
    dot2,
    dot4,
    exchanged,
    floats,
    fma,
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

ROWS = 16
TOKENS = 4
"""Tokens that are met at a time: as many sums as the registers hold. Activations are padded to a multiple of it."""

INTS, FLOATS = vector(I32, ROWS), vector(F32, ROWS)
LINE = 64
"""Bytes of a vector of 16."""


class Scratch:
    """Where the parts of an unpacked block lie in a kernel's scratch memory, in bytes."""

    def __init__(self, layout: Layout) -> None:
        self.packed = 0  # codes row by row, then turned: (block / 4, rows, 4)
        self.turned = self.packed + ROWS * layout.block
        self.rows = self.turned + ROWS * layout.block  # integer scales and minima row by row (rows, 16) int32
        self.scales = self.rows + ROWS * LINE  # turned (subs, rows) int32
        self.minima = self.scales + layout.subs * LINE  # by pairs (subs / 2, rows, 2) int16
        self.headers = self.minima + layout.subs * LINE  # (rows,) int32
        self.size = self.headers + LINE


SCRATCH = max(Scratch(layout).size for layout in LAYOUTS)


def quantised(layout: Layout) -> Any:
    """The kernel of a format.

    weights  address of the first row; rows lie `stride` bytes apart, `last` + 1 of them count (at most 16)
    blocks   in a row
    tokens   a multiple of TOKENS
    q        address of the activations: (blocks, tokens, block) int8, their scales (blocks, tokens) float32, their
             sums over sub-blocks: (blocks, tokens) int32, of 256 (blocks, tokens, subs) int16
    out      address of (tokens, 16) float32, written
    scratch  address of SCRATCH bytes
    """
    fields = Scratch(layout)

    def tile16(
        b: Builder, weights: Value, stride: Value, last: Value, blocks: Value, tokens: Value, q: Value, scale: Value,
        sums: Value, out: Value, scratch: Value,
    ) -> None:  # fmt: skip
        with counting(b, tokens) as token:
            store(b, splat(FLOATS, 0.0), out, times(b, token, LINE))
        with counting(b, blocks) as index:
            with counting(b, number(ROWS)) as row:
                line = at(b, weights, b.mul(smaller(b, last, row), stride))
                block = at(b, line, times(b, index, layout.nbytes))
                _unpack(b, layout, fields, block, row, scratch)
            _turn(b, layout, fields, scratch)
            headers = load(b, scratch, INTS, fields.headers)
            scales, minima = (variable(b, part) if part else None for part in scales_of(b, layout, headers))
            with counting(b, b.sdiv(tokens, number(TOKENS))) as group:
                first = b.add(b.mul(index, tokens), times(b, group, TOKENS))
                x = Tokens(b, layout, first, q, scale, sums)
                exact = (_exact_k if layout.block == 256 else _exact_32)(b, layout, fields, scratch, x)
                for token in range(TOKENS):
                    place = times(b, b.add(times(b, group, TOKENS), number(token)), LINE)
                    step = broadcast(b, load(b, x.scale, F32, 4 * token), ROWS)
                    joined = fma(b, b.fmul(b.load(scales), step), floats(b, exact[token]), load(b, out, FLOATS, place))
                    if minima is not None:
                        least = floats(b, _least(b, layout, fields, scratch, x, token))
                        joined = fma(b, b.fmul(b.load(minima), step), least, joined)
                    store(b, joined, out, place)

    tile16.__name__ = f"tile16_{layout.name.lower()}"
    return kernel(tile16)


class Tokens:
    """Where the activations of a group of tokens lie."""

    def __init__(self, b: Builder, layout: Layout, first: Value, q: Value, scale: Value, sums: Value) -> None:
        self.width = 4 if layout.block == 32 else 2 * layout.subs
        self.size = layout.block
        self.q = at(b, q, times(b, first, layout.block))
        self.scale = at(b, scale, times(b, first, 4))
        self.sums = at(b, sums, times(b, first, self.width))

    def four(self, b: Builder, token: int, offset: Value) -> Value:
        """Four entries from byte `offset` of a token's block, in each lane."""
        entries = load(b, self.q, I32, at(b, offset, token * self.size))
        return b.bitcast(broadcast(b, entries, ROWS), vector(I8, 4 * ROWS))

    def sum(self, b: Builder, token: int, offset: Value | int = 0, kind: Any = I32) -> Value:
        """The integer at byte `offset` of a token's sums, in each lane, as int32."""
        total = load(b, self.sums, kind, at(b, number(token * self.width), offset))
        return broadcast(b, total if kind == I32 else b.sext(total, I32), ROWS)


def _unpack(b: Builder, layout: Layout, fields: Scratch, block: Value, row: Value, scratch: Value) -> None:
    """A row's codes, integer scales and header into scratch."""
    size = min(layout.block, 64)
    for i, unsigned in enumerate(codes(b, layout, block)):
        store(b, unsigned, scratch, at(b, times(b, row, size), fields.packed + i * ROWS * size))
    store(b, header(b, layout, block), scratch, at(b, times(b, row, 4), fields.headers))
    if layout.block == 256:
        scales, minima = sub_scales(b, layout, block)
        both = scales if minima is None else concat(b, scales, minima)
        store(b, both, scratch, at(b, times(b, row, LINE), fields.rows))


def _turn(b: Builder, layout: Layout, fields: Scratch, scratch: Value) -> None:
    """From lanes that are the weights of a row to lanes that are the rows."""
    if layout.block == 32:  # rows r and r + 8 lie in one vector
        near = [load(b, scratch, vector(I32, 8), fields.packed + 32 * row) for row in range(ROWS)]
        pairs = [concat(b, near[row], near[row + 8]) for row in range(8)]
        for k, turned in enumerate(exchanged(b, pairs, (1, 2, 4))):
            store(b, turned, scratch, fields.turned + LINE * k)
        return
    with counting(b, number(4)) as part:
        offset = times(b, part, ROWS * LINE)
        rows = [load(b, scratch, INTS, at(b, offset, fields.packed + LINE * row)) for row in range(ROWS)]
        for k, turned in enumerate(exchanged(b, rows, (1, 2, 4, 8))):
            store(b, turned, scratch, at(b, offset, fields.turned + LINE * k))
    turned = exchanged(b, [load(b, scratch, INTS, fields.rows + LINE * row) for row in range(ROWS)], (1, 2, 4, 8))
    for sub in range(layout.subs):
        store(b, turned[sub], scratch, fields.scales + LINE * sub)
    if layout.minimum:
        for pair in range(layout.subs // 2):
            even, odd = turned[layout.subs + 2 * pair], turned[layout.subs + 2 * pair + 1]
            store(b, b.or_(even, b.shl(odd, splat(INTS, 16))), scratch, fields.minima + LINE * pair)


def _products(
    b: Builder, layout: Layout, fields: Scratch, scratch: Value, x: Tokens, start: Value, totals: list[Value]
) -> list[Value]:
    """totals plus the products of one sub-block, which starts at byte `start` of a token's block, for each token."""
    for k in range(layout.sub // 4):
        offset = b.add(start, number(4 * k))
        unsigned = load(b, scratch, vector(I8, 4 * ROWS), at(b, times(b, offset, ROWS), fields.turned))
        totals = [
            dot4(b, total, unsigned, x.four(b, token, offset), negative=layout.negative)
            for token, total in enumerate(totals)
        ]
    return totals


def _exact_32(b: Builder, layout: Layout, fields: Scratch, scratch: Value, x: Tokens) -> list[Value]:
    """The integer sums of a block of 32, for each token."""
    totals = [splat(INTS, 0)] * TOKENS
    if layout.offset:
        totals = [b.mul(x.sum(b, token), splat(INTS, -layout.offset)) for token in range(TOKENS)]
    return _products(b, layout, fields, scratch, x, number(0), totals)


def _exact_k(b: Builder, layout: Layout, fields: Scratch, scratch: Value, x: Tokens) -> list[Value]:
    """The integer sums of a block of 256, each sub-block times its scale, for each token."""
    results = [variable(b, splat(INTS, 0)) for _ in range(TOKENS)]
    with counting(b, number(layout.subs)) as sub:
        scales = load(b, scratch, INTS, at(b, times(b, sub, LINE), fields.scales))
        totals = [splat(INTS, 0)] * TOKENS
        if layout.offset:
            totals = [
                b.mul(x.sum(b, token, times(b, sub, 2), I16), splat(INTS, -layout.offset)) for token in range(TOKENS)
            ]
        totals = _products(b, layout, fields, scratch, x, times(b, sub, layout.sub), totals)
        for result, total in zip(results, totals, strict=True):
            b.store(b.add(b.load(result), b.mul(total, scales)), result)
    return [b.load(result) for result in results]


def _least(b: Builder, layout: Layout, fields: Scratch, scratch: Value, x: Tokens, token: int) -> Value:
    """What the minimum of a block is multiplied by: sums of the activations, times the integer minima if there are."""
    if layout.block == 32:
        return x.sum(b, token)
    total = splat(INTS, 0)
    for pair in range(layout.subs // 2):
        minima = load(b, scratch, vector(I16, 2 * ROWS), fields.minima + LINE * pair)
        total = dot2(b, total, minima, b.bitcast(x.sum(b, token, 4 * pair), minima.type))
    return total


TILES: dict[str, Callable[..., None]] = {layout.name: quantised(layout) for layout in LAYOUTS}
