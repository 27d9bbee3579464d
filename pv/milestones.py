"""Goals of a project, and how much of each is earned: a percentage that is computed, never typed.

milestones.yaml, named by [tool.pv] milestones; a list of goals:

    - id: MODEL-1
      title: the first model that we ship
      tests:
      - {contract: model-parity-v1, test: FALSIFY-MODEL-PARITY-001, level: FUNCTIONAL, weight: 3}
      - {contract: model-parity-v1, test: FALSIFY-MODEL-PARITY-004, level: PARTIAL}

A test counts with its weight (1 where none is given) if it has earned its level today, or a higher one, and not at all
if it has not. The sum is rounded down: 100 % means all of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pv.contract import read_bytes
from pv.errors import PvError
from pv.ledger import short
from pv.ledger_diff import why
from pv.shapes import described, nearest
from pv.status import Row, Survey
from pv.words import Level, level_named
from pv.yaml_loader import Document, load

GOAL, WANTED = ("id", "title", "tests"), ("contract", "test", "level", "weight")
RUNGS = (Level.PARTIAL, Level.FUNCTIONAL, Level.DISCHARGED)
TYPED = ("percent", "pct", "progress", "ship", "score", "complete", "done")
"""What a key is called under which somebody types how far a goal is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A test that a goal asks for, and the level that it needs."""

    contract: str
    test: str
    level: Level
    weight: Fraction
    line: int

    @property
    def key(self) -> tuple[str, str]:
        return self.contract, self.test


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A set of tests with weights."""

    id: str
    title: str
    line: int
    tests: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How much of a goal is earned. rows: by test, what it has earned."""

    goal: Goal
    rows: Mapping[tuple[str, str], Row]

    def has(self, wanted: Wanted) -> bool:
        """Whether a test has earned what the goal asks of it."""
        return self.rows[wanted.key].earned.level.worth >= wanted.level.worth

    @property
    def reached(self) -> Fraction:
        return sum((wanted.weight for wanted in self.goal.tests if self.has(wanted)), Fraction(0))

    @property
    def total(self) -> Fraction:
        return sum((wanted.weight for wanted in self.goal.tests), Fraction(0))

    @property
    def percent(self) -> int:
        return math.floor(100 * self.reached / self.total)


def read(file: Path, where: str) -> list[Goal]:
    """The goals in a file. PvError, with file and line, for all that is not as it is written above."""
    document = load(read_bytes(file), where)
    if not isinstance(document.value, list) or not document.value:
        raise _error(
            document, where, (), f"milestones are a list of goals, not {described(document.value)}", "- id: MODEL-1"
        )
    goals: dict[str, Goal] = {}
    for index in range(len(document.value)):
        goal = _goal(document, where, index)
        if goal.id in goals:
            raise _error(
                document, where, (index, "id"), f"the goal {goal.id!r} stands in line {goals[goal.id].line} already"
            )
        goals[goal.id] = goal
    return list(goals.values())


def _goal(document: Document, where: str, index: int) -> Goal:
    entry = _record(document, where, (index,), GOAL, ("id", "title", "tests"))
    if not isinstance(entry["tests"], list) or not entry["tests"]:
        raise _error(
            document,
            where,
            (index, "tests"),
            f"the goal {entry['id']!r} asks for no test",
            "tests: a list of {contract, test, level}",
        )
    tests: dict[tuple[str, str], Wanted] = {}
    for number in range(len(entry["tests"])):
        wanted = _wanted(document, where, (index, "tests", number))
        if wanted.key in tests:
            raise _error(
                document,
                where,
                (index, "tests", number),
                f"{wanted.test} of {wanted.contract} stands in line {tests[wanted.key].line} already",
            )
        tests[wanted.key] = wanted
    line = document.position((index,)).line
    return Goal(
        id=_text(document, where, (index, "id")),
        title=_text(document, where, (index, "title")),
        line=line,
        tests=tuple(tests.values()),
    )


def _wanted(document: Document, where: str, at: tuple[str | int, ...]) -> Wanted:
    entry = _record(document, where, at, WANTED, ("contract", "test", "level"))
    level = level_named(str(entry["level"]))
    if level not in RUNGS:
        raise _error(
            document,
            where,
            (*at, "level"),
            f"{entry['level']!r} is no level that can be earned",
            "PARTIAL, FUNCTIONAL or DISCHARGED",
        )
    weight = entry.get("weight", 1)
    number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
    if not number or not weight > 0:
        raise _error(document, where, (*at, "weight"), f"a weight is a number above 0, not {described(weight)}")
    return Wanted(
        contract=_text(document, where, (*at, "contract")),
        test=_text(document, where, (*at, "test")),
        level=level,
        weight=Fraction(str(weight)),
        line=document.position(at).line,
    )


def _record(
    document: Document, where: str, at: tuple[str | int, ...], known: Sequence[str], needed: Sequence[str]
) -> dict[str, Any]:
    value = document.value
    for step in at:
        value = value[step]
    if not isinstance(value, dict):
        raise _error(document, where, at, f"must be a mapping with {', '.join(needed)}, not {described(value)}")
    for key in value:
        if key not in known:
            if any(word in key.lower() for word in TYPED) or "%" in key:
                what, hint = (
                    f"{key!r} types how far a goal is",
                    "percentages are computed from evidence: take the key out",
                )
            else:
                what, hint = f"there is no key {key!r}", nearest(key, known)
            raise _error(document, where, (*at, key), what, hint)
    for key in needed:
        if value.get(key) is None:
            raise _error(document, where, at, f"{key} is missing")
    return value


def _text(document: Document, where: str, at: tuple[str | int, ...]) -> str:
    value: Any = document.value
    for step in at:
        value = value[step]
    written = value if isinstance(value, str) else document.source(at)
    if not written or not written.strip():
        raise _error(document, where, at, f"{at[-1]} must be text, not {described(value)}")
    return written


def _error(document: Document, where: str, at: tuple[str | int, ...], what: str, hint: str = "") -> PvError:
    return PvError(what, where=f"{where}:{document.position(at).line}", hint=hint)


def standings(goals: Sequence[Goal], found: Survey, where: str) -> list[Standing]:
    """How much of each goal is earned. PvError, naming the line, for a contract or a test that is not there."""
    rows: dict[tuple[str, str], Row] = {}
    for row in found.rows:
        key = (row.contract.stem, row.test.id)
        rows[key] = min(
            rows.get(key, row), row, key=lambda row: row.earned.level.worth
        )  # of an id that stands twice, the worse
    stems = {contract.stem for contract in found.contracts}
    for goal in goals:
        for wanted in goal.tests:
            place = f"{where}:{wanted.line}"
            if wanted.contract not in stems:
                raise PvError(
                    f"{goal.id}: there is no contract {wanted.contract!r}",
                    where=place,
                    hint=nearest(wanted.contract, sorted(stems)),
                )
            if wanted.key not in rows:
                ids = [test for stem, test in rows if stem == wanted.contract]
                raise PvError(
                    f"{goal.id}: {wanted.contract} has no test {wanted.test!r}",
                    where=place,
                    hint=nearest(wanted.test, ids),
                )
    return [Standing(goal=goal, rows={wanted.key: rows[wanted.key] for wanted in goal.tests}) for goal in goals]


def because(old: Standing | None, new: Standing) -> list[str]:
    """Why a goal does not stand where it stood: tests that moved, and what it asks for that it did not."""
    if old is None:
        return ["the goal is new"]
    before, after = ({wanted.key: wanted for wanted in standing.goal.tests} for standing in (old, new))
    reasons = []
    for key, wanted in after.items():
        known = before.get(key)
        if known is None:
            reasons.append(
                f"{wanted.test} is asked for in addition, weight {_number(wanted.weight)}, {_state(new, wanted)}"
            )
            continue
        if (known.level, known.weight) != (wanted.level, wanted.weight):
            asked = [
                f"{level.value}, weight {_number(weight)}"
                for level, weight in ((known.level, known.weight), (wanted.level, wanted.weight))
            ]
            reasons.append(f"of {wanted.test} the goal asked {asked[0]} and asks {asked[1]}")
        was, now = old.rows[key].earned.level, new.rows[key].earned.level
        if was is not now:
            verb = "rose" if now.worth > was.worth else "went" if now.worth == was.worth else "fell"
            more = "" if now.worth > was.worth else f" ({why(new.rows[key].earned, risen=False)[0]})"
            reasons.append(f"{wanted.test} {verb} from {short(was)} to {short(now)}{more}")
    reasons += [
        f"{known.test} is not asked for any more, weight {_number(known.weight)}"
        for key, known in before.items()
        if key not in after
    ]
    return reasons


def _state(standing: Standing, wanted: Wanted) -> str:
    return "earned" if standing.has(wanted) else "not earned"


def _number(weight: Fraction) -> str:
    return str(weight.numerator) if weight.denominator == 1 else str(float(weight))
