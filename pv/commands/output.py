"""How commands print."""

import os
import sys
from collections.abc import Iterable


def show(text: str, *, colour: bool = True) -> None:
    """Print a verdict, in colours if a person reads it at a terminal."""
    if colour and is_terminal():
        from pv import terminal

        print(terminal.coloured(text), end="")
    else:
        print(text)


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


def decline(declined: Iterable[tuple[str, str]]) -> None:
    """Say what was not measured: (place, reason) of each."""
    from pv.excerpt import printable

    for place, reason in declined:
        print(printable(f"pv: {place}: not measured: {reason}"), file=sys.stderr)
