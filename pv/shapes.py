"""What a value in a contract must look like, and where a document does otherwise."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeAlias

from pv.yaml_loader import Document, Path

TEXT: Final = "text"
NUMBER: Final = "a number"
INTEGER: Final = "a whole number"
FLAG: Final = "true or false"
ANYTHING: Final = "anything"


@dataclass(frozen=True, slots=True)
class Choice:
    """Text, one of `words`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose items all have one shape. ordered: of texts, whether their order means something."""

    item: "Shape"
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from names that the author chooses to values of one shape."""

    value: "Shape"


@dataclass(frozen=True, slots=True)
class Key:
    """What a key of a record holds.

    what      what it says, in one line
    required  a contract without it is refused
    also      other spellings, first one first; two spellings of one key in one mapping contradict each other
    instead   keys of their own that are read in its place where it is missing
    ours      read by pv alone; in a test without falsifiers it may mean something else to somebody else
    kind      the kind of contract that it means something in; "" for all
    asked     the rule that asks for it where it is missing; "" for none, and where `required` is all that there is
    """

    shape: "Shape"
    what: str = ""
    required: bool = False
    also: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    ours: bool = False
    kind: str = ""
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys.

    free   keys that public contracts have there and nothing reads, each with a hint or ""
    spelt  every spelling of every key
    """

    keys: Mapping[str, Key]
    free: Mapping[str, str] = field(default_factory=dict)
    spelt: Mapping[str, Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spelt = {word: key for name, key in self.keys.items() for word in (name, *key.also)}
        assert len(spelt) == sum(1 + len(key.also) for key in self.keys.values()), "two keys share a spelling"
        assert not self.free.keys() & spelt.keys(), "a key is both read and free"
        object.__setattr__(self, "spelt", spelt)


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from names to records, or a list of records that carry their name as `id`."""

    record: Record


Shape: TypeAlias = str | Choice | ListOf | MapOf | Record | Named


def inner(shape: ListOf | MapOf | Named) -> Shape:
    """The shape of what a list or a mapping of names holds."""
    return shape.item if isinstance(shape, ListOf) else shape.value if isinstance(shape, MapOf) else shape.record


def records(value: Any, shape: Shape, place: Path = ()) -> Iterator[tuple[Path, dict[str, Any], Record]]:
    """Every mapping in a value that a record describes, with its place; what has another type is left out."""
    if isinstance(shape, Record) and isinstance(value, dict):
        yield place, value, shape
        for word, item in value.items():
            if key := shape.spelt.get(word):
                yield from records(item, key.shape, (*place, word))
    elif isinstance(shape, ListOf | Named) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from records(item, inner(shape), (*place, index))
    elif isinstance(shape, MapOf | Named) and isinstance(value, dict):
        for name, item in value.items():
            yield from records(item, inner(shape), (*place, name))


TYPE, REQUIRED, CHOICE, LOOSE = "type", "required", "choice", "loose"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A value that has not the shape it must have.

    kind   TYPE: another type; REQUIRED: the entry at `place` lacks a key; CHOICE: a word that is none of the known;
           LOOSE: a number, or true or false, where text is meant: it is read as the text that was written
    ours   the key means something to pv alone
    empty  null where text belongs: public tools read it as an empty text
    """

    kind: str
    place: Path
    message: str
    hint: str = ""
    ours: bool = False
    empty: bool = False


def reads(record: Record, place: Path) -> bool:
    """Whether who reads the record reads what stands at a place: no key on the way there is an unknown one."""
    shape: Shape = record
    for step in place:
        if isinstance(shape, Record) and step != "<<":
            key = shape.spelt.get(str(step))
            if key is None:
                return False
            shape = key.shape
        elif isinstance(shape, ListOf | MapOf | Named) and step != "<<":
            shape = inner(shape)
        else:
            return True
    return True


def mismatches(document: Document, record: Record) -> Iterator[Mismatch]:
    """Where the document differs from the record's shape. A key whose value is null counts as one that is missing.

    pv.schema says the same as a JSON Schema.
    """
    if isinstance(document.value, dict):
        yield from _in_record(document.value, record, ())


def _in_record(value: dict[str, Any], record: Record, place: Path) -> Iterator[Mismatch]:
    for word, item in value.items():
        key = record.spelt.get(word)
        if key is not None and item is not None:
            for found in _in_value(item, key.shape, (*place, word)):
                yield replace(found, ours=True) if key.ours else found
    for name, key in record.keys.items():
        if key.required and all(value.get(word) is None for word in (name, *key.also)):
            empty = next((word for word in (name, *key.also) if word in value), None)
            owner = named(place) if place else "the contract"
            where, null = (place, False) if empty is None else ((*place, empty), key.shape is TEXT)
            yield Mismatch(REQUIRED, where, f"{owner} lacks {name!r}", empty=null)


def _in_value(value: Any, shape: Shape, place: Path) -> Iterator[Mismatch]:
    if isinstance(shape, str):
        if not _SCALARS[shape](value):
            yield _wrong(value, shape, place)
        elif shape is TEXT and not isinstance(value, str):
            what = f"{named(place)} is {described(value)}, and text is meant here"
            yield Mismatch(LOOSE, place, what, "write the text, or put it in quotes")
    elif isinstance(shape, Choice):
        if not isinstance(value, str):
            yield _wrong(value, TEXT, place)
        elif value not in shape.words:
            yield Mismatch(CHOICE, place, f"{named(place)}: {value!r} is not known", nearest(value, shape.words))
    elif isinstance(shape, ListOf):
        if not isinstance(value, list):
            yield _wrong(value, "a list", place)
            return
        for index, item in enumerate(value):
            yield from _in_value(item, shape.item, (*place, index))
    elif isinstance(shape, Named) and isinstance(value, list):
        yield from _in_value(value, ListOf(shape.record), place)
    elif not isinstance(value, dict):
        yield _wrong(value, "a mapping", place)
    elif isinstance(shape, Record):
        yield from _in_record(value, shape, place)
    else:
        for name, item in value.items():
            yield from _in_value(item, inner(shape), (*place, name))


_SCALARS: dict[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str | int | float),  # 1.0 and true are text where text is wanted
    NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    INTEGER: lambda value: isinstance(value, int) and not isinstance(value, bool),
    FLAG: lambda value: isinstance(value, bool),
    ANYTHING: lambda value: True,
}


def _wrong(value: Any, wanted: str, place: Path) -> Mismatch:
    hint = ""
    if wanted == TEXT and isinstance(value, dict):
        hint = "text with ': ' in it needs quotes"
    elif wanted == TEXT and isinstance(value, list):
        hint = "text that begins with '[' needs quotes; several lines go below '|'"
    elif wanted == "a list":
        hint = "put each item on a line of its own, behind '- '"
    elif wanted in (NUMBER, INTEGER) and isinstance(value, str):
        hint = "write it without quotes and units"
    empty = value is None and wanted == TEXT
    return Mismatch(TYPE, place, f"{named(place)} must be {wanted}, not {described(value)}", hint, empty=empty)


def named(place: Path) -> str:
    """A place in words: falsification_tests[2].prediction."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def described(value: Any) -> str:
    """A value's type in words, with the value where it is short."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else "text"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return str(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word that was probably meant, or all of them; at most 64 words are looked at."""
    from difflib import get_close_matches

    words = list(islice(known, 64))
    close = get_close_matches(word[:100], words, n=1) or get_close_matches(word[:100].lower(), words, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words[:32])}{', ..' if len(words) > 32 else ''}" if words else "there is none"
