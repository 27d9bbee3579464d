"""`pv coverage`: which obligations and equations something tries to break, and what that has earned.

An obligation is covered if a test that names its id has falsifiers, so that something runs; an equation if such a
test binds to it. A test of which a falsifier, a role or a model does not exist runs nothing: what it names is
uncovered, and the verdict declines. Uncovered, too, is what a test names whose falsifiers are not written yet.
Counting is no link: a contract with as many tests as obligations may leave any of them uncovered. The percentage is
of the obligations that are not set aside as not applicable. Where there are none, there is no percentage: nothing to
cover is not all covered.

JSON, schema pv-coverage/1; keys may be added, none changes its meaning; earned is null in a project without evidence:

    {"schema": "pv-coverage/1", "verdict": "accept" | "reject" | "decline", "percent": n | null, "minimum": n | null,
     "totals": {contracts, obligations, not_applicable, tested, by_text, run, uncovered, earned},
     "contracts": [{contract, path, percent, "obligations": [those of pv-obligations/1, and earned],
                    "equations": [{name, line, covered, why, tests}]}],
     "declined": [{place, reason}]}
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pv.collection import Collection
from pv.contract import Contract, FalsificationTest
from pv.excerpt import printable
from pv.obligations import Obligation, idle, mapping, obligations, plural, summary, totals
from pv.runnable import Standing, standing_of
from pv.words import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """An equation with the tests that bind to it.

    shared    whether another one of the contract has the same name
    standing  which tests of the contract are not run
    """

    name: str
    line: int
    tests: tuple[FalsificationTest, ...]
    shared: bool
    standing: Standing

    @property
    def run(self) -> bool:
        """Whether one of the tests is run."""
        return any(map(self.standing.runs, self.tests))

    @property
    def why(self) -> str:
        """Why nothing tries to break it; empty where something does."""
        if self.run:
            return ""
        if self.tests:
            return idle(self.tests, self.standing)
        return "another equation has the same name" if self.shared else "no test binds to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A contract's part of the verdict; earned: the level of each obligation, None in a project without evidence."""

    contract: Contract
    obligations: tuple[Obligation, ...]
    equations: tuple[Equation, ...]
    earned: tuple[Level, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What came of it; minimum is the percentage that was asked for."""

    parts: tuple[Covered, ...]
    minimum: Fraction | None
    declined: tuple[tuple[str, str], ...]

    @property
    def obligations(self) -> list[Obligation]:
        return [one for part in self.parts for one in part.obligations]

    @property
    def code(self) -> int:
        share = percent(self.obligations)
        if share is not None and self.minimum is not None and share < self.minimum:
            return 1
        return 2 if share is None or self.declined else 0


def percent(found: Iterable[Obligation]) -> Fraction | None:
    """The covered part of the obligations that are not set aside; None where there are none."""
    sums = totals(found)
    asked = sums["obligations"] - sums["not_applicable"]
    return Fraction(100 * sums["run"], asked) if asked else None


def coverage(collected: Collection, minimum: Fraction | None = None) -> Coverage:
    """The coverage of the contracts, with the levels of today where their projects keep evidence. PvError as survey."""
    levels, problems = _levels(collected.contracts)
    parts = []
    for contract in collected.contracts:
        standing = standing_of(contract)
        problems += [(f"{at.path}:{at.line}:{at.column}", at.message) for at in standing.problems]
        found, mine = tuple(obligations(contract, standing)), levels.get(contract.path)
        earned = None if mine is None else tuple(_earned(one, mine) for one in found)
        equations = tuple(_equations(contract, standing))
        parts.append(Covered(contract=contract, obligations=found, equations=equations, earned=earned))
    return Coverage(parts=tuple(parts), minimum=minimum, declined=(*collected.declined, *problems))


def _equations(contract: Contract, standing: Standing) -> Iterator[Equation]:
    entries = list(contract.equation_entries())
    names = Counter(name for name, _ in entries)
    for name, entry in entries:
        line, shared = entry.document.position(entry.place).line, names[name] > 1
        tests = () if shared else tuple(test for test in contract.tests if test.binds_to.strip() == name)
        yield Equation(name=name, line=line, tests=tests, shared=shared, standing=standing)


def _levels(contracts: Sequence[Contract]) -> tuple[dict[Path, dict[int, Level]], list[tuple[str, str]]]:
    """By contract, the level of each of its tests by its index; and what of the evidence could not be read.

    Evidence is about files: standard input has none.
    """
    from pv.config import Config
    from pv.places import STDIN
    from pv.project import forget, project_around

    forget()
    projects: dict[Path, tuple[Config, list[Path]]] = {}
    for contract in contracts:
        config = project_around(contract.path.parent).config
        if config.evidence.is_dir() and str(contract.path) != STDIN:
            projects.setdefault(config.root, (config, []))[1].append(contract.path)
    levels: dict[Path, dict[int, Level]] = {}
    problems: list[tuple[str, str]] = []
    for config, paths in projects.values():
        from pv.status import survey

        found = survey(config, paths)
        problems += [(problem.path, problem.why) for problem in found.problems]
        for contract in found.contracts:
            levels[contract.path] = {}
        for row in found.rows:
            levels[row.contract.path][row.test.index] = row.earned.level
    return levels, problems


def _earned(one: Obligation, levels: dict[int, Level]) -> Level:
    """The best level of the tests that name it; FALSIFIED outranks all."""
    mine = [levels.get(test.index, Level.UNTESTED) for test in one.tests]
    if Level.FALSIFIED in mine:
        return Level.FALSIFIED
    return max(mine, key=lambda level: (level.worth, level is Level.STALE), default=Level.UNTESTED)


# -- what is said ------------------------------------------------------------------------------------------------------


def as_text(found: Coverage) -> str:
    """For each contract its counts and what is uncovered; the last line is the verdict on all."""
    lines = [line for part in found.parts for line in _told(part)]
    sums, share = totals(found.obligations), percent(found.obligations)
    counted = f"{plural(len(found.parts), 'contract')}: {summary(sums)}; {_shown(share)}"
    asked = "" if found.minimum is None else f", {float(found.minimum):g} % asked"
    word = f"{_word(found)}: " if found.code or found.minimum is not None else ""  # what was not asked is not accepted
    return "\n".join(map(printable, [*lines, f"{word}{counted}{asked}"]))


def _told(part: Covered) -> Iterator[str]:
    path = part.contract.path
    yield str(path)
    if part.obligations:
        yield f"  {summary(totals(part.obligations))}; {_shown(percent(part.obligations))}{_levels_told(part)}"
    else:
        yield "  no obligation: nothing to cover"
    if part.equations:
        bound, run = sum(bool(one.tests) for one in part.equations), sum(one.run for one in part.equations)
        yield f"  {plural(len(part.equations), 'equation')}: {bound} bound by a test, {run} run"
    for one in part.obligations:
        if one.why:
            yield f"  {path}:{one.line}: {one.id or one.text}: {one.why}"
    for equation in part.equations:
        if equation.why:
            yield f"  {path}:{equation.line}: equation {equation.name}: {equation.why}"


def _levels_told(part: Covered) -> str:
    if part.earned is None:
        return "; no evidence"
    counts = Counter(part.earned)
    return "; earned: " + ", ".join(f"{counts[level]} {level.value}" for level in Level if counts[level])


def _shown(share: Fraction | None) -> str:
    """Rounded down, so that 100.0 % means all."""
    return "nothing to cover" if share is None else f"{int(share * 10) / 10:.1f} % covered"


def _word(found: Coverage) -> str:
    return ("accept", "reject", "decline")[found.code]


def as_json(found: Coverage) -> str:
    """The documented JSON, see the head of this file."""
    all_earned = [level for part in found.parts for level in part.earned or ()]
    any_evidence = any(part.earned is not None for part in found.parts)
    earned = {level.value: all_earned.count(level) for level in Level} if any_evidence else None
    content = {
        "schema": "pv-coverage/1",
        "verdict": _word(found),
        "percent": _number(percent(found.obligations)),
        "minimum": _number(found.minimum),
        "totals": {"contracts": len(found.parts), **totals(found.obligations), "earned": earned},
        "contracts": [_mapping(part) for part in found.parts],
        "declined": [{"place": place, "reason": reason} for place, reason in found.declined],
    }
    return json.dumps(content, indent=2)


def _mapping(part: Covered) -> dict[str, Any]:
    earned = part.earned or (None,) * len(part.obligations)
    return {
        "contract": part.contract.stem,
        "path": str(part.contract.path),
        "percent": _number(percent(part.obligations)),
        "obligations": [
            {**mapping(one), "earned": level.value if level else None}
            for one, level in zip(part.obligations, earned, strict=True)
        ],
        "equations": [
            {
                "name": one.name,
                "line": one.line,
                "covered": one.run,
                "why": one.why,
                "tests": [test.id for test in one.tests],
            }
            for one in part.equations
        ],
    }


def _number(share: Fraction | None) -> float | None:
    return None if share is None else float(share)
