"""What `pv validate` says: text for people, JSON for programs.

JSON, schema pv-validate/1; keys may be added, none changes its meaning:

    {"schema": "pv-validate/1", "verdict": "accept" | "reject" | "decline", "files": n, "accepted": n, "rejected": n,
     "errors": n, "warnings": n, "tests": {"declared": n, "bound": n},
     "findings": [{"rule", "severity", "path", "line", "column", "message", "hint"}],
     "declined": [{"path", "reason"}], "skipped": [path]}
"""

import json
from dataclasses import fields
from typing import Any

from pv.findings import ERROR, WARNING, Finding
from pv.validate import ACCEPT, REJECT, Verdict


def as_json(verdict: Verdict) -> str:
    """The verdict as JSON, in the shape above."""
    content = {
        "schema": "pv-validate/1",
        "verdict": _word(verdict),
        "files": len(verdict.checked),
        "accepted": verdict.accepted,
        "rejected": verdict.rejected,
        "errors": _count(verdict, ERROR),
        "warnings": _count(verdict, WARNING),
        "tests": {"declared": verdict.declared, "bound": verdict.bound},
        "findings": [_mapping(finding) for finding in verdict.findings],
        "declined": [{"path": path, "reason": reason} for path, reason in verdict.declined],
        "skipped": [str(path) for path in verdict.skipped],
    }
    return json.dumps(content, indent=2)


def as_text(verdict: Verdict) -> str:
    """One line per finding, with a hint below where there is one; the last line counts what was measured."""
    lines = []
    for finding in verdict.findings:
        place = f"{finding.path}:{finding.line}:{finding.column}"
        lines.append(printable(f"{place}: {finding.severity} {finding.rule}: {finding.message}"))
        if finding.hint:
            lines.append(printable(f"  hint: {finding.hint}"))
    lines += [printable(f"{path}: not measured: {reason}".removeprefix(": ")) for path, reason in verdict.declined]
    return "\n".join([*lines, _summary(verdict)])


def _summary(verdict: Verdict) -> str:
    errors, warnings = _count(verdict, ERROR), _count(verdict, WARNING)
    unbound = verdict.declared - verdict.bound
    parts = [
        f"{_plural(len(verdict.checked), 'file')}: {verdict.accepted} accepted, {verdict.rejected} rejected",
        f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')}",
        f"{_plural(verdict.declared, 'test')} declared, {verdict.bound} bound"
        + (f", {unbound} unbound (nothing runs them)" if unbound else ""),
    ]
    if verdict.declined:
        parts.append(f"{len(verdict.declined)} not measured")
    if verdict.skipped:
        parts.append(f"{len(verdict.skipped)} skipped as no contracts")
    return f"{_word(verdict)}: " + "; ".join(parts)


def _word(verdict: Verdict) -> str:
    return "accept" if verdict.code == ACCEPT else "reject" if verdict.code == REJECT else "decline"


def _count(verdict: Verdict, severity: str) -> int:
    return sum(finding.severity == severity for finding in verdict.findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _mapping(finding: Finding) -> dict[str, Any]:
    return {field.name: getattr(finding, field.name) for field in fields(finding)}


def printable(line: str) -> str:
    """Without line breaks, control characters and what no terminal can show: a contract must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
