"""Tests of engine.sampling."""

import math

import numpy as np
import pytest

from engine.errors import EngineError
from engine.sampling import Sampler

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2], np.float32))  # probabilities, by id: 1, 3, 4, 0, 2 are in order


def chosen(logits=LOGITS, count=300, **options):
    sampler = Sampler(**{"temperature": 1.0, "seed": 7, **options})
    return [sampler.choose(logits) for _ in range(count)]


def test_temperature_0_takes_the_largest_logit():
    assert set(chosen(temperature=0.0, count=5)) == {1}


def test_among_equal_logits_the_smallest_id_comes_first():
    logits = np.array([0, 3, 1, 3, 3], np.float32)
    assert Sampler().choose(logits) == 1
    assert set(chosen(logits, temperature=5.0, top_k=1)) == {1}
    assert set(chosen(logits, temperature=5.0, top_k=2)) == {1, 3}
    assert set(chosen(np.zeros(6, np.float32), top_p=0.5)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("k", "kept"), [(1, {1}), (2, {1, 3}), (3, {1, 3, 4}), (4, {0, 1, 3, 4}), (99, {0, 1, 2, 3, 4})]
)
def test_top_k_keeps_the_k_likeliest(k, kept):
    assert set(chosen(top_k=k)) == kept


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-9, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.64, {1, 3}),
        (0.66, {1, 3, 4}),
        (0.86, {0, 1, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    assert set(chosen(top_p=p, count=600)) == kept


def test_a_probability_that_is_reached_exactly_needs_no_further_token():
    assert set(chosen(np.zeros(4, np.float32), top_p=0.5)) == {0, 1}


def test_top_p_is_a_share_of_what_top_k_left():
    assert set(chosen(top_k=2, top_p=0.6)) == {1}  # 0.4 of 0.65
    assert set(chosen(top_k=2, top_p=0.63)) == {1, 3}


def test_one_seed_gives_one_sequence_and_another_seed_another():
    assert chosen(seed=3) == chosen(seed=3)
    assert chosen(seed=3) != chosen(seed=4)
    assert Sampler(seed=3, temperature=1.0) == Sampler(seed=3, temperature=1.0)


def test_greedy_choice_draws_no_random_number():
    sampler = Sampler(seed=3)
    before = sampler.rng.bit_generator.state
    sampler.choose(LOGITS)
    assert sampler.rng.bit_generator.state == before


@pytest.mark.parametrize(("temperature", "seed"), [(1.0, 1), (0.5, 2), (2.0, 3)])
def test_the_frequencies_are_the_probabilities(temperature, seed):
    count = 8000
    seen = np.bincount(chosen(temperature=temperature, seed=seed, count=count), minlength=5)
    weights = np.exp(LOGITS.astype(np.float64) / temperature)
    expected = count * weights / weights.sum()
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    assert chi_square <= 18.47  # 4 degrees of freedom: exceeded by chance once in 1000 seeds


@pytest.mark.parametrize("options", [{"top_p": 0.84}, {"top_k": 3}, {"top_k": 3, "top_p": 0.99}])
def test_what_is_left_keeps_its_proportions(options):
    count = 8000
    seen = np.bincount(chosen(count=count, **options), minlength=5)
    expected = count * np.array([0.0, 0.40, 0.0, 0.25, 0.20]) / 0.85
    assert seen[[0, 2]].tolist() == [0, 0]
    kept = [1, 3, 4]
    assert float(((seen - expected)[kept] ** 2 / expected[kept]).sum()) <= 13.82  # 2 degrees of freedom, once in 1000


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-300, 1e-320, 5e-324])
def test_a_temperature_near_0_is_greedy(temperature):
    logits = np.array([-80, 3, 2.9, -1e30, 3], np.float32)
    assert set(chosen(logits, temperature=temperature)) <= {1, 4}
    assert set(chosen(LOGITS, temperature=temperature)) == {1}


def test_a_high_temperature_leaves_every_token_nearly_as_likely():
    seen = np.bincount(chosen(temperature=999.0, count=5000), minlength=5)
    assert seen.min() > 850


def test_logits_far_apart_are_no_trouble():
    logits = np.array([-3e38, 3e38, 0], np.float32)
    assert set(chosen(logits)) == {1}
    assert set(chosen(logits, temperature=1e-320)) == {1}


def test_a_vocabulary_of_one_token_has_one_choice():
    for options in ({}, {"top_k": 1}, {"top_p": 0.5}, {"temperature": 0.0}):
        assert chosen(np.array([2.5], np.float32), count=3, **options) == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, r"^--temperature: -0.1 is not a temperature\n  hint: 0 \(greedy\) to 1000$"),
        ({"temperature": 1000.0}, r"^--temperature: 1000.0 is not a temperature"),
        ({"temperature": math.nan}, r"^--temperature: nan is not a temperature"),
        ({"temperature": math.inf}, r"^--temperature: inf is not a temperature"),
        ({"top_k": -1}, r"^--top-k: -1 tokens cannot be kept\n  hint: 0 keeps all$"),
        ({"top_p": 0.0}, r"^--top-p: 0.0 is not a probability above 0\n  hint: 1 keeps all$"),
        ({"top_p": 1.01}, r"^--top-p: 1.01 is not a probability above 0"),
        ({"top_p": math.nan}, r"^--top-p: nan is not a probability above 0"),
        ({"seed": -1}, r"^--seed: -1 is not a seed\n  hint: 0 or above$"),
    ],
)
def test_an_option_without_a_meaning_is_refused(options, message):
    with pytest.raises(EngineError, match=message):
        Sampler(**options)


def test_seeds_may_be_larger_than_a_machine_word():
    assert chosen(seed=2**200) == chosen(seed=2**200)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_have_no_next_token(bad, temperature):
    logits = LOGITS.copy()
    logits[[0, 3]] = bad
    with pytest.raises(
        EngineError, match=r"^2 of 5 logits are not finite: there is no next token\n  hint: trace the stages"
    ):
        Sampler(temperature=temperature).choose(logits)
