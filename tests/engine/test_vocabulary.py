"""Tests of engine.vocabulary: what a file may say about its tokens."""

import pytest

from engine.errors import EngineError
from engine.vocabulary import CONTROL, NORMAL, Keys, read_merges, read_vocabulary
from tests.engine.vocabularies import BOS, metadata

TOKENS = ("a", "b", "ab", "<|x|>")


def read(changes=None, *, tokens=TOKENS, merges=("a b",), special=None, without=()):
    keys = metadata(tokens, merges, special=special or {"<|x|>": 3}) | (changes or {})
    checked = Keys({key: value for key, value in keys.items() if key not in without}, "m.gguf")
    vocabulary = read_vocabulary(checked)
    read_merges(checked, vocabulary.ids)
    return vocabulary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": ()}, "tokenizer.ggml.tokens is empty"),
        ({"tokens": "ab"}, "tokenizer.ggml.tokens is of type str, not an array"),
        ({"tokens": ("a", 1)}, "tokenizer.ggml.tokens[1] is of type int, not str"),
        ({"tokens": ("a", "b", "a", "b")}, "tokenizer.ggml.tokens holds 'a' twice, as 0 and as 2"),
        ({"token_type": (1, 1, 1)}, "tokenizer.ggml.token_type has 3 entries for 4 tokens"),
        ({"token_type": (1, 1, 1, 1, 1)}, "tokenizer.ggml.token_type has 5 entries for 4 tokens"),
        ({"token_type": (1, 1, 1, 7)}, "tokenizer.ggml.token_type[3] is 7, not one of 0 to 6"),
        ({"token_type": (1, 1, 1, -1)}, "tokenizer.ggml.token_type[3] is -1, not one of 0 to 6"),
        ({"token_type": (1, 1, 1, 1.0)}, "tokenizer.ggml.token_type[3] is of type float, not int"),
        ({"token_type": (1, 1, 1, True)}, "tokenizer.ggml.token_type[3] is of type bool, not int"),
        ({"merges": ("ab",)}, "tokenizer.ggml.merges[0] is 'ab', not two tokens with a space between them"),
        ({"merges": ("a b", "a b c")}, "tokenizer.ggml.merges[1] is 'a b c', not two tokens with a space between them"),
        ({"merges": ("a ",)}, "tokenizer.ggml.merges[0] is 'a ', not two tokens with a space between them"),
        ({"merges": (" b",)}, "tokenizer.ggml.merges[0] is ' b', not two tokens with a space between them"),
        ({"merges": ("a c",)}, "tokenizer.ggml.merges[0] is 'a c', but 'c' is not in the vocabulary"),
        ({"merges": ("b a",)}, "tokenizer.ggml.merges[0] is 'b a', but 'ba' is not in the vocabulary"),
        ({"merges": ("a b", "a b")}, "tokenizer.ggml.merges holds 'a b' twice: its rank is not clear"),
        ({"bos_token_id": 4}, "tokenizer.ggml.bos_token_id is 4, but the vocabulary has 4 tokens"),
        ({"eos_token_id": -1}, "tokenizer.ggml.eos_token_id is -1, but the vocabulary has 4 tokens"),
        ({"eot_token_id": 99}, "tokenizer.ggml.eot_token_id is 99, but the vocabulary has 4 tokens"),
        ({"eos_token_id": "3"}, "tokenizer.ggml.eos_token_id is of type str, not int"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(EngineError) as caught:
        read({f"tokenizer.ggml.{key}": value for key, value in changes.items()})
    assert caught.value.args[0] == message
    assert caught.value.where == "m.gguf"


@pytest.mark.parametrize("key", ["tokens", "merges"])
def test_a_missing_array_is_refused(key):
    with pytest.raises(EngineError, match=rf"^m\.gguf: tokenizer\.ggml\.{key} is missing\n"):
        read(without=(f"tokenizer.ggml.{key}",))


def test_end_tokens_are_those_named_by_id_and_those_known_by_text():
    tokens = ("a", "b", "ab", "<|x|>", "<|y|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|file_sep|>")
    found = read(
        {"tokenizer.ggml.eos_token_id": 3, "tokenizer.ggml.eot_token_id": 4, "tokenizer.ggml.bos_token_id": 7},
        tokens=tokens,
    )
    assert found.end_ids == {3, 4, 5, 6, 8}
    assert (found.bos_id, found.eos_id) == (7, 3)


def test_a_named_token_takes_the_place_of_one_known_by_text_in_code_models():
    tokens = (*TOKENS, "<|repo_name|>", "<|fim_pad|>")
    assert read(tokens=tokens).end_ids == {4, 5}
    assert read({"tokenizer.ggml.fim_rep_token_id": 3}, tokens=tokens).end_ids == {3, 5}


def test_the_separator_of_parts_of_an_answer_does_not_end_it():
    assert read(tokens=(*TOKENS, "<|end|>")).end_ids == {4}
    assert read(tokens=(*TOKENS, "<|end|>", "<|return|>", "<|call|>")).end_ids == {5, 6}


def test_begin_unknown_and_padding_tokens_do_not_end_an_answer():
    ids = {f"tokenizer.ggml.{name}_token_id": 3 for name in ("bos", "unknown", "padding")}
    assert read(ids).end_ids == frozenset()


def test_an_end_token_is_a_control_token_whatever_the_file_says():
    found = read(tokens=(*TOKENS, "<|im_end|>"))
    assert found.types[4] == CONTROL
    assert found.special.fullmatch("<|im_end|>")


def test_without_types_the_tokens_named_by_id_are_control_tokens():
    found = read(
        {"tokenizer.ggml.bos_token_id": 4}, tokens=(*TOKENS, BOS), without=("tokenizer.ggml.token_type",), special={}
    )
    assert list(found.types) == [NORMAL] * 4 + [CONTROL]
    assert found.special.pattern == r"<\|bos\|>"


def test_a_vocabulary_without_special_tokens_has_no_pattern():
    found = read(tokens=("a", "b", "ab"))
    assert (found.special, found.user_defined) == (None, None)
