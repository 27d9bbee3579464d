"""Rules about keys that nobody reads: misspelt ones, ones in the wrong place, and ones that mean nothing here.

Such a key is no error: contracts carry keys for other tools. But what stands under it counts for nothing, and an author
who believes otherwise has to be told.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pv.contract import MAX_STRAYS, Contract
from pv.findings import ERROR, NOTE, RULES, WARNING, Hit, rule
from pv.shapes import ListOf, MapOf, Named, Record, Shape, inner, named
from pv.slips import slips
from pv.vocabulary import CONTRACT
from pv.yaml_loader import Document, Path

COMMON = frozenset(("id", "name", "type", "description", "status", "title", "date", "version", "note", "notes"))
"""Words that mean something wherever they stand: no sign of a wrong place."""
BINDING = "falsifiers"
"""The key that makes a test one of ours: where it is misspelt, no other key of ours gives the test away."""


@dataclass(frozen=True, slots=True)
class Node:
    """A record in the document; `section` is its place as the vocabulary has it, without indices and names."""

    value: Mapping[str, Any]
    record: Record
    place: Path
    section: str


@dataclass(frozen=True, slots=True)
class Stray:
    """A key that is not read where it stands; `nodes` go from the contract down to the record that holds it.

    kind    of the contract
    known   the keys of that record which may be meant
    beside  the records that stand under other keys of it: (key, record)
    rest    how many keys it stands for, itself among them, where they are too many to look at each; else 0
    """

    name: str
    nodes: tuple[Node, ...]
    kind: str
    known: tuple[str, ...]
    beside: tuple[tuple[str, Record], ...]
    rest: int = 0

    @property
    def place(self) -> Path:
        return (*self.nodes[-1].place, self.name)


@rule("PV-KEY-001", WARNING, "no key is a misspelt known one, or stands where it is not read")
def misspelt_or_misplaced(contract: Contract) -> Iterator[Hit]:
    for stray in _strays(contract):
        if stray.rest:
            what = f"from {named(stray.place)} on, {stray.rest} more keys of the same mapping are not read"
            yield Hit(stray.place, what, "they are too many to be compared with known ones: look for slips yourself")
        elif meant := _meant(stray):
            yield Hit(stray.place, f"{named(stray.place)} is not read", meant)


@rule("PV-KEY-002", NOTE, "every key is read")
def unread(contract: Contract) -> Iterator[Hit]:
    found: dict[tuple[str, str], list[Stray]] = {}
    for stray in _strays(contract):
        if not stray.rest and not _meant(stray):
            found.setdefault((stray.nodes[-1].section, stray.name), []).append(stray)
    for strays in found.values():
        first, others = strays[0], len(strays) - 1
        more = f", nor in {others} more place{'s' if others > 1 else ''}" if others else ""
        yield Hit(first.place, f"{named(first.place)} is not read{more}", _elsewhere(first))


@rule("PV-KEY-003", ERROR, "no mapping has a value under two spellings of one key")
def two_spellings(contract: Contract) -> Iterator[Hit]:
    foreign = not contract.ours  # the public tool's first version knew one spelling
    for nodes in _nodes(contract.document):
        value, place = nodes[-1].value, nodes[-1].place
        for name, key in nodes[-1].record.keys.items():
            used = [word for word in (name, *key.also) if value.get(word) is not None] if key.also else []
            for word in used[1:]:
                what = f"{named((*place, word))} is another spelling of {used[0]!r}, which stands here too"
                yield Hit((*place, word), what, f"keep one of them: pv reads {used[0]!r}, others refuse both", foreign)


@lru_cache(maxsize=1)  # asked by one rule after the other, about one document
def _nodes(document: Document) -> tuple[tuple[Node, ...], ...]:
    """Every record of the contract, below its parents."""
    return tuple(_below(document.value, CONTRACT, (), "", ()))


def _below(
    value: Any, shape: Shape, place: Path, section: str, parents: tuple[Node, ...]
) -> Iterator[tuple[Node, ...]]:
    if isinstance(shape, Record) and isinstance(value, dict):
        nodes = (*parents, Node(value, shape, place, section))
        yield nodes
        for word, item in value.items():
            key = shape.spelt.get(word)
            if key is not None and not isinstance(key.shape, str):
                yield from _below(item, key.shape, (*place, word), f"{section}.{word}".lstrip("."), nodes)
    elif isinstance(shape, ListOf | Named) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, inner(shape), (*place, index), section, parents)
    elif isinstance(shape, MapOf | Named) and isinstance(value, dict):
        for name, item in value.items():
            yield from _below(item, inner(shape), (*place, name), section, parents)


def _strays(contract: Contract) -> Iterator[Stray]:
    """Every key that is not read, but for those that SCHEMA-018 and SCHEMA-019 report."""
    reported = {
        hit.at for name in ("SCHEMA-018", "SCHEMA-019") if (check := RULES[name].check) for hit in check(contract)
    }
    for nodes in _nodes(contract.document):
        here = nodes[-1]
        unread = [name for name in here.value if not _reads(here.record, name, contract.kind)]
        names = [name for name in unread if (*here.place, name) not in reported]
        if not names:
            continue
        ours = _ours(here) or (not here.place and contract.ours)
        known = tuple(
            word
            for word, key in here.record.spelt.items()
            if key.kind in ("", contract.kind) and (not key.ours or word == BINDING or ours)
        )
        beside = tuple((word, record) for word in here.value if (record := _section(here.record, word)))
        looked_at = len(names) if len(names) <= MAX_STRAYS else MAX_STRAYS - 1
        for name in names[:looked_at]:
            yield Stray(name, nodes, contract.kind, known, beside)
        if rest := names[looked_at:]:
            yield Stray(rest[0], nodes, contract.kind, known, beside, len(rest))


def _meant(stray: Stray) -> str:
    """A hint that says which key was probably meant, or where this one belongs. Empty where neither is likely."""
    name, here = stray.name, stray.nodes[-1]
    if name in here.record.free or name in here.record.spelt:
        return ""
    wrong = {word: distance for word in stray.known if (distance := slips(name, word)) is not None}
    meant = min(wrong, key=lambda word: wrong[word], default="")
    if meant and not wrong[meant]:
        return f"did you mean {meant!r}?"
    if name not in COMMON:
        above = [node for node in stray.nodes[:-1] if name not in node.value]  # a second one means something else
        homes = [node.section for node in above if _reads(node.record, name, stray.kind)]
        homes += [
            f"{here.section}.{word}".lstrip(".")
            for word, record in stray.beside
            if name in record.spelt and name not in (here.value[word] if isinstance(here.value[word], dict) else ())
        ]
        if homes:
            return f"it is read {_in(homes)}: look at the indentation"
    if meant in here.value:  # a second one of its name is meant as such if it is numbered
        return "" if name.rstrip("_0123456789") == meant else f"did you mean {meant!r}, which stands here too?"
    meant = meant or _section_with_a_word_of(stray)
    return f"did you mean {meant!r}?" if meant else ""


def _section_with_a_word_of(stray: Stray) -> str:
    """The section that a contract lacks and a key at its top has a word of, and the form: tests, qa_gate_old."""
    name, here = stray.name, stray.nodes[-1]
    if here.place:
        return ""
    words = set(re.split(r"[\W_]+", name[:100].lower()))
    lacking = [word for word in stray.known if word not in here.value and words & set(word.split("_"))]
    return next((word for word in lacking if _has_form(here.value[name], here.record.spelt[word].shape)), "")


def _has_form(value: Any, shape: Shape) -> bool:
    """Whether a value, which is not empty, could stand where this shape is asked for, as far as its keys go."""
    if isinstance(shape, Record):
        return isinstance(value, dict) and not shape.spelt.keys().isdisjoint(value)
    if isinstance(shape, ListOf | Named) and isinstance(value, list):
        return any(_has_form(item, inner(shape)) for item in value)
    if isinstance(shape, MapOf | Named) and isinstance(value, dict):
        return any(_has_form(item, inner(shape)) or isinstance(inner(shape), str) for item in value.values())
    return False


def _reads(record: Record, name: str, kind: str) -> bool:
    """Whether a key of a record is read in contracts of a kind."""
    key = record.spelt.get(name)
    return key is not None and key.kind in ("", kind)


def _ours(node: Node) -> bool:
    """Whether the record uses a key that pv alone reads, so that others of them may be meant."""
    return any(key.ours for word in node.value if (key := node.record.spelt.get(word)))


def _section(record: Record, name: str) -> Record | None:
    """The record that stands under a key, once or many times."""
    key = record.spelt.get(name)
    shape = key.shape if key else None
    while isinstance(shape, ListOf | MapOf | Named):
        shape = inner(shape)
    return shape if isinstance(shape, Record) else None


def _elsewhere(stray: Stray) -> str:
    """A hint for a key that nothing reads here: what is read instead, or where it would be."""
    here = stray.nodes[-1]
    if key := here.record.spelt.get(stray.name):
        return f"it means something in contracts of kind {key.kind} alone"
    if hint := here.record.free.get(stray.name, ""):
        return hint
    if stray.name in COMMON:
        return ""
    homes = [home for home, record in HOMES.items() if _reads(record, stray.name, stray.kind)]
    return f"it is read {_in(homes)}" if homes else ""


def _in(sections: list[str]) -> str:
    words = [f"in {section}" if section else "at the top of the contract" for section in dict.fromkeys(sections)]
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)


def _homes(shape: Shape, section: str) -> Iterator[tuple[str, Record]]:
    """Every record of a shape, by the place that it has in a contract."""
    if isinstance(shape, Record):
        yield section, shape
        for word, key in shape.keys.items():
            yield from _homes(key.shape, f"{section}.{word}".lstrip("."))
    elif isinstance(shape, ListOf | MapOf | Named):
        yield from _homes(inner(shape), section)


HOMES = dict(_homes(CONTRACT, ""))
