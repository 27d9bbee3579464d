"""Tests of engine.arithmetic: each rounding against its rule, and the floor of int8 against the compiled fast path."""

import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.arithmetic import NAMES, HonestPath, arithmetic_named, to_bfloat16, to_int8
from engine.errors import EngineError
from engine.fast import FastPath
from engine.opening import open_model
from engine.reference import ReferencePath, rmsnorm
from engine.stage_error import measure
from engine.stages import STAGES
from falsifiers import integer_model
from falsifiers.synthetic import random_model

TOKENS = [7, 300, 21, 7, 128, 42]
TINY = Path(__file__).parents[2] / "engine/models/tiny-qwen2-q4_k_m.gguf"
PRODUCTS = ("qkv_matmul", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head")


@pytest.fixture(scope="module", params=["qwen2", "llama", "tiny-qwen2"])
def model(request):
    if request.param == "tiny-qwen2":
        return open_model(TINY).model
    return random_model(np.random.default_rng(31), request.param)


def stages(path, forced=None, tokens=TOKENS):
    """The outputs of all stages, each from the inputs that `forced` gives it, or else from those of this path."""
    found = {}

    def tap(stage, layer, array):
        found[stage, layer] = array.copy()
        return None if forced is None else forced[stage, layer]

    path.forward(tokens, tap)
    return found


def honest(model, name, forced=None):
    return stages(HonestPath(model, arithmetic_named(name)), forced)


def nmse(a, b, key, config):
    return measure(a[key], b[key], key[0], config).nmse


# ---------------------------------------------------------------- float64 and float32


def test_float64_gives_the_bits_of_the_reference(model):
    want, got = stages(ReferencePath(model)), honest(model, "float64")
    assert [key for key in want if want[key].tobytes() != got[key].tobytes()] == []


def test_float32_errs_in_every_computed_stage_and_never_beyond_its_digits(model):
    want = stages(ReferencePath(model))
    got = honest(model, "float32", want)
    path = HonestPath(model, arithmetic_named("float32"))
    path.forward(TOKENS)
    assert {array.dtype for array in (*path.keys, *path.values)} == {np.dtype(np.float32)}
    for key in want:
        error = nmse(got, want, key, model.config)
        assert error < 1e-12, key
        if key[0] in PRODUCTS:
            assert error > 1e-15, key  # sums of float64 would be nearer


def test_a_path_names_its_arithmetic(model):
    path = HonestPath(model, arithmetic_named("bfloat16"))
    assert (path.name, path.variant, path.position) == ("honest", "numpy-bfloat16", 0)


def test_an_unknown_arithmetic_is_refused():
    hint = "one of: float64, float32, float16, bfloat16, int8, int8-rests"
    with pytest.raises(EngineError, match=rf"^--arithmetics: unknown arithmetic 'fp8'\n  hint: {hint}$"):
        arithmetic_named("fp8", "--arithmetics")


# ---------------------------------------------------------------- float16 and bfloat16


@pytest.mark.parametrize(("name", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_every_stage_holds_values_of_the_type_alone_and_errs_as_its_digits_say(model, name, digits):
    want = stages(ReferencePath(model))
    got = honest(model, name, want)
    unit = 4.0**-digits  # the square of half a step beside 1; an error of even spread has a third of it
    for key in want:
        stored = got[key].astype(np.float16).astype(np.float32) if name == "float16" else to_bfloat16(got[key])
        assert stored.tobytes() == got[key].tobytes(), key
        error = nmse(got, want, key, model.config)
        assert unit / 25 < error < 2.5 * unit, key


def test_weights_are_rounded_to_the_type_of_storage():
    model = random_model(np.random.default_rng(5), "llama", "F32")
    want = stages(ReferencePath(model))
    got = honest(model, "bfloat16", {key: to_bfloat16(array) for key, array in want.items()})
    x = to_bfloat16(want["ffn_norm", 0])
    weights = model.layers[0].up.dequantised()
    rounded, whole = x @ to_bfloat16(weights).T, x @ weights.T
    assert np.array_equal(got["ffn_up", 0], to_bfloat16(rounded))
    assert not np.array_equal(got["ffn_up", 0], to_bfloat16(whole))


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_norms_rotations_and_scores_are_rounded_at_each_of_their_operations(name, architecture):
    """As engines do that hold tensors of that type; one rounding at the end alone would err by less."""

    def kept(x):
        x = np.asarray(x, np.float32)
        return to_bfloat16(x) if name == "bfloat16" else x.astype(name).astype(np.float32)

    model = random_model(np.random.default_rng(5), architecture, "F32")
    c = replace(model.config, heads=8, kv_heads=4, head_dim=32, rope_dim=16)  # the root of 32 is no power of two
    model = replace(model, config=c, rope_factors=None)
    fed = {key: kept(array) for key, array in stages(ReferencePath(model)).items()}
    got = honest(model, name, fed)
    if architecture == "qwen2":
        weights = [kept(getattr(model.layers[1], part).dequantised()) for part in "qkv"]
        products = np.concatenate([fed["attn_norm", 1] @ weight.T for weight in weights], axis=1)
        lost = products - kept(products)  # the bias comes before the rounding; in float32, nothing is lost
        want = kept(fed["qkv_matmul", 1] + lost + kept(model.layers[1].qkv_bias))
        assert np.array_equal(got["qkv_bias", 1], want)
    row = kept(rmsnorm(fed["post_attn_residual", 0], np.ones(c.hidden, np.float32), c.rms_eps))
    assert np.array_equal(got["ffn_norm", 0], kept(row * kept(model.layers[0].ffn_norm)))
    x = fed["qkv_bias", 1][:, : c.q_width].reshape(6, 8, 32)
    angle = np.float32(honest_angles(np.arange(6), c.rope_base, 16, c.rope_scale))[:, None, :]
    cosine, sine, want = kept(np.cos(angle)), kept(np.sin(angle)), x.copy()
    a, b = (slice(0, 16, 2), slice(1, 16, 2)) if c.pairing == "adjacent" else (slice(0, 8), slice(8, 16))
    want[..., a] = kept(kept(x[..., a] * cosine) - kept(x[..., b] * sine))
    want[..., b] = kept(kept(x[..., a] * sine) + kept(x[..., b] * cosine))
    assert np.array_equal(got["q_post_rope", 1].reshape(want.shape), want)
    q, k = fed["q_post_rope", 1].reshape(6, 8, 32), fed["k_post_rope", 1].reshape(6, 4, 32)
    products = kept(np.einsum("thd,shd->ths", q, np.repeat(k, 2, axis=1)))
    seen = np.tri(6, dtype=bool)[:, None, :]
    assert np.array_equal(got["attn_scores", 1], np.where(seen, kept(products / np.float32(32**0.5)), -np.inf))


def honest_angles(positions, base, width, scale):
    """The angles of HonestPath in float32, as its docstring says, number by number."""
    found = [[float(position)] for position in positions]
    step = np.float32(base ** (-2 / width))
    for position, row in zip(positions, found, strict=True):
        for _ in range(1, width // 2):
            row.append(np.float32(row[-1]) * step)
        for pair in range(width // 2):
            frequency = base ** (-2 * pair / width)
            right, recurrent = position / scale * frequency, np.float32(row[pair]) / np.float32(scale)
            near = np.float32(right)
            around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
            between = [one for one in around if abs(float(one) - right) < np.spacing(near)]  # the two next to it
            other = near if position == 0 or frequency == 1 else max(between, key=lambda one: abs(float(one) - right))
            row[pair] = max(recurrent, other, key=lambda one: abs(float(one) - right))
    return found


@pytest.mark.parametrize(("base", "scale"), [(10000.0, 1.0), (1e6, 1.0), (500000.0, 4.0)])
def test_no_angle_of_float32_is_right_by_chance(base, scale):
    """Transformers' angles, of another honest way, err by no more than a few times as much at any position and pair."""
    model = random_model(np.random.default_rng(5), "llama", "F32")
    c = replace(model.config, head_dim=64, rope_dim=64, rope_base=base, rope_scale=scale)
    path = HonestPath(replace(model, config=c, rope_factors=None), arithmetic_named("float32"))
    positions = np.arange(500)
    right = positions[:, None] / scale * base ** (-np.arange(32) / 32)
    got = path.angles(positions)
    assert got.dtype == np.float32
    error = np.abs(got - right)
    assert not error[:, 0].any()
    assert not error[0].any()
    unit = np.spacing(right[1:, 1:].astype(np.float32))
    assert (error[1:, 1:] >= 0.499 * unit).all()
    frequencies = np.float32(1) / np.float32(base) ** (np.arange(0, 64, 2, dtype=np.float32) / np.float32(64))
    other = np.abs(positions[:, None].astype(np.float32) * (frequencies / np.float32(scale)) - right)
    assert (other[1:, 1:] <= 4 * error[1:, 1:]).all()
    assert error[:, 1:].mean() < 12 * other[:, 1:].mean()  # no excuse for what is wrong


def test_what_float16_cannot_hold_becomes_infinite_without_a_warning():
    model = random_model(np.random.default_rng(5), "llama", "F32")
    layer = replace(model.layers[0], ffn_norm=model.layers[0].ffn_norm * np.float32(1e6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = honest(replace(model, layers=(layer, model.layers[1])), "float16")
    assert np.isinf(found["ffn_norm", 0]).any()


@given(st.integers(0, 0xFFFF), st.sampled_from([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]) | st.integers(0, 0xFFFF))
def test_bfloat16_is_the_nearest_and_the_even_one_of_two(high, low):
    x = np.array([high << 16 | low], np.uint32).view(np.float32)
    got = to_bfloat16(x)
    assert got.dtype == np.float32
    bits = int(got.view(np.uint32)[0])
    assert bits & 0xFFFF == 0
    if not np.isfinite(x[0]):
        assert np.array_equal(got, x, equal_nan=True)
        return
    before = int(x.view(np.uint32)[0])
    assert bits >> 31 == before >> 31
    kept, exact = bits & 0x7FFFFFFF, _of_bits(before & 0x7FFFFFFF)
    distance = {near: abs(_of_bits(near) - exact) for near in (kept - 0x10000, kept, kept + 0x10000) if near >= 0}
    assert distance[kept] == min(distance.values())
    if list(distance.values()).count(distance[kept]) > 1:
        assert kept >> 16 & 1 == 0


def _of_bits(bits):
    """The value of a pattern of float32 without its sign; infinity's is what IEEE 754 rounds to it from: 2^128."""
    exponent, fraction = bits >> 23 & 0xFF, bits & 0x7FFFFF
    if exponent == 0:
        return Fraction(fraction) * Fraction(2) ** -149
    return Fraction(fraction + (1 << 23)) * Fraction(2) ** (exponent - 150)


def test_bfloat16_keeps_a_nan_whose_payload_lies_in_the_lower_bits():
    x = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(to_bfloat16(x)).all()


# ---------------------------------------------------------------- int8


@pytest.mark.parametrize("block", [32, 256])
@given(data=st.data())
def test_int8_gives_the_integers_and_scales_of_the_integer_model(block, data):
    elements = st.floats(-(2.0**100), 2.0**100, width=32)
    x = data.draw(arrays.arrays(np.float32, (2, 512), elements=elements, fill=st.floats(-4, 4, width=32)))
    q, scale = integer_model.quantise(x, block)
    want = q.astype(np.float64) * np.repeat(scale.astype(np.float64), block, axis=1)
    assert np.array_equal(to_int8(x, block), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_block_that_is_not_finite_is_worth_nan_and_its_neighbour_is_not(bad):
    x = np.full((1, 64), 127, np.float32)
    x[0, 40] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = to_int8(x, 32)
    assert np.isnan(got[0, 32:]).all()
    assert np.array_equal(got[0, :32], x[0, :32])


def test_matrices_of_float_formats_meet_activations_that_nobody_rounds():
    model = random_model(np.random.default_rng(31), "llama")  # of its second layer, k is F16, v BF16 and attn_out F32
    want = stages(ReferencePath(model))
    got, c = honest(model, "int8", want), model.config
    assert nmse(got, want, ("attn_out", 0), c) > 1e-6
    assert np.array_equal(got["attn_out", 1], honest(model, "float64", want)["attn_out", 1])
    error = measure(got["qkv_matmul", 1], want["qkv_matmul", 1], "qkv_matmul", c)
    assert (error.rms[:, : c.heads] > 1e-4).all()
    assert (error.rms[:, c.heads :] < 1e-6).all()


def test_int8_predicts_the_roundings_of_the_fast_path(model):
    """Fed what the compiled fast path fed its own products, it gives their outputs: what is left is float32's.

    The matrix v is another matter: the fast path multiplies what rounding left, too, and v errs a ten thousandth.
    """
    c = model.config
    fast = stages(FastPath(model, capacity=len(TOKENS), threads=1))
    exact, int8, rests = stages(ReferencePath(model), fast), *(honest(model, n, fast) for n in ("int8", "int8-rests"))
    seen = 0
    for key in fast:
        if key[0] not in PRODUCTS:
            assert nmse(fast, int8, key, c) < 1e-13, key
            continue
        weights = key[0] == "qkv_matmul" and c.heads + c.kv_heads  # groups before those of v
        heads = slice(0, weights or None)
        apart, lost = (measure(a[key], b[key], key[0], c) for a, b in ((fast, int8), (int8, exact)))
        assert apart.rms[:, heads].max() < 1e-6 * apart.scale[:, heads].max(), key
        if lost.nmse > 1e-12:  # a product with a matrix in a quantised format
            seen += 1
            assert apart.rms[:, heads].max() < 1e-3 * lost.rms[:, heads].max(), key
        assert nmse(fast, rests, key, c) < 1e-12, key
        if weights and lost.rms[:, weights:].max() > 1e-5:
            left = measure(fast[key], exact[key], key[0], c)
            assert 0 < left.rms[:, weights:].max() < 1e-2 * lost.rms[:, weights:].max(), key
    assert seen >= 4


def test_a_replacing_tap_feeds_the_stages_after_it(model):
    for name in NAMES:
        path, seen = HonestPath(model, arithmetic_named(name)), {}

        def tap(stage, layer, array, seen=seen):
            seen[stage, layer] = array.copy()
            return np.zeros_like(array) if (stage, layer) == ("ffn_up", 0) else None

        path.forward(TOKENS, tap)
        assert seen["ffn_up", 0].any()
        assert not seen["ffn_swigl", 0].any()
        assert seen["ffn_swigl", 1].any()


def test_every_stage_is_tapped(model):
    assert {stage for stage, _ in honest(model, "int8")} == {stage.name for stage in STAGES}
