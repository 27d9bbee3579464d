"""`pv status`: what every falsification test states, what it has earned, and why.

JSON (`--json`), keys in this order, "schema" changes when a key changes its meaning:

    {"schema": "pv-status/1",
     "totals": {contracts, declared, bound, with_evidence, survived, stale, falsified, records, unreadable},
     "tests": [{contract, path, line, test, bound, stated, earned, once, overclaimed, models, counts, reasons}],
     "problems": [{path, why}]}

stated is the contract's own word, or null; earned and once are levels; counts are those of pv.levels.Earned.
"""

import json
from pathlib import Path
from typing import Any

from pv.excerpt import printable
from pv.status import Row, Survey, shown, totals
from pv.words import Level


def as_json(found: Survey) -> str:
    """The documented JSON, see the head of this file."""
    content = {
        "schema": "pv-status/1",
        "totals": totals(found),
        "tests": [_entry(row, found.root) for row in found.rows],
        "problems": [{"path": shown(problem.path, found.root), "why": problem.why} for problem in found.problems],
    }
    return json.dumps(content, indent=2)


def _entry(row: Row, root: Path) -> dict[str, Any]:
    return {
        "contract": row.contract.stem,
        "path": shown(row.contract.path, root),
        "line": row.test.line,
        "test": row.test.id,
        "bound": row.bound,
        "stated": row.test.status,
        "earned": row.earned.level.value,
        "once": row.earned.once.value,
        "overclaimed": row.overclaimed,
        "models": list(row.earned.models),
        "counts": dict(row.earned.counts),
        "reasons": list(row.earned.reasons),
    }


COLUMNS = ("test", "stated", "earned", "survived", "mutants", "models", "why")


def as_text(found: Survey) -> str:
    """A table for each contract, what could not be read, and the totals."""
    lines: list[str] = []
    for contract in found.contracts:
        rows = [row for row in found.rows if row.contract is contract]
        lines += [printable(shown(contract.path, found.root)), *_table([cells(row) for row in rows]), ""]
    return "\n".join([*lines, *notes(found)])


def notes(found: Survey) -> list[str]:
    """The lines below the tables: what could not be read, what states more than it earned, and the totals."""
    lines = [f"unreadable: {shown(problem.path, found.root)}: {problem.why}" for problem in found.problems]
    lines += [f"note: {note}" for note in found.evidence.notes]
    lines += [f"note: {row.test.id}: {apart}" for row in found.rows for apart in row.earned.variables]
    lines += [
        f"overclaimed: {shown(row.contract.path, found.root)}:{row.test.line}: {row.test.id} states "
        f"{row.test.status or Level.UNTESTED}, earned {row.earned.level.value}"
        for row in found.rows
        if row.overclaimed
    ]
    lines += [
        f"broken: {shown(row.contract.path, found.root)}:{row.test.line}: {row.test.id}: {row.broken}"
        for row in found.rows
        if row.broken
    ]
    return [*map(printable, lines), denominators(found)]


def denominators(found: Survey) -> str:
    """The totals in one line, which ends every verdict."""
    sums = totals(found)
    return (
        f"contracts {sums['contracts']}; tests {sums['declared']} declared, {sums['bound']} bound, "
        f"{sums['with_evidence']} with evidence of today, {sums['survived']} survived, {sums['falsified']} falsified, "
        f"{sums['stale']} stale; records {sums['records']} read, {sums['unreadable']} files unreadable"
    )


def cells(row: Row) -> tuple[str, ...]:
    """A test's line in the table, in the order of COLUMNS."""
    count = row.earned.counts
    once = f" (was {_short(row.earned.once)})" if row.earned.once is not Level.UNTESTED else ""
    texts = (
        row.test.id,
        _short(row.stated) if row.stated else str(row.test.status),
        _short(row.earned.level) + once,
        f"{count['survived']}/{count['planned'] - count['mutants']}" if row.bound else "-",
        f"{count['killed']}/{count['mutants']}" if row.bound else "-",
        ", ".join(row.earned.models) or "-",
        row.earned.reasons[0],
    )
    return tuple(map(printable, texts))


def _short(level: Level) -> str:
    return "PARTIAL" if level is Level.PARTIAL else level.value


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows under their headings, columns aligned, the last one as long as it is."""
    cells = [COLUMNS, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = []
    for row in cells:
        parts = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(parts).rstrip())
    return lines
