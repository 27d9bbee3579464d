"""Rules of `pv lint` about the record `evidence` that public contracts carry, under the public tool's ids.

    evidence:
      level: L2
      mark: V            # V verified, C cited, A by directive, U unknown
      provenance:
        wasGeneratedBy: {command: .., git_sha: 40 hexadecimal digits}
        wasAttributedTo: ..
        generatedAtTime: ..

What somebody typed there earns nothing here: statements that `pytest --falsify --record` writes do, see pv.levels.
"""

import re
from collections.abc import Iterator

from pv.contract import Contract, Entry
from pv.findings import ERROR, Hit, rule
from pv.shapes import described, named, nearest

LEVELS = ("L1", "L2", "L3", "L4", "L5")
MARKS = ("V", "C", "A", "U")
KEYS = {
    ("evidence",): ("level", "mark", "provenance"),
    ("evidence", "provenance"): ("wasGeneratedBy", "wasAttributedTo", "generatedAtTime"),
    ("evidence", "provenance", "wasGeneratedBy"): ("command", "git_sha"),
}
"""The mappings of the record, each with its closed set of keys."""


def _record(contract: Contract) -> dict[tuple[str, ...], Entry]:
    """The mappings of the record that are there; one that is missing reads as empty. None at all without evidence."""
    if contract.root.entry("evidence") is None:
        return {}
    found = {}
    for place in KEYS:
        entry: Entry | None = contract.root
        for name in place:
            entry = entry.entry(name) if entry else None
        found[place] = entry or Entry(contract.document, place, {})
    return found


def _last(contract: Contract, *place: str) -> Entry | None:
    return _record(contract).get(place)


@rule("PV-ONT-017", ERROR, "evidence has the keys that are known there, and no others", lint=True)
def keys(contract: Contract) -> Iterator[Hit]:
    if contract.root.raw.get("evidence") is not None and not _record(contract):
        yield Hit(("evidence",), f"evidence must be a mapping, not {described(contract.root.raw['evidence'])}")
    for place, entry in _record(contract).items():
        for key, value in entry.raw.items():
            if key not in KEYS[place]:
                yield Hit((*place, key), f"{named(place)} has no key {key!r}", nearest(key, KEYS[place]))
            elif (*place, key) in KEYS and not isinstance(value, dict | None):
                yield Hit((*place, key), f"{named((*place, key))} must be a mapping, not {described(value)}")


@rule("PV-ONT-018", ERROR, "the level of evidence is one of L1 to L5", lint=True)
def level(contract: Contract) -> Iterator[Hit]:
    if (entry := _last(contract, "evidence")) and entry.text("level") not in LEVELS:
        stated = entry.text("level")
        what = f"evidence.level {stated!r} is none of {', '.join(LEVELS)}" if stated else "evidence has no level"
        yield Hit(entry.at("level"), what)


@rule("PV-ONT-019", ERROR, "the mark of evidence is V, C, A or U, and what is marked V names its command", lint=True)
def mark(contract: Contract) -> Iterator[Hit]:
    entry, run = _last(contract, "evidence"), _last(contract, "evidence", "provenance", "wasGeneratedBy")
    if entry is None or run is None:
        return
    stated = entry.text("mark")
    if stated not in MARKS:
        what = f"evidence.mark {stated!r} is none of {', '.join(MARKS)}" if stated else "evidence has no mark"
        yield Hit(entry.at("mark"), what)
    elif stated == "V" and not run.text("command").strip():
        hint = "provenance: {wasGeneratedBy: {command: what was run}}; or mark it U"
        yield Hit(entry.at("mark"), "evidence is marked V, verified, by no command", hint)


@rule("PV-ONT-020", ERROR, "evidence that is marked V names the full sha of a commit", lint=True)
def commit(contract: Contract) -> Iterator[Hit]:
    entry, run = _last(contract, "evidence"), _last(contract, "evidence", "provenance", "wasGeneratedBy")
    if entry is None or run is None or entry.text("mark") != "V":
        return
    stated = run.text("git_sha").strip()
    if not re.fullmatch("[0-9a-f]{40}", stated):
        at = run.at("git_sha") if "git_sha" in run.raw else entry.at("mark")
        wrong = f"by a git_sha that is not 40 hexadecimal digits: {stated!r}" if stated else "without a git_sha"
        yield Hit(at, f"evidence is marked V {wrong}", "git rev-parse HEAD prints it")


@rule("PV-ONT-021", ERROR, "evidence says to whom it is attributed", lint=True)
def attribution(contract: Contract) -> Iterator[Hit]:
    entry = _last(contract, "evidence", "provenance")
    if entry is not None and not entry.text("wasAttributedTo").strip():
        yield Hit(entry.at("wasAttributedTo"), "evidence is attributed to nobody", "provenance: {wasAttributedTo: ..}")
