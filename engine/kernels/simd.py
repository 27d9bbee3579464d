"""Vectors in LLVM IR: what numba has no types for, written once for every CPU.

The variants differ in three functions, `dot4`, `half` and what those call; all of them give the same bits. Sixteen
lanes of int32 or float32 are the common width: LLVM cuts them into what the CPU has.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.variants import AVX2, GENERIC, VNNI, chosen

Builder: TypeAlias = Any
Value: TypeAlias = Any

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


def kernel(build: Callable[..., None]) -> Any:
    """An intrinsic of numba over int64 numbers, addresses and counts; build(builder, *numbers) writes its code."""
    count = len(inspect.signature(build).parameters) - 1

    def codegen(context: Any, builder: Builder, signature: Any, numbers: Sequence[Value]) -> Value:
        build(builder, *numbers)
        return context.get_dummy_value()

    def typed(typingctx: Any, *numbers: Any) -> Any:
        return types.void(*[types.int64] * count), codegen

    typed.__name__, typed.__doc__ = build.__name__, build.__doc__
    typed.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]  # numba binds arguments by it
    return intrinsic(typed)


def calling(count: int) -> Any:
    """An intrinsic that calls the function at an address, its first argument, with `count` int64 numbers.

    A call by name would make LLVM optimise the callee again, in every function on the way to it.
    """
    names = ["context", "address", *(f"a{i}" for i in range(count))]

    def codegen(context: Any, b: Builder, signature: Any, numbers: Sequence[Value]) -> Value:
        kind = ir.FunctionType(ir.VoidType(), [I64] * count)
        b.call(b.inttoptr(numbers[0], kind.as_pointer()), numbers[1:])
        return context.get_dummy_value()

    def typed(typingctx: Any, *numbers: Any) -> Any:
        return types.void(*[types.int64] * (count + 1)), codegen

    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return intrinsic(typed)


# ---------------------------------------------------------------- numbers, loops, memory


def number(value: int) -> Value:
    return ir.Constant(I64, value)


def vector(kind: Any, count: int) -> Any:
    return ir.VectorType(kind, count)


def splat(kind: Any, value: float) -> Value:
    """The constant of vector type `kind` whose elements are all `value`."""
    return ir.Constant(kind, [value] * kind.count)


@contextmanager
def counting(b: Builder, count: Value) -> Iterator[Value]:
    """A loop over 0 .. count - 1."""
    with cgutils.for_range(b, count) as loop:
        yield loop.index


def variable(b: Builder, value: Value) -> Value:
    """A place on the stack that holds `value` from here on; LLVM makes a register of it."""
    place = cgutils.alloca_once(b, value.type)
    b.store(value, place)
    return place


def smaller(b: Builder, x: Value, y: Value) -> Value:
    """The smaller of two numbers."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def larger(b: Builder, x: Value, y: Value) -> Value:
    """The larger of two numbers."""
    return b.select(b.icmp_signed(">", x, y), x, y)


def at(b: Builder, address: Value, offset: Value | int) -> Value:
    return b.add(address, number(offset) if isinstance(offset, int) else offset)


def times(b: Builder, count: Value, size: int) -> Value:
    return b.mul(count, number(size))


def load(b: Builder, address: Value, kind: Any, offset: Value | int = 0) -> Value:
    """A value of type `kind` at a byte address, which need not be aligned."""
    return b.load(b.inttoptr(at(b, address, offset), kind.as_pointer()), align=1)


def store(b: Builder, value: Value, address: Value, offset: Value | int = 0) -> None:
    b.store(value, b.inttoptr(at(b, address, offset), value.type.as_pointer()), align=1)


def prefetch(b: Builder, address: Value) -> None:
    """Ask for the line at an address, into the second level of the cache; one that is not mapped is no error."""
    pointer = b.inttoptr(address, I8.as_pointer())
    intrinsic_of(b, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(2), I32(1)])


# ---------------------------------------------------------------- shapes of vectors


def pick(b: Builder, a: Value, indices: Iterable[int], other: Value | None = None) -> Value:
    """The elements of `a`, and of `other` behind it, at constant indices."""
    other = ir.Constant(a.type, ir.Undefined) if other is None else other
    wanted = list(indices)
    return b.shuffle_vector(a, other, ir.Constant(vector(I32, len(wanted)), wanted))


def concat(b: Builder, first: Value, second: Value) -> Value:
    return pick(b, first, range(2 * first.type.count), second)


def halves(b: Builder, a: Value) -> tuple[Value, Value]:
    count = a.type.count
    return pick(b, a, range(count // 2)), pick(b, a, range(count // 2, count))


def broadcast(b: Builder, value: Value, count: int) -> Value:
    first = b.insert_element(ir.Constant(vector(value.type, count), ir.Undefined), value, I32(0))
    return pick(b, first, [0] * count)


def gathered(b: Builder, values: Sequence[Value]) -> Value:
    """The vector of these scalars."""
    result = ir.Constant(vector(values[0].type, len(values)), ir.Undefined)
    for index, value in enumerate(values):
        result = b.insert_element(result, value, I32(index))
    return result


def folded(b: Builder, vectors: Sequence[Value], distances: Sequence[int], add: str = "add") -> Value:
    """2^k vectors summed over the lanes that the k distances tell apart: lane bits then say which vector it was.

    Bit i of a vector's number is the bit `distances[i]` of the lane that holds its sum.
    """
    for distance in distances:
        vectors = [_pairwise(b, vectors[i], vectors[i + 1], distance, add) for i in range(0, len(vectors), 2)]
    (result,) = vectors
    return result


def _pairwise(b: Builder, x: Value, y: Value, distance: int, add: str) -> Value:
    """Lanes that lie `distance` apart, added: those of x where that bit of the lane is clear, of y where it is set."""
    near, far = _interleaving(x.type.count, distance)
    return getattr(b, add)(pick(b, x, near, y), pick(b, x, far, y))


def _interleaving(count: int, distance: int) -> tuple[list[int], list[int]]:
    lanes = range(count)
    return (
        [lane if not lane & distance else count + (lane ^ distance) for lane in lanes],
        [lane | distance if not lane & distance else count + lane for lane in lanes],
    )


def exchanged(b: Builder, vectors: Sequence[Value], distances: Sequence[int]) -> list[Value]:
    """Bit i of a vector's number and the bit `distances[i]` of a lane change places: a transposition."""
    result = list(vectors)
    for bit, distance in enumerate(distances):
        near, far = _interleaving(result[0].type.count, distance)
        for i in (i for i in range(len(result)) if not i & 1 << bit):
            x, y = result[i], result[i | 1 << bit]
            result[i], result[i | 1 << bit] = pick(b, x, near, y), pick(b, x, far, y)
    return result


# ---------------------------------------------------------------- arithmetic


def fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    """x * y + z with one rounding, lane by lane."""
    return intrinsic_of(b, f"llvm.fma.v{x.type.count}f32", x.type, [x, y, z])


def floats(b: Builder, integers: Value) -> Value:
    return b.sitofp(integers, vector(F32, integers.type.count))


def dot4(b: Builder, total: Value, codes: Value, signed: Value, *, negative: bool) -> Value:
    """total (n int32) plus, for each lane, four products of codes and signed (4 n int8); exact.

    |signed| <= 127. Codes are unsigned, up to 64 with AVX2; negative: they are signed.
    """
    n, variant = total.type.count, chosen()
    if variant == VNNI:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * n}"
        return intrinsic_of(b, name, total.type, [total, b.bitcast(codes, total.type), b.bitcast(signed, total.type)])
    if variant == AVX2:
        parts = [(codes, signed)] if n == 8 else zip(halves(b, codes), halves(b, signed), strict=True)
        sums = []
        for u, s in parts:
            if negative:  # the instruction wants one factor unsigned: the sign goes to the other
                u, s = _absolute(b, u), intrinsic_of(b, "llvm.x86.avx2.psign.b", s.type, [s, u])
            two = intrinsic_of(b, "llvm.x86.avx2.pmadd.ub.sw", vector(I16, 16), [u, s])
            sums.append(intrinsic_of(b, "llvm.x86.avx2.pmadd.wd", vector(I32, 8), [two, splat(two.type, 1)]))
        return b.add(total, sums[0] if n == 8 else concat(b, *sums))
    wide = vector(I16, 4 * n)
    u, s = b.sext(codes, wide) if negative else b.zext(codes, wide), b.sext(signed, wide)
    two = dot2(b, splat(vector(I32, 2 * n), 0), u, s)
    return b.add(total, _neighbours(b, two))


def _absolute(b: Builder, signed: Value) -> Value:
    return b.select(b.icmp_signed("<", signed, splat(signed.type, 0)), b.neg(signed), signed)


def dot2(b: Builder, total: Value, x: Value, y: Value) -> Value:
    """total (n int32) plus, for each lane, two products of x and y (2 n int16); exact."""
    wide = vector(I32, x.type.count)
    return b.add(total, _neighbours(b, b.mul(b.sext(x, wide), b.sext(y, wide))))  # one instruction on x86


def scaled(b: Builder, total: Value, part: Value, factor: Value) -> Value:
    """total + part * factor (n int32, n = 16); exact. Both factors fit in int16."""
    if chosen() != VNNI:
        return b.add(total, b.mul(part, factor))
    low = b.and_(factor, splat(factor.type, 0xFFFF))  # of each lane two products of int16: the upper one is of zero
    return intrinsic_of(b, "llvm.x86.avx512.vpdpwssd.512", total.type, [total, part, low])


def half(b: Builder, bits: Value) -> Value:
    """float32 of float16 bits (n int16); exact, infinity included; a NaN stays one.

    By integer operations where the CPU may lack F16C: LLVM would call a function that the process does not have.
    """
    n = bits.type.count
    single = vector(F32, n)
    if chosen() != GENERIC:
        return b.fpext(b.bitcast(bits, vector(ir.HalfType(), n)), single)
    wide = b.zext(bits, vector(I32, n))
    sign = b.shl(b.and_(wide, splat(wide.type, 0x8000)), splat(wide.type, 16))
    rest = b.shl(b.and_(wide, splat(wide.type, 0x7FFF)), splat(wide.type, 13))
    finite = b.bitcast(b.fmul(b.bitcast(rest, single), splat(single, 2.0**112)), wide.type)
    endless = b.icmp_unsigned(">=", rest, splat(wide.type, 0x7C00 << 13))
    value = b.select(endless, b.or_(rest, splat(wide.type, 0x7F800000)), finite)
    return b.bitcast(b.or_(value, sign), single)


def halved(b: Builder, values: Value) -> Value:
    """float16 bits (n int16) of n float32: the nearest, ties to even; infinity beyond the largest; a NaN stays one.

    The way back from `half`, and by integer operations for the same reason.
    """
    n = values.type.count
    single, wide, narrow = values.type, vector(I32, n), vector(I16, n)
    if chosen() != GENERIC:
        return b.bitcast(b.fptrunc(values, vector(ir.HalfType(), n)), narrow)

    def constant(value: int) -> Value:
        return splat(wide, value)

    bits = b.bitcast(values, wide)
    sign = b.and_(b.lshr(bits, constant(16)), constant(0x8000))
    size = b.and_(bits, constant(0x7FFFFFFF))
    odd = b.and_(b.lshr(size, constant(13)), constant(1))
    normal = b.lshr(b.add(size, b.add(odd, constant(0xFFF - (112 << 23)))), constant(13))
    # below 2^-14 float16 has steps of 2^-24, as float32 has from 0.5 to 1: the sum rounds
    coarse = b.fadd(b.bitcast(size, single), splat(single, 0.5))
    subnormal = b.sub(b.bitcast(coarse, wide), constant(0x3F000000))
    value = b.select(b.icmp_signed("<", size, constant(0x38800000)), subnormal, normal)
    value = b.select(b.icmp_signed(">=", size, constant(0x47800000)), constant(0x7C00), value)
    payload = b.or_(constant(0x7E00), b.and_(b.lshr(size, constant(13)), constant(0x3FF)))
    value = b.select(b.icmp_signed(">", size, constant(0x7F800000)), payload, value)
    return b.trunc(b.or_(value, sign), narrow)


def _neighbours(b: Builder, values: Value) -> Value:
    """Sums of two neighbouring elements."""
    return b.add(*(pick(b, values, range(first, values.type.count, 2)) for first in (0, 1)))


def intrinsic_of(b: Builder, name: str, kind: Any, arguments: Sequence[Value]) -> Value:
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(kind, [argument.type for argument in arguments]), name)
    return b.call(function, arguments)
