"""Strict reading of YAML 1.2, with the place of every value.

Parsed by PyYAML's events (libyaml where it is built in); what they mean is decided here, not by YAML 1.1:

- numbers, booleans and null are those of the core schema (https://yaml.org/spec/1.2.2/#103-core-schema): 1e-5 and 0o17
  are numbers; yes, no, on, off, 1_000, 12:30 and dates are text
- keys are text: `1:` and `no:` are the keys "1" and "no"
- anchors and aliases share one value; what aliases repeat is bounded (MAX_REPEATED)
- refused: merge keys (`<<`, no part of YAML 1.2), tags other than those of the core schema, several documents, keys
  that are no scalars, bytes that are not UTF-8, control characters and the line breaks that only YAML 1.1 knows
- a key that occurs twice is an error; `parse` collects these instead, so that a checker can report all of them
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml
from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pv.yaml_text import (
    CORE,
    MAX_BYTES,
    Position,
    YamlError,
    decoded,
    explained,
    place_at,
    position_of,
    scalar_value,
    tag_refused,
)

__all__ = ["MAX_BYTES", "Document", "Duplicate", "Path", "Position", "Span", "YamlError", "load", "parse"]

Path: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 64
"""Deepest nesting of mappings and lists."""
MAX_REPEATED = 200_000
"""How many characters and values all aliases together may repeat."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands: from `start` up to, not including, `end`; the indices count characters of Document.text.

    behind_index  as end_index, with the blank lines behind the value, which a text with |+ keeps
    """

    start: Position
    end: Position
    start_index: int
    end_index: int
    behind_index: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that its mapping holds already. The first value is kept."""

    path: Path
    first: Position
    again: Position


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A document's plain value (dict, list, str, int, float, bool, None) and the place of everything in it.

    A path holds keys and indices from the root: ("falsification_tests", 0, "id"); () is the root.
    """

    value: Any
    text: str
    duplicates: tuple[Duplicate, ...]
    _marks: dict[Path, tuple[Any, Any, Any, str | None]]  # key's mark, start, end, source

    def position(self, path: Path) -> Position:
        """Where an entry begins: its key, or the item of a list. For a path that is not there, its nearest parent.

        What stands behind an alias has no place of its own: the alias answers for it.
        """
        while path and path not in self._marks:
            path = path[:-1]
        key, start, _, _ = self._marks[path]
        return position_of(key or start)

    def span(self, path: Path) -> Span | None:
        """Extent of a value, without the comments and blank lines behind it. None where the text has no such value."""
        if path not in self._marks:
            return None
        _, start, end, _ = self._marks[path]
        shift = self.text.startswith("\ufeff")  # the parser does not see a byte order mark
        first, behind = start.index + shift, end.index + shift
        last = first + len(self.text[first:behind].rstrip())
        return Span(position_of(start), place_at(self.text, last), first, last, behind)

    def source(self, path: Path) -> str | None:
        """A scalar as it was written, escapes resolved: "1.10" where the value is 1.1. None for anything else."""
        return self._marks[path][3] if path in self._marks else None


def load(data: bytes | str, where: str) -> Document:
    """The one document in `data`. YamlError, naming file, line and column, for all that is refused (see above)."""
    document = parse(data, where)
    for twice in document.duplicates:
        raise YamlError(
            f"the key {twice.path[-1]!r} occurs twice, first in line {twice.first.line}",
            file=where,
            at=twice.again,
            hint="keep one of them: readers disagree about which one counts",
        )
    return document


def parse(data: bytes | str, where: str) -> Document:
    """As `load`, but keys that occur twice are collected in Document.duplicates, and their first values kept."""
    text = decoded(data, where)
    try:
        return _read(text, where)
    except YAMLError as error:
        raise explained(error, text, where) from None
    except (ValueError, OverflowError) as error:  # of the pure parser, for an escape that is no character
        raise YamlError(f"cannot be parsed: {error}", file=where, at=Position(1, 1)) from None


class _Frame:
    """A mapping or list that is being read; `path` is None below a key that occurs for the second time."""

    __slots__ = ("key", "key_mark", "own_key_mark", "path", "start", "value", "weight")

    def __init__(self, value: Any, path: Path | None, start: Any, own_key_mark: Any, weight: int) -> None:
        self.value, self.path, self.start, self.own_key_mark, self.weight = value, path, start, own_key_mark, weight
        self.key: str | None = None  # of the value that comes next
        self.key_mark: Any = None


class _Builder:
    """Makes values of events, without recursion."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.root: Any = None
        self.stack: list[_Frame] = []
        self.marks: dict[Path, tuple[Any, Any, Any, str | None]] = {}
        self.duplicates: list[Duplicate] = []
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # None while the value is still being read
        self.weight = 0  # values and characters so far, what aliases repeat included
        self.repeated = 0
        self.last: Any = None  # where the last thing ended that is more than an end of indentation

    def refusal(self, message: str, event: Any, hint: str = "") -> YamlError:
        return YamlError(message, file=self.where, at=position_of(event.start_mark), hint=hint)

    def scalar(self, event: ScalarEvent) -> None:
        cost = 1 + len(event.value)
        self.weight += cost
        self.last = event.end_mark
        top = self.stack[-1] if self.stack else None
        if top is not None and top.key is None and type(top.value) is dict:
            value: Any = self.key(event)
            top.key = value
            top.key_mark = event.start_mark
        else:
            value = scalar_value(event, self.where)
            path, key_mark = self.put(value)
            if path is not None:
                self.marks[path] = (key_mark, event.start_mark, event.end_mark, event.value)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, cost)

    def key(self, event: ScalarEvent) -> str:
        if event.tag not in (None, "!", CORE + "str"):
            raise tag_refused(event.tag, event, self.where)
        if event.implicit[0] and event.value == "<<":
            hint = "write the keys out, or alias the values one by one"
            raise self.refusal("merge keys (<<) are not supported: YAML 1.2 has none", event, hint)
        if event.implicit[0] and event.value == "":
            raise self.refusal("a key is missing before ':'", event)
        return str(event.value)

    def alias(self, event: AliasEvent) -> None:
        self.refuse_as_key(event)
        name = event.anchor
        if name not in self.anchors:
            raise self.refusal(f"the alias *{name} has no anchor before it", event)
        known = self.anchors[name]
        if known is None:
            raise self.refusal(f"the alias *{name} stands inside its own anchor", event)
        value, cost = known
        self.weight += cost
        self.repeated += cost
        if self.repeated > MAX_REPEATED:
            message = f"the aliases up to here repeat more than {MAX_REPEATED} values and characters"
            raise self.refusal(message, event, "write out what is meant, or alias less")
        self.last = event.end_mark
        path, key_mark = self.put(value)
        if path is not None:
            self.marks[path] = (key_mark, event.start_mark, event.end_mark, None)

    def open(self, event: Any, value: Any, tag: str) -> None:
        self.refuse_as_key(event)
        if event.tag not in (None, "!", CORE + tag):
            raise tag_refused(event.tag, event, self.where)
        if len(self.stack) >= MAX_DEPTH:
            raise self.refusal(f"is nested deeper than {MAX_DEPTH} levels", event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        path, key_mark = self.put(value)
        self.stack.append(_Frame(value, path, event, key_mark, self.weight))
        self.weight += 1

    def close(self, event: Any) -> None:
        frame = self.stack.pop()
        if frame.start.flow_style or self.last is None:
            self.last = event.end_mark
        if frame.path is not None:
            self.marks[frame.path] = (frame.own_key_mark, frame.start.start_mark, self.last, None)
        if frame.start.anchor is not None:
            self.anchors[frame.start.anchor] = (frame.value, self.weight - frame.weight)

    def refuse_as_key(self, event: Any) -> None:
        if self.stack and self.stack[-1].key is None and type(self.stack[-1].value) is dict:
            raise self.refusal("a key must be a word or quoted text", event)

    def put(self, value: Any) -> tuple[Path | None, Any]:
        """Add a value to what is being read; its path, None if it has none, and the mark of its key."""
        if not self.stack:
            self.root = value
            return (), None
        top = self.stack[-1]
        if type(top.value) is list:
            top.value.append(value)
            return (None if top.path is None else (*top.path, len(top.value) - 1)), None
        key, key_mark = top.key, top.key_mark
        assert key is not None
        top.key = top.key_mark = None
        path = None if top.path is None else (*top.path, key)
        if key not in top.value:
            top.value[key] = value
        elif path is not None:
            self.duplicates.append(Duplicate(path, position_of(self.marks[path][0]), position_of(key_mark)))
            path = None
        return path, key_mark


def _read(text: str, where: str) -> Document:
    next_event = _parser(text.removeprefix("\ufeff"))
    builder = _Builder(where)
    documents = 0
    while (event := next_event()) is not None:
        kind = type(event)
        if kind is ScalarEvent:
            builder.scalar(event)
        elif kind is MappingStartEvent:
            builder.open(event, {}, "map")
        elif kind is SequenceStartEvent:
            builder.open(event, [], "seq")
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            builder.close(event)
        elif kind is AliasEvent:
            builder.alias(event)
        elif kind is DocumentStartEvent:
            documents += 1
            if documents > 1:
                message = "a second YAML document begins here"
                raise builder.refusal(message, event, "put each document into a file of its own")
    if not documents:
        builder.marks[()] = (None, _Start(), _Start(), None)
    return Document(builder.root, text, tuple(builder.duplicates), builder.marks)


class _Start:
    """The mark of an empty text's value."""

    index = line = column = 0


def _c_parser(text: str) -> Callable[[], Any]:
    from yaml._yaml import CParser

    return CParser(text).get_event


def _pure_parser(text: str) -> Callable[[], Any]:
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class PureParser(Reader, Scanner, Parser):
        def __init__(self) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)

    return PureParser().get_event


_parser = _c_parser if yaml.__with_libyaml__ else _pure_parser
