"""Rules of the public tool for kaizen records, under the same ids.

A record says what was measured before a change (baseline) and what shall be measured after it (target), or holds
invariants that the change keeps; a baseline may also hold both sides itself, as before and after.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pv.contract import Contract, Entry
from pv.findings import ERROR, Hit, rule
from pv.shapes import described, nearest

if TYPE_CHECKING:
    from fractions import Fraction

STATUSES = ("draft", "implemented", "implementing", "pending", "planned")
CLAIMS = ("invariants", "proof_obligations", "falsification_tests")
COSTS = ("alloc", "bytes", "churn", "launch", "overhead", "sync", "wasted", "_us", "_ms")
"""Parts of names of metrics of which less is better; of any other, say batch_size, nobody can know."""

NUMBER = r"-?(?:[0-9][0-9_]{0,99}(?:\.[0-9]{0,99})?|\.[0-9]{1,99})"
UNIT = r"[%+x]|[KMG]i?B|B|ms|us|s"
QUANTITY = re.compile(rf"(?:<=|>=|<|>|~)?\s*({NUMBER})\s*({UNIT})?")
"""'<5', '100%', '1_310_720', '6 ms'; a date or a name with a number in it is none."""
UNITS = (
    {"%": ("percentage", 1), "x": ("ratio", 1)}
    | {"us": ("time", 1), "ms": ("time", 10**3), "s": ("time", 10**6)}
    | {"B": ("size", 1), "KB": ("size", 10**3), "MB": ("size", 10**6), "GB": ("size", 10**9)}
    | {"KiB": ("size", 2**10), "MiB": ("size", 2**20), "GiB": ("size", 2**30)}
)
"""What a unit measures, and how often the smallest one fits in."""


@dataclass(frozen=True, slots=True)
class Move:
    """A metric that is a number before and after, both in one unit where both have one; as written in `shown`."""

    metric: str
    before: "Fraction"
    after: "Fraction"
    shown: str

    @property
    def still(self) -> bool:
        return self.before == self.after

    @property
    def is_cost(self) -> bool:
        return any(part in self.metric.lower() for part in COSTS)


def _record(contract: Contract) -> Iterator[Entry]:
    if contract.kind == "kaizen":
        yield contract.root


@rule("KAIZEN-001", ERROR, "a kaizen record has an id under contract")
def identity(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        if not record.text("contract").strip():
            hint = "contract: C-NAME-001, which is what other documents call the record"
            yield Hit(("contract",), f"the record has no id: contract {_state(record, 'contract')}", hint)


@rule("KAIZEN-002", ERROR, "the status of a kaizen record is one of five words")
def status(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        text = record.text("status").strip()
        if text not in STATUSES:
            yield Hit(("status",), f"the record's status {_state(record, 'status')}", nearest(text, STATUSES))


@rule("KAIZEN-003", ERROR, "a kaizen record states something that can fail")
def claim(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        if _sides(record) is None and not any(record.raw.get(key) for key in CLAIMS):
            hint = "give baseline and target, or invariants, proof_obligations or falsification_tests"
            yield Hit(("baseline",), "the record states nothing that a measurement could contradict", hint)


@rule("KAIZEN-004", ERROR, "the target of a kaizen record has a baseline with a metric in common")
def comparable(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        value = record.raw.get("target")
        baseline, target = record.entry("baseline"), record.entry("target")
        hint = "give both as mappings from metrics to numbers, with the same names"
        if value is None:
            continue
        if target is None:
            yield Hit(("target",), f"target must be a mapping, not {described(value)}", hint)
        elif baseline is None:
            yield Hit(("target",), "the target has no baseline to be compared with", hint)
        elif not baseline.raw.keys() & target.raw.keys():
            yield Hit(("target",), "baseline and target have no metric in common", hint)


@rule("KAIZEN-005", ERROR, "a metric of a kaizen record moves")
def movement(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        sides = _sides(record)
        if sides is None or (sides[1].place == ("target",) and not sides[0].raw.keys() & sides[1].raw.keys()):
            continue  # the latter breaks KAIZEN-004
        moves = list(_moves(*sides))
        if not moves:
            hint = "a number, with a unit at most, such as 40.34, '6 ms' or '100%'"
            yield Hit(sides[1].place, "no metric is a number both before and after", hint)
        elif all(move.still for move in moves):
            what = f"no metric moves: {', '.join(move.shown for move in moves)}"
            yield Hit(sides[1].place, what, "what does not move cannot be missed: give the target that is aimed at")


@rule("KAIZEN-006", ERROR, "a cost falls where a kaizen record lets costs rise")
def costs(contract: Contract) -> Iterator[Hit]:
    for record in _record(contract):
        sides = _sides(record)
        moved = [move for move in _moves(*sides) if move.is_cost and not move.still] if sides else []
        if sides and moved and all(move.after > move.before for move in moved):
            hint = "are both sides the wrong way round? The baseline is what was measured before"
            yield Hit(sides[1].place, f"costs rise and none falls: {', '.join(move.shown for move in moved)}", hint)


def _state(record: Entry, key: str) -> str:
    value = record.raw.get(key)
    return "is missing" if value is None else f"is {described(value)}"


def _sides(record: Entry) -> tuple[Entry, Entry] | None:
    """What was measured before and what after; None where the record does not give both."""
    baseline = record.entry("baseline")
    if baseline is None:
        return None
    before, after = baseline.entry("before"), baseline.entry("after")
    if before and after:
        return before, after
    target = record.entry("target")
    return (baseline, target) if target else None


def _moves(before: Entry, after: Entry) -> Iterator[Move]:
    for name in before.raw:
        was, becomes = _quantity(before, name), _quantity(after, name)
        if was is None or becomes is None:
            continue
        (low, unit), (high, other) = was, becomes
        if unit and other:
            (what, scale), (what_else, scale_else) = UNITS[unit], UNITS[other]
            if what != what_else:
                continue
            low, high = low * scale, high * scale_else
        yield Move(name, low, high, f"{name} {before.text(name).strip()} -> {after.text(name).strip()}")


def _quantity(side: Entry, name: str) -> "tuple[Fraction, str] | None":
    """A number and its unit, empty where it has none. None for anything else."""
    from fractions import Fraction  # exact: a byte more in a terabyte is a move

    value = side.raw.get(name)
    if isinstance(value, str) and (found := QUANTITY.fullmatch(value.strip())):
        return Fraction(found[1].replace("_", "")), (found[2] or "").replace("+", "")
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value), ""
    if isinstance(value, float) and math.isfinite(value):
        return Fraction(repr(value)), ""  # 0.1 is a tenth, as the text '0.1' is
    return None
