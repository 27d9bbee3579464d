"""Planted faults in the reference path: an oracle may be the side that is wrong."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import reference
from falsifiers.fault import fault
from pv.trial import mutant, patched


@fault("attn_norm", also=("ffn_norm", "final_norm"), where="reference")
@mutant
def reference_norms_outside_the_root() -> Iterator[None]:
    """The reference's norms add their epsilon to the root instead of the mean square."""

    def outside(x: Any, gain: Any, eps: float) -> Any:
        return x / (np.sqrt(np.mean(x * x, axis=1, keepdims=True)) + eps) * gain

    with patched(reference, "rmsnorm", outside):
        yield


@fault("q_post_rope", also=("k_post_rope",), where="reference")
@mutant
def reference_counts_positions_from_one() -> Iterator[None]:
    """The reference's rotary positions are one too high."""
    rotate = reference.ReferencePath.rotate
    with patched(reference.ReferencePath, "rotate", lambda self, x, positions: rotate(self, x, positions + 1)):
        yield


@fault("attn_softmax", where="reference")
@mutant
def reference_weighs_in_base_two() -> Iterator[None]:
    """The reference's softmax raises 2 instead of e."""
    softmax = reference.softmax
    with patched(reference, "softmax", lambda scores: softmax(scores * np.log(2))):
        yield


@fault("ffn_silu", where="reference")
@mutant
def reference_has_gelu() -> Iterator[None]:
    """The reference's activation is GELU."""

    def gelu(x: Any) -> Any:
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    with patched(reference, "silu", gelu):
        yield
