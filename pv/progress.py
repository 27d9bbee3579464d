"""How far a run has come, in a line on a terminal that is gone when the run ends."""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

DELAY = 1.0
"""Seconds of work before anything is shown."""
INTERVAL = 0.1
"""Seconds from one showing to the next."""


class Progress:
    """Counts files. Shows the count on a terminal, once a run takes longer than most."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream or sys.stderr
        self.clock = clock
        self.count = 0
        self.shown = False
        dumb = os.environ.get("TERM") in (None, "", "dumb", "unknown")
        self.next = float("inf") if dumb or not self.stream.isatty() else clock() + DELAY

    def step(self) -> None:
        """A file is done."""
        self.count += 1
        now = self.clock()
        if now >= self.next:
            self.next = now + INTERVAL
            self.shown = True
            self.stream.write(f"\r{self.count} files checked")
            self.stream.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        """Take the line away; a verdict follows."""
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
