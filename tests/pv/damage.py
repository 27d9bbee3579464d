"""Damaged contracts, made of sound ones: what a slip of an author, or of a disk, leaves behind."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from pv.shapes import ANYTHING, Choice, Key, ListOf, MapOf, Named, Record, Shape, inner
from pv.vocabulary import CONTRACT
from pv.yaml_loader import Document, YamlError, load, parse
from pv.yaml_loader import Path as Place


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged contract.

    source  the sound one
    lines   a finding is due in one of them: the damaged line, or that of its parent where the thing is gone. Empty
            where nothing is claimed but that a verdict comes of it.
    """

    kind: str
    what: str
    source: Path
    data: bytes
    lines: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Spot:
    """A known key of a record in a document: its place, the record, and what its value is."""

    place: Place
    record: Record
    shape: Shape
    value: Any

    @property
    def section(self) -> str:
        return str(self.place[0]) if len(self.place) > 1 else ""

    @property
    def name(self) -> str:
        return str(self.place[-1])

    @property
    def key(self) -> Key:
        return self.record.spelt[self.name]


WITHIN_OURS = ("PV-LINK-003",)
"""Rules that ask for a key in contracts with a test that names falsifiers alone."""
LISTED = ("falsification_tests", "kani_harnesses", "proof_obligations", "equations")
"""Sections whose entries have ids."""
REFERENCES = ("binds_to", "obligations", "depends_on", "parent_contract")
"""Keys whose values name something in this contract, or another contract."""


def damages(sources: list[Path], seed: int) -> list[Damage]:
    """200 damaged contracts: 25 of each kind of slip, and 50 by bytes. The same seed gives the same."""
    rng = random.Random(seed)
    texts = [(source, source.read_text(encoding="utf-8")) for source in sources]
    documents = [(source, load(text, str(source))) for source, text in texts]
    found = []
    for make in (renamed, dropped, duplicated, retyped, reused, broken):
        candidates = [damage for source, document in documents for damage in make(source, document, rng)]
        rng.shuffle(candidates)
        found += islice(filter(readable, candidates), 25)
    while len(found) < 200:
        source = rng.choice(sources)
        found.append(by_bytes(source, source.read_bytes(), rng))
    return found


def readable(damage: Damage) -> bool:
    """Whether it is YAML still: a slip is to be found by what the contract says."""
    try:
        parse(damage.data, str(damage.source))
    except YamlError:
        return False
    return True


def renamed(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """A known key with a slip of the pen."""
    for spot in spots(document):
        start = key_index(document, spot.place)
        if spot.name not in spot.record.spelt or not document.text.startswith(spot.name, start) or len(spot.name) < 4:
            continue
        at = rng.randrange(1, len(spot.name) - 1)
        word = spot.name[:at] + spot.name[at + 1] + spot.name[at] + spot.name[at + 2 :]
        if word not in spot.record.spelt and word not in spot.record.free and word != spot.name:
            text = document.text[:start] + word + document.text[start + len(spot.name) :]
            lines = {line_at(text, start), document.position(spot.place[:-1]).line}
            yield Damage("renamed", f"{spot.place} -> {word}", source, text.encode(), frozenset(lines))


def dropped(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """A key that the vocabulary requires, or that a rule asks for, is gone with its value."""
    for spot in spots(document):
        extent = extent_of(document, spot.place)
        if due(document, spot) and extent:
            text = document.text[: extent[0]] + document.text[extent[1] :]
            lines = {document.position(spot.place[:-1]).line}
            if spot.name == "mutants":  # they are missed by what should catch them
                lines.add(document.position((*spot.place[:-1], "falsifiers")).line)
            yield Damage("dropped", str(spot.place), source, text.encode(), frozenset(lines))


def due(document: Document, spot: Spot) -> bool:
    """Whether a contract does not go without a key. What pv alone asks for is due where a test names falsifiers."""
    around = document.value
    for step in spot.place[:-1]:
        around = around[step]
    if spot.key.ours and ("falsifiers" not in around or "covers" in around):
        return False
    tests = document.value.get("falsification_tests") or []
    if spot.key.asked in WITHIN_OURS and not any("falsifiers" in test for test in tests):
        return False
    return spot.key.required or spot.key.asked != ""


def lost_sections(source: Path, document: Document) -> Iterator[tuple[str, Damage]]:
    """By its name, a section of the contract that is gone."""
    for section in document.value:
        extent = extent_of(document, (section,))
        if section in CONTRACT.spelt and extent:
            text = document.text[: extent[0]] + document.text[extent[1] :]
            yield section, Damage("lost", section, source, text.encode())


def misnamed_sections(source: Path, document: Document) -> Iterator[Damage]:
    """A section of the contract under another name: a slip in each place, another number or case, or a part of it."""
    for section in document.value:
        start = key_index(document, (section,))
        if section not in CONTRACT.spelt or not document.text.startswith(section, start):
            continue
        slips = [section[:at] + section[at + 1 :] for at in range(0, len(section), 3)]
        slips += [
            section[:at] + section[at + 1] + section[at] + section[at + 2 :] for at in range(1, len(section) - 1, 3)
        ]
        forms = [f"{section}s", section.title(), section.replace("_", "-"), section.replace("_", "")]
        parts = [*section.split("_"), f"{section}_old", f"my_{section}"]
        for word in dict.fromkeys([*slips, *forms, *parts]):
            if word not in CONTRACT.spelt and not word.startswith(("-", " ")) and word:
                text = document.text[:start] + word + document.text[start + len(section) :]
                line = frozenset({line_at(text, start)})
                yield Damage("misnamed", f"{section} -> {word}", source, text.encode(), line)


def duplicated(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """A key stands twice in its mapping."""
    for spot in spots(document):
        extent = extent_of(document, spot.place)
        if extent and document.text[extent[0]] not in ",\n":  # not the last one, whose extent begins before its key
            chunk = document.text[slice(*extent)]
            text = document.text[: extent[1]] + chunk + document.text[extent[1] :]
            yield Damage("duplicated", str(spot.place), source, text.encode(), frozenset({line_at(text, extent[1])}))


def retyped(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """A value has another type than its key asks for."""
    for spot in spots(document):
        span = document.span(spot.place)
        scalar = isinstance(spot.shape, Choice) or (isinstance(spot.shape, str) and spot.shape != ANYTHING)
        if span and spot.value is not None and (scalar or isinstance(spot.shape, ListOf | MapOf | Named | Record)):
            wrong = rng.choice(["{damaged: 1}", "[damaged]"]) if scalar else "17"
            text = document.text[: span.start_index] + wrong + document.text[span.end_index :]
            if not scalar and "\n" in document.text[key_index(document, spot.place) : span.start_index]:
                text = document.text[: span.start_index] + wrong + "\n" + document.text[span.end_index :].lstrip("\n")
            lines = {document.position(spot.place).line, line_at(text, span.start_index)}
            yield Damage("retyped", f"{spot.place}: {wrong}", source, text.encode(), frozenset(lines))


def reused(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """An entry has the id of another one of its section."""
    for section in LISTED:
        entries = document.value.get(section)
        listed = entries if isinstance(entries, list) else []
        for first, second in pairwise((section, index, "id") for index, entry in enumerate(listed) if "id" in entry):
            text = replaced(document, second, listed[first[1]]["id"])
            line = document.position(second).line
            yield Damage("reused", f"{second} like {first}", source, text.encode(), frozenset({line}))


def broken(source: Path, document: Document, rng: random.Random) -> Iterator[Damage]:
    """A name of something that there is not."""
    for spot in spots(document):
        if spot.name not in REFERENCES or not spot.section or "coq" in spot.section:
            continue
        places = (
            [spot.place] if isinstance(spot.value, str) else [(*spot.place, i) for i in range(len(spot.value or ()))]
        )
        for place in places:
            text = replaced(document, place, "no-such-thing")
            line = document.position(place).line
            yield Damage("broken", str(place), source, text.encode(), frozenset({line}))


def by_bytes(source: Path, data: bytes, rng: random.Random) -> Damage:
    """Bits that flipped, a part that is missing, a part of something else."""
    at = rng.randrange(len(data))
    what = rng.choice(["flipped", "cut off", "a hole", "noise"])
    if what == "flipped":
        data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    elif what == "cut off":
        data = data[:at]
    elif what == "a hole":
        data = data[:at] + data[at + rng.randrange(1, 200) :]
    else:
        data = data[:at] + rng.randbytes(rng.randrange(1, 20)) + data[at:]
    return Damage("bytes", f"{what} at {at}", source, data)


# -- places in a document ---------------------------------------------------------------------------------------------


def spots(document: Document) -> Iterator[Spot]:
    yield from _below(document.value, CONTRACT, ())


def _below(value: Any, shape: Shape, place: Place) -> Iterator[Spot]:
    if isinstance(shape, Record) and isinstance(value, dict):
        for word, item in value.items():
            if key := shape.spelt.get(word):
                yield Spot((*place, word), shape, key.shape, item)
                yield from _below(item, key.shape, (*place, word))
    elif isinstance(shape, ListOf | Named) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, inner(shape), (*place, index))
    elif isinstance(shape, MapOf | Named) and isinstance(value, dict):
        for name, item in value.items():
            yield from _below(item, inner(shape), (*place, name))


def key_index(document: Document, place: Place) -> int:
    """Where the entry at a place begins in the text."""
    at = document.position(place)
    starts = [0, *(found.end() for found in re.finditer(r"\n", document.text))]
    return starts[at.line - 1] + at.column - 1


def extent_of(document: Document, place: Place) -> tuple[int, int] | None:
    """What of the text to take out for a key to be gone, and the rest to be as it was. None for an only key."""
    around = document.value
    for step in place[:-1]:
        around = around[step]
    keys = list(around)
    index = keys.index(place[-1])
    if index + 1 < len(keys):
        return key_index(document, place), key_index(document, (*place[:-1], keys[index + 1]))
    span, before = document.span(place), document.span((*place[:-1], keys[index - 1])) if index else None
    return (before.end_index, span.end_index) if span and before else None


def replaced(document: Document, place: Place, word: str) -> str:
    span = document.span(place)
    assert span
    return document.text[: span.start_index] + word + document.text[span.end_index :]


def line_at(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1
