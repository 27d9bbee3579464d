"""Rules about what YAML readers disagree on: pv reads YAML 1.2, many tools around it (PyYAML) YAML 1.1.

Of scalars, those are looked at whose type matters, which are those of known keys. What PyYAML makes of them is asked of
PyYAML. `pv validate` warns where a value decides something (a number, an id, a version, a level, a domain), `pv lint`
notes it of text that people read. Merge keys and tags are refused by the reader (PV-YAML-001) where pv reads, and told
here where nobody does.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from pv.contract import Contract
from pv.findings import NOTE, WARNING, Hit, rule
from pv.shapes import Choice, ListOf, MapOf, Named, Record, Shape, inner, named
from pv.vocabulary import CONTRACT
from pv.yaml_loader import Document, Path

WORD = r"[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF"
NUMBER = r"[-+]?\.?[0-9][-+0-9._:xXoOa-fA-FTtZz]*"
PLAIN = re.compile(rf"{WORD}|{NUMBER}")
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
AGREED = rf"-?(?:0|[1-9][0-9]{{0,8}})(?:\.(?:[0-9]|[0-9]{{1,5}}[1-9]))?|{DATE}"
END = r"[ \t]*(?:[,\]}:#\r\n]|$)"
START = r"[:\-?,\[{\r\n'\"](?:[ \t]+|(?<![:\-?]))(?=[yYnNoO0-9.+-])"
SUSPECT = re.compile(rf"{START}(?!(?:{AGREED}){END})(?:{WORD}|{NUMBER}){END}")
DAY = re.compile(
    DATE + "".join(rf"(?<!{key}: {'.' * 10})" for key in ("created", "updated", "date", "_on", "until")) + END
)
"""Where a text has these nowhere, readers agree on all that matters, and nobody has to look at its values."""


DECIDING = frozenset(
    (
        *("id", "version", "domain", "codomain", "status", "kind", "type", "enforcement_level", "locked_level"),
        *("binds_to", "obligations", "obligation", "falsifiers", "mutants", "models", "metric", "covers"),
        *("depends_on", "applies_to", "applies_to_phase", "requires", "parent_contract", "links_to", "contract"),
    )
)
"""Keys whose text, or each text in whose list, is compared, looked up or judged."""


class _Scalar(NamedTuple):
    """A plain scalar: its place, the shape of what belongs there, its value, and as it was written."""

    place: Path
    shape: Shape
    value: Any
    source: str
    name: bool = False  # whether it is the key at that place

    @property
    def decides(self) -> bool:
        """Whether something is looked up by it, or judged."""
        if self.name:
            return self.place[0] == "equations"  # tests bind to these by name
        keys = [step for step in self.place if isinstance(step, str)]
        return keys[-1] in DECIDING or keys[-2:-1] == ["falsifiers"]


@rule("PV-YAML-003", NOTE, "text that other YAML readers take for something else stands in quotes", lint=True)
def quoted(contract: Contract) -> Iterator[Hit]:
    for scalar in _scalars(contract.document):
        if not scalar.decides:
            yield from _misread(scalar, scalar.value, _read_by_1_1(scalar.source))


@rule("PV-YAML-006", WARNING, "an id, a version, a level or a domain is text to every YAML reader, or stands in quotes")
def quoted_where_it_decides(contract: Contract) -> Iterator[Hit]:
    for scalar in _scalars(contract.document):
        told = not isinstance(scalar.value, str) and scalar.place != ("metadata", "version")  # by PV-TYPE-005
        if scalar.decides and not told:
            yield from _misread(scalar, scalar.value, _read_by_1_1(scalar.source))


def _misread(scalar: _Scalar, *readings: Any) -> Iterator[Hit]:
    """A hit for a text of which one of the readings is no text, and is not printed as it was written."""
    if scalar.shape == "text" or isinstance(scalar.shape, Choice):
        for reading in readings:
            dated = scalar.decides and isinstance(reading, date)  # a day prints as it was written, and is no text
            if not isinstance(reading, str) and (dated or str(reading).lower() != scalar.source.lower()):
                what = f"the name {scalar.source}" if scalar.name else f"{named(scalar.place)}: {scalar.source}"
                hint = f'write "{scalar.source}"'
                yield Hit(scalar.place, f"{what} without quotes is {_shown(reading)} to other YAML readers", hint)
                break


@rule("PV-YAML-004", WARNING, "a number is the same to YAML 1.1 and to YAML 1.2")
def same_number(contract: Contract) -> Iterator[Hit]:
    for scalar in _scalars(contract.document):
        if scalar.shape in ("a number", "a whole number") and type(scalar.value) in (int, float):
            theirs = _read_by_1_1(scalar.source)
            if repr(theirs) != repr(scalar.value):
                what = f"{named(scalar.place)}: {scalar.source} is {_shown(theirs)} to a YAML 1.1 reader"
                yield Hit(scalar.place, what, f"write {_unambiguous(scalar.value)}")


@rule("PV-YAML-005", WARNING, "a contract has no merge keys and no tags, in parts that pv does not read neither")
def odd_yaml(contract: Contract) -> Iterator[Hit]:
    for merge, noun in ((True, "merge keys"), (False, "tags")):
        odd = [each for each in contract.document.oddities if each.merge is merge]
        if odd:
            more = f" ({len(odd)} {noun} in all)" if len(odd) > 1 else ""
            yield Hit(odd[0].at, f"{odd[0].message}; nothing reads this part{more}", odd[0].hint)


@lru_cache(maxsize=1)  # asked by one rule after the other, about one document
def _scalars(document: Document) -> tuple[_Scalar, ...]:
    if not (SUSPECT.search(document.text) or DAY.search(document.text)):
        return ()
    return tuple(_in_value(document, document.value, CONTRACT, ()))


def _in_value(document: Document, value: Any, shape: Shape, place: Path) -> Iterator[_Scalar]:
    """The plain scalars that readers may disagree on; what has another shape than it must is PV-TYPE-001's."""
    if isinstance(shape, str | Choice):
        doubted = not isinstance(value, str) or PLAIN.fullmatch(value)  # what is plain is written as it is read
        if doubted and (source := _plain(document, place)) is not None:
            yield _Scalar(place, shape, value, source)
    elif isinstance(shape, Record) and isinstance(value, dict):
        for word, item in value.items():
            if (key := shape.spelt.get(word)) is not None:
                yield from _in_value(document, item, key.shape, (*place, word))
    elif isinstance(shape, ListOf | Named) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _in_value(document, item, inner(shape), (*place, index))
    elif isinstance(shape, MapOf | Named) and isinstance(value, dict):
        for name, item in value.items():
            if PLAIN.fullmatch(name) and _begins(document, (*place, name), name):
                yield _Scalar((*place, name), "text", name, name, name=True)
            yield from _in_value(document, item, inner(shape), (*place, name))


def _plain(document: Document, place: Path) -> str | None:
    """The scalar at a place as it was written; None where it is quoted, or where no reader doubts it."""
    source = document.source(place)
    if source is None or not PLAIN.fullmatch(source):
        return None
    span = document.span(place)
    return source if span and document.text.startswith(source, span.start_index) else None


def _begins(document: Document, place: Path, word: str) -> bool:
    """Whether the key at a place is written as it is, without quotes."""
    at = document.position(place)
    lines = document.text.removeprefix("\ufeff").splitlines()
    return len(lines) >= at.line and lines[at.line - 1].startswith(word, at.column - 1)


@lru_cache(maxsize=4096)
def _read_by_1_1(source: str) -> Any:
    """What PyYAML makes of a plain scalar; the text itself where it makes nothing of it."""
    try:
        return yaml.load(source, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError):  # a date such as 2026-02-31
        return source


def _shown(reading: Any) -> str:
    if isinstance(reading, bool):
        return str(reading).lower()
    if isinstance(reading, str):
        return "text"
    if isinstance(reading, int | float):
        return f"the number {reading}"
    return f"the {'time' if isinstance(reading, datetime) else 'date'} {reading}"


def _unambiguous(number: float) -> str:
    """The number in a form that both versions read alike."""
    mantissa, e, exponent = repr(number).partition("e")
    if not e:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent if exponent[0] in '+-' else '+' + exponent}"
