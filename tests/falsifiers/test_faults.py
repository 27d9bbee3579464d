"""Tests of falsifiers.faults: each fault makes wrong what it says, nothing before it, and is taken out again."""

import functools
from collections import Counter

import numba
import numpy as np
import pytest

from engine.fast import FastPath
from engine.opening import open_model
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stages import NAMES, ORDER
from engine.variants import GENERIC, chosen
from falsifiers.fault import TOKENIZER
from falsifiers.faults import FAULTS, NAMED
from falsifiers.odd_model import odd_model
from falsifiers.synthetic import random_model

MODELS = ("tiny-qwen2", "odd-qwen2", "random-llama")
LENGTH = 21
THREADS = int(numba.config.NUMBA_NUM_THREADS)


@functools.cache
def model_named(name):
    if name == "tiny-qwen2":
        return open_model(locate(name)).model
    if name == "odd-qwen2":
        return odd_model(np.random.default_rng(61))
    return random_model(np.random.default_rng(62), "llama")


@functools.cache
def prompt_for(name):
    vocab = model_named(name).config.vocab
    return tuple(int(token) for token in np.random.default_rng(63).integers(3, vocab - 4, LENGTH))


def forwards(model, where, tokens, tap=None, threads=1):
    """The logits of each piece of a prompt, as `apr bisect` computes it: the last two tokens alone."""
    path = ReferencePath(model) if where == "reference" else FastPath(model, capacity=len(tokens) + 3, threads=threads)
    return [path.forward(part, tap) for part in (tokens[:-2], tokens[-2:-1], tokens[-1:])]


def stages(model, where, tokens, given=None, threads=1):
    """What each stage put out, one array for each piece; with `given`, each stage is fed what stands there instead."""
    seen = {}

    def tap(stage, layer, array):
        pieces = seen.setdefault((stage, layer), [])
        pieces.append(array.copy())
        return (
            None
            if given is None
            else np.ascontiguousarray(given[stage, layer][len(pieces) - 1][..., : array.shape[-1]])
        )

    with np.errstate(all="ignore"):
        forwards(model, where, tokens, tap, threads)
    return seen


@functools.cache
def clean(name, where, tokens):
    return stages(model_named(name), where, tokens)


@functools.cache
def clean_forced(name, where, tokens):
    """What each stage puts out where it is fed a clean run: the reference goes on in float64 from what is float32."""
    return stages(model_named(name), where, tokens, clean(name, where, tokens))


def different(a, b):
    """The places where two runs differ in a bit, in the order of execution."""
    assert list(a) == list(b)
    return [
        place
        for place in a
        if any(one.tobytes() != other.tobytes() for one, other in zip(a[place], b[place], strict=True))
    ]


def showing(fault):
    """The models that can show a fault."""
    return [name for name in MODELS if fault.shows_on(model_named(name))]


def cases():
    """Each fault of a path on one model that shows it, in turn: `python -m benchmarks.localise` tries all of them."""
    for number, one in enumerate(one for one in FAULTS if one.where != TOKENIZER):
        names = showing(one)
        yield one.name, names[number % len(names)] if names else ""


CASES = list(cases())


def test_there_are_enough_and_two_for_each_stage():
    fast = Counter(one.stage for one in FAULTS if one.where == "fast")
    assert sum(fast.values()) >= 55
    assert all(fast[stage] >= 2 for stage in NAMES), fast
    assert len({one.name for one in FAULTS}) == len(FAULTS)
    assert all(len(one.sentence) > 20 for one in FAULTS)


def test_each_fault_shows_on_one_of_these_models():
    alone = {"two_threads_race", "threads_leave_a_row_between_them"} if THREADS == 1 else set()
    generic = {"vector_variant_loses_a_lane", "vector_variant_drops_a_block"} if chosen() == GENERIC else set()
    assert {name for name, on in CASES if not on} == alone | generic


def test_the_order_of_execution_is_that_of_the_stages():
    places = [place for place in clean("odd-qwen2", "fast", prompt_for("odd-qwen2")) if place[1] is not None]
    assert places == sorted(places, key=lambda place: (place[1], ORDER[place[0]]))


@pytest.mark.parametrize(("name", "on"), [case for case in CASES if case[1]])
def test_a_fault_makes_wrong_what_it_says_and_nothing_before(name, on):
    fault, model = NAMED[name], model_named(on)
    tokens = tuple(fault.tokens(model, prompt_for(on)))
    before = clean(on, fault.where, tokens)
    threads = 2 if "threads" in name else 1
    with fault.plant():
        planted = stages(model, fault.where, tokens, threads=threads)
        forced = stages(model, fault.where, tokens, before, threads)
        untraced = forwards(model, fault.where, tokens, threads=threads)
    places = fault.places(model)
    wrong = different(planted, before)
    itself = different(forced, clean_forced(on, fault.where, tokens))
    if fault.stage:
        assert wrong[0] == places[0] == (fault.stage, fault.layer(model))
        assert (wrong[0] in itself) is not fault.fused
        assert set(itself) <= set(places), "a stage that is fed what is right is wrong by itself"
    else:
        assert itself
    last = planted["lm_head", None]
    for traced, alone in zip(last, untraced, strict=True):
        assert np.array_equal(traced, alone, equal_nan=True), "the fault is another without a tap"
    assert not different(stages(model, fault.where, tokens), before), "the fault is still there"


def test_a_fault_of_the_vector_variant_is_not_there_in_the_generic_one(monkeypatch):
    model, tokens = model_named("odd-qwen2"), prompt_for("odd-qwen2")
    before = clean("odd-qwen2", "fast", tokens)
    make = FastPath.__init__

    def generic(self, *args, **options):
        make(self, *args, **options)
        self.variant = GENERIC

    monkeypatch.setattr(FastPath, "__init__", generic)
    for name in ("vector_variant_loses_a_lane", "vector_variant_drops_a_block"):
        with NAMED[name].plant():
            assert not different(stages(model, "fast", tokens), before), name


def test_a_fault_of_two_threads_is_not_there_on_one():
    model, tokens = model_named("odd-qwen2"), prompt_for("odd-qwen2")
    before = clean("odd-qwen2", "fast", tokens)
    for name in ("two_threads_race", "threads_leave_a_row_between_them"):
        with NAMED[name].plant():
            assert not different(stages(model, "fast", tokens), before), name
