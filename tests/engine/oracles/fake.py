"""An oracle without libraries: the reference path in the clothes of one. Tests plant a defect in what it hands over."""

from contextlib import contextmanager

import numpy as np

import engine.bisection.naming  # noqa: F401  (it lists the engines when it is imported: before there is one alone)
from engine.model import read_model
from engine.opening import open_file
from engine.opening import open_model as opened
from engine.oracles import MODULES
from engine.oracles.proof import _proved
from engine.reference import ReferencePath

OPEN = []
"""Fakes that were opened and not closed."""


class Fake:
    """engine.oracles.Oracle; `capture` of a subclass is where a defect is planted."""

    name = "transformers"
    engine = "fake 1.0"
    missing: tuple[str, ...] = ()
    notes = ("it is a fake",)

    def __init__(self, path, dtype):
        self.path, self.variant = path, dtype
        self.model = read_model(open_file(path))
        OPEN.append(self)

    def tokens(self, prompt):
        return opened(self.path).tokenizer.encode(prompt)

    def forward(self, tokens, capture=None):
        def tap(stage, layer, array):
            if capture is not None and stage not in self.missing:
                self.hand_over(capture, stage, layer, array.copy())

        return ReferencePath(self.model).forward(tokens, tap)

    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, array)

    def close(self):
        OPEN.remove(self)


def open_model(path, dtype="float32"):
    return KIND(path, dtype)


KIND = Fake


@contextmanager
def installed(monkeypatch, kind=Fake):
    """It is the one oracle there is, under the name transformers, and nothing was proved before."""
    before = dict(MODULES)
    with monkeypatch.context() as patch:
        MODULES.clear()
        MODULES["transformers"] = __name__
        patch.setattr(f"{__name__}.KIND", kind)
        _proved.cache_clear()
        OPEN.clear()
        try:
            yield
        finally:
            _proved.cache_clear()
            MODULES.clear()
            MODULES.update(before)  # in their order


def moved(array):
    """The values in another order of the last axis."""
    return np.ascontiguousarray(np.roll(array, 1, axis=-1))
