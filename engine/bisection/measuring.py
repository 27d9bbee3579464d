"""The readings of a bisection, in an order that costs little: what is not needed for the verdict is not run.

The subject runs at most FORWARDS passes: traced, repaired where there are suspects, and untraced (or repaired once
more, where the repair brings another suspect to light); and one evaluation of each stage with the oracle's inputs,
which is a pass that is handed the oracle's outputs. The oracle runs one, or two where it is no path of ours (watched).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bisection import clues, labels
from engine.bisection.floor import INT8, RESTS, Evaluations, Floor
from engine.bisection.measured import Clue, Decisive, Finding, Measured, Row
from engine.bisection.readings import Error, read
from engine.bisection.sides import HANDED, PathSide, Pieces, Side, Stages
from engine.bisection.stages import SQUARE, Key, inputs, weights
from engine.bisection.verdict import suspects
from engine.model import Model
from engine.stage_error import RESOLUTION

F32 = NDArray[np.float32]
LOGITS: Key = ("lm_head", None)
FORWARDS = 3
"""How many passes the subject may run, beside the evaluation of each stage with the oracle's inputs."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A side's traced forward pass."""

    stages: Stages
    logits: F32


def _looked_at_again(old: Row, new: Row) -> Row:
    """The row of a suspect that is new; of others the old one, with whether it was right."""
    if new.suspect and not old.suspect:
        return new
    return replace(old, right=new.own is not None and new.own.within)


class Measuring:
    """The readings of two sides of which at least one has a model."""

    def __init__(
        self,
        subject: Side,
        oracle: Side,
        tokens: Sequence[int],
        judged: Ran,
        traced: Ran,
        model: Model,
        evaluations: Evaluations,
    ) -> None:
        self.subject, self.oracle, self.tokens, self.model = subject, oracle, tokens, model
        self.judged, self.traced, self.evaluations = judged, traced, evaluations
        self.config, self.evaluated, self.floor_of_own = model.config, 0, Floor({})
        self.own_arithmetic = subject.arithmetic
        self.claims = subject.spec.engine if isinstance(subject, PathSide) else None
        self.parts = subject.parts(len(tokens)) if isinstance(subject, PathSide) else (len(tokens),)

    def measured(self, m: Measured) -> tuple[Measured, str]:
        """All readings, one after the other; and what the products of the subject show."""
        wanted, both = self.judged.stages, (*self.subject.arithmetic, *self.oracle.arithmetic)
        exact = wanted if self._is_exact(self.oracle) else None
        free = self.evaluations.floor(self.model, both, self.tokens, None, exact)
        rows = self._with("cumulative", m.rows, self.traced.stages, wanted, free, both)
        computed, found = "", dict[Key, Clue]()
        findings = [*labels.own_name("subject", self.subject), *labels.own_name("oracle", self.oracle)]
        told, fixed = False, None
        if self.subject.injects:
            names = [name for name in both if exact is None or name != HANDED]
            more = (*((RESTS,) if self.claims == "fast" and INT8 in names else ()), *labels.needed(self.oracle))
            fixed = self.evaluations.floor(self.model, (*names, *more), self.tokens, wanted)
            forced = self._handed(wanted, None)
            self.evaluated = 1
            # the reference's outputs are of float64, what it hands over is float32: that is what the subject can repeat
            due = wanted if exact is None else fixed.exact
            rows = self._with("isolated", rows, forced, due, fixed, names, given=wanted)
            if self.claims is not None and INT8 in fixed.errors:
                # where the oracle lacks a stage's inputs, the subject and the floor computed from others each
                fed = {key: array for key, array in forced.items() if self._is_fed(key, wanted)}
                others: list[tuple[Key, slice]] = []
                if told := any(weights(key, self.model) for key in fed):
                    also, computed, others = clues.served_otherwise(self.claims, fed, fixed, self.model, self.parts)
                    findings += also
                if self.claims == "fast":
                    rows = self._predicted(rows, forced, fixed, others)
                    if others:  # what served went on from more digits than those that were tapped
                        self.own_arithmetic = (*self.own_arithmetic, HANDED)
            found |= self._clues(rows, ("isolated", "predicted"), forced, due, fixed, wanted)
        facts = self._decisive(free, both)
        # always: where a stage was handed over, what a fused kernel had done was done again behind it
        rows = self._own(rows, self.traced.stages, found)
        if self.claims == "fast" and not told:
            also, computed, _ = clues.served_otherwise(
                self.claims, self.traced.stages, self.floor_of_own, self.model, self.parts
            )
            findings += also
        findings += self._labels(fixed)
        rows = self._repaired(rows, free, both, found)
        if self.forwards < FORWARDS:
            findings += self._silence(self.subject.untraced(self.tokens), free)
        if isinstance(self.oracle, PathSide) and self.oracle.spec.engine == "fast":
            findings += self._oracles_silence(self.oracle.untraced(self.tokens))
        return replace(m, rows=rows, decisive=facts, findings=(*m.findings, *findings), clues=found), computed

    @property
    def forwards(self) -> int:
        """Forward passes of the subject so far; that in which every stage was handed over counts as evaluations."""
        return self.subject.forwards - self.evaluated

    def _labels(self, fixed: Floor | None) -> list[Finding]:
        """What the stages of both sides show beside what they say that they are; `fixed`: handed the oracle's."""
        given = self.judged.stages
        if fixed is None:
            fixed = self.evaluations.floor(self.model, labels.needed(self.oracle), self.tokens, given)
        found = [
            *labels.another_path("oracle", self.oracle, given, fixed, self.model, len(self.tokens)),
            *labels.finer_than_said("oracle", self.oracle, given, fixed, self.model),
            *labels.finer_than_said("subject", self.subject, self.traced.stages, self.floor_of_own, self.model),
        ]
        if not isinstance(self.subject, PathSide):  # of a path, what it did with the oracle's inputs told more
            found += labels.another_path(
                "subject", self.subject, self.traced.stages, self.floor_of_own, self.model, len(self.tokens)
            )
        return found

    def _own(self, rows: Sequence[Row], stages: Stages, found: dict[Key, Clue], fresh: bool = False) -> list[Row]:
        """Each stage of a pass against the reference's, on the inputs that it had there.

        fresh  of suspects alone that were none before
        """
        names = (*self.own_arithmetic, *(() if fresh else labels.needed(self.subject)))
        floor = self.evaluations.floor(self.model, names, self.tokens, stages)
        if not fresh:
            self.floor_of_own = floor
        read_rows = self._with("own", rows, stages, floor.exact, floor, self.own_arithmetic, given=stages)
        if fresh:
            read_rows = [_looked_at_again(old, new) for old, new in zip(rows, read_rows, strict=True)]
        new_clues = self._clues(read_rows, ("own",), stages, floor.exact, floor, stages)
        found |= {key: clue for key, clue in new_clues.items() if key not in found}
        return read_rows

    def _repaired(self, rows: Sequence[Row], free: Floor, names: Sequence[str], found: dict[Key, Clue]) -> list[Row]:
        """A pass with the oracle's output at all suspects; another one if a suspect more comes to light in it."""
        rows, wanted = list(rows), self.judged.stages
        while self.subject.injects and (bad := frozenset(suspects(rows))) and self.forwards < FORWARDS:
            repaired = self._handed(wanted, bad)
            rows = self._with("repaired", rows, repaired, wanted, free, names)
            if all(row.agrees or row.suspect for row in rows):
                break
            rows = self._own(rows, {**repaired, **{key: wanted[key] for key in bad}}, found, fresh=True)
            if frozenset(suspects(rows)) == bad:
                break
        return rows

    def _predicted(
        self, rows: Sequence[Row], forced: Stages, fixed: Floor, others: Sequence[tuple[Key, slice]]
    ) -> list[Row]:
        """Products of the fast path against what docs/order.md says that they are: they owe more than the floor.

        Left out are `others`, rows that another path computed: they are one finding.
        """
        c, found = self.config, []
        for row in rows:
            formats = [weight.format.block > 1 for weight in weights(row.key, self.model)]
            if row.why or not any(formats) or not self._is_fed(row.key, self.judged.stages):
                found.append(row)
                continue
            got, want = forced[row.key], fixed.rests[row.key]
            for key, part in others:
                if key == row.key:
                    got = want if got.ndim == 1 else np.concatenate([got[: part.start], want[part], got[part.stop :]])
            # numpy sums pairwise, the fast path block after block: errors of n terms then grow as the root of n
            terms = max(weight.columns // weight.format.block for weight in weights(row.key, self.model))
            floors = [floor.times(math.sqrt(terms)) for floor in fixed.of(("float32",), row.key)]
            # and each addition rounds: where one entry outweighs all others, no sample tells what its sum may err by
            resolution = max(RESOLUTION, math.sqrt(terms) * float(np.finfo(np.float32).eps))
            found.append(replace(row, predicted=read(got, want, row.key[0], c, floors, resolution)))
        return found

    def _is_fed(self, key: Key, given: Stages) -> bool:
        """Whether all that a stage reads was handed over."""
        return all(one in given for one in inputs(key, self.config.n_layers))

    def _is_exact(self, side: Side) -> bool:
        """Whether its stages are those of the reference's pass over the same model."""
        return isinstance(side, PathSide) and side.spec.engine == "reference" and side.model is self.model

    def _handed(self, given: Stages, only: frozenset[Key] | None) -> Stages:
        pieces = Pieces(len(self.tokens), given, only)
        self.subject.stages(self.tokens, pieces)
        return pieces.stages

    def _with(
        self,
        name: str,
        rows: Sequence[Row],
        got: Stages,
        want: Stages,
        floor: Floor,
        names: Sequence[str],
        given: Stages | None = None,
    ) -> list[Row]:
        """The rows with a reading more: what the subject gave against what it should have.

        given  the inputs, where they were handed over: of what follows from NaN nothing can be told, unless it vanishes
        """
        lost = {key for key, array in (given or {}).items() if np.isnan(array).any()}
        read_rows = []
        for row in rows:
            compared = row.key in got if name == "own" else not row.why
            if compared and not lost.isdisjoint(inputs(row.key, self.config.n_layers)):
                compared = name == "isolated" and _nan_vanished(row.key, got[row.key], want[row.key])
            if not compared:
                read_rows.append(row)
                continue
            reading = read(got[row.key], want[row.key], row.key[0], self.config, floor.of(names, row.key))
            change: dict[str, Any] = {name: reading}
            read_rows.append(replace(row, **change))
        return read_rows

    def _silence(self, silent: F32 | None, free: Floor) -> list[Finding]:
        """What the logits without a tap tell beside the traced ones, which have to have the same bits."""
        if silent is None or silent.tobytes() == self.traced.logits.tobytes():
            return []
        exact = free.exact[LOGITS]
        rounding = free.errors.get(INT8)
        with np.errstate(all="ignore"):
            off, apart = (_rms(silent - exact), _rms(self.traced.logits - exact))
        tiny = rounding is not None and off < 0.1 * rounding[LOGITS].stage.whole and off < 0.1 * apart
        if self.claims == "fast" and tiny:
            text = (
                "the path claims fast, but its logits without a trace are those of the reference path (off by "
                f"{off:.2g}; the traced ones by {apart:.2g}): what users are served is not what is traced"
            )
            return [Finding("silent-fallback", text)]
        return [_differs("subject")]

    def _oracles_silence(self, silent: F32) -> list[Finding]:
        """A finding if the logits that users of the oracle's path get are not the traced ones."""
        return [] if silent.tobytes() == self.judged.logits.tobytes() else [_differs("oracle")]

    def _clues(
        self, rows: Sequence[Row], names: Sequence[str], got: Stages, want: Stages, floor: Floor, given: Stages
    ) -> dict[Key, Clue]:
        """What the arrays of the suspects among these readings show."""
        found = {}
        for row in rows:
            failing = [one for name in names if (one := getattr(row, name)) is not None and not one.within]
            if failing:
                errors: list[Error] = [errors[row.key] for errors in floor.errors.values()]
                arrays = got[row.key], want[row.key]
                found[row.key] = clues.clue(row.key, failing[0], *arrays, errors, given, self.model, self.parts)
        return found

    def _decisive(self, free: Floor, names: Sequence[str]) -> Decisive | None:
        if LOGITS not in self.traced.stages or LOGITS not in self.judged.stages:
            return None
        peaks = np.array([error.peak.max() for error in free.of(names, LOGITS)])
        return clues.decisive(self.traced.stages[LOGITS], self.judged.stages[LOGITS], peaks)


def _differs(role: str) -> Finding:
    text = f"the {role}'s logits without a trace have other bits than the traced ones"
    return Finding("untraced-differs", f"{text}: a race, or a path that only one of them takes")


def _nan_vanished(key: Key, got: F32, want: F32) -> bool:
    """Whether the subject has a number where NaN is due; what is masked in a row of NaN may be either."""
    return key[0] not in SQUARE and bool(np.any(np.isnan(want) & ~np.isnan(got)))


def _rms(x: F32) -> float:
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))
