"""The reference's pass over a prompt and the floors that follow from it, computed once for many planted faults.

A fault of the fast path changes neither. One that is planted in the code that computes them must not be served what
that code gave before: so beside what is kept stands what that code was, object by object, and as long as one of them
is another, nothing kept is served.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from engine import arithmetic, formats, model, reference, stage_error
from engine.bisection import floor, readings, run, sides, stages
from engine.bisection.floor import Evaluations, Floor
from engine.bisection.naming import Spec
from engine.bisection.run import Bisection
from engine.bisection.sides import F32, PathSide, Pieces, Side, Stages
from engine.model import Model

CODE = (reference, arithmetic, model, formats, stage_error, floor, readings, sides, stages)
"""The modules that compute an oracle's pass and its floors: a fault anywhere else leaves both as they were."""


def standing() -> list[Any]:
    """What each name in CODE means now, and each in its classes: where a fault is planted, one means another thing."""
    found: list[Any] = []
    for module in CODE:
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                found.append(value)
                if isinstance(value, type):
                    found += vars(value).values()
    return found


class Kept:
    """The reference path of a model as an oracle for one prompt; what it gave is kept.

    served  how often something that was kept took the place of a computation
    """

    def __init__(self, model: Model, tokens: Sequence[int], name: str = "m") -> None:
        self.model, self.tokens, self.name, self.served = model, tuple(tokens), name, 0
        pieces = Pieces(len(self.tokens))
        self.logits = self.oracle().stages(self.tokens, pieces)
        self.stages: Stages = dict(pieces.stages)
        self.floors: dict[tuple[tuple[str, ...], bool], Floor] = {}
        self.code = standing()

    def bisect(self, subject: Side) -> Bisection:
        """What bisection says of a subject of this model beside its reference."""
        if not self.holds():
            return run.bisect(subject, self.oracle(), self.tokens)
        return run.bisect(subject, _KeptOracle(self), self.tokens, evaluations=_KeptFloors(self))

    def oracle(self) -> PathSide:
        """The reference path, with nothing kept."""
        return PathSide(Spec(f"{self.name}@reference", self.name, "reference"), self.model, split=False)

    def holds(self) -> bool:
        """Whether the code is what it was."""
        now = standing()
        return len(now) == len(self.code) and all(a is b for a, b in zip(now, self.code, strict=True))

    def are_own(self, stages: Stages | None) -> bool:
        """Whether these are the stages that are kept, all of them: one that a subject gave may stand among them."""
        return (
            stages is not None
            and stages.keys() == self.stages.keys()
            and all(stages[key] is array for key, array in self.stages.items())
        )


class _KeptOracle(PathSide):
    """The reference path, which has run already."""

    def __init__(self, kept: Kept) -> None:
        super().__init__(kept.oracle().spec, kept.model, split=False)
        self.kept = kept

    def stages(self, tokens: Sequence[int], pieces: Pieces) -> F32:
        self.kept.served += 1
        pieces.stages.update(self.kept.stages)
        return self.kept.logits


class _KeptFloors(Evaluations):
    """Floors that follow from the kept stages are measured once; those of what a subject gave, each time."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def floor(
        self,
        model: Model,
        names: Iterable[str],
        tokens: Sequence[int],
        given: Stages | None,
        exact: Stages | None = None,
    ) -> Floor:
        kept, names = self.kept, tuple(names)
        if not kept.are_own(exact if given is None else given):
            return super().floor(model, names, tokens, given, exact)
        key = names, given is None
        if key in kept.floors:
            kept.served += 1
        else:
            kept.floors[key] = super().floor(model, names, tokens, given, exact)
        return kept.floors[key]
