"""What one variant of the kernels computes, as one JSON object: `python -m tests.engine.kernels.one_variant`.

Run in a process of its own for each variant, since a process has one: see test_every_variant.py.
"""

import ctypes
import json
import mmap
import os
from hashlib import sha256

import numpy as np
from numba import njit
from numba.core.registry import cpu_target

from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.kernels import dots
from engine.model import Weight, read_model
from engine.registry import locate
from engine.variants import chosen
from falsifiers import on_arrays
from falsifiers.synthetic import NAMED, random_weight
from tests.engine.kernels.cases import BROKEN, FLOATS, QUANTISED, SCALED, activations, f32, wrong_extremes

MODELS = ("tiny-qwen2", "tiny-qwen2-f16")


def measured():
    """What must be the same for every variant."""
    return {
        **{name: _forward(name) for name in MODELS},
        "products": _products(),
        "activations": _activations(),
        "attention": _attention(),
        "exponentials": _digest(on_arrays.exp(np.linspace(-90, 90, 100_000, dtype=f32))),
        "halves": _halves(),
        "wrong": [label for name in QUANTISED for label in wrong_extremes(name)],
    }


def _forward(name):
    """One digest over all stages and logits: of a prompt, and of two single tokens that go on."""
    path, seen = FastPath(read_model(read_gguf(locate(name))), capacity=32), sha256()
    for tokens in ([1, 300, 21, 7, 1999, 42, 5], [13], [1500]):
        path.forward(tokens, lambda stage, layer, array: seen.update(f"{stage} {layer} ".encode() + array.tobytes()))
    return seen.hexdigest()


def _products():
    rng, found = np.random.default_rng(1), sha256()
    for name in NAMED:
        weight = random_weight(rng, name, 37, 768, NAMED[name])
        for tokens in (1, 2, 7):
            x = (rng.standard_normal((tokens, 768)) * 10.0 ** rng.integers(-3, 4)).astype(f32)
            found.update(on_arrays.matmul(x, weight).tobytes())
    return found.hexdigest()


def _activations():
    rng, found = np.random.default_rng(2), sha256()
    for kind in (*SCALED, *BROKEN):
        x = activations(rng, 5, 512, kind)
        for block in (32, 256):
            q, scale, sums = on_arrays.quantised(x, block)
            scale[np.isnan(scale)] = np.nan  # whatever its payload
            for part in (q, scale, *sums.values()):
                found.update(part.tobytes())
    return found.hexdigest()


def _attention():
    rng, found = np.random.default_rng(4), sha256()
    for T, past, heads, kv_heads, head_dim in (
        (1, 0, 4, 2, 16),
        (1, 500, 9, 3, 64),
        (7, 140, 9, 3, 40),
        (2, 30, 3, 3, 80),
    ):
        q = rng.standard_normal((T, heads, head_dim)).astype(f32)
        for kind in ("float32", "float16"):
            keys, values = rng.standard_normal((2, kv_heads, past + T, head_dim)).astype(kind)
            for part in on_arrays.attend(q, keys, values, past, 0.2):
                found.update(part.tobytes())
    return found.hexdigest()


def _halves():
    """How many of the 65,536 patterns of float16 are not widened exactly."""
    bits = np.arange(65536, dtype="<u2")
    weight = Weight("patterns", bits.view(np.uint8).reshape(65536, 2), NAMED["F16"], 65536, 1)
    got, want = on_arrays.matmul(np.ones((1, 1), f32), weight)[0], bits.view("<f2").astype(f32)
    return int(np.count_nonzero(~((got == want) | (np.isnan(got) & np.isnan(want)))))


def _digest(array):
    return sha256(array.tobytes()).hexdigest()


def read_between_closed_pages():
    """Products of weights that fill a mapping to its last byte, and from its first: reading past either kills."""
    size = 8 * mmap.PAGESIZE
    mapping = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (start, start + mmap.PAGESIZE + size):
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    memory = np.frombuffer(mapping, np.uint8)[mmap.PAGESIZE : mmap.PAGESIZE + size]
    rng = np.random.default_rng(3)
    for name in NAMED:
        for rows, columns in ((5, 512), (17, 256), *(((3, 500), (1, 1)) if name in FLOATS else ())):
            weight = random_weight(rng, name, rows, columns, NAMED[name])
            count = weight.raw.size
            for place in (memory[:count], memory[size - count :]):
                place[:] = weight.raw.ravel()
                there = Weight(name, place.reshape(rows, -1), weight.format, rows, columns)
                for tokens in (1, 3):
                    x = rng.standard_normal((tokens, columns), dtype=f32)
                    assert on_arrays.matmul(x, there).tobytes() == on_arrays.matmul(x, weight).tobytes(), name


def instructions():
    """Which of the registers and instructions that tell the variants apart are in the code of a dot product."""

    made, zeros = dots.DOTS["Q8_0"], np.zeros((5, 512), np.uint8)
    weights, *rest = (on_arrays.address(row) for row in zeros)
    compiled = njit(lambda args: made(*args))
    compiled((weights, 34, 7, 1, *rest))
    assembly = "".join(compiled.inspect_asm().values())
    return [word for word in ("zmm", "ymm", "vpdpbusd", "vpmaddubsw") if word in assembly]


def main():
    read_between_closed_pages()
    _, cpu, _ = cpu_target.target_context.codegen().magic_tuple()
    print(json.dumps({"variant": chosen(), "cpu": cpu, "used": instructions(), **measured()}), flush=True)  # noqa: T201
    os._exit(0)  # closed pages are no place to tidy up


if __name__ == "__main__":
    main()
