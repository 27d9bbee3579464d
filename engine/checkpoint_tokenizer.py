"""The tokenizer of a folder of the Hugging Face layout: tokenizer.json, run by the `tokenizers` library itself.

Source: transformers 5 (PreTrainedTokenizerBase, TokenizersBackend, GenerationConfig). What tokenizer.json adds around
a text decides about begin and end tokens, whatever add_bos_token says. A token is special if tokenizer.json or
tokenizer_config.json says so, or if the latter gives it a role. A chat template in a file of its own comes first. An
answer ends with eos_token_id of generation_config.json, or else of config.json.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Pipeline

from engine import chat, checkpoint
from engine.checkpoint import Checkpoint
from engine.checkpoint_config import Settings
from engine.errors import EngineError, brief
from engine.json_files import parse_json, read_json, read_text
from engine.tokenizer import check_text

_HF = "take the tokenizer's files as the model's authors published them, all of one version"
_UNFINISHED = "\ufffd"
_REFUSED = (
    "continuing_subword_prefix",  # of WordPiece: with merges that lack it, the library ends the whole process
    "dropout",  # the ids of a text would be others each time
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CheckpointTokenizer:
    """A model's tokenizer; made by from_checkpoint, which checks what the files say."""

    where: str
    bos_token: str  # what a chat template calls so; empty where there is none
    eos_token: str
    eos_ids: frozenset[int]  # tokens that end generation
    chat_template: str | None
    _pipeline: Pipeline = field(repr=False)

    @classmethod
    def from_checkpoint(cls, folder: Checkpoint) -> "CheckpointTokenizer":
        """The tokenizer of a folder; raises EngineError for files that are missing, or contradict each other."""
        pipeline = _read_pipeline(folder)
        settings = _read_settings(folder)
        _add_tokens(pipeline, settings)
        rows = Settings(folder.config, str(folder.path / checkpoint.CONFIG)).count("vocab_size")
        where = str(folder.path / checkpoint.TOKENIZER)
        with _running(where):
            around = pipeline.encode("").ids  # these come from the post-processor, which has ids of its own
        last = max([*pipeline.get_vocab().values(), *around], default=0)
        if last >= rows:
            raise EngineError(
                f"has the token id {last}, yet the embedding has {rows} rows (vocab_size)", where=where, hint=_HF
            )
        named = {name: _named_token(pipeline, settings, name) for name in ("bos_token", "eos_token")}
        return cls(
            where=str(folder.path),
            bos_token=named["bos_token"],
            eos_token=named["eos_token"],
            eos_ids=_end_ids(folder, rows, pipeline.token_to_id(named["eos_token"])),
            chat_template=_chat_template(folder, settings),
            _pipeline=pipeline,
        )

    @property
    def vocab_size(self) -> int:
        """Number of tokens, which may be fewer than the rows of the embedding."""
        return int(self._pipeline.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with the tokens that tokenizer.json adds around it.

        Special tokens written in the text become those tokens. Raises EngineError for text that is not valid Unicode.
        """
        return self._ids(text, around=True)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of the rendered chat; nothing is added around it, since the template writes all that belongs."""
        return self._ids(self.render_chat(messages), around=False)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The chat template with these messages ({role, content}) and the opening of the answer.

        Raises EngineError when there is no template, and for whatever the template does wrong.
        """
        if self.chat_template is None:
            raise EngineError(
                f"the model has no chat template ({checkpoint.TEMPLATE}, or in {checkpoint.TOKENIZER_CONFIG})",
                where=self.where,
                hint="leave --chat out, or take an instruction-tuned model",
            )
        return chat.render(
            self.chat_template, messages, bos_token=self.bos_token, eos_token=self.eos_token, where=self.where
        )

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Text of token ids; ids without a token are left out, and so are special tokens unless kept."""
        with _running(self.where):
            return str(self._pipeline.decode(list(ids), skip_special_tokens=not keep_special))

    def stream(self) -> "CheckpointStream":
        """A decoder for tokens that come one at a time."""
        return CheckpointStream(self)

    def _ids(self, text: str, *, around: bool) -> list[int]:
        check_text(text)
        with _running(self.where):
            ids: list[int] = self._pipeline.encode(text, add_special_tokens=around).ids
        return ids


class CheckpointStream:
    """Decodes tokens as they come: what a token completes is the text that it adds to that of the tokens before it.

    Decoders may treat the first token apart (a leading space), so the tokens of the last piece are decoded again with
    each new one; what ends within a character waits for the next. The pieces together are what `decode` makes of all
    tokens at once, but where these are not UTF-8: a decoder of byte tokens then takes back the good ones beside them.
    """

    def __init__(self, tokenizer: CheckpointTokenizer) -> None:
        self._tokenizer = tokenizer
        self._told: list[int] = []  # tokens of the last piece
        self._waiting: list[int] = []

    def feed(self, id_: int) -> str:
        """The text that this token completes, often all of its own; may be empty."""
        self._waiting.append(id_)
        piece = self._piece()
        if not piece or piece.endswith(_UNFINISHED):
            return ""
        self._told, self._waiting = self._waiting, []
        return piece

    def finish(self) -> str:
        """What is left when no more tokens come: U+FFFD for a character that was never completed."""
        return self._piece()

    def _piece(self) -> str:
        before = self._tokenizer.decode(self._told)
        return self._tokenizer.decode(self._told + self._waiting)[len(before) :]


@contextmanager
def _running(where: str) -> Iterator[None]:
    """Inside, whatever the library raises becomes an EngineError: it has no class of its own."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        raise EngineError(f"is not a tokenizer that can run: {error}", where=where, hint=_HF) from None


def _read_pipeline(folder: Checkpoint) -> Pipeline:
    path = folder.path / checkpoint.TOKENIZER
    if checkpoint.TOKENIZER not in folder.files:
        raise EngineError(
            "no such file",
            where=str(path),
            hint="if the folder has tokenizer.model or vocab.json instead: AutoTokenizer.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER) of transformers writes it",
        )
    text = read_text(path)
    stated = parse_json(text, path)
    model = stated.get("model")
    for key in _REFUSED:
        if isinstance(model, dict) and model.get(key):
            raise EngineError(f"{key} is not supported", where=str(path), hint=_HF)
    with _running(str(path)):
        pipeline = Pipeline.from_str(text)
    pipeline.no_truncation()
    pipeline.no_padding()
    for token in stated.get("added_tokens") or ():
        found = pipeline.token_to_id(token["content"])
        if found != token["id"]:  # the library gives a token that leaves a hole another id
            raise EngineError(
                f"added token {brief(token['content'])} is stated with the id {token['id']}, but is {found}",
                where=str(path),
                hint=_HF,
            )
    return pipeline


def _read_settings(folder: Checkpoint) -> Settings:
    """tokenizer_config.json, empty where there is none; where it does not describe its added tokens,
    special_tokens_map.json outranks it."""
    path = folder.path / checkpoint.TOKENIZER_CONFIG
    settings = read_json(path) if checkpoint.TOKENIZER_CONFIG in folder.files else {}
    if "added_tokens_decoder" not in settings and checkpoint.SPECIAL_TOKENS in folder.files:
        settings |= read_json(folder.path / checkpoint.SPECIAL_TOKENS)
    return Settings(settings, str(path))


def _add_tokens(pipeline: Pipeline, settings: Settings) -> None:
    """Tell the pipeline of tokens that are to be found in a text before it is split, beside those it knows of, and
    that each token with a role is special, so that it is left out of a text.

    A token that the vocabulary lacks would get an id that the model has no row for: it stays text like any other.
    """
    known = {token.content: token for token in pipeline.get_added_tokens_decoder().values()}
    for id_, stated in (settings.get("added_tokens_decoder", (dict,), "an object") or {}).items():
        token = _added(settings, f"added_tokens_decoder {brief(id_)}", stated)
        if str(pipeline.token_to_id(token.content)) != id_:
            raise settings.error(
                f"added_tokens_decoder has {brief(token.content)} as {id_}, but for {checkpoint.TOKENIZER} it is "
                f"{pipeline.token_to_id(token.content)}",
                _HF,
            )
        known[token.content] = token  # how it is found, said here, outranks what the pipeline was read with
        pipeline.add_tokens([token])
    for name, stated in _named(settings):
        token = _added(settings, name, stated)
        token = known.setdefault(token.content, token)
        token.special = True
        if pipeline.token_to_id(token.content) is not None:
            pipeline.add_tokens([token])


def _named(settings: Settings) -> list[tuple[str, Any]]:
    """The tokens that tokenizer_config.json gives a role: bos_token and its like, and the lists of further ones."""
    found = [(key, value) for key, value in settings.values.items() if key.endswith("_token")]
    found = [(key, value) for key, value in found if isinstance(value, str | dict)]  # add_bos_token is a flag
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = settings.get(key, (list, dict), "a list") or []
        found += [(key, value) for value in (more.values() if isinstance(more, dict) else more)]
    return found


def _added(settings: Settings, name: str, stated: Any) -> AddedToken:
    """A token as transformers writes it: a text, or an object with its text and how it is found."""
    found = {"content": stated, "special": True} if isinstance(stated, str) else stated
    content = found.get("content") if isinstance(found, dict) else None
    # JSON can hold half a character, which no other text can
    if isinstance(content, str) and not any("\ud800" <= character <= "\udfff" for character in content):
        flags = {flag: found[flag] for flag in _FLAGS if flag in found}
        if all(type(value) is bool for value in flags.values()):
            return AddedToken(content, **flags)
    raise settings.error(f"{name} is {brief(stated)}, not a token", _HF)


def _named_token(pipeline: Pipeline, settings: Settings, name: str) -> str:
    """The text of bos_token or eos_token, which must be a token; empty where there is none."""
    stated = settings.values.get(name)
    if stated is None:
        return ""
    content = str(_added(settings, name, stated).content)
    if pipeline.token_to_id(content) is None:
        raise settings.error(f"{name} is {brief(content)}, which {checkpoint.TOKENIZER} does not have", _HF)
    return content


def _end_ids(folder: Checkpoint, rows: int, named: int | None) -> frozenset[int]:
    """What ends an answer: eos_token_id of the first file that has it, or else the token that is named so."""
    for name in (checkpoint.GENERATION, checkpoint.CONFIG):
        if name not in folder.files:
            continue
        path = folder.path / name
        keys = Settings(read_json(path), str(path))
        stated = keys.get("eos_token_id", (int, list), "a token id or a list of them")
        if stated is not None:
            ids = stated if isinstance(stated, list) else [stated]
            for id_ in ids:
                if type(id_) is not int or not 0 <= id_ < rows:
                    raise keys.error(f"eos_token_id {brief(id_)} is not a token id: they go from 0 to {rows - 1}", _HF)
            return frozenset(ids)
    return frozenset() if named is None else frozenset({named})


def _chat_template(folder: Checkpoint, settings: Settings) -> str | None:
    """The template of a file of its own, or else of tokenizer_config.json: the one named "default" of several."""
    if checkpoint.TEMPLATE in folder.files:
        return read_text(folder.path / checkpoint.TEMPLATE)
    stated = settings.get("chat_template", (str, list), "a text or a list")
    if stated is None or isinstance(stated, str):
        return stated
    for each in stated:
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in ("name", "template")):
            raise settings.error(f"chat_template holds {brief(each)}, not {{name, template}}", _HF)
    return next((str(each["template"]) for each in stated if each["name"] == "default"), None)
