"""The arrays of the fast path: weights as its kernels want them, the activations of some tokens, the cache."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import kernels
from engine.config import Config
from engine.model import Layer, Weight

F32 = NDArray[np.float32]

FLOATS = ("F32", "F16", "BF16")
LINE = 64
"""Bytes of a vector of 16."""


class Product:
    """Weights that meet the same activations, one matrix after the other in the output's columns."""

    def __init__(self, *weights: Weight, columns_each: int = 0, rests: Sequence[Weight] = ()) -> None:
        """columns_each: how many columns each has in the output; 0: its own.

        rests  those of the weights that meet what rounding left of the activations, too
        """
        self.weights = weights  # keeps what the addresses lead to
        self.kinds = 0
        jobs, column = [], 0
        for weight in weights:
            fmt = weight.format
            place, width = weight.raw.ctypes.data, weight.raw.shape[1]
            blocks = weight.columns // fmt.block
            finer = any(weight is one for one in rests)
            jobs.append(kernels.job(fmt.name, fmt.ggml_id, place, width, weight.rows, blocks, column, rests=finer))
            column += columns_each or weight.rows
            if fmt.name not in FLOATS:
                self.kinds |= kernels.BY_256 if fmt.block == 256 else kernels.BY_32
        self.jobs = np.array(jobs, np.int64)
        self.width, self.rests = column, bool(rests)


class Steps:
    """What one layer multiplies with, as the kernels want it."""

    def __init__(self, layer: Layer) -> None:
        self.attn_norm, self.ffn_norm = padded(layer.attn_norm), padded(layer.ffn_norm)
        self.qkv, self.bias = Product(layer.q, layer.k, layer.v, rests=[layer.v]), layer.qkv_bias
        self.attn_out = Product(layer.attn_out)
        self.gate_up = Product(layer.gate, layer.up, columns_each=up(layer.gate.rows))
        self.down = Product(layer.down)


class Rows:
    """Activations that a product reads: x (T, columns, continued with zeros) float32, and the same as integers.

    rest  of what rounding left of them, where a product wants that, too
    """

    def __init__(self, T: int, columns: int, kinds: int, *, rests: bool = False) -> None:
        tokens = int(kernels.padded(T))
        few, many = (columns // 32 if kinds & kernels.BY_32 else 0), (columns // 256 if kinds & kernels.BY_256 else 0)
        self.T, self.columns, self.kinds = T, columns, kinds
        self.x = np.zeros((T, up(columns)), np.float32)
        self.q32, self.scale32 = np.zeros((few, tokens, 32), np.int8), np.zeros((few, tokens), np.float32)
        self.sums32 = np.zeros((few, tokens), np.int32)
        self.q256, self.scale256 = np.zeros((many, tokens, 256), np.int8), np.zeros((many, tokens), np.float32)
        self.sums16, self.sums256 = np.zeros((many, tokens, 16), np.int16), np.zeros((many, tokens, 8), np.int16)
        parts = (
            self.x, self.q32, self.scale32, self.sums32, self.q256, self.scale256, self.sums16, self.sums256
        )  # fmt: skip
        self.rest = Rows(T, columns, kinds) if rests and kinds else None
        self.addresses = np.array([[part.ctypes.data for part in parts]], np.int64)
        if self.rest is not None:
            self.addresses = np.concatenate([self.addresses, self.rest.addresses])
        self.address, self.pitch = self.x.ctypes.data, self.x.strides[0]

    def quantise(self) -> None:
        """The integers of what x holds, in the blocks that the weights of the next product want."""
        if self.kinds:
            kernels.quantise(self.address, self.pitch, self.T, self.columns, self.kinds, self.addresses)


class Buffers:
    """The arrays of a forward pass of T tokens."""

    def __init__(self, c: Config, layers: Sequence[Steps], output: Product, T: int) -> None:
        width = up(c.head_dim)

        def rows(columns: int, *products: Product, count: int = T) -> Rows:
            kinds = 0
            for product in products:
                kinds |= product.kinds
            return Rows(count, columns, kinds, rests=any(product.rests for product in products))

        self.x, self.delta = (np.zeros((T, up(c.hidden)), np.float32) for _ in range(2))
        self.x_address, self.delta_address = self.x.ctypes.data, self.delta.ctypes.data
        self.attn_normed = rows(c.hidden, *(layer.qkv for layer in layers))
        self.ffn_normed = rows(c.hidden, *(layer.gate_up for layer in layers))
        self.qkv = np.zeros((T, c.q_width + 2 * c.kv_width), np.float32)
        self.q, self.k = (np.zeros((T, heads, width), np.float32) for heads in (c.heads, c.kv_heads))
        self.wide = np.zeros((T, c.heads, width if width != c.head_dim else 0), np.float32)
        self.q_address, self.wide_address = self.q.ctypes.data, self.wide.ctypes.data
        self.mixed = rows(c.q_width, *(layer.attn_out for layer in layers))
        self.gate_up = np.zeros((T, 2 * up(c.ffn)), np.float32)
        self.gate_up_address = self.gate_up.ctypes.data
        self.activated = rows(c.ffn, *(layer.down for layer in layers))
        self.final = rows(c.hidden)
        self.last = rows(c.hidden, output, count=1)


def up(count: int) -> int:
    """The next multiple of the lanes of a vector."""
    return (count + kernels.LANES - 1) // kernels.LANES * kernels.LANES


class Placed(np.ndarray[Any, np.dtype[np.float32]]):
    """A vector that keeps its address: numpy takes microseconds to tell it, as long as a small kernel runs."""

    address: int


def padded(values: F32) -> Placed:
    """The values, continued with zeros to whole vectors."""
    result = np.zeros(up(len(values)), np.float32)
    result[: len(values)] = values
    placed = result.view(Placed)
    placed.address = result.ctypes.data
    return placed


def cache(kind: str, layers: int, kv_heads: int, capacity: int, head_dim: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Keys and values of all layers, zeros of dtype `kind`; the last axes of a layer are those of `kernels.heads`."""
    width = up(head_dim)
    keys = (layers, kv_heads, up(capacity) // kernels.LANES, width, kernels.LANES)
    return _lined_up(keys, kind), _lined_up((layers, kv_heads, width // kernels.LANES, capacity, kernels.LANES), kind)


def _lined_up(shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    """Zeros that begin where a line of the processor's cache does: else each vector would lie in two of them."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    room = np.zeros(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(kind).reshape(shape)
