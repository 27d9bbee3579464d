"""The checks of `pv gate` about levels, tests, contracts and versions: pure functions of two surveys and a diff."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pv.contract import Contract
from pv.diff import Comparison
from pv.diff import Verdict as Diff
from pv.findings import some_of
from pv.gate_sides import (
    BROKEN,
    DEMOTION,
    LOST_CONTRACT,
    LOST_FALSIFIER,
    LOST_MODEL,
    LOST_MUTANT,
    LOST_TEST,
    OVERCLAIM,
    RETIRED,
    VERSION,
    Finding,
    Sides,
    accepting,
)
from pv.ledger_diff import Key, by_key, why
from pv.promote import overstated
from pv.status import Row, shown
from pv.words import Level


def standing(sides: Sides) -> Iterator[Finding]:
    """What is wrong with the new version by itself, whatever the old one was."""
    for row in sides.head.rows:
        if row.overclaimed:
            said, got = row.test.status or Level.UNTESTED.value, row.earned
            what = f"{row.test.id} states {said}, earned {got.level.value}: {got.reasons[0]}"
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
                f"record again and `pv promote --write`, or accept it: {accepting(new.contract, new.test.id, DEMOTION)}"
            )
            yield sides.at(
                new.contract, new.test.line, DEMOTION, new.test.id, f"{new.test.id} {'; '.join(parts)}", hint
            )


def losses(sides: Sides) -> Iterator[Finding]:
    """Mutants, falsifiers and models that a test no longer has, and tests that a contract no longer has."""
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
                f"put it back, or accept it: {accepting(contract, test, LOST_TEST)}",
            )
    for _, before, row in sides.pairs:
        name = row.test.id
        if gone := [mutant for mutant in before.test.mutants if mutant not in row.test.mutants]:
            left = f"{len(before.test.mutants) - len(gone)} of {len(before.test.mutants)} left"
            what = f"{name} no longer names the mutant{'s' if len(gone) > 1 else ''} {', '.join(gone)}: {left}"
            hint = f"put them back, or accept it: {accepting(row.contract, name, LOST_MUTANT)}"
            yield sides.at(row.contract, row.test.line, LOST_MUTANT, name, what, hint)
        if roles := [role for role in before.test.falsifiers if role not in row.test.falsifiers]:
            what = f"{name} no longer has its {', '.join(roles)} falsifier{'s' if len(roles) > 1 else ''}"
            hint = f"put it back, or accept it: {accepting(row.contract, name, LOST_FALSIFIER)}"
            yield sides.at(row.contract, row.test.line, LOST_FALSIFIER, name, what, hint)
        if gone := [model for model in before.test.models if model not in row.test.models]:
            left = f"{len(before.test.models) - len(gone)} of {len(before.test.models)} left"
            what = f"{name} is no longer tried on the model{'s' if len(gone) > 1 else ''} {', '.join(gone)}: {left}"
            hint = f"put it back, or accept it: {accepting(row.contract, name, LOST_MODEL)}"
            yield sides.at(row.contract, row.test.line, LOST_MODEL, name, what, hint)
        if others := _other_models(before, row):
            what = f"{name} is tried on another model under the name {', '.join(others)}"
            hint = f"register it under a name of its own, or accept it: {accepting(row.contract, name, LOST_MODEL)}"
            yield sides.at(row.contract, row.test.line, LOST_MODEL, name, what, hint)


def _other_models(before: Row, row: Row) -> list[str]:
    """Names under which two versions of a test mean different bytes, with both digests."""
    if before.binding is None or row.binding is None:
        return []  # what no longer binds is told by what it earned
    new = row.binding.models
    return [
        f"{name} (sha256 {old.sha256[:12]}.. became {new[name].sha256[:12]}..)"
        for name, old in before.binding.models.items()
        if name in new and old != new[name]
    ]


def _left(sides: Sides) -> list[tuple[Key, Row]]:
    """Tests that only the old version has."""
    new = by_key(sides.head.rows)
    return [(key, row) for key, row in by_key(sides.base.rows, sides.renamed).items() if key not in new]


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
                hint="put it back; to withdraw it, let it state `status: RETIRED` in its metadata in an earlier change",
            )


def retirements(sides: Sides) -> Iterator[Finding]:
    """Contracts that are retired now, and whose tests had a level: what is retired may be removed by a later change."""
    for old in sides.base.contracts:
        new = sides.contract(sides.stem(old.stem))
        if new is None or _retired(old) or not _retired(new):
            continue
        rows = [row for row in sides.base.rows if row.contract is old]
        worth = [
            (row, max(row.earned.level, row.stated or row.earned.level, key=lambda level: level.worth)) for row in rows
        ]
        had = [f"{row.test.id} {level.value}" for row, level in worth if level.worth > 0]
        if had:
            what = f"{new.stem} is retired, and {len(had)} of its {len(rows)} tests had a level: {some_of(had)}"
            hint = f"take `status: RETIRED` out of its metadata, or accept it: {accepting(new, new.stem, RETIRED)}"
            line = new.document.position(("metadata", "status")).line
            yield sides.at(new, line, RETIRED, "", what, hint)


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
    step = f"{found.old_version or 'no version'} -> {found.new_version or 'no version'}"
    return f"{step}: {found.why}, needed is a {found.needed.word} step{most}"
