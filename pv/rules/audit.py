"""Rules about what a contract claims and what is linked to it, under the public tool's ids; most are of `pv lint`.

The public tool counts entries; here everything is linked by name: an obligation is tested if a test names its id or
states its property, not if there are as many tests as obligations.
"""

import re
from collections.abc import Iterator
from typing import Any

from pv.contract import Contract, Entry, FalsificationTest
from pv.facts import iso_date
from pv.findings import NOTE, WARNING, Hit, called, rule, some_of
from pv.shapes import nearest

CLAIMS = ("equations", "proof_obligations", "kani_harnesses", "type_invariants")
"""Sections that claim something."""
ASKED_ELSEWHERE = ("kernel", "competitive-parity")
"""Kinds of which PROVABILITY-001 asks for obligations and tests."""
UNREAD_TESTS = re.compile(r"falsifications?|falsification_(conditions|tests_\w+)")
"""Sections that look like falsification tests, and that nobody reads."""
EXACT = re.compile(
    r"\b(bit|bits|bitwise|byte|bytes|exact|exactly|identical|identically|integers?)\b|\bsame (bits|bytes|value)", re.I
)
APPROXIMATE = re.compile(r"[≈≅≃]|~=|\b(approximate(ly)?|approx|almost|nearly|roughly|close to|up to rounding)\b", re.I)
DISTANCE = re.compile(
    r"[<≤] *[\d.]|\b(within|than|below|most|under) +[\d.]|± *[\d.]|\d+(\.\d+)?e[-−]?\d|10\^[-−{]|\bulps?\b", re.I
)
"""What holds approximately, and how far that may go."""


def obligations(contract: Contract) -> list[Entry]:
    """The proof obligations that apply."""
    entries = contract.root.entries("proof_obligations")
    return [entry for entry in entries if entry.text("applies_to").strip().lower() != "not_applicable"]


def label(entry: Entry) -> str:
    """What a proof obligation is called in a message: its id, else what it states."""
    stated = " ".join(entry.text("property").split())
    return entry.text("id").strip() or repr(stated if len(stated) <= 50 else f"{stated[:48]}..")


def tests_by_name(contract: Contract) -> dict[str, list[FalsificationTest]]:
    """The tests under all that they name: their rules, words of these, and what stands under any other key."""
    found: dict[str, list[FalsificationTest]] = {}
    for test in contract.tests:
        for name in dict.fromkeys([test.rule.strip(), *_words(test.rule), *_scalars(test.raw)]):
            found.setdefault(name, []).append(test)
    return found


def tests_of(entry: Entry, tests: dict[str, list[FalsificationTest]]) -> list[FalsificationTest]:
    """The tests that name an obligation by its id, or whose rule is its property."""
    identity, stated = entry.text("id").strip(), entry.text("property").strip()
    by_text = [test for test in tests.get(stated, ()) if test.rule.strip() == stated] if stated else []
    return [*(tests.get(identity, ()) if identity else ()), *by_text]


@rule("AUDIT-001", WARNING, "what is claimed is tested: a contract with claims has falsification tests", lint=True)
def untested(contract: Contract) -> Iterator[Hit]:
    claims = [key for key in CLAIMS if contract.root.raw.get(key)]
    if claims and not contract.tests and contract.kind not in ASKED_ELSEWHERE:
        yield Hit((claims[0],), f"its {claims[0]} claim something, and no falsification test tries to break it")


@rule(
    "AUDIT-002", WARNING, "the obligation of a kani harness is the id or the property of a proof obligation", lint=True
)
def proofs_of_nothing(contract: Contract) -> Iterator[Hit]:
    harnesses = [entry for entry in contract.root.entries("kani_harnesses") if entry.text("obligation").strip()]
    stated = list(contract.root.entries("proof_obligations"))
    known = {entry.text(key).strip(): None for entry in stated for key in ("id", "property")} | {"": None}
    lost = [entry for entry in harnesses if entry.text("obligation").strip() not in known]
    ids = [entry.text("id") for entry in stated if entry.text("id")]
    if ids or not stated:
        for entry in lost:
            what = f"{called(entry, 'kani harness')}: there is no proof obligation {entry.text('obligation')!r}"
            yield Hit(entry.at("obligation"), what, nearest(entry.text("obligation"), ids))
    elif lost:
        what = f"no proof obligation has an id, and {len(lost)} of {len(harnesses)} kani harnesses cite one"
        hint = f"give the obligations ids, the first one perhaps id: {lost[0].text('obligation')}"
        yield Hit(lost[0].at("obligation"), what, hint, foreign=True)


@rule("AUDIT-003", WARNING, "a contract with equations has proof obligations", lint=True)
def unstated(contract: Contract) -> Iterator[Hit]:
    if contract.equations and not contract.obligations and contract.kind not in ASKED_ELSEWHERE:
        what = "the contract has equations but no proof obligations"
        yield Hit(("equations",), what, "proof_obligations: what must hold of each equation, one by one, with an id")


@rule("PV-REQ-002", NOTE, "a contract with obligations or tests has equations that these are about", lint=True)
def about_nothing(contract: Contract) -> Iterator[Hit]:
    given = [key for key in ("proof_obligations", "falsification_tests") if contract.root.raw.get(key)]
    asked = contract.kind == "kernel"  # by SCHEMA-003
    if given and not asked and not contract.root.raw.get("equations"):
        hint = "equations: what holds, by name, for tests to bind to"
        yield Hit(("equations",), f"the contract has {given[0]} and no equations", hint)


@rule("PV-AUD-001", WARNING, "each proof obligation has a test that names its id or states its property", lint=True)
def untested_obligations(contract: Contract) -> Iterator[Hit]:
    if not contract.tests or _links(contract):
        return
    stated, tests = obligations(contract), tests_by_name(contract)
    lost = [entry for entry in stated if not tests_of(entry, tests)]
    if lost:
        shown = some_of([label(entry) for entry in lost])
        what = f"no test names {len(lost)} of {len(stated)} proof obligations: {shown}"
        hint = "give each an id, and list it under `obligations` of the test that tries to break it"
        yield Hit(lost[0].at("property"), what, hint)


@rule("PV-AUD-003", NOTE, "the id of a proof obligation is used: something in the contract names it", lint=True)
def unused_ids(contract: Contract) -> Iterator[Hit]:
    stated = [entry for entry in obligations(contract) if entry.text("id").strip()]
    if not stated:
        return
    rest = [value for key, value in contract.root.raw.items() if key != "proof_obligations"]
    used = {word for text in _scalars(rest) for word in (text.strip(), *_words(text))}
    tests = tests_by_name(contract)
    for entry in stated:
        its = tests_of(entry, tests)
        if its and entry.text("id").strip() not in used:
            what = f"nothing names {entry.text('id')}: {_called(its[0])} is linked to it by equal text alone"
            yield Hit(entry.at("id"), what, f"obligations: [{entry.text('id')}]")


@rule("PV-AUD-004", WARNING, "an equation says where it holds: it has a domain")
def boundless(contract: Contract) -> Iterator[Hit]:
    stated = list(contract.equation_entries())
    lost = [(name, entry) for name, entry in stated if _without(entry, "domain")]
    hint = "domain: for which inputs it is promised, edge cases included"
    if len(lost) > 1 and len(lost) == len(stated):  # none was ever meant to have one
        what = f"{len(lost)} of {len(stated)} equations have no domain: {some_of([repr(name) for name, _ in lost])}"
        yield Hit(lost[0][1].at("domain"), what, hint)
        return
    for name, entry in lost:
        yield Hit(entry.at("domain"), f"equation {name!r} has no domain", hint)


@rule("PV-AUD-005", WARNING, "what holds to some distance says to which: a tolerance, a number, or exactly", lint=True)
def unmeasured(contract: Contract) -> Iterator[Hit]:
    stated = obligations(contract)
    untold = [entry for entry in stated if entry.raw.get("tolerance") is None]
    tests = tests_by_name(contract) if untold else {}
    for entry in untold:
        its, said = tests_of(entry, tests), [entry.text("property"), entry.text("formal")]
        if any(test.tolerance for test in its):
            continue
        predicted = [*said, *(test.prediction for test in its)]
        others = [other for other in stated if other is not entry and other.text("type") == entry.text("type")]
        if any(APPROXIMATE.search(text) for text in said) and not any(DISTANCE.search(text) for text in predicted):
            what = f"{label(entry)} holds approximately, without a tolerance"
        elif any(EXACT.search(text) for text in predicted):
            continue
        elif entry.text("type") == "equivalence":
            what = f"{label(entry)} is an equivalence without a tolerance"
        elif len(others) > 1 and all(other.raw.get("tolerance") is not None for other in others):
            kind = entry.text("type") or "no type"
            what = f"{label(entry)} has no tolerance, unlike all {len(others)} others of type {kind}"
        else:
            continue
        yield Hit(entry.at("property"), what, "tolerance: 0.0 if every bit must be equal")


@rule("PV-VAL-003", WARNING, "metadata.created, where it is given, is a date", lint=True)
def created(contract: Contract) -> Iterator[Hit]:
    metadata = contract.root.entry("metadata")
    written = metadata.text("created").strip() if metadata else ""
    if metadata and written and iso_date(re.split("[T ]", written)[0]) is None:
        yield Hit(metadata.at("created"), f"{written!r} is no date", "created: 2026-01-31")


@rule("PV-VER-003", WARNING, "falsification tests stand where they are read")
def unread_tests(contract: Contract) -> Iterator[Hit]:
    for key, value in contract.root.raw.items():
        if UNREAD_TESTS.fullmatch(key) and value:
            what = f"{key!r} looks like falsification tests, and nobody reads it"
            yield Hit((key,), what, "move them to falsification_tests")


def _without(entry: Entry, key: str) -> bool:
    return not isinstance(entry.raw.get(key), list | dict) and not entry.text(key).strip()


def _links(contract: Contract) -> bool:
    """Whether a test is written for pv: rules of `pv validate` then ask for the obligations that none names."""
    return any(test.ours for test in contract.tests)


def _called(test: FalsificationTest) -> str:
    return test.id or f"the falsification test in line {test.line}"


def _words(text: str) -> list[str]:
    """What could be ids in a text."""
    return [word.strip(".-") for word in re.findall(r"[\w.-]+", text)]


def _scalars(value: Any) -> list[str]:
    """The texts in a value, at any depth."""
    found, rest = [], [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list | dict):
            rest += value.values() if isinstance(value, dict) else value
    return found
