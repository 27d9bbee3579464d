"""Tests of engine.warmup: what is compiled beforehand is all that a forward pass calls, and it is said once."""

import pytest

from engine import kernels, warmup
from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.kernels import formats
from engine.model import read_model
from engine.registry import locate
from engine.variants import KV_CACHES, chosen


@pytest.fixture(scope="module")
def model():
    return read_model(read_gguf(locate("tiny-qwen2")))


@pytest.mark.parametrize("kv_cache", KV_CACHES)
def test_a_forward_pass_compiles_nothing_more(model, kv_cache):
    warmup.compile_kernels(warmup.formats_of(model), lambda line: None, (kv_cache,))
    before = {step: list(getattr(kernels, step).signatures) for step in warmup.STEPS}
    kept = len(formats._kept)
    path = FastPath(model, capacity=12, kv_cache=kv_cache)
    for tokens in ([5, 6, 7], [8], [9, 10]):
        for tap in (lambda stage, layer, array: None, lambda stage, layer, array: array):  # and one that replaces
            path.forward(tokens, tap)
            path.position -= len(tokens)
        path.forward(tokens)
    assert {step: list(getattr(kernels, step).signatures) for step in warmup.STEPS} == before
    assert len(formats._kept) == kept


def test_the_formats_of_a_model_are_those_it_multiplies_with(model):
    weights = [model.output]
    for layer in model.layers:
        weights += [layer.q, layer.k, layer.v, layer.attn_out, layer.gate, layer.up, layer.down]
    assert warmup.formats_of(model) == {weight.format.name for weight in weights} == {"Q4_K", "Q6_K"}


@pytest.mark.parametrize("missing", [0, 3, 11])
def test_what_has_to_be_compiled_is_said_before_it_is(model, monkeypatch, missing):
    wanted = [*warmup.STEPS, *formats.kernels_of("Q8_0"), *formats.kernels_of_cache("float32")]
    monkeypatch.setattr(warmup, "is_kept", lambda kernel: kernel not in wanted[:missing])
    told = []
    assert warmup.compile_kernels({"Q8_0"}, told.append) == missing
    assert told == [f"compiling {missing} kernels for {chosen()}, once: the next start finds them"][: bool(missing)]
