"""What the fast path calls: steps of a forward pass over addresses, so that numba's share of a call is a microsecond.

Nothing here checks a bound: whoever calls has checked every shape against the file.
"""

import numpy as np
from numba import njit, prange

from engine.kernels import blocks, rows, tiles
from engine.kernels.formats import address, kernels_of
from engine.kernels.simd import calling

norm_row, add_row, swiglu_row, exp16 = rows.norm_row, rows.add_row, rows.swiglu_row, rows.exp16
quantise_32, quantise_256 = rows.quantise_32, rows.quantise_256
QUANTISED = {layout.code: layout for layout in blocks.LAYOUTS}
"""The quantised formats by ggml's number; the others are F32, F16 and BF16."""
SCRATCH = tiles.SCRATCH
CHUNK = 64
"""Rows of weights that are one task."""

# the columns of a job
FORMAT, WEIGHTS, STRIDE, ROWS, BLOCKS, COLUMN, FLOATING, Q, SUMS, ONE, MANY = COLUMNS = range(11)
# addresses of activations: in float32, in int8 by blocks of 32 and of 256, and what belongs to those
X, Q32, SCALE32, SUMS32, Q256, SCALE256, SUMS16, SUMS256 = range(8)
BY_32, BY_256 = 1, 2
LANES = rows.LANES


call_dot, call_tile, call_floats = calling(8), calling(10), calling(8)


def job(name: str, code: int, weights: int, stride: int, rows_: int, blocks_: int, column: int) -> tuple[int, ...]:
    """A matrix as a row of jobs: its format, address, bytes per row, rows, blocks per row, first column of the output;
    then what its kernels read, and where the one for single tokens and the one for many lie.
    """
    if code not in QUANTISED:
        (one,) = map(address, kernels_of(name))
        return (code, weights, stride, rows_, blocks_, column, 1, X, X, one, one)
    layout = QUANTISED[code]
    sums = SUMS32 if layout.block == 32 else (SUMS16 if layout.sub == 16 else SUMS256)
    one, many = map(address, kernels_of(name))
    return (code, weights, stride, rows_, blocks_, column, 0, Q32 if layout.block == 32 else Q256, sums, one, many)


@njit(cache=True)
def few_rows(job, first, count, a, pitch, out):
    """Some rows of one job for all tokens: out (T, columns) float32, written."""
    T, column = out.shape[0], job[COLUMN]
    if job[FLOATING]:
        tile = np.empty((4, 4), np.float32)
        for row in range(first, first + count, 4):
            weights, last = job[WEIGHTS] + row * job[STRIDE], min(4, first + count - row) - 1
            for t in range(0, T, 4):
                newest = min(4, T - t) - 1
                call_floats(
                    job[ONE], weights, job[STRIDE], last, job[BLOCKS], a[X] + t * pitch, pitch, newest, tile.ctypes.data
                )
                for i in range(last + 1):
                    for j in range(newest + 1):
                        out[t + j, column + row + i] = tile[i, j]
        return
    q, scale, sums = a[job[Q]], a[job[Q] + 1], a[job[SUMS]]
    if T == 1:
        weights, to = job[WEIGHTS] + first * job[STRIDE], out.ctypes.data + 4 * (column + first)
        call_dot(job[ONE], weights, job[STRIDE], count, job[BLOCKS], q, scale, sums, to)
    else:
        tokens = padded(T)
        sixteen = np.empty((tokens, 16), np.float32)
        scratch = np.empty(SCRATCH + 64, np.uint8)
        aligned = (scratch.ctypes.data + 63) // 64 * 64
        for row in range(first, first + count, 16):
            weights, last = job[WEIGHTS] + row * job[STRIDE], min(16, first + count - row) - 1
            call_tile(
                job[MANY], weights, job[STRIDE], last, job[BLOCKS], tokens, q, scale, sums, sixteen.ctypes.data, aligned
            )
            for t in range(T):
                for i in range(last + 1):
                    out[t, column + row + i] = sixteen[t, i]


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

    jobs   (n, 11) int64, one per matrix: see `job`
    a      (8,) int64: addresses of the activations, in float32 (rows `pitch` bytes apart) and quantised
    out    (T, columns) float32, written
    """
    chunk = CHUNK if out.shape[0] > 1 else CHUNK // 2  # threads should end together
    tasks = 0
    for job in range(jobs.shape[0]):
        tasks += (jobs[job, ROWS] + chunk - 1) // chunk
    for task in prange(tasks):
        job, first = place_of(jobs, task, chunk)
        few_rows(jobs[job], first, min(chunk, jobs[job, ROWS] - first), a, pitch, out)


@njit(cache=True)
def quantise_token(x, t, tokens, columns, kinds, a):
    if kinds & BY_32:
        for block in range(columns // 32):
            i = block * tokens + t
            quantise_32(x + 128 * block, a[Q32] + i * 32, a[SCALE32] + i * 4, a[SUMS32] + i * 4, 0)
    if kinds & BY_256:
        for block in range(columns // 256):
            i = block * tokens + t
            quantise_256(
                x + 1024 * block, a[Q256] + i * 256, a[SCALE256] + i * 4, a[SUMS16] + i * 32, a[SUMS256] + i * 16
            )


@njit(cache=True, parallel=True)
def quantise(x, pitch, T, columns, kinds, a):
    """Rows of activations as integers; rows that only fill up the last group of tokens are left as they are."""
    tokens = padded(T)
    if T < 4:
        for t in range(T):
            quantise_token(x + t * pitch, t, tokens, columns, kinds, a)
    else:
        for t in prange(T):
            quantise_token(x + t * pitch, t, tokens, columns, kinds, a)


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

    gate, up   rows of float32 `pitch` bytes apart, of which `width` bytes count, a multiple of 64
    silu, out  rows of float32 `width` bytes apart
    """
    parts = (width + 4095) // 4096
    for task in prange(T * parts):
        t, part = task // parts, task % parts
        start = 4096 * part
        lines = min(4096, width - start) // 64
        to = t * width + start
        swiglu_row(gate + t * pitch + start, up + t * pitch + start, lines, silu + to if silu else 0, out + to)


@njit(cache=True)
def exponentials(x, lines, out):
    """e^x of 16 * lines float32 at the address x, to the address out: what softmax and SiLU are made of."""
    for line in range(lines):
        exp16(x + 64 * line, out + 64 * line)
