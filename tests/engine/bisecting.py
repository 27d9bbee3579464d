"""What tests of bisection share: sides of a model without a file, faults to plant, readings to judge."""

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np

from engine.arithmetic import HonestPath, arithmetic_named
from engine.bisection.naming import Spec
from engine.bisection.readings import Reading, Spot
from engine.bisection.sides import PathSide, Pieces
from engine.fast import FastPath
from engine.reference import ReferencePath

TOKENS = [7, 200, 21, 7, 128, 42, 99, 3]


def fast(model, **options):
    return PathSide(Spec("m", "m", "fast"), model, threads=1, **options)


def reference(model):
    return PathSide(Spec("m@reference", "m", "reference"), model, split=False)


@contextmanager
def replaced(owner: type, name: str, make: Callable):
    """A method of the path is make(method) inside the block."""
    method = getattr(owner, name)
    setattr(owner, name, make(method))
    try:
        yield
    finally:
        setattr(owner, name, method)


def product_scaled(of, layer, factor, columns=slice(None), few=None):
    """Some columns of a layer's product come times a factor; few: only where a token is alone, or where it is not."""

    def make(project):
        def wrong(self, product, rows, out):
            project(self, product, rows, out)
            if product is getattr(self.layers[layer], of) and few in (None, len(out) == 1):
                out[:, columns] *= np.float32(factor)

        return wrong

    return replaced(FastPath, "project", make)


def untraced_is_reference():
    """The path's own check fails without a word: what is not traced is served by the reference."""

    def make(forward):
        def silent(self, tokens, tap=None, chunk=None):
            if tap is not None:
                return forward(self, tokens, tap, chunk)
            if not self.position:
                self.instead = ReferencePath(self.model)
            self.position += len(tokens)
            return self.instead.forward(tokens)

        return silent

    return replaced(FastPath, "forward", make)


class FakeOracle:
    """An engine in float32 that hands over its stages, changed by `change(key, array)`, without those of `missing`."""

    name, variant, engine, notes = "transformers", "float32", "fake 1.0", ()

    def __init__(self, model, missing=(), change=None, ids=None):
        self.model, self.missing, self.change, self.ids = model, missing, change, ids
        self.closed = False

    def tokens(self, prompt):
        return self.ids

    def forward(self, tokens, capture=None):
        pieces = Pieces(len(tokens))
        logits = HonestPath(self.model, arithmetic_named("float32")).forward(tokens, pieces.tap)
        for key, array in pieces.stages.items():
            if capture is not None and key[0] not in self.missing:
                capture(*key, array if self.change is None else self.change(key, array))
        return logits

    def close(self):
        self.closed = True


def reading(whole=1.0, single=1.0, peak=1.0, within=True, cosine=1.0):
    ratios = {"whole": whole, "single": single, "peak": peak, "at": (0, 0), "within": within}
    spot = Spot((2, 5), 1.5, 1.0, 4194304)
    return Reading(error=whole, floor=1.0, **ratios, nmse=0.0, cosine=cosine, spot=spot)
