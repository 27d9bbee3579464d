"""Tests of engine.floor: each number against a computation of its own, and oracles against each other."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.arithmetic import HonestPath, arithmetic_named
from engine.errors import EngineError
from engine.floor import ARITHMETICS, captured, measure_floor, measures
from engine.floor_file import EXACT, KINDS
from engine.reference import ReferencePath
from engine.stage_error import measure
from engine.stages import NAMES, WHOLE
from falsifiers.synthetic import random_model

PROMPTS = ([7, 300, 21], [5, 6, 7, 8, 9], [42])


class Fake:
    """An oracle that computes in an arithmetic of ours, and gives no scores where it is told so."""

    name, engine, notes = "fake", "fake 1", ()

    def __init__(self, model, arithmetic, missing=(), change=None):
        self.model, self.variant, self.missing, self.change = model, arithmetic, missing, change

    def tokens(self, prompt):
        raise AssertionError("the floor is measured on our tokens")

    def forward(self, tokens, capture=None):
        def tap(stage, layer, array):
            if capture is not None and stage not in self.missing:
                array = array.copy() if self.change is None else self.change(stage, array)
                capture(stage, layer, array)

        return HonestPath(self.model, arithmetic_named(self.variant)).forward(tokens, tap)

    def close(self):
        pass


@pytest.fixture(scope="module")
def model():
    return random_model(np.random.default_rng(31), "qwen2")


@pytest.fixture(scope="module")
def rows(model):
    told = []
    found = measure_floor(model, PROMPTS, {}, told.append)
    assert told == [f"prompt {n} of 3: {len(tokens)} tokens" for n, tokens in enumerate(PROMPTS, 1)]
    return {(row.a, row.kind, row.stage): row for row in found}


def test_each_arithmetic_has_a_row_for_every_kind_and_stage_in_order(model, rows):
    want = [(name, kind, stage) for name in ARITHMETICS for kind in KINDS for stage in NAMES]
    assert list(rows) == want
    assert {row.b for row in rows.values()} == {EXACT}
    for (_, _, stage), row in rows.items():
        assert len(row.layers) == (1 if stage in WHOLE or stage == "embedding" else 2)


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", ["qkv_matmul", "attn_softmax", "ffn_out", "lm_head"])
def test_a_row_holds_the_largest_and_the_median_over_prompts_and_layers(model, rows, name, kind, stage):
    errors, largest = {}, []
    for tokens in PROMPTS:
        exact = captured(model, tokens)
        want = captured(model, tokens, exact) if kind == "isolated" else exact

        def tap(seen, layer, array, exact=exact, want=want):
            if seen == stage:
                errors.setdefault(layer, []).append(measure(array, want[seen, layer], stage, model.config))
                largest.append(np.abs(array - want[seen, layer]).max() / np.abs(want[seen, layer]).max())
            return exact[seen, layer] if kind == "isolated" else None

        HonestPath(model, arithmetic_named(name)).forward(tokens, tap)
    row = rows[name, kind, stage]
    nmse = [error.nmse for each in errors.values() for error in each]
    ratio = [(error.rms / error.scale).max() for each in errors.values() for error in each]
    assert len(nmse) == (3 if stage == "lm_head" else 6)
    for spread, values in ((row.nmse, nmse), (row.rms_ratio, ratio), (row.max_abs_over_max, largest)):
        assert spread.max == pytest.approx(max(values), rel=6e-3)
        assert spread.median == pytest.approx(float(np.median(values)), rel=6e-3)
    assert row.layers == pytest.approx([max(error.nmse for error in each) for each in errors.values()], rel=6e-3)
    assert row.nmse.max > 0 or (name, kind, stage) == ("int8", "isolated", "attn_softmax")


def test_isolated_errors_are_not_carried(rows):
    assert rows["int8", "isolated", "post_ffn_residual"].nmse.max == 0
    assert rows["int8", "cumulative", "post_ffn_residual"].nmse.max > 1e-6


def test_forced_stages_are_those_of_their_given_inputs(model):
    exact = captured(model, PROMPTS[0])
    other = {key: array * np.float32(2) for key, array in exact.items()}
    fed = captured(model, PROMPTS[0], other)
    assert np.allclose(fed["ffn_swigl", 1], other["ffn_silu", 1] * other["ffn_up", 1])
    assert np.array_equal(fed["embedding", 0], exact["embedding", 0])


def test_the_ratio_is_that_of_the_worst_token_and_group(model):
    a = np.ones((2, 256), np.float32)
    b = a.copy()
    b[1, 64:128] = 2  # head 1 of token 1: 1 beside 2
    assert measures(a, b, "attention", model.config)[1:] == (0.5, 0.5)
    b[0, 0] = 8
    assert measures(a, b, "attention", model.config)[1:] == (pytest.approx(7 / math.sqrt(127)), 7 / 8)
    b[0, :64] = 0
    assert measures(a, b, "attention", model.config)[1:] == (math.inf, 0.5)
    a[0, :64] = 0
    assert measures(a, b, "attention", model.config)[1:] == (0.5, 0.5)
    assert measures(b, b, "attention", model.config) == (0, 0, 0)
    assert measures(a, np.zeros_like(b), "attention", model.config) == (math.inf,) * 3
    a[1, 1] = np.nan
    assert measures(a, b, "attention", model.config) == (math.inf,) * 3


def test_masked_scores_are_no_largest_value(model):
    b = np.full((2, 4, 2), 2, np.float32)
    b[0, :, 1] = -np.inf
    assert measures(np.where(b > 0, np.float32(1), b), b, "attn_scores", model.config) == (0.25, 0.5, 0.5)


def test_oracles_are_measured_against_float64_and_against_each_other(model):
    oracles = {"one": Fake(model, "float16"), "two": Fake(model, "int8", ("attn_scores",))}
    found = {(row.a, row.b, row.stage): row for row in measure_floor(model, PROMPTS, oracles, str) if row.a in oracles}
    assert {key[:2] for key in found} == {("one", "two"), ("one", EXACT), ("two", EXACT)}
    assert {row.kind for row in found.values()} == {"cumulative"}
    assert {stage for a, b, stage in found if (a, b) == ("one", EXACT)} == set(NAMES)
    assert {stage for a, b, stage in found if "two" in (a, b)} == set(NAMES) - {"attn_scores"}
    honest = {(row.a, row.kind, row.stage): row for row in measure_floor(model, PROMPTS, {}, str)}
    for stage in NAMES:
        assert found["one", EXACT, stage].nmse == honest["float16", "cumulative", stage].nmse
    both = found["one", "two", "ffn_out"].nmse.max
    assert found["two", EXACT, "ffn_out"].nmse.max / 2 < both < found["two", EXACT, "ffn_out"].nmse.max * 2


def test_an_oracle_of_other_shapes_is_an_error(model):
    def cut(stage, array):
        return array[:, :-1].copy() if stage == "ffn_up" else array.copy()

    message = (
        r"^one against float64: ffn_up: shapes \(3, 511\) and \(3, 512\) cannot be compared\n  hint: an oracle must"
    )
    with pytest.raises(EngineError, match=message):
        measure_floor(model, PROMPTS, {"one": Fake(model, "float16", change=cut)}, str)


def test_an_arithmetic_that_cannot_hold_a_model_has_an_infinite_floor():
    model = random_model(np.random.default_rng(31), "qwen2")
    layer = replace(model.layers[0], ffn_norm=model.layers[0].ffn_norm * np.float32(1e6))
    broken = replace(model, layers=(layer, model.layers[1]))
    rows = {(r.a, r.kind, r.stage): r for r in measure_floor(broken, PROMPTS[:1], {}, str)}
    assert rows["float16", "isolated", "ffn_norm"].nmse.max == math.inf
    assert rows["float16", "isolated", "ffn_norm"].layers[0] == math.inf
    assert rows["float16", "isolated", "attn_norm"].nmse.max < 1e-6
    assert rows["float32", "isolated", "ffn_norm"].nmse.max < 1e-12


def test_the_reference_is_what_everything_is_measured_against(model):
    exact = captured(model, PROMPTS[0])
    assert np.array_equal(exact["lm_head", None], ReferencePath(model).forward(PROMPTS[0]))
