"""Engines that are not wrong err by what honest arithmetic of their kind errs by: fast, llama.cpp, Transformers."""

import numpy as np
import pytest

from engine.arithmetic import HonestPath, arithmetic_named
from engine.fast import FastPath
from engine.opening import open_model
from engine.oracles import open_oracle
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stage_error import measure, ratio
from engine.stages import NAMES
from falsifiers.synthetic import random_model

PROMPT = "The lighthouse keeper closed the door, lit the lamp and waited for the ships."
WHOLE, SINGLE = 1.1, 2.5
"""Nearer than what stage_error allows: what is allowed leaves room for models and prompts that were not tried."""


def own_errors(stages, model, tokens, names):
    """How each stage's error, fed these stages, stands to those of the arithmetics together."""
    found = []
    for path in (ReferencePath(model), *(HonestPath(model, arithmetic_named(name)) for name in names)):
        outputs = {}

        def tap(stage, layer, array, outputs=outputs):
            outputs[stage, layer] = array.copy()
            return stages.get((stage, layer))

        path.forward(tokens, tap)
        found.append(outputs)
    exact, *honest = found

    def error(of, key):
        return measure(of[key], exact[key], key[0], model.config)

    return {key: ratio(error(stages, key), *(error(one, key) for one in honest)) for key in stages}


def check(stages, model, tokens, *names):
    stands = own_errors(stages, model, tokens, names)
    assert {stage for stage, _ in stands} >= set(NAMES) - {"ffn_silu", "qkv_bias"}
    for key, one in stands.items():
        assert one.within, key
        assert one.whole <= WHOLE, (key, one)
        assert one.single <= SINGLE, (key, one)


def captured(forward, tokens):
    found = {}
    forward(tokens, lambda stage, layer, array: found.__setitem__((stage, layer), array.copy()))
    return found


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_fast_path(architecture, seed):
    rng = np.random.default_rng(seed)
    model, tokens = random_model(rng, architecture), rng.integers(0, 384, 19).tolist()
    stages = captured(FastPath(model, capacity=19, threads=1).forward, tokens)
    check(stages, model, tokens, "int8-rests", "float32")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_transformers(dtype):
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `oracles`)")
    oracle, opened = open_oracle("transformers", locate("tiny-qwen2"), dtype=dtype), open_model(locate("tiny-qwen2"))
    tokens = opened.tokenizer.encode(PROMPT)
    check(captured(oracle.forward, tokens), opened.model, tokens, dtype)
    oracle.close()


def test_llama_cpp():
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `oracles`)")
    oracle, opened = open_oracle("llama-cpp", locate("tiny-qwen2")), open_model(locate("tiny-qwen2"))
    tokens = opened.tokenizer.encode(PROMPT)
    check(captured(oracle.forward, tokens), opened.model, tokens, "int8", "float32")
    oracle.close()


def test_an_engine_of_another_arithmetic_is_told_apart():
    rng = np.random.default_rng(1)
    model, tokens = random_model(rng, "qwen2"), [1, 2, 3, 4]
    stages = captured(FastPath(model, capacity=4, threads=1).forward, tokens)
    assert not all(one.within for one in own_errors(stages, model, tokens, ["float32"]).values())
