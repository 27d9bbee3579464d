"""What a person sees at a terminal: the same words as in a pipe, in a table and in colours.

Imported only where the output goes to a terminal, since it imports rich. Every text is shown as text: no markup is read
in it, and what could steer the terminal is escaped.
"""

import os
import re

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pv.report import printable
from pv.status import Survey, shown
from pv.status_report import COLUMNS, cells, notes

STYLES = {
    "DISCHARGED": "green",
    "FUNCTIONAL": "green",
    "PARTIAL": "yellow",
    "PARTIAL_ALGORITHM_LEVEL": "yellow",
    "STALE": "yellow",
    "FALSIFIED": "red",
    "error": "red",
    "warning": "yellow",
    "note": "cyan",
    "accept": "green",
    "reject": "red",
    "decline": "yellow",
}
WORD = re.compile(r"(?:^|: |(?:->|=) )([A-Za-z_]+)(?=$|:| [A-Z]+-| \(was )")
"""Where the words of a verdict stand: a severity before its rule, the verdict at its head, a level behind an arrow."""
EXCERPT = re.compile(r"  (?:\d+| +) \| ")
"""The margin of a line of source text, or of the carets below it."""


def status(found: Survey) -> str:
    """As pv.status_report.as_text: a table for each contract, what is wrong, and the totals."""
    parts: list[RenderableType] = []
    for contract in found.contracts:
        table = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
        table.title = Text(printable(shown(contract.path, found.root)), style="bold")
        table.columns[0].overflow = "fold"  # a name that is cut short cannot be copied
        for row in found.rows:
            if row.contract is contract:
                words = [Text(printable(cell)) for cell in cells(row)]
                words[2].stylize(STYLES.get(row.earned.level.value, ""))
                table.add_row(*words)
        parts.append(table)
    return _rendered(*parts) + coloured("\n".join(notes(found)))


def coloured(text: str) -> str:
    """The lines of a verdict with its words in colour; nothing is wrapped."""
    lines = []
    for line in text.splitlines():
        shown_line = Text(printable(line))
        if margin := EXCERPT.match(line):
            shown_line.stylize("dim", 0, margin.end())
            if not line[: margin.end()].strip(" |"):
                shown_line.stylize("red", margin.end())
        for match in () if margin else WORD.finditer(shown_line.plain):
            shown_line.stylize(STYLES.get(match[1], ""), *match.span(1))
        lines.append(shown_line)
    return _rendered(*lines, wrap=False)


def _rendered(*parts: RenderableType, wrap: bool = True) -> str:
    """What rich would write to this terminal, in its width; without any escape sequence where NO_COLOR is set."""
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(force_terminal=not plain, color_system=None if plain else "auto", highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=not wrap)
    return capture.get()
