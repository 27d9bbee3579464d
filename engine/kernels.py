"""The compiled kernels of the fast path. All jitted code is in this file: numba's cache on disk only watches one file.

The order of every sum is fixed, so that threads, chunks and vector widths cannot change a bit:

- A dot product over quantised blocks sums a whole block (256 weights for the K formats, 32 for the others) exactly in
  integers, where order does not matter, and joins it to the row's float32 sum by one fused multiply-add, blocks in
  the order of their index; formats with a minimum add a second one for the minimum.
- Every other sum runs in 16 lanes (element i goes to lane i mod 16), combined in a fixed tree: 8, 4, 2, 1 apart.
- Each output element belongs to one task. No fastmath, no parallel reduction, no function of the C library.

Block layouts and the quantisation of activations: ggml's reference implementation (ggml-quants). numba does not check
bounds: the caller has checked every shape against the file.
"""

import os

# numba reads it at import. OpenMP's regions start in microseconds; another layer takes 100 times as long
os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp tbb workqueue")
# idle threads spin some 20 us, then sleep: spinning without end halves the speed wherever another process wants a core
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

PV_ENVIRONMENT = ("GOMP_SPINCOUNT", "NUMBA_THREADING_LAYER_PRIORITY")  # evidence says what they were before
LANES = 16

# Codes of the formats inside the kernels: ggml's own type numbers
F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 = 0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30

f32 = np.float32
i32 = np.int32
ONE, TWO = np.uint64(1), np.uint64(2)
U1, U2, U3, U4, U6, U15 = np.uint8(1), np.uint8(2), np.uint8(3), np.uint8(4), np.uint8(6), np.uint8(15)


# ---------------------------------------------------------------- single operations


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c in float32 with one rounding (IEEE 754 fusedMultiplyAdd)."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def mul_add(typingctx, a, b, c):
    """a (int8) * b (int8) + c (int32) in int32: numba itself would widen to int64, which halves the speed."""

    def codegen(context, builder, signature, args):
        wide = ir.IntType(32)
        product = builder.mul(builder.sext(args[0], wide), builder.sext(args[1], wide))
        return builder.add(product, args[2])

    return types.int32(types.int8, types.int8, types.int32), codegen


@intrinsic
def float_of_bits(typingctx, bits):
    """The float32 whose bits are the given uint32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@njit(cache=True)
def half(low, high):
    """float32 of the float16 in two little-endian bytes, by integer operations: LLVM's own conversion needs F16C."""
    bits = np.uint32(low) | (np.uint32(high) << np.uint32(8))
    sign = (bits & np.uint32(0x8000)) << np.uint32(16)
    exponent = (bits >> np.uint32(10)) & np.uint32(31)
    mantissa = bits & np.uint32(0x3FF)
    if exponent == 0:  # zero or subnormal: mantissa * 2^-24 is exact in float32
        value = f32(mantissa) * f32(5.9604644775390625e-08)
        return -value if sign else value
    if exponent == 31:
        return float_of_bits(np.uint32(sign | np.uint32(0x7F800000) | (mantissa << np.uint32(13))))
    return float_of_bits(np.uint32(sign | ((exponent + np.uint32(112)) << np.uint32(23)) | (mantissa << np.uint32(13))))


@njit(cache=True)
def tree_sum(lanes):
    """Sum of 16 float32 lanes: lane i + lane i + 8, then 4, 2, 1 apart. `lanes` is overwritten."""
    width = LANES // 2
    while width > 0:
        for lane in range(width):
            lanes[lane] = lanes[lane] + lanes[lane + width]
        width //= 2
    return lanes[0]


@njit(cache=True)
def dot(a, b, lanes):
    """Dot product of two float32 vectors (n,) in 16 fused lanes and the fixed tree; `lanes` (16,) is scratch."""
    n = a.shape[0]
    for lane in range(LANES):
        lanes[lane] = f32(0.0)
    whole = n - n % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] = fma(a[start + lane], b[start + lane], lanes[lane])
    for i in range(whole, n):
        lanes[i - whole] = fma(a[i], b[i], lanes[i - whole])
    return tree_sum(lanes)


@njit(cache=True)
def exp(x):
    """e^x in float32, within 1 unit in the last place; subnormal results are flushed to 0; NaN stays NaN.

    x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial of degree 7 for e^r (Taylor; its remainder is below 2^-29);
    2^n by its bits.
    """
    if x < f32(-87.33654):
        return f32(0.0)
    if not x <= f32(88.72283):  # a NaN too: below, it would be converted to an integer
        return x + f32(np.inf)
    magic = f32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
    n = fma(x, f32(1.44269504), magic) - magic
    r = fma(n, f32(-0.693145752), x)
    r = fma(n, f32(-1.42860677e-06), r)
    p = f32(1.98412698e-04)
    p = fma(p, r, f32(1.38888889e-03))
    p = fma(p, r, f32(8.33333333e-03))
    p = fma(p, r, f32(4.16666667e-02))
    p = fma(p, r, f32(1.66666667e-01))
    p = fma(p, r, f32(0.5))
    p = fma(p, r, f32(1.0))
    p = fma(p, r, f32(1.0))
    n = i32(n)
    if n == 128:  # 2^128 is no float32: double in two steps
        return p * f32(2.0) * float_of_bits(np.uint32((n + 126) << 23))
    return p * float_of_bits(np.uint32((n + 127) << 23))


# ---------------------------------------------------------------- weights and activations as integers


@njit(cache=True)
def quantise_rows(x, block, q, scale, sums, sub):
    """Activations to int8, block by block, half away from zero: the blocks are those that ggml uses for the format.

    x      (T, D) float32
    block  256: the scale makes the entry of largest magnitude -127 (Q8_K); 32: it makes the magnitude 127 (Q8_0, Q8_1)
    q      (T, D) int8, written
    scale  (T, D / block) float32, written: x is about q * scale; NaN, and q is 1, in a block that is not finite
    sums   (T, D / sub) int32, written: the sum of q over each sub-block of `sub` entries
    """
    T, D = x.shape
    for t in range(T):
        for b in range(D // block):
            base = b * block
            peak, largest = f32(0.0), f32(0.0)
            broken = False
            for i in range(base, base + block):
                magnitude = abs(x[t, i])
                broken = broken or not magnitude < f32(np.inf)
                if magnitude > peak:
                    peak, largest = magnitude, x[t, i]
            if broken:  # one NaN or infinity makes the whole block NaN: it must not vanish in an integer
                scale[t, b] = f32(np.nan)
                for i in range(base, base + block):
                    q[t, i] = 1
            else:
                step = largest / f32(-127.0) if block == 256 else peak / f32(127.0)
                scale[t, b] = step
                for i in range(base, base + block):
                    ratio = x[t, i] / step if step != f32(0.0) else f32(0.0)
                    rounded = np.floor(abs(ratio) + f32(0.5))
                    rounded = min(rounded, f32(127.0))  # a subnormal step is coarse: 180 / 127 of them is 1
                    q[t, i] = np.int8(-rounded if ratio < f32(0.0) else rounded)
            for s in range(base // sub, (base + block) // sub):
                total = i32(0)
                for i in range(s * sub, (s + 1) * sub):
                    total = i32(total + q[t, i])
                sums[t, s] = total


@njit(cache=True)
def unpack_row(fmt, raw, start, nbytes, q, sub_scale, sub_min, d, dmin):
    """One row of quantised weights as integers: weight = d * sub_scale * q - dmin * sub_min.

    A whole row in one call: a call costs as much as unpacking a block of 32.

    raw, start  uint8 vector, and the row's first byte in it; each block takes nbytes
    q           (D,) int8, written
    sub_scale   (D / sub,) int32, written: 1 for the formats of 32
    sub_min     (D / sub,) int32, written: likewise; meaningful for Q4_1, Q5_1, Q4_K, Q5_K
    d           (blocks,) float32, written
    dmin        (blocks,) float32, written; meaningful where sub_min is
    """
    for b in range(d.shape[0]):
        at = np.uint64(start + b * nbytes)
        if fmt in (Q4_K, Q5_K):
            d[b], dmin[b] = half(raw[at], raw[at + ONE]), half(raw[at + TWO], raw[at + TWO + ONE])
            unpack_k45(fmt, raw, at, q, np.uint64(256 * b), sub_scale, sub_min, 8 * b)
        elif fmt == Q6_K:
            d[b] = half(raw[at + np.uint64(208)], raw[at + np.uint64(209)])
            unpack_k6(raw, at, q, np.uint64(256 * b), sub_scale, 16 * b)
        else:
            sub_scale[b], sub_min[b] = 1, 1
            d[b] = half(raw[at], raw[at + ONE])
            dmin[b] = -half(raw[at + TWO], raw[at + TWO + ONE])
            unpack_32(fmt, raw, at, q, np.uint64(32 * b))


@njit(cache=True, inline="always")
def unpack_k45(fmt, raw, at, q, to, sub_scale, sub_min, sub):
    """The 256 codes of a Q4_K or Q5_K block to q from `to`, its 8 scales and minima of 6 bits from `sub`."""
    for j in range(4):
        low, high, both = raw[at + np.uint64(4 + j)], raw[at + np.uint64(8 + j)], raw[at + np.uint64(12 + j)]
        sub_scale[sub + j], sub_min[sub + j] = low & 63, high & 63
        sub_scale[sub + j + 4] = (both & 15) | ((low >> 6) << 4)
        sub_min[sub + j + 4] = (both >> 4) | ((high >> 6) << 4)
    codes = at + np.uint64(16 if fmt == Q4_K else 48)
    for pair in range(np.uint64(4)):
        first = to + np.uint64(64) * pair
        for i in range(np.uint64(32)):
            byte = raw[codes + np.uint64(32) * pair + i]
            q[first + i], q[first + np.uint64(32) + i] = np.int8(byte & U15), np.int8(byte >> U4)
        if fmt == Q5_K:
            for i in range(np.uint64(32)):
                fifth = raw[at + np.uint64(16) + i] >> np.uint8(TWO * pair)
                q[first + i] |= np.int8((fifth & U1) << U4)
                q[first + np.uint64(32) + i] |= np.int8(((fifth >> U1) & U1) << U4)


@njit(cache=True, inline="always")
def unpack_k6(raw, at, q, to, sub_scale, sub):
    """The 256 codes of a Q6_K block to q from `to`, its 16 signed scales from `sub`."""
    for part in range(np.uint64(2)):
        low, high = at + np.uint64(64) * part, at + np.uint64(128) + np.uint64(32) * part
        first = to + np.uint64(128) * part
        for i in range(np.uint64(32)):
            one, two, bits = raw[low + i], raw[low + np.uint64(32) + i], raw[high + i]
            q[first + i] = np.int8((one & U15) | ((bits & U3) << U4)) - np.int8(32)
            q[first + np.uint64(32) + i] = np.int8((two & U15) | (((bits >> U2) & U3) << U4)) - np.int8(32)
            q[first + np.uint64(64) + i] = np.int8((one >> U4) | (((bits >> U4) & U3) << U4)) - np.int8(32)
            q[first + np.uint64(96) + i] = np.int8((two >> U4) | ((bits >> U6) << U4)) - np.int8(32)
    for j in range(16):
        sub_scale[sub + j] = np.int8(raw[at + np.uint64(192 + j)])


@njit(cache=True, inline="always")
def unpack_32(fmt, raw, at, q, to):
    """The 32 codes of a Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0 block to q from `to`, signed."""
    if fmt == Q8_0:
        for i in range(np.uint64(32)):
            q[to + i] = np.int8(raw[at + TWO + i])
        return
    codes = at + np.uint64(4 if fmt in (Q4_1, Q5_1) else 2)
    offset = np.int8(8 if fmt == Q4_0 else (16 if fmt == Q5_0 else 0))
    nibbles = codes + np.uint64(4 if fmt in (Q5_0, Q5_1) else 0)
    for i in range(np.uint64(16)):
        byte = raw[nibbles + i]
        q[to + i] = np.int8(byte & U15) - offset
        q[to + np.uint64(16) + i] = np.int8(byte >> U4) - offset
    if fmt in (Q5_0, Q5_1):
        fifth = np.uint32(0)
        for i in range(np.uint64(4)):
            fifth |= np.uint32(raw[codes + i]) << np.uint32(np.uint64(8) * i)
        for i in range(np.uint64(32)):
            q[to + i] += np.int8(((fifth >> np.uint32(i)) & np.uint32(1)) << np.uint32(4))


@njit(cache=True)
def dot16(a, at, b, bt):
    """Exact dot product of 16 entries of two int8 vectors, a from `at` and b from `bt`.

    The constant count and the unsigned index (which spares the check for a negative one) let LLVM make vectors of it.
    """
    total = i32(0)
    for i in range(np.uint64(16)):
        total = mul_add(a[np.uint64(at) + i], b[np.uint64(bt) + i], total)
    return total


@njit(cache=True, parallel=True)
def matmul_quantised(out, fmt, raw, block, nbytes, sub, xq, xscale, xsums):
    """Activations times quantised weights, one task per output row.

    out     (T, rows) float32, written
    fmt     code of the format; block weights lie in nbytes bytes, sub weights share one sub-scale
    raw     (rows, bytes per row) uint8
    xq, xscale, xsums   from quantise_rows with the same block and sub
    """
    T, D = xq.shape
    rows, width = raw.shape
    blocks, subs = D // block, block // sub
    with_min = fmt in (Q4_1, Q5_1, Q4_K, Q5_K)
    flat, y = raw.reshape(-1), xq.reshape(-1)  # slices inside the loop would count references
    for row in prange(rows):
        q = np.empty(D, np.int8)
        sub_scale = np.empty(D // sub, np.int32)
        sub_min = np.empty(D // sub, np.int32)
        d = np.empty(blocks, np.float32)
        dmin = np.empty(blocks, np.float32)
        unpack_row(fmt, flat, row * width, nbytes, q, sub_scale, sub_min, d, dmin)
        for t in range(T):
            total = f32(0.0)
            for b in range(blocks):
                exact = i32(0)
                for j in range(b * subs, (b + 1) * subs):
                    at, yt = j * sub, t * D + j * sub
                    part = dot16(q, at, y, yt)
                    if sub == 32:
                        part = i32(part + dot16(q, at + 16, y, yt + 16))
                    exact = i32(exact + sub_scale[j] * part)
                total = fma(d[b] * xscale[t, b], f32(exact), total)
                if with_min:
                    least = i32(0)
                    for j in range(b * subs, (b + 1) * subs):
                        least = i32(least + sub_min[j] * xsums[t, j])
                    total = fma(-(dmin[b] * xscale[t, b]), f32(least), total)
            out[t, row] = total


@njit(cache=True)
def widen(fmt, raw, values):
    """A row of F32, F16 or BF16 weights (bytes, uint8) to values (D,) float32, written; exact."""
    for i in range(values.shape[0]):
        if fmt == F16:
            values[i] = half(raw[2 * i], raw[2 * i + 1])
        elif fmt == BF16:
            values[i] = float_of_bits(np.uint32((np.uint32(raw[2 * i]) << 16) | (np.uint32(raw[2 * i + 1]) << 24)))
        else:
            values[i] = float_of_bits(
                np.uint32(
                    np.uint32(raw[4 * i])
                    | (np.uint32(raw[4 * i + 1]) << 8)
                    | (np.uint32(raw[4 * i + 2]) << 16)
                    | (np.uint32(raw[4 * i + 3]) << 24)
                )
            )


@njit(cache=True, parallel=True)
def matmul_float(out, fmt, raw, x):
    """x (T, D) float32 times F32, F16 or BF16 weights raw (rows, bytes) uint8: out (T, rows) float32, written."""
    T, D = x.shape
    for row in prange(raw.shape[0]):
        values = np.empty(D, np.float32)
        lanes = np.empty(LANES, np.float32)
        widen(fmt, raw[row], values)
        for t in range(T):
            out[t, row] = dot(values, x[t], lanes)


# ---------------------------------------------------------------- the rest of a layer


@njit(cache=True)
def rmsnorm(out, x, gain, eps):
    """Each row of x (T, D) over its root mean square, times gain (D,): out (T, D) float32. eps is inside the root."""
    T, D = x.shape
    lanes = np.empty(LANES, np.float32)
    for t in range(T):
        mean = dot(x[t], x[t], lanes) / f32(D)
        scale = f32(1.0) / np.sqrt(mean + f32(eps))
        for d in range(D):
            out[t, d] = x[t, d] * scale * gain[d]


@njit(cache=True)
def rotate(out, x, cosine, sine, adjacent):
    """Rotary positions on heads.

    out, x        (T, heads, head_dim) float32, out written; elements past 2 * half are copied
    cosine, sine  (T, half) float32, rows for the positions of the T tokens
    adjacent      pairs are (2i, 2i + 1); else (i, i + half)
    """
    T, heads, head_dim = x.shape
    half_dim = cosine.shape[1]
    for t in range(T):
        for h in range(heads):
            for i in range(half_dim):
                first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + half_dim)
                a, b, c, s = x[t, h, first], x[t, h, second], cosine[t, i], sine[t, i]
                out[t, h, first] = fma(a, c, -(b * s))
                out[t, h, second] = fma(a, s, b * c)
            for i in range(2 * half_dim, head_dim):
                out[t, h, i] = x[t, h, i]


@njit(cache=True, parallel=True)
def attend(out, scores, weights, q, keys, values, past, scale):
    """Causal attention with grouped queries, one task per token and head.

    out      (T, heads, head_dim) float32, written
    scores   (T, heads, S) float32, written: scaled products, -inf for keys that lie ahead
    weights  (T, heads, S) float32, written: softmax of the scores
    q        (T, heads, head_dim) float32
    keys, values  (kv_heads, >= S, head_dim) float32; token t is at position past + t, S = past + T
    """
    T, heads, head_dim = q.shape
    S = past + T
    group = heads // keys.shape[0]
    for task in prange(T * heads):
        t, h = task // heads, task % heads
        lanes = np.empty(LANES, np.float32)
        seen = past + t + 1
        largest = f32(-np.inf)
        for s in range(seen):
            score = dot(q[t, h], keys[h // group, s], lanes) * scale
            scores[t, h, s] = score
            if score > largest:
                largest = score
        for s in range(seen, S):
            scores[t, h, s] = f32(-np.inf)
            weights[t, h, s] = f32(0.0)
        for lane in range(LANES):
            lanes[lane] = f32(0.0)
        for s in range(seen):
            raised = exp(scores[t, h, s] - largest)
            weights[t, h, s] = raised
            lanes[s % LANES] += raised
        total = tree_sum(lanes)
        for s in range(seen):
            weights[t, h, s] = weights[t, h, s] / total
        for d in range(head_dim):
            out[t, h, d] = f32(0.0)
        for s in range(seen):
            weight = weights[t, h, s]
            for d in range(head_dim):
                out[t, h, d] = fma(weight, values[h // group, s, d], out[t, h, d])


@njit(cache=True)
def silu(out, x):
    """out = x / (1 + e^-x), both (T, D) float32; out may be x itself."""
    T, D = x.shape
    for t in range(T):
        for d in range(D):
            value = x[t, d]
            out[t, d] = value / (f32(1.0) + exp(-value))


@njit(cache=True)
def multiply(out, a, b):
    """out = a * b, all (T, D) float32."""
    T, D = a.shape
    for t in range(T):
        for d in range(D):
            out[t, d] = a[t, d] * b[t, d]


@njit(cache=True)
def add(out, a, b):
    """out = a + b, all (T, D) float32; out may be a or b. A bias (D,) is passed as (1, D)."""
    T, D = a.shape
    single = b.shape[0] == 1
    for t in range(T):
        for d in range(D):
            out[t, d] = a[t, d] + b[0 if single else t, d]
