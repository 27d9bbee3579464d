"""How a user names the sides of a bisection: a model and what runs it, or a folder of stages."""

import os
from dataclasses import dataclass
from pathlib import Path

from engine import aprt, oracles
from engine.checkpoint import CONFIG
from engine.errors import EngineError
from engine.oracles.transformers import DTYPES
from engine.paths import NAMES as PATHS
from engine.suggestion import named
from engine.trace_folder import FORMAT, MANIFEST

FOLDER = "folder"
ENGINES = (*PATHS, *oracles.MODULES)
FORMS = "MODEL, MODEL@fast, MODEL@reference, MODEL@transformers[:DTYPE], MODEL@llama-cpp, or a folder of stages"
_HINT = f"a side is {FORMS}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A side as the user named it.

    model   a name or path that engine.registry.locate knows; of a folder of stages, its path
    engine  of ENGINES, or FOLDER
    dtype   of transformers; None where none was named
    """

    text: str
    model: str
    engine: str
    dtype: str | None = None

    @property
    def name(self) -> str:
        """The side with what runs it, whether or not the user wrote that."""
        if self.engine == FOLDER:
            return self.text
        return f"{self.model}@{self.engine}" + (f":{self.dtype}" if self.dtype else "")


def parse(text: str, default: str) -> Spec:
    """A side from its text; `default` is the engine of a model that is named alone.

    What exists as a path is that path, and a name with an @ of its own (OWNER/NAME@REVISION) a model. Raises
    EngineError for an engine or a dtype that there is not, and for a path that is neither a model nor a folder of
    stages.
    """
    if not text:
        raise EngineError("the name of a side is empty", hint=_HINT)
    if _is_folder(text):
        return Spec(text, text, FOLDER)
    model, at, tail = text.rpartition("@")
    engine, colon, dtype = tail.partition(":")
    if not at or os.path.exists(text):
        return Spec(text, text, default)
    if engine in ENGINES:
        _check(text, model, engine, dtype if colon else None)
        return Spec(text, model, engine, dtype if colon else None)
    if "/" not in text or os.path.isfile(model):  # no name of a hub
        named(engine, ENGINES, what="engine", where=text)
    return Spec(text, text, default)


def _check(text: str, model: str, engine: str, dtype: str | None) -> None:
    """Raise EngineError where an engine is asked for what it cannot do."""
    if not model:
        raise EngineError(f"no model before the @ in {text!r}", hint=_HINT)
    if dtype is not None and engine != "transformers":
        raise EngineError(f"{engine} has no choice of a dtype", where=text, hint=_HINT)
    if dtype is not None:
        named(dtype, DTYPES, what="dtype", where=text)
    if _is_folder(model):
        raise EngineError(
            f"{model} is a folder of stages, which nothing runs again", where=text, hint=f"name it alone: {model}"
        )
    if model.rpartition("@")[2].partition(":")[0] in ENGINES and "/" not in model and not os.path.exists(model):
        raise EngineError("names two engines", where=text, hint=_HINT)


def _is_folder(text: str) -> bool:
    """Whether a path is that of a folder of stages; EngineError for a part of one, or a folder of something else."""
    path = Path(text)
    if os.path.isfile(path):
        if path.name == MANIFEST or _holds(path, aprt.MAGIC):
            raise EngineError("is one file of a folder of stages", where=text, hint="name the folder")
        return False
    if not os.path.isdir(path):
        return False
    manifest = path / MANIFEST
    if os.path.isfile(path / CONFIG):
        return os.path.isfile(manifest) and _holds(manifest, FORMAT.encode(), 1 << 20)
    if not os.path.isfile(manifest) and not any(path.glob("*.safetensors")):
        parts = any(_holds(file, aprt.MAGIC) for pattern in ("*.bin", "layer-*/*.bin") for file in path.glob(pattern))
        raise EngineError(
            f"is a folder of stages without {MANIFEST}: what wrote it did not end"
            if parts
            else f"is a folder without {MANIFEST} (of stages) and {CONFIG} (of a model)",
            where=text,
            hint="write it again with `apr trace` or `apr oracle`" if parts else _HINT,
        )
    return os.path.isfile(manifest)


def _holds(path: Path, what: bytes, within: int | None = None) -> bool:
    """Whether a file has these bytes, at its start or within so many; not one that is no file or cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return what in file.read(within or len(what))
    except OSError:
        return False
