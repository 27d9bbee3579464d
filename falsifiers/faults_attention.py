"""Planted faults in attention: scores, their softmax, and the values that it mixes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.buffers import Buffers
from engine.fast import FastPath
from engine.model import Model
from engine.variants import GENERIC, chosen
from falsifiers.fault import fault, last_layer
from falsifiers.faulty_heads import (
    after_a_decoded_token,
    cached,
    mixing_altered,
    scored,
    scores_altered,
    softmax_altered,
)
from falsifiers.on_arrays import key_slot
from pv.trial import mutant


def shares_keys(model: Model) -> bool:
    """Whether groups of more than one query head share more than one head of keys."""
    return model.config.heads > model.config.kv_heads > 1


def in_vector_variant(model: Model) -> bool:
    return chosen() != GENERIC


def _visible(path: FastPath, T: int, S: int) -> Any:
    """(T, 1, S): whether a token sees a position."""
    return (np.arange(S)[None, :] <= path.position + np.arange(T)[:, None])[:, None]


# ---------------------------------------------------------------- scores


@fault("attn_scores")
@mutant
def scores_are_not_scaled() -> Iterator[None]:
    """The division of scores by the root of the head's width is missing."""

    def unscaled(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        scores /= self.scale

    with scores_altered(unscaled):
        yield


@fault("attn_scores")
@mutant
def scores_are_scaled_twice() -> Iterator[None]:
    """Scores are divided by the head's width instead of its root."""

    def twice(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        scores *= self.scale

    with scores_altered(twice):
        yield


@fault("attn_scores", shows_on=shares_keys)
@mutant
def query_heads_take_keys_in_turn() -> Iterator[None]:
    """Query heads are shared out to the heads of keys in turn instead of in groups."""

    def interleaved(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        c, S = self.model.config, scores.shape[2]
        keys = cached(self, layer, S)[0][:: c.heads // c.kv_heads][np.arange(c.heads) % c.kv_heads]
        scores[:] = np.where(_visible(self, *scores.shape[::2]), scored(self, b, keys), scores)

    with scores_altered(interleaved):
        yield


@fault("attn_scores")
@mutant
def token_sees_the_next() -> Iterator[None]:
    """The causal mask is off by one: each token of a chunk also sees the one after it."""

    def ahead(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        every = scored(self, b, cached(self, layer, scores.shape[2])[0])
        for t in range(len(scores) - 1):
            scores[t, :, self.position + t + 1] = every[t, :, self.position + t + 1]

    with scores_altered(ahead):
        yield


@fault("attn_scores")
@mutant
def token_does_not_see_itself() -> Iterator[None]:
    """The causal mask is off by one: each token but the first sees only those before it."""

    def behind(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        for t in range(len(scores)):
            if self.position + t:
                scores[t, :, self.position + t] = -np.inf

    with scores_altered(behind):
        yield


@fault("attn_scores")
@mutant
def keys_are_read_one_slot_off() -> Iterator[None]:
    """Once the cache holds tokens, the keys of a new chunk lie one slot too early: the last one's slot is as it was."""

    def shifted(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        past = self.position
        if past:
            keys = cached(self, layer, scores.shape[2])[0].copy()
            keys[:, past - 1 : -1] = keys[:, past:].copy()
            keys[:, -1] = 0
            scores[:] = np.where(_visible(self, *scores.shape[::2]), scored(self, b, keys), scores)

    with scores_altered(shifted):
        yield


@fault("attn_scores")
@mutant
def mask_is_the_lowest_number() -> Iterator[None]:
    """Masked scores are the lowest float32 instead of minus infinity."""

    def lowest(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        np.nan_to_num(scores, copy=False, nan=np.nan)

    with scores_altered(lowest):
        yield


@fault("attn_scores", shows_on=in_vector_variant)
@mutant
def vector_variant_loses_a_lane() -> Iterator[None]:
    """In the variants with vector code alone, the score with the last key of each sixteen lacks its last product."""

    def short(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        if self.variant != GENERIC:
            keys = cached(self, layer, scores.shape[2])[0][:, 15::16]
            last = self.model.config.head_dim - 1
            scores[:, :, 15::16] -= b.q[:, :, last, None] * keys[None, :, :, last] * self.scale

    with scores_altered(short):
        yield


@fault("attn_scores")
@mutant
def decoded_keys_are_not_kept() -> Iterator[None]:
    """The key of a token that came alone is forgotten once its logits are there: the next one decoded sees zeros."""
    with after_a_decoded_token(_forget):
        yield


def _forget(path: FastPath) -> None:
    for layer in range(path.model.config.n_layers):
        key_slot(path, layer, path.position - 1)[:] = 0


# ---------------------------------------------------------------- softmax


def overflowing(model: Model) -> list[int]:
    """The layers in which biases alone make scores past 120: e^x of them is no float32."""
    c, found = model.config, []
    for index, layer in enumerate(model.layers):
        if layer.qkv_bias is not None:
            q = layer.qkv_bias[: c.q_width].reshape(c.kv_heads, -1, c.head_dim)
            k = layer.qkv_bias[c.q_width : c.q_width + c.kv_width].reshape(c.kv_heads, 1, c.head_dim)
            if float((q * k).sum(axis=2).max()) / np.sqrt(c.head_dim) > 120:
                found.append(index)
    return found


@fault("attn_softmax", layers=overflowing, shows_on=lambda model: bool(overflowing(model)))
@mutant
def softmax_does_not_subtract_the_largest() -> Iterator[None]:
    """The softmax raises e to the scores themselves: large ones overflow."""

    def plain(self: FastPath, layer: int, scores: Any, weights: Any) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            raised = np.exp(scores)
            total = raised.sum(axis=2, keepdims=True)
            weights[:] = np.where(np.isfinite(total), weights, raised / total)

    with softmax_altered(plain):
        yield


@fault("attn_softmax")
@mutant
def softmax_forgets_the_first_sixteen() -> Iterator[None]:
    """Past position 16, the sum that the softmax divides by holds the last block of sixteen keys alone."""

    def last_block(self: FastPath, layer: int, scores: Any, weights: Any) -> None:
        for t in range(len(weights)):
            seen = self.position + t + 1
            if seen > 16:
                own = weights[t, :, :seen]
                own /= own[:, (seen - 1) // 16 * 16 :].sum(axis=1, keepdims=True) + np.float32(1e-6)

    with softmax_altered(last_block):
        yield


@fault("attn_softmax")
@mutant
def softmax_counts_the_filling() -> Iterator[None]:
    """The lanes that fill up the last sixteen keys count as scores of 0 in the sum that the softmax divides by."""

    def counted(self: FastPath, layer: int, scores: Any, weights: Any) -> None:
        for t in range(len(weights)):
            seen = self.position + t + 1
            largest = scores[t, :, :seen].max(axis=1, keepdims=True).astype(np.float64)
            total = np.exp(scores[t, :, :seen] - largest).sum(axis=1, keepdims=True)
            weights[t] *= total / (total + -seen % 16 * np.exp(np.minimum(-largest, 80)))

    with softmax_altered(counted):
        yield


@fault("attn_softmax", layers=last_layer)
@mutant
def last_layer_weighs_in_half_precision() -> Iterator[None]:
    """In the last layer alone, the softmax is rounded to float16."""

    def rounded(self: FastPath, layer: int, scores: Any, weights: Any) -> None:
        if layer == len(self.layers) - 1:
            weights[:] = weights.astype(np.float16)

    with softmax_altered(rounded):
        yield


# ---------------------------------------------------------------- values


@fault("attention", shows_on=shares_keys)
@mutant
def query_heads_take_values_in_turn() -> Iterator[None]:
    """Query heads are shared out to the heads of values in turn instead of in groups."""

    def interleaved(self: FastPath, layer: int, weights: Any, mixed: Any) -> None:
        c = self.model.config
        values = cached(self, layer, weights.shape[2])[1][:: c.heads // c.kv_heads]
        mixed[:] = np.einsum("ths,hsd->thd", weights, values[np.arange(c.heads) % c.kv_heads])

    with mixing_altered(interleaved):
        yield


@fault("attention")
@mutant
def values_are_read_one_slot_off() -> Iterator[None]:
    """Each weight meets the value of the token before its own, the first the first's."""

    def shifted(self: FastPath, layer: int, weights: Any, mixed: Any) -> None:
        values = cached(self, layer, weights.shape[2])[1]
        mixed[:] = np.einsum("ths,hsd->thd", weights, values[:, np.maximum(np.arange(values.shape[1]) - 1, 0)])

    with mixing_altered(shifted):
        yield


@fault("attention")
@mutant
def last_lane_of_a_head_is_another() -> Iterator[None]:
    """The last entry of each head is that of the entry before it."""

    def doubled(self: FastPath, layer: int, weights: Any, mixed: Any) -> None:
        mixed[:, :, -1] = mixed[:, :, -2]

    with mixing_altered(doubled):
        yield


@fault("attention")
@mutant
def values_are_kept_in_bfloat16() -> Iterator[None]:
    """Values are cut to bfloat16 where they are read from the cache."""

    def cut(self: FastPath, layer: int, weights: Any, mixed: Any) -> None:
        values = np.ascontiguousarray(cached(self, layer, weights.shape[2])[1])
        mixed[:] = np.einsum("ths,hsd->thd", weights, (values.view(np.uint32) & 0xFFFF0000).view(np.float32))

    with mixing_altered(cut):
        yield
