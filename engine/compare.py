"""Comparison of two float32 arrays, value by value and bit by bit.

B is the reference: relative measures divide by it, and a difference is a - b. Equal means that all bits are equal, so
-0.0 differs from 0.0, and a NaN equals a NaN of the same bits. A pair of equal bits that is not finite (a masked
score, -inf on both sides) has no difference to add up and is left out of the sums; how many were is part of the
result. Every other pair counts, so that a NaN or an infinity on one side shows in max |diff|, RMS, NMSE and cosine.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 18
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Difference:
    """One pair whose bits differ: its flat index, its coordinate if the shape is known, both values, and a - b."""

    index: int
    coordinate: tuple[int, ...] | None
    a: float
    b: float
    a_bits: int
    b_bits: int
    diff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What distinguishes array a from array b, the reference.

    count        pairs; `different` of them have different bits; `left_out` are equal and not finite
    max_abs      largest |a - b|; NaN if any is NaN
    rms          square root of the mean of (a - b)^2
    nmse         sum of (a - b)^2 / sum of b^2; None when b is zero and a is not
    cosine       of the angle between a and b; None when one is zero and the other is not
                 (both zero: nmse 0, cosine 1; rms, nmse and cosine are None when every pair is left out)
    max_ulp      largest number of float32 steps between a and b; None when a NaN differs from its partner
    nonfinite_a  values of a that are NaN or infinite; nonfinite_b likewise
    worst        the pair of max_abs, the first one; None when all bits are equal
    first        the first differences by index
    largest      the largest differences: NaN before infinity before numbers, then by index
    """

    count: int
    different: int
    left_out: int
    max_abs: float
    rms: float | None
    nmse: float | None
    cosine: float | None
    max_ulp: int | None
    nonfinite_a: int
    nonfinite_b: int
    worst: Difference | None
    first: tuple[Difference, ...]
    largest: tuple[Difference, ...]

    @property
    def equal_bits(self) -> bool:
        """Whether every pair has the same bits."""
        return self.different == 0


def compare(a: F32, b: F32, *, shape: tuple[int, ...] | None = None, limit: int = 5) -> Comparison:
    """Compare two float32 arrays of the same size, in float64 and in pieces of bounded memory.

    shape  of both, for coordinates; its product is the size
    limit  how many differences `first` and `largest` hold at most

    Raises ValueError when the sizes differ or are zero.
    """
    a, b = a.reshape(-1), b.reshape(-1)
    if a.size != b.size or a.size == 0:
        raise ValueError(f"{a.size} and {b.size} values cannot be compared")
    different = left_out = nonfinite_a = nonfinite_b = max_ulp = 0
    aa = bb = ab = dd = 0.0
    nan_differs = False
    first: list[int] = []
    largest: list[tuple[int, int]] = []  # (-magnitude, index), ascending
    keep = max(limit, 1)
    for start in range(0, a.size, CHUNK):
        x32, y32 = a[start : start + CHUNK], b[start : start + CHUNK]
        finite_x, finite_y = np.isfinite(x32), np.isfinite(y32)
        differs = x32.view(np.uint32) != y32.view(np.uint32)
        summed = differs | finite_x
        nonfinite_a += int(np.count_nonzero(~finite_x))
        nonfinite_b += int(np.count_nonzero(~finite_y))
        left_out += int(np.count_nonzero(~summed))
        with np.errstate(all="ignore"):  # NaN and infinity are reported, not warned about
            x, y = x32[summed].astype(np.float64), y32[summed].astype(np.float64)
            aa, bb, ab = aa + float(np.sum(x * x)), bb + float(np.sum(y * y)), ab + float(np.sum(x * y))
            where = np.flatnonzero(differs)
            diff = x32[where].astype(np.float64) - y32[where].astype(np.float64)
            dd += float(np.sum(diff * diff))
        if not where.size:
            continue
        different += where.size
        nan_differs = nan_differs or bool(np.any(np.isnan(x32[where]) | np.isnan(y32[where])))
        max_ulp = max(max_ulp, int(np.max(np.abs(_steps(x32[where]) - _steps(y32[where])))))
        first += (where[: limit - len(first)] + start).tolist()
        key = _magnitude(diff)
        if where.size > keep:
            large = np.flatnonzero(key >= np.partition(key, -keep)[-keep])
            where, key = where[large], key[large]
        largest += zip((-key).tolist(), (where + start).tolist(), strict=True)
        largest = sorted(largest)[:keep]
    n = a.size - left_out
    ordered = tuple(_difference(a, b, index, shape) for _, index in largest)
    return Comparison(
        count=a.size,
        different=different,
        left_out=left_out,
        max_abs=abs(ordered[0].diff) if ordered else 0.0,
        rms=math.sqrt(dd / n) if n else None,
        nmse=_nmse(dd, bb) if n else None,
        cosine=_cosine(aa, bb, ab) if n else None,
        max_ulp=None if nan_differs else max_ulp,
        nonfinite_a=nonfinite_a,
        nonfinite_b=nonfinite_b,
        worst=ordered[0] if ordered else None,
        first=tuple(_difference(a, b, index, shape) for index in first),
        largest=ordered[:limit],
    )


def _magnitude(diff: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integers in the order of |diff|, with infinity above all numbers and NaN above infinity."""
    return np.where(np.isnan(diff), np.nan, np.abs(diff)).view(np.int64)


def _steps(values: F32) -> NDArray[np.int64]:
    """The place of each float32 in their order: neighbours are one apart, both zeros are 0, infinities are the ends."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _nmse(dd: float, bb: float) -> float | None:
    if bb == 0:
        return 0.0 if dd == 0 else None
    return dd / bb


def _cosine(aa: float, bb: float, ab: float) -> float | None:
    if aa == 0 or bb == 0:
        return 1.0 if aa == bb else None
    cosine = ab / math.sqrt(aa * bb)  # one root of the product: exactly 1 for equal arrays
    return math.copysign(1.0, cosine) if abs(cosine) > 1 else cosine  # rounding; a NaN stays


def _difference(a: F32, b: F32, index: int, shape: tuple[int, ...] | None) -> Difference:
    coordinate = None if shape is None else tuple(int(part) for part in np.unravel_index(index, shape))
    x, y = a[index : index + 1], b[index : index + 1]
    bits = int(x.view(np.uint32)[0]), int(y.view(np.uint32)[0])
    with np.errstate(all="ignore"):
        left, right = float(x[0]), float(y[0])
    return Difference(index, coordinate, left, right, *bits, left - right)
