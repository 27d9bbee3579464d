"""Characters and scalars of YAML: what may stand in a file, and what a word in it means."""

import re
from dataclasses import dataclass
from typing import Any

from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import ScalarEvent

from pv.errors import PvError

MAX_BYTES = 4 * 2**20
"""Longest text that is read; the longest contracts that we know of have a fiftieth of it."""
MAX_DIGITS = 400
"""Longest number: more digits than a float64 can tell apart, and few enough to convert at once."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


class YamlError(PvError):
    """Text that cannot be read as one YAML document; `where` is 'file:line:column'."""

    def __init__(self, message: str, *, file: str, at: Position, hint: str = "") -> None:
        super().__init__(message, where=f"{file}:{at.line}:{at.column}", hint=hint)
        self.file, self.at = file, at


class TagError(YamlError):
    """A tag that asks for another type than it may."""


# -- characters -------------------------------------------------------------------------------------------------------

_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_BREAK = re.compile(r"\r\n?|\n")
_UTF_16 = re.compile(rb"\xff\xfe|\xfe\xff|\0{1,3}[\t\n\r -~\xfe]|[\t\n\r -~]\0")
"""How a text in UTF-16 or UTF-32 begins: with a byte order mark, or with a character of ASCII."""
BEGINNING, MAX_NULS = 4096, 8
"""With more NUL bytes than these in its beginning, a file is no text in which one has slipped: a model, a picture."""


def decoded(data: bytes | str, where: str) -> str:
    """The characters of a file. YamlError for bytes that are not UTF-8 and for characters that YAML refuses."""
    if isinstance(data, bytes) and _UTF_16.match(data) is None and data.count(0, 0, BEGINNING) > MAX_NULS:
        hint = "name a contract: a text in YAML"
        raise YamlError("is binary data, not text", file=where, at=Position(1, 1), hint=hint)
    if len(data) > MAX_BYTES:
        raise YamlError(f"is longer than {MAX_BYTES} bytes", file=where, at=Position(1, 1), hint="split the file")
    if isinstance(data, bytes):
        if _UTF_16.match(data):
            name = "UTF-32" if b"\0\0" in data[:4] else "UTF-16"
            raise YamlError(f"is {name}, not UTF-8", file=where, at=Position(1, 1), hint="save it as UTF-8")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8")
            at = place_at(before, len(before))
            what = f"byte 0x{data[error.start]:02X} is not UTF-8"
            raise YamlError(what, file=where, at=at, hint="save the file as UTF-8") from None
    else:
        text = data
    if bad := _REFUSED.search(text):
        code = ord(bad[0])
        what = "is a line break to YAML 1.1 only" if code in (0x85, 0x2028, 0x2029) else "is not allowed in YAML"
        at = place_at(text, bad.start())
        name = "a NUL character" if code == 0 else f"the character U+{code:04X}"
        raise YamlError(f"{name} {what}", file=where, at=at, hint='remove it, or escape it in double quotes ("\\x00")')
    return text


def place_at(text: str, index: int) -> Position:
    """Line and column of a character."""
    line, start = 1, 0
    for found in _BREAK.finditer(text, 0, index):
        line, start = line + 1, found.end()
    return Position(line, index - start + 1)


def position_of(mark: Any) -> Position:
    """The place of a parser's mark, which counts from 0."""
    return Position(mark.line + 1, mark.column + 1)


def explained(error: YAMLError, text: str, where: str) -> YamlError:
    """The parser's complaint, with its place and what can be done.

    A parser that ran to the end of the text has read too far: the place is then where it began to look for an end, say
    at an open bracket, or else the last character that there is.
    """
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = text.removeprefix("\ufeff")  # which no mark counts
    index = mark.index if mark else 0
    begin = getattr(error, "context_mark", None)
    if begin and begin.index >= len(text):
        begin = None
    at = position_of(mark) if mark else Position(1, 1)
    if mark and index >= len(text):
        at = position_of(begin) if begin else place_at(text, max(len(text.rstrip()) - 1, 0))
    message, hint = str(error).splitlines()[0] if str(error) else "cannot be parsed", ""
    if isinstance(error, MarkedYAMLError):
        message = error.problem or error.context or message
        if error.context and error.problem:
            line = f" in line {begin.line + 1}" if begin else ""
            message += f" ({error.context}{line})"
    if text[index : index + 1] == "\t":
        message, hint = f"a tab stands where YAML wants spaces: {message}", "indent with spaces"
    elif "maximum nesting depth" in message:  # libyaml's own limit, which brackets without keys reach first
        message, hint = "is nested deeper than the parser can go", "write less nested: 64 levels are read"
    elif "mapping values are not allowed" in message:
        hint = "quote the text if the colon belongs to it"
    elif "cannot start any token" in message and text[index : index + 1] in ("@", "`", "%"):
        hint = f"text that begins with {text[index]} needs quotes"
    return YamlError(message, file=where, at=at, hint=hint)


# -- scalars ----------------------------------------------------------------------------------------------------------

_INF, _NAN = float("inf"), float("nan")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: _INF for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -_INF),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), _NAN),
}
_NUMBER_BEGINS = frozenset("+-.0123456789")
MEANS_MORE = _NUMBER_BEGINS | {word[:1] for word in _WORDS}
"""How a plain scalar begins that may be something else than text; all others are text."""
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
CORE = "tag:yaml.org,2002:"
_TYPES = {"null": type(None), "bool": bool, "int": int, "float": float}


def resolve(text: str) -> Any:
    """What a plain scalar means in the YAML 1.2 core schema. ValueError for a number that is no float64."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_BEGINS:
        return text
    if _INTEGER.fullmatch(text):
        _check_digits(text)
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        _check_digits(text)
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        _check_digits(text)
        number = float(text)
        if number in (_INF, -_INF):
            raise ValueError("is too large for a float64")
        return number
    return text


def _check_digits(text: str) -> None:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"has more than {MAX_DIGITS} digits")


def scalar_value(event: ScalarEvent, where: str) -> Any:
    """What a scalar means, by its tag if it has one. YamlError for a tag outside the core schema."""
    text: str = event.value
    tag = event.tag
    try:
        if tag is None:
            return resolve(text) if event.implicit[0] else text
        name = tag.removeprefix(CORE)
        if name in ("str", "!"):
            return text
        value = resolve(text)
        if name == "float" and type(value) is int:
            return float(value)
        if name in _TYPES and type(value) is _TYPES[name]:
            return value
    except (ValueError, OverflowError) as error:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise YamlError(f"{shown} {error}", file=where, at=position_of(event.start_mark)) from None
    raise tag_refused(tag, event, where)


def tag_refused(tag: str, event: Any, where: str) -> TagError:
    """The error for a tag that asks for another type than it may."""
    shown = "!!" + tag.removeprefix(CORE) if tag.startswith(CORE) else tag
    return TagError(
        f"the tag {shown} is not allowed here", file=where, at=position_of(event.start_mark), hint="write a plain value"
    )
