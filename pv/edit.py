"""Edits of YAML as text, at the places that its parser reports, which leave every other byte as it was.

After an edit the text is read again. Unless exactly the intended values differ, there is no edit.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pv.errors import PvError
from pv.statement import write_atomically
from pv.yaml_loader import Document, Span, load

Place: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int
Splice: TypeAlias = tuple[int, int, str]  # start and end in the text, and what comes between

LINE = re.compile(r"[^\r\n]*(\r\n|\n|\r|)")
BREAK = re.compile(r"\r\n?|\n")
BLOCK = re.compile(r"(?:[&!]\S*\s+)*[|>]([-+0-9]*)")
PLAIN = "write status, version and verification_summary as plain values, without anchors or aliases"


@dataclass(frozen=True, slots=True)
class Change:
    """One value to set; `old` is what stands there now, None for nothing."""

    place: Place
    new: Scalar
    old: Any = None


def replace(path: Path, before: str, after: str, *, hint: str) -> None:
    """Write the text of a file that holds `before`. PvError, and the file untouched, where that cannot be done cleanly.

    hint  what to do where somebody else changed the file meanwhile
    """
    where, path = str(path), path.resolve()  # through a symbolic link, which stays one
    try:
        if path.read_bytes() != before.encode("utf-8"):
            raise PvError("was changed since it was read; nothing is written", where=where, hint=hint)
        write_atomically(path, after.encode("utf-8"), mode=path.stat().st_mode & 0o7777)
    except OSError as error:
        raise PvError(f"cannot be written: {error.strerror}", where=where) from None


def edited(text: str, edits: Sequence[Change], where: str) -> str:
    """The YAML text with the values set. PvError where another value would change with them."""
    document = load(text, where)
    wanted = copied(document.value)
    for edit in edits:
        _set(wanted, edit.place, edit.new)
    return spliced(text, _splices(document, edits, where), wanted, where)


def spliced(text: str, splices: Iterable[Splice], wanted: Any, where: str, hint: str = PLAIN) -> str:
    """The text with the splices made, later ones at a place first. PvError unless it then holds the wanted value.

    A value where there was none comes before new lines at its place: both may stand at the end of the text.
    """
    parts, at = list[str](), 0
    ordered = list(splices)
    ordered.reverse()
    for start, end, new in sorted(ordered, key=lambda splice: (splice[0], splice[0] != splice[1] or "\n" in splice[2])):
        if start < at:
            raise unclean(where, hint)
        parts += [text[at:start], new]
        at = end
    after = "".join([*parts, text[at:]])
    try:
        got = load(after, where).value
    except PvError:
        got = None
    if repr(got) != repr(wanted):  # repr tells 1 from 1.0 and True, and keeps the order of keys
        raise unclean(where, hint)
    return after


def starts(text: str) -> list[int]:
    """Where the lines begin, in characters, as positions count them: without a byte order mark."""
    first = int(text.startswith("\ufeff"))
    return [first, *(found.end() for found in BREAK.finditer(text))]


def unclean(where: str, hint: str = PLAIN) -> PvError:
    return PvError("cannot be edited without changing something else in it; nothing is written", where=where, hint=hint)


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
        yield insertion(document, place, missing[place], where)


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
        raise unclean(where)
    first = document.text[span.start_index : span.start_index + 1]
    if isinstance(edit.old, (dict, list)) or first in ("|", ">"):
        name = ".".join(map(str, edit.place))
        raise PvError(f"{name} must be one value on one line", where=f"{where}:{span.start.line}")
    quote = first if first in ("'", '"') and isinstance(edit.new, str) else ""
    empty = span.start_index == span.end_index  # `status:` and nothing behind it
    return span.start_index, span.end_index, f"{' ' if empty else ''}{quote}{edit.new}{quote}"


def insertion(document: Document, place: Place, values: dict[str, Any], where: str) -> Splice:
    """New keys behind the last one of a mapping: in braces behind a comma, else on lines of their own."""
    text, span, mapping = document.text, document.span(place), document.value
    for step in place:
        mapping = mapping[step]
    if span is None or not isinstance(mapping, dict):
        raise unclean(where)
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
        raise unclean(where, hint)
    content = source.rstrip()
    kept = "\n" in source[len(content) :].removesuffix("\n") if content else source != ""
    return (last.behind_index if kept else line.end()), bool(line[1])


def _flow(key: str, value: Any) -> str:
    inner = "{" + ", ".join(_flow(*item) for item in value.items()) + "}" if isinstance(value, dict) else value
    return f"{key}: {inner}"


def copied(value: Any) -> Any:
    """A copy in which an aliased value is no longer shared: an edit of one place must not show in another."""
    if isinstance(value, dict):
        return {key: copied(element) for key, element in value.items()}
    return [copied(element) for element in value] if isinstance(value, list) else value


def _set(value: Any, place: Place, new: Scalar) -> None:
    for step in place[:-1]:
        value = value.setdefault(step, {}) if isinstance(value, dict) else value[step]
    value[place[-1]] = new
