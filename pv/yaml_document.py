"""A YAML document as it was read: its plain value, and the place of everything in it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from yaml.events import ScalarEvent

from pv.yaml_text import Position, place_at, position_of

Path: TypeAlias = tuple[str | int, ...]
Node: TypeAlias = tuple[Any, Any, Any, Any]
"""What is kept about a value: the mark of its key, its first event, the mark where it ends if that is not the event's,
and the nodes of what it holds, by key or in order."""


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


@dataclass(frozen=True, slots=True)
class Oddity:
    """What is no part of YAML 1.2's core schema: a merge key, or a tag of a value.

    The one stands in the value as a key like any other, the other is left out of it.
    """

    path: Path
    at: Position
    message: str
    hint: str

    @property
    def merge(self) -> bool:
        return self.path[-1:] == ("<<",)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A document's plain value (dict, list, str, int, float, bool, None) and the place of everything in it.

    A path holds keys and indices from the root: ("falsification_tests", 0, "id"); () is the root.
    """

    value: Any
    text: str
    duplicates: tuple[Duplicate, ...]
    _root: Node
    oddities: tuple[Oddity, ...] = ()

    def _node(self, path: Path) -> tuple[Node, bool]:
        """What is kept about a value, or about its nearest parent that has a place; whether it is the value itself."""
        node = self._root
        for step in path:
            try:
                node = node[3][step]
            except (TypeError, LookupError):
                return node, False
        return node, True

    def position(self, path: Path) -> Position:
        """Where an entry begins: its key, or the item of a list. For a path that is not there, its nearest parent.

        What stands behind an alias has no place of its own: the alias answers for it.
        """
        (key, event, _, _), _ = self._node(path)
        return position_of(key or event.start_mark)

    def span(self, path: Path) -> Span | None:
        """Extent of a value, without the comments and blank lines behind it. None where the text has no such value."""
        (_, event, end, _), there = self._node(path)
        if not there:
            return None
        end = end or event.end_mark
        shift = self.text.startswith("\ufeff")  # the parser does not see a byte order mark
        first, behind = event.start_mark.index + shift, end.index + shift
        last = first + len(self.text[first:behind].rstrip())
        start, within = position_of(event.start_mark), place_at(self.text[first:last], last - first)
        column = within.column + (start.column - 1 if within.line == 1 else 0)
        return Span(start, Position(start.line + within.line - 1, column), first, last, behind)

    def end_column(self, path: Path) -> int:
        """Column past a value that ends in the line in which its entry begins; 0 for any other."""
        (key, event, end, _), there = self._node(path)
        end = end or event.end_mark
        return end.column + 1 if there and end.line == (key or event.start_mark).line else 0

    def source(self, path: Path) -> str | None:
        """A scalar as it was written, escapes resolved: "1.10" where the value is 1.1. None for anything else."""
        (_, event, _, _), there = self._node(path)
        return event.value if there and type(event) is ScalarEvent else None
