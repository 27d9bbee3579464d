"""`pv ledger diff BASE HEAD`: which levels rose, fell or went stale between two versions of a project, and why.

Both versions are judged by themselves: the contracts, falsifiers, code and evidence of BASE say what BASE had earned.

JSON (`--format json`), keys in this order, "schema" changes when a key changes its meaning:

    {"schema": "pv-ledger-diff/1", "base": {name, commit}, "head": {name, commit},
     "totals": {"tests_base", "tests_head", "rose", "fell", "stale", "changed", "added", "removed",
                "restated", "unchanged"},
     "moves": [{kind, contract, test, path, line, base, head, stated_base, stated_head, reasons}],
     "declined": [{path, reason}], "falsifiers": as the notes of pv-gate/1}

kind is one of the words of totals; base and head are levels, null where that version lacks the test; path and line are
those of HEAD, or of BASE for a test that is removed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pv import markdown, trial_changes
from pv.at_revision import Version
from pv.excerpt import printable
from pv.levels import Earned
from pv.status import Row, Survey, shown
from pv.trial_changes import Changed, changed_falsifiers
from pv.words import Level

KINDS = ("fell", "stale", "rose", "changed", "added", "removed", "restated")
WORDS = {
    "fell": "Fell",
    "stale": "Went stale",
    "rose": "Rose",
    "changed": "Changed without rising",
    "added": "Added",
    "removed": "Removed",
    "restated": "States another level",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A test that is not what it was; base and head are None where that version lacks it."""

    kind: str
    contract: str
    test: str
    path: str
    line: int
    base: Level | None
    head: Level | None
    stated: tuple[str | None, str | None]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What came of comparing two versions. tests: how many each has; declined: (path, reason) of what was not read;
    falsifiers: those whose code changed, for a reviewer to look at.
    """

    base: Version
    head: Version
    tests: tuple[int, int]
    moves: tuple[Move, ...]
    unchanged: int
    declined: tuple[tuple[str, str], ...]
    contracts: int
    falsifiers: tuple[Changed, ...] = ()

    @property
    def code(self) -> int:
        """0 where both versions were read as a whole and have a contract between them, else 2."""
        return 0 if self.contracts and not self.declined else 2


Key = tuple[str, str, int]
"""A test by its contract, its id, and how often that id stood before it."""


def by_key(rows: Sequence[Row], renamed: Mapping[str, str] | None = None) -> dict[Key, Row]:
    """Rows by contract and id; `renamed` says what contracts are called in the other version."""
    found: dict[Key, Row] = {}
    for row in rows:
        stem = (renamed or {}).get(row.contract.stem, row.contract.stem)
        number = 0
        while (key := (stem, row.test.id, number)) in found:
            number += 1
        found[key] = row
    return found


def unread(version: Version, found: Survey) -> list[tuple[str, str]]:
    """What keeps a version from being known as a whole: (path, reason).

    Files of models are no part of this: that they are not the registered ones says nothing about levels then. What a
    revision lacks here, submodules and links that lead out, counts where it may have decided about a level.
    """
    models = {str(model) for model in _model_files(version)} if version.commit else set()
    listed = [
        (version.plain(shown(problem.path, found.root)), version.plain(problem.why))
        for problem in found.problems
        if problem.path not in models
    ]
    if version.commit:
        for what, folder in (("contracts", version.config.contracts), ("evidence", version.config.evidence)):
            if os.path.relpath(folder, version.prefixes[-1]).startswith(".."):
                listed.append((what, "lies outside of the repository: what was in it then is not known"))
    if version.unread:
        folders = (version.config.contracts, version.config.evidence)
        places = [os.path.relpath(folder, version.prefixes[-1]) for folder in folders]
        inside = [path for path in version.unread if any(_overlap(path, place) for place in places)]
        listed += [(path, "is a submodule or leads out of the repository: it was not read") for path in inside]
        doubtful = [row for row in found.rows if row.bound and (row.binding is None or row.earned.level is Level.STALE)]
        if doubtful and not inside:
            test = doubtful[0].test.id
            why = f"is a submodule or leads out: perhaps that is why {test} has no evidence of that day"
            listed.append((version.unread[0], why))
    return listed


def _overlap(one: str, other: str) -> bool:
    """Whether one of two paths is the other, or lies below it."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _model_files(version: Version) -> list[Any]:
    from pv.config import registry
    from pv.errors import PvError

    try:
        return [model.path for model in registry(version.config).values()]
    except PvError:
        return []


def moves(base: tuple[Version, Survey], head: tuple[Version, Survey]) -> Difference:
    """Compare what two versions have earned."""
    old, new = by_key(base[1].rows), by_key(head[1].rows)
    found: list[Move] = []
    for key in [*new, *(key for key in old if key not in new)]:
        move = _move(old.get(key), new.get(key), base, head)
        if move is not None:
            found.append(move)
    declined = [(f"{side[0].title}: {path}", why) for side in (base, head) for path, why in unread(*side)]
    return Difference(
        base=base[0],
        head=head[0],
        tests=(len(old), len(new)),
        moves=tuple(sorted(found, key=lambda move: KINDS.index(move.kind))),
        unchanged=len(old.keys() | new.keys()) - len(found),
        declined=tuple(declined),
        contracts=len(base[1].contracts) + len(head[1].contracts),
        falsifiers=tuple(
            changed_falsifiers([(old[key], new[key]) for key in new if key in old], (base[0].config, head[0].config))
        ),
    )


def _move(old: Row | None, new: Row | None, base: tuple[Version, Survey], head: tuple[Version, Survey]) -> Move | None:
    row, (version, survey) = (new, head) if new else (old, base)
    assert row is not None
    was, now = old.earned.level if old else None, new.earned.level if new else None
    if was is None:
        kind, reasons = "added", row.earned.reasons[:1]
    elif now is None:
        kind, reasons = "removed", (f"it had earned {was.value}",)
    elif now is not was:
        kind = _kind(was, now)
        reasons = why(row.earned, risen=kind == "rose")
    elif old and new and old.stated is not new.stated:
        kind, reasons = "restated", (f"it has earned {now.value} in both",)
    else:
        return None
    return Move(
        kind=kind,
        contract=row.contract.stem,
        test=row.test.id,
        path=version.plain(shown(row.contract.path, survey.root)),
        line=row.test.line,
        base=was,
        head=now,
        stated=(old.test.status if old else None, new.test.status if new else None),
        reasons=tuple(map(version.plain, reasons)),
    )


def _kind(was: Level, now: Level) -> str:
    """What a step between two levels is. That nothing is known any more is no rise, whatever was known before."""
    if now is Level.STALE:
        return "stale"
    if now.worth < was.worth:
        return "fell"
    return "rose" if now.worth > max(was.worth, Level.UNTESTED.worth) else "changed"


def why(earned: Earned, *, risen: bool) -> tuple[str, ...]:
    """Why a level is not what it was: what the rung rests on that was climbed, else what is missing."""
    rung = f"{earned.level.value}: "
    if risen:
        return (
            tuple(reason.removeprefix(rung) for reason in earned.reasons if reason.startswith(rung)) or earned.reasons
        )
    return tuple(reason for reason in earned.reasons if not _is_held(reason)) or earned.reasons


def _is_held(reason: str) -> bool:
    return any(reason.startswith(f"{level.value}: ") for level in (Level.PARTIAL, Level.FUNCTIONAL, Level.DISCHARGED))


def counts(found: Difference) -> dict[str, int]:
    """The denominators, see the head of this file."""
    kinds = [move.kind for move in found.moves]
    return {
        "tests_base": found.tests[0],
        "tests_head": found.tests[1],
        **{kind: kinds.count(kind) for kind in ("rose", "fell", "stale", "changed", "added", "removed", "restated")},
        "unchanged": found.unchanged,
    }


def summary(found: Difference) -> str:
    """The totals in a line."""
    sums = counts(found)
    named = {**sums, "went stale": sums["stale"]}
    words = ("rose", "fell", "went stale", "changed", "added", "removed", "restated", "unchanged")
    parts = ", ".join(f"{named[word]} {word}" for word in words)
    more = f"; {len(found.declined)} not read" if found.declined else ""
    return (
        f"{found.base.title} -> {found.head.title}: tests {sums['tests_base']} -> {sums['tests_head']}: {parts}{more}"
    )


def levels(move: Move) -> str:
    """What the test was and is."""
    if move.kind == "restated":
        return f"states {move.stated[0] or Level.UNTESTED.value} -> {move.stated[1] or Level.UNTESTED.value}"
    ends = [level.value for level in (move.base, move.head) if level]
    return " -> ".join(ends)


def as_text(found: Difference) -> str:
    """A line for each test that moved, what was not read, and the totals."""
    lines = [
        f"{move.kind}: {move.path}:{move.line}: {move.test}: {levels(move)}: {'; '.join(move.reasons)}"
        for move in found.moves
    ]
    lines += [f"note: {one.path}:{one.line}: {one.words}" for one in found.falsifiers]
    lines += [f"not read: {path}: {reason}" for path, reason in found.declined]
    return "\n".join(map(printable, [*lines, summary(found)]))


def as_markdown(found: Difference) -> str:
    """For a comment on a pull request: a table for each kind of move, the worst first."""
    title = f"### Ledger: {markdown.text(found.base.title)} to {markdown.text(found.head.title)}"
    lines = [title, ""]
    for kind in KINDS:
        rows = [
            [
                markdown.code(move.test),
                markdown.code(f"{move.path}:{move.line}"),
                markdown.text(levels(move)),
                markdown.text("; ".join(move.reasons)),
            ]
            for move in found.moves
            if move.kind == kind
        ]
        if rows:
            lines += [
                f"**{WORDS[kind]}** ({len(rows)})",
                "",
                *markdown.table(("test", "where", "level", "why"), rows),
                "",
            ]
    if not found.moves:
        lines += ["No level moved.", ""]
    lines += trial_changes.as_markdown(found.falsifiers)
    lines += [f"- not read: {markdown.text(path)}: {markdown.text(reason)}" for path, reason in found.declined]
    lines += [""] * bool(found.declined)
    return "\n".join([*lines, markdown.text(summary(found))])


def as_json(found: Difference) -> str:
    """The documented JSON, see the head of this file."""
    content = {
        "schema": "pv-ledger-diff/1",
        "base": {"name": found.base.name, "commit": found.base.commit},
        "head": {"name": found.head.name, "commit": found.head.commit},
        "totals": counts(found),
        "moves": [_mapping(move) for move in found.moves],
        "declined": [{"path": path, "reason": reason} for path, reason in found.declined],
        "falsifiers": [trial_changes.as_mapping(one) for one in found.falsifiers],
    }
    return json.dumps(content, indent=2)


def _mapping(move: Move) -> dict[str, Any]:
    return {
        "kind": move.kind,
        "contract": move.contract,
        "test": move.test,
        "path": move.path,
        "line": move.line,
        "base": move.base.value if move.base else None,
        "head": move.head.value if move.head else None,
        "stated_base": move.stated[0],
        "stated_head": move.stated[1],
        "reasons": list(move.reasons),
    }
