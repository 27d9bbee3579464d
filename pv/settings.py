"""What a project makes of the findings about it: [tool.pv] of pyproject.toml.

[tool.pv]
baseline = "pv-baseline.json"       # findings that were known when it was written: pv.baseline

[tool.pv.severity]                  # by rule: error, warning, note or off
SCHEMA-009 = "error"

[[tool.pv.suppress]]
rule = "SCHEMA-013"
path = "contracts/old/**"           # from the folder of pyproject.toml; * and ? stay within a folder, ** does not
contains = "no qa_gate"             # optional: only findings whose message has this text
reason = "the gates move with the next release"
until = 2027-03-31                  # the last day on which it counts

[[tool.pv.changelog]]               # what `pv gate` accepts of a change of these settings: pv.changelog
reason = "the helper is a project of its own now"
accepts = ["first-party helper"]

What makes a file no contract at all can be neither lowered nor suppressed: nothing in such a file was measured.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pv.baseline import Key, read
from pv.changelog import Entry, project_entries
from pv.config import config_of, content_around
from pv.errors import PvError
from pv.findings import RULES, SEVERITIES, WARNING, Finding, Rule, reader_rule
from pv.paths import as_written, require
from pv.places import pattern
from pv.rules import RULE_MODULES
from pv.shapes import nearest

assert RULE_MODULES  # whose import fills the table of rules

STALE = reader_rule("PV-SUP-001", WARNING, "a suppression has something to suppress")
EXPIRED = reader_rule("PV-SUP-002", WARNING, "a suppression that something needs is not past its date")
GONE = reader_rule("PV-SUP-003", WARNING, "what stands in the baseline still occurs")
ABOUT_SETTINGS = (STALE, EXPIRED, GONE)

OFF = "off"
LEVELS = (*SEVERITIES, OFF)
NEEDED, OPTIONAL = ("rule", "path", "reason", "until"), ("contains",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """Findings of a rule that do not count up to a day, and why; `line` is where it stands in pyproject.toml."""

    rule: str
    path: str
    reason: str
    until: date
    contains: str = ""
    line: int = 1

    def matches(self, found: Finding, place: str) -> bool:
        return (
            found.rule == self.rule and self.contains in found.message and pattern(self.path).match(place) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a project asks for; without a project, nothing.

    root       the folder that paths in settings and reports are relative to
    file       the pyproject.toml that holds the settings
    baseline   the file of known findings, and `known`, what it holds
    contracts  the folder of the project's contracts
    changelog  what was loosened on purpose
    """

    root: Path = Path()
    file: Path = Path("pyproject.toml")
    severity: Mapping[str, str] = field(default_factory=dict)
    suppressions: tuple[Suppression, ...] = ()
    baseline: Path | None = None
    known: Counter[Key] = field(default_factory=Counter)
    contracts: Path = Path("contracts")
    changelog: tuple[Entry, ...] = ()

    def changed(self, *, lint: bool) -> dict[str, str]:
        """The rules of a run that have another severity than their own; `lint`, those of `pv lint` too."""
        return {
            rule: level
            for rule, level in self.severity.items()
            if level != RULES[rule].severity and (lint or not RULES[rule].lint)
        }


def settings_around(start: Path, *, renewing: bool = False) -> Settings:
    """The settings of the project around a folder. PvError for what is misspelt, missing or of a wrong type.

    renewing  the baseline is about to be written, so it need not be there yet; but it must have a name
    """
    root, content = content_around(start)
    file = root / "pyproject.toml"
    config = config_of(root, content)
    table: dict[str, Any] = content.get("tool", {}).get("pv", {})
    name = table.get("baseline")
    require(root, content)
    if renewing and name is None:
        hint = 'write baseline = "pv-baseline.json" under [tool.pv]'
        raise PvError("the project names no baseline", where=str(file), hint=hint)
    known = root / name if name else None
    return Settings(
        root=root,
        file=file,
        severity=_severities(table.get("severity", {}), str(file)),
        suppressions=_suppressions(table.get("suppress", []), file),
        baseline=known,
        known=read(known) if known and not (renewing and not known.exists()) else Counter(),
        contracts=config.contracts,
        changelog=_changelog(table.get("changelog", []), file),
    )


def fixed(rule: Rule) -> bool:
    """Whether a rule is kept by the reader: in a file that breaks it, no other rule was asked."""
    return not (rule.check or rule.across or rule.within) and rule not in ABOUT_SETTINGS


def _severities(table: object, where: str) -> dict[str, str]:
    if not isinstance(table, dict):
        raise PvError("[tool.pv.severity] must be a table from rules to severities", where=where)
    for name, level in table.items():
        _changeable(name, f"{where}: [tool.pv.severity]")
        if level not in LEVELS:
            raise PvError(
                f"[tool.pv.severity] {name} must be one of {', '.join(LEVELS)}, not {as_written(level)}", where=where
            )
    return dict(table)


def _suppressions(entries: object, file: Path) -> tuple[Suppression, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PvError("suppress must be a list of tables", where=str(file), hint="write [[tool.pv.suppress]]")
    lines = _headers("suppress", file, len(entries)) if entries else []
    return tuple(_suppression(entry, line, file) for entry, line in zip(entries, lines, strict=True))


def _changelog(entries: object, file: Path) -> tuple[Entry, ...]:
    lines = _headers("changelog", file, len(entries)) if isinstance(entries, list) and entries else []
    return project_entries(entries, lines, str(file))


def _headers(key: str, file: Path, count: int) -> list[int]:
    """The lines of [[tool.pv.<key>]]; all 1 where the entries are written in another form of TOML."""
    header = re.compile(rf"\s*\[\[\s*tool\s*\.\s*pv\s*\.\s*{key}\s*\]\]")
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, 1) if header.match(line)]
    return found if len(found) == count else [1] * count


def _suppression(entry: dict[str, Any], line: int, file: Path) -> Suppression:
    where = f"{file}:{line}: [[tool.pv.suppress]]"
    for key in entry:
        if key not in (*NEEDED, *OPTIONAL):
            raise PvError(f"there is no key {key!r}", where=where, hint=nearest(key, (*NEEDED, *OPTIONAL)))
    for key in NEEDED:
        if key not in entry:
            hint = "a suppression says which rule it is about, in which files, why, and until when"
            raise PvError(f"{key} is missing", where=where, hint=hint)
    for key, value in entry.items():
        if key != "until" and (not isinstance(value, str) or not value.strip()):
            raise PvError(f"{key} must be text, not {as_written(value)}", where=where)
    until = entry["until"]
    if not isinstance(until, date) or isinstance(until, datetime):
        hint = f"write until = {until.date() if isinstance(until, datetime) else '2027-03-31'}"
        raise PvError(f"until must be a date, not {as_written(until)}", where=where, hint=hint)
    if _changeable(entry["rule"], where) in ABOUT_SETTINGS:
        raise PvError(f"{entry['rule']} cannot be suppressed", where=where, hint="mend the settings that it is about")
    return Suppression(**entry, line=line)


def _changeable(name: str, where: str) -> Rule:
    if name not in RULES:
        raise PvError(f"there is no rule {name!r}", where=where, hint=_instead(name))
    if fixed(RULES[name]):
        raise PvError(f"{name} cannot be changed", where=where, hint="a file that breaks it holds nothing to accept")
    return RULES[name]


def _instead(wrong: str) -> str:
    """A hint for an id that no rule has: where the public tool's went, or the nearest one."""
    from pv.catalog import ASKED_BY, LEFT_OUT, gone_to
    from pv.explain import suggested

    told = gone_to(wrong.upper())
    if told:
        return f"{wrong.upper()} {told}"
    meant = suggested(wrong.upper(), (*RULES, *ASKED_BY, *LEFT_OUT))
    told = gone_to(meant)
    return f"did you mean {meant!r}?{f' {meant} {told}' if told else ''}" if meant else "`pv explain` lists them"
