"""How faults are planted in what the fast path does head by head, and in its activation: as faulty_steps does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import kernels
from engine.buffers import Buffers, up
from engine.fast import FastPath
from engine.numerics import rope_tables
from falsifiers import on_arrays
from pv.trial import patched

Array = Any
Tables = Callable[[FastPath], tuple[Array, Array]]


@contextmanager
def rotation_replaced(
    who: str, tables: Tables | None = None, *, pairing: bool = False, only_last: bool = False
) -> Iterator[None]:
    """Queries ("q"), keys ("k") or both ("qk") turn by other tables (capacity, half), or in the other pairing.

    only_last  in the last layer alone
    """
    rotate = FastPath.rotate
    rotated = kernels.rotate

    def other(self: FastPath, b: Buffers, layer: int) -> None:
        rotate(self, b, layer)
        if only_last and layer != len(self.layers) - 1:
            return
        q, k = b.q.copy(), b.k.copy()
        right = self.cosine, self.sine
        try:
            if tables is not None:
                self.cosine, self.sine = tables(self)
            if pairing:
                with patched(kernels, "rotate", lambda *args: rotated(*args[:-1], not args[-1])):
                    rotate(self, b, layer)
            else:
                rotate(self, b, layer)
        finally:
            self.cosine, self.sine = right
        if "q" not in who:
            b.q[:] = q
        if "k" not in who:
            b.k[:] = k
            self.keep(b, layer)

    with patched(FastPath, "rotate", other):
        yield


def tables_of(path: FastPath, **other: Any) -> tuple[Array, Array]:
    """The tables of rotary positions of a path, with other constants than the model's."""
    c = path.model.config
    given = {"base": c.rope_base, "dim": c.rope_dim, "scale": c.rope_scale, "factors": path.model.rope_factors, **other}
    return rope_tables(path.capacity, given["base"], given["dim"], given["scale"], given["factors"])


@contextmanager
def scores_altered(alter: Callable[[FastPath, Buffers, int, Array], None]) -> Iterator[None]:
    """Scores (T, heads, S), -inf where masked, are altered in place before their softmax: alter(path, b, layer, ..)."""
    attend = FastPath.attend

    def other(self: FastPath, b: Buffers, layer: int, scores: Array | None) -> None:
        both = room_for_scores(self, b) if scores is None else scores
        attend(self, b, layer, both)
        alter(self, b, layer, both[0])
        self.weigh(b, layer, both)

    with patched(FastPath, "attend", other):
        yield


@contextmanager
def softmax_altered(alter: Callable[[FastPath, int, Array, Array], None]) -> Iterator[None]:
    """The weights (T, heads, S) are altered in place: alter(path, layer, scores, weights)."""
    attend, weigh = FastPath.attend, FastPath.weigh

    def attended(self: FastPath, b: Buffers, layer: int, scores: Array | None) -> None:
        both = room_for_scores(self, b) if scores is None else scores
        attend(self, b, layer, both)
        rest(self, b, layer, both)

    def weighed(self: FastPath, b: Buffers, layer: int, scores: Array) -> None:
        weigh(self, b, layer, scores)
        rest(self, b, layer, scores)

    def rest(self: FastPath, b: Buffers, layer: int, scores: Array) -> None:
        alter(self, layer, scores[0], scores[1])
        self.mix(b, layer, scores)

    with patched(FastPath, "attend", attended), patched(FastPath, "weigh", weighed):
        yield


@contextmanager
def mixing_altered(alter: Callable[[FastPath, int, Array, Array], None]) -> Iterator[None]:
    """The attention's output is altered in place: alter(path, layer, weights (T, heads, S), mixed (T, heads, d))."""
    attend, weigh, mix = FastPath.attend, FastPath.weigh, FastPath.mix

    def attended(self: FastPath, b: Buffers, layer: int, scores: Array | None) -> None:
        both = room_for_scores(self, b) if scores is None else scores
        attend(self, b, layer, both)
        rest(self, b, layer, both)

    def weighed(self: FastPath, b: Buffers, layer: int, scores: Array) -> None:
        weigh(self, b, layer, scores)
        rest(self, b, layer, scores)

    def mixed(self: FastPath, b: Buffers, layer: int, scores: Array) -> None:
        mix(self, b, layer, scores)
        rest(self, b, layer, scores)

    def rest(self: FastPath, b: Buffers, layer: int, scores: Array) -> None:
        c = self.model.config
        out = b.mixed.x[:, : c.q_width].reshape(len(b.x), c.heads, c.head_dim).copy()
        alter(self, layer, scores[1], out)
        b.mixed.x[:, : c.q_width] = out.reshape(len(b.x), -1)
        b.mixed.quantise()

    with (
        patched(FastPath, "attend", attended),
        patched(FastPath, "weigh", weighed),
        patched(FastPath, "mix", mixed),
    ):
        yield


def room_for_scores(path: FastPath, b: Buffers) -> Array:
    """Room for the scores and the softmax of the tokens at hand: (2, T, heads, S)."""
    T = len(b.x)
    return np.empty((2, T, path.model.config.heads, path.position + T), np.float32)


def cached(path: FastPath, layer: int, S: int) -> tuple[Array, Array]:
    """The first S keys and values of a layer for each query head: (heads, S, head_dim)."""
    c = path.model.config
    keys, values = (np.repeat(cache[:, :S], c.heads // c.kv_heads, axis=0) for cache in on_arrays.cached(path, layer))
    return keys, values


def scored(path: FastPath, b: Buffers, keys: Array) -> Array:
    """Scores (T, heads, S) of the queries with keys (heads, S, head_dim), none masked."""
    q = b.q[:, :, : path.model.config.head_dim]
    return np.einsum("thd,hsd->ths", q, keys, optimize=True) * path.scale


@contextmanager
def after_a_decoded_token(alter: Callable[[FastPath], None]) -> Iterator[None]:
    """The fast path is altered each time a token has come through it alone."""
    forward = FastPath.forward

    def forwarded(self: FastPath, tokens: Any, *rest: Any, **options: Any) -> Any:
        logits = forward(self, tokens, *rest, **options)
        if len(tokens) == 1:
            alter(self)
        return logits

    with patched(FastPath, "forward", forwarded):
        yield


@contextmanager
def silu_altered(alter: Callable[[Array], Array]) -> Iterator[None]:
    """The activation is alter(gate (T, ffn))."""
    activate = FastPath.activate

    def other(self: FastPath, b: Buffers, silu: Array | None) -> None:
        into = np.zeros_like(b.activated.x) if silu is None else silu
        activate(self, b, into)
        ffn = self.model.config.ffn
        into[:, :ffn] = alter(b.gate_up[:, :ffn])
        self.multiply(b, into)

    with patched(FastPath, "activate", other):
        yield


@contextmanager
def gating_altered(alter: Callable[[FastPath, Array, Array, Array], None]) -> Iterator[None]:
    """What silu times up gives is altered in place: alter(path, silu, up, out), each (T, ffn)."""
    activate, multiply = FastPath.activate, FastPath.multiply

    def activated(self: FastPath, b: Buffers, silu: Array | None) -> None:
        into = np.zeros_like(b.activated.x) if silu is None else silu
        activate(self, b, into)
        rest(self, b, into)

    def multiplied(self: FastPath, b: Buffers, silu: Array) -> None:
        multiply(self, b, silu)
        rest(self, b, silu)

    def rest(self: FastPath, b: Buffers, silu: Array) -> None:
        ffn = self.model.config.ffn
        start = up(ffn)
        alter(self, silu[:, :ffn], b.gate_up[:, start : start + ffn], b.activated.x[:, :ffn])
        b.activated.quantise()

    with patched(FastPath, "activate", activated), patched(FastPath, "multiply", multiplied):
        yield
