"""Planted faults in the norms of a layer and in its residual stream."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.buffers import Buffers, Rows
from engine.fast import FastPath
from engine.model import Layer, Model
from falsifiers.fault import ends_in_nan, fault, has_nan, last_layer
from falsifiers.faulty_steps import layers_changed, norm_replaced, residual_altered
from pv.trial import mutant, patched


def _mean_square(x: Any) -> Any:
    return np.mean(x * x, axis=1, keepdims=True)


@fault("attn_norm")
@mutant
def epsilon_is_outside_the_root() -> Iterator[None]:
    """The norm before attention adds its epsilon to the root instead of the mean square."""
    with norm_replaced("attn_norm", lambda x, eps, gain: x / (np.sqrt(_mean_square(x)) + eps) * gain):
        yield


@fault("attn_norm")
@mutant
def gain_of_the_next_layer() -> Iterator[None]:
    """Layers are counted from one where the gains of attention's norms are read; the last has the first's."""

    def next_one(layer: Layer, index: int, model: Model) -> dict[str, Any]:
        return {"attn_norm": model.layers[(index + 1) % len(model.layers)].attn_norm}

    with layers_changed(next_one):
        yield


@fault("attn_norm", tokens=ends_in_nan, shows_on=has_nan)
@mutant
def nan_is_zeroed() -> Iterator[None]:
    """What is not a number leaves the norm before attention as 0."""

    def guarded(x: Any, eps: float, gain: Any) -> Any:
        return np.nan_to_num(x / np.sqrt(_mean_square(x) + eps) * gain, nan=0.0)

    with norm_replaced("attn_norm", guarded):
        yield


@fault("ffn_norm")
@mutant
def mean_is_subtracted() -> Iterator[None]:
    """The norm before the feed-forward block subtracts the mean first: LayerNorm in the place of RMSNorm."""

    def centred(x: Any, eps: float, gain: Any) -> Any:
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.sqrt(_mean_square(x) + eps) * gain

    with norm_replaced("ffn_norm", centred):
        yield


@fault("ffn_norm")
@mutant
def squares_are_divided_by_one_less() -> Iterator[None]:
    """The norm before the feed-forward block divides the sum of squares by one entry less than there are."""

    def unbiased(x: Any, eps: float, gain: Any) -> Any:
        return x / np.sqrt((x * x).sum(axis=1, keepdims=True) / np.float32(x.shape[1] - 1) + eps) * gain

    with norm_replaced("ffn_norm", unbiased):
        yield


@fault("ffn_norm")
@mutant
def norms_exchange_their_gains() -> Iterator[None]:
    """The norm before the feed-forward block has the gain of the one before attention."""
    with layers_changed(lambda layer, index, model: {"ffn_norm": layer.attn_norm}):
        yield


@fault("ffn_norm", layers=last_layer)
@mutant
def last_layer_is_normed_in_half_precision() -> Iterator[None]:
    """In the last layer alone, the norm before the feed-forward block leaves its rows rounded to float16."""
    normalise = FastPath.normalise

    def rounded(self: FastPath, b: Buffers, delta: Any, gain: Any, into: Rows) -> None:
        normalise(self, b, delta, gain, into)
        if gain is self.layers[-1].ffn_norm:
            into.x[:] = into.x.astype(np.float16)
            into.quantise()

    with patched(FastPath, "normalise", rounded):
        yield


# ---------------------------------------------------------------- residual stream


@fault("post_attn_residual")
@mutant
def attention_is_not_added() -> Iterator[None]:
    """The residual stream leaves out what attention computed."""
    with residual_altered("post_attn_residual", lambda self, layer, x, delta: 0 * delta):
        yield


@fault("post_attn_residual")
@mutant
def last_token_gets_no_attention() -> Iterator[None]:
    """What attention computed is added to all tokens of a chunk but the last, where there is more than one."""

    def short(self: FastPath, layer: int, x: Any, delta: Any) -> Any:
        delta = delta.copy()
        if len(delta) > 1:
            delta[-1] = 0
        return delta

    with residual_altered("post_attn_residual", short):
        yield


@fault("post_attn_residual")
@mutant
def attention_is_added_in_half_precision() -> Iterator[None]:
    """What attention computed is rounded to bfloat16 before it joins the residual stream."""

    def coarse(self: FastPath, layer: int, x: Any, delta: Any) -> Any:
        return (np.ascontiguousarray(delta).view(np.uint32) + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32)

    with residual_altered("post_attn_residual", coarse):
        yield


@fault("post_ffn_residual")
@mutant
def feed_forward_is_not_added() -> Iterator[None]:
    """The residual stream leaves out what the feed-forward block computed."""
    with residual_altered("post_ffn_residual", lambda self, layer, x, delta: 0 * delta):
        yield


@fault("post_ffn_residual")
@mutant
def feed_forward_is_added_twice() -> Iterator[None]:
    """The residual stream gains what the feed-forward block computed twice."""
    with residual_altered("post_ffn_residual", lambda self, layer, x, delta: 2 * delta):
        yield


@fault("post_ffn_residual", layers=last_layer)
@mutant
def last_layer_starts_a_new_stream() -> Iterator[None]:
    """In the last layer alone, what the feed-forward block computed replaces the residual stream."""

    def replaced(self: FastPath, layer: int, x: Any, delta: Any) -> Any:
        return delta - x if layer == len(self.layers) - 1 else delta

    with residual_altered("post_ffn_residual", replaced):
        yield
