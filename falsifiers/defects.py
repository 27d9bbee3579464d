"""Planted defects that several falsifiers share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import kernels
from engine.buffers import Buffers, Rows
from engine.fast import FastPath
from falsifiers.integer_model import lanes_sum
from pv.trial import patched


@contextmanager
def norms_replaced(normed: Callable[[Any, float], Any]) -> Iterator[None]:
    """The fast path's norms are `normed` of x (T, hidden) and epsilon, times the gain."""
    normalise = FastPath.normalise

    def other(self: FastPath, b: Buffers, delta: Any, gain: Any, into: Rows) -> None:
        normalise(self, b, delta, gain, into)
        c = self.model.config
        into.x[:, : c.hidden] = normed(b.x[:, : c.hidden], c.rms_eps) * gain[: c.hidden]
        into.quantise()

    with patched(FastPath, "normalise", other):
        yield


def eight_lanes(x: Any, eps: float) -> Any:
    """x (T, D) over its root mean square, the squares summed in 8 lanes instead of 16."""
    lanes = np.zeros((8, len(x)), np.float32)
    for start in range(0, x.shape[1], 8):
        lanes += (x[:, start : start + 8] ** 2).T
    return x / np.sqrt(lanes_sum(lanes) / np.float32(x.shape[1]) + np.float32(eps))[:, None]


@contextmanager
def rotations_rounded_twice() -> Iterator[None]:
    """Rotary positions on queries round each product and then the sum, as without a fused multiply-add."""
    rotate = kernels.rotate

    def twice(qkv: Any, heads: int, kv_heads: int, head_dim: int, q: Any, *rest: Any) -> None:
        rotate(qkv, heads, kv_heads, head_dim, q, *rest)
        *_, cosine, sine, adjacent = rest
        i = np.arange(cosine.shape[1])
        first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + len(i))
        source = qkv[:, : heads * head_dim].reshape(len(qkv), heads, head_dim)
        a, b, c, s = source[..., first], source[..., second], cosine[:, None], sine[:, None]
        q[..., first], q[..., second] = a * c - b * s, a * s + b * c

    with patched(kernels, "rotate", twice):
        yield
