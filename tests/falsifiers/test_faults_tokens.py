"""Tests of falsifiers.faults_tokens: no path of ours sees them; beside each oracle `apr bisect` tells of the tokens."""

import json

import numpy as np
import pytest

from engine.cli import main
from engine.model import read_model
from engine.opening import open_file, open_model
from engine.registry import locate
from falsifiers import faults_tokens
from falsifiers.fault import TOKENIZER
from falsifiers.faults import FAULTS
from falsifiers.faults_tokens import PROMPT, tokenizer_at
from falsifiers.odd_model import odd_model
from tests.engine.model_files import keys, tensors, write

MODEL = "tiny-qwen2"
HERE = [one for one in FAULTS if one.where == TOKENIZER]
FIRST = {
    "beginning_is_added_whatever_the_file_says": (0, 2045, 2046),
    "control_tokens_are_split_into_letters": (0, 27, 2046),
    "control_tokens_are_one_off": (0, 2047, 2046),
}
"""Where each first shows in the packaged model: the position, the id there, and the one that is right."""


def encoded():
    return open_model(locate(MODEL)).tokenizer.encode(PROMPT)


def test_each_is_known_and_none_is_of_a_stage():
    assert {one.name for one in HERE} == FIRST.keys()
    model = open_model(locate(MODEL)).model
    assert all(one.shows_on(model) and one.places(model) == [("tokens", None)] for one in HERE)
    assert list(FAULTS[: len(HERE)]) == HERE  # the tokens come before the first stage


def test_a_model_without_a_tokenizer_or_its_tokens_shows_none(tmp_path):
    assert not any(one.shows_on(odd_model(np.random.default_rng(1))) for one in HERE)
    path = write(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2"))  # its one control token is another
    tokenizer_at.cache_clear()
    assert not any(one.shows_on(read_model(open_file(path))) for one in HERE)


@pytest.mark.parametrize("fault", HERE, ids=lambda one: one.name)
def test_it_gives_other_tokens_and_is_taken_out(fault):
    position, wrong, right = FIRST[fault.name]
    before = encoded()
    with fault.plant():
        planted = encoded()
    assert planted[:position] == before[:position]
    assert (planted[position], before[position]) == (wrong, right)
    assert encoded() == before


def test_a_beginning_that_the_file_asks_for_comes_twice(tmp_path):
    metadata = keys("qwen2", tokenizer__ggml__add_bos_token=True, tokenizer__ggml__bos_token_id=257)
    path = write(tmp_path / "m.gguf", metadata, tensors("qwen2"))
    with faults_tokens.beginning_is_added_whatever_the_file_says():
        assert open_model(path).tokenizer.encode("a") == [257, 257, 97]
    assert open_model(path).tokenizer.encode("a") == [257, 97]


def bisected(capsys, engine, code):
    assert main(["bisect", f"{MODEL}@fast", f"{MODEL}@{engine}", "--prompt", PROMPT, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.oracle
@pytest.mark.parametrize(("engine", "library"), [("transformers", "transformers"), ("llama-cpp", "llama_cpp")])
def test_apr_bisect_finds_it_beside_an_engine_with_a_tokenizer_of_its_own(capsys, engine, library):
    for name in (library, *(("torch",) if engine == "transformers" else ())):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `oracles`)")
    clean = bisected(capsys, engine, 0)
    assert (clean["verdict"], clean["tokens_differ"]) == ("WITHIN_FLOOR", None)
    for fault in HERE:
        position, wrong, right = FIRST[fault.name]
        with fault.plant():
            found = bisected(capsys, engine, 1)
        assert (found["verdict"], [one["stage"] for one in found["defects"]]) == ("DIVERGES", ["tokens"]), fault.name
        differ = found["tokens_differ"]
        assert (differ["position"], differ["subject"], differ["oracle"]) == (position, wrong, right)


def test_apr_bisect_cannot_see_it_between_our_own_paths(capsys):
    """That is why it is tried beside an oracle: nothing in this says that the tokens are right."""
    with HERE[0].plant():
        found = bisected(capsys, "reference", 0)
    assert (found["verdict"], found["tokens_differ"]) == ("WITHIN_FLOOR", None)
