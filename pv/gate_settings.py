"""The check of `pv gate` about the project's own word: settings and goals that ask for less than they did.

What [tool.pv] says decides what is digested, whom to believe, and which findings count. A change of it that loosens is
accepted by a new entry of pyproject.toml, see pv.changelog.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pv.at_revision import Version
from pv.baseline import lines_of
from pv.canonical import sha256
from pv.changelog import Entry
from pv.config import Config
from pv.errors import PvError
from pv.findings import ERROR, NOTE, RULES, WARNING
from pv.gate_evidence import place_and_line
from pv.gate_sides import GOAL, SETTING, UNREADABLE, Finding, Sides
from pv.ledger import short
from pv.milestones import Goal, read
from pv.settings import OFF, Settings, settings_around
from pv.status import shown
from pv.words import Level

LEVELS = (OFF, NOTE, WARNING, ERROR)
"""Severities, the weakest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a version of a project says of itself."""

    config: Config
    settings: Settings
    goals: Mapping[str, Goal]

    def at(self, name: str, message: str, line: int, *, id: str = SETTING, file: Path | None = None) -> Finding:
        accepts = f'[[tool.pv.changelog]] with a reason and accepts = ["{name}"]'
        return Finding(
            id=id,
            path=shown(file or self.settings.file, self.config.root),
            line=line,
            message=message,
            hint=f"put it back, or accept it: a new entry of pyproject.toml, {accepts}",
            test=name,
        )

    def line(self, pattern: str) -> int:
        """The line of pyproject.toml that a pattern matches; else that of [tool.pv], else the first."""
        file = self.settings.file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for wanted in (pattern, r"\[\s*tool\s*\.\s*pv\s*[\].]"):
            for number, line in enumerate(lines, 1):
                if re.match(rf"\s*{wanted}", line):
                    return number
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of comparing two versions. declined: (path, reason); base and head: entries of their changelogs."""

    findings: tuple[Finding, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()
    base: tuple[Entry, ...] = ()
    head: tuple[Entry, ...] = ()


def settings(version: Version, config: Config, sides: Sides) -> Asked:
    """Compare the settings and goals of the base with those of the working tree."""
    try:
        head = _project_of(config)
    except PvError as error:
        path, line = place_and_line(error.where.partition(": ")[0])
        hint = "mend it: what cannot be read is not judged"
        where = shown(path, config.root)
        return Asked(
            findings=(Finding(id=UNREADABLE, path=where, line=line, message=str(error.args[0]), hint=hint),),
        )
    try:
        base = _project_of(version.config)
        found = (*_code(base, head), *_keys(base, head), *_rules(base, head), *_baseline(base, head))
        findings = (*found, *_goals(base, head, sides))
    except PvError as error:
        place = f"{version.title}: {version.plain(error.where)}"
        return Asked(declined=((place, version.plain(str(error.args[0]))),))
    return Asked(findings=findings, base=base.settings.changelog, head=head.settings.changelog)


def _project_of(config: Config) -> Project:
    file = config.milestones
    goals = read(file, str(file)) if file else []
    return Project(config=config, settings=settings_around(config.root), goals={goal.id: goal for goal in goals})


def _code(base: Project, head: Project) -> Iterator[Finding]:
    for name in base.config.first_party:
        there = any((folder / name).is_dir() or (folder / f"{name}.py").is_file() for folder in head.config.sources)
        if name not in head.config.first_party and there:
            what = f"{name} is no longer first-party, and its code is still there: a change of it would not be noticed"
            yield head.at(f"first-party {name}", what, head.line(r"first-party\s*="))
    now = dict(head.config.scripts)
    for name, module in base.config.scripts:
        if now.get(name) != module:
            what = f"the console script {name} led to {module} and leads to {now.get(name, 'nothing')}: what starts it"
            line = head.line(r"\[\s*project\s*\.\s*scripts\s*\]")
            yield head.at(f"script {name}", f"{what} no longer has that module in its digest", line)


def _keys(base: Project, head: Project) -> Iterator[Finding]:
    try:
        was, now = ({sha256(key.read_bytes()): key for key in side.config.trusted_keys} for side in (base, head))
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None
    line = head.line(r"trusted-keys\s*=")
    if was and not now:
        yield head.at("trusted-keys", "no key is trusted any more: runs that nobody signed are believed", line)
    elif was and (more := [shown(key, head.config.root) for digest, key in now.items() if digest not in was]):
        what = f"{', '.join(more)} {'are keys' if len(more) > 1 else 'is a key'} that the base does not trust"
        yield head.at("trusted-keys", f"{what}: what it signs would be believed", line)


def _rules(base: Project, head: Project) -> Iterator[Finding]:
    for name, rule in sorted(RULES.items()):
        was, now = (side.settings.severity.get(name, rule.severity) for side in (base, head))
        if LEVELS.index(now) < LEVELS.index(was):
            line = head.line(rf"[\"']?{re.escape(name)}[\"']?\s*=")
            yield head.at(f"severity {name}", f"the severity of {name} went from {was} to {now}", line)
    known = {(one.rule, one.path, one.contains): one.until for one in base.settings.suppressions}
    for one in head.settings.suppressions:
        until = known.get((one.rule, one.path, one.contains))
        if until is None or one.until > until:
            what = f"{one.rule} is suppressed in {one.path} until {one.until}"
            what += f", and was until {until}" if until else ", and was not"
            yield head.at(f"suppress {one.rule}", what, one.line)


def _baseline(base: Project, head: Project) -> Iterator[Finding]:
    more, file = head.settings.known - base.settings.known, head.settings.baseline
    if more and file:
        first = min(more)
        number = sum(more.values())
        what = f"the baseline holds {number} finding{'s' if number > 1 else ''} that it did not hold"
        line = lines_of(file, head.settings.known).get(first, 1)
        yield head.at("baseline", f"{what}: {first.rule} in {first.path}", line, file=file)


def _goals(base: Project, head: Project, sides: Sides) -> Iterator[Finding]:
    file = head.config.milestones
    for old in base.goals.values():
        new = head.goals.get(old.id)
        if new is None or file is None:
            yield head.at(f"goal {old.id}", f"the goal {old.id} is gone", 1, id=GOAL, file=file)
        elif parts := list(_less(old, new, sides)):
            yield head.at(f"goal {old.id}", f"{old.id} {'; '.join(parts)}", new.line, id=GOAL, file=file)


def _less(old: Goal, new: Goal, sides: Sides) -> Iterator[str]:
    """What a goal asks for less, or otherwise, than it did."""
    now = {wanted.key: wanted for wanted in new.tests}
    for was in old.tests:
        wanted = now.get((sides.stem(was.contract), was.test))
        if wanted is None:
            yield f"no longer asks for {was.test}"
            continue
        if wanted.level.worth < was.level.worth:
            yield f"asks {short(wanted.level)} of {was.test}, and asked {short(was.level)}"
        if wanted.weight != was.weight:
            yield f"gives {was.test} the weight {float(wanted.weight):g}, and gave {float(was.weight):g}"
    before, after = _share(old, sides), _share(new, sides)
    if after > before:
        yield f"is at {int(100 * after)}% by the goal as it is written now, and at {int(100 * before)}% as it was"


def _share(goal: Goal, sides: Sides) -> Fraction:
    """How much of a goal of either version the new version has earned."""
    earned = {(row.contract.stem, row.test.id): row.earned.level for row in sides.head.rows}
    got = [
        wanted.weight
        for wanted in goal.tests
        if earned.get((sides.stem(wanted.contract), wanted.test), Level.UNTESTED).worth >= wanted.level.worth
    ]
    return sum(got, Fraction(0)) / sum((wanted.weight for wanted in goal.tests), Fraction(0))
