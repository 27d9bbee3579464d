"""Elementary functions and tables whose bits do not depend on the C library or on the width of a vector.

Only additions, multiplications and divisions of float64 are used, which IEEE 754 defines to the last bit, so that
sampling and rotary tables are the same on every machine. Accuracy: exp 2 units in the last place of float64, cosine and
sine 2^-52, far below what the float32 results that are made of them can show.
"""

from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# pi/2 as a sum of three parts of at most 33 bits, so that k * part is exact for |k| < 2^20 (Cody and Waite, 1980)
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # ln 2 in two parts, the first of 32 bits
_LARGEST_ANGLE = 2.0**20


def exp(x: F64) -> F64:
    """e^x for x <= 0 (float64, any shape); -inf gives 0, a NaN stays a NaN, below -708 the result is 0."""
    tiny = ~(x >= -708.0) & ~np.isnan(x)
    safe = np.where(tiny, 0.0, x)
    n = np.rint(safe * 1.4426950408889634)
    r = (safe - n * _LN2[0]) - n * _LN2[1]
    total = np.ones_like(r)
    for k in range(14, 0, -1):  # |r| <= 0.35: the next term is below 2^-60; from the smallest, whose errors then shrink
        total = 1.0 + r * total / k
    power = np.where(np.isnan(n), 0.0, n).astype(np.int64)
    return np.where(tiny, 0.0, np.ldexp(total, power))


def cos_sin(angle: F64) -> tuple[F64, F64]:
    """Cosine and sine of angles in radians, 0 <= angle < 2^20 (float64, any shape); raises ValueError beyond."""
    if not np.all((angle >= 0) & (angle < _LARGEST_ANGLE)):
        raise ValueError("an angle outside 0 <= angle < 2^20 would lose its fraction")
    k = np.rint(angle * 0.6366197723675814)
    r = ((angle - k * _HALF_PI[0]) - k * _HALF_PI[1]) - k * _HALF_PI[2]
    square = r * r
    even, odd = np.ones_like(r), np.ones_like(r)
    for n in range(9, 0, -1):  # |r| <= pi/4: the next term is below 2^-60; from the smallest, as above
        even = 1.0 - square * even / ((2 * n - 1) * (2 * n))
        odd = 1.0 - square * odd / ((2 * n) * (2 * n + 1))
    cosine, sine = even, r * odd
    quadrant = k.astype(np.int64) & 3
    swap = (quadrant & 1).astype(bool)
    c, s = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    return np.where((quadrant == 1) | (quadrant == 2), -c, c), np.where(quadrant >= 2, -s, s)


def rope_frequencies(base: float, rope_dim: int) -> F64:
    """(rope_dim / 2,) radians per position: base^(-2 i / rope_dim), correctly rounded (Su et al. 2021, 3.2.2)."""
    with localcontext(prec=40):
        logarithm = Decimal(base).ln()
        return np.array([float((logarithm * (-2 * i) / rope_dim).exp()) for i in range(rope_dim // 2)])


def llama3_factors(
    base: float, rope_dim: int, factor: float, low: float, high: float, context: float
) -> NDArray[np.float32]:
    """(rope_dim / 2,) float32, what each rotary frequency is divided by.

    Llama 3's rule (`apply_scaling` of meta-llama/llama-models, and Transformers' modeling_rope_utils): waves that are
    short beside the context of the first training (under context / high tokens) stay, long ones (over context / low)
    are stretched by a factor, and those between by a mean of the two.
    """
    wavelengths = 2 * np.pi / rope_frequencies(base, rope_dim)
    kept = np.clip((context / wavelengths - low) / (high - low), 0, 1)
    factors: NDArray[np.float32] = (1 / ((1 - kept) / factor + kept)).astype(np.float32)
    return factors


def rope_tables(
    positions: int, base: float, rope_dim: int, scale: float, factors: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, each (positions, rope_dim / 2) float32, for positions 0 .. positions - 1."""
    frequencies = rope_frequencies(base, rope_dim)
    if factors is not None:
        frequencies = frequencies / factors.astype(np.float64)
    cosine, sine = cos_sin(np.arange(positions)[:, None] / scale * frequencies[None, :])
    return cosine.astype(np.float32), sine.astype(np.float32)
