"""Planted faults where a forward pass begins and where it ends: embedding, final norm, logits; and another path."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.buffers import Buffers, Rows
from engine.fast import FastPath
from engine.model import Model
from engine.reference import ReferencePath
from falsifiers.fault import ends_in_nan, fault, first_layer, has_nan
from falsifiers.faulty_steps import made_differently, norm_replaced, product_altered
from pv.trial import mutant, patched


def _embedded(change: Any) -> Any:
    """The fast path embeds change(path, tokens)."""
    embed = FastPath.embed

    def other(self: FastPath, tokens: Sequence[int], b: Buffers) -> None:
        embed(self, change(self, list(tokens)), b)

    return patched(FastPath, "embed", other)


@fault("embedding", layers=first_layer)
@mutant
def another_special_token_begins() -> Iterator[None]:
    """The special token that begins a prompt is taken for another one: the file's end of text for its beginning."""

    def other(self: FastPath, tokens: list[int]) -> list[int]:
        return tokens if self.position else [2 if tokens[0] != 2 else 1, *tokens[1:]]

    with _embedded(other):
        yield


@fault("embedding", layers=first_layer)
@mutant
def rows_of_the_embedding_are_one_off() -> Iterator[None]:
    """The rows of the embedding are counted from one."""
    with _embedded(lambda self, tokens: [max(token - 1, 0) for token in tokens]):
        yield


@fault("embedding", layers=first_layer)
@mutant
def last_token_of_a_chunk_is_lost() -> Iterator[None]:
    """The last token of a chunk is not embedded: its row holds what it held before."""
    embed = FastPath.embed

    def short(self: FastPath, tokens: Sequence[int], b: Buffers) -> None:
        before = b.x[-1].copy()
        embed(self, tokens, b)
        if len(tokens) > 1:
            b.x[-1] = before

    with patched(FastPath, "embed", short):
        yield


@fault("embedding", layers=first_layer)
@mutant
def embedding_is_scaled() -> Iterator[None]:
    """The embedding is multiplied by the root of its width, as another family of models does (Gemma)."""
    embed = FastPath.embed

    def scaled(self: FastPath, tokens: Sequence[int], b: Buffers) -> None:
        embed(self, tokens, b)
        b.x *= np.float32(np.sqrt(self.model.config.hidden))

    with patched(FastPath, "embed", scaled):
        yield


@fault("embedding", layers=first_layer, tokens=ends_in_nan, shows_on=has_nan)
@mutant
def nan_of_the_embedding_is_zeroed() -> Iterator[None]:
    """A guard replaces what is not a number in a row of the embedding by 0."""
    embed = FastPath.embed

    def guarded(self: FastPath, tokens: Sequence[int], b: Buffers) -> None:
        embed(self, tokens, b)
        np.nan_to_num(b.x, copy=False, nan=0.0)

    with patched(FastPath, "embed", guarded):
        yield


# ---------------------------------------------------------------- final norm


@fault("final_norm")
@mutant
def final_norm_is_skipped() -> Iterator[None]:
    """The output matrix reads the residual stream itself."""
    with norm_replaced("final_norm", lambda x, eps, gain: x):
        yield


@fault("final_norm")
@mutant
def final_norm_has_no_gain() -> Iterator[None]:
    """The final norm is left without its gain."""
    with norm_replaced("final_norm", lambda x, eps, gain: x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps)):
        yield


@fault("final_norm")
@mutant
def final_norm_reads_another_gain() -> Iterator[None]:
    """The final norm has the gain of the last layer's feed-forward norm."""

    def other(path: FastPath) -> None:
        path.final_norm = path.layers[-1].ffn_norm.copy()
        path.final_norm.address = path.final_norm.ctypes.data

    with made_differently(other):
        yield


# ---------------------------------------------------------------- logits


def _is_not_square(model: Model) -> bool:
    return model.output.rows != model.output.columns


@fault("lm_head", shows_on=_is_not_square)
@mutant
def output_matrix_is_transposed() -> Iterator[None]:
    """The output matrix (vocab, hidden) is read as if its columns lay one after the other."""

    def transposed(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        weight = self.model.output
        columns_first = weight.dequantised().reshape(weight.columns, weight.rows)
        out[:] = rows.x[:, : weight.columns] @ columns_first

    with product_altered("lm_head", transposed):
        yield


@fault("lm_head")
@mutant
def logits_are_one_off() -> Iterator[None]:
    """Each logit stands at the place of the token after its own."""

    def shifted(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        out[:] = np.roll(out, 1, axis=1)

    with product_altered("lm_head", shifted):
        yield


@fault("lm_head")
@mutant
def logits_are_capped() -> Iterator[None]:
    """Logits are bent to stay below 30, as another family of models does (Gemma 2)."""

    def capped(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        out[:] = 30 * np.tanh(out / 30)

    with product_altered("lm_head", capped):
        yield


@fault("lm_head")
@mutant
def last_rows_of_the_output_are_lost() -> Iterator[None]:
    """The last sixteen rows of the output matrix, or as many as are left, are not computed: their logits are 0."""

    def short(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        out[:, (out.shape[1] - 1) // 16 * 16 :] = 0

    with product_altered("lm_head", short):
        yield


@fault("lm_head")
@mutant
def last_row_of_the_output_ends_early() -> Iterator[None]:
    """The last row of the output matrix ends 32 columns early: one logit of the whole vocabulary is wrong."""

    def short(self: FastPath, layer: int | None, rows: Rows, out: Any, before: Any) -> None:
        weight = self.model.output
        last = replace(weight, raw=weight.raw[-1:], rows=1).dequantised()[:, -32:]
        out[:, -1:] -= rows.x[:, weight.columns - 32 : weight.columns] @ last.T

    with product_altered("lm_head", short):
        yield


@fault("lm_head")
@mutant
def logits_of_the_call_before() -> Iterator[None]:
    """The output matrix reads the row that the call before has left: logits are late by one call."""
    logits = FastPath.logits

    def late(self: FastPath, b: Buffers) -> Any:
        now = b.final.x[-1:].copy()
        b.final.x[-1:] = getattr(self, "left", now)
        self.left = now  # type: ignore[attr-defined]
        try:
            return logits(self, b)
        finally:
            b.final.x[-1:] = now

    with patched(FastPath, "logits", late):
        yield


# ---------------------------------------------------------------- another path


@fault("")
@mutant
def reference_serves_as_the_fast_path() -> Iterator[None]:
    """The fast path's own check fails without a word, and the reference computes under its name."""

    def disguised(self: FastPath, tokens: Sequence[int], tap: Any = None, chunk: int | None = None) -> Any:
        if not self.position:
            self.instead = ReferencePath(self.model)  # type: ignore[attr-defined]
        logits = self.instead.forward(tokens, tap)  # type: ignore[attr-defined]
        self.position += len(tokens)
        return logits

    with patched(FastPath, "forward", disguised):
        yield
