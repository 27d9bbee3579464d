"""What rules about several contracts look at: the few facts of each that are left once it is read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pv.contract import Contract, Entry
from pv.yaml_loader import Path as Place
from pv.yaml_loader import Position

if TYPE_CHECKING:
    from pv.bindings import Registry

EVENTS = ("measured_on", "recorded_on")
"""Keys of a ledger of comparisons whose dates tell when something happened."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a contract, and where it stands."""

    name: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A contract in short.

    tests       ids of its falsification tests, an empty one where a test has none
    depends_on  names of other contracts
    bound       how many tests name falsifiers that can be planned, so that something runs them
    ours        whether a test is written for pv
    dates       every date in a ledger of comparisons: today decides whether it may stand there, so no cache may
    events      those of them that tell when something happened
    claimed     the dates on which a claim hangs: of a benchmark's baseline, and the last one of each row that is BETTER
    equations   by name
    registries  of bindings, those that count for the contract: `pv lint` attaches them, they are not read from it
    """

    path: Path
    stem: str
    kind: str
    version: str
    tests: tuple[Mention, ...]
    depends_on: tuple[Mention, ...]
    bound: int
    ours: bool
    dates: tuple[Mention, ...] = ()
    events: tuple[Mention, ...] = ()
    claimed: tuple[Mention, ...] = ()
    equations: tuple[Mention, ...] = ()
    registries: tuple["Registry", ...] = ()


def stem_of(name: str) -> str:
    """The stem of the contract that a text in depends_on names, with or without folders and `.yaml`."""
    return name.strip().replace("\\", "/").rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")


def facts_of(contract: Contract) -> Facts:
    document = contract.document
    metadata = contract.root.entry("metadata")
    names = metadata.raw.get("depends_on") if metadata else None
    dated = list(_dates(document.value, ())) if contract.kind == "competitive-parity" else []
    dates = [(place, Mention(text, document.position(place))) for place, text in dated]
    return Facts(
        path=contract.path,
        stem=contract.stem,
        kind=contract.kind,
        version=contract.version,
        tests=tuple(Mention(test.id, test.position) for test in contract.tests),
        depends_on=tuple(
            Mention(text or "", document.position(("metadata", "depends_on", index)))
            for index, name in enumerate(names if isinstance(names, list) else ())
            for text in [name if isinstance(name, str) else document.source(("metadata", "depends_on", index))]
            if text or isinstance(name, str)  # one that is empty is a name too, of no contract
        ),
        bound=sum(test.bound for test in contract.tests),
        ours=any(test.ours for test in contract.tests),
        dates=tuple(mention for _, mention in dates),
        events=tuple(mention for place, mention in dates if place[:1] == ("parity",) and place[-1] in EVENTS),
        claimed=tuple(Mention(entry.text(key), document.position(entry.at(key))) for entry, key in _claimed(contract)),
        equations=tuple(Mention(name, document.position(place)) for name, place in _equations(contract)),
    )


def _claimed(contract: Contract) -> Iterator[tuple[Entry, str]]:
    """Entries that claim something, with the key of the date on which that hangs."""
    if contract.kind == "beat-benchmark" and (beat := contract.root.entry("beat")):
        yield beat, "baseline_sourced_date"
    elif contract.kind == "competitive-parity" and (ledger := contract.root.entry("parity")):
        yield from ((row, "valid_until") for row in ledger.entries("rows") if row.text("verdict").strip() == "BETTER")


def _equations(contract: Contract) -> Iterator[tuple[str, Place]]:
    """The names of all equations, with their places."""
    if isinstance(contract.root.raw.get("equations"), dict):
        yield from ((name, ("equations", name)) for name in contract.equations)
    else:
        yield from ((name, entry.place) for name, entry in contract.equation_entries())


def iso_date(text: str) -> date | None:
    """The day that a text of the form YYYY-MM-DD names; None for any other text and for a day that no month has."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None


def _dates(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """The texts in a document that are a date and nothing else, under whatever key."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _dates(inner, (*place, step))
    elif isinstance(value, str) and iso_date(value):
        yield place, value.strip()
