"""Planted faults in queries, keys and values before attention: their product, bias and rotary positions."""

import itertools
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from engine.buffers import Rows
from engine.fast import FastPath
from engine.model import Layer, Model
from falsifiers.decoded import high_bits_of_scales_lost, minimum_negated, offset_is_one_less
from falsifiers.fault import fault, last_layer
from falsifiers.faulty_heads import after_a_decoded_token, rotation_replaced, tables_of
from falsifiers.faulty_steps import has_format, layers_changed, product_altered, weights_changed, with_format
from pv.trial import mutant

MINIMA = ("Q4_1", "Q5_1", "Q4_K", "Q5_K")


def more_threads(model: Model) -> bool:
    return int(numba.config.NUMBA_NUM_THREADS) > 1


@fault("qkv_matmul", layers=with_format("q", "Q4_K"), shows_on=has_format("q", "Q4_K"))
@mutant
def high_bits_of_scales_are_lost() -> Iterator[None]:
    """Of the six-bit scales and minima of a Q4_K block of queries, those of the upper half lose their high two bits."""
    with weights_changed("q", ("Q4_K",), high_bits_of_scales_lost):
        yield


@fault("qkv_matmul", layers=with_format("k", *MINIMA), shows_on=has_format("k", *MINIMA))
@mutant
def minimum_has_the_other_sign() -> Iterator[None]:
    """The minimum of the keys' weights is added where it is subtracted, and the other way round."""
    with weights_changed("k", MINIMA, minimum_negated):
        yield


@fault("qkv_matmul", layers=with_format("v", "Q6_K"), shows_on=has_format("v", "Q6_K"))
@mutant
def offset_of_six_bits_is_31() -> Iterator[None]:
    """From the six-bit integers of the values' weights 31 is subtracted, not 32."""
    with weights_changed("v", ("Q6_K",), offset_is_one_less):
        yield


@fault("qkv_matmul")
@mutant
def keys_and_values_change_places() -> Iterator[None]:
    """The matrix of the keys gives the values, and that of the values the keys."""
    with layers_changed(lambda layer, index, model: {"k": layer.v, "v": layer.k}):
        yield


@fault("qkv_matmul", shows_on=more_threads)
@mutant
def two_threads_race() -> Iterator[None]:
    """With two threads or more, every other product of queries, keys and values returns before its last task has
    written: the rows of that task hold what they held."""
    calls = itertools.count()

    def early(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        if self.threads > 1 and next(calls) % 2 == 0:
            last = 64 if len(out) > 1 else 32
            out[:, -last:] = before[:, -last:]

    with product_altered("qkv_matmul", early):
        yield


# ---------------------------------------------------------------- bias


def has_bias(model: Model) -> bool:
    return model.config.qkv_bias


@fault("qkv_bias", shows_on=has_bias)
@mutant
def bias_is_missing() -> Iterator[None]:
    """Queries, keys and values are left without their bias."""
    with layers_changed(lambda layer, index, model: {"qkv_bias": None}):
        yield


@fault("qkv_bias", shows_on=has_bias)
@mutant
def bias_is_added_twice() -> Iterator[None]:
    """Queries, keys and values get their bias twice."""
    with layers_changed(lambda layer, index, model: {"qkv_bias": _bias(layer) * 2}):
        yield


@fault("qkv_bias", shows_on=lambda model: has_bias(model) and model.config.n_layers > 1)
@mutant
def bias_of_the_next_layer() -> Iterator[None]:
    """Layers are counted from one where biases are read; the last has the first's."""
    with layers_changed(lambda layer, i, model: {"qkv_bias": model.layers[(i + 1) % len(model.layers)].qkv_bias}):
        yield


@fault("qkv_bias", shows_on=has_bias)
@mutant
def keys_get_the_bias_of_values() -> Iterator[None]:
    """The biases of keys and of values change places."""

    def exchanged(layer: Layer, index: int, model: Model) -> dict[str, Any]:
        q, kv = model.config.q_width, model.config.kv_width
        bias = _bias(layer)
        return {"qkv_bias": np.concatenate([bias[:q], bias[q + kv :], bias[q : q + kv]])}

    with layers_changed(exchanged):
        yield


def _bias(layer: Layer) -> Any:
    return np.zeros(0, np.float32) if layer.qkv_bias is None else layer.qkv_bias


# ---------------------------------------------------------------- rotary positions


@fault("q_post_rope", also=("k_post_rope",))
@mutant
def base_of_rotary_positions() -> Iterator[None]:
    """Queries and keys turn by the frequencies of a base ten times as large."""
    with rotation_replaced("qk", lambda path: tables_of(path, base=10 * path.model.config.rope_base)):
        yield


@fault("q_post_rope", also=("k_post_rope",))
@mutant
def pairs_of_the_other_architecture() -> Iterator[None]:
    """Queries and keys turn in the other architecture's pairs."""
    with rotation_replaced("qk", pairing=True):
        yield


@fault("q_post_rope")
@mutant
def queries_count_from_one() -> Iterator[None]:
    """The positions of queries are one too high, those of keys are right."""
    with rotation_replaced("q", _later):
        yield


def _later(path: FastPath) -> Any:
    cosine, sine = tables_of(path)
    return np.roll(cosine, -1, axis=0), np.roll(sine, -1, axis=0)


@fault("q_post_rope")
@mutant
def positions_start_again_with_each_chunk() -> Iterator[None]:
    """Queries count their positions from the beginning of the chunk that they are computed in."""

    def again(path: FastPath) -> Any:
        return tuple(np.roll(table, path.position, axis=0) for table in tables_of(path))

    with rotation_replaced("q", again):
        yield


@fault("q_post_rope")
@mutant
def queries_turn_by_rounded_tables() -> Iterator[None]:
    """Cosine and sine of the queries' positions are kept in float16."""
    with rotation_replaced("q", _rounded):
        yield


def _rounded(path: FastPath) -> Any:
    return tuple(table.astype(np.float16).astype(np.float32) for table in tables_of(path))


@fault("k_post_rope")
@mutant
def keys_turn_the_other_way() -> Iterator[None]:
    """The sine of the keys' positions has the other sign."""

    def back(path: FastPath) -> Any:
        cosine, sine = tables_of(path)
        return cosine, -sine

    with rotation_replaced("k", back):
        yield


@fault("q_post_rope", also=("k_post_rope", "attn_scores", "attn_softmax", "attention"))
@mutant
def position_stays_after_a_decoded_token() -> Iterator[None]:
    """A token that came alone does not count: the next one turns as it did, and takes its slot in the cache."""
    with after_a_decoded_token(_step_back):
        yield


def _step_back(path: FastPath) -> None:
    path.position -= 1


@fault("k_post_rope")
@mutant
def keys_do_not_turn_past_position_16() -> Iterator[None]:
    """Keys past position 16 turn as the one at position 16 does."""

    def held(path: FastPath) -> Any:
        return tuple(table[np.minimum(np.arange(len(table)), 16)] for table in tables_of(path))

    with rotation_replaced("k", held):
        yield


@fault("k_post_rope", layers=last_layer)
@mutant
def last_layer_has_another_base() -> Iterator[None]:
    """In the last layer alone, keys turn by the frequencies of half the base."""
    with rotation_replaced("k", lambda path: tables_of(path, base=path.model.config.rope_base / 2), only_last=True):
        yield


@fault("q_post_rope", also=("k_post_rope",), shows_on=lambda m: m.rope_factors is not None or m.config.rope_scale != 1)
@mutant
def scaling_of_positions_is_forgotten() -> Iterator[None]:
    """The scaling of rotary positions that the model states is left out."""
    with rotation_replaced("qk", lambda path: tables_of(path, scale=1.0, factors=None)):
        yield
