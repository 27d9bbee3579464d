"""Tests of engine.quantise: errors against gguf-py, bounds that hold for any weights, and what may not change them."""

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.errors import EngineError
from engine.formats import FORMATS, dequantise
from engine.gguf import read_gguf
from engine.mixes import NAMED
from engine.quantise import CHUNK, LARGEST, compile_kernels, largest, quantise
from engine.registry import locate
from engine.variants import GENERIC, available
from tests.engine.weights import families, squared_error

ROOT = Path(__file__).parents[2]
ALL = list(FORMATS.values())
BY_32 = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
SEARCHED = (*BY_32, "Q4_K", "Q5_K", "Q6_K")
EXACT = ("F32", "F16", "BF16", "Q8_0")
"""Formats whose bytes are those of gguf-py."""
AROUND_ZERO = ("Q4_0", "Q5_0", "Q8_0", "Q6_K")
"""Formats without an offset."""

VALUES = st.one_of(
    st.floats(-1, 1, width=32),
    st.floats(-60000, 60000, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-7, -1e-7, 1e-30, -1e-42, 65504.0, -65504.0]),
)


def rows(columns):
    """(2, columns) float32: few different values, or many, with some in the place of others."""
    return arrays.arrays(np.float32, (2, columns), elements=VALUES, fill=VALUES)


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    compile_kernels(ALL, lambda line: None)


def seen(weights, fmt):
    return dequantise(quantise(weights, fmt), fmt)


def by_gguf_py(weights, name):
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(weights, gguf.GGMLQuantizationType[name])


# ---------------------------------------------------------------- against gguf-py


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_the_bytes_are_those_of_gguf_py(name, data):
    weights = data.draw(rows(64))
    if name == "Q8_0":  # below, 1 / scale is infinite there
        weights[np.abs(weights) < 1e-35] = 0
    assert np.array_equal(quantise(weights, NAMED[name]), by_gguf_py(weights, name).view(np.uint8).reshape(2, -1))


def test_a_code_of_q8_0_that_lies_in_the_middle_goes_away_from_zero():
    weights = np.arange(-127, 129, dtype=np.float32).reshape(-1, 32) + np.float32(0.5)
    weights[:, 0], weights[:, 1] = 127, -127  # so that every scale is 1
    got = quantise(weights, NAMED["Q8_0"])
    assert np.array_equal(got, by_gguf_py(weights, "Q8_0"))
    assert got[4, 2:].view(np.int8)[4:7].tolist() == [6, 7, 8]


@pytest.mark.parametrize("name", BY_32)
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_no_weights_whatever_have_a_larger_error_than_with_gguf_py(name, data):
    weights, fmt = data.draw(rows(64)), NAMED[name]
    ours = squared_error(seen(weights, fmt), weights)
    theirs = squared_error(dequantise(by_gguf_py(weights, name), fmt), weights)
    assert ours <= theirs * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize(("name", "most"), {"Q4_0": 0.90, "Q4_1": 0.79, "Q5_0": 0.89, "Q5_1": 0.78}.items())
def test_the_search_pays_on_gaussian_and_on_trained_weights(name, most):
    fmt = NAMED[name]
    trained = read_gguf(locate("tiny-qwen2-f16")).dequantised("blk.1.ffn_gate.weight")
    for weights in (families(64, 1024)["gaussian"], trained):
        theirs = squared_error(dequantise(by_gguf_py(weights, name), fmt), weights)
        assert squared_error(seen(weights, fmt), weights) <= most * theirs


@pytest.mark.parametrize("name", BY_32)
def test_no_family_of_weights_has_a_larger_error_than_with_gguf_py(name):
    fmt = NAMED[name]
    for kind, weights in families(32, 512).items():
        theirs = squared_error(dequantise(by_gguf_py(weights, name), fmt), weights)
        assert squared_error(seen(weights, fmt), weights) <= theirs, kind


@pytest.mark.parametrize(("name", "most"), {"Q4_K": 4.85e-3, "Q5_K": 1.18e-3, "Q6_K": 2.75e-4, "Q8_0": 2.95e-5}.items())
def test_formats_that_gguf_py_cannot_write_have_the_error_that_their_bits_allow(name, most):
    """Of Gaussian weights, relative to their squares; ggml's own K-quants reach 5.1e-3, 1.31e-3 and 3.16e-4."""
    weights = families(64, 1024)["gaussian"]
    assert squared_error(seen(weights, NAMED[name]), weights) <= most * squared_error(weights, np.zeros(1))


# ---------------------------------------------------------------- bounds for any weights


def bound(blocks, fmt):
    """The largest squared error that a block may have, (N,) float64."""
    low, high = np.minimum(blocks.min(axis=1), 0.0), np.maximum(blocks.max(axis=1), 0.0)
    size = np.maximum(high, -low).astype(np.float64)
    width = (high - low).astype(np.float64)
    step = {
        "F32": 0 * size,
        "F16": size * 2.0**-11,
        "BF16": size * 2.0**-8,
        "Q4_0": size / 8,  # the farthest weight becomes -8, and one as far on the other side is cut to 7
        "Q5_0": size / 16,
        "Q4_1": width / 15 / 2,
        "Q5_1": width / 31 / 2,
        "Q8_0": size / 127 * 0.55,
        "Q4_K": width / 15,
        "Q5_K": width / 31 * 1.5,  # a scale of six bits for each block
        "Q6_K": size / 32,
    }[fmt.name]
    # scales and offsets are float16: eleven bits, and below 2^-14 steps of 2^-24, which the largest code multiplies
    top = {"Q4_0": 8, "Q5_0": 16, "Q4_1": 16, "Q5_1": 32, "Q8_0": 127, "Q4_K": 32, "Q5_K": 64, "Q6_K": 64}
    rounded = size * 2.0**-10 + top[fmt.name] * 2.0**-24 if fmt.name in top else 0
    return fmt.block * (step + rounded + 2.0**-24) ** 2


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_the_error_of_any_block_is_bounded(fmt, data):
    weights = data.draw(rows(256))
    blocks = weights.reshape(-1, fmt.block)
    error = ((seen(weights, fmt).astype(np.float64) - weights) ** 2).reshape(-1, fmt.block).sum(axis=1)
    assert (error <= bound(blocks, fmt)).all()


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_zero_stays_zero(fmt):
    assert not seen(np.zeros((3, 512), np.float32), fmt).any()
    assert not seen(np.full((3, 512), -0.0, np.float32), fmt).any()


@pytest.mark.parametrize("name", AROUND_ZERO)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_without_an_offset_each_zero_stays_zero_and_signs_are_alike(name, data):
    weights = data.draw(rows(256))
    got = seen(weights, NAMED[name])
    assert not got[weights == 0].any()
    assert np.array_equal(seen(-weights, NAMED[name]), -got)


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_what_was_quantised_once_stays_as_it_is(name, data):
    weights = data.draw(rows(64))
    weights[np.abs(weights) < 2e-2] = 0  # a scale of few bits is another one the next time
    weights = np.clip(weights, -60000, 60000)  # 127 scales may reach a little farther than the weight did
    once = seen(weights, NAMED[name])
    assert np.array_equal(seen(once, NAMED[name]), once)


@pytest.mark.parametrize("name", SEARCHED)
def test_what_was_quantised_once_changes_by_next_to_nothing(name):
    """Its scales are not read from the block: they are searched for anew, and seldom missed."""
    once = seen(families(32, 1024)["gaussian"], NAMED[name])
    assert squared_error(seen(once, NAMED[name]), once) <= 1e-4 * squared_error(once, np.zeros(1))


@pytest.mark.needs_model
@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.17.ffn_down.weight"])
def test_the_weights_of_a_real_file_are_found_again(name):
    """They are Q4_1: a search that is worth its name finds the scales that they were made with."""
    try:
        file = read_gguf(locate("smollm2-135m"))
    except EngineError as error:
        pytest.skip(str(error))
    weights = file.dequantised(name)
    assert file.tensors[name].format.name == "Q4_1"
    assert squared_error(seen(weights, NAMED["Q4_1"]), weights) <= 1e-8 * squared_error(weights, np.zeros(1))


# ---------------------------------------------------------------- what may not change the bytes


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_a_row_has_the_same_bytes_whatever_lies_beside_it(fmt):
    weights = np.concatenate([values[:5] for values in families(5, 512).values()])
    whole = quantise(weights, fmt)
    assert whole.shape == (75, 512 // fmt.block * fmt.nbytes)
    for start, end in ((0, 1), (3, 11), (40, 75)):
        assert np.array_equal(quantise(weights[start:end], fmt), whole[start:end])
    assert np.array_equal(quantise(weights.reshape(5, 15, 512), fmt), whole.reshape(5, 15, -1))
    assert np.array_equal(quantise(weights[::-1], fmt)[::-1], whole)


DIGEST = """
import hashlib, sys
from engine.formats import FORMATS
from engine.quantise import quantise
from engine.synth_blocks import vector
digest = hashlib.sha256()
for fmt in FORMATS.values():
    if fmt.name in sys.argv[1:]:
        for around, within in ((0, 0.05), (0.01, 0.03), (0, 1e-4), (3, 30)):
            weights = vector((7, 8), 2048, around=around, within=within).reshape(4, 512)
            weights[1] **= 3
            digest.update(quantise(weights, fmt).tobytes())
print(digest.hexdigest())
"""
"""Weights come from bits alone, so that every numpy draws the same."""


def digest_of(names, **environment):
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, *names],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_the_bytes_are_those_that_every_cpu_finds():
    assert digest_of([fmt.name for fmt in ALL]) == "df6ce35b40334beafdeb1c592172719cb175e39627ffc1c749b83272e69dca20"


def test_another_set_of_instructions_finds_the_same_bytes():
    assert digest_of(["Q4_0"], APR_VARIANT=GENERIC) == digest_of(["Q4_0"], APR_VARIANT=available()[0])


@pytest.mark.parametrize("name", SEARCHED)
def test_a_power_of_two_changes_the_scales_alone(name):
    fmt = NAMED[name]
    weights = families(16, 512)["gaussian"] * np.float32(64)  # so that no scale is among the smallest float16
    assert np.array_equal(seen(weights * np.float32(8), fmt), seen(weights, fmt) * np.float32(8))


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_more_weights_than_are_worked_on_at_a_time_have_the_same_bytes(fmt):
    columns = 512
    weights = np.tile(families(7, columns)["laplace"], (CHUNK // columns // 7 + 1, 1))
    assert weights.size > CHUNK
    got = quantise(weights, fmt)
    assert np.array_equal(got.reshape(-1, *got[:7].shape), np.broadcast_to(got[:7], (len(got) // 7, *got[:7].shape)))


def test_compiling_is_told_of_once_and_only_where_something_is_missing(monkeypatch):
    told = []
    for kept, want in ((True, []), (False, ["compiling 2 kernels of the quantiser, once: the next start finds them"])):
        monkeypatch.setattr("engine.warmup.is_kept", lambda kernel, kept=kept: kept)
        compile_kernels([NAMED[name] for name in ("Q4_0", "Q5_0", "Q6_K", "Q8_0")], told.append)
        assert told == want
    compile_kernels([NAMED["Q8_0"], NAMED["F16"]], told.append)
    assert len(told) == 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(fmt, value):
    weights = np.zeros((2, 256), np.float32)
    weights[1, 77] = value
    with pytest.raises(ValueError, match=rf"^{fmt.name} holds weights within \+-.* alone$"):
        quantise(weights, fmt)


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_the_largest_weight_is_held_and_the_next_larger_one_refused(fmt):
    most = np.float32(largest(fmt))
    got = seen(np.full((1, 256), -most, np.float32), fmt)
    assert np.isfinite(got).all()
    assert np.allclose(got, -most, rtol=0.01)
    assert (most == LARGEST) == (fmt.name not in ("F32", "BF16"))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="holds weights within"):
        quantise(np.full((1, 256), np.nextafter(most, np.float32(np.inf)), np.float32), fmt)


@pytest.mark.parametrize(("shape", "dtype"), [((2, 33), np.float32), ((), np.float32), ((2, 32), np.float64)])
def test_what_is_no_rows_of_blocks_is_refused(shape, dtype):
    with pytest.raises(ValueError, match=r"is not rows of Q4_0 blocks of 32$"):
        quantise(np.zeros(shape, dtype), NAMED["Q4_0"])


def test_no_rows_give_no_blocks():
    assert quantise(np.empty((0, 256), np.float32), NAMED["Q4_K"]).shape == (0, 144)
