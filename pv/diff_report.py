"""What `pv diff` says: text for people, JSON for programs; docs/diff.md documents its shape."""

import json
import math
from typing import Any

from pv.diff import Comparison, Verdict
from pv.diff_walk import Change
from pv.report import printable
from pv.semver import Size

WORDS = ("accept", "reject", "decline")
WIDTH = 60
"""Longest value that is shown in full."""


def as_text(verdict: Verdict) -> str:
    """A line for each change and each version, what was not compared, and the totals."""
    lines: list[str] = []
    for found in verdict.compared:
        lines += [_change(found, change) for change in found.changes if change.size is not Size.NONE]
        lines.append(f"{found.new or found.old}: {_step(found)}: {'accept' if found.enough else 'reject'}")
        if not found.enough:
            lines.append(f"  hint: {_hint(found)}")
    lines += [f"{place}: not compared: {why}" for place, why in verdict.declined]
    return "\n".join(printable(line) for line in [*lines, _summary(verdict)])


def _change(found: Comparison, change: Change) -> str:
    where = f"{found.new if change.in_new else found.old}:{change.line}"
    old, new = _shown(change.old, change.new)
    values = {"added": f"added {new}", "removed": f"removed {old}", "changed": f"{old} -> {new}"}[change.what]
    return f"{where}: {change.size.word}: {change.place}: {values} ({change.why})"


def _step(found: Comparison) -> str:
    if found.old is None:
        return f"added at {found.new_version}" + (f", but {found.why}" if found.why else "")
    if found.new is None:
        return f"removed at {found.old_version}" + (f": {found.why}" if found.why else ", it was retired")
    versions = f"{found.old_version or 'no version'} -> {found.new_version or 'no version'}"
    return f"{versions}: needed is {_size(found.needed)}" + (f", but {found.why}" if found.why else "")


def _size(size: Size) -> str:
    return "no step" if size is Size.NONE else f"a {size.word} step"


def _hint(found: Comparison) -> str:
    if found.new is None:
        return "let it state `status: RETIRED` in its metadata, with a major step, before it is removed"
    return f"version: {found.least} or later" if found.least else "versions are written as 1.0.0"


def _shown(old: Any, new: Any) -> tuple[str, str]:
    """Two values, each short enough for a line; long texts from where they begin to differ."""
    before, after = (json.dumps(_plain(value), ensure_ascii=False) for value in (old, new))
    start = 0
    if isinstance(old, str) and isinstance(new, str) and max(len(before), len(after)) > WIDTH:
        same = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
        start = max(0, same - WIDTH // 3)
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    if start:
        text = f"..{text[start:]}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 2]}.."


def _counts(verdict: Verdict) -> dict[str, int]:
    both = [found for found in verdict.compared if found.old is not None and found.new is not None]
    changed = [found for found in both if found.changes]
    return {
        "contracts": len(verdict.compared) + verdict.same,
        "unchanged": verdict.same + len(both) - len(changed),
        "changed": len(changed),
        "added": sum(found.old is None for found in verdict.compared),
        "removed": sum(found.new is None for found in verdict.compared),
    }


def _summary(verdict: Verdict) -> str:
    counts = _counts(verdict)
    total = counts.pop("contracts")
    sizes = [change.size for found in verdict.compared for change in found.changes if change.size is not Size.NONE]
    each = ", ".join(f"{sizes.count(size)} {size.word}" for size in sorted(set(sizes), reverse=True))
    enough = sum(found.enough for found in verdict.compared)
    kinds = ", ".join(f"{count} {word}" for word, count in counts.items())
    parts = [
        f"{total} contract{'' if total == 1 else 's'}: {kinds}",
        f"{len(sizes)} change{'' if len(sizes) == 1 else 's'}" + (f" ({each})" if each else ""),
    ]
    if verdict.compared:
        parts.append(f"{enough} of {len(verdict.compared)} versions announce enough")
    if verdict.declined:
        parts.append(f"{len(verdict.declined)} not compared")
    return f"{WORDS[verdict.code]}: {'; '.join(parts)}"


def as_json(verdict: Verdict) -> str:
    """The verdict as JSON, schema pv-diff/1."""
    content = {
        "schema": "pv-diff/1",
        "verdict": WORDS[verdict.code],
        **_counts(verdict),
        "comparisons": [_comparison(found) for found in verdict.compared],
        "declined": [{"path": place, "reason": why} for place, why in verdict.declined],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "contract": found.stem,
        "old": found.old,
        "new": found.new,
        "old_version": found.old_version or None,
        "new_version": found.new_version or None,
        "needed": found.needed.word,
        "announced": None if found.announced is None else found.announced.word,
        "least": found.least or None,
        "verdict": "accept" if found.enough else "reject",
        "reason": found.why,
        "changes": [
            {
                "class": change.size.word,
                "what": change.what,
                "place": change.place,
                "in": "new" if change.in_new else "old",
                "line": change.line,
                "old": _plain(change.old),
                "new": _plain(change.new),
                "reason": change.why,
            }
            for change in found.changes
        ],
    }


def _plain(value: Any) -> Any:
    """The value in JSON, which has no NaN and no infinities: they are texts there."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
