"""`pv ledger --milestones`: how much of each goal is earned, what is missing, and what changed since another version.

JSON (`--format json`), keys in this order, "schema" changes when a key changes its meaning:

    {"schema": "pv-milestones/1", "base": {name, commit} | null,
     "goals": [{id, title, line, percent, base_percent, reached, total, because,
                "tests": [{contract, test, needs, earned, weight, counts}]}],
     "removed": [{id, title, base_percent}], "declined": [{path, reason}]}

reached and total are sums of weights; base_percent is null without a base, and for a goal that it lacks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pv import markdown
from pv.at_revision import Version, version_at, working_tree
from pv.config import Config
from pv.errors import PvError
from pv.excerpt import printable
from pv.ledger import short
from pv.ledger_diff import unread
from pv.milestones import Standing, Wanted, because, read, standings
from pv.status import shown, survey
from pv.words import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A goal now and in the base; base is None where there is none, or it lacks the goal."""

    now: Standing
    base: Standing | None
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a run. removed: goals that only the base has; declined: (path, reason) of what was not read."""

    lines: tuple[Line, ...]
    base: Version | None
    removed: tuple[Standing, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()

    @property
    def code(self) -> int:
        return 2 if self.declined else 0


def report(config: Config, ref: str | None) -> Report:
    """The goals of a project, and since a revision if one is given. PvError where there are none, or they are wrong."""
    now, declined = _standing(working_tree(config))
    if not now:
        hint = 'write milestones = "milestones.yaml" under [tool.pv]'
        raise PvError("the project names no milestones", where=str(config.root / "pyproject.toml"), hint=hint)
    if ref is None:
        return Report(
            lines=tuple(Line(now=each, base=None, because=()) for each in now), base=None, declined=tuple(declined)
        )
    with version_at(ref, config.root) as version:
        then, more = _standing(version)
        declined += [(f"{version.title}: {path}", why) for path, why in more]
        before = {each.goal.id: each for each in then}
        lines = [
            Line(
                now=each,
                base=before.get(each.goal.id),
                because=tuple(map(version.plain, because(before.get(each.goal.id), each))),
            )
            for each in now
        ]
    ids = {each.goal.id for each in now}
    removed = tuple(each for each in then if each.goal.id not in ids)
    return Report(lines=tuple(lines), base=version, removed=removed, declined=tuple(declined))


def _standing(version: Version) -> tuple[list[Standing], list[tuple[str, str]]]:
    """The goals of a version by its own ledger, and what of it could not be read."""
    if version.config.milestones is None:
        return [], []
    where = shown(version.config.milestones, version.config.root) if version.commit else str(version.config.milestones)
    where = f"{version.title}: {where}" if version.commit else where
    goals = read(version.config.milestones, where)
    found = survey(version.config)
    return standings(goals, found, where), unread(version, found)


def headline(line: Line, base: Version | None) -> str:
    """The goal in a sentence."""
    goal, now = line.now.goal.id, f"{line.now.percent}%"
    if base is None:
        return f"{goal}: {now}"
    if line.base is None:
        return f"{goal}: {now}, new since {base.title}"
    step = f"{line.base.percent}% -> {now}" if line.base.percent != line.now.percent else f"{now}, unchanged"
    reasons = f", because {'; '.join(line.because)}" if line.because and line.base.percent != line.now.percent else ""
    moved = f", though {'; '.join(line.because)}" if line.because and not reasons else ""
    return f"{goal}: {step} since {base.title}{reasons}{moved}"


def missing(line: Line) -> list[str]:
    """What the goal still lacks."""
    return [
        f"{wanted.test} needs {short(wanted.level)}, earned {short(_earned(line.now, wanted))}: "
        f"{line.now.rows[wanted.key].earned.reasons[0]}"
        for wanted in line.now.goal.tests
        if not line.now.has(wanted)
    ]


def _earned(standing: Standing, wanted: Wanted) -> Level:
    return standing.rows[wanted.key].earned.level


def summary(found: Report) -> str:
    """The denominators."""
    goals = [line.now for line in found.lines]
    tests = sum(len(standing.goal.tests) for standing in goals)
    earned = sum(standing.has(wanted) for standing in goals for wanted in standing.goal.tests)
    more = f"; {len(found.declined)} not read" if found.declined else ""
    whole = sum(standing.percent == 100 for standing in goals)
    number = f"{len(goals)} goal{'' if len(goals) == 1 else 's'}, {whole} reached"
    return f"{number}; {earned} of {tests} tests have earned what they need{more}"


def _removed(found: Report) -> list[str]:
    assert found.base is not None or not found.removed
    return [
        f"{each.goal.id}: {each.percent}% in {found.base.title if found.base else ''}, no goal any more"
        for each in found.removed
    ]


def as_text(found: Report) -> str:
    """A line for each goal, below it what is missing; then goals that are gone, what was not read, and the totals."""
    lines: list[str] = []
    for line in found.lines:
        lines += [
            f"{headline(line, found.base)}  {line.now.goal.title}" if found.base is None else headline(line, found.base)
        ]
        lines += [f"    {each}" for each in missing(line)]
    lines += [*_removed(found), *(f"not read: {path}: {reason}" for path, reason in found.declined), summary(found)]
    return "\n".join(map(printable, lines))


def as_markdown(found: Report) -> str:
    """For a comment on a pull request."""
    lines = ["### Milestones", ""]
    for line in found.lines:
        lines.append(f"- **{markdown.text(headline(line, found.base))}** {markdown.text(line.now.goal.title)}")
        lines += [f"  - {markdown.text(each)}" for each in missing(line)]
    lines += [f"- {markdown.text(each)}" for each in _removed(found)]
    lines += [f"- not read: {markdown.text(path)}: {markdown.text(reason)}" for path, reason in found.declined]
    return "\n".join([*lines, "", markdown.text(summary(found))])


def as_json(found: Report) -> str:
    """The documented JSON, see the head of this file."""
    content = {
        "schema": "pv-milestones/1",
        "base": {"name": found.base.name, "commit": found.base.commit} if found.base else None,
        "goals": [_mapping(line) for line in found.lines],
        "removed": [
            {"id": each.goal.id, "title": each.goal.title, "base_percent": each.percent} for each in found.removed
        ],
        "declined": [{"path": path, "reason": reason} for path, reason in found.declined],
    }
    return json.dumps(content, indent=2)


def _mapping(line: Line) -> dict[str, Any]:
    standing = line.now
    return {
        "id": standing.goal.id,
        "title": standing.goal.title,
        "line": standing.goal.line,
        "percent": standing.percent,
        "base_percent": line.base.percent if line.base else None,
        "reached": float(standing.reached),
        "total": float(standing.total),
        "because": list(line.because),
        "tests": _tests(standing, standing.goal.tests),
    }


def _tests(standing: Standing, tests: Sequence[Wanted]) -> list[dict[str, Any]]:
    return [
        {
            "contract": wanted.contract,
            "test": wanted.test,
            "needs": wanted.level.value,
            "earned": _earned(standing, wanted).value,
            "weight": float(wanted.weight),
            "counts": standing.has(wanted),
        }
        for wanted in tests
    ]
