"""Every difference between two versions of a contract, with its place and its class.

Compared is what a reader makes of a document: under a key that holds text, the text; under any other, the value. So
comments, the order of keys, anchors, styles of quoting and the spellings of a key make no difference. What the author
names is matched by its name, wherever it stands in its list; a list of texts is ordered where its shape says so, and
all other lists are. No key is left out, known or not.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pv.contract import Contract
from pv.diff_classes import ANY, PROSE, Place, is_note, policy
from pv.semver import Size
from pv.shapes import ANYTHING, TEXT, Choice, ListOf, MapOf, Named, Record, Shape
from pv.vocabulary import CONTRACT, TOLERANCE
from pv.yaml_loader import Document
from pv.yaml_loader import Path as DocumentPath

NAMES: Mapping[Place, tuple[tuple[str, ...], ...]] = {
    ("proof_obligations",): (("id",), ("type", "property")),
    ("falsification_tests",): (("id",), ("rule",)),
    ("kani_harnesses",): (("id",), ("obligation", "property")),
    ("type_invariants",): (("name",),),
    ("stories",): (("id",),),
}
"""The keys that name the entries of a list; the later ones match what the first leave over: an id was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two versions.

    what      'added', 'removed' or 'changed'
    place     in words: falsification_tests[FALSIFY-X-001].tolerance.limit
    in_new    whether `line` is one of the new version; one of the old version where the value is no more
    old, new  the values; None where there is none
    """

    size: Size
    what: str
    place: str
    line: int
    in_new: bool
    old: Any
    new: Any
    why: str


def changes(old: Contract, new: Contract) -> list[Change]:
    """All differences, in the order of their lines, those of the new version first."""
    found = _record(CONTRACT, (), "", _Spot.of(old), _Spot.of(new))
    return sorted(found, key=lambda change: (not change.in_new, change.line, change.place))


@dataclass(frozen=True, slots=True)
class _Spot:
    """A value in one of the versions. kind: that of the contract, which a reader knows where it is not written."""

    document: Document
    at: DocumentPath
    value: Any
    kind: str

    @classmethod
    def of(cls, contract: Contract) -> "_Spot":
        return cls(contract.document, (), contract.document.value, contract.kind)

    def child(self, step: str | int) -> "_Spot":
        return _Spot(self.document, (*self.at, step), self.value[step], self.kind)

    def as_text(self) -> str:
        """The value as it was written; behind an alias, as Python writes it."""
        source = self.document.source(self.at)
        return self.value if isinstance(self.value, str) else str(self.value) if source is None else source


Side = _Spot | None


def _any(shape: Shape, place: Place, words: str, old: Side, new: Side) -> Iterator[Change]:
    """The differences between two values of one shape, of which at most one is missing."""
    lists = all(spot is None or isinstance(spot.value, list) for spot in (old, new))
    maps = all(spot is None or isinstance(spot.value, dict) for spot in (old, new))
    if isinstance(shape, Named) and (lists or maps or not (_scalar(old) or _scalar(new))):
        yield from _by_key(_named(old), _named(new), lambda _: shape.record, True, place, words)
    elif isinstance(shape, ListOf) and lists:
        if shape.ordered:
            yield from _in_order(place, words, old, new, shape.item)
        else:
            yield from (_entries if isinstance(shape.item, Record) else _texts)(shape.item, place, words, old, new)
    elif old is None or new is None:
        yield _change(place, words, old, new)
    elif maps and isinstance(shape, Record):
        found = list(_record(shape, place, words, old, new))
        judged = {change.place.removeprefix(f"{words}.").partition(".")[0] for change in found}
        if shape is TOLERANCE and not judged <= {"limit", "because", "floor"}:
            found = [_change(place, words, old, new)]  # measured in another way: no limit can be judged by itself
        yield from found
    elif maps:
        inner = shape.value if isinstance(shape, MapOf) else ANYTHING
        yield from _by_key(_children(old), _children(new), lambda _: inner, isinstance(shape, MapOf), place, words)
    elif lists:
        yield from _in_order(place, words, old, new)
    elif not _equal(shape, old, new):
        yield _change(place, words, old, new)


def _record(shape: Record, place: Place, words: str, old: _Spot, new: _Spot) -> Iterator[Change]:
    def inner(name: str) -> Shape:
        return shape.keys[name].shape if name in shape.keys else ANYTHING

    yield from _by_key(_keys(shape, place, old), _keys(shape, place, new), inner, False, place, words)


def _keys(shape: Record, place: Place, spot: _Spot) -> dict[str, _Spot]:
    """The values of a record by the keys that they are read as. A known key without a value is none."""
    found: dict[str, _Spot] = {}
    taken: set[str] = set()
    for name, key in shape.keys.items():
        words = (name, *key.also, *key.instead)
        spelling = next((word for word in words if word in spot.value), None)
        if spelling is not None and spelling not in taken:
            taken.add(spelling)
            if spot.value[spelling] is not None:
                found[name] = spot.child(spelling)
    found.update({name: spot.child(name) for name in spot.value if name not in taken})
    if place == ("metadata",) and "kind" not in found:
        found["kind"] = _Spot(spot.document, spot.at, spot.kind, spot.kind)
    return found


def _children(spot: Side) -> dict[str, _Spot]:
    return {name: spot.child(name) for name in spot.value} if spot else {}


def _named(spot: Side) -> dict[str, _Spot]:
    """Records by name; those of a list are named by their ids, as pv.contract does."""
    if spot is None or isinstance(spot.value, dict):
        return _children(spot)
    found: dict[str, _Spot] = {}
    for index, raw in enumerate(spot.value):
        inner, name = spot.child(index), f"equation_{index}"
        if isinstance(raw, dict) and raw.get("id") is not None and not _nested(inner.child("id")):
            name = inner.child("id").as_text()
            inner = _Spot(inner.document, inner.at, {key: raw[key] for key in raw if key != "id"}, inner.kind)
        while name in found:
            name += "'"  # a name that is taken must not hide the entry
        found[name] = inner
    return found


def _by_key(
    old: Mapping[str, _Spot],
    new: Mapping[str, _Spot],
    shape: Callable[[str], Shape],
    free: bool,
    place: Place,
    words: str,
) -> Iterator[Change]:
    """Values by key; `free` where the keys are names that the author chose."""
    for name in dict.fromkeys((*old, *new)):
        inner = (*place, ANY if free else name)
        yield from _any(shape(name), inner, f"{words}.{name}".lstrip("."), old.get(name), new.get(name))


def _entries(shape: Shape, place: Place, words: str, old: Side, new: Side) -> Iterator[Change]:
    """A list of records: matched by what names them where something does, else by their order."""
    if place not in NAMES:
        yield from _in_order(place, words, old, new, shape)
        return
    before, after = _items(old), _items(new)
    for keys in NAMES[place]:
        waiting: dict[tuple[str, ...], deque[_Spot]] = {}
        for spot in before:
            waiting.setdefault(_name(shape, keys, spot), deque()).append(spot)
        matched, left = set(), []
        for spot in after:
            name = _name(shape, keys, spot)
            if any(name) and (same := waiting.get(name)):
                match = same.popleft()
                matched.add(match.at)
                yield from _any(shape, (*place, ANY), _called(words, place, spot), match, spot)
            else:
                left.append(spot)
        before, after = [spot for spot in before if spot.at not in matched], left
    for spot in before:
        yield _change((*place, ANY), _called(words, place, spot), spot, None)
    for spot in after:
        yield _change((*place, ANY), _called(words, place, spot), None, spot)


def _name(shape: Shape, keys: Sequence[str], spot: _Spot) -> tuple[str, ...]:
    if not isinstance(spot.value, dict) or not isinstance(shape, Record):
        return ("",)
    found = _keys(shape, (), spot)
    return tuple(found[key].as_text().strip() if key in found and not _nested(found[key]) else "" for key in keys)


def _called(words: str, place: Place, spot: _Spot) -> str:
    """An entry by its id, else by its place in the list."""
    name = spot.value.get(NAMES[place][0][0]) if isinstance(spot.value, dict) else None
    return f"{words}[{name if isinstance(name, str) and name else spot.at[-1]}]"


def _texts(shape: Shape, place: Place, words: str, old: Side, new: Side) -> Iterator[Change]:
    """A list of texts: what stands in both is the same, in whatever order; what is left is matched by its order."""
    waiting: dict[str, deque[_Spot]] = {}
    for spot in _items(old):
        waiting.setdefault(_text(spot), deque()).append(spot)
    left = []
    for spot in _items(new):
        if same := waiting.get(_text(spot)):
            same.popleft()
        else:
            left.append(spot)
    gone = sorted((spot for same in waiting.values() for spot in same), key=lambda spot: spot.at[-1])
    yield from _matched(shape, (*place, ANY), words, gone, left, numbered=False)


def _text(spot: _Spot) -> str:
    """The text of an item; no text for anything that is none."""
    return f"no text: {spot.value!r}" if spot.value is None or _nested(spot) else f"text: {spot.as_text()}"


def _in_order(place: Place, words: str, old: Side, new: Side, shape: Shape = ANYTHING) -> Iterator[Change]:
    yield from _matched(shape, (*place, ANY), words, _items(old), _items(new), numbered=True)


def _matched(
    shape: Shape, place: Place, words: str, old: Sequence[_Spot], new: Sequence[_Spot], *, numbered: bool
) -> Iterator[Change]:
    for index in range(max(len(old), len(new))):
        before = old[index] if index < len(old) else None
        after = new[index] if index < len(new) else None
        yield from _any(shape, place, f"{words}[{index}]" if numbered else words, before, after)


def _items(spot: Side) -> list[_Spot]:
    return [spot.child(index) for index in range(len(spot.value))] if spot else []


def _scalar(spot: Side) -> bool:
    return spot is not None and not _nested(spot)


def _nested(spot: _Spot) -> bool:
    return isinstance(spot.value, dict | list)


def _equal(shape: Shape, old: _Spot, new: _Spot) -> bool:
    """Whether a reader takes two values for the same one. NaN is NaN here: nobody changed it."""
    one, other = old.value, new.value
    if _nested(old) or _nested(new):
        return repr(one) == repr(other)
    if (shape == TEXT or isinstance(shape, Choice)) and one is not None and other is not None:
        return old.as_text() == new.as_text()
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    if not numbers and type(one) is not type(other):
        return False
    return bool(one == other) or (one != one and other != other)


def _change(place: Place, words: str, old: Side, new: Side) -> Change:
    at = new or old
    assert at is not None
    before, after = (spot.value if spot else None for spot in (old, new))
    judge = PROSE if is_note(place, before, after) else policy(place)
    what = "added" if old is None else "removed" if new is None else "changed"
    size, why = getattr(judge, what)(before, after)
    if old and new and isinstance(before, str) and isinstance(after, str) and before.strip() == after.strip():
        size, why = min(size, Size.PATCH), "white space around the text"
    return Change(
        size=size,
        what=what,
        place=words,
        line=at.document.position(at.at).line,
        in_new=new is not None,
        old=before,
        new=after,
        why=why,
    )
