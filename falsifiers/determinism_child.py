"""A process of `apr determinism` as falsifiers need it: with defects planted, or on a random model.

    python -m falsifiers.determinism_child [MUTANT..]

A mutant is a name in falsifiers.determinism. A model that is called `random ARCHITECTURE SEED` is made, not read.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from engine import cells
from engine.gguf import read_gguf
from engine.leaving import leave
from engine.model import Model, read_model
from falsifiers import determinism
from falsifiers.synthetic import random_model


def opened(name: str) -> Model:
    """The model of that file, or a random one."""
    kind, *rest = name.split(" ")
    if kind == "random" and len(rest) == 2:
        return random_model(np.random.default_rng(int(rest[1])), rest[0])
    return read_model(read_gguf(Path(name)))


def main() -> int:
    with ExitStack() as planted:
        for name in sys.argv[1:]:
            planted.enter_context(getattr(determinism, name)())
        return cells.main(opened)


if __name__ == "__main__":
    leave(main())
