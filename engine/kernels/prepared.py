"""Imported before a kernel is declared: numba is told then how to compile it. `done` once all are declared."""

import numba

from engine import variants

_elsewhere = variants.prepare()


def done() -> None:
    """What others compile in this process is kept where it was."""
    numba.config.CACHE_DIR = _elsewhere
