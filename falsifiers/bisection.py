"""Falsifiers of contracts/bisect-v1.yaml: bisection accuses nothing that is right, and names what is wrong."""

# ruff: noqa: F401  (planted faults are imported to be found by their names, as mutants of FALSIFY-BISECT-001)

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from engine import stage_error
from engine.bisection import clues, measured, measuring, readings, run, verdict
from engine.bisection.naming import Spec
from engine.bisection.run import Bisection
from engine.bisection.sides import PathSide, Pieces
from engine.model import Model
from falsifiers.fault import Fault
from falsifiers.faults import FAULTS, NAMED
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
from falsifiers.kept import Kept
from falsifiers.subject import InProcess, Installed, run_apr, subjects
from falsifiers.synthetic import random_model, random_weight
from pv.trial import Trial, mutant, patched

TOKENS = [7, 300, 21, 7, 128, 42, 350, 11, 30, 380, 5, 5, 5, 211, 99, 16, 29, 64, 300, 77, 8]
"""21: past position 16, and the last of them decoded one by one."""
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


def bisected(model: Model, tokens: Sequence[int] = TOKENS) -> Bisection:
    """What bisection says of a model's fast path beside the reference."""
    with np.errstate(all="ignore"):
        return run.bisect(fast(model), reference(model), tokens)


def fast(model: Model) -> PathSide:
    """The fast path as a side, on two threads where this process may use them; the last tokens are decoded alone."""
    return PathSide(Spec("m@fast", "m", "fast"), model, threads=min(2, int(numba.config.NUMBA_NUM_THREADS)))


def reference(model: Model) -> PathSide:
    """The reference path as a side."""
    return PathSide(Spec("m@reference", "m", "reference"), model, split=False)


# ---------------------------------------------------------------- FALSIFY-BISECT-002


def planted_faults_are_named(trial: Trial) -> None:
    """One fault of each stage, small ones among them, a path in another's place, and a fault in the oracle: each is
    named, and nothing else is."""
    model = random_model(trial.rng, "qwen2")
    beside, chosen = Kept(model, TOKENS), tried(model)
    trial.observe("faults", len(chosen) + 1)
    for fault in chosen:
        with fault.plant(), np.errstate(all="ignore"):
            found = beside.bisect(fast(model))
        is_named(trial, found, fault, model)
    wide = of_many_tokens(trial.rng)
    tokens = telling(wide, trial.rng)
    trial.check(bisected_backwards(wide, tokens).verdict.name in SAME, "the reference beside the fast path is accused")
    with NAMED[ONE_LOGIT].plant():
        found = bisected_backwards(wide, tokens)
    is_named(trial, found, NAMED[ONE_LOGIT], wide)


def is_named(trial: Trial, found: Bisection, fault: Fault, model: Model) -> None:
    """Falsify unless the first stage that is wrong is named first, and none that is right."""
    named, wanted = [(one.stage, one.layer) for one in found.verdict.defects], fault.places(model)
    trial.equal(found.verdict.name, "DIVERGES", f"verdict with {fault.name}")
    trial.equal(named[:1], wanted[:1], f"first stage that is named with {fault.name}")
    trial.equal(sorted(set(named) - set(wanted)), [], f"stages that are right and named with {fault.name}")
    if not wanted:
        kinds = [one.kind for one in found.measured.findings]
        trial.equal(kinds, ["silent-fallback"], f"findings with {fault.name}")


SMALL = ("activations_are_rounded_coarsely", "last_row_of_up_is_another", "last_layer_is_normed_in_half_precision")
ONE_READING = ("logits_are_capped", "fused_kernel_rounds_what_it_multiplied")
"""Faults of which one kind of reading tells: what a product owes with its rounding; a stage on its own inputs."""
ONE_LOGIT = "last_row_of_the_output_ends_early"


def tried(model: Model) -> list[Fault]:
    """The fault of another path, those of ONE_READING, SMALL ones, and the last of each stage that a model can show."""
    last = {one.stage: one for one in FAULTS if one.where == "fast" and one.shows_on(model)}
    other, more = last.pop(""), [NAMED[name] for name in (*ONE_READING, *SMALL)]
    return [other, *(one for one in more if one.shows_on(model) and one not in last.values()), *last.values()]


def bisected_backwards(model: Model, tokens: Sequence[int]) -> Bisection:
    """What bisection says of the reference where the fast path is the oracle.

    What the fast path's products owe is not asked of an oracle: its errors stand beside the floor of rounding to int8.
    """
    with np.errstate(all="ignore"):
        return run.bisect(replace(reference(model), split=True), fast(model), tokens)


def of_many_tokens(rng: np.random.Generator) -> Model:
    """A random llama with a vocabulary of 8192, in whose mean one wrong logit is lost."""
    model = random_model(rng, "llama")
    c = replace(model.config, vocab=8192)
    embedding, output = (
        random_weight(rng, one.name, c.vocab, c.hidden, one.format) for one in (model.embedding, model.output)
    )
    return replace(model, config=c, embedding=embedding, output=output)


def telling(model: Model, rng: np.random.Generator) -> list[int]:
    """A prompt after which ONE_LOGIT takes from its logit a quarter to a half of what logits are (root mean square).

    What it takes is a sum with as many negative terms as positive ones: after some prompts it is less than the floor.
    """
    last = replace(model.output, raw=model.output.raw[-1:], rows=1).dequantised()[0, -32:]
    while True:
        tokens = [int(token) for token in rng.integers(0, model.config.vocab, 8)]
        logits = reference(model).stages(tokens, pieces := Pieces(len(tokens)))
        taken = abs(float(pieces.stages["final_norm", None][-1, -32:] @ last))
        if 0.25 <= taken / float(np.sqrt(np.mean(logits**2))) <= 0.5:
            return tokens


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
def single_entries_are_not_read() -> Iterator[None]:
    """Of a token and group the root mean square is read, and not its largest entry."""
    with patched(readings, "PEAK_ALLOWANCE", np.inf):
        yield


@mutant
def nothing_is_handed_over() -> Iterator[None]:
    """Isolation lets each stage go on from the subject's own inputs, whatever the oracle had there."""
    handed = measuring.Measuring._handed

    def own(self: Any, given: Any, only: Any) -> Any:
        return handed(self, given if only else {}, only)

    with patched(measuring.Measuring, "_handed", own):
        yield


@mutant
def products_are_not_predicted() -> Iterator[None]:
    """Products stand beside the floor of rounding to int8 alone, not beside what they owe with that rounding."""
    with patched(measuring.Measuring, "_predicted", lambda self, rows, *args: rows):
        yield


@mutant
def own_inputs_are_not_looked_at() -> Iterator[None]:
    """No stage is compared on the inputs that the subject itself had."""
    with patched(measuring.Measuring, "_own", lambda self, rows, *args, **options: rows):
        yield


@mutant
def what_another_path_serves_is_blamed() -> Iterator[None]:
    """Products that another path computed are accused one by one as well."""
    told = clues.served_otherwise
    with patched(clues, "served_otherwise", lambda *args: (*told(*args)[:2], [])):
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
