"""Planted defects that several falsifiers share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.fast import Buffers, FastPath, Rows
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
