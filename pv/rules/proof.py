"""Rules of `pv lint` about how far the entries of a contract support the grade that it states.

The grades are the public tool's, lowest first: basic, standard, strict, proven. What is judged here is which entries
are there and what they name; that a proof or a test exists, runs and passes is not seen. Levels that are computed from
evidence are another matter: pv.levels.
"""

from collections.abc import Iterator

from pv.contract import Contract, Entry
from pv.findings import ERROR, NOTE, WARNING, Hit, rule, some_of
from pv.rules.audit import label, obligations
from pv.shapes import nearest

GRADES = ("basic", "standard", "strict", "proven")
WORDS = {name: index for index, name in enumerate(GRADES)} | {"l1": 0, "l2": 1, "l3": 1, "l4": 2, "l5": 3}
"""What locked_level may say, as a place in GRADES."""


def unproved(contract: Contract) -> list[Entry]:
    """The proof obligations that no kani harness names by id or property."""
    harnesses = {entry.text("obligation").strip() for entry in contract.root.entries("kani_harnesses")} - {""}
    stated = obligations(contract)
    return [entry for entry in stated if not {entry.text(key).strip() for key in ("id", "property")} & harnesses]


def missing(contract: Contract, grade: int) -> str:
    """What a contract lacks for a place in GRADES, in a few words; empty where its entries support it.

    standard  it has falsification tests and kani harnesses
    strict    and each proof obligation that applies is named by a kani harness
    proven    and each has `lean: {status: proved}`
    """
    if grade >= 1 and not contract.tests:
        return "it has no falsification tests"
    if grade >= 1 and not any(contract.root.entries("kani_harnesses")):
        return "it has no kani harnesses"
    if grade >= 2 and not obligations(contract):
        return "it has no proof obligations"
    if grade >= 2 and (open_ones := unproved(contract)):
        return f"no kani harness names {label(open_ones[0])}"
    for entry in obligations(contract) if grade >= 3 else ():
        lean = entry.entry("lean")
        if lean is None or lean.text("status") != "proved":
            return f"lean does not say 'proved' of {label(entry)}"
    return ""


@rule("PV-PRV-003", NOTE, "where obligations are proved with kani, each is named by a harness", lint=True)
def partly_proved(contract: Contract) -> Iterator[Hit]:
    stated, left = obligations(contract), unproved(contract)
    if left and len(left) < len(stated):  # where harnesses name none at all, AUDIT-002 says it
        shown = some_of([label(entry) for entry in left])
        what = f"no kani harness names {len(left)} of {len(stated)} proof obligations: {shown}"
        yield Hit(left[0].at("property"), what)


@rule("PV-ENF-001", WARNING, "a contract has the entries that its enforcement_level demands", lint=True)
def enforcement(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    stated = metadata.text("enforcement_level").strip() if metadata else ""
    if metadata is None or stated not in GRADES:  # PV-TYPE-003 reports a word that is none
        return
    if lack := missing(contract, GRADES.index(stated)):
        yield Hit(metadata.at("enforcement_level"), f"enforcement_level is {stated}, but {lack}")
    for name, entry in contract.equation_entries() if stated != "basic" else ():
        if not entry.texts("preconditions") and not entry.texts("postconditions"):
            yield Hit(entry.place, f"equation {name!r} has neither preconditions nor postconditions to enforce")


@rule("PV-ENF-002", WARNING, "an equation of a contract that is proven names its Lean theorem", lint=True)
def theorems(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    if metadata and metadata.text("enforcement_level").strip() == "proven":
        for name, entry in contract.equation_entries():
            if not entry.text("lean_theorem").strip():
                yield Hit(entry.at("lean_theorem"), f"equation {name!r} names no lean_theorem")


@rule("PV-LCK-001", ERROR, "locked_level is a grade that the entries of the contract support", lint=True)
def locked(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    stated = metadata.text("locked_level").strip() if metadata else ""
    if metadata is None or not stated:
        return
    grade = WORDS.get(stated.lower())
    if grade is None:
        what = f"locked_level {stated!r} is no grade, so nothing is locked"
        yield Hit(metadata.at("locked_level"), what, nearest(stated, WORDS))
    elif lack := missing(contract, grade):
        yield Hit(metadata.at("locked_level"), f"locked at {stated}, but {lack}")
