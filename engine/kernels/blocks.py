"""Blocks of quantised weights as vectors: codes, scales and minima as they lie in the file (see engine.formats)."""

from dataclasses import dataclass

from llvmlite import ir

from engine.kernels.simd import (
    I8,
    I16,
    I32,
    Builder,
    Value,
    concat,
    gathered,
    half,
    load,
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


def codes(b: Builder, layout: Layout, block: Value) -> list[Value]:
    """The unsigned codes of the block at an address, in the order of the weights: one vector of 32, or four of 64."""
    return {"Q6_K": _codes_6, "Q5_K": _codes_45, "Q4_K": _codes_45}.get(layout.name, _codes_32)(b, layout, block)


def _codes_32(b: Builder, layout: Layout, block: Value) -> list[Value]:
    if layout.name == "Q8_0":
        signed = load(b, block, BYTES32, 2)
        return [signed if layout.negative else b.xor(signed, splat(BYTES32, 128))]
    low, high = _nibbles(b, load(b, block, vector(I8, 16), layout.nbytes - 16))
    both = concat(b, low, high)
    if layout.name in ("Q5_0", "Q5_1"):
        fifth = b.bitcast(load(b, block, I32, layout.nbytes - 20), vector(ir.IntType(1), 32))
        both = b.or_(both, b.select(fifth, splat(BYTES32, 16), splat(BYTES32, 0)))
    return [both]


def _codes_45(b: Builder, layout: Layout, block: Value) -> list[Value]:
    result = []
    fifths = load(b, block, BYTES32, 16) if layout.name == "Q5_K" else None
    for pair in range(4):
        low, high = _nibbles(b, load(b, block, BYTES32, layout.nbytes - 128 + 32 * pair))
        if fifths is not None:
            low = b.or_(low, _bits(b, fifths, 2 * pair, 4, 0x10))
            high = b.or_(high, _bits(b, fifths, 2 * pair + 1, 4, 0x10))
        result.append(concat(b, low, high))
    return result


def _codes_6(b: Builder, layout: Layout, block: Value) -> list[Value]:
    result = []
    for part in range(2):
        low = [_nibbles(b, load(b, block, BYTES32, 64 * part + 32 * i)) for i in range(2)]
        upper = load(b, block, BYTES32, 128 + 32 * part)
        for i in range(2):  # the low nibbles of 64 weights, then the high ones
            quarters = [b.or_(low[j][i], _bits(b, upper, 4 * i + 2 * j, 4, 0x30)) for j in range(2)]
            result.append(concat(b, *quarters))
    return result


def _nibbles(b: Builder, packed: Value) -> tuple[Value, Value]:
    return b.and_(packed, splat(packed.type, 15)), b.lshr(packed, splat(packed.type, 4))


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
    first, second, third = (load(b, block, I32, 4 + 4 * i) for i in range(3))  # the scheme: formats._scales_and_minima

    def upper(low: Value, six: Value) -> Value:
        return b.or_(b.and_(low, I32(0x0F0F0F0F)), b.and_(b.lshr(six, I32(2)), I32(0x30303030)))

    def eight(lower: Value, higher: Value) -> Value:
        pair = gathered(b, [b.and_(lower, I32(0x3F3F3F3F)), higher])
        return b.zext(b.bitcast(pair, vector(I8, 8)), vector(I32, 8))

    return eight(first, upper(third, first)), eight(second, upper(b.lshr(third, I32(4)), second))


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
