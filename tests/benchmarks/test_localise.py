"""Tests of benchmarks.localise: what counts as found, as exact and as a false alarm, and a few cases for real."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import localise, localise_cases
from benchmarks.localise import misses, table
from benchmarks.localise_cases import (
    LONG,
    MODELS,
    RANDOM,
    Outcome,
    Pair,
    fault_outcome,
    first_below,
    pair_outcome,
    pairs,
)
from engine.bisection.measured import Row
from engine.bisection.readings import error_of, read
from engine.opening import open_model
from engine.oracles import MissingLibraryError
from engine.registry import locate
from falsifiers.faults import NAMED
from falsifiers.faults_tokens import PROMPT
from tests.engine.oracles import fake
from tests.engine.oracles.fake import Fake, installed

WRONG = [("ffn_gate", 1), ("ffn_gate", 2)]


def outcome(named, *, wanted=WRONG, verdict="DIVERGES", findings=(), practised=None):
    places = {"0.999": None, "0.99": None, **(practised or {})}
    return Outcome(
        model="m", fault="f", pair="p", wanted=wanted, verdict=verdict, named=named, findings=list(findings),
        practised=places,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("named", "exact"),
    [
        (WRONG[:1], True),
        (WRONG, True),
        (WRONG[1:], False),  # not the first that is wrong
        ([*WRONG, ("ffn_up", 1)], False),  # one that is right is accused
        ([("ffn_up", 1)], False),
        ([], False),
    ],
)
def test_exact_is_the_first_wrong_stage_and_no_right_one(named, exact):
    assert outcome(named).exact is exact


def test_another_path_is_exact_where_the_finding_says_so_and_no_stage_is_named():
    assert outcome([], wanted=[], findings=["silent-fallback"]).exact
    assert not outcome([], wanted=[]).exact
    assert not outcome([("ffn_up", 1)], wanted=[], findings=["silent-fallback"]).exact


def row(key, got, want):
    config = localise_cases.model_named("random-llama").config
    a, b = np.float32(got)[None], np.float32(want)[None]
    return Row(key=key, cumulative=read(a, b, key[0], config, [error_of(b, b, key[0], config)]))


def test_the_practised_method_blames_the_first_stage_below_the_limit():
    rows = [
        row(("embedding", 0), [1.0, 1.0], [1.0, 1.0]),
        row(("attn_norm", 0), [1.0, 1.1], [1.0, 1.0]),  # cosine 0.9989
        row(("ffn_out", 0), [1.0, 0.5], [1.0, 1.0]),  # 0.949
    ]
    assert first_below(rows, 0.999) == ("attn_norm", 0)
    assert first_below(rows, 0.99) == ("ffn_out", 0)
    assert first_below(rows, 0.9) is None
    assert first_below([Row(key=("embedding", 0), why="not there")], 0.999) is None
    broken = row(("lm_head", None), [1.0, np.nan], [1.0, 1.0])
    assert first_below([*rows[:1], broken], 0.99) == ("lm_head", None)


def test_the_table_counts_each_method_by_the_same_cases():
    faults = [
        outcome(WRONG, practised={"0.999": ("attn_norm", 0), "0.99": WRONG[0]}),
        outcome([], verdict="WITHIN_FLOOR", practised={"0.999": ("attn_norm", 0)}),
    ]
    clean = [
        outcome([("ffn_up", 0)], wanted=[]),
        outcome([], wanted=[], verdict="EQUAL", practised={"0.999": WRONG[0]}),
    ]
    lines = table(faults, clean).splitlines()
    assert lines[2] == "| `apr bisect` | 1 of 2 (50.0 %) | 1 of 2 (50.0 %) | 1 of 2 (50.0 %) |"
    assert lines[3] == "| first cosine below 0.999 | 2 of 2 (100.0 %) | 0 of 2 (0.0 %) | 1 of 2 (50.0 %) |"
    assert lines[4] == "| first cosine below 0.99 | 1 of 2 (50.0 %) | 1 of 2 (50.0 %) | 0 of 2 (0.0 %) |"
    assert len(misses(faults, clean)) == 2


def test_an_outcome_survives_the_way_from_another_process():
    one = outcome(WRONG, practised={"0.999": ("lm_head", None)}, wanted=[])
    assert localise._read(json.loads(json.dumps(asdict(one)))) == one


def test_there_are_a_hundred_clean_pairs_of_every_kind():
    every = pairs(MODELS, threads=2)
    assert len(every) >= 100
    assert len(set(every)) == len(every)
    for attribute, values in (
        ("kv_cache", {"float32", "float16"}),
        ("threads", {1, 2}),
        ("split", {True, False}),
        ("engine", {"reference", "transformers", "llama-cpp"}),
        ("dtype", {None, "float32", "bfloat16", "float16"}),
        ("model", set(MODELS)),
        ("length", {None, *LONG}),
    ):
        assert {getattr(pair, attribute) for pair in every} == values
    assert len({(pair.model, pair.seed) for pair in every if pair.model in RANDOM}) >= 30


def test_a_fault_is_found_from_what_was_kept_as_from_a_fresh_run():
    kept = [fault_outcome(NAMED["silu_is_gelu"], "random-llama") for _ in range(2)][1]
    localise_cases.forget()
    assert kept == fault_outcome(NAMED["silu_is_gelu"], "random-llama")
    assert (kept.detected, kept.exact, kept.named[0]) == (True, True, ("ffn_silu", 0))
    assert kept.practised["0.999"] is not None


TOKENS = NAMED["control_tokens_are_split_into_letters"]


def test_a_fault_of_the_tokenizer_is_tried_beside_the_oracle_that_is_installed(monkeypatch):
    right = open_model(locate("tiny-qwen2")).tokenizer.encode(PROMPT)

    class Other(Fake):
        def tokens(self, prompt):
            assert prompt == PROMPT
            return right

    with installed(monkeypatch, Other):
        found = fault_outcome(TOKENS, "tiny-qwen2")
    assert (found.detected, found.exact, found.named) == (True, True, [("tokens", None)])
    assert found.pair == "fast, transformers"
    assert fake.OPEN == []


def test_without_an_oracle_such_a_fault_is_left_out_and_that_is_said(monkeypatch):
    def missing(path, dtype):
        raise MissingLibraryError("no torch")

    monkeypatch.setattr(localise, "fault_cases", lambda models, each: [(TOKENS, "tiny-qwen2")])
    monkeypatch.setattr(localise, "pairs", lambda *_, **__: [])
    with installed(monkeypatch, missing):
        faults, clean, left = localise.measure(["tiny-qwen2"], quick=True, tell=str)
    assert (faults, clean, left) == ([], [], [f"tiny-qwen2: {TOKENS.name}: no torch"])


def test_a_clean_pair_is_not_accused():
    clean = pair_outcome(Pair(model="random-llama", prompt=1, kv_cache="float16"))
    assert (clean.detected, clean.fault, clean.wanted) == (False, "", [])


@pytest.mark.parametrize("prompt", [0, 7])
def test_positions_past_190_are_not_accused_beside_angles_in_float32(prompt):
    """Where the floor has angles of one way of rounding alone, some of them are right by chance: 1.04 and 1.09 over."""
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `oracles`)")
    long = Pair(model="tiny-qwen2", prompt=prompt, length=216, engine="transformers", dtype="float32")
    clean = pair_outcome(long)
    assert (clean.verdict, clean.named) == ("WITHIN_FLOOR", [])
    assert clean.pair == "fast (216 tokens, float32 cache, 1 threads), transformers float32"
