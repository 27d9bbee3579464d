"""The fast path: compiled kernels over the quantised blocks as they lie in the memory-mapped file.

Same stages and same tap as the reference path. A step is a method over the arrays of `Buffers`, the arrays that are
tapped are those that the next step reads, and tracing changes nothing but what is also written down: the scores, the
softmax and SiLU, which otherwise never leave a kernel.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine import kernels
from engine.errors import EngineError
from engine.model import Layer, Model, Weight
from engine.numerics import rope_tables
from engine.reference import Tap
from engine.variants import chosen

F32 = NDArray[np.float32]

FLOATS = ("F32", "F16", "BF16")
CHUNK = 256
"""Tokens of a prompt that are computed at a time, unless they are traced: memory stays small, and bits the same."""


class FastPath:
    """Forward passes with a cache of keys and values of fixed capacity, in float32."""

    name = "fast"

    def __init__(self, model: Model, *, capacity: int, threads: int | None = None) -> None:
        """A cache for `capacity` tokens; threads None: one per core that this process may use."""
        c = model.config
        available = int(numba.config.NUMBA_NUM_THREADS)
        if threads is None:
            threads = min(available, len(os.sched_getaffinity(0)))
        if not 1 <= threads <= available:
            raise EngineError(
                f"{threads} threads asked for", where="--threads", hint=f"1 to {available} are possible here"
            )
        self.model, self.threads, self.capacity, self.position = model, threads, capacity, 0
        self.variant = chosen()
        width = _up(c.head_dim)
        try:
            self.keys = np.zeros((c.n_layers, c.kv_heads, capacity, width), np.float32)
            self.values = np.zeros_like(self.keys)
            self.cosine, self.sine = rope_tables(capacity, c.rope_base, c.rope_dim, c.rope_scale, model.rope_factors)
        except MemoryError:
            raise EngineError(
                f"there is no memory for a cache of {capacity} tokens",
                where="--max-tokens",
                hint="ask for fewer tokens",
            ) from None
        except ValueError as error:  # of numerics.cos_sin: constants that no real model has
            raise EngineError(
                f"rotary positions up to {capacity - 1} cannot be computed: {error}",
                where=str(model.path),
                hint="its RoPE scaling factor or rope_freqs.weight is too small: obtain the model again",
            ) from error
        self.layers = [Steps(layer) for layer in model.layers]
        self.final_norm, self.output = _padded(model.final_norm), Product(model.output)
        self.settings = np.array([c.hidden, c.rms_eps], np.float32)
        self.scale = np.array([1.0 / math.sqrt(c.head_dim)], np.float32)
        self.settings_address, self.scale_address = self.settings.ctypes.data, self.scale.ctypes.data
        self.keys_addresses = [layer.ctypes.data for layer in self.keys]
        self.values_addresses = [layer.ctypes.data for layer in self.values]
        self._buffers: dict[int, Buffers] = {}

    @property
    def threading(self) -> str:
        """The threading layer that serves, once a kernel has run: "omp", or a slower one where OpenMP is missing."""
        return str(numba.threading_layer())

    def forward(self, tokens: Sequence[int], tap: Tap | None = None, chunk: int | None = None) -> F32:
        """Logits (vocab,) float32 of the last of `tokens`, which continue what the cache holds.

        chunk  tokens that are computed at a time, and for which each stage is tapped once; None: all of them where
               they are traced, CHUNK where not
        """
        past, T = self.position, len(tokens)
        if past + T > self.capacity:
            raise ValueError(f"{past} + {T} tokens do not fit a cache of {self.capacity}")
        numba.set_num_threads(self.threads)
        size = chunk or (T if tap else CHUNK)
        for start in range(0, T, size):
            buffers = self._through(tokens[start : start + size], tap)
        logits = self.logits(buffers)
        if tap:
            tap("lm_head", None, logits)
        return logits

    def _through(self, tokens: Sequence[int], tap: Tap | None) -> "Buffers":
        """The tokens through all layers and the final norm."""
        c, b = self.model.config, self.buffers(len(tokens))
        T = len(tokens)

        def tapped(stage: str, layer: int | None, array: F32, columns: int = 0) -> None:
            if tap is not None:
                tap(stage, layer, np.ascontiguousarray(array[:, :columns] if columns else array))

        self.embed(tokens, b)
        tapped("embedding", 0, b.x, c.hidden)
        for index, layer in enumerate(self.layers):
            self.normalise(b, b.delta if index else None, layer.attn_norm, b.attn_normed)
            if index:
                tapped("post_ffn_residual", index - 1, b.x, c.hidden)
            tapped("attn_norm", index, b.attn_normed.x, c.hidden)
            self.project(layer.qkv, b.attn_normed, b.qkv)
            tapped("qkv_matmul", index, b.qkv)
            if layer.bias is not None:
                b.qkv += layer.bias
            tapped("qkv_bias", index, b.qkv)
            self.rotate(b, index)
            if tap is not None:  # no views are made for nobody
                tapped("q_post_rope", index, b.q[:, :, : c.head_dim].reshape(T, -1))
                tapped("k_post_rope", index, b.k[:, :, : c.head_dim].reshape(T, -1))
            scores = np.empty((2, T, c.heads, self.position + T), np.float32) if tap else None
            self.attend(b, index, scores)
            if scores is not None:
                tapped("attn_scores", index, scores[0])
                tapped("attn_softmax", index, scores[1])
            tapped("attention", index, b.mixed.x, c.q_width)
            self.project(layer.attn_out, b.mixed, b.delta)
            tapped("attn_out", index, b.delta, c.hidden)
            self.normalise(b, b.delta, layer.ffn_norm, b.ffn_normed)
            tapped("post_attn_residual", index, b.x, c.hidden)
            tapped("ffn_norm", index, b.ffn_normed.x, c.hidden)
            self.project(layer.gate_up, b.ffn_normed, b.gate_up)
            if tap is not None:
                tapped("ffn_gate", index, b.gate_up[:, : c.ffn])
                tapped("ffn_up", index, b.gate_up[:, b.activated.x.shape[1] :], c.ffn)
            silu = np.empty_like(b.activated.x) if tap else None
            self.activate(b, silu)
            if silu is not None:
                tapped("ffn_silu", index, silu, c.ffn)
            tapped("ffn_swigl", index, b.activated.x, c.ffn)
            self.project(layer.down, b.activated, b.delta)
            tapped("ffn_out", index, b.delta, c.hidden)
        self.normalise(b, b.delta, self.final_norm, b.final)
        tapped("post_ffn_residual", c.n_layers - 1, b.x, c.hidden)
        tapped("final_norm", None, b.final.x, c.hidden)
        self.position += T
        return b

    # ------------------------------------------------------------ steps

    def embed(self, tokens: Sequence[int], b: "Buffers") -> None:
        """x = the rows of the embedding matrix."""
        c, embedding = self.model.config, self.model.embedding
        rows = embedding.raw[np.asarray(tokens)]
        b.x[:, : c.hidden] = Weight(embedding.name, rows, embedding.format, len(tokens), c.hidden).dequantised()

    def normalise(self, b: "Buffers", delta: F32 | None, gain: "Placed", into: "Rows") -> None:
        """x += delta; into = the norm of x, for the next product."""
        address = 0 if delta is None else b.delta_address if delta is b.delta else delta.ctypes.data
        kernels.add_norm(b.x_address, address, gain.address, into.pitch, len(b.x), self.settings_address, into.address)
        into.quantise()

    def project(self, product: "Product", rows: "Rows", out: F32) -> None:
        """out = rows times the weights of a product."""
        kernels.products(product.jobs, rows.addresses, rows.pitch, out)

    def rotate(self, b: "Buffers", layer: int) -> None:
        """q and k = queries and keys after rotary positions; keys and values into the cache."""
        c, past = self.model.config, self.position
        here = slice(past, past + len(b.x))
        kernels.rotate(
            b.qkv, c.heads, c.kv_heads, c.head_dim, b.q, b.k, self.keys[layer], self.values[layer], past,
            self.cosine[here], self.sine[here], c.pairing == "adjacent",
        )  # fmt: skip

    def attend(self, b: "Buffers", layer: int, scores: F32 | None) -> None:
        """mixed = attention of q over the cache; scores (2, T, heads, S): scores and softmax, if they are wanted."""
        c = self.model.config
        T, width = len(b.x), b.q.shape[2]
        wanted = (0, 0) if scores is None else (scores[0].ctypes.data, scores[1].ctypes.data)
        out = b.mixed.address if width == c.head_dim else b.wide_address
        kernels.attend(
            b.q_address, self.keys_addresses[layer], self.values_addresses[layer], c.heads, c.heads // c.kv_heads,
            self.position, T, width // kernels.LANES, self.capacity, self.scale_address, *wanted, out,
        )  # fmt: skip
        if width != c.head_dim:
            b.mixed.x[:, : c.q_width] = b.wide[:, :, : c.head_dim].reshape(T, -1)
        b.mixed.quantise()

    def activate(self, b: "Buffers", silu: F32 | None) -> None:
        """activated = silu(gate) * up; silu as well, if it is wanted."""
        width = b.activated.pitch
        gate = b.gate_up_address
        kernels.swiglu(
            gate, gate + width, 2 * width, width, len(b.x), 0 if silu is None else silu.ctypes.data, b.activated.address
        )
        b.activated.quantise()

    def logits(self, b: "Buffers") -> F32:
        """(vocab,) float32: the output matrix times the last row of the final norm."""
        b.last.x[:] = b.final.x[-1:]
        b.last.quantise()
        out = np.empty((1, self.model.config.vocab), np.float32)
        self.project(self.output, b.last, out)
        last: F32 = out[0]
        return last

    def buffers(self, T: int) -> "Buffers":
        """Those for T tokens; of all but single tokens, the last are kept."""
        if T not in self._buffers:
            self._buffers = {count: kept for count, kept in self._buffers.items() if count == 1 or T == 1}
            self._buffers[T] = Buffers(self, T)
        return self._buffers[T]


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
        self.attn_norm, self.ffn_norm = _padded(layer.attn_norm), _padded(layer.ffn_norm)
        self.qkv, self.bias = Product(layer.q, layer.k, layer.v, rests=[layer.v]), layer.qkv_bias
        self.attn_out = Product(layer.attn_out)
        self.gate_up = Product(layer.gate, layer.up, columns_each=_up(layer.gate.rows))
        self.down = Product(layer.down)


class Rows:
    """Activations that a product reads: x (T, columns, continued with zeros) float32, and the same as integers.

    rest  of what rounding left of them, where a product wants that, too
    """

    def __init__(self, T: int, columns: int, kinds: int, *, rests: bool = False) -> None:
        tokens = int(kernels.padded(T))
        few, many = (columns // 32 if kinds & kernels.BY_32 else 0), (columns // 256 if kinds & kernels.BY_256 else 0)
        self.T, self.columns, self.kinds = T, columns, kinds
        self.x = np.zeros((T, _up(columns)), np.float32)
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

    def __init__(self, path: FastPath, T: int) -> None:
        c, width = path.model.config, path.keys.shape[3]

        def rows(columns: int, *products: Product, count: int = T) -> Rows:
            kinds = 0
            for product in products:
                kinds |= product.kinds
            return Rows(count, columns, kinds, rests=any(product.rests for product in products))

        layers = path.layers
        self.x, self.delta = (np.zeros((T, _up(c.hidden)), np.float32) for _ in range(2))
        self.x_address, self.delta_address = self.x.ctypes.data, self.delta.ctypes.data
        self.attn_normed = rows(c.hidden, *(layer.qkv for layer in layers))
        self.ffn_normed = rows(c.hidden, *(layer.gate_up for layer in layers))
        self.qkv = np.zeros((T, c.q_width + 2 * c.kv_width), np.float32)
        self.q, self.k = (np.zeros((T, heads, width), np.float32) for heads in (c.heads, c.kv_heads))
        self.wide = np.zeros((T, c.heads, width if width != c.head_dim else 0), np.float32)
        self.q_address, self.wide_address = self.q.ctypes.data, self.wide.ctypes.data
        self.mixed = rows(c.q_width, *(layer.attn_out for layer in layers))
        self.gate_up = np.zeros((T, 2 * _up(c.ffn)), np.float32)
        self.gate_up_address = self.gate_up.ctypes.data
        self.activated = rows(c.ffn, *(layer.down for layer in layers))
        self.final = rows(c.hidden)
        self.last = rows(c.hidden, path.output, count=1)


def _up(count: int) -> int:
    """The next multiple of the lanes of a vector."""
    return (count + kernels.LANES - 1) // kernels.LANES * kernels.LANES


class Placed(np.ndarray[Any, np.dtype[np.float32]]):
    """A vector that keeps its address: numpy takes microseconds to tell it, as long as a small kernel runs."""

    address: int


def _padded(values: F32) -> Placed:
    """The values, continued with zeros to whole vectors."""
    result = np.zeros(_up(len(values)), np.float32)
    result[: len(values)] = values
    placed = result.view(Placed)
    placed.address = result.ctypes.data
    return placed
