"""Oracles: independent engines that run the same model and hand over the same stages as ours.

Each is a module that loads its libraries when it is opened, and no command waits for those of another. What an oracle
captures is in our shapes, our order and our layout (engine.reference is the norm), so that one comparison serves all.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Capture = Callable[[str, int | None, "NDArray[np.float32]"], object]
"""Called as capture(stage, layer, array), layer None for a whole-model stage. The array is the receiver's: a copy in C
order that nobody writes to later. What is returned is ignored."""

MODULES = {"transformers": "engine.oracles.transformers", "llama-cpp": "engine.oracles.llama_cpp"}
"""Where each oracle lies; its module has `open_model(model: Path, **options) -> Oracle`."""
EXTRAS = {"transformers": "transformers", "llama-cpp": "llama-cpp"}
"""What has to be installed for it: the extra of this package."""


class MissingLibraryError(EngineError):
    """What an oracle needs is not installed, or cannot be imported."""


class Oracle(Protocol):
    """An engine that is not ours, with a model open in it.

    name     as in MODULES
    variant  what of it computes: the dtype of transformers, the backend of llama.cpp
    engine   its version and those of its libraries, such as "transformers 5.24.0, torch 2.13.0"
    missing  stages that it cannot give, in the order of execution
    notes    what a reader of its stages has to know, a line each
    """

    name: str
    variant: str
    engine: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def tokens(self, prompt: str) -> list[int]:
        """Ids of a prompt by the tokenizer that this engine reads from the model."""

    def forward(self, tokens: Sequence[int], capture: Capture | None = None) -> "NDArray[np.float32]":
        """Logits (vocab,) float32 of the last of `tokens`, in one piece and with nothing before them.

        Each stage but those of `missing` is captured once per layer; without `capture`, nothing of ours is attached.
        """

    def close(self) -> None:
        """Free what it holds; it is not used afterwards."""


def open_oracle(name: str, model: Path, **options: Any) -> Oracle:
    """The oracle of that name with the model open, once it has proved itself (engine.oracles.proof).

    options  those of the oracle: `dtype` of transformers (float32, float16 or bfloat16); llama-cpp has none

    Raises EngineError for an unknown name, libraries that are missing, a model that it cannot read, and an oracle that
    fails its proof.
    """
    oracle = open_unproved(name, model, **options)
    from engine.oracles.proof import prove

    try:
        prove(name, **options)
    except EngineError:
        oracle.close()
        raise
    return oracle


def open_unproved(name: str, model: Path, **options: Any) -> Oracle:
    """As open_oracle, for those who prove."""
    if name not in MODULES:
        raise EngineError(f"unknown oracle {name!r}", hint=f"one of: {', '.join(MODULES)}")
    oracle: Oracle = import_module(MODULES[name]).open_model(model, **options)
    return oracle


def library(oracle: str, name: str) -> ModuleType:
    """A library of an oracle, imported; raises MissingLibraryError, with what to install, where it cannot be."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"the oracle {oracle} cannot be loaded: {error}",
            hint=f"install what it needs: pip install 'pv-contracts[{EXTRAS[oracle]}]'",
        ) from error
