"""The check of `pv gate` about tolerances: of tests, of obligations and of equations."""

from collections.abc import Iterator
from dataclasses import dataclass

from pv.contract import Contract, Entry
from pv.gate_sides import TOLERANCE, Finding, Sides, accepting


@dataclass(frozen=True, slots=True)
class Limit:
    """How far something may go. metric: what is measured; limit: None where a tolerance gives no number.

    floor  whether the limit is held to a measured floor
    """

    metric: str
    limit: float | None
    floor: bool = False


def tolerances(sides: Sides) -> Iterator[Finding]:
    """Tests, obligations and equations that pass what they did not pass before."""
    for old in sides.base.contracts:
        new = sides.contract(sides.stem(old.stem))
        if new is None:
            continue
        before, after = _limits(old), _limits(new)
        for key, (was, _) in before.items():
            if key in after and (words := _loosened(was, after[key][0])):
                hint = f"tighten it again, or accept it: {accepting(new, key[1], TOLERANCE)}"
                yield sides.at(new, after[key][1], TOLERANCE, key[1], f"{key[1]}: {words}", hint)


def _limits(contract: Contract) -> dict[tuple[str, str, int], tuple[Limit | None, int]]:
    """What may have a tolerance, by section, name, and how often the name stood before; with the line of each."""
    found: dict[tuple[str, str, int], tuple[Limit | None, int]] = {}

    def add(section: str, name: str, entry: Entry, key: str, limit: Limit | None) -> None:
        number = 0
        while (section, name, number) in found:
            number += 1
        found[section, name, number] = limit, contract.document.position(entry.at(key)).line

    for test in contract.tests:
        held = test.tolerance
        limit = Limit(held.metric, held.limit, held.floor is not None) if held else None
        add("falsification_tests", test.id, test.entry, "tolerance", limit)
    for entry in contract.root.entries("proof_obligations"):
        name = entry.text("id") or entry.text("property")
        add("proof_obligations", name, entry, "tolerance", _plain(entry, "tolerance"))
    for name, entry in contract.equation_entries():
        add("equations", name, entry, "float_tolerance", _plain(entry, "float_tolerance"))
    return found


def _plain(entry: Entry, key: str) -> Limit | None:
    value = entry.raw.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if value is None else Limit("", float(value) if number else None)


def _loosened(old: Limit | None, new: Limit | None) -> str:
    """How a tolerance is looser than it was; empty where it is not. Where none stood, equal meant equal."""
    if new is None:
        return "" if old is None else f"the tolerance {_number(old)} is gone, and nothing says how far it holds"
    if old is None:
        return "" if new.limit == 0 else f"has a tolerance of {_number(new)} where none stood: equal meant equal"
    if old.metric != new.metric:
        metrics = f"is one of {new.metric or 'nothing'} and was one of {old.metric or 'nothing'}"
        return f"the tolerance {metrics}: the limits cannot be compared"
    if old.limit is None:  # there was no number to hold it to
        return ""
    if new.limit is None or not 0 <= new.limit <= old.limit:
        return f"the tolerance went from {_number(old)} to {_number(new)}"
    if old.floor and not new.floor and new.limit > 0:
        return "the floor of the tolerance is gone, and nothing justifies its limit"
    return ""


def _number(limit: Limit) -> str:
    return "no number" if limit.limit is None else f"{limit.limit:g}"
