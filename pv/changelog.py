"""The changelog of a contract: why its versions changed, and which losses are meant.

    changelog:
    - version: 2.0.0
      reason: the vendor's kernel rounds differently since 12.1; measured floor 3.1e-4
      accepts: {FALSIFY-X-001: [demotion, tolerance]}

An entry accepts a loss in one change alone: the one that adds it, under the version that the contract then has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pv.contract import Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an entry says; accepts: by what is weakened, most often a test, the kinds of loss."""

    line: int
    version: str
    reason: str
    accepts: Mapping[str, tuple[str, ...]]

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


def acceptance(head: Contract, base: Contract | None, name: str, kind: str) -> tuple[Entry | None, str]:
    """The entry by which a contract accepts a loss of this kind of `name`; else why none does, "" if none tries."""
    old: Sequence[Entry] = entries(base) if base else ()
    why = ""
    for entry in entries(head):
        if kind not in entry.accepts.get(name, ()):
            continue
        where = f"the changelog's entry in line {entry.line}"
        if any(entry.says_the_same(other) for other in old):
            why = why or f"{where} is an old one: it accepted an earlier loss"
        elif entry.version.strip() != head.version.strip():
            version = head.version or "missing"
            why = f"{where} is about {entry.version or 'no version'}, the contract's version is {version}"
        elif not entry.reason.strip():
            why = f"{where} gives no reason"
        else:
            return entry, ""
    return None, why
