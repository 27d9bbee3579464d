"""Planted faults in the products of a layer after attention: its output matrix and the feed-forward block's three."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import kernels
from engine.buffers import Product, Rows
from engine.fast import FastPath
from engine.model import Layer, Model
from engine.variants import GENERIC
from falsifiers import decoded
from falsifiers.fault import fault, last_layer
from falsifiers.faults_attention import in_vector_variant
from falsifiers.faults_qkv import MINIMA, more_threads
from falsifiers.faulty_steps import (
    has_format,
    in_float32,
    layer_of,
    layers_changed,
    product_altered,
    product_of,
    weights_changed,
    with_format,
)
from pv.trial import mutant, patched

FOUR_BITS = ("Q4_0", "Q4_1", "Q4_K")
CODED = tuple(decoded.CODES)
FIVE_BITS = tuple(decoded.FIFTH_BITS)
QUANTISED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")


def _all_but_last(model: Model) -> range:
    return range(model.config.n_layers - 1)


def _is_square(model: Model) -> bool:
    return model.config.q_width == model.config.hidden


# ---------------------------------------------------------------- attn_out


@fault("attn_out", layers=_all_but_last)
@mutant
def output_of_attention_is_the_next_layers() -> Iterator[None]:
    """Layers are counted from one where attention's output matrix is read; the last has its own."""

    def next_one(layer: Layer, index: int, model: Model) -> dict[str, Any]:
        return {"attn_out": model.layers[min(index + 1, len(model.layers) - 1)].attn_out}

    with layers_changed(next_one):
        yield


@fault("attn_out", shows_on=_is_square)
@mutant
def output_of_attention_is_transposed() -> Iterator[None]:
    """The columns of attention's output matrix are taken for its rows."""
    with layers_changed(lambda layer, index, model: {"attn_out": decoded.transposed(layer.attn_out)}):
        yield


@fault("attn_out", layers=with_format("attn_out", *FOUR_BITS), shows_on=has_format("attn_out", *FOUR_BITS))
@mutant
def nibbles_are_exchanged() -> Iterator[None]:
    """The low and the high four bits of each byte of attention's output matrix change places."""
    with weights_changed("attn_out", FOUR_BITS, decoded.nibbles_exchanged):
        yield


@fault("attn_out", layers=with_format("attn_out", *QUANTISED), shows_on=has_format("attn_out", *QUANTISED))
@mutant
def activations_are_rounded_coarsely() -> Iterator[None]:
    """What attention's output matrix reads is rounded to 171 steps instead of 255: 1.5 times the honest error."""
    with _rounded_coarsely("attn_out", 1.5):
        yield


def _rounded_coarsely(stage: str, factor: float) -> Any:
    """The product of a stage reads activations in steps `factor` times as large."""
    project = FastPath.project

    def other(self: FastPath, product: Product, rows: Rows, out: Any) -> None:
        layer = layer_of(self, product)
        if layer is None or product is not product_of(self, stage, layer):
            project(self, product, rows, out)
            return
        T = rows.T
        for kind, block, q, scale in (
            (kernels.BY_32, 32, rows.q32, rows.scale32),
            (kernels.BY_256, 256, rows.q256, rows.scale256),
        ):
            if not rows.kinds & kind:
                continue
            x = rows.x[:, : rows.columns].reshape(T, -1, block)
            step = np.abs(x).max(axis=2) / np.float32(127 / factor)
            codes = np.rint(x / np.where(step, step, 1)[..., None]).astype(np.int8)
            q[:, :T], scale[:, :T] = codes.swapaxes(0, 1), step.T
            sums = {32: rows.sums32[..., None]} if block == 32 else {16: rows.sums16, 32: rows.sums256}
            for size, total in sums.items():
                of = codes.reshape(*codes.shape[:2], -1, size).sum(axis=3, dtype=np.int32)
                total[:, :T] = of.swapaxes(0, 1)
        project(self, product, rows, out)
        rows.quantise()

    return patched(FastPath, "project", other)


# ---------------------------------------------------------------- gate and up


@fault("ffn_gate", also=("ffn_up",))
@mutant
def gate_and_up_change_places() -> Iterator[None]:
    """The gate's matrix gives what goes up, and the other way round."""
    with layers_changed(lambda layer, index, model: {"gate": layer.up, "up": layer.gate}):
        yield


@fault("ffn_gate", layers=with_format("gate", *FIVE_BITS), shows_on=has_format("gate", *FIVE_BITS))
@mutant
def fifth_bits_are_lost() -> Iterator[None]:
    """The fifth bits of the gate's five-bit weights are taken for 0."""
    with weights_changed("gate", FIVE_BITS, decoded.fifth_bits_lost):
        yield


@fault("ffn_gate", layers=with_format("gate", *CODED), shows_on=has_format("gate", *CODED))
@mutant
def fallback_decodes_another_layout() -> Iterator[None]:
    """The check of the gate's kernel fails without a word; what serves instead takes the two weights of a byte for
    neighbours."""
    with weights_changed("gate", CODED, decoded.nibbles_interleaved):
        yield


@fault("ffn_gate", shows_on=more_threads)
@mutant
def threads_leave_a_row_between_them() -> Iterator[None]:
    """With two threads, the row of the gate between their halves is nobody's: it is 0."""

    def unwritten(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        if self.threads == 2:
            out[:, out.shape[1] // 2] = 0

    with product_altered("ffn_gate", unwritten):
        yield


@fault("ffn_up", layers=with_format("up", *QUANTISED), shows_on=has_format("up", *QUANTISED))
@mutant
def scales_are_read_as_bfloat16() -> Iterator[None]:
    """The float16 scale of each block of the up matrix is read as bfloat16."""
    with weights_changed("up", QUANTISED, decoded.scale_read_as_bfloat16):
        yield


@fault("ffn_up")
@mutant
def last_row_of_up_is_another() -> Iterator[None]:
    """One lane in the tail is wrong: the last row of the up matrix gives what the row before it gives."""

    def doubled(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        out[:, -1] = out[:, -2]

    with product_altered("ffn_up", doubled):
        yield


@fault("ffn_up", shows_on=in_vector_variant)
@mutant
def vector_variant_drops_a_block() -> Iterator[None]:
    """In the variants with vector code alone, a single token's product with the up matrix lacks its last 32 columns."""

    def short(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        if self.variant != GENERIC and len(out) == 1 and layer is not None:
            weights = self.model.layers[layer].up.dequantised()[:, -32:]
            out -= rows.x[:, rows.columns - 32 : rows.columns] @ weights.T

    with product_altered("ffn_up", short):
        yield


# ---------------------------------------------------------------- ffn_out


@fault("ffn_out", layers=with_format("down", *MINIMA), shows_on=has_format("down", *MINIMA))
@mutant
def minimum_of_the_output_has_the_other_sign() -> Iterator[None]:
    """The minimum of the down matrix is added where it is subtracted, and the other way round."""
    with weights_changed("down", MINIMA, decoded.minimum_negated):
        yield


@fault("ffn_out", layers=with_format("down", "Q6_K"), shows_on=has_format("down", "Q6_K"))
@mutant
def offset_of_the_output_is_31() -> Iterator[None]:
    """From the six-bit integers of the down matrix 31 is subtracted, not 32."""
    with weights_changed("down", ("Q6_K",), decoded.offset_is_one_less):
        yield


@fault("ffn_out")
@mutant
def last_columns_of_the_output_are_lost() -> Iterator[None]:
    """The rows of the down matrix end before their last block of columns (of float weights, their last 32)."""

    def short(layer: Layer, index: int, model: Model) -> dict[str, Any]:
        if layer.down.format.name in QUANTISED:
            return {"down": decoded.last_block_lost(layer.down)}
        values = layer.down.dequantised()
        values[:, -32:] = 0
        return {"down": in_float32(layer.down, values)}

    with layers_changed(short):
        yield


@fault("ffn_out", layers=last_layer)
@mutant
def last_layer_adds_to_what_was_there() -> Iterator[None]:
    """In the last layer alone, the feed-forward block's output is added to what its buffer held: attention's."""

    def added(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        if layer == len(self.layers) - 1:
            out += before

    with product_altered("ffn_out", added):
        yield
