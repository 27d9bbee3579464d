"""Falsifier of the kernels' order of summation: FALSIFY-MODEL-PARITY-006 of contracts/model-parity-v1.yaml."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import fast, kernels
from engine.model import Weight
from engine.numerics import cos_sin
from falsifiers import integer_model
from falsifiers.subject import is_refused
from falsifiers.synthetic import NAMED, SCALES, random_weight
from pv.trial import Trial, mutant, patched


def kernels_match_the_integer_model(trial: Trial) -> None:
    """For every quantised format the matrix product gives the bits of a numpy model of the canonical order."""
    for name in SCALES:
        fmt = NAMED[name]
        weight = random_weight(trial.rng, name, 9, 768, fmt)
        nothing_is_written_past_a_row(trial, weight, fast.SUB_BLOCK.get(name, 32))
        for tokens in (1, 4):
            x = (trial.rng.standard_normal((tokens, 768)) * 10.0 ** trial.rng.integers(-3, 4)).astype(np.float32)
            q, scale, sums = fast.quantise(x, fmt.block, fast.SUB_BLOCK.get(name, 32))
            want_q, want_scale = integer_model.quantise(x, fmt.block)
            trial.equal(scale.tobytes(), want_scale.tobytes(), f"scales of activations for {name}")
            trial.equal(q, want_q, f"integers of activations for {name}")
            sub = fast.SUB_BLOCK.get(name, 32)
            want_sums = q.reshape(tokens, -1, sub).sum(axis=2, dtype=np.int32)
            trial.equal(sums, want_sums, f"sums of activations for {name}")
            (got,) = fast.matmul(x, weight)
            want = integer_model.matmul(name, weight.raw, fmt.block, q, scale)
            trial.equal(got.tobytes(), want.tobytes(), f"{name} product for {tokens} tokens")
    activations_keep_what_is_not_finite(trial)
    elementary_functions_are_right(trial)
    softmax_bears_any_score(trial)
    float_kernels_keep_the_order(trial)
    for size in (1, 15, 64, 100, 576):
        a, b = trial.rng.standard_normal((2, size), dtype=np.float32)
        summed = np.float32(kernels.dot(a, b, np.empty(16, np.float32)))
        trial.equal(summed.tobytes(), integer_model.dot(a, b).tobytes(), f"float32 dot product of {size} values")


def nothing_is_written_past_a_row(trial: Trial, weight: Weight, sub: int) -> None:
    """Unpacking a row leaves alone what lies behind its arrays; kernels do not check bounds."""
    blocks, behind = weight.columns // weight.format.block, 8
    sizes = (weight.columns, np.int8), (weight.columns // sub, np.int32), (weight.columns // sub, np.int32)
    q, sub_scale, sub_min = (np.full(size + behind, 77, kind) for size, kind in sizes)
    d, dmin = np.full((2, blocks + behind), 77, np.float32)
    fmt = weight.format
    kernels.unpack_row(fmt.ggml_id, weight.raw[0], 0, fmt.nbytes, q, sub_scale, sub_min, d[:blocks], dmin[:blocks])
    for array in (q, sub_scale, sub_min, d, dmin):
        trial.equal(array[-behind:].tolist(), [77] * behind, f"what lies behind an array of unpacked {fmt.name}")


def activations_keep_what_is_not_finite(trial: Trial) -> None:
    """A NaN or an infinity makes its block NaN; zeros and the smallest numbers do not."""
    for value in (np.nan, np.inf, -np.inf, 0.0, 1e-45, 3e38):
        for block in (32, 256):
            x = np.zeros((1, 512), np.float32)
            x[0, 300] = value
            q, scale, _ = fast.quantise(x, block, 32)
            wanted = [not np.isfinite(value) and i == 300 // block for i in range(512 // block)]
            trial.equal(np.isnan(scale[0]).tolist(), wanted, f"NaN blocks of {block} when one activation is {value}")
            spoilt = q.reshape(-1, block)[np.isnan(scale[0])]
            trial.equal(spoilt, np.ones_like(spoilt), f"integers of a block of {block} with an activation of {value}")
    for block in (32, 256):
        x = (trial.rng.integers(-180, 181, (4, 512)) * 2.0**-149).astype(np.float32)  # subnormal: coarse steps
        x[:, 5::block] = np.float32(180 * 2.0**-149)
        x[1] = 0
        q, scale, _ = fast.quantise(x, block, 32)
        want_q, want_scale = integer_model.quantise(x, block)
        trial.equal(scale.tobytes(), want_scale.tobytes(), f"scales of the smallest numbers in blocks of {block}")
        trial.equal(q, want_q, f"integers of the smallest numbers in blocks of {block}")


def softmax_bears_any_score(trial: Trial) -> None:
    """The first of three keys scores 200 above the rest: e^200 is no float32, yet the weights are finite and right."""
    q, keys = np.zeros((1, 1, 16), np.float32), np.zeros((1, 3, 16), np.float32)
    values = np.ones_like(keys)
    q[0, 0, 0], keys[0, 0, 0] = 10, 20
    out, scores, weights = np.empty_like(q), np.empty((1, 1, 3), np.float32), np.empty((1, 1, 3), np.float32)
    kernels.attend(out, scores, weights, q, keys, values, 2, np.float32(1))
    trial.equal(scores[0, 0].tolist(), [200.0, 0.0, 0.0], "scores of which one is large")
    trial.equal(weights[0, 0].tolist(), [1.0, 0.0, 0.0], "weights where one score is large")
    trial.equal(out[0, 0].tolist(), [1.0] * 16, "attention where one score is large")


def float_kernels_keep_the_order(trial: Trial) -> None:
    """Products with float weights, norm and attention give the bits of a numpy model of lanes, tree and fused sums."""
    for name in ("F32", "F16", "BF16"):
        weight = random_weight(trial.rng, name, 5, 100, NAMED[name])
        x = trial.rng.standard_normal((2, 100), dtype=np.float32)
        (got,) = fast.matmul(x, weight)
        want = np.array([[integer_model.dot(row, tokens) for row in weight.dequantised()] for tokens in x])
        trial.equal(got.tobytes(), want.tobytes(), f"{name} product")
    x, gain = trial.rng.standard_normal((3, 100), dtype=np.float32), trial.rng.standard_normal(100, dtype=np.float32)
    out = np.empty_like(x)
    kernels.rmsnorm(out, x, gain, 1e-3)
    for t in range(3):
        mean = integer_model.dot(x[t], x[t]) / np.float32(100)
        want = x[t] * (np.float32(1) / np.sqrt(mean + np.float32(1e-3))) * gain
        trial.equal(out[t].tobytes(), want.tobytes(), "root mean square norm")
    q, keys, values = (trial.rng.standard_normal(s, dtype=np.float32) for s in ((2, 2, 20), (1, 40, 20), (1, 40, 20)))
    mixed, scores, weights = np.empty_like(q), np.empty((2, 2, 40), np.float32), np.empty((2, 2, 40), np.float32)
    kernels.attend(mixed, scores, weights, q, keys, values, 38, np.float32(0.25))
    for t, h in ((0, 0), (1, 1)):
        seen = 39 + t
        want = np.array([integer_model.dot(q[t, h], key) for key in keys[0, :seen]]) * np.float32(0.25)
        trial.equal(scores[t, h, :seen].tobytes(), want.tobytes(), "scores of attention")
        raised = np.array([kernels.exp(score - want.max()) for score in want], np.float32)
        total = integer_model.lanes_sum(np.pad(raised, (0, -seen % 16)).reshape(-1, 16).cumsum(axis=0)[-1])
        trial.equal(weights[t, h, :seen].tobytes(), (raised / total).tobytes(), "weights of attention")
        sums = np.zeros(20, np.float32)
        for weight, value in zip(raised / total, values[0, :seen], strict=True):
            sums = integer_model.fma(np.full(20, weight), value, sums)
        trial.equal(mixed[t, h].tobytes(), sums.tobytes(), "values mixed by attention")


def elementary_functions_are_right(trial: Trial) -> None:
    """float16 is widened without loss for all 65,536 patterns; e^x is within 1 ULP, its limits are exact."""
    patterns = np.arange(65536, dtype=np.uint16)
    got = np.array([kernels.half(np.uint8(p & 255), np.uint8(p >> 8)) for p in patterns.tolist()], np.float32)
    want = patterns.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    trial.equal(got[numbers].tobytes(), want[numbers].tobytes(), "float16 numbers and infinities, widened")
    trial.equal(np.isnan(got), ~numbers, "which float16 patterns are NaN, widened")
    x = np.concatenate([np.linspace(-87.3, 88.72, 4001), np.linspace(-1, 1, 401)]).astype(np.float32)
    powers = np.array([kernels.exp(value) for value in x], np.float32)
    exact = np.exp(x.astype(np.float64)).astype(np.float32)
    steps = int(np.max(np.abs(powers.view(np.int32).astype(np.int64) - exact.view(np.int32).astype(np.int64))))
    trial.observe("exp_ulp", steps)
    trial.at_most(steps, 1, "ULP of e^x")
    angles = np.linspace(0, 2**20 - 1, 4001)
    for turned, right, name in zip(cos_sin(angles), (np.cos(angles), np.sin(angles)), ("cosine", "sine"), strict=True):
        trial.at_most(float(np.max(np.abs(turned - right))), 2.0**-50, f"error of the {name} of a rotary angle")
    trial.check(is_refused(lambda: cos_sin(np.array([2.0**20])), ValueError), "a rotary angle loses its fraction")
    limits = [float(kernels.exp(np.float32(value))) for value in (-np.inf, -87.4, 88.8, np.inf, 0.0)]
    trial.equal(limits, [0.0, 0.0, np.inf, np.inf, 1.0], "e^x at -inf, -87.4, 88.8, inf and 0")
    trial.check(bool(np.isnan(kernels.exp(np.float32(np.nan)))), "e^NaN is a number")


@mutant
def blocks_are_summed_backwards() -> Iterator[None]:
    """The blocks of a row are joined from the last to the first."""
    matmul = kernels.matmul_quantised

    def backwards(
        out: Any, fmt: int, raw: Any, block: int, nbytes: int, sub: int, q: Any, scale: Any, sums: Any
    ) -> None:
        def turned(array: Any, width: int) -> Any:
            return np.ascontiguousarray(array.reshape(array.shape[0], -1, width)[:, ::-1].reshape(array.shape))

        matmul(
            out,
            fmt,
            turned(raw, nbytes),
            block,
            nbytes,
            sub,
            turned(q, block),
            turned(scale, 1),
            turned(sums, block // sub),
        )

    with patched(kernels, "matmul_quantised", backwards):
        yield


@mutant
def lanes_are_eight() -> Iterator[None]:
    """Float sums run in 8 lanes instead of 16."""

    def narrow(a: Any, b: Any, lanes: Any) -> np.float32:
        pad = -a.size % 8
        products = (np.pad(a, (0, pad)) * np.pad(b, (0, pad))).reshape(-1, 8)
        return np.float32(integer_model.lanes_sum(products.cumsum(axis=0, dtype=np.float32)[-1]))

    with patched(kernels, "dot", narrow):
        yield


@mutant
def subnormal_scales_are_flushed() -> Iterator[None]:
    """A float16 scale below the smallest normal number is read as 0."""
    half = kernels.half

    def flushing(low: Any, high: Any) -> Any:
        return half(low, high) if int(high) & 0x7C else np.float32(0)

    with patched(kernels, "half", flushing):
        yield


@mutant
def nan_activations_vanish() -> Iterator[None]:
    """What is not finite is taken for 0 before activations are rounded."""
    quantise = kernels.quantise_rows

    def cleaned(x: Any, *rest: Any) -> None:
        quantise(np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0), *rest)

    with patched(kernels, "quantise_rows", cleaned):
        yield
