"""Text to token ids and back, with the vocabulary and the merges that lie in the model's own file.

Byte-level byte-pair encoding. Sources: Radford et al. 2019 (the byte alphabet and GPT-2's splitting), the GGUF
specification (keys tokenizer.ggml.*), and llama.cpp's pre-tokenizers, whose names these files carry. Where Hugging
Face's tokenizer and llama.cpp differ we do as llama.cpp, since the file says no more: text is not normalised (Qwen2's
original applies NFC).
"""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from engine import chat
from engine.errors import EngineError
from engine.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Keys, Vocabulary, read_merges, read_vocabulary

if TYPE_CHECKING:
    from engine.gguf import GGUFFile

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (  # the same cases for contractions in both letter cases; {digits}: how many digits stay together
    r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{digits}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _CL100K.replace("{digits}", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splitting:
    """How a pre-tokenizer cuts text into words, and what llama.cpp assumes with it."""

    expressions: tuple[str, ...]  # each cuts the pieces that the one before left
    whole_words: bool = False  # a word that is a token is taken as it is, whatever the merges say
    add_bos: bool = False  # where the file does not say


_LLAMA3 = Splitting(expressions=(_CL100K.replace("{digits}", "{1,3}"),), whole_words=True, add_bos=True)
SPLITTINGS: Mapping[str, Splitting] = {
    "gpt-2": Splitting(expressions=(_GPT2,)),
    "smollm": Splitting(expressions=(r"\p{N}", _GPT2)),
    "qwen2": Splitting(expressions=(_QWEN2,)),
    "deepseek-r1-qwen": Splitting(expressions=(_QWEN2,)),
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
}
"""Supported values of tokenizer.ggml.pre."""


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: itself where it can be seen, else the next free one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


BYTE_OF = _byte_alphabet()
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tokenizer:
    """A model's tokenizer; made by from_gguf or from_metadata, which check what the file says."""

    where: str
    pre: str
    vocabulary: Vocabulary
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    _pipeline: Pipeline = field(repr=False)

    @classmethod
    def from_gguf(cls, file: "GGUFFile") -> "Tokenizer":
        """The tokenizer of a GGUF file; raises EngineError for one that is not supported or not consistent."""
        return cls.from_metadata(file.metadata, str(file.path))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], where: str) -> "Tokenizer":
        """The tokenizer that the keys tokenizer.* of a file describe; `where` names the file in errors."""
        keys = Keys(metadata, where)
        model = keys.get("tokenizer.ggml.model", str)
        if model != "gpt2":
            raise EngineError(
                f"tokenizer.ggml.model {_said(model)}",
                where=where,
                hint="supported: gpt2 (byte-level BPE); take a model whose vocabulary is of that kind",
            )
        pre = keys.get("tokenizer.ggml.pre", str)
        if pre is None or pre not in SPLITTINGS:
            raise EngineError(
                f"tokenizer.ggml.pre {_said(pre)}",
                where=where,
                hint=f"supported: {', '.join(SPLITTINGS)}; with any other splitting the token ids would be a guess",
            )
        splitting = SPLITTINGS[pre]
        vocabulary = read_vocabulary(keys)
        add_bos = bool(keys.get("tokenizer.ggml.add_bos_token", bool, splitting.add_bos))
        add_eos = bool(keys.get("tokenizer.ggml.add_eos_token", bool, False))
        for add, id_, name in ((add_bos, vocabulary.bos_id, "bos"), (add_eos, vocabulary.eos_id, "eos")):
            if add and id_ is None:
                raise EngineError(
                    f"a {name} token is to be added to every prompt, but tokenizer.ggml.{name}_token_id is missing",
                    where=where,
                    hint="convert the model again; its tokenizer is incomplete",
                )
        return cls(
            where=where,
            pre=pre,
            vocabulary=vocabulary,
            add_bos=add_bos,
            add_eos=add_eos,
            chat_template=keys.get("tokenizer.chat_template", str),
            _pipeline=_pipeline(vocabulary, read_merges(keys, vocabulary.ids), splitting),
        )

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary.tokens)

    @property
    def bos_id(self) -> int | None:
        return self.vocabulary.bos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end generation, by llama.cpp's rules."""
        return self.vocabulary.end_ids

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a prompt, with the tokens that the file wants around it (add_bos_token, add_eos_token).

        special  control tokens written in the text become those tokens; False takes them for text like any other
                 (user-defined tokens are always recognised)

        Raises EngineError for text that is not valid Unicode, or has a byte for which the vocabulary has no token.
        """
        vocabulary = self.vocabulary
        ids = [vocabulary.bos_id] if self.add_bos and vocabulary.bos_id is not None else []
        ids += self._ids(text, special)
        return ids + ([vocabulary.eos_id] if self.add_eos and vocabulary.eos_id is not None else [])

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of the rendered chat; a begin token that the template wrote itself is not added again."""
        ids = self._ids(self.render_chat(messages), special=True)
        if self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The file's chat template with these messages ({role, content}) and the opening of the answer.

        Raises EngineError when the file has no template, and for whatever the template does wrong.
        """
        if self.chat_template is None:
            raise EngineError(
                "the model has no chat template (tokenizer.chat_template)",
                where=self.where,
                hint="leave --chat out, or take an instruction-tuned model",
            )
        vocabulary = self.vocabulary
        return chat.render(
            self.chat_template,
            messages,
            bos_token="" if vocabulary.bos_id is None else vocabulary.tokens[vocabulary.bos_id],
            eos_token="" if vocabulary.eos_id is None else vocabulary.tokens[vocabulary.eos_id],
            where=self.where,
        )

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Text of token ids. Bytes that are not UTF-8 become U+FFFD; control tokens are left out unless kept."""
        return b"".join(self.piece(id_, keep_special=keep_special) for id_ in ids).decode("utf-8", "replace")

    def stream(self, *, keep_special: bool = False) -> "Stream":
        """A decoder for tokens that come one at a time."""
        return Stream(self, keep_special)

    def piece(self, id_: int, *, keep_special: bool = False) -> bytes:
        """The bytes of one token, which may be a part of a character; raises EngineError for an id out of range."""
        vocabulary = self.vocabulary
        if not 0 <= id_ < len(vocabulary.tokens):
            raise EngineError(
                f"token id {id_} is not in the vocabulary",
                where=self.where,
                hint=f"ids go from 0 to {len(vocabulary.tokens) - 1}",
            )
        token, kind = vocabulary.tokens[id_], vocabulary.types[id_]
        if kind in (CONTROL, UNKNOWN):
            return token.encode() if keep_special else b""
        if kind == USER_DEFINED:
            return token.encode()
        try:
            return bytes([BYTE_OF[character] for character in token])
        except KeyError:  # a token that was added to the vocabulary as plain text
            return token.encode()

    def _ids(self, text: str, special: bool) -> list[int]:
        check_text(text)
        vocabulary = self.vocabulary
        ids: list[int] = []
        pattern = vocabulary.special if special else vocabulary.user_defined
        start = 0
        for match in pattern.finditer(text) if pattern else ():
            ids += self._plain(text[start : match.start()])
            ids.append(vocabulary.ids[match[0]])
            start = match.end()
        return ids + self._plain(text[start:])

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._pipeline.encode(text).ids
        tokens = self.vocabulary.tokens
        if sum(len(tokens[id_]) for id_ in ids) != len(text.encode()):  # one character of a token is one byte of text
            missing = next(byte for byte in text.encode() if CHARACTER_OF[byte] not in self.vocabulary.ids)
            at = next(n for n, character in enumerate(text) if missing in character.encode())
            raise EngineError(
                f"the vocabulary has no token for the byte 0x{missing:02X} of {text[at]!r}",
                where="prompt",
                hint="leave the character out: the model has never seen it",
            )
        return ids


def check_text(text: str) -> None:
    """Raise EngineError for a text that is not valid Unicode, as an argument in another encoding is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EngineError(
            f"the text is not valid Unicode at character {error.start} ({text[error.start]!r})",
            where="prompt",
            hint="give the prompt in UTF-8",
        ) from None


class Stream:
    """Decodes tokens as they come: no piece ends within a UTF-8 character, what is incomplete waits for the next."""

    def __init__(self, tokenizer: Tokenizer, keep_special: bool) -> None:
        self._tokenizer, self._keep_special = tokenizer, keep_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id_: int) -> str:
        """The text that this token completes, often all of its own; may be empty."""
        return self._decoder.decode(self._tokenizer.piece(id_, keep_special=self._keep_special))

    def finish(self) -> str:
        """What is left when no more tokens come: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def _said(value: str | None) -> str:
    return "is missing" if value is None else f"is {value!r}, which is not supported"


def splitter(splitting: Splitting) -> pre_tokenizers.PreTokenizer:
    """Cuts text into words, within which bytes are merged, and writes them in the byte alphabet."""
    cuts = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in splitting.expressions]
    to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, to_characters])


def _pipeline(vocabulary: Vocabulary, merges: list[tuple[str, str]], splitting: Splitting) -> Pipeline:
    pipeline = Pipeline(BPE(dict(vocabulary.ids), merges, ignore_merges=splitting.whole_words))
    pipeline.pre_tokenizer = splitter(splitting)
    return pipeline
