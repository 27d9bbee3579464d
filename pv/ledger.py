"""`pv ledger`: every test with its level, the evidence for it, how old that is, and on how many machines it was seen.

JSON (`--format json`), keys in this order, "schema" changes when a key changes its meaning:

    {"schema": "pv-ledger/1", "date": day, "totals": as in pv-status/1,
     "tests": [{contract, path, line, test, stated, level, once, evidence, recorded, age_days, machines, overclaimed,
                broken, reasons}],
     "problems": [{path, why}], "notes": [text]}

level is what was earned, and once what a STALE test had earned; evidence are the digests of the records of today;
recorded is the time of the oldest evidence that supports the level, null where nothing does; age_days counts whole days
since then; machines counts those on which every promise was seen to survive; broken is why the test is an alarm
whatever its contract states, or "".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pv import markdown
from pv.excerpt import printable
from pv.status import Row, Survey, shown, totals
from pv.status_report import denominators
from pv.words import Level

COLUMNS = ("test", "level", "evidence", "recorded", "age", "machines", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the ledger, as it is told to a reader."""

    contract: str
    path: str
    line: int
    test: str
    stated: str | None
    level: Level
    once: Level
    evidence: tuple[str, ...]
    recorded: str | None
    age_days: int | None
    machines: int
    overclaimed: bool
    broken: str
    reasons: tuple[str, ...]


def entry_of(row: Row, root: Path, now: datetime) -> Entry:
    """The line of a test."""
    earned = row.earned
    return Entry(
        contract=row.contract.stem,
        path=shown(row.contract.path, root),
        line=row.test.line,
        test=row.test.id,
        stated=row.test.status,
        level=earned.level,
        once=earned.once,
        evidence=earned.evidence,
        recorded=earned.recorded,
        age_days=age(earned.recorded, now),
        machines=earned.machines,
        overclaimed=row.overclaimed,
        broken=row.broken,
        reasons=earned.reasons,
    )


def age(recorded: str | None, now: datetime) -> int | None:
    """Whole days since an RFC 3339 time, below 0 for one that lies ahead; None for no time."""
    try:
        then = datetime.fromisoformat(recorded or "")
    except ValueError:
        return None
    return (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).days


def entries(found: Survey, now: datetime) -> list[Entry]:
    """The ledger of a survey, in the order of its contracts and tests."""
    return [entry_of(row, found.root, now) for row in found.rows]


def exit_code(found: Survey) -> int:
    """0 where there is a contract and all could be read, else 2: a ledger with a hole tells less than it seems to."""
    return 0 if found.contracts and not found.problems else 2


def as_json(found: Survey, now: datetime) -> str:
    """The documented JSON, see the head of this file."""
    content = {
        "schema": "pv-ledger/1",
        "date": now.date().isoformat(),
        "totals": totals(found),
        "tests": [_mapping(entry) for entry in entries(found, now)],
        "problems": [{"path": shown(problem.path, found.root), "why": problem.why} for problem in found.problems],
        "notes": list(found.evidence.notes),
    }
    return json.dumps(content, indent=2)


def _mapping(entry: Entry) -> dict[str, Any]:
    return {
        "contract": entry.contract,
        "path": entry.path,
        "line": entry.line,
        "test": entry.test,
        "stated": entry.stated,
        "level": entry.level.value,
        "once": entry.once.value,
        "evidence": list(entry.evidence),
        "recorded": entry.recorded,
        "age_days": entry.age_days,
        "machines": entry.machines,
        "overclaimed": entry.overclaimed,
        "broken": entry.broken,
        "reasons": list(entry.reasons),
    }


def cells(entry: Entry) -> tuple[str, ...]:
    """A line's cells, in the order of COLUMNS."""
    return (
        entry.test,
        level_of(entry),
        f"{len(entry.evidence)} ({entry.evidence[0][:7]}{', ..' if len(entry.evidence) > 1 else ''})"
        if entry.evidence
        else "-",
        (entry.recorded or "-")[:10],
        "-" if entry.age_days is None else f"{entry.age_days} d" if entry.age_days >= 0 else "lies ahead",
        str(entry.machines) if entry.machines else "-",
        entry.reasons[0],
    )


def level_of(entry: Entry) -> str:
    """The level, what it once was, and what the contract states if that is another."""
    words = short(entry.level) + (f" (was {short(entry.once)})" if entry.once is not Level.UNTESTED else "")
    return f"{words}, states {entry.stated}" if entry.overclaimed else words


def short(level: Level) -> str:
    """A level as tables have it."""
    return "PARTIAL" if level is Level.PARTIAL else level.value


def as_text(found: Survey, now: datetime) -> str:
    """A table for each contract, what could not be read, and the totals."""
    lines: list[str] = []
    for path, some in by_contract(entries(found, now)):
        lines += [printable(path), *aligned([COLUMNS, *(cells(entry) for entry in some)]), ""]
    return "\n".join([*lines, *problems(found), denominators(found)])


def problems(found: Survey) -> list[str]:
    """What could not be read, and what a reader should know beside, a line each."""
    lines = [f"unreadable: {shown(problem.path, found.root)}: {problem.why}" for problem in found.problems]
    return [printable(line) for line in [*lines, *(f"note: {note}" for note in found.evidence.notes)]]


def by_contract(some: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """The lines below the paths of their contracts."""
    found: dict[str, list[Entry]] = {}
    for entry in some:
        found.setdefault(entry.path, []).append(entry)
    return list(found.items())


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns, the last one as long as it is."""
    shown_rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown_rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown_rows
    ]


def as_markdown(found: Survey, now: datetime) -> str:
    """A table for each contract; nothing that a contract says is taken for markup."""
    lines = ["### Ledger", ""]
    for path, some in by_contract(entries(found, now)):
        rows = [[markdown.code(entry.test), *map(markdown.text, cells(entry)[1:])] for entry in some]
        lines += [markdown.code(path), "", *markdown.table(COLUMNS, rows), ""]
    lines += [f"- {markdown.text(line)}" for line in problems(found)] + [""] * bool(problems(found))
    return "\n".join([*lines, markdown.text(denominators(found))])
