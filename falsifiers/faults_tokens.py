"""Planted faults in the tokenizer: other tokens than the model was trained on, and every stage right for them.

Both of our paths read the same tokens, so none of these shows between them: an engine with a tokenizer of its own has
to stand on the other side, as in `apr bisect MODEL MODEL@transformers` or `apr bisect MODEL MODEL@llama-cpp`.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

from engine.model import Model
from engine.opening import open_model
from engine.tokenizer import Tokenizer
from engine.vocabulary import CONTROL
from falsifiers.fault import TOKENIZER, TOKENS, fault
from pv.trial import mutant, patched

BEGIN = "<|im_start|>"
PROMPT = f"{BEGIN}user\nWhat is 2+2?<|im_end|>\n{BEGIN}assistant\n"
"""A chat's mark-up written out, on which each of these faults shows."""


@functools.cache
def tokenizer_at(path: Path) -> Tokenizer | None:
    """The tokenizer of a GGUF file; None of what is no file: a folder has another one, a random model none."""
    tokenizer = open_model(path).tokenizer if path.is_file() else None
    return tokenizer if isinstance(tokenizer, Tokenizer) else None


def _has_the_control_token(model: Model) -> bool:
    tokenizer = tokenizer_at(model.path)
    return tokenizer is not None and BEGIN in tokenizer.vocabulary.ids


def _has_a_beginning(model: Model) -> bool:
    tokenizer = tokenizer_at(model.path)
    return tokenizer is not None and tokenizer.bos_id is not None


@fault(TOKENS, where=TOKENIZER, shows_on=_has_a_beginning)
@mutant
def beginning_is_added_whatever_the_file_says() -> Iterator[None]:
    """A beginning token is put in front of every prompt: unasked, or one too many where the file asks for it."""
    encode = Tokenizer.encode

    def begun(self: Tokenizer, text: str, *, special: bool = True) -> list[int]:
        ids = encode(self, text, special=special)
        return ids if self.bos_id is None else [self.bos_id, *ids]

    with patched(Tokenizer, "encode", begun):
        yield


@fault(TOKENS, where=TOKENIZER, shows_on=_has_the_control_token)
@mutant
def control_tokens_are_split_into_letters() -> Iterator[None]:
    """Control tokens that stand in a prompt are read as text like any other."""
    ids = Tokenizer._ids
    with patched(Tokenizer, "_ids", lambda self, text, special: ids(self, text, False)):
        yield


@fault(TOKENS, where=TOKENIZER, shows_on=_has_the_control_token)
@mutant
def control_tokens_are_one_off() -> Iterator[None]:
    """Control tokens are counted from one: each is taken for the one after it, the last for the first."""
    ids = Tokenizer._ids

    def shifted(self: Tokenizer, text: str, special: bool) -> list[int]:
        types = self.vocabulary.types
        control = [id_ for id_, kind in enumerate(types) if kind == CONTROL]
        after = dict(zip(control, [*control[1:], control[0]], strict=True))
        return [after.get(id_, id_) for id_ in ids(self, text, special)]

    with patched(Tokenizer, "_ids", shifted):
        yield
