"""How fast memory can be read: a kernel that does nothing else."""

from collections.abc import Sequence

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from engine.kernels.simd import I32, Builder, Value, at, counting, kernel, load, splat, store, times, variable
from engine.kernels.simd import vector as vector_of

LINE = 64
LINES = vector_of(I32, 16)
UNROLLED = 4


@kernel
def read_lines(b: Builder, start: Value, count: Value, out: Value) -> None:
    """The sum of `count` times 256 bytes from an address, as int32: out, the address of 64 bytes, is written."""
    sums = [variable(b, splat(LINES, 0)) for _ in range(UNROLLED)]
    with counting(b, count) as step:
        here = at(b, start, times(b, step, UNROLLED * LINE))
        for line, place in enumerate(sums):
            b.store(b.add(b.load(place), load(b, here, LINES, LINE * line)), place)
    total = b.load(sums[0])
    for place in sums[1:]:
        total = b.add(total, b.load(place))
    store(b, total, out)


@njit(cache=True, parallel=True)
def read(parts, out):
    """Read parts (n, 2) int64: addresses and lengths in bytes, of which 256s are read; out (n, 16) int32 is written."""
    for part in prange(parts.shape[0]):
        read_lines(parts[part, 0], parts[part, 1] // 256, out[part].ctypes.data)


def parts_of(arrays: Sequence[NDArray[np.uint8]], size: int) -> NDArray[np.int64]:
    """The parts of `size` bytes of contiguous arrays, the last of each shorter: (n, 2) int64."""
    parts: list[tuple[int, int]] = []
    for array in arrays:
        place = array.ctypes.data
        parts += [(place + start, min(size, array.nbytes - start)) for start in range(0, array.nbytes, size)]
    return np.array(parts, np.int64)
