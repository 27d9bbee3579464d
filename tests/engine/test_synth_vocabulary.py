"""Tests of engine.synth_vocabulary."""

from functools import cache

import pytest

from engine.synth_models import LIKES
from engine.synth_vocabulary import UNUSED, merges, tokens_and_types
from engine.tokenizer import CHARACTER_OF, Tokenizer


@cache
def tokenizer(like):
    plan = LIKES[like].plan
    tokens, types = tokens_and_types(plan)
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": plan.pre,
        "tokenizer.ggml.tokens": tuple(tokens),
        "tokenizer.ggml.token_type": tuple(types),
        "tokenizer.ggml.merges": tuple(" ".join(merge) for merge in merges(plan)),
        "tokenizer.ggml.add_bos_token": False,
    }
    return Tokenizer.from_metadata(metadata, like)


@pytest.mark.parametrize("like", LIKES)
def test_a_vocabulary_has_the_size_and_the_named_tokens_of_the_real_one(like):
    real = {
        "qwen2-7b": {"<|endoftext|>": 151643, "<|im_end|>": 151645, "[PAD152063]": 152063},
        "qwen2.5-0.5b": {"<|endoftext|>": 151643, "<|file_sep|>": 151664, "[PAD151665]": 151665},
        "llama-3.2-1b": {"<|begin_of_text|>": 128000, "<|eot_id|>": 128009, "<|reserved_special_token_247|>": 128255},
        "smollm2-135m": {"<|endoftext|>": 0, "<|im_end|>": 2, "<empty_output>": 16, "!": 17},
    }[like]
    vocabulary = tokenizer(like).vocabulary
    assert len(vocabulary.tokens) == len(vocabulary.types) == LIKES[like].config.vocab
    assert {token: vocabulary.ids[token] for token in real} == real
    for id_, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        assert (kind == UNUSED) == (token == f"[PAD{id_}]")


@pytest.mark.parametrize("like", ["qwen2-7b", "smollm2-135m"])
def test_every_token_is_reached_by_its_own_text(like):
    """The longest 2000 by their merges, each alone: all of them would take seconds."""
    made = tokenizer(like)
    plan = LIKES[like].plan
    pairs = merges(plan)
    assert len(pairs) == plan.ordinary - 256
    space = CHARACTER_OF[32]
    texts = [(left + right).replace(space, " ") for left, right in pairs[:: len(pairs) // 2000]]
    assert {len(made.encode(text)) for text in texts} == {1}
    assert any(text.startswith(" ") and len(text) == 7 for text in texts)


@pytest.mark.parametrize("like", LIKES)
def test_any_text_survives_a_round_trip(like):
    made = tokenizer(like)
    text = "Kamito bade 'tis\n\n  2+2? größer 中文 🎉 \x00 bababa"
    assert made.decode(made.encode(text)) == text
    assert len(made.encode(" bababa")) == 1
