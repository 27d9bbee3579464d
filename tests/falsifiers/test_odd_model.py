"""Tests of falsifiers.odd_model: odd sizes, large scores, a token that is not finite; and bisection bears them."""

import numpy as np
import pytest

from engine.bisection import run
from engine.bisection.naming import Spec
from engine.bisection.sides import PathSide
from engine.reference import ReferencePath
from falsifiers.faults import NAMED
from falsifiers.odd_model import odd_model
from falsifiers.synthetic import SCALES

TOKENS = [7, 300, 21, 7, 128, 42, 5]
NAN = 322


@pytest.fixture(scope="module")
def model():
    return odd_model(np.random.default_rng(61))


def bisected(model, tokens):
    sides = (Spec("m@fast", "m", "fast"), Spec("m@reference", "m", "reference"))
    return run.bisect(PathSide(sides[0], model, threads=1), PathSide(sides[1], model, split=False), tokens)


def test_no_size_is_a_multiple_of_a_vector_and_every_quantised_format_is_there(model):
    c = model.config
    assert all(size % 16 for size in (c.ffn, c.head_dim, c.q_width, c.kv_width, c.vocab))
    used = {getattr(layer, role).format.name for layer in model.layers for role in ("q", "k", "v", "gate", "up")}
    assert used >= set(SCALES)


def test_one_token_is_not_finite_and_some_scores_are_beyond_what_e_to_the_x_bears(model):
    values = model.embedding.dequantised()
    assert np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist() == [NAN]
    seen = {}
    ReferencePath(model).forward(TOKENS, lambda stage, layer, array: seen.setdefault((stage, layer), array.copy()))
    assert [seen["attn_scores", layer].max() > 200 for layer in range(3)] == [False, True, False]


def test_large_scores_are_no_defect(model):
    """e^x of a score of 400 is as wrong as its rounding to float32 makes it: the floor has to know."""
    assert bisected(model, TOKENS).verdict.name == "WITHIN_FLOOR"


@pytest.mark.parametrize("place", [2, 6])
def test_of_nan_on_both_sides_nothing_is_told_and_nothing_accused(model, place):
    tokens = [*TOKENS[:place], NAN, *TOKENS[place + 1 :]]
    verdict = bisected(model, tokens).verdict
    assert (verdict.name, verdict.defects, verdict.suspects) == ("CANNOT_TELL", (), ())


@pytest.mark.parametrize("name", ["nan_of_the_embedding_is_zeroed", "nan_is_zeroed"])
def test_a_nan_that_vanishes_is_a_defect(model, name):
    with NAMED[name].plant():
        verdict = bisected(model, [*TOKENS[:-1], NAN]).verdict
    named = [(one.stage, one.layer) for one in verdict.defects]
    assert verdict.name == "DIVERGES"
    assert named[0] == NAMED[name].places(model)[0]
    assert set(named) <= set(NAMED[name].places(model))


def test_the_reference_in_place_of_the_fast_path_is_one_finding_though_it_goes_on_from_more_digits_than_it_shows():
    """Scores of hundreds, rounded to float32 as they are tapped, give other weights than those that it went on with."""
    model = odd_model(np.random.default_rng([64, 0]))
    tokens = [int(token) for token in np.random.default_rng([65, 0]).integers(3, model.config.vocab - 4, 22)]
    with NAMED["reference_serves_as_the_fast_path"].plant():
        found = bisected(model, tokens)
    assert [one.kind for one in found.measured.findings] == ["silent-fallback"]
    assert (found.verdict.defects, found.verdict.suspects) == ((), ())
