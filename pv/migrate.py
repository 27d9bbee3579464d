"""`pv migrate`: the edit that gives a contract today's spellings, and leaves every other byte as it was.

Renamed are the other spellings of keys of proof obligations and falsification tests, and `kind` at the top moves into
metadata. The result is read again and must hold the same values in the same order, but for that; else nothing is
written. What is read anyway stays where it means something by itself, as `test_harness` and `name` do, which stand in
for a missing `test`, and where more than a name would change: equations in a list.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pv.collection import Collection
from pv.contract import Contract, Entry
from pv.edit import LINE, Splice, copied, insertion, replace, spliced, starts
from pv.errors import PvError
from pv.excerpt import printable
from pv.findings import called
from pv.obligations import plural
from pv.shapes import Record
from pv.vocabulary import FALSIFICATION_TEST, OBLIGATION

SECTIONS: tuple[tuple[str, str, Record], ...] = (
    ("proof_obligations", "proof obligation", OBLIGATION),
    ("falsification_tests", "falsification test", FALSIFICATION_TEST),
)
PLAIN = "write the keys plainly, without anchors, aliases or escapes, or rename them by hand"


@dataclass(frozen=True, slots=True)
class Renaming:
    """A key of an entry, its line, and what it is called today."""

    entry: Entry
    old: str
    new: str

    @property
    def line(self) -> int:
        return self.entry.document.position((*self.entry.place, self.old)).line


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A contract, the keys that are due, and its text before and after."""

    contract: Contract
    keys: int
    before: str
    after: str

    def diff(self) -> Iterator[str]:
        """A unified diff, line by line."""
        path = str(self.contract.path)
        before, after = self.before.splitlines(), self.after.splitlines()
        yield from map(printable, difflib.unified_diff(before, after, path, path, lineterm=""))


def migration(contract: Contract) -> Migration | None:
    """What is due in a contract; None where nothing is. PvError where it cannot be done, or two spellings compete."""
    document, where = contract.document, str(contract.path)
    due = list(_renamings(contract))
    wanted = copied(document.value)
    for renaming in due:
        holder = wanted
        for step in renaming.entry.place[:-1]:
            holder = holder[step]
        mapping = holder[renaming.entry.place[-1]]
        holder[renaming.entry.place[-1]] = {
            renaming.new if key == renaming.old else key: value for key, value in mapping.items()
        }
    lines = starts(document.text)
    splices = [splice for renaming in due if (splice := _renamed(renaming, lines, where))]
    if "kind" in document.value:
        splices += _moved_kind(contract, lines)
        wanted["metadata"]["kind"] = wanted.pop("kind")
    elif not due:
        return None
    after = spliced(document.text, splices, wanted, where, PLAIN)
    return Migration(contract=contract, keys=len(due) + ("kind" in document.value), before=document.text, after=after)


def _renamings(contract: Contract) -> Iterator[Renaming]:
    for section, noun, record in SECTIONS:
        for entry in contract.root.entries(section):
            for name, key in record.keys.items():
                used = [word for word in (name, *key.also) if word in entry.raw]
                if len(used) > 1:
                    raise _competing(contract, entry, noun, used)
                if used and used != [name]:
                    yield Renaming(entry, used[0], name)


def _competing(contract: Contract, entry: Entry, noun: str, used: list[str]) -> PvError:
    line = entry.document.position((*entry.place, used[1])).line
    return PvError(
        f"{called(entry, noun)} has {' and '.join(map(repr, used))}, two spellings of one key",
        where=f"{contract.path}:{line}",
        hint=f"keep one of them, as {used[0]!r}",
    )


def _renamed(renaming: Renaming, lines: list[int], where: str) -> Splice | None:
    """The key in its quotes, if any. None where the entry stands behind an alias: its anchor's keys are renamed."""
    document, place = renaming.entry.document, (*renaming.entry.place, renaming.old)
    if document.span(place) is None:
        return None
    at = document.position(place)
    start = lines[at.line - 1] + at.column - 1
    found = re.compile(rf"([\"']?){re.escape(renaming.old)}\1(?=\s*:)").match(document.text, start)
    if found is None:
        raise PvError(
            f"the key {renaming.old!r} cannot be renamed; nothing is written", where=f"{where}:{at.line}", hint=PLAIN
        )
    start += len(found[1])
    return start, start + len(renaming.old), renaming.new


def _moved_kind(contract: Contract, lines: list[int]) -> list[Splice]:
    """Take `kind` from the top and put it behind the last key of metadata. A comment behind it stays in its place."""
    document = contract.document
    at, span, metadata = document.position(("kind",)), document.span(("kind",)), document.value.get("metadata")
    where = f"{contract.path}:{at.line}"
    if not isinstance(metadata, dict) or not metadata:
        raise PvError("kind at the top cannot be moved: there is no metadata", where=where)
    if "kind" in metadata:
        hint = "keep the one in metadata" if metadata["kind"] == document.value["kind"] else "keep the right one"
        raise PvError("kind stands at the top and in metadata", where=where, hint=hint)
    start = lines[at.line - 1] + at.column - 1
    value = document.text[span.start_index : span.end_index] if span else ""
    head = re.compile(r"kind[ \t]*:[ \t]+").match(document.text, start)
    plain = re.fullmatch(r"[A-Za-z][\w-]*|'[\w-]+'|\"[\w-]+\"", value)
    if span is None or head is None or head.end() != span.start_index or at.column != 1 or not plain:
        raise PvError("kind at the top cannot be moved; nothing is written", where=where, hint="move it by hand")
    line = LINE.match(document.text, span.end_index)
    assert line is not None
    rest = document.text[span.end_index : line.start(1)]
    end = span.end_index + len(rest) - len(rest.lstrip()) if rest.strip() else line.end()
    return [(start, end, ""), insertion(document, ("metadata",), {"kind": value}, str(contract.path))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """What is due in the contracts of a run, how many these are, and what could not be read or rewritten."""

    due: tuple[Migration, ...]
    contracts: int
    declined: tuple[tuple[str, str], ...]

    @property
    def code(self) -> int:
        """Of a run that writes nothing."""
        return 1 if self.due else self.code_written

    @property
    def code_written(self) -> int:
        """Of a run that wrote what was due."""
        return 2 if self.declined or not self.contracts else 0


def migrations(collected: Collection) -> Migrations:
    due, declined = [], list(collected.declined)
    for contract in collected.contracts:
        try:
            found = migration(contract)
        except PvError as error:
            declined.append((error.where, f"{error.args[0]}" + (f" (hint: {error.hint})" if error.hint else "")))
            continue
        if found:
            due.append(found)
    return Migrations(due=tuple(due), contracts=len(collected.contracts), declined=tuple(declined))


def write(found: Migration) -> None:
    """Write a contract's text. PvError, and the file untouched, where it was changed meanwhile or cannot be written."""
    replace(found.contract.path, found.before, found.after, hint="migrate again")


def summary(found: Migrations, *, written: bool) -> str:
    """The last line: what was done, of how many contracts."""
    keys = sum(one.keys for one in found.due)
    what = "rewritten" if written else "to rewrite"
    return f"{plural(found.contracts, 'contract')}: {len(found.due)} {what} ({plural(keys, 'key')})"
