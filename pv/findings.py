"""What breaks a rule, and the table in which every rule stands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pv.contract import Contract, Entry
from pv.yaml_loader import Path, Position

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule at a place; line and column count from 1."""

    rule: str
    severity: str
    path: str
    line: int
    column: int
    message: str
    hint: str = ""


class Hit(NamedTuple):
    """What a rule found, and where: at a path in the document, or at a position in its text.

    foreign  found in a test that is not written for pv, and about a key that only pv reads: no error but a warning
    """

    at: Path | Position
    message: str
    hint: str = ""
    foreign: bool = False


Check: TypeAlias = Callable[[Contract], Iterable[Hit]]
RunCheck: TypeAlias = Callable[[Sequence[Contract]], Iterable[tuple[Contract, Hit]]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a contract must keep, in words that are true of one that does.

    check   looks at one contract; across: at all contracts of a run. A rule that has neither is kept by the reader.
    """

    id: str
    severity: str
    what: str
    check: Check | None = None
    across: RunCheck | None = None


RULES: dict[str, Rule] = {}


def rule(name: str, severity: str, what: str) -> Callable[[Check], Check]:
    """Enter a function over one contract into the table."""

    def enter(check: Check) -> Check:
        _enter(Rule(name, severity, what, check=check))
        return check

    return enter


def run_rule(name: str, severity: str, what: str) -> Callable[[RunCheck], RunCheck]:
    """Enter a function over all contracts of a run into the table."""

    def enter(across: RunCheck) -> RunCheck:
        _enter(Rule(name, severity, what, across=across))
        return across

    return enter


def reader_rule(name: str, severity: str, what: str) -> Rule:
    """Enter a rule that the reader keeps into the table."""
    return _enter(Rule(name, severity, what))


def _enter(new: Rule) -> Rule:
    assert new.id not in RULES, f"two rules are called {new.id}"
    RULES[new.id] = new
    return new


def finding(entry: Rule, contract: Contract, hit: Hit) -> Finding:
    severity = WARNING if hit.foreign else entry.severity
    at = hit.at if isinstance(hit.at, Position) else contract.document.position(hit.at)
    return Finding(entry.id, severity, str(contract.path), at.line, at.column, hit.message, hit.hint)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by file, then by place in the file."""
    return sorted(findings, key=lambda found: (found.path, found.line, found.column, found.rule, found.message))


def blank(entry: Entry, name: str) -> bool:
    """Whether a text is missing or empty; a value of another type is neither, PV-TYPE-001 reports it."""
    return not isinstance(entry.raw.get(entry.key(name)), list | dict) and not entry.text(name).strip()


def called(entry: Entry, fallback: str) -> str:
    return entry.text("id") or f"{fallback} {entry.place[-1]}"


def again(entries: Iterable[Entry], name: str) -> Iterator[tuple[Entry, str, Entry]]:
    """Entries whose text under `name` an earlier entry has too: (entry, text, first entry)."""
    first: dict[str, Entry] = {}
    for entry in entries:
        text = entry.text(name).strip()
        if text and first.setdefault(text, entry) is not entry:
            yield entry, text, first[text]


def line_of(entry: Entry, name: str) -> int:
    return entry.document.position(entry.at(name)).line
