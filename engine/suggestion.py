"""A name out of a known set, or an error that lists them and guesses which one was meant."""

import difflib
from collections.abc import Iterable

from engine.errors import EngineError


def named(name: str, known: Iterable[str], *, what: str, where: str) -> str:
    """The name, if it is known; otherwise EngineError, which says `what` it should have named, at the flag `where`."""
    names = list(known)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(names)}"
    raise EngineError(f"unknown {what} {name!r}", where=where, hint=hint)
