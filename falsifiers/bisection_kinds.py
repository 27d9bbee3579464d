"""Falsifiers of contracts/bisect-v1.yaml on models of every kind: each fault of the registry shows on one of them."""

# ruff: noqa: F401  (planted faults are imported to be found by their names, as mutants)

import json
from collections.abc import Iterator

import numpy as np

from engine.bisection import run
from engine.model import Model
from engine.variants import GENERIC
from falsifiers.bisection import PROMPT, SAME, TOKENS, bisected, fast, reference
from falsifiers.fault import ends_in_nan
from falsifiers.faults_activation import (
    fused_kernel_rounds_what_it_multiplied,
    silu_has_a_short_exponential,
    silu_is_relu,
    silu_is_steeper,
    up_is_read_of_the_token_before,
)
from falsifiers.faults_attention import (
    decoded_keys_are_not_kept,
    last_lane_of_a_head_is_another,
    last_layer_weighs_in_half_precision,
    query_heads_take_keys_in_turn,
    scores_are_scaled_twice,
    softmax_counts_the_filling,
    softmax_does_not_subtract_the_largest,
    token_does_not_see_itself,
    values_are_read_one_slot_off,
    vector_variant_loses_a_lane,
)
from falsifiers.faults_ends import (
    embedding_is_scaled,
    final_norm_is_skipped,
    final_norm_reads_another_gain,
    last_row_of_the_output_ends_early,
    last_rows_of_the_output_are_lost,
    last_token_of_a_chunk_is_lost,
    logits_are_capped,
    logits_of_the_call_before,
    nan_of_the_embedding_is_zeroed,
    rows_of_the_embedding_are_one_off,
)
from falsifiers.faults_norms import (
    attention_is_added_in_half_precision,
    epsilon_is_outside_the_root,
    feed_forward_is_added_twice,
    gain_of_the_next_layer,
    last_layer_starts_a_new_stream,
    last_token_gets_no_attention,
    mean_is_subtracted,
    nan_is_zeroed,
)
from falsifiers.faults_products import (
    fallback_decodes_another_layout,
    fifth_bits_are_lost,
    last_layer_adds_to_what_was_there,
    minimum_of_the_output_has_the_other_sign,
    nibbles_are_exchanged,
    offset_of_the_output_is_31,
    output_of_attention_is_transposed,
    scales_are_read_as_bfloat16,
    threads_leave_a_row_between_them,
    vector_variant_drops_a_block,
)
from falsifiers.faults_qkv import (
    bias_is_added_twice,
    bias_is_missing,
    bias_of_the_next_layer,
    high_bits_of_scales_are_lost,
    keys_get_the_bias_of_values,
    keys_turn_the_other_way,
    last_layer_has_another_base,
    minimum_has_the_other_sign,
    offset_of_six_bits_is_31,
    position_stays_after_a_decoded_token,
    positions_start_again_with_each_chunk,
    queries_turn_by_rounded_tables,
    scaling_of_positions_is_forgotten,
    two_threads_race,
)
from falsifiers.faults_reference import (
    reference_counts_positions_from_one,
    reference_has_gelu,
    reference_norms_outside_the_root,
    reference_weighs_in_base_two,
)
from falsifiers.odd_model import odd_model
from falsifiers.subject import InProcess, Installed, run_apr, subjects
from falsifiers.synthetic import random_model
from pv.trial import Trial

# ---------------------------------------------------------------- FALSIFY-BISECT-003


def models_of_every_kind_agree(trial: Trial) -> None:
    """The fast path beside the reference is within the floor; of what holds NaN, nothing can be told."""
    for name, model, tokens, verdicts in kinds(trial.rng):
        found = bisected(model, tokens)
        trial.equal(sum(not row.why for row in found.measured.rows), len(found.measured.rows), f"compared of {name}")
        trial.check(found.verdict.name in verdicts, f"{name} is said to be {found.verdict.name}")


def kinds(rng: np.random.Generator) -> Iterator[tuple[str, Model, list[int], tuple[str, ...]]]:
    """Models, a prompt for each, and what may be said of them; first those on which most of the faults show."""
    yield "qwen2", random_model(rng, "qwen2"), TOKENS, SAME
    odd = odd_model(rng)
    prompt = [token % (odd.config.vocab - 4) for token in TOKENS]
    yield "qwen2 of odd sizes", odd, prompt, SAME
    yield "a prompt that ends in NaN", odd, ends_in_nan(odd, prompt), ("CANNOT_TELL",)
    for every in (None, "Q4_K", "Q6_K"):
        yield f"llama in {every or 'many formats'}", random_model(rng, "llama", every), TOKENS, SAME


# ---------------------------------------------------------------- FALSIFY-BISECT-004


def two_threads_of_vector_code_agree(trial: Trial) -> None:
    """Vector code on two threads is within the floor; where there is no such code or thread, there is no such trial."""
    for subject in subjects(trial):
        if isinstance(subject, Installed):
            asked = ("--prompt", PROMPT, "--threads", 2, "--json")
            done = run_apr(trial, "bisect", subject.model.path, *asked)
            trial.require(done.out.startswith("{"), f"apr bisect gives no JSON: {done.last_line}")
            report = json.loads(done.out)
            verdict, served = report["verdict"], report["subject"]
        else:
            assert isinstance(subject, InProcess)
            side = fast(subject.model)
            with np.errstate(all="ignore"):
                verdict = run.bisect(side, reference(subject.model), TOKENS).verdict.name
            served = side.facts()
        if served["variant"] == GENERIC:
            trial.skip("this CPU has no vector code that a variant of the kernels uses")
        if served["threads"] < 2:
            trial.skip("this process may use one thread only")
        trial.observe("variant", served["variant"])
        trial.check(verdict in SAME, f"{served['variant']} on two threads is said to be {verdict}")
