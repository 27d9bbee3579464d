"""The floor of a bisection at hand: what honest arithmetic errs by, for this model and these tokens.

It is measured where the sides are compared: handed one side's stages (for an error without what was carried), and left
to itself (for one with it). Each arithmetic costs one evaluation of every stage.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.arithmetic import HonestPath, arithmetic_named, to_bfloat16
from engine.bisection.readings import Error, error_of
from engine.bisection.sides import CACHED, HALVES, HANDED, Pieces, Stages
from engine.bisection.stages import Key
from engine.model import Model, Weight
from engine.reference import Floats, ReferencePath

F32 = NDArray[np.float32]
INT8 = "int8"
RESTS = "int8-rests"


@dataclass
class Floor:
    """Errors of arithmetics against float64, stage by stage.

    exact   the stages in float64
    int8    the same with activations rounded to int8, where that is one of the arithmetics
    rests   the same where the matrix v meets what that rounding left, too, as in the fast path; where it is one
    errors  by the arithmetic's name
    """

    exact: Stages
    int8: Stages = field(default_factory=dict)
    rests: Stages = field(default_factory=dict)
    errors: dict[str, dict[Key, Error]] = field(default_factory=dict)

    def of(self, names: Iterable[str], key: Key) -> list[Error]:
        """The errors of these arithmetics in a stage.

        An engine of 16 bits adds the bias before it rounds, once: its product by itself has been rounded for us alone.
        """
        found = []
        for name in names:
            if name not in self.errors:
                continue
            found.append(self.errors[name][key])
            if key[0] == "qkv_bias" and name in ("float16", "bfloat16"):
                found.append(self.errors[name]["qkv_matmul", key[1]])
        return found


class Evaluations:
    """Measures floors, and counts the evaluations of all stages that they cost."""

    def __init__(self) -> None:
        self.count = 0

    def floor(
        self,
        model: Model,
        names: Iterable[str],
        tokens: Sequence[int],
        given: Stages | None,
        exact: Stages | None = None,
    ) -> Floor:
        """The floor of these arithmetics of a model.

        given  handed over at every stage that it has; None: each pass is left to itself
        exact  the stages in float64, where they are at hand
        """
        if exact is None:
            exact = self._stages(ReferencePath(model), tokens, given)
        floor = Floor(exact)
        for name in dict.fromkeys(names):
            if name == HANDED and given is None:  # nothing is handed over
                continue
            if name in (CACHED, HANDED):
                change = _cache_rounding(model) if name == CACHED else _next_to()
                stages = self._stages(ReferencePath(model), tokens, given, change)
            else:
                path = HalfProducts(model) if name == HALVES else HonestPath(model, arithmetic_named(name))
                stages = self._stages(path, tokens, given)
            floor.errors[name] = {key: error_of(stages[key], exact[key], key[0], model.config) for key in exact}
            if name == INT8:
                floor.int8 = stages
            elif name == RESTS:
                floor.rests = stages
        return floor

    def _stages(
        self,
        path: ReferencePath,
        tokens: Sequence[int],
        given: Stages | None,
        change: "Callable[[Key, F32], F32] | None" = None,
    ) -> Stages:
        self.count += 1
        pieces = Pieces(len(tokens), given)

        def tap(stage: str, layer: int | None, array: F32) -> F32 | None:
            other = pieces.tap(stage, layer, array)
            return other if change is None else change((stage, layer), array if other is None else other)

        path.forward(tokens, tap)
        return pieces.stages


def _next_to() -> Callable[[Key, F32], F32]:
    """Inputs twice as far from what they are as rounding to float32 takes them at most: each is a neighbour of its own.

    So none is spared by chance where a stage reads a few.
    """
    rng = np.random.default_rng(0)

    def change(key: Key, array: F32) -> F32:
        toward = rng.choice(np.array([-np.inf, np.inf], np.float32), array.shape)
        return np.where(np.isfinite(array), np.nextafter(array, toward), array)

    return change


class HalfProducts(HonestPath):
    """float64, but activations are rounded to a matrix' own type where that has 16 bits, as ggml does."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, arithmetic_named("float64"))

    def product(self, x: Floats, weight: Weight) -> Floats:
        if weight.format.name in ("F16", "BF16"):
            single = x.astype(np.float32)
            x = to_bfloat16(single) if weight.format.name == "BF16" else single.astype(np.float16)
        return super().product(x.astype(np.float64), weight)


def _cache_rounding(model: Model) -> Callable[[Key, F32], F32]:
    """What a cache in float16 does to keys and values, once they are tapped."""
    values = model.config.q_width + model.config.kv_width

    def change(key: Key, array: F32) -> F32:
        if key[0] == "k_post_rope":
            return array.astype(np.float16).astype(np.float32)
        if key[0] == "qkv_bias":
            array = array.copy()
            array[:, values:] = array[:, values:].astype(np.float16)
        return array

    return change
