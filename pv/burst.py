"""Many values made at once, all of which stay: the garbage collector would look through them again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def burst() -> Iterator[None]:
    """Let the garbage collector rest inside the block: a third of the time where 100,000 records are read."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
