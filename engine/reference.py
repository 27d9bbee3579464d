"""The reference path: plain numpy in float64 over dequantised weights. Short, readable, slow; the oracle of the house.

Architecture: Touvron et al. 2023 (Llama) and Yang et al. 2024 (Qwen2): pre-norm decoder, RMSNorm, rotary positions,
grouped-query attention, SwiGLU.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model import Model, Weight

Floats = NDArray[np.floating[Any]]
"""float64 of the reference itself; of an arithmetic of fewer digits (engine.arithmetic), the type that it sums in."""
Tap = Callable[[str, int | None, NDArray[np.float32]], NDArray[np.float32] | None]
"""Called as tap(stage, layer, array), layer None for a whole-model stage; the array is only valid during the call.

An array that it returns, of the same shape, takes the place of the stage's output for all that follows; None leaves it.
"""


class ReferencePath:
    """Forward passes with a growing cache of keys and values; weights are dequantised at each use, to save memory.

    What a subclass may do in fewer digits: `dtype`, `angles`, `rounded`, `norm`, `product` and
    `biased`.
    """

    name = "reference"
    variant = "numpy-float64"
    kv_cache = None
    dtype: type[np.floating[Any]] = np.float64

    def __init__(self, model: Model) -> None:
        self.model = model
        c = model.config
        self.keys: list[Floats] = [np.empty((0, c.kv_heads, c.head_dim), self.dtype) for _ in range(c.n_layers)]
        self.values = list(self.keys)

    @property
    def position(self) -> int:
        """Number of tokens already in the cache."""
        return len(self.keys[0])

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite shows in the tap and in the logits
    def forward(self, tokens: Sequence[int], tap: Tap | None = None) -> NDArray[np.float32]:
        """Logits (vocab,) float32 of the last of `tokens`, which continue what the cache holds."""
        c = self.model.config

        def tapped(stage: str, layer: int | None, array: Floats) -> Floats:
            array = self.rounded(array)
            if tap is not None:
                other = tap(stage, layer, np.ascontiguousarray(array, dtype=np.float32))
                if other is not None:
                    return other.reshape(array.shape).astype(array.dtype)
            return array

        T, past = len(tokens), self.position
        positions = np.arange(past, past + T)
        visible = np.arange(past + T)[None, :] <= positions[:, None]  # (T, S)
        embedding = self.model.embedding
        rows = Weight(embedding.name, embedding.raw[np.asarray(tokens)], embedding.format, T, c.hidden)
        x = tapped("embedding", 0, rows.dequantised().astype(self.dtype))
        for index, layer in enumerate(self.model.layers):
            h = tapped("attn_norm", index, self.norm(x, layer.attn_norm))
            products = np.concatenate([self.product(h, weight) for weight in (layer.q, layer.k, layer.v)], axis=1)
            qkv = tapped("qkv_matmul", index, products)
            if layer.qkv_bias is not None:
                qkv = self.biased(qkv, products, layer.qkv_bias)
            qkv = tapped("qkv_bias", index, qkv)
            q, k, v = np.split(qkv, [c.q_width, c.q_width + c.kv_width], axis=1)
            q = self.rotate(q.reshape(T, c.heads, c.head_dim), positions)
            k = self.rotate(k.reshape(T, c.kv_heads, c.head_dim), positions)
            q = tapped("q_post_rope", index, q.reshape(T, -1)).reshape(q.shape)
            k = tapped("k_post_rope", index, k.reshape(T, -1)).reshape(k.shape)
            keys = self.keys[index] = np.concatenate([self.keys[index], k])
            values = self.values[index] = np.concatenate([self.values[index], v.reshape(T, c.kv_heads, c.head_dim)])
            group = c.heads // c.kv_heads
            scores = self.rounded(np.einsum("thd,shd->ths", q, np.repeat(keys, group, axis=1)))
            scores = scores / math.sqrt(c.head_dim)
            scores = tapped("attn_scores", index, np.where(visible[:, None, :], scores, -np.inf))
            weights = tapped("attn_softmax", index, softmax(scores))
            mixed = mix(weights, np.repeat(values, group, axis=1)).reshape(T, c.q_width)
            mixed = tapped("attention", index, mixed)
            x = x + tapped("attn_out", index, self.product(mixed, layer.attn_out))
            x = tapped("post_attn_residual", index, x)
            h = tapped("ffn_norm", index, self.norm(x, layer.ffn_norm))
            gate = tapped("ffn_gate", index, self.product(h, layer.gate))
            up = tapped("ffn_up", index, self.product(h, layer.up))
            activated = tapped("ffn_silu", index, silu(gate))
            product = tapped("ffn_swigl", index, activated * up)
            x = x + tapped("ffn_out", index, self.product(product, layer.down))
            x = tapped("post_ffn_residual", index, x)
        normed = tapped("final_norm", None, self.norm(x, self.model.final_norm))
        logits = tapped("lm_head", None, self.product(normed[-1:], self.model.output)[0])
        return logits.astype(np.float32)

    def rotate(self, x: Floats, positions: NDArray[np.int64]) -> Floats:
        """Rotary positions on x (T, heads, head_dim): Su et al. 2021, in the pairing of the model's file."""
        c = self.model.config
        half = c.rope_dim // 2
        angle = self.angles(positions)[:, None, :]  # (T, 1, half)
        even, odd = (slice(0, c.rope_dim, 2), slice(1, c.rope_dim, 2))
        first, second = (even, odd) if c.pairing == "adjacent" else (slice(0, half), slice(half, c.rope_dim))
        cosine, sine = (self.rounded(table) for table in (np.cos(angle), np.sin(angle)))
        turned = x.copy()
        turned[..., first] = self.rounded(x[..., first] * cosine) - self.rounded(x[..., second] * sine)
        turned[..., second] = self.rounded(x[..., first] * sine) + self.rounded(x[..., second] * cosine)
        return turned

    def angles(self, positions: NDArray[np.int64]) -> Floats:
        """(T, rope_dim / 2): by how much each pair of entries is turned, in radians."""
        c = self.model.config
        frequencies = c.rope_base ** (-2.0 * np.arange(c.rope_dim // 2) / c.rope_dim)
        if self.model.rope_factors is not None:
            frequencies = frequencies / self.model.rope_factors
        turned: Floats = positions[:, None] / c.rope_scale * frequencies
        return turned

    def rounded(self, x: Floats) -> Floats:
        """A result, as far as this arithmetic can hold it: here, all of it."""
        return x

    def norm(self, x: Floats, gain: NDArray[np.float32]) -> Floats:
        """Each row of x (T, D) over its root mean square, times gain (D,)."""
        return rmsnorm(x, gain, self.model.config.rms_eps)

    def product(self, x: Floats, weight: Weight) -> Floats:
        """x (T, columns) times the transposed weight (rows, columns): (T, rows)."""
        return matmul(x, weight)

    def biased(self, qkv: Floats, products: Floats, bias: NDArray[np.float32]) -> Floats:
        """qkv (T, columns) + bias; products are what qkv was before it was rounded, or something took its place."""
        return qkv + bias


def matmul(x: Floats, weight: Weight) -> Floats:
    """x (T, columns) times the transposed weight (rows, columns): (T, rows)."""
    product: Floats = x @ weight.dequantised().astype(np.float64).T
    return product


def rmsnorm(x: Floats, gain: NDArray[np.float32], eps: float) -> Floats:
    """Each row of x (T, D) over its root mean square, times gain (D,): Zhang and Sennrich 2019."""
    normed: Floats = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps) * gain
    return normed


def mix(weights: Floats, values: Floats) -> Floats:
    """Values (S, heads, d) weighed by weights (T, heads, S): (T, heads, d).

    What weighs nothing adds nothing, even if it is NaN or infinite: a token knows nothing of those after it.
    """
    broken = ~np.isfinite(values).all(axis=(1, 2))
    if not broken.any():
        whole: Floats = np.einsum("ths,shd->thd", weights, values)
        return whole
    mixed: Floats = np.einsum("ths,shd->thd", weights[:, :, ~broken], values[~broken])
    for s in np.flatnonzero(broken):
        own = np.broadcast_to(weights[:, :, s, None], mixed.shape)
        mixed += np.multiply(own, values[s], out=np.zeros_like(mixed), where=own != 0)
    return mixed


def softmax(scores: Floats) -> Floats:
    """Over the last axis; -inf weighs nothing. Each row has at least one finite score: a token sees itself."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return weights


def silu(x: Floats) -> Floats:
    """x times the logistic function of x (Elfwing et al. 2018), in the form that does not overflow."""
    small = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, small) / (1.0 + small)
