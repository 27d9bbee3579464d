"""The fast path: compiled kernels over the quantised blocks as they lie in the memory-mapped file.

Same stages and same tap as the reference path. A step is a method over the arrays of `Buffers`, the arrays that are
tapped are those that the next step reads, and tracing changes nothing but what is also written down: the scores, the
softmax and SiLU, which otherwise never leave a kernel.

What a tap returns (`engine.reference.Tap`) is written where the next step reads. Where a step has gone on already,
inside one kernel, `weigh`, `mix`, `multiply` and `keep` do the rest of it again, by that kernel.
"""

import math
import os
from collections.abc import Sequence

import numba
import numpy as np

from engine import kernels
from engine.buffers import F32, Buffers, Placed, Product, Rows, Steps, cache, padded
from engine.errors import EngineError
from engine.model import Model, Weight
from engine.numerics import rope_tables
from engine.reference import Tap
from engine.variants import KV_CACHES, chosen

CHUNK = 256
"""Tokens of a prompt that are computed at a time, unless they are traced: memory stays small, and bits the same."""


class FastPath:
    """Forward passes with a cache of keys and values of fixed capacity, in float32 or float16."""

    name = "fast"

    def __init__(
        self, model: Model, *, capacity: int, threads: int | None = None, kv_cache: str = KV_CACHES[0]
    ) -> None:
        """A cache for `capacity` tokens, of KV_CACHES; threads None: one per core that this process may use."""
        c = model.config
        available = int(numba.config.NUMBA_NUM_THREADS)
        if threads is None:
            threads = min(available, len(os.sched_getaffinity(0)))
        if not 1 <= threads <= available:
            raise EngineError(
                f"{threads} threads asked for", where="--threads", hint=f"1 to {available} are possible here"
            )
        self.model, self.threads, self.capacity, self.position = model, threads, capacity, 0
        self.variant, self.kv_cache = chosen(), kv_cache
        try:
            self.keys, self.values = cache(kv_cache, c.n_layers, c.kv_heads, capacity, c.head_dim)
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
        self.final_norm, self.output = padded(model.final_norm), Product(model.output)
        self.settings = np.array([c.hidden, c.rms_eps], np.float32)
        self.scale = np.array([1.0 / math.sqrt(c.head_dim)], np.float32)
        self.settings_address, self.scale_address = self.settings.ctypes.data, self.scale.ctypes.data
        self.keys_addresses = [layer.ctypes.data for layer in self.keys]
        self.values_addresses = [layer.ctypes.data for layer in self.values]
        self._keep, self._score, self._mix = map(kernels.address, kernels.kernels_of_cache(kv_cache))
        self._buffers: dict[int, Buffers] = {}

    @property
    def threading(self) -> str:
        """The threading layer that serves, once a kernel has run: "omp", or a slower one where OpenMP is missing."""
        return str(numba.threading_layer())

    def forward(self, tokens: Sequence[int], tap: Tap | None = None, chunk: int | None = None) -> F32:
        """Logits (vocab,) float32 of the last of `tokens`, which continue what the cache holds.

        chunk  tokens that are computed at a time, and for which each stage is tapped once; None: all of them where
               they are traced, CHUNK where not
        tap    may return an array for each of these calls: what follows, here and from the cache, follows from that
        """
        past, T = self.position, len(tokens)
        if past + T > self.capacity:
            raise ValueError(f"{past} + {T} tokens do not fit a cache of {self.capacity}")
        numba.set_num_threads(self.threads)
        size = chunk or (T if tap else CHUNK)
        for start in range(0, T, size):
            buffers = self._through(tokens[start : start + size], tap)
        logits = self.logits(buffers)
        other = tap("lm_head", None, logits) if tap else None
        if other is not None:
            logits[:] = np.reshape(other, logits.shape)
        return logits

    def _through(self, tokens: Sequence[int], tap: Tap | None) -> Buffers:
        """The tokens through all layers and the final norm."""
        c, b = self.model.config, self.buffers(len(tokens))
        T = len(tokens)

        def tapped(stage: str, layer: int | None, array: F32, columns: int = 0, *, flat: bool = False) -> bool:
            """Whether the tap replaced what of `array` counts, its first columns; flat: it is shown (T, the rest)."""
            if tap is None:
                return False
            part = array[..., :columns] if columns else array
            other = tap(stage, layer, np.ascontiguousarray(part).reshape((T, -1) if flat else part.shape))
            if other is None:
                return False
            part[:] = np.reshape(other, part.shape)
            return True

        self.embed(tokens, b)
        tapped("embedding", 0, b.x, c.hidden)
        for index, layer in enumerate(self.layers):
            self.normalise(b, b.delta if index else None, layer.attn_norm, b.attn_normed)
            if index and tapped("post_ffn_residual", index - 1, b.x, c.hidden):
                self.normalise(b, None, layer.attn_norm, b.attn_normed)
            if tapped("attn_norm", index, b.attn_normed.x, c.hidden):
                b.attn_normed.quantise()
            self.project(layer.qkv, b.attn_normed, b.qkv)
            tapped("qkv_matmul", index, b.qkv)
            if layer.bias is not None:
                b.qkv += layer.bias
            tapped("qkv_bias", index, b.qkv)
            self.rotate(b, index)
            tapped("q_post_rope", index, b.q, c.head_dim, flat=True)
            if tapped("k_post_rope", index, b.k, c.head_dim, flat=True):
                self.keep(b, index)
            scores = np.empty((2, T, c.heads, self.position + T), np.float32) if tap else None
            self.attend(b, index, scores)
            if scores is not None:
                if tapped("attn_scores", index, scores[0]):
                    self.weigh(b, index, scores)
                if tapped("attn_softmax", index, scores[1]):
                    self.mix(b, index, scores)
            if tapped("attention", index, b.mixed.x, c.q_width):
                b.mixed.quantise()
            self.project(layer.attn_out, b.mixed, b.delta)
            tapped("attn_out", index, b.delta, c.hidden)
            self.normalise(b, b.delta, layer.ffn_norm, b.ffn_normed)
            if tapped("post_attn_residual", index, b.x, c.hidden):
                self.normalise(b, None, layer.ffn_norm, b.ffn_normed)
            if tapped("ffn_norm", index, b.ffn_normed.x, c.hidden):
                b.ffn_normed.quantise()
            self.project(layer.gate_up, b.ffn_normed, b.gate_up)
            if tap is not None:  # no views are made for nobody
                tapped("ffn_gate", index, b.gate_up, c.ffn)
                tapped("ffn_up", index, b.gate_up[:, b.activated.x.shape[1] :], c.ffn)
            silu = np.empty_like(b.activated.x) if tap else None
            self.activate(b, silu)
            if silu is not None and tapped("ffn_silu", index, silu, c.ffn):
                self.multiply(b, silu)
            if tapped("ffn_swigl", index, b.activated.x, c.ffn):
                b.activated.quantise()
            self.project(layer.down, b.activated, b.delta)
            tapped("ffn_out", index, b.delta, c.hidden)
        self.normalise(b, b.delta, self.final_norm, b.final)
        if tapped("post_ffn_residual", c.n_layers - 1, b.x, c.hidden):
            self.normalise(b, None, self.final_norm, b.final)
        tapped("final_norm", None, b.final.x, c.hidden)
        self.position += T
        return b

    # ------------------------------------------------------------ steps

    def embed(self, tokens: Sequence[int], b: Buffers) -> None:
        """x = the rows of the embedding matrix."""
        c, embedding = self.model.config, self.model.embedding
        rows = embedding.raw[np.asarray(tokens)]
        b.x[:, : c.hidden] = Weight(embedding.name, rows, embedding.format, len(tokens), c.hidden).dequantised()

    def normalise(self, b: Buffers, delta: F32 | None, gain: Placed, into: Rows) -> None:
        """x += delta; into = the norm of x, for the next product."""
        address = 0 if delta is None else b.delta_address if delta is b.delta else delta.ctypes.data
        kernels.add_norm(b.x_address, address, gain.address, into.pitch, len(b.x), self.settings_address, into.address)
        into.quantise()

    def project(self, product: Product, rows: Rows, out: F32) -> None:
        """out = rows times the weights of a product."""
        kernels.products(product.jobs, rows.addresses, rows.pitch, out)

    def rotate(self, b: Buffers, layer: int) -> None:
        """q and k = queries and keys after rotary positions; keys and values, rounded to its kind, into the cache."""
        here = slice(self.position, self.position + len(b.x))
        self._rotated(b, layer, b.qkv, self.cosine[here], self.sine[here])

    def keep(self, b: Buffers, layer: int) -> None:
        """The keys k and the values of qkv into the cache: what is left of `rotate` where k is given.

        A rotation of no pair copies queries and keys as they are.
        """
        c, T = self.model.config, len(b.x)
        turned = (array[:, :, : c.head_dim].reshape(T, -1) for array in (b.q, b.k))
        qkv = np.concatenate([*turned, b.qkv[:, c.q_width + c.kv_width :]], axis=1)
        self._rotated(b, layer, qkv, self.cosine[:T, :0], self.sine[:T, :0])

    def _rotated(self, b: Buffers, layer: int, qkv: F32, cosine: F32, sine: F32) -> None:
        c = self.model.config
        kernels.rotate(
            qkv, c.heads, c.kv_heads, c.head_dim, b.q, b.k, self._keep, self.keys_addresses[layer],
            self.values_addresses[layer], self.capacity, self.keys.itemsize, self.position, cosine, sine,
            c.pairing == "adjacent",
        )  # fmt: skip

    def attend(self, b: Buffers, layer: int, scores: F32 | None) -> None:
        """mixed = attention of q over the cache; scores (2, T, heads, S): scores and softmax, if they are wanted."""
        wanted = (0, 0) if scores is None else (scores[0].ctypes.data, scores[1].ctypes.data)
        self._attended(b, layer, b.q_address, *wanted)

    def weigh(self, b: Buffers, layer: int, scores: F32) -> None:
        """scores[1] = the softmax of scores[0], mixed = the values so weighed: the rest of `attend` from scores."""
        self._attended(b, layer, 0, scores[0].ctypes.data, scores[1].ctypes.data)

    def mix(self, b: Buffers, layer: int, scores: F32) -> None:
        """mixed = the values weighed by scores[1]: the rest of `attend` from a softmax."""
        self._attended(b, layer, 0, 0, scores[1].ctypes.data)

    def _attended(self, b: Buffers, layer: int, q: int, scores: int, weights: int) -> None:
        c = self.model.config
        T, width = len(b.x), b.q.shape[2]
        out = b.mixed.address if width == c.head_dim else b.wide_address
        kernels.attend(
            self._score, self._mix, q, self.keys_addresses[layer], self.values_addresses[layer], c.heads,
            c.heads // c.kv_heads, self.position, T, width // kernels.LANES, self.capacity, self.keys.itemsize,
            self.scale_address, scores, weights, out, self.threads,
        )  # fmt: skip
        if width != c.head_dim:
            b.mixed.x[:, : c.q_width] = b.wide[:, :, : c.head_dim].reshape(T, -1)
        b.mixed.quantise()

    def activate(self, b: Buffers, silu: F32 | None) -> None:
        """activated = silu(gate) * up; silu as well, if it is wanted."""
        self._activated(b, b.gate_up_address, 0 if silu is None else silu.ctypes.data)

    def multiply(self, b: Buffers, silu: F32) -> None:
        """activated = silu * up: the rest of `activate` from silu."""
        self._activated(b, 0, silu.ctypes.data)

    def _activated(self, b: Buffers, gate: int, silu: int) -> None:
        width = b.activated.pitch
        kernels.swiglu(gate, b.gate_up_address + width, 2 * width, width, len(b.x), silu, b.activated.address)
        b.activated.quantise()

    def logits(self, b: Buffers) -> F32:
        """(vocab,) float32: the output matrix times the last row of the final norm."""
        b.last.x[:] = b.final.x[-1:]
        b.last.quantise()
        out = np.empty((1, self.model.config.vocab), np.float32)
        self.project(self.output, b.last, out)
        last: F32 = out[0]
        return last

    def buffers(self, T: int) -> Buffers:
        """Those for T tokens; of all but single tokens, the last are kept."""
        if T not in self._buffers:
            self._buffers = {count: kept for count, kept in self._buffers.items() if count == 1 or T == 1}
            self._buffers[T] = Buffers(self.model.config, self.layers, self.output, T)
        return self._buffers[T]
