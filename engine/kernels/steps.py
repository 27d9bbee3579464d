"""What the fast path calls: steps of a forward pass over addresses, so that numba's share of a call is a microsecond.

Nothing here checks a bound: whoever calls has checked every shape against the file.
"""

import numpy as np
from numba import njit, prange

from engine.kernels import blocks, rows, tiles
from engine.kernels.formats import address, kernels_of
from engine.kernels.simd import calling

norm_row, add_row, swiglu_row, exp16 = rows.norm_row, rows.add_row, rows.swiglu_row, rows.exp16
quantise_32, quantise_256, rest_row = rows.quantise_32, rows.quantise_256, rows.rest_row
QUANTISED = {layout.code: layout for layout in blocks.LAYOUTS}
"""The quantised formats by ggml's number; the others are F32, F16 and BF16."""
SCRATCH = tiles.SCRATCH
CHUNK = 64
"""Rows of weights that are one task."""

# the columns of a job
FORMAT, WEIGHTS, STRIDE, ROWS, BLOCKS, COLUMN, FLOATING, Q, SUMS, ONE, MANY, RESTS = COLUMNS = range(12)
# addresses of activations: in float32, in int8 by blocks of 32 and of 256, and what belongs to those
X, Q32, SCALE32, SUMS32, Q256, SCALE256, SUMS16, SUMS256 = range(8)
BY_32, BY_256 = 1, 2
LANES = rows.LANES


call_dot, call_tile, call_floats = calling(8), calling(10), calling(8)


def job(
    name: str, code: int, weights: int, stride: int, rows_: int, blocks_: int, column: int, *, rests: bool = False
) -> tuple[int, ...]:
    """A matrix as a row of jobs: its format, address, bytes per row, rows, blocks per row, first column of the output;
    then what its kernels read, where the one for single tokens and the one for many lie, and whether the matrix meets
    what rounding left of the activations, too.
    """
    if code not in QUANTISED:
        (one,) = map(address, kernels_of(name))
        return (code, weights, stride, rows_, blocks_, column, 1, X, X, one, one, 0)
    layout = QUANTISED[code]
    sums = SUMS32 if layout.block == 32 else (SUMS16 if layout.sub == 16 else SUMS256)
    one, many = map(address, kernels_of(name))
    q = Q32 if layout.block == 32 else Q256
    return (code, weights, stride, rows_, blocks_, column, 0, q, sums, one, many, rests)


@njit(cache=True)
def few_rows(job, first, count, a, pitch, out):
    """Some rows of one job for all tokens: out (T, columns) float32, written."""
    T = out.shape[0]
    if job[FLOATING]:
        floating_rows(job, first, count, a[0, X], pitch, out)
    elif T == 1:
        single_rows(job, first, count, a[0], out.ctypes.data + 4 * (job[COLUMN] + first))
        if job[RESTS]:
            rest = np.empty(CHUNK, np.float32)
            single_rows(job, first, count, a[1], rest.ctypes.data)
            for i in range(count):
                out[0, job[COLUMN] + first + i] += rest[i]
    else:
        tokens = padded(T)
        scratch = np.empty(SCRATCH + 64, np.uint8)
        sixteen, rest = np.empty((tokens, 16), np.float32), np.zeros((tokens, 16), np.float32)
        for row in range(first, first + count, 16):
            last, to = min(16, first + count - row), job[COLUMN] + row
            sixteen_rows(job, row, last - 1, tokens, a[0], sixteen, scratch)
            if job[RESTS]:
                sixteen_rows(job, row, last - 1, tokens, a[1], rest, scratch)
                for t in range(T):
                    for i in range(last):
                        out[t, to + i] = sixteen[t, i] + rest[t, i]
            else:
                for t in range(T):
                    for i in range(last):
                        out[t, to + i] = sixteen[t, i]


@njit(cache=True)
def floating_rows(job, first, count, x, pitch, out):
    """Rows of float weights; x is the address of activations in float32."""
    T, column = out.shape[0], job[COLUMN]
    tile = np.empty((4, 4), np.float32)
    for row in range(first, first + count, 4):
        weights, last = job[WEIGHTS] + row * job[STRIDE], min(4, first + count - row) - 1
        for t in range(0, T, 4):
            newest = min(4, T - t) - 1
            call_floats(
                job[ONE], weights, job[STRIDE], last, job[BLOCKS], x + t * pitch, pitch, newest, tile.ctypes.data
            )
            for i in range(last + 1):
                for j in range(newest + 1):
                    out[t + j, column + row + i] = tile[i, j]


@njit(cache=True)
def single_rows(job, first, count, a, out):
    """Rows of quantised weights times a single token; `count` float32 at the address out are written."""
    weights = job[WEIGHTS] + first * job[STRIDE]
    call_dot(job[ONE], weights, job[STRIDE], count, job[BLOCKS], a[job[Q]], a[job[Q] + 1], a[job[SUMS]], out)


@njit(cache=True)
def sixteen_rows(job, row, last, tokens, a, out, scratch):
    """Up to 16 rows of quantised weights times many tokens; out (tokens, 16) float32 is written."""
    weights, aligned = job[WEIGHTS] + row * job[STRIDE], (scratch.ctypes.data + 63) // 64 * 64
    call_tile(
        job[MANY], weights, job[STRIDE], last, job[BLOCKS], tokens, a[job[Q]], a[job[Q] + 1], a[job[SUMS]],
        out.ctypes.data, aligned,
    )  # fmt: skip


@njit(cache=True)
def padded(tokens):
    """The tokens for which activations are laid out: one, or a multiple of 4."""
    return 1 if tokens == 1 else (tokens + 3) // 4 * 4


@njit(cache=True)
def place_of(jobs, task, chunk):
    """The job that a task belongs to, and its first row."""
    job = 0
    while task >= (jobs[job, ROWS] + chunk - 1) // chunk:
        task -= (jobs[job, ROWS] + chunk - 1) // chunk
        job += 1
    return job, task * chunk


@njit(cache=True, parallel=True)
def products(jobs, a, pitch, out):
    """Activations times weights, one task per 64 rows of weights; of a single token, per 32.

    jobs   (n, 12) int64, one per matrix: see `job`
    a      (1, 8) int64: addresses of the activations, in float32 (rows `pitch` bytes apart) and quantised; (2, 8)
           where a job wants the rests, too: those of what rounding the activations left
    out    (T, columns) float32, written
    """
    chunk = CHUNK if out.shape[0] > 1 else CHUNK // 2  # threads should end together
    tasks = 0
    for job in range(jobs.shape[0]):
        tasks += (jobs[job, ROWS] + chunk - 1) // chunk
    for task in prange(tasks):
        job, first = place_of(jobs, np.int64(task), chunk)  # unsigned and int64 make float64
        few_rows(jobs[job], first, min(chunk, jobs[job, ROWS] - first), a, pitch, out)


@njit(cache=True)
def quantise_token(x, t, tokens, columns, kinds, a, rest):
    """One token's activations as integers at the addresses a (n, 8); of the second, what rounding left of them."""
    if kinds & BY_32:
        quantise_blocks_32(x, t, tokens, columns // 32, a[0])
        if len(a) > 1:
            for block in range(columns // 32):
                i = block * tokens + t
                rest_row(x + 128 * block, a[0, Q32] + i * 32, a[0, SCALE32] + i * 4, 2, rest + 128 * block)
            quantise_blocks_32(rest, t, tokens, columns // 32, a[1])
    if kinds & BY_256:
        quantise_blocks_256(x, t, tokens, columns // 256, a[0])
        if len(a) > 1:
            for block in range(columns // 256):
                i = block * tokens + t
                rest_row(x + 1024 * block, a[0, Q256] + i * 256, a[0, SCALE256] + i * 4, 16, rest + 1024 * block)
            quantise_blocks_256(rest, t, tokens, columns // 256, a[1])


@njit(cache=True)
def quantise_blocks_32(x, t, tokens, blocks_, a):
    for block in range(blocks_):
        i = block * tokens + t
        quantise_32(x + 128 * block, a[Q32] + i * 32, a[SCALE32] + i * 4, a[SUMS32] + i * 4, 0)


@njit(cache=True)
def quantise_blocks_256(x, t, tokens, blocks_, a):
    for block in range(blocks_):
        i = block * tokens + t
        quantise_256(x + 1024 * block, a[Q256] + i * 256, a[SCALE256] + i * 4, a[SUMS16] + i * 32, a[SUMS256] + i * 16)


@njit(cache=True, parallel=True)
def quantise(x, pitch, T, columns, kinds, a):
    """Rows of activations as integers; rows that only fill up the last group of tokens are left as they are.

    a  (1, 8) or (2, 8) int64, see `products`; of the second, the float32 hold a rest while it is rounded, and nothing
       that outlasts that
    """
    tokens = padded(T)
    rest = a[-1, X]
    if T < 4:
        for t in range(T):
            quantise_token(x + t * pitch, t, tokens, columns, kinds, a, rest + t * pitch)
    else:
        for t in prange(T):
            quantise_token(x + t * pitch, t, tokens, columns, kinds, a, rest + t * pitch)


@njit(cache=True)
def norm_token(x, other, gain, lines, settings, out):
    if other != 0:
        add_row(x, other, lines, x)
    norm_row(x, gain, lines, settings, out)


@njit(cache=True, parallel=True)
def add_norm(x, other, gain, pitch, T, settings, out):
    """x += other, unless its address is 0; out = norm of x; each (T, pitch / 4) float32."""
    lines = pitch // 64
    if T < 8:
        for t in range(T):
            norm_token(x + t * pitch, other + t * pitch if other else 0, gain, lines, settings, out + t * pitch)
    else:
        for t in prange(T):
            norm_token(x + t * pitch, other + t * pitch if other else 0, gain, lines, settings, out + t * pitch)


@njit(cache=True, parallel=True)
def swiglu(gate, up, pitch, width, T, silu, out):
    """silu = gate / (1 + e^-gate), unless its address is 0; out = silu * up.

    gate, up   rows of float32 `pitch` bytes apart, of which `width` bytes count, a multiple of 64; gate 0: silu is
               given, and read
    silu, out  rows of float32 `width` bytes apart
    """
    parts = (width + 4095) // 4096
    for task in prange(T * parts):
        t, part = task // parts, task % parts
        start = 4096 * part
        lines = min(4096, width - start) // 64
        to = t * width + start
        swiglu_row(
            gate + t * pitch + start if gate else 0, up + t * pitch + start, lines, silu + to if silu else 0, out + to
        )


@njit(cache=True)
def exponentials(x, lines, out):
    """e^x of 16 * lines float32 at the address x, to the address out: what softmax and SiLU are made of."""
    for line in range(lines):
        exp16(x + 64 * line, out + 64 * line)
