"""A forward pass of an oracle whose capture is watched, on whatever model is open: what is seen is what is computed.

It costs the oracle two passes. Each array's digest is kept from the moment it came, and compared at the end.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.bisection.stages import Key, name_of
from engine.errors import EngineError
from engine.oracles import Capture, Oracle

FORWARDS = 2
"""Passes that `forward` costs."""


class UnfaithfulError(EngineError):
    """What an oracle captures is not what it computes, or not what it was when it was captured: the reason."""

    def __init__(self, oracle: Oracle, reason: str, hint: str = "") -> None:
        self.reason = reason
        super().__init__(
            f"the oracle {oracle.name} ({oracle.variant}) is not believed on this model: {reason}",
            hint=hint or f"take another oracle; {oracle.engine} may be a version that this engine does not know",
        )


def forward(oracle: Oracle, tokens: Sequence[int], capture: Capture) -> NDArray[np.float32]:
    """As oracle.forward(tokens, capture), and a second pass without capture, which has to give the same bits.

    Raises UnfaithfulError for an array that is not float32 in C order, comes twice or has changed by the end of the
    second pass, for logits that capture changes, and for a stage lm_head that is not the logits.
    """
    stages: dict[Key, tuple[NDArray[np.float32], bytes]] = {}

    def seen(stage: str, layer: int | None, array: NDArray[np.float32]) -> object:
        key: Key = stage, layer
        if key in stages:
            raise UnfaithfulError(oracle, f"{name_of(key)} was captured twice")
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise UnfaithfulError(oracle, f"{name_of(key)} is no float32 array in C order")
        stages[key] = array, _digest(array)
        return capture(stage, layer, array)

    logits = oracle.forward(tokens, seen)
    if logits.tobytes() != oracle.forward(tokens).tobytes():
        raise UnfaithfulError(oracle, "its logits are others while stages are captured")
    for key, (array, digest) in stages.items():
        if _digest(array) != digest:
            raise UnfaithfulError(oracle, f"{name_of(key)} was changed after it was captured")
    head = stages.get(("lm_head", None))
    if head is not None and head[0].tobytes() != logits.tobytes():
        raise UnfaithfulError(oracle, "the stage lm_head is not the logits that it returns")
    return logits


def _digest(array: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(array.data, digest_size=16).digest()
