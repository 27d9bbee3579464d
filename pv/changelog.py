"""The changelog of a contract: why its versions changed, and which losses are meant.

    changelog:
    - version: 2.0.0
      reason: the vendor's kernel rounds differently since 12.1; measured floor 3.1e-4
      accepts: {FALSIFY-X-001: [demotion, tolerance]}

An entry accepts a loss in one change alone: the one that adds it, under the version that the contract then has.

That of a project stands in pyproject.toml, and accepts settings and goals that ask for less:

    [[tool.pv.changelog]]
    reason = "helper is a project of its own now"
    accepts = ["first-party helper"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pv.contract import Contract
from pv.errors import PvError
from pv.paths import as_written

PROJECT = "setting"
"""The kind of all that an entry of a project accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an entry says; accepts: by what is weakened, the kinds of loss. That of a project has no version."""

    line: int
    version: str
    reason: str
    accepts: Mapping[str, tuple[str, ...]]

    @property
    def place(self) -> str:
        return f"changelog {self.version}, line {self.line}" if self.version else f"pyproject.toml, line {self.line}"

    def says_the_same(self, other: "Entry") -> bool:
        """Whether it is the same entry, wherever it stands."""
        mine, theirs = (
            (
                entry.version.strip(),
                " ".join(entry.reason.split()),
                {name: set(kinds) for name, kinds in entry.accepts.items()},
            )
            for entry in (self, other)
        )
        return mine == theirs


def entries(contract: Contract) -> list[Entry]:
    """The entries of a contract's changelog. What has another form is passed over: it accepts nothing."""
    found = []
    for entry in contract.root.entries("changelog"):
        accepts = entry.entry("accepts")
        found.append(
            Entry(
                line=contract.document.position(entry.place).line,
                version=entry.text("version"),
                reason=entry.text("reason"),
                accepts={name: accepts.texts(name) for name in accepts.raw} if accepts else {},
            )
        )
    return found


def project_entries(value: object, lines: Sequence[int], where: str) -> tuple[Entry, ...]:
    """The entries of a project's changelog, as TOML has them. PvError for what is none."""
    told = "a list of tables, each with a reason and what it accepts: a list of texts, as `pv gate` names them"
    right = isinstance(value, list) and all(isinstance(one, dict) and _is_entry(one) for one in value)
    if not isinstance(value, list) or not right:
        raise PvError(f"[[tool.pv.changelog]] must be {told}, not {as_written(value)}", where=where)
    return tuple(
        Entry(line=line, version="", reason=one["reason"], accepts=dict.fromkeys(one["accepts"], (PROJECT,)))
        for one, line in zip(value, lines, strict=True)
    )


def _is_entry(one: dict[str, Any]) -> bool:
    accepts = one.get("accepts")
    return (
        one.keys() == {"reason", "accepts"}
        and isinstance(one["reason"], str)
        and isinstance(accepts, list)
        and all(isinstance(name, str) for name in accepts)
    )


def acceptance(head: Contract, base: Contract | None, name: str, kind: str) -> tuple[Entry | None, str]:
    """The entry by which a contract accepts a loss of this kind of `name`; else why none does, "" if none tries."""
    return accepted_by(entries(head), entries(base) if base else (), name, kind, version=head.version)


def accepted_by(
    new: Sequence[Entry], old: Sequence[Entry], name: str, kind: str, *, version: str = ""
) -> tuple[Entry | None, str]:
    """As `acceptance`, of the entries of two versions; version: the new one, "" for a project's."""
    why = ""
    for entry in new:
        if kind not in entry.accepts.get(name, ()):
            continue
        where = f"the changelog's entry in line {entry.line}"
        if any(entry.says_the_same(other) for other in old):
            why = why or f"{where} is an old one: it accepted an earlier loss"
        elif entry.version.strip() != version.strip():
            why = f"{where} is about {entry.version or 'no version'}, the contract's version is {version or 'missing'}"
        elif not entry.reason.strip():
            why = f"{where} gives no reason"
        else:
            return entry, ""
    return None, why
