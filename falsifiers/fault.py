"""What a planted fault of the engine is: which stage it makes wrong, in which layers, and on which models it shows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from engine.model import Model
from engine.stages import WHOLE
from pv.trial import Planting

Place = tuple[str, int | None]
"""A stage and its layer, None for a stage of the whole model."""
TOKENIZER, TOKENS = "tokenizer", "tokens"
"""Where a fault is planted that no stage has, and what is wrong then: what comes before the first stage."""
Tokens = Callable[[Model, Sequence[int]], list[int]]
Made = TypeVar("Made", bound=Planting)


def every_layer(model: Model) -> Iterable[int]:
    return range(model.config.n_layers)


def first_layer(model: Model) -> Iterable[int]:
    return (0,)


def last_layer(model: Model) -> Iterable[int]:
    return (model.config.n_layers - 1,)


def always(model: Model) -> bool:
    return True


def as_given(model: Model, tokens: Sequence[int]) -> list[int]:
    return list(tokens)


def not_finite(model: Model) -> list[int]:
    """The last tokens of the vocabulary whose embedding is not finite."""
    weight = model.embedding
    rows = range(max(0, weight.rows - 4), weight.rows)
    tail = replace(weight, raw=weight.raw[rows[0] :], rows=len(rows)).dequantised()
    return [row for row, values in zip(rows, tail, strict=True) if not np.isfinite(values).all()]


def has_nan(model: Model) -> bool:
    return bool(not_finite(model))


def ends_in_nan(model: Model, tokens: Sequence[int]) -> list[int]:
    """The prompt with a token at its end whose embedding is not finite: what stands before it is as it was."""
    return [*tokens[:-1], not_finite(model)[-1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A defect that can be planted in the engine.

    name      of the function that plants it; its docstring says what it does wrong
    stage     the first stage whose own output is wrong where its inputs are right; "" where no stage is wrong but
              another path serves
    plant     a context manager that plants it and takes it out again; the path is opened inside
    where     "fast" or "reference": the path that it is planted in; TOKENIZER: before both, so that it shows beside
              another engine alone, and its stage is TOKENS
    layers    of a model: in which the stage can be wrong
    shows_on  whether a model has what it breaks; on any other it changes nothing, or nothing for sure
    also      further stages that are wrong by themselves, in the same layers: a kernel serves more than one
    tokens    a prompt as it must be for the fault to show, made of one of at least 18 tokens
    fused     whether only a kernel that does several steps at once has it: where a stage is handed over between them,
              the step behind it is done again by another, which is right
    """

    name: str
    stage: str
    plant: Planting
    where: str = "fast"
    layers: Callable[[Model], Iterable[int]] = every_layer
    shows_on: Callable[[Model], bool] = always
    also: tuple[str, ...] = ()
    tokens: Tokens = as_given
    fused: bool = False

    @property
    def sentence(self) -> str:
        """What it does wrong."""
        return " ".join((self.plant.__doc__ or "").split())

    def places(self, model: Model) -> list[Place]:
        """Every stage and layer that can be wrong by itself, the first first."""
        found: list[Place] = []
        for stage in filter(None, (self.stage, *self.also)):
            found += (
                [(stage, None)]
                if stage in (*WHOLE, TOKENS)
                else [(stage, layer) for layer in sorted(self.layers(model))]
            )
        return found

    def layer(self, model: Model) -> int | None:
        """The first layer in which the stage is wrong; None for a stage of the whole model, or for no stage."""
        return next((layer for stage, layer in self.places(model) if stage == self.stage), None)


def fault(stage: str, **options: Any) -> Callable[[Made], Made]:
    """Mark a mutant as a fault of a stage; options: the further fields of Fault."""

    def mark(planting: Made) -> Made:
        name = planting.__name__
        vars(planting)["fault"] = Fault(name=name, stage=stage, plant=planting, **options)
        return planting

    return mark


def faults_of(module: Any) -> list[Fault]:
    """The faults that a module defines, in the order of its text."""
    named = [getattr(value, "fault", None) for value in vars(module).values()]
    return [one for one in named if isinstance(one, Fault) and one.plant.__module__ == module.__name__]
