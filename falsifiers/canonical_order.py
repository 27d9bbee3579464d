"""Falsifier of the kernels' order of summation: FALSIFY-MODEL-PARITY-006 of contracts/model-parity-v1.yaml."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import kernels
from engine.buffers import Product
from engine.kernels import FORMAT, QUANTISED, ROWS, STRIDE, WEIGHTS
from engine.model import Weight
from engine.numerics import cos_sin
from falsifiers import integer_model, on_arrays
from falsifiers.subject import is_refused
from falsifiers.synthetic import NAMED, SCALES, random_weight
from pv.trial import Trial, mutant, patched


def kernels_match_the_integer_model(trial: Trial) -> None:
    """For every quantised format the matrix product gives the bits of a numpy model of the canonical order."""
    for name in SCALES:
        fmt = NAMED[name]
        weight = random_weight(trial.rng, name, 21, 768, fmt)
        for tokens in (1, 4, 7):
            x = (trial.rng.standard_normal((tokens, 768)) * 10.0 ** trial.rng.integers(-3, 4)).astype(np.float32)
            q, scale, sums = on_arrays.quantised(x, fmt.block)
            want_q, want_scale = integer_model.quantise(x, fmt.block)
            trial.equal(scale.tobytes(), want_scale.tobytes(), f"scales of activations for {name}")
            trial.equal(q, want_q, f"integers of activations for {name}")
            for size, got in sums.items():
                want = q.reshape(tokens, -1, size).sum(axis=2, dtype=np.int32)
                trial.equal(got.astype(np.int32), want, f"sums of {size} activations for {name}")
            product = on_arrays.matmul(x, weight)
            want = integer_model.matmul(name, weight.raw, fmt.block, q, scale)
            trial.equal(product.tobytes(), want.tobytes(), f"{name} product for {tokens} tokens")
            rest = integer_model.quantise(integer_model.rest(x, q, scale), fmt.block)
            want = want + integer_model.matmul(name, weight.raw, fmt.block, *rest)
            finer = on_arrays.matmul(x, weight, rests=True)
            trial.equal(finer.tobytes(), want.tobytes(), f"{name} product with rests for {tokens} tokens")
    nothing_is_written_past_the_rows(trial)
    activations_keep_what_is_not_finite(trial)
    elementary_functions_are_right(trial)
    softmax_bears_any_score(trial)
    float_kernels_keep_the_order(trial)


def nothing_is_written_past_the_rows(trial: Trial) -> None:
    """A product of 13 rows leaves alone what lies beside them in the output; kernels do not check bounds."""
    for name in NAMED:
        weight = random_weight(trial.rng, name, 13, 256, NAMED[name])
        for tokens in (1, 3):
            product = Product(weight)
            rows = on_arrays.filled(trial.rng.standard_normal((tokens, 256), dtype=np.float32), product.kinds)
            product.jobs[0, kernels.COLUMN] = 2
            out = np.full((tokens + 1, 17), 77, np.float32)
            kernels.products(product.jobs, rows.addresses, rows.pitch, out[:tokens])
            beside = np.concatenate([out[:tokens, :2].ravel(), out[:tokens, 15:].ravel(), out[tokens]])
            trial.equal(beside, np.full_like(beside, 77), f"what lies beside a {name} product for {tokens} tokens")


def activations_keep_what_is_not_finite(trial: Trial) -> None:
    """A NaN or an infinity makes its block NaN; zeros and the smallest numbers do not."""
    for value in (np.nan, np.inf, -np.inf, 0.0, 1e-45, 3e38):
        for block in (32, 256):
            x = np.zeros((1, 512), np.float32)
            x[0, 300] = value
            q, scale, _ = on_arrays.quantised(x, block)
            wanted = [not np.isfinite(value) and i == 300 // block for i in range(512 // block)]
            trial.equal(np.isnan(scale[0]).tolist(), wanted, f"NaN blocks of {block} when one activation is {value}")
            spoilt = q.reshape(-1, block)[np.isnan(scale[0])]
            trial.equal(spoilt, np.ones_like(spoilt), f"integers of a block of {block} with an activation of {value}")
    for block in (32, 256):
        x = (trial.rng.integers(-180, 181, (4, 512)) * 2.0**-149).astype(np.float32)  # subnormal: coarse steps
        x[:, 5::block] = np.float32(180 * 2.0**-149)
        x[1] = 0
        q, scale, _ = on_arrays.quantised(x, block)
        want_q, want_scale = integer_model.quantise(x, block)
        trial.equal(scale.tobytes(), want_scale.tobytes(), f"scales of the smallest numbers in blocks of {block}")
        trial.equal(q, want_q, f"integers of the smallest numbers in blocks of {block}")


def softmax_bears_any_score(trial: Trial) -> None:
    """The first of three keys scores 200 above the rest: e^200 is no float32, yet the weights are finite and right."""
    q, keys = np.zeros((1, 1, 16), np.float32), np.zeros((1, 3, 16), np.float32)
    q[0, 0, 0], keys[0, 0, 0] = 10, 20
    out, scores, weights = on_arrays.attend(q, keys, np.ones_like(keys), 2, 1.0)
    trial.equal(scores[0, 0].tolist(), [200.0, 0.0, 0.0], "scores of which one is large")
    trial.equal(weights[0, 0].tolist(), [1.0, 0.0, 0.0], "weights where one score is large")
    trial.equal(out[0, 0].tolist(), [1.0] * 16, "attention where one score is large")


def float_kernels_keep_the_order(trial: Trial) -> None:
    """Products with float weights, norm and attention give the bits of a numpy model of lanes, tree and fused sums."""
    for name in ("F32", "F16", "BF16"):
        for size in (1, 15, 64, 100, 576):
            weight = random_weight(trial.rng, name, 5, size, NAMED[name])
            x = trial.rng.standard_normal((6, size), dtype=np.float32)
            want = np.array([[integer_model.dot(row, tokens) for row in weight.dequantised()] for tokens in x])
            trial.equal(on_arrays.matmul(x, weight).tobytes(), want.tobytes(), f"{name} product of {size} columns")
    x, gain = trial.rng.standard_normal((3, 100), dtype=np.float32), trial.rng.standard_normal(100, dtype=np.float32)
    out = on_arrays.norm(x, gain, 1e-3)
    for t in range(3):
        mean = integer_model.dot(x[t], x[t]) / np.float32(100)
        want = x[t] * (np.float32(1) / np.sqrt(mean + np.float32(1e-3))) * gain
        trial.equal(out[t].tobytes(), want.tobytes(), "root mean square norm")
    for width in (20, 144):
        shapes = ((2, 2, width), (1, 40, width), (1, 40, width))
        q, keys, values = (trial.rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        mixed, scores, weights = on_arrays.attend(q, keys, values, 38, 0.25)
        for t, h in ((0, 0), (1, 1)):
            seen = 39 + t
            want = np.array([integer_model.dot(q[t, h], key) for key in keys[0, :seen]]) * np.float32(0.25)
            trial.equal(scores[t, h, :seen].tobytes(), want.tobytes(), "scores of attention")
            trial.equal(scores[t, h, seen:].tolist(), [-np.inf] * (40 - seen), "scores of keys that lie ahead")
            raised = on_arrays.exp(want - want.max())
            total = integer_model.lanes_sum(np.pad(raised, (0, -seen % 16)).reshape(-1, 16).cumsum(axis=0)[-1])
            trial.equal(weights[t, h, :seen].tobytes(), (raised / total).tobytes(), "weights of attention")
            sums = np.zeros(width, np.float32)
            for weight, value in zip(raised / total, values[0, :seen], strict=True):
                sums = integer_model.fma(np.full(width, weight), value, sums)
            trial.equal(mixed[t, h].tobytes(), sums.tobytes(), "values mixed by attention")


def elementary_functions_are_right(trial: Trial) -> None:
    """float16 is widened without loss for all 65,536 patterns; e^x is within 1 ULP, its limits are exact."""
    patterns = np.arange(65536, dtype=np.uint16)
    weight = Weight("patterns", patterns.view(np.uint8).reshape(65536, 2), NAMED["F16"], 65536, 1)
    got = on_arrays.matmul(np.ones((1, 1), np.float32), weight)[0]
    want = patterns.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    trial.equal((got[numbers] + 0).tobytes(), (want[numbers] + 0).tobytes(), "float16 numbers and infinities, widened")
    trial.equal(np.isnan(got), ~numbers, "which float16 patterns are NaN, widened")
    x = np.concatenate([np.linspace(-87.3, 88.72, 4001), np.linspace(-1, 1, 401)]).astype(np.float32)
    powers = on_arrays.exp(x)
    exact = np.exp(x.astype(np.float64)).astype(np.float32)
    steps = int(np.max(np.abs(powers.view(np.int32).astype(np.int64) - exact.view(np.int32).astype(np.int64))))
    trial.observe("exp_ulp", steps)
    trial.at_most(steps, 1, "ULP of e^x")
    angles = np.linspace(0, 2**20 - 1, 4001)
    for turned, right, name in zip(cos_sin(angles), (np.cos(angles), np.sin(angles)), ("cosine", "sine"), strict=True):
        trial.at_most(float(np.max(np.abs(turned - right))), 2.0**-50, f"error of the {name} of a rotary angle")
    trial.check(is_refused(lambda: cos_sin(np.array([2.0**20])), ValueError), "a rotary angle loses its fraction")
    limits = on_arrays.exp(np.array([-np.inf, -87.4, 88.8, np.inf, 0.0, np.nan], np.float32))
    trial.equal(limits[:5].tolist(), [0.0, 0.0, np.inf, np.inf, 1.0], "e^x at -inf, -87.4, 88.8, inf and 0")
    trial.check(bool(np.isnan(limits[5])), "e^NaN is a number")


@mutant
def blocks_are_summed_backwards() -> Iterator[None]:
    """The blocks of a row are joined from the last to the first."""
    products = kernels.products

    def backwards(jobs: Any, a: Any, pitch: int, out: Any) -> None:
        jobs, kept = jobs.copy(), []
        tokens = int(kernels.padded(len(out)))
        for job in jobs:
            layout = QUANTISED.get(int(job[FORMAT]))
            if layout is not None:
                raw = on_arrays.memory(job[WEIGHTS], (job[ROWS], job[STRIDE]), np.uint8)
                turned = np.ascontiguousarray(raw.reshape(job[ROWS], -1, layout.nbytes)[:, ::-1])
                kept.append(turned)
                job[WEIGHTS] = on_arrays.address(turned)
                a = _turned(a, layout, int(job[kernels.BLOCKS]), tokens, kept)
        products(jobs, a, pitch, out)

    with patched(kernels, "products", backwards):
        yield


def _turned(a: Any, layout: Any, blocks: int, tokens: int, kept: list[Any]) -> Any:
    """The addresses of activations of which the blocks stand in the opposite order."""
    a = a.copy()  # (1, 8), or (2, 8) with rests
    parts = (
        [(kernels.Q32, 32), (kernels.SCALE32, 4), (kernels.SUMS32, 4)]
        if layout.block == 32
        else [(kernels.Q256, 256), (kernels.SCALE256, 4), (kernels.SUMS16, 32), (kernels.SUMS256, 16)]
    )
    for index, size in parts:
        for digit in a:
            turned = np.ascontiguousarray(on_arrays.memory(digit[index], (blocks, tokens * size), np.uint8)[::-1])
            kept.append(turned)
            digit[index] = on_arrays.address(turned)
    return a


@mutant
def rests_are_forgotten() -> Iterator[None]:
    """What rounding left of the activations meets no weights."""
    products = kernels.products

    def coarse(jobs: Any, *rest: Any) -> None:
        jobs = jobs.copy()
        jobs[:, kernels.RESTS] = 0
        products(jobs, *rest)

    with patched(kernels, "products", coarse):
        yield


@mutant
def lanes_are_eight() -> Iterator[None]:
    """Products with float weights are summed in 8 lanes instead of 16."""
    products = kernels.products

    def narrow(jobs: Any, a: Any, pitch: int, out: Any) -> None:
        products(jobs, a, pitch, out)
        for job in jobs:
            if job[FORMAT] == NAMED["F32"].ggml_id:
                columns = int(job[kernels.BLOCKS])
                weights = on_arrays.memory(job[WEIGHTS], (job[ROWS], columns), np.float32)
                x = on_arrays.memory(a[0, kernels.X], (len(out), pitch // 4), np.float32)[:, :columns]
                terms = np.pad(x[:, None] * weights[None], ((0, 0), (0, 0), (0, -columns % 8)))
                lanes = terms.reshape(len(out), len(weights), -1, 8).sum(axis=2, dtype=np.float32)
                start = int(job[kernels.COLUMN])
                out[:, start : start + len(weights)] = integer_model.lanes_sum(np.moveaxis(lanes, -1, 0))

    with patched(kernels, "products", narrow):
        yield


@mutant
def subnormal_scales_are_flushed() -> Iterator[None]:
    """A float16 weight below the smallest normal number is read as 0."""
    products = kernels.products

    def flushing(jobs: Any, a: Any, pitch: int, out: Any) -> None:
        jobs, kept = jobs.copy(), []
        for job in jobs:
            if job[FORMAT] == NAMED["F16"].ggml_id:
                bits = on_arrays.memory(job[WEIGHTS], (job[ROWS], job[STRIDE] // 2), np.uint16).copy()
                bits[bits & 0x7C00 == 0] = 0
                kept.append(bits)
                job[WEIGHTS] = on_arrays.address(bits)
        products(jobs, a, pitch, out)

    with patched(kernels, "products", flushing):
        yield


@mutant
def nan_activations_vanish() -> Iterator[None]:
    """What is not finite is taken for 0 before activations are rounded."""
    quantise = kernels.quantise

    def cleaned(x: int, pitch: int, T: int, *rest: Any) -> None:
        rows = on_arrays.memory(x, (T, pitch // 4), np.float32)
        np.nan_to_num(rows, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        quantise(x, pitch, T, *rest)

    with patched(kernels, "quantise", cleaned):
        yield
