"""Random weights, drawn as the bytes of a format instead of being quantised: as fast as a disk takes them.

All values come from the bits of a generator whose stream numpy promises to keep, by IEEE operations that are correctly
rounded: the same seed gives the same bytes everywhere.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.formats import Format

U8 = NDArray[np.uint8]

CHUNK = 8 * 2**20
"""Bytes that are drawn at a time, about."""

SCALES: dict[str, tuple[int, float, float | None, bool]] = {
    "Q4_0": (0, 4.61, None, True),
    "Q4_1": (0, 4.61, -7.5, False),
    "Q5_0": (0, 9.23, None, True),
    "Q5_1": (0, 9.23, -15.5, False),
    "Q8_0": (0, 73.9, None, False),
    "Q4_K": (0, 243.6, 7.5, False),
    "Q5_K": (0, 490.5, 15.5, False),
    "Q6_K": (208, 1365.0, None, True),
}
"""By format: where the scale lies in a block, the standard deviation of weights of random codes in scales, the minimum
behind it in scales (None: there is none), and whether the scale may be negative, as where codes reach further down."""


def rows(key: Sequence[int], fmt: Format, count: int, columns: int) -> Iterator[U8]:
    """A matrix of `count` rows of `columns` weights in pieces, each (n, bytes per row) uint8.

    key  whole numbers, 0 or more, that seed the generator

    Weights have mean 0 and standard deviation 1 / sqrt(columns), so that a product keeps the size of what it is given.
    """
    nbytes = columns // fmt.block * fmt.nbytes
    step = max(1, CHUNK // nbytes)
    sigma = 1 / math.sqrt(columns)
    for start in range(0, count, step):
        n = min(step, count - start)
        if fmt.name in SCALES:
            blocks = _bits([*key, start], n * nbytes).reshape(-1, fmt.nbytes)
            _scale(blocks, fmt, sigma)
            yield blocks.reshape(n, nbytes)
        else:
            yield _floats([*key, start], fmt, n * columns, sigma).reshape(n, nbytes)


def vector(key: Sequence[int], size: int, *, around: float, within: float) -> NDArray[np.float32]:
    """(size,) float32 that are evenly spread over around +- within."""
    values = _uniform([*key, 0], size)
    return values * np.float32(within) + np.float32(around)


def _bits(key: Sequence[int], nbytes: int) -> U8:
    """Random bytes; SFC64 is the fastest of numpy's generators."""
    words = np.random.SFC64(np.random.SeedSequence(key)).random_raw(-(-nbytes // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:nbytes]


def _uniform(key: Sequence[int], size: int) -> NDArray[np.float32]:
    """Evenly spread over -1 .. 1."""
    return _bits(key, 4 * size).view("<i4").astype(np.float32) * np.float32(2**-31)


def _floats(key: Sequence[int], fmt: Format, size: int, sigma: float) -> U8:
    values = _uniform(key, size) * np.float32(math.sqrt(3) * sigma)
    if fmt.name == "BF16":
        return (values.view(np.uint32) >> np.uint32(16)).astype("<u2").view(np.uint8)
    return values.astype("<f2" if fmt.name == "F16" else "<f4").view(np.uint8)


def _scale(blocks: U8, fmt: Format, sigma: float) -> None:
    """Put scales, and minima, in the place of random bits: no infinity, no NaN, and mean 0."""
    at, spread, minimum, signed = SCALES[fmt.name]
    random = blocks[:, at : at + 2].copy().view("<u2")
    scales = np.float32(sigma / spread) * ((random & 0xFF).astype(np.float32) / np.float32(512) + np.float32(0.75))
    if signed:
        scales = np.where(random & 0x8000, -scales, scales)
    scales = scales.astype("<f2")
    blocks[:, at : at + 2] = scales.view(np.uint8)
    if minimum is not None:
        minima = (scales.astype(np.float32) * np.float32(minimum)).astype("<f2")
        blocks[:, at + 2 : at + 4] = minima.view(np.uint8)
    if fmt.name in ("Q4_K", "Q5_K"):
        blocks[:, 4:12] |= 0xA0  # the upper bit of each of the six-bit scales and minima: none is much smaller
