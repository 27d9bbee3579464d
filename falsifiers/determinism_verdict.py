"""Falsifier of what `apr determinism` makes of measurements: FALSIFY-DETERMINISM-003 of its contract."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from engine import compare, determinism, determinism_report
from engine.cells import LM_HEAD, LOGITS, Cell, Key, planned
from engine.determinism import NotRun, Outcome
from engine.determinism_report import Report
from falsifiers.subject import LAYER_STAGES
from pv.trial import Trial, mutant, patched

KEYS: list[Key] = [
    ("embedding", 0),
    *((stage, layer) for layer in range(2) for stage in LAYER_STAGES),
    ("final_norm", None),
    LM_HEAD,
    LOGITS,
]
"""The tensors of a model of two layers, in the order of execution."""


def verdict_is_what_was_measured(trial: Trial) -> None:
    """Equal only if all that can be run here was, with all tensors; the first difference is named; no count is lost."""
    cells = planned()
    trial.equal(len(cells), len(set(cells)), "cells of the matrix, each once")
    same = dict.fromkeys(KEYS, "0" * 64)
    whole: dict[Cell, Mapping[Key, str]] = dict.fromkeys(cells, same)
    judged(trial, whole, (), "equal", "all cells the same")
    for index in [*trial.rng.permutation(len(KEYS) - 1)[:11].tolist(), len(KEYS) - 1]:
        cell = cells[int(trial.rng.integers(len(cells)))]
        difference_is_named(trial, whole, cell, index)

    lacking = {key: value for key, value in same.items() if key != ("attn_scores", 1)}
    judged(trial, dict.fromkeys(cells, lacking), (), "not measured", "all cells without one tensor")
    judged(trial, {}, (NotRun(tuple(cells), "no reason"),), "not measured", "no cell measured")
    judged(trial, {cells[0]: same}, (NotRun(tuple(cells[1:]), "no reason"),), "not measured", "a single cell measured")
    some = {cell: whole[cell] for cell in cells if cell.variant != cells[0].variant}
    rest = tuple(cell for cell in cells if cell not in some)
    judged(trial, some, (NotRun(rest, "this CPU cannot"),), "equal", "one variant that cannot be run")
    judged(trial, some, (NotRun(rest, "ended", failed=True),), "not measured", "one process failed")
    worse = {**some, next(iter(some)): {**same, LM_HEAD: "1" * 64}}
    judged(trial, worse, (NotRun(rest, "ended", failed=True),), "different", "one process failed, and cells differ")
    first_value_is_named(trial)


def judged(
    trial: Trial, measured: Mapping[Cell, Mapping[Key, str]], not_run: tuple[NotRun, ...], want: str, case: str
) -> Outcome:
    """The outcome of such measurements: verdict, exit code, and counts, in JSON and in the text."""
    outcome = Outcome(measured, not_run, len(KEYS))
    report = Report({"name": "m"}, (1, 2), outcome, outcome.differing())
    told, text = report.as_json(), report.as_text()
    trial.equal(told["verdict"], want, f"verdict: {case}")
    trial.equal(outcome.exit_code, {"equal": 0, "different": 1, "not measured": 2}[want], f"exit code: {case}")
    left_out = sum(len(one["cells"]) for one in told["not_run"])
    trial.equal(
        [told["planned"], told["measured"], left_out], [144, len(measured), 144 - len(measured)], f"counts: {case}"
    )
    trial.equal(told["sha256"] is not None, want == "equal", f"a sha256 of all: {case}")
    trial.check(f"{want}: {len(measured)} of 144 cells measured" in text, f"{case}: the text does not say it: {text}")
    listed = sum(int(count) for count in re.findall(r"^ *(\d+)  ", text, re.MULTILINE))
    trial.equal(listed, 144, f"cells that the text accounts for: {case}")
    return outcome


def difference_is_named(trial: Trial, whole: Mapping[Cell, Mapping[Key, str]], cell: Cell, index: int) -> None:
    """A cell of which the tensors from one on differ is named, with that tensor and a neighbour in the matrix."""
    changed = {key: "1" * 64 if KEYS.index(key) >= index else value for key, value in whole[cell].items()}
    alone = KEYS[index] == LOGITS
    outcome = judged(trial, {**whole, cell: changed}, (), "different", f"{cell} differs from {KEYS[index]} on")
    spots = outcome.differing()
    assert spots is not None
    want = [LM_HEAD, LOGITS] if alone else [KEYS[index], KEYS[index]]
    trial.equal([list(spot.key) for spot in spots], [list(key) for key in want], f"tensors named for {KEYS[index]}")
    trial.check(cell in (spots[0].cell, spots[1].cell), f"{cell} differs and is not named: {spots}")
    trial.equal(spots[0].cell.distance(spots[1].cell), 0 if alone else 1, "axes along which the two cells differ")


def first_value_is_named(trial: Trial) -> None:
    """Of two tensors the first value that differs in a bit is told, with its coordinate and both bit patterns."""
    a = trial.rng.standard_normal((5, 3, 8), dtype=np.float32)
    b = a.copy()
    b[2, 1, 7], b[4, 0, 0] = np.nextafter(a[2, 1, 7], np.float32(9)), 7
    outcome = Outcome({}, (), 0)
    cell = planned()[0]
    spots = (determinism.Spot(cell, ("attn_scores", 1)), determinism.Spot(cell, ("attn_scores", 1)))
    told = Report({"name": "m"}, (1,), outcome, spots, (a, b)).as_json()["first"]["again"]
    bits = [f"{int(array[2, 1, 7:].view(np.uint32)[0]):#010x}" for array in (a, b)]
    trial.equal([list(told["coordinate"]), told["a_bits"], told["b_bits"]], [[2, 1, 7], *bits], "first value")
    again = Report({"name": "m"}, (1,), outcome, spots, (a, a.copy()))
    trial.equal(again.as_json()["first"]["again"], None, "a difference that does not show again")
    trial.check("it comes and goes" in again.as_text(), "the text does not say that a difference did not show again")


@mutant
def failed_processes_are_green() -> Iterator[None]:
    """A process that ended without an answer is counted like a variant that the CPU lacks."""
    verdict: Any = Outcome.verdict

    def lenient(self: Outcome) -> str:
        forgiven = tuple(NotRun(one.cells, one.reason) for one in self.not_run)
        return str(verdict.fget(Outcome(self.measured, forgiven, self.tensors)))

    with patched(Outcome, "verdict", property(lenient)):
        yield


@mutant
def nothing_measured_is_equal() -> Iterator[None]:
    """No two cells differ, so they are equal, however few there are."""
    verdict: Any = Outcome.verdict

    def empty(self: Outcome) -> str:
        return "equal" if len(self.measured) < 2 else str(verdict.fget(self))

    with patched(Outcome, "verdict", property(empty)):
        yield


@mutant
def missing_tensors_are_green() -> Iterator[None]:
    """Tensors that no cell has hashed are missed by nobody."""
    verdict: Any = Outcome.verdict

    def content(self: Outcome) -> str:
        least = min(map(len, self.measured.values()), default=0)
        return str(verdict.fget(Outcome(self.measured, self.not_run, least)))

    with patched(Outcome, "verdict", property(content)):
        yield


@mutant
def last_difference_is_named() -> Iterator[None]:
    """Tensors are compared in the order of their names, not of execution."""

    def by_name(stage: str, layer: int | None) -> tuple[str, int]:
        return stage, layer or 0

    with patched(determinism, "execution_order", by_name):
        yield


@mutant
def untraced_logits_are_not_compared() -> Iterator[None]:
    """Logits of the run without a tap are left out when cells are compared."""
    differing = Outcome.differing

    def partial(self: Outcome) -> Any:
        kept = {cell: {**stages, LOGITS: stages[LM_HEAD]} for cell, stages in self.measured.items()}
        return differing(Outcome(kept, self.not_run, self.tensors))

    with patched(Outcome, "differing", partial):
        yield


@mutant
def tolerance_is_applied() -> Iterator[None]:
    """Values that are close are taken for equal when the first difference is looked for."""
    exact = compare.compare

    def close(a: Any, b: Any, **options: Any) -> Any:
        return exact(np.where(np.isclose(a, b), b, a), b, **options)

    with patched(determinism_report, "compare", close):
        yield
