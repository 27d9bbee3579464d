"""Planted faults in the activation of the feed-forward block and in what it multiplies."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.arithmetic import to_bfloat16
from engine.buffers import Buffers
from engine.fast import FastPath
from falsifiers.fault import fault
from falsifiers.faulty_heads import gating_altered, silu_altered
from pv.trial import mutant, patched


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


@fault("ffn_silu")
@mutant
def silu_is_gelu() -> Iterator[None]:
    """The activation is GELU, in the form with a hyperbolic tangent."""

    def gelu(gate: Any) -> Any:
        return gate / 2 * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate**3)))

    with silu_altered(gelu):
        yield


@fault("ffn_silu")
@mutant
def silu_is_relu() -> Iterator[None]:
    """The activation is a plain rectifier."""
    with silu_altered(lambda gate: np.maximum(gate, 0)):
        yield


@fault("ffn_silu")
@mutant
def silu_is_steeper() -> Iterator[None]:
    """The activation multiplies by the logistic function of 1.702 x, as the quick form of GELU does."""
    with silu_altered(lambda gate: gate * _logistic(np.float32(1.702) * gate)):
        yield


@fault("ffn_silu")
@mutant
def silu_has_a_short_exponential() -> Iterator[None]:
    """The activation's exponential ends at the tenth bit: it is rounded to float16."""

    def short(gate: Any) -> Any:
        raised = np.exp(-np.clip(gate, -10, 10)).astype(np.float16).astype(np.float32)
        return np.where(np.abs(gate) < 10, gate / (1 + raised), gate * _logistic(gate))

    with silu_altered(short):
        yield


@fault("ffn_swigl")
@mutant
def gate_is_added() -> Iterator[None]:
    """What goes up is added to the activation instead of multiplied."""

    def summed(self: FastPath, silu: Any, up: Any, out: Any) -> None:
        out[:] = silu + up

    with gating_altered(summed):
        yield


@fault("ffn_swigl")
@mutant
def one_lane_in_the_tail_is_wrong() -> Iterator[None]:
    """The last lane multiplies the activation by what its neighbour's goes up."""

    def crossed(self: FastPath, silu: Any, up: Any, out: Any) -> None:
        out[:, -1] = silu[:, -1] * up[:, -2]

    with gating_altered(crossed):
        yield


@fault("ffn_swigl", fused=True)
@mutant
def fused_kernel_rounds_what_it_multiplied() -> Iterator[None]:
    """The kernel that activates and multiplies at once leaves its product in bfloat16; the one that multiplies alone
    does not."""
    activate = FastPath.activate

    def coarse(self: FastPath, b: Buffers, silu: Any) -> None:
        activate(self, b, silu)
        b.activated.x[:] = to_bfloat16(b.activated.x)
        b.activated.quantise()

    with patched(FastPath, "activate", coarse):
        yield


@fault("ffn_swigl")
@mutant
def up_is_read_of_the_token_before() -> Iterator[None]:
    """In a chunk, each token but the first multiplies by what the one before it goes up."""

    def late(self: FastPath, silu: Any, up: Any, out: Any) -> None:
        out[1:] = silu[1:] * up[:-1]

    with gating_altered(late):
        yield
