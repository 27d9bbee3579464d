"""The compiled kernels on numpy arrays: what is asked of one kernel, without a model around it; and what they touch."""

import ctypes
from typing import Any

import numba
import numpy as np

from engine import kernels
from engine.buffers import Product, Rows
from engine.fast import FastPath
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
    """Attention of q (T, heads, d) over keys and values (kv_heads, capacity, d): mixed, scores and weights.

    Keys and values in float16 or float32: that is the kind of the cache.
    """
    T, heads, d = q.shape
    capacity, kind = keys.shape[1], keys.dtype
    q, blocks, planes, factor = _padded(q), in_blocks(keys), in_planes(values), np.array([scale], np.float32)
    out, scores = np.empty_like(q), np.empty((2, T, heads, past + T), np.float32)
    _, score, mix = map(kernels.address, kernels.kernels_of_cache(kind.name))
    kernels.attend(
        score, mix, address(q), address(blocks), address(planes), heads, heads // len(keys), past, T,
        q.shape[2] // LANES, capacity, kind.itemsize, address(factor), address(scores[0]), address(scores[1]),
        address(out), numba.get_num_threads(),
    )  # fmt: skip
    return out[..., :d], scores[0], scores[1]


def in_blocks(keys: Any) -> Any:
    """Keys (kv_heads, capacity, d) as a cache holds them: (kv_heads, blocks, width, 16), filled up with NaN behind."""
    heads, capacity, _ = keys.shape
    wide = np.pad(_padded(keys), [(0, 0), (0, -capacity % LANES), (0, 0)], constant_values=np.nan)
    return np.ascontiguousarray(wide.reshape(heads, -1, LANES, wide.shape[2]).swapaxes(2, 3))


def in_planes(values: Any) -> Any:
    """Values (kv_heads, capacity, d) as a cache holds them: (kv_heads, width / 16, capacity, 16)."""
    wide = _padded(values)
    return np.ascontiguousarray(wide.reshape(*wide.shape[:2], -1, LANES).swapaxes(1, 2))


def cached(path: FastPath, layer: int) -> tuple[Any, Any]:
    """Copies of a layer's keys and values, each (kv_heads, capacity, head_dim) float32."""
    d, capacity, (keys, values) = path.model.config.head_dim, path.capacity, (path.keys[layer], path.values[layer])
    keys = keys.swapaxes(2, 3).reshape(len(keys), -1, keys.shape[2])[:, :capacity, :d]
    values = values.swapaxes(1, 2).reshape(len(values), capacity, -1)[..., :d]
    return keys.astype(np.float32), values.astype(np.float32)


def key_slot(path: FastPath, layer: int, position: int) -> Any:
    """The keys of a position where they lie in the cache: (kv_heads, width), a view."""
    return path.keys[layer, :, position // LANES, :, position % LANES]


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
    return np.ascontiguousarray(np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, extra)]))
