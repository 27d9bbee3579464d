"""Blocks of quantised weights as vectors: codes, scales and minima as they lie in the file (see engine.formats)."""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from engine.kernels.simd import (
    I8,
    I16,
    I32,
    I64,
    Builder,
    Value,
    concat,
    gathered,
    half,
    halves,
    load,
    pick,
    splat,
    vector,
)
from engine.variants import VNNI, chosen

BYTES32, BYTES64 = vector(I8, 32), vector(I8, 64)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a kernel has to know of a quantised format.

    code     ggml's number for it
    nbytes   bytes of a block of `block` weights, of which `sub` share an integer scale
    offset   what is taken from an unsigned code to get the weight's integer; 0 where a minimum is stored
    minimum  whether blocks hold a minimum; its sign: the K formats subtract it
    """

    name: str
    code: int
    block: int
    nbytes: int
    sub: int
    offset: int = 0
    minimum: int = 0

    @property
    def subs(self) -> int:
        return self.block // self.sub

    @property
    def negative(self) -> bool:
        """Whether codes are signed: see simd.dot4."""
        return not (self.offset or self.minimum)


LAYOUTS = (
    Layout("Q4_0", 2, 32, 18, 32, offset=8),
    Layout("Q4_1", 3, 32, 20, 32, minimum=1),
    Layout("Q5_0", 6, 32, 22, 32, offset=16),
    Layout("Q5_1", 7, 32, 24, 32, minimum=1),
    Layout("Q8_0", 8, 32, 34, 32, offset=128 if chosen() == VNNI else 0),  # whose instruction wants unsigned codes
    Layout("Q4_K", 12, 256, 144, 32, minimum=-1),
    Layout("Q5_K", 13, 256, 176, 32, minimum=-1),
    Layout("Q6_K", 14, 256, 210, 16, offset=32),
)


ORDER = {
    "Q4_K": ((0, 2), (1, 3), (4, 6), (5, 7)),  # 64 bytes hold the low nibbles of two groups, and the high ones of two
    "Q5_K": ((0, 2), (1, 3), (4, 6), (5, 7)),
    "Q6_K": ((0, 1), (2, 3), (4, 5), (6, 7)),
}
"""Which two groups of 32 weights each vector of `codes_256` holds."""


def codes(b: Builder, layout: Layout, block: Value) -> list[Value]:
    """The unsigned codes of the block at an address, in the order of the weights: one vector of 32, or four of 64."""
    if layout.block == 32:
        return [_codes_32(b, layout, block)]
    groups: dict[int, Value] = {}
    for pair, both in zip(ORDER[layout.name], codes_256(b, layout, block), strict=True):
        groups |= zip(pair, halves(b, both), strict=True)
    return [concat(b, groups[group], groups[group + 1]) for group in range(0, 8, 2)]


def _codes_32(b: Builder, layout: Layout, block: Value) -> Value:
    if layout.name == "Q8_0":
        return _eights(b, layout, load(b, block, BYTES32, 2))
    packed = load(b, block, vector(I8, 16), layout.nbytes - 16)
    both = concat(b, b.and_(packed, splat(packed.type, 15)), b.lshr(packed, splat(packed.type, 4)))
    return _with_fifths(b, layout, both, [block])


def codes_of_two(b: Builder, layout: Layout, first: Value, second: Value) -> Value:
    """The unsigned codes of two blocks of 32 (64 uint8), one behind the other."""
    if layout.name == "Q8_0":
        return _eights(b, layout, concat(b, *(load(b, block, BYTES32, 2) for block in (first, second))))
    packed = [load(b, block, vector(I8, 16), layout.nbytes - 16) for block in (first, second)]
    twice = pick(b, concat(b, *packed), [16 * (lane // 32) + lane % 16 for lane in range(64)])
    wide = vector(I64, 8)
    nibbles = b.lshr(b.bitcast(twice, wide), ir.Constant(wide, [0, 0, 4, 4, 0, 0, 4, 4]))
    return _with_fifths(b, layout, b.and_(b.bitcast(nibbles, BYTES64), splat(BYTES64, 15)), [first, second])


def _eights(b: Builder, layout: Layout, signed: Value) -> Value:
    return signed if layout.negative else b.xor(signed, splat(signed.type, 128))


def _with_fifths(b: Builder, layout: Layout, nibbles: Value, blocks: list[Value]) -> Value:
    """The codes with their fifth bits, 32 in a row for each block, if the format has them."""
    if layout.name not in ("Q5_0", "Q5_1"):
        return nibbles
    bits = gathered(b, [load(b, block, I32, layout.nbytes - 20) for block in blocks])
    fifth = b.bitcast(bits, vector(ir.IntType(1), nibbles.type.count))
    return b.or_(nibbles, b.select(fifth, splat(nibbles.type, 16), splat(nibbles.type, 0)))


def codes_256(b: Builder, layout: Layout, block: Value) -> list[Value]:
    """The unsigned codes of a K block: four vectors of 64, two groups of 32 weights each, in the order of ORDER."""
    first = 0 if layout.name == "Q6_K" else layout.nbytes - 128
    result = []
    upper = load(b, block, BYTES32, 16) if layout.name == "Q5_K" else None
    for part in range(2):
        packed = load(b, block, BYTES64, first + 64 * part)
        nibbles = b.and_(packed, splat(BYTES64, 15)), b.lshr(packed, splat(BYTES64, 4))
        if layout.name == "Q6_K":
            upper = load(b, block, BYTES32, 128 + 32 * part)
        for high, four in enumerate(nibbles):
            if layout.name == "Q5_K":  # groups 4 part + high and, two bits further, 4 part + 2 + high
                four = b.or_(four, _bits(b, _shifted(b, upper), 4 * part + high, 4, 0x10))
            elif layout.name == "Q6_K":  # groups 2 high and, two bits further, 2 high + 1
                four = b.or_(four, _bits(b, _shifted(b, upper), 4 * high, 4, 0x30))
            result.append(four)
    return result


def _shifted(b: Builder, upper: Value) -> Value:
    """32 bytes, and behind them the same, shifted down by two bits."""
    return concat(b, upper, b.lshr(upper, splat(upper.type, 2)))


def _bits(b: Builder, packed: Value, source: int, target: int, mask: int) -> Value:
    """The bits of each byte from `source` on, moved to `target`, under a mask."""
    if source > target:
        packed = b.lshr(packed, splat(packed.type, source - target))
    elif source < target:
        packed = b.shl(packed, splat(packed.type, target - source))
    return b.and_(packed, splat(packed.type, mask))


def sub_scales(b: Builder, layout: Layout, block: Value) -> tuple[Value, Value | None]:
    """The integer scales of a K block (8 or 16 int32) and its minima (8 int32), None for Q6_K."""
    if layout.name == "Q6_K":
        return b.sext(load(b, block, vector(I8, 16), 192), vector(I32, 16)), None
    head = load(b, block, vector(I8, 16))  # scales and minima of 6 bits from byte 4 on: formats._scales_and_minima
    low = [4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 28, 29, 30, 31]  # the last four from the upper nibbles
    top = [0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0, 8, 9, 10, 11]
    six = b.and_(pick(b, head, low, b.lshr(head, splat(head.type, 4))), _repeated(head.type, (63, 15, 63, 15)))
    upper = b.and_(pick(b, b.lshr(head, splat(head.type, 2)), top), _repeated(head.type, (0, 48, 0, 48)))
    scales, minima = halves(b, b.or_(six, upper))
    return b.zext(scales, vector(I32, 8)), b.zext(minima, vector(I32, 8))


def _repeated(kind: Any, values: tuple[int, ...]) -> Value:
    """The constant vector in which each value stands as often as fits."""
    return ir.Constant(kind, [value for value in values for _ in range(kind.count // len(values))])


def header(b: Builder, layout: Layout, block: Value) -> Value:
    """The block's float16 scale in the lower half of an int32, and its minimum, if it has one, in the upper."""
    if layout.name == "Q6_K":
        return b.zext(load(b, block, I16, 208), I32)
    return load(b, block, I32)


def scales_of(b: Builder, layout: Layout, headers: Value) -> tuple[Value, Value | None]:
    """The float32 scales and minima of many blocks from their headers (n int32); the minima to be added."""
    n = headers.type.count
    scale = half(b, b.trunc(headers, vector(I16, n)))
    if not layout.minimum:
        return scale, None
    least = half(b, b.trunc(b.lshr(headers, splat(headers.type, 16)), vector(I16, n)))
    return scale, least if layout.minimum > 0 else b.fneg(least)
