"""Texts of contracts in Markdown: they are shown as they are, and mean nothing to GitHub."""

import re
from collections.abc import Iterable, Sequence

from pv.excerpt import printable

SIGNS = re.compile(r"[\\`*_\[\]|~$]")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def text(words: str) -> str:
    """Words of somebody else's: no markup, HTML, mention, reference or line break in them has an effect."""
    shown = printable(words)
    shown = "".join(ENTITIES.get(char, f"\\{char}" if SIGNS.match(char) else char) for char in shown)
    return (
        shown.replace("@", "@<!-- -->").replace("#", "#<!-- -->").replace(":", ":<!-- -->" if "://" in words else ":")
    )


def code(name: str) -> str:
    """A name in a code span, which may stand in a table too. A name with `, | or \\ in it is shown as text."""
    shown = printable(name)
    return (
        f"`{shown}`"
        if shown.strip() and not set(shown) & set("`|\\") and shown == shown.strip()
        else text(name) or "(none)"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; the cells are Markdown already."""
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]
