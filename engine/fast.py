"""The fast path: compiled kernels over the quantised blocks as they lie in the memory-mapped file.

Same stages and same tap as the reference path; the arrays that are tapped are the arrays that the next stage reads.
"""

import math
import os
from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from engine import kernels
from engine.errors import EngineError
from engine.model import Model, Weight
from engine.numerics import rope_tables
from engine.reference import Tap

F32 = NDArray[np.float32]

SUB_BLOCK = {"Q6_K": 16, "Q4_K": 32, "Q5_K": 32}
FLOATS = ("F32", "F16", "BF16")


class FastPath:
    """Forward passes with a cache of keys and values of fixed capacity, in float32."""

    name = "fast"
    variant = "generic"

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
        try:
            self.keys = np.zeros((c.n_layers, c.kv_heads, capacity, c.head_dim), np.float32)
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

    @property
    def threading(self) -> str:
        """The threading layer that serves, once a kernel has run: "omp", or a slower one where OpenMP is missing."""
        return str(numba.threading_layer())

    def forward(self, tokens: Sequence[int], tap: Tap | None = None) -> F32:
        """Logits (vocab,) float32 of the last of `tokens`, which continue what the cache holds."""
        c, model = self.model.config, self.model
        T, past = len(tokens), self.position
        if past + T > self.capacity:
            raise ValueError(f"{past} + {T} tokens do not fit a cache of {self.capacity}")
        numba.set_num_threads(self.threads)

        def tapped(stage: str, layer: int | None, array: F32) -> F32:
            if tap is not None:
                tap(stage, layer, array)
            return array

        rows = model.embedding.raw[np.asarray(tokens)]
        x = tapped("embedding", 0, Weight("embedding", rows, model.embedding.format, T, c.hidden).dequantised())
        h = np.empty_like(x)
        turn = (self.cosine[past : past + T], self.sine[past : past + T], c.pairing == "adjacent")
        scores = np.empty((T, c.heads, past + T), np.float32)
        weights = np.empty_like(scores)
        mixed = np.empty((T, c.heads, c.head_dim), np.float32)
        for index, layer in enumerate(model.layers):
            kernels.rmsnorm(h, x, layer.attn_norm, c.rms_eps)
            tapped("attn_norm", index, h)
            qkv = tapped("qkv_matmul", index, np.concatenate(matmul(h, layer.q, layer.k, layer.v), axis=1))
            if layer.qkv_bias is not None:
                kernels.add(qkv, qkv, layer.qkv_bias[None, :])
            tapped("qkv_bias", index, qkv)
            q, k, v = np.split(qkv, [c.q_width, c.q_width + c.kv_width], axis=1)
            q = np.ascontiguousarray(q).reshape(T, c.heads, c.head_dim)
            k = np.ascontiguousarray(k).reshape(T, c.kv_heads, c.head_dim)
            turned_q, turned_k = np.empty_like(q), np.empty_like(k)
            kernels.rotate(turned_q, q, *turn)
            kernels.rotate(turned_k, k, *turn)
            tapped("q_post_rope", index, turned_q.reshape(T, -1))
            tapped("k_post_rope", index, turned_k.reshape(T, -1))
            keys, values = self.keys[index], self.values[index]
            keys[:, past : past + T] = turned_k.swapaxes(0, 1)
            values[:, past : past + T] = v.reshape(T, c.kv_heads, c.head_dim).swapaxes(0, 1)
            scale = np.float32(1.0 / math.sqrt(c.head_dim))
            kernels.attend(mixed, scores, weights, turned_q, keys, values, past, scale)
            tapped("attn_scores", index, scores)
            tapped("attn_softmax", index, weights)
            flat = tapped("attention", index, mixed.reshape(T, c.q_width))
            (attn_out,) = matmul(flat, layer.attn_out)
            kernels.add(x, x, tapped("attn_out", index, attn_out))
            tapped("post_attn_residual", index, x)
            kernels.rmsnorm(h, x, layer.ffn_norm, c.rms_eps)
            tapped("ffn_norm", index, h)
            gate, up = matmul(h, layer.gate, layer.up)
            tapped("ffn_gate", index, gate)
            tapped("ffn_up", index, up)
            kernels.silu(gate, gate)
            tapped("ffn_silu", index, gate)
            kernels.multiply(gate, gate, up)
            tapped("ffn_swigl", index, gate)
            (ffn_out,) = matmul(gate, layer.down)
            kernels.add(x, x, tapped("ffn_out", index, ffn_out))
            tapped("post_ffn_residual", index, x)
        self.position = past + T
        kernels.rmsnorm(h, x, model.final_norm, c.rms_eps)
        tapped("final_norm", None, h)
        return tapped("lm_head", None, self.logits(h))

    def logits(self, normed: F32) -> F32:
        """(vocab,) float32: the output matrix times the last row of the final norm's output (T, hidden)."""
        (logits,) = matmul(normed[-1:], self.model.output)
        last: F32 = logits[0]
        return last


def matmul(x: F32, *weights: Weight) -> list[F32]:
    """x (T, columns) times each transposed weight (rows, columns): (T, rows) each.

    Weights of formats that take the same quantised activations share one quantisation of x.
    """
    quantised: dict[tuple[int, int], tuple[NDArray[np.int8], F32, NDArray[np.int32]]] = {}
    results = []
    for weight in weights:
        fmt = weight.format
        out = np.empty((x.shape[0], weight.rows), np.float32)
        if fmt.name in FLOATS:
            kernels.matmul_float(out, fmt.ggml_id, weight.raw, x)
        else:
            shape = fmt.block, SUB_BLOCK.get(fmt.name, 32)
            if shape not in quantised:
                quantised[shape] = quantise(x, *shape)
            kernels.matmul_quantised(out, fmt.ggml_id, weight.raw, fmt.block, fmt.nbytes, shape[1], *quantised[shape])
        results.append(out)
    return results


def quantise(x: F32, block: int, sub: int) -> tuple[NDArray[np.int8], F32, NDArray[np.int32]]:
    """x (T, D) as int8 (T, D), scales (T, D / block) and sums (T, D / sub): see kernels.quantise_rows."""
    T, D = x.shape
    q = np.empty((T, D), np.int8)
    scale = np.empty((T, D // block), np.float32)
    sums = np.empty((T, D // sub), np.int32)
    kernels.quantise_rows(x, block, q, scale, sums, sub)
    return q, scale, sums
