"""Tests of engine.bisection.readings and engine.bisection.floor: what counts as an error, and what it stands beside."""

import math

import numpy as np
import pytest

from engine.bisection.floor import Evaluations
from engine.bisection.readings import PEAK_ALLOWANCE, error_of, read
from engine.bisection.sides import CACHED, HALVES, HANDED, Pieces
from engine.reference import ReferencePath
from falsifiers.synthetic import random_model
from tests.engine.bisecting import TOKENS


@pytest.fixture(scope="session")
def model():
    return random_model(np.random.default_rng(44), "qwen2")


def noisy(rng, exact, size=1e-3):
    return (exact + size * rng.standard_normal(exact.shape)).astype(np.float32)


@pytest.fixture
def case(model):
    """A stage of a thousand entries for each token, and the errors of two honest passes."""
    rng = np.random.default_rng(1)
    exact = rng.standard_normal((5, 1000)).astype(np.float32)
    return exact, noisy(rng, exact), [error_of(noisy(rng, exact), exact, "ffn_out", model.config)]


def test_noise_of_the_size_of_the_floor_is_within_it(case, model):
    exact, got, floors = case
    found = read(got, exact, "ffn_out", model.config, floors)
    assert found.within
    assert 0.8 < found.whole < 1.2
    assert found.over < 1


def test_one_wrong_entry_that_the_mean_hides_stands_at_its_place(case, model):
    exact, got, floors = case
    got[3, 700] = exact[3, 700] + np.float32(0.06)
    found = read(got, exact, "ffn_out", model.config, floors)
    assert found.single <= 4.0
    assert found.peak > PEAK_ALLOWANCE
    assert not found.within
    assert (found.spot.coordinate, found.spot.a, found.spot.b) == ((3, 700), got[3, 700], exact[3, 700])
    assert found.spot.ulp > 1000


def test_a_sum_of_many_terms_has_a_coarser_resolution_than_one_rounding(model):
    exact = np.zeros((2, 64), np.float32)
    exact[1, 9] = 225.0  # outweighs all others, so that its rounding alone is the error of the stage
    got = exact.copy()
    got[1, 9] += np.float32(7 * 2.0**-16)
    floors = [error_of(exact, exact, "ffn_out", model.config)]
    assert not read(got, exact, "ffn_out", model.config, floors).within
    assert read(got, exact, "ffn_out", model.config, floors, math.sqrt(48) * 2.0**-23).within


def test_floors_of_both_sides_add_in_quadrature(case, model):
    exact, got, floors = case
    alone, both = (read(got, exact, "ffn_out", model.config, floors * count) for count in (1, 2))
    assert both.whole == pytest.approx(alone.whole / math.sqrt(2))
    assert both.peak == pytest.approx(alone.peak / math.sqrt(2))


def test_nan_on_both_sides_is_no_error_and_on_one_side_an_infinite_one(case, model):
    exact, got, floors = case
    got[2, 5] = np.nan
    broken = read(got, exact, "ffn_out", model.config, floors)
    assert (broken.whole, broken.within, broken.spot.coordinate, broken.spot.ulp) == (math.inf, False, (2, 5), None)
    exact = exact.copy()
    exact[2, 5] = np.nan
    assert read(got, exact, "ffn_out", model.config, floors).within


def test_scores_of_a_token_that_sees_few_have_the_floor_of_their_head(model):
    exact = np.full((3, 4, 3), 2.0, np.float32)
    lucky = exact.copy()
    lucky[2] += np.float32(1e-3)  # the first token happens to have no error
    got = exact.copy()
    got[0, 1, 0] += np.float32(2e-3)
    floors = [error_of(lucky, exact, "attn_scores", model.config)]
    assert read(got, exact, "attn_scores", model.config, floors).peak == pytest.approx(2, rel=1e-3)


# ---------------------------------------------------------------- floors


def stages(model):
    pieces = Pieces(len(TOKENS))
    ReferencePath(model).forward(TOKENS, pieces.tap)
    return pieces.stages


def test_a_floor_has_an_error_of_every_stage_for_each_arithmetic_and_counts_what_it_ran(model):
    evaluations = Evaluations()
    floor = evaluations.floor(model, ("int8", "float32", "int8"), TOKENS, stages(model))
    assert evaluations.count == 3
    assert set(floor.errors) == {"int8", "float32"}
    assert set(floor.errors["int8"]) == set(stages(model))
    assert floor.errors["int8"]["ffn_out", 0].stage.whole > 1e-3
    assert floor.errors["int8"]["ffn_silu", 0].stage.whole == 0
    given = evaluations.floor(model, ("int8",), TOKENS, None, stages(model))
    assert evaluations.count == 4
    assert given.errors["int8"]["ffn_silu", 0].stage.whole > 1e-4


def test_a_cache_in_float16_is_a_floor_of_scores_and_of_what_is_mixed_alone(model):
    errors = Evaluations().floor(model, (CACHED,), TOKENS, stages(model)).errors[CACHED]
    assert {key[0] for key, error in errors.items() if error.stage.whole} == {"attn_scores", "attention"}


def test_products_of_sixteen_bits_are_rounded_where_the_weights_are(model):
    errors = Evaluations().floor(model, (HALVES,), TOKENS, stages(model)).errors[HALVES]
    layer = model.layers[1]
    assert (layer.k.format.name, layer.v.format.name, layer.attn_out.format.name) == ("F16", "BF16", "F32")
    assert {key for key, error in errors.items() if error.stage.whole} == {("qkv_matmul", 1)}


def test_what_is_handed_over_has_been_rounded_but_only_if_it_was_handed_over(model):
    errors = Evaluations().floor(model, (HANDED,), TOKENS, stages(model)).errors[HANDED]
    scores = errors["attn_scores", 0].stage
    assert 2**-25 < scores.whole / scores.size < 2**-18
    floor = Evaluations().floor(model, (HANDED, "float32"), TOKENS, None)
    assert set(floor.errors) == {"float32"}
    assert len(floor.of((HANDED, "float32"), ("attn_scores", 0))) == 1


def test_a_bias_of_sixteen_bits_owes_the_rounding_of_its_product_too(model):
    floor = Evaluations().floor(model, ("bfloat16", "float32"), TOKENS, stages(model))
    assert len(floor.of(("bfloat16", "float32"), ("qkv_bias", 0))) == 3
    assert len(floor.of(("bfloat16", "float32"), ("qkv_matmul", 0))) == 2
