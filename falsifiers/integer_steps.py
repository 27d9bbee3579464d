"""The steps between the products of a forward pass in numpy and no numba, in the order that docs/order.md lays down."""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falsifiers.integer_model import F32, dots, fma, lanes_sum, unpack

ONE = np.float32(1)


def exp(x: F32) -> F32:
    """e^x of float32, any shape."""

    def constant(value: float) -> F32:
        return np.full_like(x, value)

    with np.errstate(over="ignore", invalid="ignore"):
        n = fma(x, constant(1.44269504), constant(12582912.0)) - np.float32(12582912.0)
        r = fma(n, constant(-0.693145752), x)
        r = fma(n, constant(-1.42860677e-06), r)
        p = constant(1.98412698e-04)
        for c in (1.38888889e-03, 8.33333333e-03, 4.16666667e-02, 1.66666667e-01, 0.5, 1.0, 1.0):
            p = fma(p, r, constant(c))
        below, above = x < np.float32(-87.33654), ~(x <= np.float32(88.72283))
        power = np.where(below | above, 0, n).astype(np.int32)
        for part in (power // 2, power - power // 2):
            p = p * np.ldexp(ONE, part)
        p = np.where(above, x + np.float32(np.inf), p)
    return np.where(below, np.float32(0), p).astype(np.float32)


def norm(x: F32, gain: F32, eps: float) -> F32:
    """Each row of x (T, D) over its root mean square, times gain (D,)."""
    mean = dots(x, x) / np.float32(x.shape[1])
    scale: F32 = ONE / np.sqrt(mean + np.float32(eps))
    return x * scale[:, None] * gain


def rope_tables(positions: int, base: float, rope_dim: int, scale: float, factors: Any) -> tuple[F32, F32]:
    """Cosines and sines, each (positions, rope_dim / 2) float32."""
    with localcontext(prec=50):
        frequencies = np.array([float(Decimal(base) ** (Decimal(-2 * i) / rope_dim)) for i in range(rope_dim // 2)])
    if factors is not None:
        frequencies = frequencies / factors.astype(np.float64)
    angle = np.arange(positions)[:, None] / scale * frequencies
    k = np.rint(angle * 0.6366197723675814)
    r = angle - k * 1.57079632673412561417e00 - k * 6.07710050630396597660e-11 - k * 2.02226624879595063154e-21
    cosine, sine = np.ones_like(r), np.ones_like(r)
    for n in range(9, 0, -1):
        cosine = 1.0 - r * r * cosine / (2 * n * (2 * n - 1))
        sine = 1.0 - r * r * sine / (2 * n * (2 * n + 1))
    sine = r * sine
    quarter = k.astype(np.int64) % 4
    turned = np.choose(quarter, (cosine, -sine, -cosine, sine)), np.choose(quarter, (sine, cosine, -sine, -cosine))
    return turned[0].astype(np.float32), turned[1].astype(np.float32)


def rotate(x: F32, cosine: F32, sine: F32, *, adjacent: bool) -> F32:
    """Rotary positions on x (T, heads, head_dim), with cosine and sine (T, half); entries past 2 half stay."""
    half = cosine.shape[1]
    i = np.arange(half)
    first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + half)
    a, b, c, s = (np.broadcast_to(part, (*x.shape[:2], half)) for part in (
        x[..., first], x[..., second], cosine[:, None, :], sine[:, None, :]
    ))  # fmt: skip
    turned = x.copy()
    turned[..., first], turned[..., second] = fma(a, c, -(b * s)), fma(a, s, b * c)
    return turned


def kept(x: F32, kv_cache: str) -> F32:
    """Keys or values as they are read from a cache in float32 or float16."""
    with np.errstate(over="ignore"):
        return x.astype(kv_cache).astype(np.float32)


def attend(q: F32, keys: F32, values: F32, past: int) -> tuple[F32, F32, F32]:
    """Attention of q (T, heads, d) over keys and values (S, kv_heads, d): mixed (T, heads, d), scores and weights.

    Scores and weights (T, heads, S) are -inf and 0 where a key lies ahead.
    """
    (T, heads, d), S = q.shape, len(keys)
    factor = np.float32(1.0 / np.sqrt(float(d)))
    scores, weights = np.full((T, heads, S), -np.inf, np.float32), np.zeros((T, heads, S), np.float32)
    mixed = np.zeros(q.shape, np.float32)
    group = heads // keys.shape[1]
    keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)  # (S, heads, d)
    for t in range(T):
        seen = past + t + 1
        own = dots(q[t], keys[:seen]).T * factor
        raised = exp(own - own.max(axis=1, keepdims=True))
        lanes = np.zeros((16, heads), np.float32)
        for s in range(seen):
            lanes[s % 16] += raised[:, s]
        scores[t, :, :seen], weights[t, :, :seen] = own, raised / lanes_sum(lanes)[:, None]
        for s in range(seen):
            mixed[t] = fma(np.broadcast_to(weights[t, :, s, None], (heads, d)), values[s], mixed[t])
    return mixed, scores, weights


def silu(gate: F32) -> F32:
    """gate / (1 + e^-gate)."""
    return gate / (ONE + exp(-gate))


def widened(name: str, raw: NDArray[np.uint8]) -> F32:
    """The weights (rows, columns) of rows as they lie in the file, each operation rounded to float32."""
    if name == "F32":
        return raw.view("<f4").astype(np.float32)
    if name == "F16":
        return raw.view("<f2").astype(np.float32)
    if name == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    sizes = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
    q, scales, minima, d, dmin = unpack(name, raw.reshape(len(raw), -1, sizes[name]))
    scale, least = d[..., None] * scales.astype(np.float32), dmin[..., None] * minima.astype(np.float32)
    weights: F32 = scale[..., None] * q.astype(np.float32) - least[..., None]
    return weights.reshape(len(raw), -1)
