"""The checks of `pv gate`: pure functions of two surveys, and of what `pv diff` says about their contracts."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from pv.config import Config, registry
from pv.contract import Contract, Entry
from pv.diff import Comparison
from pv.diff import Verdict as Diff
from pv.errors import PvError
from pv.gate_evidence import lost_evidence
from pv.ledger_diff import Key, by_key, why
from pv.promote import overstated
from pv.status import Row, Survey, shown
from pv.words import Level

OVERCLAIM, BROKEN, DEMOTION, VERSION = "GATE-OVERCLAIM", "GATE-BROKEN", "GATE-DEMOTION", "GATE-VERSION"
EVIDENCE, UNREADABLE, TOLERANCE = "GATE-EVIDENCE", "GATE-UNREADABLE", "GATE-TOLERANCE"
LOST_MUTANT, LOST_FALSIFIER = "GATE-LOST-MUTANT", "GATE-LOST-FALSIFIER"
LOST_TEST, LOST_CONTRACT = "GATE-LOST-TEST", "GATE-LOST-CONTRACT"

ACCEPTED_AS: Mapping[str, str] = MappingProxyType(
    {
        DEMOTION: "demotion",
        TOLERANCE: "tolerance",
        LOST_MUTANT: "mutant",
        LOST_FALSIFIER: "falsifier",
        LOST_TEST: "test",
    }
)
"""What a changelog may accept, by the word that it uses for it; nothing else can be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a branch takes away, or claims without having it. test: what is weakened, most often a test."""

    id: str
    path: str
    line: int
    message: str
    hint: str
    contract: str = ""
    test: str = ""

    def because(self, reason: str) -> "Finding":
        """With why a changelog does not accept it."""
        return replace(self, message=f"{self.message}; {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two versions of a project. renamed: new stems of contracts by their old ones; plain: base texts for a reader."""

    base: Survey
    head: Survey
    renamed: Mapping[str, str] = field(default_factory=dict)
    plain: Callable[[str], str] = str

    def stem(self, old: str) -> str:
        return self.renamed.get(old, old)

    def contract(self, stem: str) -> Contract | None:
        return next((contract for contract in self.head.contracts if contract.stem == stem), None)

    @property
    def pairs(self) -> list[tuple[Key, Row, Row]]:
        """The tests that both versions have."""
        new = by_key(self.head.rows)
        return [(key, row, new[key]) for key, row in by_key(self.base.rows, self.renamed).items() if key in new]

    def at(self, contract: Contract, line: int, id: str, test: str, message: str, hint: str) -> Finding:
        """A finding at a line of a contract of the new version."""
        path = shown(contract.path, self.head.root)
        return Finding(id=id, path=path, line=line, message=message, hint=hint, contract=contract.stem, test=test)


def standing(sides: Sides) -> Iterator[Finding]:
    """What is wrong with the new version by itself, whatever the old one was."""
    for row in sides.head.rows:
        if row.overclaimed:
            what = f"{row.test.id} states {row.test.status or Level.UNTESTED.value}, earned {row.earned.level.value}: {row.earned.reasons[0]}"
            hint = "record evidence for it, then `pv promote --write`"
            yield sides.at(row.contract, row.test.line, OVERCLAIM, row.test.id, what, hint)
        if row.broken:
            hint = "mend what it is about, and record again; no changelog accepts this"
            yield sides.at(row.contract, row.test.line, BROKEN, row.test.id, f"{row.test.id}: {row.broken}", hint)
    for contract in sides.head.contracts:
        mine = tuple(row for row in sides.head.rows if row.contract is contract)
        for words in overstated(replace(sides.head, contracts=(contract,), rows=mine)):
            line = contract.document.position(("verification_summary",)).line
            what = words.removeprefix(f"{contract.path}: ")
            yield sides.at(contract, line, OVERCLAIM, "", what, "`pv promote --write` writes it")


def demotions(sides: Sides) -> Iterator[Finding]:
    """Tests that state less than they did, or have earned less."""
    for _, old, new in sides.pairs:
        said = [row.stated or Level.UNTESTED for row in (old, new)]
        earned = [row.earned.level for row in (old, new)]
        parts = []
        if said[0].worth > said[1].worth:
            parts.append(f"stated {said[0].value}, states {new.test.status or Level.UNTESTED.value}")
        if earned[0].worth > earned[1].worth:
            parts.append(
                f"had earned {earned[0].value}, has earned {earned[1].value}: {why(new.earned, risen=False)[0]}"
            )
        if parts:
            hint = (
                f"record again and `pv promote --write`, or accept it: {_accept(new.contract, new.test.id, DEMOTION)}"
            )
            yield sides.at(
                new.contract, new.test.line, DEMOTION, new.test.id, f"{new.test.id} {'; '.join(parts)}", hint
            )


def _accept(contract: Contract, name: str, id: str) -> str:
    """How a changelog accepts a loss."""
    return f"an entry of {contract.stem}'s changelog with its new version, a reason, and accepts: {{{name}: [{ACCEPTED_AS[id]}]}}"


def losses(sides: Sides) -> Iterator[Finding]:
    """Mutants and falsifiers that a test no longer has, and tests that a contract no longer has."""
    new = by_key(sides.head.rows)
    for (stem, test, _), old in _left(sides):
        contract = sides.contract(stem)
        if contract is not None:
            line = contract.document.position(("falsification_tests",)).line
            what = f"the test {test or old.test.rule!r} is gone; it had earned {old.earned.level.value}"
            yield sides.at(
                contract,
                line,
                LOST_TEST,
                test,
                what,
                f"put it back, or accept it: {_accept(contract, test, LOST_TEST)}",
            )
    assert len(new) == len(sides.head.rows)
    for _, before, row in sides.pairs:
        name = row.test.id
        if gone := [mutant for mutant in before.test.mutants if mutant not in row.test.mutants]:
            what = f"{name} no longer names the mutant{'s' if len(gone) > 1 else ''} {', '.join(gone)}: {len(row.test.mutants)} of {len(before.test.mutants)} left"
            hint = f"put them back, or accept it: {_accept(row.contract, name, LOST_MUTANT)}"
            yield sides.at(row.contract, row.test.line, LOST_MUTANT, name, what, hint)
        if roles := [role for role in before.test.falsifiers if role not in row.test.falsifiers]:
            what = f"{name} no longer has its {', '.join(roles)} falsifier{'s' if len(roles) > 1 else ''}"
            hint = f"put it back, or accept it: {_accept(row.contract, name, LOST_FALSIFIER)}"
            yield sides.at(row.contract, row.test.line, LOST_FALSIFIER, name, what, hint)


def _left(sides: Sides) -> list[tuple[Key, Row]]:
    """Tests that only the old version has."""
    new = by_key(sides.head.rows)
    return [(key, row) for key, row in by_key(sides.base.rows, sides.renamed).items() if key not in new]


@dataclass(frozen=True, slots=True)
class Limit:
    """How far something may go. metric: what is measured; limit: None where a tolerance gives no number."""

    metric: str
    limit: float | None


def tolerances(sides: Sides) -> Iterator[Finding]:
    """Tests, obligations and equations that pass what they did not pass before."""
    for old in sides.base.contracts:
        new = sides.contract(sides.stem(old.stem))
        if new is None:
            continue
        before, after = _limits(old), _limits(new)
        for key, (was, _) in before.items():
            if key in after and (words := _loosened(was, after[key][0])):
                hint = f"tighten it again, or accept it: {_accept(new, key[1], TOLERANCE)}"
                yield sides.at(new, after[key][1], TOLERANCE, key[1], f"{key[1]}: {words}", hint)


def _limits(contract: Contract) -> dict[tuple[str, str, int], tuple[Limit | None, int]]:
    """The tolerance of everything that may have one, by section, name, and how often the name stood before; its line."""
    found: dict[tuple[str, str, int], tuple[Limit | None, int]] = {}

    def add(section: str, name: str, entry: Entry, key: str, limit: Limit | None) -> None:
        number = 0
        while (section, name, number) in found:
            number += 1
        found[section, name, number] = limit, contract.document.position(entry.at(key)).line

    for test in contract.tests:
        limit = Limit(test.tolerance.metric, test.tolerance.limit) if test.tolerance else None
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
        return f"the tolerance is one of {new.metric or 'nothing'} and was one of {old.metric or 'nothing'}: the limits cannot be compared"
    if old.limit is None:  # there was no number to hold it to
        return ""
    if new.limit is None or not 0 <= new.limit <= old.limit:
        return f"the tolerance went from {_number(old)} to {_number(new)}"
    return ""


def _number(limit: Limit) -> str:
    return "no number" if limit.limit is None else f"{limit.limit:g}"


def lost_contracts(sides: Sides, changes: Diff) -> Iterator[Finding]:
    """Contracts that the new version no longer reads. One that was retired before may go."""
    here = {contract.stem for contract in sides.head.contracts}
    unreadable = {Path(re.sub(r"(:\d+)+$", "", problem.path)).stem for problem in sides.head.problems}
    gone = {
        old.stem: sides.plain(shown(old.path, sides.base.root)) for old in sides.base.contracts if not _retired(old)
    }
    gone |= {
        found.stem: _inside(found.old or "") for found in changes.compared if found.new is None and not found.enough
    }
    for stem, path in gone.items():
        if sides.stem(stem) not in here | unreadable:
            tests = sum(row.contract.stem == stem for row in sides.base.rows)
            yield Finding(
                id=LOST_CONTRACT,
                path=path,
                line=1,
                contract=stem,
                message=f"the contract {stem} is gone, or no longer among the project's; it had {tests} tests",
                hint="put it back; to withdraw it, let it state `status: RETIRED` in its metadata in a change before this one",
            )


def _retired(contract: Contract) -> bool:
    metadata = contract.root.entry("metadata")
    return metadata is not None and metadata.text("status").strip().upper() == "RETIRED"


def _inside(label: str) -> str:
    """The path in a label of `pv diff`, which begins with the commit."""
    return label.partition(":")[2] or label


def versions(sides: Sides, changes: Diff) -> Iterator[Finding]:
    """Contracts whose version number announces less than what changed in them."""
    for found in changes.compared:
        if found.new is None or found.enough:
            continue
        contract = sides.contract(found.stem)
        line = contract.document.position(("metadata", "version")).line if contract else 1
        path = shown(contract.path, sides.head.root) if contract else found.new
        yield Finding(
            id=VERSION,
            path=path,
            line=line,
            contract=found.stem,
            message=_announced(found),
            hint=f"version: {found.least} or later; `pv diff` lists the changes"
            if found.least
            else "versions are written as 1.0.0",
        )


def _announced(found: Comparison) -> str:
    if found.old is None:
        return f"the new contract's version is wrong: {found.why}"
    size = max(found.changes, key=lambda change: change.size, default=None)
    most = f", as {size.place} is {size.what}: {size.why}" if size else ""
    return f"{found.old_version or 'no version'} -> {found.new_version or 'no version'}: {found.why}, needed is a {found.needed.word} step{most}"


def evidence(
    sides: Sides, old: Mapping[str, str], new: Mapping[str, str], config: Config, gone: Collection[str]
) -> Iterator[Finding]:
    """Evidence that does not verify or was taken away, and whatever else could not be read."""
    models = _models(config)
    for problem in sides.head.problems:
        path, line = _place(problem.path)
        about = Path(path).is_relative_to(config.evidence)
        hint = (
            "restore it from git; what does not verify counts for nothing"
            if about
            else "mend it: what cannot be read is not judged"
        )
        if path in models:
            hint = "obtain the registered model again, or register this one and record again"
        yield Finding(
            id=EVIDENCE if about else UNREADABLE,
            path=shown(path, config.root),
            line=line,
            message=problem.why,
            hint=hint,
        )
    folder = shown(config.evidence, config.root)
    lost: dict[tuple[str, str], list[str]] = {}
    for name, what in lost_evidence(old, new, gone):
        home, _, file = name.rpartition("/")
        lost.setdefault((home, what), []).append(file)
    for (home, what), names in lost.items():
        there = sum(name.rpartition("/")[0] == home for name in old)
        yield Finding(
            id=EVIDENCE,
            path=f"{folder}/{home}".rstrip("/"),
            line=1,
            message=f"{len(names)} of {there} files of evidence {'are' if len(names) > 1 else 'is'} {what}, first {names[0]}",
            hint="restore them from git: evidence is added, never taken away or changed",
        )


def _models(config: Config) -> set[str]:
    try:
        return {str(model.path) for model in registry(config).values()}
    except PvError:
        return set()


def _place(path: str) -> tuple[str, int]:
    """A path with the line that may stand behind it."""
    found = re.fullmatch(r"(.*?)(?::(\d+))?(?::\d+)?", path, re.DOTALL)
    assert found is not None
    return found[1], int(found[2] or 1)


def kept(old: Mapping[str, str], new: Mapping[str, str]) -> int:
    """How many files of evidence are there with the bytes that they had."""
    return sum(new.get(name) == digest for name, digest in old.items())
