"""The vocabulary in a model file, checked: tokens, their types, the merges, and the tokens with a meaning of their own.

Source: the GGUF specification (keys tokenizer.ggml.*). Which tokens end an answer, and are control tokens whatever type
the file gives them, is llama.cpp's rule.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.errors import EngineError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Values of tokenizer.ggml.token_type with a meaning here; 5 (unused) and 6 (byte) are read as normal."""
LAST_TYPE = 6

END_NAMES = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"),
    *("<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>"),
)
"""Texts of tokens that end an answer."""
FILL_IN_NAMES = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
"""Texts of tokens that open another file in code models, and so end an answer, where the file names no id for them."""

T = TypeVar("T")
_INCONSISTENT = "the file's tokenizer is not consistent: convert the model again, or obtain the file again"


@dataclass(frozen=True, slots=True)
class Keys:
    """Metadata of a file with checked types; `where` names the file in errors."""

    metadata: Mapping[str, Any]
    where: str

    def get(self, key: str, kind: type[T], default: T | None = None) -> T | None:
        """The value of a key, of this very type; the default when the key is missing."""
        if key not in self.metadata:
            return default
        value: T = self.metadata[key]
        if type(value) is not kind:
            raise self.error(f"{key} is of type {type(value).__name__}, not {kind.__name__}")
        return value

    def array(self, key: str, kind: type[T]) -> Sequence[T] | None:
        """The array of a key whose elements are all of this very type; None when the key is missing."""
        value = self.metadata.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise self.error(f"{key} is of type {type(value).__name__}, not an array")
        for index, element in enumerate(value):
            if type(element) is not kind:
                raise self.error(f"{key}[{index}] is of type {type(element).__name__}, not {kind.__name__}")
        return value

    def error(self, message: str) -> EngineError:
        return EngineError(message, where=self.where, hint=_INCONSISTENT)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Vocabulary:
    """Tokens by id, their ids by text, their types, and the ids of begin and end tokens."""

    tokens: Sequence[str]
    types: Sequence[int]
    ids: Mapping[str, int]
    bos_id: int | None
    eos_id: int | None
    end_ids: frozenset[int]
    special: re.Pattern[str] | None  # matches every token that is not split into words; None when there is none
    user_defined: re.Pattern[str] | None  # matches those of them that text may always contain


def read_vocabulary(keys: Keys) -> Vocabulary:
    """The vocabulary of a file; raises EngineError for one that contradicts itself."""
    tokens = keys.array("tokenizer.ggml.tokens", str)
    if not tokens:
        raise keys.error(f"tokenizer.ggml.tokens is {'missing' if tokens is None else 'empty'}")
    ids = {token: id_ for id_, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        first, token = next((id_, token) for id_, token in enumerate(tokens) if ids[token] != id_)
        raise keys.error(f"tokenizer.ggml.tokens holds {token!r} twice, as {first} and as {ids[token]}")
    named = {
        name: _token_id(keys, f"tokenizer.ggml.{name}_token_id", len(tokens))
        for name in ("bos", "eos", "eot", "eom", "unknown", "padding", *FILL_IN_NAMES)
    }
    ends = {ids[name] for name in END_NAMES if name in ids}
    for role, names in FILL_IN_NAMES.items():
        if named[role] is None:
            ends.update(ids[name] for name in names if name in ids)
    types = _types(keys, len(tokens), (id_ for id_ in named.values() if id_ is not None))
    for id_ in ends:
        types[id_] = CONTROL
    ends.update(id_ for role, id_ in named.items() if id_ is not None and role not in ("bos", "unknown", "padding"))
    if {"<|return|>", "<|call|>", "<|end|>"} <= ids.keys():
        ends.discard(ids["<|end|>"])  # in these vocabularies it separates the parts of one answer
    return Vocabulary(
        tokens=tokens,
        types=types,
        ids=ids,
        bos_id=named["bos"],
        eos_id=named["eos"],
        end_ids=frozenset(ends),
        special=_pattern(tokens, types, (UNKNOWN, CONTROL, USER_DEFINED)),
        user_defined=_pattern(tokens, types, (USER_DEFINED,)),
    )


def read_merges(keys: Keys, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of tokens that become one token, the most urgent first; raises EngineError for what is no such pair."""
    lines = keys.array("tokenizer.ggml.merges", str)
    if lines is None:
        raise keys.error("tokenizer.ggml.merges is missing")
    merges: list[tuple[str, str]] = []
    for rank, line in enumerate(lines):
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise keys.error(f"tokenizer.ggml.merges[{rank}] is {line!r}, not two tokens with a space between them")
        for token in (left, right, left + right):
            if token not in ids:
                raise keys.error(f"tokenizer.ggml.merges[{rank}] is {line!r}, but {token!r} is not in the vocabulary")
        merges.append((left, right))
    if len(set(merges)) != len(merges):
        twice = next(pair for rank, pair in enumerate(merges) if pair in merges[:rank])
        raise keys.error(f"tokenizer.ggml.merges holds {' '.join(twice)!r} twice: its rank is not clear")
    return merges


def _token_id(keys: Keys, key: str, count: int) -> int | None:
    id_ = keys.get(key, int)
    if id_ is not None and not 0 <= id_ < count:
        raise keys.error(f"{key} is {id_}, but the vocabulary has {count} tokens")
    return id_


def _types(keys: Keys, count: int, named: Iterable[int]) -> list[int]:
    """The type of each token; where the file gives none, the tokens it names by id are control tokens."""
    stated = keys.array("tokenizer.ggml.token_type", int)
    if stated is None:
        types = [NORMAL] * count
        for id_ in named:
            types[id_] = CONTROL
        return types
    if len(stated) != count:
        raise keys.error(f"tokenizer.ggml.token_type has {len(stated)} entries for {count} tokens")
    for id_, kind in enumerate(stated):
        if not 0 <= kind <= LAST_TYPE:
            raise keys.error(f"tokenizer.ggml.token_type[{id_}] is {kind}, not one of 0 to {LAST_TYPE}")
    return list(stated)


def _pattern(tokens: Sequence[str], types: Sequence[int], kinds: tuple[int, ...]) -> re.Pattern[str] | None:
    """Matches the tokens of these types; where several begin at one place, the longest."""
    found = sorted((token for token, kind in zip(tokens, types, strict=True) if kind in kinds and token), key=len)
    return re.compile("|".join(map(re.escape, reversed(found)))) if found else None
