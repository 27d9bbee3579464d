"""What happens to one row of activations: norms, exponentials, quantisation. Rows are whole vectors of 16 float32.

A row whose length is no multiple of 16 is continued with zeros. The order of every sum is that of `floats`.
"""

from typing import Any

from llvmlite import ir

from engine.kernels.simd import (
    F32,
    I8,
    I16,
    I32,
    Builder,
    Value,
    broadcast,
    counting,
    fma,
    halves,
    intrinsic_of,
    kernel,
    load,
    number,
    splat,
    store,
    times,
    variable,
    vector,
)

LANES = 16
LINE = 4 * LANES
FLOATS, INTS = vector(F32, LANES), vector(I32, LANES)


def tree(b: Builder, lanes: Value) -> Value:
    """The sum of 16 lanes: lane i + lane i + 8, then 4, 2, 1 apart."""
    while lanes.type.count > 1:
        lower, upper = halves(b, lanes)
        lanes = b.fadd(lower, upper)
    return b.extract_element(lanes, I32(0))


def exponential(b: Builder, x: Value) -> Value:
    """e^x (16 float32), within 1 unit in the last place; subnormal results are flushed to 0; NaN stays NaN.

    x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial of degree 7 for e^r (Taylor; its remainder is below 2^-29);
    2^n by its bits, in two steps where it is no float32.
    """

    def constant(value: float) -> Value:
        return splat(FLOATS, value)

    magic = constant(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
    n = b.fsub(fma(b, x, constant(1.44269504), magic), magic)
    r = fma(b, n, constant(-0.693145752), x)
    r = fma(b, n, constant(-1.42860677e-06), r)
    p = constant(1.98412698e-04)
    for coefficient in (1.38888889e-03, 8.33333333e-03, 4.16666667e-02, 1.66666667e-01, 0.5, 1.0, 1.0):
        p = fma(b, p, r, constant(coefficient))
    small, large = b.fcmp_ordered("<", x, constant(-87.33654)), b.fcmp_unordered(">", x, constant(88.72283))
    inside = b.select(b.or_(small, large), constant(0.0), n)  # whatever lies outside must not become an integer
    power = b.fptosi(inside, INTS)
    half = b.ashr(power, splat(INTS, 1))
    for part in (half, b.sub(power, half)):
        p = b.fmul(p, b.bitcast(b.shl(b.add(part, splat(INTS, 127)), splat(INTS, 23)), FLOATS))
    p = b.select(large, b.fadd(x, constant(float("inf"))), p)
    return b.select(small, constant(0.0), p)


@kernel
def exp16(b: Builder, x: Value, out: Value) -> None:
    """e^x of 16 float32."""
    store(b, exponential(b, load(b, x, FLOATS)), out)


@kernel
def norm_row(b: Builder, x: Value, gain: Value, lines: Value, settings: Value, out: Value) -> None:
    """A row over its root mean square, times gain; settings: the number of entries and epsilon, two float32."""
    squares = variable(b, splat(FLOATS, 0.0))
    with counting(b, lines) as line:
        entries = load(b, x, FLOATS, times(b, line, LINE))
        b.store(fma(b, entries, entries, b.load(squares)), squares)
    mean = b.fdiv(tree(b, b.load(squares)), load(b, settings, F32))
    root = intrinsic_of(b, "llvm.sqrt.f32", F32, [b.fadd(mean, load(b, settings, F32, 4))])
    scale = broadcast(b, b.fdiv(F32(1.0), root), LANES)
    with counting(b, lines) as line:
        place = times(b, line, LINE)
        scaled = b.fmul(load(b, x, FLOATS, place), scale)
        store(b, b.fmul(scaled, load(b, gain, FLOATS, place)), out, place)


@kernel
def add_row(b: Builder, x: Value, other: Value, lines: Value, out: Value) -> None:
    """out = x + other."""
    with counting(b, lines) as line:
        place = times(b, line, LINE)
        store(b, b.fadd(load(b, x, FLOATS, place), load(b, other, FLOATS, place)), out, place)


@kernel
def swiglu_row(b: Builder, gate: Value, up: Value, lines: Value, silu: Value, out: Value) -> None:
    """silu = gate / (1 + e^-gate), unless its address is 0; out = silu * up. gate 0: silu is given."""
    given, wanted = (b.icmp_signed(*test, number(0)) for test in (("==", gate), ("!=", silu)))
    activated = variable(b, splat(FLOATS, 0.0))
    with counting(b, lines) as line:
        place = times(b, line, LINE)
        with b.if_else(given) as (ready, unready):
            with ready:
                b.store(load(b, silu, FLOATS, place), activated)
            with unready:
                entries = load(b, gate, FLOATS, place)
                raised = exponential(b, b.fneg(entries))
                b.store(b.fdiv(entries, b.fadd(splat(FLOATS, 1.0), raised)), activated)
                with b.if_then(wanted):
                    store(b, b.load(activated), silu, place)
        store(b, b.fmul(b.load(activated), load(b, up, FLOATS, place)), out, place)


# ---------------------------------------------------------------- activations as integers


def quantising(block: int) -> Any:
    """The kernel that quantises one block of 32 or 256 activations to int8, half away from zero, as ggml does.

    256 (Q8_K): the scale makes the first entry of largest magnitude -127; 32 (Q8_0, Q8_1): it makes the magnitude 127.

    x      address of `block` float32
    q      of as many int8, written
    scale  of one float32, written: x is about q * scale; NaN, and q is 1, in a block that is not finite: one NaN or
           infinity must not vanish in an integer
    sums   of the sum of q, int32; of 256, of those of 16 sub-blocks of 16, int16; written
    pairs  of the sums of 8 sub-blocks of 32, int16, written; 256 only
    """

    def build(b: Builder, x: Value, q: Value, scale: Value, sums: Value, pairs: Value) -> None:
        lines = [load(b, x, FLOATS, LINE * i) for i in range(block // LANES)]
        sizes = [b.and_(b.bitcast(line, INTS), splat(INTS, 0x7FFFFFFF)) for line in lines]
        highest = sizes[0]
        for size in sizes[1:]:
            highest = b.select(b.icmp_signed(">", size, highest), size, highest)
        peak = intrinsic_of(b, "llvm.vector.reduce.smax.v16i32", I32, [highest])
        broken = b.icmp_signed(">=", peak, I32(0x7F800000))
        largest = b.bitcast(peak, F32)
        if block == 256:
            step = b.fdiv(_signed(b, lines, sizes, peak, largest), F32(-127.0))
        else:
            step = b.fdiv(largest, F32(127.0))
        store(b, b.select(broken, F32(float("nan")), step), scale)
        flat = b.fcmp_ordered("==", step, F32(0.0))
        divisor = broadcast(b, b.select(b.or_(flat, broken), F32(1.0), step), LANES)
        none, all_ = broadcast(b, flat, LANES), broadcast(b, broken, LANES)
        rounded = []
        for line in lines:
            ratio = b.fdiv(b.select(b.or_(none, all_), splat(FLOATS, 0.0), line), divisor)
            size = b.bitcast(b.and_(b.bitcast(ratio, INTS), splat(INTS, 0x7FFFFFFF)), FLOATS)
            whole = b.fptosi(b.fadd(size, splat(FLOATS, 0.5)), INTS)
            whole = b.select(b.icmp_signed(">", whole, splat(INTS, 127)), splat(INTS, 127), whole)  # subnormal steps
            signed = b.select(b.fcmp_ordered("<", ratio, splat(FLOATS, 0.0)), b.neg(whole), whole)
            rounded.append(b.select(all_, splat(INTS, 1), signed))
        totals = []
        for i, line in enumerate(rounded):
            store(b, b.trunc(line, vector(I8, LANES)), q, LANES * i)
            totals.append(intrinsic_of(b, "llvm.vector.reduce.add.v16i32", I32, [line]))
        if block == 32:
            store(b, b.add(*totals), sums)
            return
        for i, total in enumerate(totals):
            store(b, b.trunc(total, I16), sums, 2 * i)
        for i in range(8):
            store(b, b.trunc(b.add(totals[2 * i], totals[2 * i + 1]), I16), pairs, 2 * i)

    build.__name__ = f"quantise_{block}"
    return kernel(build)


def _signed(b: Builder, lines: list[Value], sizes: list[Value], peak: Value, largest: Value) -> Value:
    """The first entry whose magnitude is the largest; of zeros, 0."""
    negative = ir.Constant(ir.IntType(1), 0)
    mask16 = ir.IntType(16)
    for line, size in zip(reversed(lines), reversed(sizes), strict=True):
        found = b.bitcast(b.icmp_signed("==", size, broadcast(b, peak, LANES)), mask16)
        signs = b.bitcast(b.icmp_signed("<", b.bitcast(line, INTS), splat(INTS, 0)), mask16)
        first = b.and_(found, b.neg(found))
        here = b.icmp_unsigned("!=", b.and_(signs, first), mask16(0))
        negative = b.select(b.icmp_unsigned("!=", found, mask16(0)), here, negative)
    negative = b.and_(negative, b.icmp_unsigned("!=", peak, I32(0)))
    return b.select(negative, b.fneg(largest), largest)


quantise_32, quantise_256 = quantising(32), quantising(256)


@kernel
def rest_row(b: Builder, x: Value, q: Value, scale: Value, lines: Value, out: Value) -> None:
    """What rounding left of a block: out = x - q * scale, with one rounding: exact, unless it underflows.

    x, out  `lines` vectors of 16 float32, out written
    q       as many int8; scale: one float32
    """
    step = broadcast(b, b.fneg(load(b, scale, F32)), LANES)
    with counting(b, lines) as line:
        place = times(b, line, LINE)
        codes = b.sitofp(load(b, q, vector(I8, LANES), times(b, line, LANES)), FLOATS)
        store(b, fma(b, codes, step, load(b, x, FLOATS, place)), out, place)
