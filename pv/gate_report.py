"""What `pv gate` says: text for people, JSON (see pv.gate), annotations for GitHub, Markdown for a comment."""

import json
import os
from pathlib import Path
from typing import Any

from pv import markdown, trial_changes
from pv.excerpt import printable
from pv.gate import Verdict
from pv.gate_sides import Finding
from pv.github import command
from pv.places import place_of

WORDS = ("accept", "reject", "decline")


def counts(verdict: Verdict) -> dict[str, int]:
    """The denominators."""
    return {
        "contracts_base": verdict.contracts[0],
        "contracts_head": verdict.contracts[1],
        "tests_base": verdict.tests[0],
        "tests_head": verdict.tests[1],
        "tests_compared": verdict.compared,
        "versions_judged": verdict.judged,
        "versions_same": verdict.same,
        "evidence_base": verdict.files[0],
        "evidence_kept": verdict.files[1],
        "findings": len(verdict.findings),
        "accepted": len(verdict.accepted),
        "not_compared": len(verdict.declined),
    }


def summary(verdict: Verdict) -> str:
    """The verdict in a line, with its denominators."""
    sums = counts(verdict)
    parts = [
        f"{sums['findings']} finding{'' if sums['findings'] == 1 else 's'}, {sums['accepted']} accepted by a changelog",
        f"contracts {sums['contracts_base']} -> {sums['contracts_head']}, {sums['versions_judged']} changed",
        f"tests {sums['tests_base']} -> {sums['tests_head']}, {sums['tests_compared']} compared",
        f"evidence {sums['evidence_kept']} of {sums['evidence_base']} files kept",
    ]
    if not sums["contracts_base"]:
        parts.append("nothing was compared: the base has no contract")
    elif verdict.declined:
        parts.append(f"{sums['not_compared']} not compared")
    return f"{WORDS[verdict.code]}: since {verdict.ref} (merge base {(verdict.base.commit or '')[:7]}): " + "; ".join(
        parts
    )


def as_text(verdict: Verdict) -> str:
    """A line for each finding with its hint, what was accepted and why, what was not compared, and the totals."""
    lines: list[str] = []
    for found in verdict.findings:
        lines += [f"{found.path}:{found.line}: {found.id}: {found.message}", f"  hint: {found.hint}"]
    for found, entry in verdict.accepted:
        lines.append(f"accepted: {found.path}:{found.line}: {found.id}: {found.message}")
        lines.append(f"  reason: {entry.reason.strip()} ({entry.place})")
    lines += [f"note: {note.path}:{note.line}: {note.words}" for note in verdict.notes]
    lines += [f"not compared: {path}: {reason}" for path, reason in verdict.declined]
    return "\n".join(map(printable, [*lines, summary(verdict)]))


def as_markdown(verdict: Verdict) -> str:
    """For a comment on a pull request."""
    lines = [f"### Gate: {WORDS[verdict.code]}", ""]
    if verdict.findings:
        rows = [[markdown.code(found.id), *_cells(found), markdown.text(found.hint)] for found in verdict.findings]
        lines += [*markdown.table(("id", "where", "what", "what to do"), rows), ""]
    if verdict.accepted:
        rows = [
            [
                markdown.code(found.id),
                *_cells(found),
                markdown.text(f"{entry.reason.strip()} ({entry.version or entry.place})"),
            ]
            for found, entry in verdict.accepted
        ]
        lines += ["Accepted by a changelog:", "", *markdown.table(("id", "where", "what", "reason"), rows), ""]
    lines += trial_changes.as_markdown(verdict.notes)
    lines += [f"- not compared: {markdown.text(path)}: {markdown.text(reason)}" for path, reason in verdict.declined]
    lines += [""] * bool(verdict.declined)
    return "\n".join([*lines, markdown.text(summary(verdict))])


def _cells(found: Finding) -> list[str]:
    return [markdown.code(f"{found.path}:{found.line}"), markdown.text(found.message)]


def as_github(verdict: Verdict, workspace: Path | None = None) -> str:
    """Workflow commands: errors, notices for what is accepted, and the verdict as a plain line at the end."""
    root = workspace or Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    lines = []
    for found in verdict.findings:
        lines.append(command("error", _at(found, verdict, root), f"{found.message}\nhint: {found.hint}"))
    for found, entry in verdict.accepted:
        text = f"accepted: {found.message}\nreason: {entry.reason.strip()} ({entry.place})"
        lines.append(command("notice", _at(found, verdict, root), text))
    for note in verdict.notes:
        place = {"file": place_of(str(verdict.root / note.path), root), "line": str(note.line)}
        lines.append(command("notice", {**place, "title": "changed falsifier"}, note.words))
    lines += [command("error", {"title": "not compared"}, f"{path}: {reason}") for path, reason in verdict.declined]
    return "\n".join([*lines, printable(summary(verdict))])


def _at(found: Finding, verdict: Verdict, root: Path) -> dict[str, str]:
    return {"file": place_of(str(verdict.root / found.path), root), "line": str(found.line), "title": found.id}


def as_json(verdict: Verdict) -> str:
    """The documented JSON, see the head of pv.gate."""
    content = {
        "schema": "pv-gate/1",
        "verdict": WORDS[verdict.code],
        "base": {"name": verdict.ref, "commit": verdict.base.commit},
        "totals": counts(verdict),
        "findings": [_mapping(found) for found in verdict.findings],
        "accepted": [
            {**_mapping(found), "version": entry.version, "reason": entry.reason, "changelog_line": entry.line}
            for found, entry in verdict.accepted
        ],
        "declined": [{"path": path, "reason": reason} for path, reason in verdict.declined],
        "notes": [trial_changes.as_mapping(note) for note in verdict.notes],
    }
    return json.dumps(content, indent=2)


def _mapping(found: Finding) -> dict[str, Any]:
    return {
        "id": found.id,
        "path": found.path,
        "line": found.line,
        "contract": found.contract,
        "test": found.test,
        "message": found.message,
        "hint": found.hint,
    }
