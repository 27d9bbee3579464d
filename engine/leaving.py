"""The end of a process that has nothing left to do."""

import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with an exit code, once its output is written.

    Python would first take apart what is loaded, which with numba takes a third of a second. Functions of atexit and
    `finally` blocks that are still open do not run.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.stderr is not None:
        with suppress(OSError):  # there is nobody left to tell
            sys.stderr.flush()
    os._exit(code)
