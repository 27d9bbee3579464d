"""The source line of a finding with a line of carets below the fault, as wide on a terminal as the text above it."""

import os
import re
import unicodedata
from collections.abc import Mapping

from pv.findings import Finding

WIDTH = 100
"""How many characters of a line are shown at most."""
LINE_BREAK = re.compile(r"\r\n|\r|\n")
TAB = "    "


class Sources:
    """The lines of files as they are now; the last file is kept, since findings come file by file.

    texts  what was read from elsewhere, by path
    """

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self.texts = texts or {}
        self.path: str | None = None
        self.lines: list[str] = []

    def line(self, path: str, number: int) -> str | None:
        """A line, counting from 1. None where there is no such line, or no file that can be read once more."""
        if path != self.path:
            self.path, self.lines = path, self._lines(path)
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else None

    def _lines(self, path: str) -> list[str]:
        data = self.texts.get(path)
        if data is None:
            if not os.path.isfile(path):  # a pipe gives its bytes once
                return []
            try:
                with open(path, "rb") as stream:
                    data = stream.read()
            except OSError:
                return []
        if b"\0" in data:
            return []
        return LINE_BREAK.split(data.decode("utf-8-sig", errors="replace"))


def excerpt(found: Finding, sources: Sources) -> list[str]:
    """Two lines, or none where the source is not to be had. A long line is cut on both sides of the fault."""
    line = sources.line(found.path, found.line)
    if line is None:
        return []
    first = min(found.column - 1, len(line))
    start = max(0, min(first - WIDTH // 3, len(line) - WIDTH))
    stop = min(start + WIDTH, len(line))
    last = max(min(found.end_column - 1, stop), first + 1)
    left, right = "..." if start else "", "..." if stop < len(line) else ""
    shown = [_shown(char) for char in line[start:stop]]
    before, fault = shown[: first - start], shown[first - start : last - start]
    number = str(found.line)
    return [
        f"  {number} | {left}{''.join(shown)}{right}".rstrip(),
        f"  {' ' * len(number)} | {' ' * (len(left) + _columns(before))}{'^' * max(_columns(fault), 1)}",
    ]


def _shown(char: str) -> str:
    return TAB if char == "\t" else printable(char)


def _columns(shown: list[str]) -> int:
    """How many columns of a terminal texts take: two for a wide character, none for one that joins the last."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for text in shown
        for char in text
    )


def printable(line: str) -> str:
    """Without line breaks, control characters and what no terminal can show: a contract must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
