"""Strict reading of YAML 1.2, with the place of every value.

Parsed by PyYAML's events (libyaml where it is built in); what they mean is decided here, not by YAML 1.1:

- numbers, booleans and null are those of the core schema (https://yaml.org/spec/1.2.2/#103-core-schema): 1e-5 and 0o17
  are numbers; yes, no, on, off, 1_000, 12:30 and dates are text
- keys are text: `1:` and `no:` are the keys "1" and "no"
- anchors and aliases share one value; what aliases repeat is bounded (MAX_REPEATED)
- refused: merge keys (`<<`, no part of YAML 1.2), tags other than those of the core schema, several documents, keys
  that are no scalars, bytes that are not UTF-8, control characters and the line breaks that only YAML 1.1 knows
- depth and number of values are bounded too (MAX_DEPTH, MAX_EVENTS), and the text itself (MAX_BYTES)
- a key that occurs twice is an error; `parse` collects these instead, so that a checker can report all of them. So it
  does with merge keys and tags, and with aliases of values that hold some: who reads that part is not known here
"""

import gc
from itertools import islice, pairwise
from typing import Any

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
    StreamEndEvent,
)

from pv.yaml_document import Document, Duplicate, Node, Oddity, Path, Span
from pv.yaml_events import c_parser, pure_parser
from pv.yaml_text import (
    CORE,
    MAX_BYTES,
    MEANS_MORE,
    Position,
    TagError,
    YamlError,
    decoded,
    explained,
    position_of,
    scalar_value,
    tag_refused,
)

__all__ = ["MAX_BYTES", "Document", "Duplicate", "Oddity", "Path", "Position", "Span", "YamlError", "load", "parse"]

MAX_DEPTH = 64
"""Deepest nesting of mappings and lists."""
MAX_REPEATED = 200_000
"""How many characters and values all aliases together may repeat."""
MAX_EVENTS = 500_000
"""How many keys, values and brackets a document may have: each costs 400 bytes while the document is in memory."""

LIST_ITEM = False
"""Stands for the key of what is in a list."""
_NO_KEYS = ("", "<<")


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
    for odd in document.oddities:
        raise YamlError(odd.message, file=where, at=odd.at, hint=odd.hint)
    return document


def parse(data: bytes | str, where: str) -> Document:
    """As `load`, but keys that occur twice are collected in Document.duplicates, and their first values kept."""
    text = decoded(data, where)
    collecting = gc.isenabled()
    gc.disable()  # what is read has no cycles; to look for some again and again would take most of the time
    try:
        return _read(text, where)
    except YAMLError as error:
        raise explained(error, text, where) from None
    except (ValueError, OverflowError) as error:  # of the pure parser, for an escape that is no character
        raise YamlError(f"cannot be parsed: {error}", file=where, at=Position(1, 1)) from None
    finally:
        if collecting:
            gc.enable()


class _Frame:
    """A mapping or list that is being read.

    key   of the value that comes next: None where a key must come first, LIST_ITEM in a list
    own   the key that it stands under itself, or LIST_ITEM
    nodes the places of what it holds; None where none are kept: below a key that occurs for the second time
    """

    __slots__ = ("key", "key_mark", "nodes", "odd", "own", "own_mark", "repeated", "start", "value")

    def __init__(self, value: Any, nodes: Any, own: Any, own_mark: Any, start: Any, repeated: int, odd: int) -> None:
        self.value, self.nodes, self.own, self.own_mark, self.start = value, nodes, own, own_mark, start
        self.repeated, self.odd = repeated, odd  # by aliases, and how many oddities, before it began
        self.key: Any = None if type(value) is dict else LIST_ITEM
        self.key_mark: Any = None


class _Builder:
    """Makes values of events, without recursion. At the bottom of its stack lies a list that takes the root."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.bottom = _Frame([], [], LIST_ITEM, None, None, 0, 0)
        self.stack = [self.bottom]
        self.duplicates: list[Duplicate] = []
        self.oddities: list[Oddity] = []
        self.odd_anchors: dict[str, YamlError] = {}  # what is odd in the value behind an anchor
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # None while the value is still being read
        self.repeated = 0
        self.documents = 0

    def refusal(self, message: str, event: Any, hint: str = "") -> YamlError:
        return YamlError(message, file=self.where, at=position_of(event.start_mark), hint=hint)

    def check_key(self, event: ScalarEvent) -> None:
        if event.tag not in (None, "!", CORE + "str"):
            raise tag_refused(event.tag, event, self.where)
        if event.implicit[0] and event.value == "<<":
            hint = "write the keys out, or alias the values one by one"
            error = self.refusal("merge keys (<<) are not supported: YAML 1.2 has none", event, hint)
            self.keep(error, "<<")
        if event.implicit[0] and event.value == "":
            raise self.refusal("a key is missing before ':'", event)

    def keep(self, error: YamlError, *inner: str) -> None:
        """Keep what is odd at the key `inner`, or at the value that comes next, for `parse`."""
        top = self.stack[-1]
        step = inner or (len(top.value) if top.key is LIST_ITEM else top.key,)
        path = (*self.path(), *step) if len(self.stack) > 1 else ()
        self.oddities.append(Oddity(path, error.at, str(error.args[0]), error.hint))

    def tagged(self, event: ScalarEvent) -> Any:
        try:
            return scalar_value(event, self.where)
        except TagError as error:
            self.keep(error)
            if event.anchor is not None:
                self.odd_anchors[event.anchor] = error
            return event.value

    def alias(self, event: AliasEvent) -> None:
        self.refuse_as_key(event)
        name = event.anchor
        if name not in self.anchors:
            raise self.refusal(f"the alias *{name} has no anchor before it", event)
        known = self.anchors[name]
        if known is None:
            raise self.refusal(f"the alias *{name} stands inside its own anchor", event)
        value, cost = known
        self.repeated += cost
        if self.repeated > MAX_REPEATED:
            message = f"the aliases up to here repeat more than {MAX_REPEATED} values and characters"
            raise self.refusal(message, event, "write out what is meant, or alias less")
        if odd := self.odd_anchors.get(name):
            self.keep(self.refusal(str(odd.args[0]), event, odd.hint))  # it may be read here, if not there
        top = self.stack[-1]
        key, key_mark, placed = self.put(value)
        if placed:
            _place(top, key, (key_mark, event, None, None))

    def open(self, event: Any) -> _Frame:
        """Begin a mapping or list; its frame."""
        self.refuse_as_key(event)
        odd = len(self.oddities)
        mapping = type(event) is MappingStartEvent
        if event.tag not in (None, "!", CORE + ("map" if mapping else "seq")):
            self.keep(tag_refused(event.tag, event, self.where))
        if len(self.stack) > MAX_DEPTH:
            raise self.refusal(f"is nested deeper than {MAX_DEPTH} levels", event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        value: Any = {} if mapping else []
        key, key_mark, placed = self.put(value)
        frame = _Frame(value, type(value)() if placed else None, key, key_mark, event, self.repeated, odd)
        self.stack.append(frame)
        return frame

    def close(self, last: Any) -> _Frame:
        """End the innermost mapping or list at the end of the event `last`; the frame around it."""
        frame = self.stack.pop()
        start, end = frame.start, last.end_mark
        if frame.nodes is not None:
            _place(self.stack[-1], frame.own, (frame.own_mark, start, end, frame.nodes))
        if start.anchor is not None:
            extent = end.index - start.start_mark.index  # no fewer than its values and their characters
            self.anchors[start.anchor] = (frame.value, 1 + extent + self.repeated - frame.repeated)
            self.odd_anchors.pop(start.anchor, None)
            for odd in self.oddities[frame.odd :][:1]:
                self.odd_anchors[start.anchor] = YamlError(odd.message, file=self.where, at=odd.at, hint=odd.hint)
        return self.stack[-1]

    def refuse_as_key(self, event: Any) -> None:
        if self.stack[-1].key is None:
            raise self.refusal("a key must be a word or quoted text", event)

    def put(self, value: Any) -> tuple[Any, Any, bool]:
        """Add a value to what is being read; its key or LIST_ITEM, the mark of its key, whether its place is kept."""
        top = self.stack[-1]
        if top.key is LIST_ITEM:
            top.value.append(value)
            return LIST_ITEM, None, top.nodes is not None
        key, key_mark = top.key, top.key_mark
        top.key = None
        if key not in top.value:
            top.value[key] = value
            return key, key_mark, top.nodes is not None
        if top.nodes is not None:
            first = position_of(top.nodes[key][0])
            self.duplicates.append(Duplicate((*self.path(), key), first, position_of(key_mark)))
        return key, key_mark, False

    def path(self) -> Path:
        """Path of what is being read."""
        return tuple(
            len(around.value) - 1 if frame.own is LIST_ITEM else frame.own
            for around, frame in pairwise(self.stack)
            if around is not self.bottom
        )

    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            hint = "put each document into a file of its own"
            raise self.refusal("a second YAML document begins here", event, hint)
        if event.version and event.version != (1, 2):
            asked = ".".join(map(str, event.version))
            hint = "leave the %YAML line out, and put text such as yes, no and 1_000 in quotes"
            raise self.refusal(f"%YAML {asked} asks for another reading: contracts are YAML 1.2", event, hint)


def _place(frame: _Frame, key: Any, node: Node) -> None:
    if key is LIST_ITEM:
        frame.nodes.append(node)
    else:
        frame.nodes[key] = node


def _read(text: str, where: str) -> Document:
    next_event = _parser(text.removeprefix("\ufeff"))
    builder = _Builder(where)
    anchors, top = builder.anchors, builder.bottom
    last: Any = None
    for event in islice(iter(next_event, None), MAX_EVENTS):
        kind = type(event)
        if kind is ScalarEvent:  # most events are: what `put` and `check_key` do is written out here
            last = event
            value: Any = event.value
            key = top.key
            if key is None:
                if event.tag is not None or (value in _NO_KEYS and event.implicit[0]):
                    builder.check_key(event)
                top.key, top.key_mark = value, event.start_mark
            else:
                if event.tag is not None or (event.implicit[0] and value[:1] in MEANS_MORE):
                    value = scalar_value(event, where) if event.tag is None else builder.tagged(event)
                if key is LIST_ITEM:
                    top.value.append(value)
                    if top.nodes is not None:
                        top.nodes.append((None, event, None, None))
                elif key not in top.value:
                    top.key = None
                    top.value[key] = value
                    if top.nodes is not None:
                        top.nodes[key] = (top.key_mark, event, None, None)
                else:
                    builder.put(value)
            if event.anchor is not None:
                anchors[event.anchor] = (value, 1 + len(event.value))
                if event.tag is None:
                    builder.odd_anchors.pop(event.anchor, None)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            top = builder.open(event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            if last is None or top.start.flow_style:
                last = event
            top = builder.close(last)
        elif kind is AliasEvent:
            last = event
            builder.alias(event)
        elif kind is DocumentStartEvent:
            builder.document(event)
        elif kind is StreamEndEvent:
            break
    else:
        raise builder.refusal(f"holds more than {MAX_EVENTS} keys, values and brackets", event, "split the file")
    if not builder.documents:
        return Document(None, text, (), (None, _Start(), None, None))
    root, oddities = builder.bottom.nodes[0], tuple(builder.oddities)
    return Document(builder.bottom.value[0], text, tuple(builder.duplicates), root, oddities)


class _Start:
    """Event and mark of the value that an empty text has."""

    index = line = column = 0

    @property
    def start_mark(self) -> "_Start":
        return self

    end_mark = start_mark


_parser = c_parser if yaml.__with_libyaml__ else pure_parser
