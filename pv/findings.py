"""What breaks a rule, and the table in which every rule stands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pv.contract import Contract, Entry
from pv.facts import Facts
from pv.yaml_loader import Path, Position

if TYPE_CHECKING:
    from pv.bindings import Registry
    from pv.project import Project

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule at a place; line and columns count from 1.

    end_column  past the last character at fault in that line; 0 where only the beginning is known
    """

    rule: str
    severity: str
    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    end_column: int = 0


class Hit(NamedTuple):
    """What a rule found, and where: at a path in the document, or at a position in its text.

    foreign  found in a test that is not written for pv, and about a key that only pv reads: no error but a warning
    """

    at: Path | Position
    message: str
    hint: str = ""
    foreign: bool = False


Check: TypeAlias = Callable[[Contract], Iterable[Hit]]
RunCheck: TypeAlias = Callable[[Sequence[Facts]], Iterable[tuple["Facts | Registry", Hit]]]
ProjectCheck: TypeAlias = Callable[[Contract, "Project"], Iterable[Hit]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a contract must keep, in words that are true of one that does.

    lint     asked by `pv lint` alone
    imports  and there only with --import
    check    looks at one contract by itself; across: at all contracts of a run; within: at one contract and its project
             (falsifiers, models, evidence). A rule that has none of them is kept by the reader.
    """

    id: str
    severity: str
    what: str
    lint: bool = False
    check: Check | None = None
    across: RunCheck | None = None
    within: ProjectCheck | None = None
    imports: bool = False


RULES: dict[str, Rule] = {}


def rule(name: str, severity: str, what: str, *, lint: bool = False) -> Callable[[Check], Check]:
    """Enter a function over one contract into the table."""

    def enter(check: Check) -> Check:
        _enter(Rule(name, severity, what, lint, check=check))
        return check

    return enter


def run_rule(name: str, severity: str, what: str, *, lint: bool = False) -> Callable[[RunCheck], RunCheck]:
    """Enter a function over all contracts of a run into the table."""

    def enter(across: RunCheck) -> RunCheck:
        _enter(Rule(name, severity, what, lint, across=across))
        return across

    return enter


def project_rule(
    name: str, severity: str, what: str, *, lint: bool = False, imports: bool = False, check: Check | None = None
) -> Callable[[ProjectCheck], ProjectCheck]:
    """Enter a function over one contract and its project into the table; check: what it asks of one by itself."""

    def enter(within: ProjectCheck) -> ProjectCheck:
        _enter(Rule(name, severity, what, lint, check=check, within=within, imports=imports))
        return within

    return enter


def reader_rule(name: str, severity: str, what: str) -> Rule:
    """Enter a rule that the reader keeps into the table."""
    return _enter(Rule(name, severity, what))


def _enter(new: Rule) -> Rule:
    assert new.id not in RULES, f"two rules are called {new.id}"
    RULES[new.id] = new
    return new


def finding(entry: Rule, contract: Contract, hit: Hit) -> Finding:
    """The finding for a hit in a contract; its extent ends with the value at fault, or with the line."""
    at, end = hit.at, 0
    if not isinstance(at, Position):
        end = contract.document.end_column(at)
        at = contract.document.position(at)
    return _finding(entry, str(contract.path), at, end, hit)


def finding_between(entry: Rule, facts: "Facts | Registry", hit: Hit) -> Finding:
    """The finding for a hit of a rule over several contracts."""
    at = hit.at if isinstance(hit.at, Position) else Position(1, 1)
    return _finding(entry, str(facts.path), at, 0, hit)


def _finding(entry: Rule, path: str, at: Position, end: int, hit: Hit) -> Finding:
    severity = WARNING if hit.foreign and entry.severity == ERROR else entry.severity
    return Finding(entry.id, severity, path, at.line, at.column, hit.message, hit.hint, end)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by file, then by place in the file."""
    return sorted(findings, key=lambda found: (found.path, found.line, found.column, found.rule, found.message))


def blank(entry: Entry, name: str) -> bool:
    """Whether a text is missing or empty; a value of another type is neither, PV-TYPE-001 reports it."""
    return not isinstance(entry.raw.get(entry.key(name)), list | dict) and not entry.text(name).strip()


def called(entry: Entry, fallback: str) -> str:
    return entry.text("id") or f"{fallback} {entry.place[-1]}"


def some_of(names: Sequence[str]) -> str:
    """The first three names of what one finding is about."""
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")


def again(entries: Iterable[Entry], name: str) -> Iterator[tuple[Entry, str, Entry]]:
    """Entries whose text under `name` an earlier entry has too: (entry, text, first entry)."""
    first: dict[str, Entry] = {}
    for entry in entries:
        text = entry.text(name).strip()
        if text and first.setdefault(text, entry) is not entry:
            yield entry, text, first[text]


def line_of(entry: Entry, name: str) -> int:
    return entry.document.position(entry.at(name)).line
