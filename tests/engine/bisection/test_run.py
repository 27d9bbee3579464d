"""Tests of engine.bisection.run: clean sides agree, planted faults are named, on the compiled kernels."""

from dataclasses import replace

import numpy as np
import pytest

from engine.arithmetic import to_bfloat16
from engine.bisection.naming import Spec
from engine.bisection.run import bisect
from engine.bisection.sides import OracleSide
from engine.bisection.stages import expected
from engine.fast import FastPath
from engine.numerics import rope_tables
from engine.reference import ReferencePath
from falsifiers.synthetic import random_model
from tests.engine.bisecting import (
    TOKENS,
    FakeOracle,
    fast,
    product_scaled,
    reference,
    replaced,
    untraced_is_reference,
)
from tests.engine.model_files import small_model
from tests.engine.widths import WIDTHS, of_width

ARCHITECTURES = ("qwen2", "llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def model(request):
    return random_model(np.random.default_rng(41), request.param)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    """A small one, on which a bisection takes a tenth of a second."""
    return small_model(tmp_path_factory.mktemp("bisect"), "qwen2", "Q8_0")


def named(found):
    return [(one.stage, one.layer) for one in found.verdict.defects]


def other(model, **options):
    return OracleSide(Spec("m@transformers", "m", "transformers"), model, FakeOracle(model, **options))


@pytest.mark.parametrize("seed", [1, 2])
def test_clean_paths_are_within_the_floor(model, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, model.config.vocab, int(rng.integers(1, 25))).tolist()
    found = bisect(fast(model), reference(model), tokens)
    assert (found.verdict.name, found.verdict.missing, found.measured.findings) == ("WITHIN_FLOOR", (), ())
    assert [row.key for row in found.measured.rows if not row.why] == expected(2)
    assert all(row.isolated.whole <= 1.01 for row in found.measured.rows)
    assert "int8 in" in found.computed
    assert not {"float", "float64", "neither"} & set(found.computed.split())


@pytest.mark.parametrize("widths", WIDTHS[::2], ids=lambda widths: str(widths["hidden"]))
def test_widths_that_fill_no_vector_and_weights_of_float32_are_within_it_too(qwen, widths):
    odd = of_width(qwen, np.random.default_rng(3), **widths)
    found = bisect(fast(odd), reference(odd), TOKENS)
    assert (found.verdict.name, found.measured.findings) == ("WITHIN_FLOOR", ())
    assert "float32 in" in found.computed


def test_a_cache_in_float16_has_a_floor_of_its_own(model):
    half = fast(model, kv_cache="float16")
    found = bisect(half, reference(model), TOKENS)
    assert found.verdict.name == "WITHIN_FLOOR"
    scores = next(row for row in found.measured.rows if row.key == ("attn_scores", 0))
    assert scores.isolated.floor > 1e-5


def test_a_path_against_itself_is_equal(model):
    found = bisect(fast(model), fast(model), TOKENS)
    assert found.verdict.name == "EQUAL"


# ---------------------------------------------------------------- planted faults


def wrong_base(layer):
    def make(rotate):
        def wrong(self, b, index):
            kept = self.cosine, self.sine
            if index == layer:
                c = self.model.config
                self.cosine, self.sine = rope_tables(self.capacity, 500.0, c.rope_dim, c.rope_scale, None)
            rotate(self, b, index)
            self.cosine, self.sine = kept

        return wrong

    return replaced(FastPath, "rotate", make)


def residual_dropped(layer):
    def make(normalise):
        def wrong(self, b, delta, gain, into):
            drop = gain is self.layers[layer].ffn_norm and delta is not None
            normalise(self, b, np.zeros_like(delta) if drop else delta, gain, into)

        return wrong

    return replaced(FastPath, "normalise", make)


def scale_squared(layer):
    def make(attend):
        def wrong(self, b, index, scores):
            kept = self.scale[0]
            if index == layer:
                self.scale[0] = kept * kept
            attend(self, b, index, scores)
            self.scale[0] = kept

        return wrong

    return replaced(FastPath, "attend", make)


def slot_off_by_one(layer):
    def make(attend):
        def wrong(self, b, index, scores):
            if index == layer and self.position:
                self.keys[layer][..., :8] = self.keys[layer][..., 1:9]
            attend(self, b, index, scores)

        return wrong

    return replaced(FastPath, "attend", make)


def one_logit_wrong():
    def make(logits):
        def wrong(self, b):
            found = logits(self, b)
            found[-1] *= np.float32(1.5)
            return found

        return wrong

    return replaced(FastPath, "logits", make)


@pytest.mark.parametrize(
    ("plant", "want"),
    [
        (lambda: wrong_base(1), [("q_post_rope", 1), ("k_post_rope", 1)]),
        (lambda: residual_dropped(1), [("post_attn_residual", 1)]),
        (lambda: scale_squared(0), [("attn_scores", 0)]),
        (lambda: slot_off_by_one(1), [("attn_scores", 1)]),
        (lambda: product_scaled("down", 1, 1.02, slice(63, 64)), [("ffn_out", 1)]),
        (lambda: product_scaled("attn_out", 0, 1.005), [("attn_out", 0)]),
        (one_logit_wrong, [("lm_head", None)]),
    ],
    ids=["rope base", "residual", "scale", "slot", "lane", "below the floor", "one logit"],
)
def test_a_planted_fault_is_named_and_nothing_else(qwen, plant, want):
    with plant():
        found = bisect(fast(qwen), reference(qwen), TOKENS)
    assert (found.verdict.name, named(found), found.verdict.suspects) == ("DIVERGES", want, ())
    assert all(one.repaired and (one.isolated or one.own) for one in found.verdict.defects)


def test_what_a_fault_looks_like_is_told(qwen):
    with residual_dropped(1):
        (defect,) = bisect(fast(qwen), reference(qwen), TOKENS).verdict.defects
    assert "equal to its input post_ffn_residual" in defect.patterns
    with product_scaled("attn_out", 0, 1.05, few=True):
        (defect,) = bisect(fast(qwen), reference(qwen), TOKENS).verdict.defects
    assert defect.token >= len(TOKENS) - 2
    assert defect.patterns == (f"only from token {len(TOKENS) - 2} on: those that are decoded alone",)
    assert defect.steps > 0.29
    with product_scaled("attn_out", 0, 1.05, few=False):
        (defect,) = bisect(fast(qwen), reference(qwen), TOKENS).verdict.defects
    assert f"only the tokens before {len(TOKENS) - 2}: the prompt, not decoding" in defect.patterns
    with scale_squared(0):
        (defect,) = bisect(fast(qwen), reference(qwen), TOKENS).verdict.defects
    assert "everything times 0.25" in defect.patterns


def test_independent_faults_are_all_named(model):
    with wrong_base(0), product_scaled("down", 1, 1.1):
        found = bisect(fast(model), reference(model), TOKENS)
    assert named(found) == [("q_post_rope", 0), ("k_post_rope", 0), ("ffn_out", 1)]


def nan_in_swiglu():
    """A NaN of each call's first row: of the second layer, only a repair of the first one shows it."""

    def make(activate):
        def wrong(self, b, silu):
            activate(self, b, silu)
            b.activated.x[0, 3] = np.nan
            b.activated.quantise()

        return wrong

    return replaced(FastPath, "activate", make)


def test_a_fault_that_another_one_hid_is_found_in_the_repaired_pass(qwen):
    with nan_in_swiglu():
        found = bisect(fast(qwen), reference(qwen), TOKENS)
    assert (found.verdict.name, named(found)) == ("DIVERGES", [("ffn_swigl", 0), ("ffn_swigl", 1)])
    assert "3 of 768 entries are not finite" in found.verdict.defects[0].patterns
    assert found.cost["subject"] == {"forwards": 3, "stage_evaluations": 1}


def test_nan_on_both_sides_is_nothing_to_tell_of(qwen):
    layer = replace(qwen.layers[1], ffn_norm=qwen.layers[1].ffn_norm * np.float32(np.nan))
    broken = replace(qwen, layers=(qwen.layers[0], layer))
    found = bisect(fast(broken), reference(broken), TOKENS)
    assert found.verdict.name == "CANNOT_TELL"
    assert found.verdict.missing[0].startswith("numbers: both sides hold NaN in 9 stages, first ffn_norm of layer 1")


# ---------------------------------------------------------------- which path served


def test_logits_that_are_returned_are_those_of_the_last_stage(qwen, monkeypatch):
    forward = FastPath.forward
    monkeypatch.setattr(FastPath, "forward", lambda *args, **options: -forward(*args, **options))
    found = bisect(fast(qwen), reference(qwen), TOKENS)
    assert found.verdict.name == "DIVERGES"
    assert "returned-differs" in [one.kind for one in found.measured.findings]


def test_what_only_the_fused_kernel_does_wrong_shows_on_the_inputs_that_it_had(model, monkeypatch):
    activate = FastPath.activate

    def coarse(self, b, silu):
        activate(self, b, silu)
        b.activated.x[:] = to_bfloat16(b.activated.x)
        b.activated.quantise()

    monkeypatch.setattr(FastPath, "activate", coarse)
    found = bisect(fast(model), reference(model), TOKENS[:6])
    assert found.verdict.name == "DIVERGES"
    assert named(found) == [("ffn_swigl", 0), ("ffn_swigl", 1)]


def test_a_share_of_a_hundredth_in_the_values_shows(model, monkeypatch):
    project, values = FastPath.project, model.config.q_width + model.config.kv_width

    def larger(self, product, rows, out):
        project(self, product, rows, out)
        if product is self.layers[0].qkv:
            out[:, values:] *= np.float32(1.01)

    monkeypatch.setattr(FastPath, "project", larger)
    found = bisect(fast(model), reference(model), TOKENS)
    assert named(found) == [("qkv_matmul", 0)]


def test_logits_of_the_reference_path_without_a_trace_are_a_silent_fallback(model):
    with untraced_is_reference():
        found = bisect(fast(model), reference(model), TOKENS)
    assert (found.verdict.name, named(found)) == ("DIVERGES", [])
    (finding,) = found.measured.findings
    assert finding.kind == "silent-fallback"
    assert "without a trace are those of the reference path" in finding.text


def test_logits_that_differ_without_a_trace_are_told(qwen):
    def make(forward):
        def wrong(self, tokens, tap=None, chunk=None):
            logits = forward(self, tokens, tap, chunk)
            return logits if tap else logits + np.float32(0.1)

        return wrong

    with replaced(FastPath, "forward", make):
        found = bisect(fast(qwen), reference(qwen), TOKENS)
    assert (found.verdict.name, [one.kind for one in found.measured.findings]) == ("DIVERGES", ["untraced-differs"])


def served_by_reference():
    def make(forward):
        def disguised(self, tokens, tap=None, chunk=None):
            if not self.position:
                self.instead = ReferencePath(self.model)
            self.position += len(tokens)
            return self.instead.forward(tokens, tap)

        return disguised

    return replaced(FastPath, "forward", make)


def test_a_path_that_another_one_serves_is_told_by_what_it_computes(model, qwen):
    with served_by_reference():
        found = bisect(fast(model), reference(model), TOKENS)
    assert (found.verdict.name, named(found)) == ("DIVERGES", [])
    assert [one.kind for one in found.measured.findings] == ["silent-fallback"]
    plain = of_width(qwen, np.random.default_rng(3), **WIDTHS[1])
    with served_by_reference():
        found = bisect(fast(plain), reference(plain), TOKENS)
    assert [one.kind for one in found.measured.findings] == ["silent-fallback"]


def test_one_product_that_falls_back_is_placed(qwen):
    def make(project):
        def falls_back(self, product, rows, out):
            if len(out) > 1 and product is self.layers[1].attn_out:
                weight = product.weights[0].dequantised()
                out[:, : len(weight)] = rows.x[:, : weight.shape[1]] @ weight.T
            else:
                project(self, product, rows, out)

        return falls_back

    with replaced(FastPath, "project", make):
        found = bisect(fast(qwen), reference(qwen), TOKENS)
    (finding,) = found.measured.findings
    assert (finding.kind, finding.key, named(found)) == ("silent-fallback", ("attn_out", 1), [])
    assert finding.text.endswith("first attn_out of layer 1, tokens 0 to 5")


# ---------------------------------------------------------------- cost


@pytest.mark.parametrize("plant", [None, lambda: product_scaled("down", 0, 1.1), nan_in_swiglu])
def test_no_side_runs_more_than_three_passes_and_one_evaluation_of_each_stage(qwen, monkeypatch, plant):
    calls = {FastPath: [], ReferencePath: []}
    for kind, seen in calls.items():
        forward = kind.forward

        def counted(self, tokens, *rest, forward=forward, seen=seen, **options):
            if type(self) in calls:
                seen.append(len(tokens))
            return forward(self, tokens, *rest, **options)

        monkeypatch.setattr(kind, "forward", counted)
    if plant is None:
        found = bisect(fast(qwen), reference(qwen), TOKENS)
    else:
        with plant():
            found = bisect(fast(qwen), reference(qwen), TOKENS)
    tokens, cost = len(TOKENS), found.cost
    passes = cost["subject"]["forwards"] + cost["subject"]["stage_evaluations"]
    assert sum(calls[FastPath]) == passes * tokens
    assert calls[FastPath] == [tokens - 2, 1, 1] * passes
    assert cost["subject"]["forwards"] <= 3
    assert cost["subject"]["stage_evaluations"] == 1
    assert cost["oracle"] == {"forwards": 1, "stage_evaluations": 0}


# ---------------------------------------------------------------- oracles


def test_an_oracle_that_is_not_ours_stands_where_the_reference_stood(model):
    found = bisect(fast(model), other(model), TOKENS)
    assert found.verdict.name == "WITHIN_FLOOR"
    with scale_squared(1):
        assert named(bisect(fast(model), other(model), TOKENS)) == [("attn_scores", 1)]


def test_stages_that_the_oracle_lacks_are_counted_and_a_fault_in_them_shows_behind_them(qwen):
    lacking = other(qwen, missing=("attn_scores", "ffn_silu"))
    found = bisect(fast(qwen), lacking, TOKENS)
    assert found.verdict.name == "WITHIN_FLOOR"
    assert [row.key for row in found.measured.rows if row.why == "not in the oracle"] == [
        ("attn_scores", 0), ("ffn_silu", 0), ("attn_scores", 1), ("ffn_silu", 1),
    ]  # fmt: skip
    with scale_squared(0):
        (defect,) = bisect(fast(qwen), lacking, TOKENS).verdict.defects
    assert (defect.stage, defect.layer, defect.between) == ("attn_softmax", 0, (("attn_scores", 0),))


def test_an_oracle_as_the_subject_can_be_suspected_and_not_convicted(qwen):
    clean = bisect(other(qwen), reference(qwen), TOKENS)
    assert clean.verdict.name in ("EQUAL", "WITHIN_FLOOR")

    def change(key, array):
        return array * np.float32(1.01) if key == ("ffn_up", 1) else array

    found = bisect(other(qwen, change=change), reference(qwen), TOKENS)
    assert found.verdict.name == "CANNOT_TELL"
    first = found.verdict.suspects[0]
    assert (first.stage, first.layer) == ("ffn_up", 1)
