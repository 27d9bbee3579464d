"""`pv promote`: the edit that makes a contract state what it has earned, and leaves every other byte as it was.

Written are the status of tests, verification_summary, and metadata.version (a minor bump, when anything else changed).
The YAML is edited as text, at the places that its parser reports; then it is read again, and unless exactly the
intended values differ, nothing is written.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pv.contract import Contract
from pv.errors import PvError
from pv.statement import write_atomically
from pv.status import Row, Survey, denominators, shown
from pv.words import Level
from pv.yaml_loader import Document, Span, load

Place: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int

LINE = re.compile(r"[^\r\n]*(\r\n|\n|\r|)")
BLOCK = re.compile(r"(?:[&!]\S*\s+)*[|>]([-+0-9]*)")
SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")


@dataclass(frozen=True, slots=True)
class Change:
    """One value to set; `old` is what stands there now, None for nothing."""

    place: Place
    new: Scalar
    old: Any = None


def changes(contract: Contract, rows: Sequence[Row]) -> list[Change]:
    """What has to be written into a contract so that it states what its tests earned; empty when it does already.

    A test without falsifiers earns nothing: a level that it states falls, any other word is left to its author. A
    contract of such tests only gets no verification_summary. PvError where the version is no semantic version.
    """
    value, found = contract.document.value, []
    for row in rows:
        due = row.stated is not row.earned.level if row.bound else row.overclaimed
        if due:
            entry = row.test.entry
            found.append(Change(entry.at("status"), row.earned.level.value, entry.raw.get(entry.key("status"))))
    if any(row.bound for row in rows):
        summary = value.get("verification_summary")
        if summary is not None and not isinstance(summary, dict):
            raise PvError("verification_summary must be a mapping", where=str(contract.path))
        for key, number in verification_summary(contract, rows).items():
            old = (summary or {}).get(key)
            if type(old) is not int or old != number:
                found.append(Change(("verification_summary", key), number, old))
    if found:
        metadata = value.get("metadata")
        version = metadata.get("version") if isinstance(metadata, dict) else None
        found.append(Change(("metadata", "version"), bumped(version, str(contract.path)), version))
    return found


def verification_summary(contract: Contract, rows: Sequence[Row]) -> dict[str, int]:
    """Computed counts, under the keys that public readers know (the first two) and our own.

    l2_property_tested  obligations that a test names which earned PARTIAL_ALGORITHM_LEVEL or more
    """
    tested = {name for row in rows if row.earned.level.worth >= Level.PARTIAL.worth for name in row.test.obligations}
    ids = [entry.text("id") for entry in contract.root.entries("proof_obligations")]
    return {
        "total_obligations": len(ids),
        "l2_property_tested": sum(name in tested for name in ids),
        "falsification_tests": len(rows),
        "bound": sum(row.bound for row in rows),
        **{level.value.lower(): sum(row.earned.level is level for row in rows) for level in Level},
    }


def overstated(found: Survey) -> list[str]:
    """Contracts whose verification_summary counts more tests at a level, or above it, than have earned it."""
    reasons = []
    for contract in found.contracts:
        typed = contract.document.value.get("verification_summary")
        computed = verification_summary(contract, [row for row in found.rows if row.contract is contract])
        above = [Level.DISCHARGED, Level.FUNCTIONAL, Level.PARTIAL]
        for count in range(1, 4):
            keys = [level.value.lower() for level in above[:count]]
            numbers = [typed.get(key, 0) if isinstance(typed, dict) else 0 for key in keys]
            claims = sum(number for number in numbers if isinstance(number, int))
            proven = sum(computed[key] for key in keys)
            if claims > proven:
                reasons.append(
                    f"{contract.path}: its summary counts {claims} tests of {keys[-1]} or above, {proven} earned it"
                )
                break
    return reasons


def bumped(version: object, where: str) -> str:
    """The next minor version: 1.2.3 -> 1.3.0."""
    match = SEMVER.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise PvError(
            f"metadata.version must be a semantic version, not {version!r}", where=where, hint="write it as 1.0.0"
        )
    return f"{match[1]}.{int(match[2]) + 1}.0"


def promote(found: Survey) -> list[tuple[Contract, list[Change]]]:
    """The contracts that do not state what they have earned, each with its changes."""
    due = []
    for contract in found.contracts:
        due.append((contract, changes(contract, [row for row in found.rows if row.contract is contract])))
    return [(contract, edits) for contract, edits in due if edits]


def write(contract: Contract, edits: Sequence[Change]) -> None:
    """Make the edits in the contract's file. PvError, and the file untouched, where that cannot be done cleanly."""
    path = contract.path.resolve()  # through a symbolic link, which stays one
    where = str(contract.path)
    try:
        before = contract.document.text
        after = edited(before, edits, where).encode("utf-8")
        if path.read_bytes() != before.encode("utf-8"):
            raise PvError("was changed since it was read; nothing is written", where=where, hint="promote again")
        write_atomically(path, after, mode=path.stat().st_mode & 0o7777)
    except OSError as error:
        raise PvError(f"cannot be written: {error.strerror}", where=where) from None


def edited(text: str, edits: Sequence[Change], where: str) -> str:
    """The YAML text with the values set. PvError where another value would change with them."""
    document = load(text, where)
    after = text
    for start, end, new in sorted(_splices(document, edits, where), key=lambda splice: splice[0], reverse=True):
        after = after[:start] + new + after[end:]
    wanted = _copy(document.value)
    for edit in edits:
        _set(wanted, edit.place, edit.new)
    try:
        got = load(after, where).value
    except PvError:
        got = None
    if repr(got) != repr(wanted):  # repr tells 1 from 1.0 and True, and keeps the order of keys
        raise _unclean(where)
    return after


PLAIN = "write status, version and verification_summary as plain values, without anchors or aliases"


def _unclean(where: str, hint: str = PLAIN) -> PvError:
    return PvError("cannot be edited without changing something else in it; nothing is written", where=where, hint=hint)


Splice: TypeAlias = tuple[int, int, str]  # start and end in the text, and what comes between


def _splices(document: Document, edits: Sequence[Change], where: str) -> Iterator[Splice]:
    """Where the text has to change. The outer mapping's insertion at a place comes first: `edited` puts it last."""
    missing: dict[Place, dict[str, Any]] = {}
    for edit in edits:
        there = _there(document.value, edit.place)
        if there == len(edit.place):
            yield _replacement(document, edit, where)
        elif there == len(edit.place) - 1:
            missing.setdefault(edit.place[:there], {})[str(edit.place[-1])] = edit.new
        else:  # the mapping that should hold it is missing too
            block = missing.setdefault(edit.place[:there], {}).setdefault(str(edit.place[there]), {})
            block[str(edit.place[-1])] = edit.new
    for place in sorted(missing, key=len):
        yield _insertion(document, place, missing[place], where)


def _there(value: Any, place: Place) -> int:
    """How many steps of a place exist."""
    for depth, step in enumerate(place):
        known = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if step not in known:
            return depth
        value = value[step]
    return len(place)


def _replacement(document: Document, edit: Change, where: str) -> Splice:
    """A scalar in place of another, in the same quotes; a number has none."""
    span = document.span(edit.place)
    if span is None:
        raise _unclean(where)
    first = document.text[span.start_index : span.start_index + 1]
    if isinstance(edit.old, (dict, list)) or first in ("|", ">"):
        name = ".".join(map(str, edit.place))
        raise PvError(f"{name} must be one value on one line", where=f"{where}:{span.start.line}")
    quote = first if first in ("'", '"') and isinstance(edit.new, str) else ""
    empty = span.start_index == span.end_index  # `status:` and nothing behind it
    return span.start_index, span.end_index, f"{' ' if empty else ''}{quote}{edit.new}{quote}"


def _insertion(document: Document, place: Place, values: dict[str, Any], where: str) -> Splice:
    """New keys behind the last one of a mapping: in braces behind a comma, else on lines of their own."""
    text, span, mapping = document.text, document.span(place), document.value
    for step in place:
        mapping = mapping[step]
    if span is None or not isinstance(mapping, dict):
        raise _unclean(where)
    if re.match(r"(?:[&!]\S*\s+)*\{", text[span.start_index :]):
        inner = ", ".join(_flow(key, value) for key, value in values.items())
        last = document.span((*place, list(mapping)[-1])) if mapping else None
        return (
            (last.end_index, last.end_index, f", {inner}") if last else (span.end_index - 1, span.end_index - 1, inner)
        )
    at, ended = _behind(document, place, span, where)
    breaks = re.findall(r"\r\n|\n|\r", text[:at]) or ["\n"]
    indent = " " * (document.position((*place, next(iter(mapping)))).column - 1)
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *(f"{indent}  {inner}: {number}" for inner, number in value.items())]
        else:
            lines.append(f"{indent}{key}: {value}")
    new = breaks[-1].join(lines)
    return at, at, new + breaks[-1] if ended else breaks[-1] + new  # the last line of a file may have no end


def _behind(document: Document, place: Place, span: Span, where: str) -> tuple[int, bool]:
    """Where the line behind a block mapping begins, and whether a line break stands before it.

    Comments and blank lines behind the mapping are none of it, but for the blank lines that a text with |+ keeps.
    """
    text, line = document.text, LINE.match(document.text, span.end_index)
    assert line is not None
    value = document.value
    for step in place:
        value = value[step]
    while isinstance(value, dict | list) and value:
        step = list(value)[-1] if isinstance(value, dict) else len(value) - 1
        place, value = (*place, step), value[step]
    last, source = document.span(place), document.source(place)
    block = BLOCK.match(text, last.start_index) if last else None
    if last is None or source is None or block is None:
        return line.end(), bool(line[1])
    if not line[1] and "-" not in block[1]:
        hint = "end the file with a line break: the text in its last lines would gain one by the edit"
        raise _unclean(where, hint)
    content = source.rstrip()
    kept = "\n" in source[len(content) :].removesuffix("\n") if content else source != ""
    return (last.behind_index if kept else line.end()), bool(line[1])


def _flow(key: str, value: Any) -> str:
    inner = "{" + ", ".join(_flow(*item) for item in value.items()) + "}" if isinstance(value, dict) else value
    return f"{key}: {inner}"


def _copy(value: Any) -> Any:
    """A copy in which an aliased value is no longer shared: an edit of one place must not show in another."""
    if isinstance(value, dict):
        return {key: _copy(element) for key, element in value.items()}
    return [_copy(element) for element in value] if isinstance(value, list) else value


def _set(value: Any, place: Place, new: Scalar) -> None:
    for step in place[:-1]:
        value = value.setdefault(step, {}) if isinstance(value, dict) else value[step]
    value[place[-1]] = new


def as_text(found: Survey, due: Sequence[tuple[Contract, Sequence[Change]]]) -> str:
    """Every test as stated -> earned with the reasons, then the edits, what could not be read, and the totals."""
    lines = []
    for row in found.rows:
        stated = row.stated.value if row.stated else str(row.test.status)
        level = row.earned.level
        arrow = "=" if row.stated is level else "->"
        once = f" (was {row.earned.once.value})" if row.earned.once is not Level.UNTESTED else ""
        lines.append(f"{row.contract.stem}::{row.test.id}: {stated} {arrow} {level.value}{once}")
        lines += [f"    {reason}" for reason in row.earned.reasons]
    for contract, edits in due:
        lines.append(shown(contract.path, found.root))
        lines += [
            f"    {_name(contract, edit)}: {edit.old if edit.old is not None else '-'} -> {edit.new}" for edit in edits
        ]
    lines += [f"unreadable: {shown(problem.path, found.root)}: {problem.why}" for problem in found.problems]
    return "\n".join([*lines, denominators(found)])


def _name(contract: Contract, edit: Change) -> str:
    """`FALSIFY-X-001.status`: the index of a test says nothing to a reader."""
    if edit.place[0] == "falsification_tests":
        test = next(test for test in contract.tests if test.index == edit.place[1])
        return f"{test.id}.{edit.place[-1]}"
    return ".".join(map(str, edit.place))
