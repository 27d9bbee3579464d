"""What `pv validate` and `pv lint` say: text for people, JSON for programs.

JSON, schema pv-validate/1; keys may be added, none changes its meaning:

    {"schema": "pv-validate/1", "verdict": "accept" | "reject" | "decline", "files": n, "accepted": n, "rejected": n,
     "errors": n, "warnings": n, "notes": n, "strict": bool, "tests": {"declared": n, "bound": n},
     "findings": [FINDING], "suppressed": [FINDING and "reason", "until"], "known": [FINDING],
     "settings": {RULE: severity}, "declined": [{"path", "reason"}], "skipped": [path]}
    FINDING = {"rule", "severity", "path", "line", "column", "message", "hint", "end_column"}

`findings` are those that count; `settings` names the rules that have another severity than their own.
"""

import json
from dataclasses import fields
from typing import Any

from pv.excerpt import Sources, excerpt, printable
from pv.findings import ERROR, NOTE, WARNING, Finding
from pv.validate import ACCEPT, REJECT, Verdict

__all__ = ["as_json", "as_text", "printable", "summary", "word"]


def as_json(verdict: Verdict) -> str:
    """The verdict as JSON, in the shape above."""
    content = {
        "schema": "pv-validate/1",
        "verdict": word(verdict),
        "files": len(verdict.checked),
        "accepted": verdict.accepted,
        "rejected": verdict.rejected,
        "errors": _count(verdict, ERROR),
        "warnings": _count(verdict, WARNING),
        "notes": _count(verdict, NOTE),
        "strict": verdict.strict,
        "tests": {"declared": verdict.declared, "bound": verdict.bound},
        "findings": [_mapping(found) for found in verdict.findings],
        "suppressed": [
            {**_mapping(found), "reason": entry.reason, "until": str(entry.until)}
            for found, entry in verdict.suppressed
        ],
        "known": [_mapping(found) for found in verdict.known],
        "settings": verdict.settings.changed(lint=verdict.lint),
        "declined": [{"path": path, "reason": reason} for path, reason in verdict.declined],
        "skipped": [str(path) for path in verdict.skipped],
    }
    return json.dumps(content, indent=2)


def as_text(verdict: Verdict, *, notes: bool = False, quiet: bool = False) -> str:
    """A line for each finding, its source line with carets, and its hint; the last line counts what was measured.

    notes  show notes too; without, they are only counted
    quiet  the last line alone
    """
    return "\n".join([*([] if quiet else _details(verdict, notes)), summary(verdict, notes=notes)])


def _details(verdict: Verdict, notes: bool) -> list[str]:
    lines: list[str] = []
    sources = Sources({str(path): data for path, data in verdict.given.items()})
    for found in verdict.findings:
        if found.severity == NOTE and not notes:
            continue
        place = f"{found.path}:{found.line}:{found.column}"
        lines.append(printable(f"{place}: {found.severity} {found.rule}: {found.message}"))
        lines += excerpt(found, sources)
        if found.hint:
            lines.append(printable(f"  hint: {found.hint}"))
    lines += [printable(f"{path}: not measured: {reason}".removeprefix(": ")) for path, reason in verdict.declined]
    return lines


def summary(verdict: Verdict, *, notes: bool = True) -> str:
    """The verdict in a line, with its denominators, and all that the settings took out of it."""
    hidden = _count(verdict, NOTE)
    unbound = verdict.declared - verdict.bound
    found = [_plural(_count(verdict, ERROR), "error"), _plural(_count(verdict, WARNING), "warning")]
    if hidden:
        found.append(_plural(hidden, "note") + ("" if notes else " (shown with --notes)"))
    parts = [
        f"{_plural(len(verdict.checked), 'file')}: {verdict.accepted} accepted, {verdict.rejected} rejected",
        ", ".join(found) + (", warnings reject" if verdict.strict else ""),
        f"{_plural(verdict.declared, 'test')} declared, {verdict.bound} bound"
        + (f", {unbound} unbound (nothing runs them)" if unbound else ""),
    ]
    if verdict.declined:
        parts.append(f"{len(verdict.declined)} not measured")
    if verdict.skipped:
        parts.append(f"{len(verdict.skipped)} skipped (no contract, hidden or linked)")
    if verdict.suppressed:
        parts.append(f"{_plural(len(verdict.suppressed), 'finding')} suppressed")
    if verdict.known:
        parts.append(f"{_plural(len(verdict.known), 'finding')} known from the baseline")
    if changed := verdict.settings.changed(lint=verdict.lint):
        rules = ", ".join(f"{rule} {level}" for rule, level in sorted(changed.items()))
        parts.append(f"{_plural(len(changed), 'rule')} changed by settings ({rules})")
    return f"{word(verdict)}: " + "; ".join(parts)


def word(verdict: Verdict) -> str:
    return "accept" if verdict.code == ACCEPT else "reject" if verdict.code == REJECT else "decline"


def _count(verdict: Verdict, severity: str) -> int:
    return sum(found.severity == severity for found in verdict.findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _mapping(found: Finding) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}
