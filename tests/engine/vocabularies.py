"""Makes the metadata of small byte-level vocabularies, so that a test can break any single key of one."""

import json
import random
from collections.abc import Iterable
from functools import cache
from typing import Any

from tokenizers import Tokenizer as Pipeline
from tokenizers import models, pre_tokenizers, trainers

from engine.tokenizer import CHARACTER_OF, SPLITTINGS, splitter

BOS, END, THINK = "<|bos|>", "<|im_end|>", "<think>"
ODD = ("zzzqq", "Ġqqzh")
"""Words that are tokens although no merge makes them."""

PIECES = (
    *(
        "a",
        "B",
        "é",
        "ß",
        "İ",
        "ſ",
        "中",
        "文",
        "あ",
        "한",
        "ا",
        "ש",
        "ह",
        "ि",
        "०",
        "1",
        "2",
        "9",
        "½",
        "²",
        "Ⅷ",
        "٣",
        "①",
    ),
    *(" ", "  ", "   ", "\n", "\r\n", "\r", "\t", "\xa0", "\u2003", "\u3000", "\u2028", "\x85", "\x0b", "\x0c", "\x1c"),
    *(
        "'s",
        "'S",
        "'ll",
        "'LL",
        "'ve",
        "'re",
        "'t",
        "'m",
        "'d",
        "'ſ",
        "’s",
        "!",
        "?",
        "...",
        "<|",
        "|>",
        "_",
        "-",
        "—",
        "“",
    ),
    *("$", "€", "+", "=", "🎉", "👩‍👩‍👧", "🇫🇷", "\u0301", "\u200d", "\ufe0f", "\u200b", "\ufeff", "\u1680", "\u180e"),
    *("hello", "World", "def f(x):", "\x00", "\x7f", "ǅ", "ª", "ʰ", "𝒳", "𐍈", "{", "}", "\\n", "http://", "1234567"),
    *("zzzqq", " qqzh", BOS, END, THINK),
)


def varied_texts(count: int, seed: int = 0) -> list[str]:
    """Texts in which cases meet that splitting must tell apart; the same for the same seed."""
    rng = random.Random(seed)
    return ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12))) for _ in range(count)]


@cache
def _trained(pre: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens and merges learned from the varied texts, cut as `pre` does."""
    pipeline = Pipeline(models.BPE())
    pipeline.pre_tokenizer = splitter(SPLITTINGS[pre])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False, max_token_length=12)
    pipeline.train_from_iterator(varied_texts(1000, seed=1), trainer)
    model = json.loads(pipeline.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tuple(tokens), tuple(" ".join(pair) for pair in model["merges"])


def trained(pre: str) -> dict[str, Any]:
    """Metadata of a vocabulary of about 1200 tokens with all 256 bytes, two odd words, and three special tokens."""
    tokens, merges = _trained(pre)
    ordinary = [*tokens, *(word for word in ODD if word not in tokens)]
    return metadata([*ordinary, BOS, END, THINK], merges, pre=pre, special={BOS: 3, END: 3, THINK: 4})


def metadata(
    tokens: Iterable[str], merges: Iterable[str] = (), *, pre: str = "gpt-2", special: dict[str, int] | None = None
) -> dict[str, Any]:
    """Metadata as engine.gguf reads them; special: types of tokens that are not normal."""
    tokens, special = tuple(tokens), special or {}
    found = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": tuple(special.get(token, 1) for token in tokens),
        "tokenizer.ggml.merges": tuple(merges),
    }
    for key, token in (("bos", BOS), ("eos", END)):
        if token in tokens:
            found[f"tokenizer.ggml.{key}_token_id"] = tokens.index(token)
    return found


def bytes_only(*special: str) -> dict[str, Any]:
    """Metadata of the smallest vocabulary: token i is byte i, and control tokens from 256 on."""
    return metadata([*(CHARACTER_OF[byte] for byte in range(256)), *special], special=dict.fromkeys(special, 3))
