"""`pv obligations`: what a contract owes, and which tests try to break it.

A test is linked to an obligation by its id and by nothing else. A test whose rule repeats the property of an obligation
is shown as such, since public contracts are written so, but it is no link: texts drift apart without anybody noticing.

JSON, schema pv-obligations/1; keys may be added, none changes its meaning:

    {"schema": "pv-obligations/1",
     "totals": {contracts, obligations, not_applicable, tested, by_text, run, uncovered},
     "obligations": [{contract, path, line, id, type, property, not_applicable, covered, why,
                      "tests": [{id, line, bound, run, stated}], "by_text": [id]}],
     "declined": [{place, reason}]}
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pv.collection import Collection
from pv.contract import Contract, Entry, FalsificationTest, not_applicable
from pv.excerpt import printable
from pv.runnable import Standing, standing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """A proof obligation with what is linked to it.

    tests    that name its id, if no other obligation of the contract has it too
    by_text  that do not, but whose rule is its property
    shared   whether another obligation has the same id
    standing which tests of the contract are not run, whatever they name
    """

    contract: Contract
    entry: Entry
    tests: tuple[FalsificationTest, ...]
    by_text: tuple[FalsificationTest, ...]
    shared: bool
    standing: Standing

    @property
    def id(self) -> str:
        return self.entry.text("id").strip()

    @property
    def text(self) -> str:
        """Its property, on one line."""
        return " ".join(self.entry.text("property").split())

    @property
    def line(self) -> int:
        return self.entry.document.position(self.entry.place).line

    @property
    def not_applicable(self) -> bool:
        """Whether it is set aside, with a reason."""
        return not_applicable(self.entry) and bool(self.entry.text("na_reason").strip())

    @property
    def run(self) -> bool:
        """Whether something runs a test that names it."""
        return any(map(self.standing.runs, self.tests))

    @property
    def why(self) -> str:
        """Why nothing tries to break it; empty where something does, or where it is set aside."""
        if self.run or self.not_applicable:
            return ""
        if self.tests:
            return idle(self.tests, self.standing)
        if self.shared:
            return f"another obligation has the id {self.id} too: which one a test means is not known"
        if self.by_text:
            return f"no test names it; the rule of {called(self.by_text[0])} repeats its text"
        return "no test names it" if self.id else "it has no id, so no test can name it"


def called(test: FalsificationTest) -> str:
    return test.id or f"the test in line {test.line}"


def idle(tests: Sequence[FalsificationTest], standing: Standing) -> str:
    """Why none of the tests is run."""
    unwritten = [called(test) for test in tests if test.index in standing.unwritten]
    missing = [called(test) for test in tests if test.index not in standing.unwritten]
    told = [f"the falsifiers of {', '.join(unwritten)} are not written yet"] if unwritten else []
    return "; ".join([*([f"nothing runs {', '.join(missing)}"] if missing else []), *told])


def obligations(contract: Contract, standing: Standing) -> list[Obligation]:
    """The obligations of a contract, in its order."""
    entries = list(contract.root.entries("proof_obligations"))
    ids = Counter(entry.text("id").strip() for entry in entries)
    by_id: dict[str, list[FalsificationTest]] = {}
    by_rule: dict[str, list[FalsificationTest]] = {}
    for test in contract.tests:
        for name in dict.fromkeys(name.strip() for name in test.obligations):
            by_id.setdefault(name, []).append(test)
        by_rule.setdefault(" ".join(test.rule.split()), []).append(test)
    found = []
    for entry in entries:
        own, text = entry.text("id").strip(), " ".join(entry.text("property").split())
        shared = bool(own) and ids[own] > 1
        tests = by_id.get(own, []) if own and not shared else []
        linked = {test.index for test in tests}
        same = [test for test in by_rule.get(text, []) if test.index not in linked] if text else []
        links = {"tests": tuple(tests), "by_text": tuple(same)}
        found.append(Obligation(contract=contract, entry=entry, **links, shared=shared, standing=standing))
    return found


def totals(found: Iterable[Obligation]) -> dict[str, int]:
    """Counts with their denominators: those set aside are in no other count but that of all obligations."""
    found = list(found)
    open_ = [one for one in found if not one.not_applicable]
    return {
        "obligations": len(found),
        "not_applicable": len(found) - len(open_),
        "tested": sum(bool(one.tests) for one in open_),
        "by_text": sum(bool(one.by_text) and not one.tests for one in open_),
        "run": sum(one.run for one in open_),
        "uncovered": sum(bool(one.why) for one in open_),
    }


def of_all(collected: Collection) -> list[Obligation]:
    return [one for contract in collected.contracts for one in obligations(contract, standing_of(contract))]


def as_text(collected: Collection) -> str:
    """Each obligation with its place and the tests that name it; the last line counts."""
    lines: list[str] = []
    for contract in collected.contracts:
        found = obligations(contract, standing_of(contract))
        if not found:
            lines.append(f"{contract.path}: declares no proof obligation")
        for one in found:
            lines += _told(one)
    lines.append(f"{plural(len(collected.contracts), 'contract')}: {summary(totals(of_all(collected)))}")
    return "\n".join(map(printable, lines))


def summary(sums: dict[str, int]) -> str:
    """The counts of `totals` in one line."""
    return (
        f"{plural(sums['obligations'], 'obligation')}, {sums['not_applicable']} not applicable; "
        f"{sums['tested']} tested by id, {sums['by_text']} by text alone, {sums['run']} run; "
        f"{sums['uncovered']} uncovered"
    )


def _told(one: Obligation) -> Iterator[str]:
    kind = one.entry.text("type")
    head = one.id or "(no id)"
    yield f"{one.contract.path}:{one.line}: {head}{f' [{kind}]' if kind else ''}: {one.text}"
    for test in one.tests:
        idle = "its falsifiers cannot be run" if test.falsifiers else "names no falsifier: nothing runs it"
        if test.index in one.standing.unwritten:
            idle = "its falsifiers are not written yet"
        runs = f"states {test.status or 'nothing'}" if one.standing.runs(test) else idle
        yield f"    {called(test)} (line {test.line}) {runs}"
    if one.not_applicable:
        yield f"    not applicable: {' '.join(one.entry.text('na_reason').split())}"
    if one.why:
        yield f"    UNCOVERED: {one.why}"


def as_json(collected: Collection) -> str:
    """The documented JSON, see the head of this file."""
    found = of_all(collected)
    content = {
        "schema": "pv-obligations/1",
        "totals": {"contracts": len(collected.contracts), **totals(found)},
        "obligations": [mapping(one) for one in found],
        "declined": [{"place": place, "reason": reason} for place, reason in collected.declined],
    }
    return json.dumps(content, indent=2)


def mapping(one: Obligation) -> dict[str, Any]:
    return {
        "contract": one.contract.stem,
        "path": str(one.contract.path),
        "line": one.line,
        "id": one.id or None,
        "type": one.entry.text("type") or None,
        "property": one.text,
        "not_applicable": one.not_applicable,
        "covered": one.run,
        "why": one.why,
        "tests": [
            {
                "id": test.id,
                "line": test.line,
                "bound": one.standing.binds(test),
                "run": one.standing.runs(test),
                "stated": test.status,
            }
            for test in one.tests
        ],
        "by_text": [test.id for test in one.by_text],
    }


def exit_code(collected: Collection, found: Sequence[Obligation]) -> int:
    """0 if all was read and there is an obligation, else 2."""
    return 0 if found and not collected.declined else 2


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
