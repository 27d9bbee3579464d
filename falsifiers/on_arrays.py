"""The compiled kernels on numpy arrays: what is asked of one kernel, without a model around it; and what they touch."""

import ctypes
from typing import Any

import numpy as np

from engine import kernels
from engine.fast import Product, Rows
from engine.model import Weight

LANES = kernels.LANES


def matmul(x: Any, weight: Weight, *, rests: bool = False) -> Any:
    """x (T, columns) float32 times the transposed weight (rows, columns): (T, rows) float32.

    rests  with what rounding left of x, too
    """
    product = Product(weight, rests=[weight] if rests else [])
    rows = filled(x, product.kinds, rests=rests)
    out = np.full((len(x), weight.rows), np.nan, np.float32)
    kernels.products(product.jobs, rows.addresses, rows.pitch, out)
    return out


def filled(x: Any, kinds: int, *, rests: bool = False) -> Rows:
    """x (T, columns) as the rows that a product reads, quantised to blocks of 32, of 256 or both; with their rests."""
    rows = Rows(len(x), x.shape[1], kinds, rests=rests)
    rows.x[:, : x.shape[1]] = x
    rows.quantise()
    return rows


def quantised(x: Any, block: int) -> tuple[Any, Any, dict[int, Any]]:
    """Integers (T, D) int8 and scales (T, D / block) of x (T, D), and the sums of the integers by sub-block length."""
    T = len(x)
    rows = filled(x, kernels.BY_32 if block == 32 else kernels.BY_256)
    q, scale = (rows.q32, rows.scale32) if block == 32 else (rows.q256, rows.scale256)
    sums = {32: rows.sums32[..., None]} if block == 32 else {16: rows.sums16, 32: rows.sums256}
    tokens_first = {size: total[:, :T].swapaxes(0, 1).reshape(T, -1) for size, total in sums.items()}
    return q[:, :T].swapaxes(0, 1).reshape(T, -1), np.ascontiguousarray(scale[:, :T].T), tokens_first


def norm(x: Any, gain: Any, eps: float) -> Any:
    """Each row of x (T, D) over its root mean square, times gain (D,)."""
    T, D = x.shape
    x, gain = _padded(x), _padded(gain)
    out, settings = np.empty_like(x), np.array([D, eps], np.float32)
    kernels.add_norm(address(x), 0, address(gain), x.strides[0], T, address(settings), address(out))
    return out[:, :D]


def attend(q: Any, keys: Any, values: Any, past: int, scale: float) -> tuple[Any, Any, Any]:
    """Attention of q (T, heads, d) over keys and values (kv_heads, capacity, d): mixed, scores and weights."""
    T, heads, d = q.shape
    q, keys, values, factor = _padded(q), _padded(keys), _padded(values), np.array([scale], np.float32)
    out, scores = np.empty_like(q), np.empty((2, T, heads, past + T), np.float32)
    kernels.attend(
        address(q), address(keys), address(values), heads, heads // len(keys), past, T, q.shape[2] // LANES,
        keys.shape[1], address(factor), address(scores[0]), address(scores[1]), address(out),
    )  # fmt: skip
    return out[..., :d], scores[0], scores[1]


def exp(x: Any) -> Any:
    """e^x of a vector of float32."""
    wide = _padded(x)
    out = np.empty_like(wide)
    kernels.exponentials(address(wide), wide.size // LANES, address(out))
    return out[: x.size]


def address(array: Any) -> int:
    return int(array.ctypes.data)


def memory(place: int, shape: tuple[int, ...], kind: Any) -> Any:
    """The array at an address that a kernel was given."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.ndarray(shape, kind, (ctypes.c_char * size).from_address(int(place)))


def _padded(array: Any) -> Any:
    """The array with its last axis continued by zeros to whole vectors."""
    extra = -array.shape[-1] % LANES
    return np.ascontiguousarray(np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, extra)]).astype(np.float32))
