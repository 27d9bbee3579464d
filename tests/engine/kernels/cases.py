"""What the tests of the kernels share: activations of every kind, blocks of extreme codes, and memory with a margin."""

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numba import njit

from engine.kernels.simd import kernel
from falsifiers import integer_model, on_arrays
from falsifiers.synthetic import NAMED, SCALES, random_weight

f32 = np.float32
FLOATS = ("F32", "F16", "BF16")
QUANTISED = tuple(name for name in NAMED if name not in FLOATS)
SEEDS = st.integers(0, 2**32 - 1)
SCALED = {"plain": 1.0, "zero": 0.0, "huge": 1e38, "large": 1e30, "tiny": 1e-37, "subnormal": 1e-43, "least": 1e-45}
BROKEN = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
MARGIN = 256


def same_bits(got, want):
    """Bit for bit, a NaN's payload aside: IEEE 754 leaves it open."""
    assert got.dtype == want.dtype == f32
    assert got.shape == want.shape
    nan = np.isnan(want)
    assert np.array_equal(np.isnan(got), nan)
    assert np.array_equal(got.view(np.uint32)[~nan], want.view(np.uint32)[~nan])


def activations(rng, T, D, kind):
    x = rng.standard_normal((T, D)).astype(f32)
    if kind in BROKEN:
        x[rng.integers(T), rng.integers(D)] = BROKEN[kind]
        return x
    return np.clip(x, -3, 3) * f32(SCALED[kind])


def model_product(x, weight):
    """x times a quantised weight by the integer model, from the kernels' own integers of x."""
    q, scale, _ = on_arrays.quantised(x, weight.format.block)
    with np.errstate(all="ignore"):
        return integer_model.matmul(weight.format.name, weight.raw, weight.format.block, q, scale)


def model_product_with_rests(x, weight):
    """The same, plus what rounding left of x times the weight."""
    block = weight.format.block
    q, scale, _ = on_arrays.quantised(x, block)
    with np.errstate(all="ignore"):
        rest = integer_model.rest(x, q, scale)
        return model_product(x, weight) + model_product(rest, weight)


def extremes(name):
    """(label, weight, x): codes, integer scales and minima at their ends, scales of both signs, integers of x +-127."""
    fmt = NAMED[name]
    D = 2 * fmt.block
    x = np.full((4, D), 5, f32)
    x[1], x[2, 1:], x[3, ::2] = -5, -5, -5  # the first entry of a block decides the sign of its scale
    x[2, fmt.block] = 5
    ends = (0xFF, 0x00, 0x80, 0x7F)
    at, _, at_min, _ = SCALES[name]
    integers = {"Q4_K": slice(4, 16), "Q5_K": slice(4, 16), "Q6_K": slice(192, 208)}.get(name)
    random = random_weight(np.random.default_rng(0), name, 3, D, fmt)
    for code, integer in itertools.product(ends, ends if integers else (None,)):
        raw = np.full((3, 2, fmt.nbytes), code, np.uint8)
        if integers:
            raw[..., integers] = integer
        scales = np.array([[0.5, -0.25], [-3.0, 2.0**-24], [-0.0, 1024.0]], "<f2")
        raw[..., at : at + 2] = scales[..., None].view(np.uint8)
        if at_min is not None:
            raw[..., at_min : at_min + 2] = (scales[::-1] * np.float16(0.75))[..., None].copy().view(np.uint8)
        yield f"{name} codes {code:#x} scales {integer}", replace(random, raw=raw.reshape(3, -1)), x


def wrong_extremes(name):
    """The labels of the extreme products, alone and with other tokens, that have other bits than the integer model."""
    wrong = []
    for label, weight, x in extremes(name):
        want = model_product(x, weight)
        if on_arrays.matmul(x, weight).tobytes() != want.tobytes():
            wrong.append(f"{label}, together")
        for t in range(len(x)):
            if on_arrays.matmul(x[t : t + 1], weight).tobytes() != want[t : t + 1].tobytes():
                wrong.append(f"{label}, token {t} alone")
    return wrong


class Guarded:
    """An array with a margin of known bytes on either side."""

    def __init__(self, shape, kind, filling=0xA5):
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        self._all = np.full(size + 2 * MARGIN, 0xA5, np.uint8)
        self.array = self._all[MARGIN : MARGIN + size].view(kind).reshape(shape)
        self.array.view(np.uint8)[...] = filling
        self.address = on_arrays.address(self.array)

    def intact(self):
        return bool((self._all[:MARGIN] == 0xA5).all() and (self._all[-MARGIN:] == 0xA5).all())


def run(build, *arguments):
    """Compile the code that build(builder, *numbers) writes, and run it on the addresses of arrays, or on numbers."""
    call(kernel(build), *arguments)


def call(made, *arguments):
    """A kernel on the addresses of arrays, or on numbers."""
    numbers = (on_arrays.address(part) if isinstance(part, np.ndarray) else part for part in arguments)
    njit(lambda args: made(*args))(tuple(numbers))
