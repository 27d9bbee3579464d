"""Falsifiers of contracts/bisect-v1.yaml: bisection accuses nothing that is right, and names what is wrong."""

import json
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from engine import stage_error
from engine.bisection import clues, measured, readings, run, verdict
from engine.bisection.naming import Spec
from engine.bisection.sides import PathSide
from engine.model import Model
from falsifiers.fault import Fault
from falsifiers.faults import FAULTS
from falsifiers.faults_activation import gate_is_added, one_lane_in_the_tail_is_wrong, silu_is_gelu
from falsifiers.faults_attention import (
    keys_are_read_one_slot_off,
    mask_is_the_lowest_number,
    query_heads_take_values_in_turn,
    scores_are_not_scaled,
    softmax_forgets_the_first_sixteen,
    token_sees_the_next,
    values_are_kept_in_bfloat16,
)
from falsifiers.faults_ends import (
    another_special_token_begins,
    final_norm_has_no_gain,
    logits_are_one_off,
    output_matrix_is_transposed,
    reference_serves_as_the_fast_path,
)
from falsifiers.faults_norms import (
    attention_is_not_added,
    feed_forward_is_not_added,
    last_layer_is_normed_in_half_precision,
    norms_exchange_their_gains,
    squares_are_divided_by_one_less,
)
from falsifiers.faults_products import (
    activations_are_rounded_coarsely,
    gate_and_up_change_places,
    last_columns_of_the_output_are_lost,
    last_row_of_up_is_another,
    output_of_attention_is_the_next_layers,
)
from falsifiers.faults_qkv import (
    base_of_rotary_positions,
    keys_and_values_change_places,
    keys_do_not_turn_past_position_16,
    pairs_of_the_other_architecture,
    queries_count_from_one,
)
from falsifiers.subject import InProcess, Installed, run_apr, subjects
from falsifiers.synthetic import random_model
from pv.trial import Trial, mutant, patched

__all__ = [
    "activations_are_rounded_coarsely",
    "another_special_token_begins",
    "attention_is_not_added",
    "base_of_rotary_positions",
    "feed_forward_is_not_added",
    "final_norm_has_no_gain",
    "gate_and_up_change_places",
    "gate_is_added",
    "keys_and_values_change_places",
    "keys_are_read_one_slot_off",
    "keys_do_not_turn_past_position_16",
    "last_columns_of_the_output_are_lost",
    "last_layer_is_normed_in_half_precision",
    "last_row_of_up_is_another",
    "logits_are_one_off",
    "mask_is_the_lowest_number",
    "norms_exchange_their_gains",
    "one_lane_in_the_tail_is_wrong",
    "output_matrix_is_transposed",
    "output_of_attention_is_the_next_layers",
    "pairs_of_the_other_architecture",
    "queries_count_from_one",
    "query_heads_take_values_in_turn",
    "reference_serves_as_the_fast_path",
    "scores_are_not_scaled",
    "silu_is_gelu",
    "softmax_forgets_the_first_sixteen",
    "squares_are_divided_by_one_less",
    "token_sees_the_next",
    "values_are_kept_in_bfloat16",
]
"""The planted faults that are mutants of FALSIFY-BISECT-001."""

TOKENS = [7, 300, 21, 7, 128, 42, 350, 11, 30, 380, 5, 5, 5, 211, 99, 16, 29, 64, 300, 77, 8]
"""21: past position 16, and one of them decoded alone."""
PROMPT = "Return a list of the keys, in the order in which they were added to the dictionary."
SAME = ("EQUAL", "WITHIN_FLOOR")


# ---------------------------------------------------------------- FALSIFY-BISECT-001


def paths_of_one_model_agree(trial: Trial) -> None:
    """Of the fast path beside the reference, bisection says that it is within the floor, over all stages."""
    for subject in subjects(trial):
        if isinstance(subject, Installed):
            done = run_apr(trial, "bisect", subject.model.path, "--prompt", PROMPT, "--json")
            trial.require(done.out.startswith("{"), f"apr bisect gives no JSON: {done.last_line}")
            found = json.loads(done.out)
            trial.equal(done.code, found["exit_code"], "exit code of `apr bisect`")
            verdict, counted = found["verdict"], found["stages"]
            trial.observe("verdict", verdict)
            expected, compared = counted["expected"], counted["compared"]
        else:
            assert isinstance(subject, InProcess)
            one = bisected(subject.model)
            verdict, expected = one.verdict.name, len(one.measured.rows)
            compared = sum(not row.why for row in one.measured.rows)
        trial.equal(compared, expected, "stages that were compared, of those that there are")
        trial.check(verdict in SAME, f"the fast path beside the reference is said to be {verdict}")


def bisected(model: Model) -> Any:
    """What bisection says of a model's fast path beside the reference."""
    threads = min(2, int(numba.config.NUMBA_NUM_THREADS))
    subject = PathSide(Spec("m@fast", "m", "fast"), model, threads=threads)
    oracle = PathSide(Spec("m@reference", "m", "reference"), model, split=False)
    with np.errstate(all="ignore"):
        return run.bisect(subject, oracle, TOKENS)


# ---------------------------------------------------------------- FALSIFY-BISECT-002


def planted_faults_are_named(trial: Trial) -> None:
    """One fault of each stage, small ones among them, and a path in another's place: named, and nothing else is."""
    model = random_model(trial.rng, "qwen2")
    chosen = tried(model)
    trial.observe("faults", len(chosen))
    for fault in chosen:
        with fault.plant():
            found = bisected(model)
        named = [(one.stage, one.layer) for one in found.verdict.defects]
        trial.equal(found.verdict.name, "DIVERGES", f"verdict with {fault.name}")
        wanted = fault.places(model)
        if wanted:
            trial.equal(named[:1], wanted[:1], f"first stage that is named with {fault.name}")
            trial.equal(sorted(set(named) - set(wanted)), [], f"stages that are right and named with {fault.name}")
        else:
            trial.equal(named, [], f"stages that are named with {fault.name}")
            kinds = [one.kind for one in found.measured.findings]
            trial.equal(kinds, ["silent-fallback"], f"findings with {fault.name}")


SMALL = ("activations_are_rounded_coarsely", "last_row_of_up_is_another", "last_layer_is_normed_in_half_precision")


def tried(model: Model) -> list[Fault]:
    """The last fault of each stage that the model can show, that of another path, and some small ones."""
    last = {one.stage: one for one in FAULTS if one.where == "fast" and one.shows_on(model)}
    small = [one for one in FAULTS if one.name in SMALL and one.shows_on(model) and one not in last.values()]
    return [*last.values(), *small]


@mutant
def what_was_carried_is_blamed() -> Iterator[None]:
    """A stage is suspected for an error that was carried to it, as the practised method does."""

    def failing(self: measured.Row) -> Any:
        return [one for one in (self.isolated, self.predicted, self.own, self.cumulative) if one and not one.within]

    with patched(measured.Row, "failing", property(failing)):
        yield


@mutant
def allowances_are_a_millionfold() -> Iterator[None]:
    """An error may be a million times its floor: as large as a stage itself, where the floor is float32's."""
    with (
        patched(stage_error, "WHOLE_ALLOWANCE", 1.4e6),
        patched(stage_error, "SINGLE_ALLOWANCE", 4e6),
        patched(readings, "PEAK_ALLOWANCE", 4e6),
    ):
        yield


@mutant
def last_suspect_comes_first() -> Iterator[None]:
    """Defects are told from the last one to the first."""
    judge = verdict.judge

    def backwards(m: Any) -> Any:
        found = judge(m)
        return type(found)(
            name=found.name,
            defects=found.defects[::-1],
            suspects=found.suspects,
            missing=found.missing,
            notes=found.notes,
        )

    with patched(run, "judge", backwards):
        yield


@mutant
def arithmetic_is_not_asked_for() -> Iterator[None]:
    """Nobody looks whether the products are of the arithmetic that the path claims."""
    with patched(clues, "served_otherwise", lambda *args: ([], "", [])):
        yield
