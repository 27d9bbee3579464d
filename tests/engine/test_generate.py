"""Tests of engine.generate, on a path whose logits are written down, and on a real one."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.errors import EngineError
from engine.fast import FastPath
from engine.generate import Step, check_prompt, generate
from engine.sampling import Sampler
from falsifiers.synthetic import random_model


class Scripted:
    """A path whose next token is the successor of the last one; remembers what it was given."""

    def __init__(self, context=100, vocab=50):
        self.model = SimpleNamespace(config=SimpleNamespace(context=context))
        self.vocab, self.position, self.calls = vocab, 0, []

    def forward(self, tokens, tap=None):
        self.calls.append(list(tokens))
        self.position += len(tokens)
        logits = np.zeros(self.vocab, np.float32)
        logits[tokens[-1] + 1] = 1
        return logits


def steps(path, prompt, **options):
    return list(generate(path, prompt, Sampler(), **{"max_tokens": 5, "end": frozenset(), **options}))


def test_the_prompt_runs_once_and_then_each_token_alone():
    path = Scripted()
    found = steps(path, [3, 4, 5], max_tokens=4)
    assert [step.token for step in found] == [6, 7, 8, 9]
    assert path.calls == [[3, 4, 5], [6], [7], [8]]  # the last token is not run: nobody asks for what follows it
    assert [step.stop for step in found] == [None, None, None, "length"]


def test_a_step_holds_the_logits_it_was_chosen_from():
    first, *_ = steps(Scripted(), [3])
    assert isinstance(first, Step)
    assert first.logits.argmax() == first.token == 4


def test_an_end_token_ends_generation_and_is_the_last_step():
    found = steps(Scripted(), [3], end=frozenset({6, 40}))
    assert [(step.token, step.stop) for step in found] == [(4, None), (5, None), (6, "end")]


def test_an_end_token_outranks_the_other_reasons():
    assert steps(Scripted(context=1), [3], max_tokens=1, end=frozenset({4}))[-1].stop == "end"


def test_generation_ends_when_the_context_is_full():
    path = Scripted(context=5)
    found = steps(path, [3, 4, 5], max_tokens=50)
    assert [(step.token, step.stop) for step in found] == [(6, None), (7, None), (8, "context")]
    assert path.position == 5


def test_a_prompt_that_fills_the_context_still_has_one_next_token():
    assert [(step.token, step.stop) for step in steps(Scripted(context=3), [3, 4, 5])] == [(6, "context")]


def test_nothing_runs_before_the_first_step_is_asked_for():
    path = Scripted()
    generate(path, [3], Sampler(), max_tokens=5, end=frozenset())
    assert path.calls == []


@pytest.mark.parametrize("length", [1, 31, 32])
def test_a_prompt_that_fits_is_accepted(length):
    check_prompt([1] * length, 32)


def test_an_empty_prompt_is_refused():
    with pytest.raises(
        EngineError, match=r"^--prompt: the prompt has no tokens\n  hint: write at least one character$"
    ):
        check_prompt([], 32)


def test_a_prompt_longer_than_the_context_is_refused():
    message = r"^--prompt: the prompt has 33 tokens, the model's context is 32\n  hint: shorten it$"
    with pytest.raises(EngineError, match=message):
        check_prompt([1] * 33, 32)


def test_a_real_path_goes_on_as_if_the_text_had_been_prompted():
    model = random_model(np.random.default_rng(41), "qwen2")
    found = steps(FastPath(model, capacity=20, threads=1), [7, 300, 21], max_tokens=6)
    tokens = [step.token for step in found]
    for count, step in enumerate(found):
        again = FastPath(model, capacity=20, threads=1).forward([7, 300, 21, *tokens[:count]])
        assert again.tobytes() == step.logits.tobytes()
