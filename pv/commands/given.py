"""What the arguments of a command give it: paths, and for `-` the bytes of standard input."""

import sys
from collections.abc import Sequence
from pathlib import Path

STDIN = Path("<stdin>")
"""How standard input is named; it lies nowhere."""
PATHS = "contracts, folders of them, or patterns; - is standard input; by default the project's"


def given_by(arguments: Sequence[str]) -> tuple[list[Path], dict[Path, bytes]]:
    """The paths, with STDIN for -, and the bytes of that. PvError where it cannot be read."""
    paths = [STDIN if argument == "-" else Path(argument) for argument in arguments]
    return paths, {STDIN: standard_input()} if "-" in arguments else {}


def standard_input() -> bytes:
    """What is there up to its end, but no more than one byte over the limit of a contract."""
    from pv.errors import PvError
    from pv.yaml_loader import MAX_BYTES

    try:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except (AttributeError, OSError):  # AttributeError: it is closed
        raise PvError("cannot be read", where=str(STDIN)) from None
