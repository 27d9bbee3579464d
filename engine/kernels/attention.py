"""Attention: scores, their softmax and the mixing of values, for a few queries that read the same keys.

Keys lie in blocks of 16, so that a vector holds one entry of 16 keys: the 16 sums of a score are 16 vectors, and their
tree needs no shuffle. Values lie in planes of 16 entries, one key after the other. Each key and value that is read
meets up to SIDE queries; which queries come together changes no sum.
"""

from collections.abc import Callable
from typing import Any

from engine.kernels.rows import FLOATS, LANES, LINE, exponential, tree
from engine.kernels.simd import (
    F32,
    I16,
    I32,
    I64,
    Builder,
    Value,
    at,
    broadcast,
    counting,
    fma,
    half,
    halved,
    halves,
    kernel,
    load,
    number,
    prefetch,
    splat,
    store,
    times,
    variable,
    vector,
)
from engine.variants import VNNI, chosen

SIDE = 4 if chosen() == VNNI else 2
"""Queries that meet a key or value at a time, and planes of values that meet them: as many as registers hold sums."""
BLOCKS_AHEAD, KEYS_AHEAD = 2, 32
"""How far ahead keys and values are asked for: a processor does not guess the order in which they are read."""
SIZES = {"float32": 4, "float16": 2}
"""Bytes of an entry in each kind of cache."""


def scoring(kind: str) -> Any:
    """The kernel that multiplies up to SIDE queries with some blocks of 16 keys.

    count    of queries
    queries  address of as many addresses (int64) of (16 * lines,) float32
    keys     address of (blocks, 16 * lines, 16) float32 or float16
    scale    address of one float32
    scores   address of the first query's, float32, written; those of the next lie `pitch` bytes on
    """

    def scores_of(
        b: Builder, count: Value, queries: Value, keys: Value, blocks: Value, lines: Value, scale: Value,
        scores: Value, pitch: Value,
    ) -> None:  # fmt: skip
        factor = broadcast(b, load(b, scale, F32), LANES)

        def block_of(number_: int) -> None:
            rows = [load(b, queries, I64, 8 * i) for i in range(number_)]
            with counting(b, blocks) as block:
                size = times(b, lines, LANES * LANES * SIZES[kind])
                start, ahead = at(b, keys, b.mul(block, size)), times(b, size, BLOCKS_AHEAD)
                for i, total in enumerate(_lanes(b, kind, rows, start, ahead, lines, 0, 1)):
                    place = at(b, times(b, block, LINE), times(b, pitch, i))
                    store(b, b.fmul(total, factor), scores, place)

        _by_count(b, count, block_of)

    scores_of.__name__ = f"scores_{kind}"
    return kernel(scores_of)


def _lanes(
    b: Builder, kind: str, rows: list[Value], keys: Value, ahead: Value, lines: Value, first: int, step: int
) -> list[Value]:
    """The lanes first, first + step, .. of the products of each query with 16 keys, summed in the fixed tree."""
    if step < LANES // 2:
        both = [_lanes(b, kind, rows, keys, ahead, lines, lane, 2 * step) for lane in (first, first + step)]
        return [b.fadd(lower, upper) for lower, upper in zip(*both, strict=True)]
    lanes = (first, first + step)
    sums = [[variable(b, splat(FLOATS, 0.0)) for _ in rows] for _ in lanes]
    with counting(b, lines) as line:
        for lane, places in zip(lanes, sums, strict=True):
            place = at(b, times(b, line, LANES * LANES), lane * LANES)
            prefetch(b, at(b, keys, at(b, times(b, place, SIZES[kind]), ahead)))
            entries = _cached(b, kind, keys, place)
            for row, place in zip(rows, places, strict=True):
                own = broadcast(b, load(b, row, F32, at(b, times(b, line, LINE), 4 * lane)), LANES)
                b.store(fma(b, own, entries, b.load(place)), place)
    return [b.fadd(b.load(lower), b.load(upper)) for lower, upper in zip(*sums, strict=True)]


@kernel
def weigh_row(b: Builder, row: Value, seen: Value) -> None:
    """The softmax of `seen` float32 in place, with room for 16 more, whose content is lost.

    e^(score - largest), over their sum in 16 lanes and the fixed tree.
    """
    lowest = splat(FLOATS, float("-inf"))
    store(b, lowest, row, times(b, seen, 4))
    sixteens = b.sdiv(b.add(seen, number(15)), number(16))
    highest = variable(b, lowest)
    with counting(b, sixteens) as sixteen:
        b.store(_larger(b, load(b, row, FLOATS, times(b, sixteen, LINE)), b.load(highest)), highest)
    lanes = b.load(highest)
    while lanes.type.count > 1:
        lanes = _larger(b, *halves(b, lanes))
    largest = broadcast(b, b.extract_element(lanes, I32(0)), LANES)
    sums = variable(b, splat(FLOATS, 0.0))
    with counting(b, sixteens) as sixteen:
        place = times(b, sixteen, LINE)
        raised = exponential(b, b.fsub(load(b, row, FLOATS, place), largest))
        store(b, raised, row, place)
        b.store(b.fadd(b.load(sums), raised), sums)
    total = broadcast(b, tree(b, b.load(sums)), LANES)
    with counting(b, sixteens) as sixteen:
        place = times(b, sixteen, LINE)
        store(b, b.fdiv(load(b, row, FLOATS, place), total), row, place)


def _larger(b: Builder, x: Value, y: Value) -> Value:
    """The larger of two, lane by lane; y where x is no number."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def mixing(kind: str) -> Any:
    """The kernel that adds weighted values to up to SIDE outputs, one fused multiply-add each, key by key.

    count    of queries
    weights  address of the first query's (keys,) float32; those of the next lie `pitch` bytes on
    values   address of the first of `lines` planes, which lie `plane` bytes apart: (keys, 16) float32 or float16
    keys     how many
    outs     address of an address (int64) for each query: of as many vectors as planes, `skip` bytes on, added to
    """

    def mix_of(
        b: Builder, count: Value, weights: Value, pitch: Value, values: Value, plane: Value, keys: Value, lines: Value,
        outs: Value, skip: Value,
    ) -> None:  # fmt: skip
        def planes_of(rows: list[Value], first: Value, wide: int) -> None:
            """Some planes for all queries."""
            places = [at(b, row, at(b, skip, times(b, first, LINE))) for row in rows]
            starts = [at(b, values, b.mul(at(b, first, i), plane)) for i in range(wide)]
            sums = [[variable(b, load(b, place, FLOATS, LINE * i)) for i in range(wide)] for place in places]
            with counting(b, keys) as key:
                place = times(b, key, LANES)
                for start in starts:
                    prefetch(b, at(b, start, times(b, at(b, place, KEYS_AHEAD * LANES), SIZES[kind])))
                entries = [_cached(b, kind, start, place) for start in starts]
                for i, own in enumerate(sums):
                    weight = broadcast(b, load(b, weights, F32, at(b, times(b, pitch, i), times(b, key, 4))), LANES)
                    for entry, place in zip(entries, own, strict=True):
                        b.store(fma(b, weight, entry, b.load(place)), place)
            for own, place in zip(sums, places, strict=True):
                for i, total in enumerate(own):
                    store(b, b.load(total), place, LINE * i)

        def queries_of(number_: int) -> None:
            rows = [load(b, outs, I64, 8 * i) for i in range(number_)]
            groups = b.sdiv(lines, number(SIDE))
            with counting(b, groups) as group:
                planes_of(rows, times(b, group, SIDE), SIDE)
            done = times(b, groups, SIDE)
            with counting(b, b.sub(lines, done)) as line:
                planes_of(rows, b.add(done, line), 1)

        _by_count(b, count, queries_of)

    mix_of.__name__ = f"mix_{kind}"
    return kernel(mix_of)


def _by_count(b: Builder, count: Value, build: Callable[[int], None]) -> None:
    """The code for 1 .. SIDE queries, of which one runs."""
    for number_ in range(1, SIDE + 1):
        with b.if_then(b.icmp_signed("==", count, number(number_))):
            build(number_)


def _cached(b: Builder, kind: str, address: Value, index: Value) -> Value:
    """16 entries of a cache as float32, the first at an index; exact."""
    offset = times(b, index, SIZES[kind])
    if kind == "float32":
        return load(b, address, FLOATS, offset)
    return half(b, load(b, address, vector(I16, LANES), offset))


def keeping(kind: str) -> Any:
    """The kernel that puts a key and a value into the cache, rounded to its kind: to nearest, ties to even.

    key, value  addresses of (16 * lines,) float32
    column      address of the first of the key's entries, which lie 16 apart
    row         address of the value's first 16 entries; the next lie `plane` bytes on
    """

    def keep_row(b: Builder, key: Value, value: Value, lines: Value, column: Value, row: Value, plane: Value) -> None:
        with counting(b, lines) as line:
            place = times(b, line, LINE)
            entries = _rounded(b, kind, load(b, key, FLOATS, place))
            start = at(b, column, times(b, line, LANES * LANES * SIZES[kind]))
            for i in range(LANES):
                store(b, b.extract_element(entries, I32(i)), start, i * LANES * SIZES[kind])
            store(b, _rounded(b, kind, load(b, value, FLOATS, place)), row, b.mul(line, plane))

    keep_row.__name__ = f"keep_{kind}"
    return kernel(keep_row)


def _rounded(b: Builder, kind: str, entries: Value) -> Value:
    return entries if kind == "float32" else halved(b, entries)


@kernel
def clear_row(b: Builder, out: Value, lines: Value) -> None:
    """Zeros."""
    with counting(b, lines) as line:
        store(b, splat(FLOATS, 0.0), out, times(b, line, LINE))


@kernel
def continued(b: Builder, source: Value, seen: Value, count: Value, filling: Value, out: Value) -> None:
    """out (count,) float32 = the first `seen` of source, then the float32 at the address `filling`."""
    rest = load(b, filling, F32)
    with counting(b, count) as i:
        place = times(b, i, 4)
        inside = b.icmp_signed("<", i, seen)
        value = load(b, source, F32, b.select(inside, place, number(0)))
        store(b, b.select(inside, value, rest), out, place)


SCORES: dict[str, Callable[..., None]] = {kind: scoring(kind) for kind in SIZES}
MIXES: dict[str, Callable[..., None]] = {kind: mixing(kind) for kind in SIZES}
KEEPS: dict[str, Callable[..., None]] = {kind: keeping(kind) for kind in SIZES}
