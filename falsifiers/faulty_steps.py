"""How faults are planted in the steps of the fast path: other weights, another step, or another result of one.

Each function is a context manager; a path that is opened inside has the fault, with a tap and without.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from engine.buffers import Buffers, Product, Rows, Steps, up
from engine.fast import FastPath
from engine.model import Layer, Model, Weight
from falsifiers.synthetic import NAMED
from pv.trial import patched

Array = Any
Change = Callable[[Layer, int, Model], dict[str, Any]]


@contextmanager
def made_differently(change: Callable[[FastPath], None]) -> Iterator[None]:
    """Each fast path is changed once it is made."""
    make = FastPath.__init__

    def changed(self: FastPath, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        change(self)

    with patched(FastPath, "__init__", changed):
        yield


@contextmanager
def layers_changed(change: Change) -> Iterator[None]:
    """The fast path's layers have other weights: change(layer, its index, model) gives those of its fields that differ.

    The model itself stays right: it is the kernels that read something else.
    """

    def remade(path: FastPath) -> None:
        for index, layer in enumerate(path.model.layers):
            fields = change(layer, index, path.model)
            if fields:
                path.layers[index] = Steps(replace(layer, **fields))

    with made_differently(remade):
        yield


@contextmanager
def weights_changed(role: str, formats: tuple[str, ...], change: Callable[[Weight], Weight]) -> Iterator[None]:
    """The matrix of this role is read wrongly in each layer where it has one of the formats."""

    def changed(layer: Layer, index: int, model: Model) -> dict[str, Any]:
        weight = getattr(layer, role)
        return {role: change(weight)} if weight.format.name in formats else {}

    with layers_changed(changed):
        yield


def has_format(role: str, *formats: str) -> Callable[[Model], bool]:
    """Whether a model has the matrix of this role in one of the formats, in some layer."""
    return lambda model: any(getattr(layer, role).format.name in formats for layer in model.layers)


def with_format(role: str, *formats: str) -> Callable[[Model], list[int]]:
    """The layers of a model that have it so."""
    return lambda model: [i for i, layer in enumerate(model.layers) if getattr(layer, role).format.name in formats]


def in_float32(weight: Weight, values: Array) -> Weight:
    """A weight of these values (rows, columns)."""
    rows, columns = values.shape
    raw = np.ascontiguousarray(values, np.float32).view(np.uint8)
    return Weight(weight.name, raw, NAMED["F32"], rows, columns)


def in_blocks(weight: Weight, change: Callable[[Array], None]) -> Weight:
    """The weight with its blocks (n, bytes) uint8 changed in place, in a copy."""
    raw = np.array(weight.raw)
    change(raw.reshape(-1, weight.format.nbytes))
    return replace(weight, raw=raw)


def layer_of(path: FastPath, part: Any) -> int | None:
    """The layer that a product or a gain belongs to; None for those of the whole model."""
    for index, steps in enumerate(path.layers):
        if any(part is own for own in vars(steps).values()):
            return index
    return None


def product_of(path: FastPath, stage: str, layer: int | None) -> Product:
    """The product that computes a stage."""
    if layer is None:
        return path.output
    names = {"qkv_matmul": "qkv", "attn_out": "attn_out", "ffn_gate": "gate_up", "ffn_up": "gate_up", "ffn_out": "down"}
    product: Product = getattr(path.layers[layer], names[stage])
    return product


@contextmanager
def product_altered(stage: str, alter: Callable[[FastPath, int | None, Rows, Array, Array], None]) -> Iterator[None]:
    """What the product of a stage has written is altered in place: alter(path, layer, rows, out, before).

    out, before  (T, columns): what was written, and what was there before
    """
    project = FastPath.project

    def other(self: FastPath, product: Product, rows: Rows, out: Array) -> None:
        layer = layer_of(self, product)
        mine = (layer is None) == (stage == "lm_head") and product is product_of(self, stage, layer)
        c = self.model.config
        columns = {"ffn_gate": slice(0, c.ffn), "ffn_up": slice(up(c.ffn), up(c.ffn) + c.ffn)}.get(
            stage, slice(0, product.width)
        )
        before = out[:, columns].copy() if mine else None
        project(self, product, rows, out)
        if mine:
            alter(self, layer, rows, out[:, columns], before)

    with patched(FastPath, "project", other):
        yield


def norm_of(b: Buffers, into: Rows) -> str:
    """The stage that a call of `normalise` computes."""
    return "attn_norm" if into is b.attn_normed else "ffn_norm" if into is b.ffn_normed else "final_norm"


@contextmanager
def norm_replaced(stage: str, normed: Callable[[Array, float, Array], Array]) -> Iterator[None]:
    """The norm of a stage is normed(x (T, hidden), epsilon, gain (hidden,))."""
    normalise = FastPath.normalise

    def other(self: FastPath, b: Buffers, delta: Any, gain: Any, into: Rows) -> None:
        normalise(self, b, delta, gain, into)
        if norm_of(b, into) == stage:
            c = self.model.config
            plain = np.asarray(gain)[: c.hidden]
            into.x[:, : c.hidden] = normed(b.x[:, : c.hidden], c.rms_eps, plain)
            into.quantise()

    with patched(FastPath, "normalise", other):
        yield


@contextmanager
def residual_altered(stage: str, alter: Callable[[FastPath, int, Array, Array], Array]) -> Iterator[None]:
    """The residual stream of a stage gains alter(path, layer, x (T, hidden), delta (T, hidden)), not delta."""
    normalise = FastPath.normalise

    def other(self: FastPath, b: Buffers, delta: Any, gain: Any, into: Rows) -> None:
        after_attention = into is b.ffn_normed
        if delta is None or after_attention != (stage == "post_attn_residual"):
            normalise(self, b, delta, gain, into)
            return
        layer = layer_of(self, gain)
        if not after_attention:
            layer = (len(self.layers) if layer is None else layer) - 1
        assert layer is not None
        hidden = self.model.config.hidden
        b.x[:, :hidden] += alter(self, layer, b.x[:, :hidden], delta[:, :hidden])
        normalise(self, b, None, gain, into)

    with patched(FastPath, "normalise", other):
        yield
