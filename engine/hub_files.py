"""Which files of a hub's repository are a model."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.checkpoint import BESIDE, CONFIG, INDEX, TOKENIZER, WEIGHTS, read_index
from engine.checkpoint_config import Settings, read_architecture
from engine.errors import EngineError
from engine.json_files import read_json
from engine.pulled import HubName

_SPLIT = re.compile(r".*-\d{5}-of-\d{5}\.gguf")
_LISTED = 40


def check_name(name: HubName) -> None:
    """Raise EngineError for a FILE that is no model by itself."""
    if name.file is None:
        return
    if not name.file.endswith(".gguf"):
        raise EngineError(
            f"{name.file} is no GGUF file",
            where=str(name),
            hint=f"apr pull {name.repository} obtains all that a model in safetensors needs",
        )
    if _SPLIT.fullmatch(name.file):
        raise EngineError(
            f"{name.file} is a part of a split model, which is not supported",
            where=str(name),
            hint="take a file that is whole, or the model in safetensors",
        )


def choose(name: HubName, sizes: Mapping[str, int], get: Callable[[str], Path]) -> list[str]:
    """The files that make up the model, its weights last.

    sizes  of all files of the repository, in bytes
    get    obtains a file: what config.json and the index say is asked before the weights are

    Raises EngineError for a file that the repository lacks, and for an architecture that the engine does not know.
    """
    if name.file is not None:
        if name.file not in sizes:
            raise EngineError(f"has no file {name.file}", where=name.repository, hint=_ggufs(name, sizes))
        return [name.file]
    whole = WEIGHTS in sizes
    if CONFIG not in sizes or not (whole or INDEX in sizes):
        if any(file.endswith(".gguf") for file in sizes):
            raise EngineError("holds no safetensors, but GGUF files", where=name.repository, hint=_ggufs(name, sizes))
        pickles = any(file.endswith((".bin", ".pth", ".pt")) for file in sizes)
        raise EngineError(
            f"has no {CONFIG if CONFIG not in sizes else WEIGHTS}",
            where=name.repository,
            hint="its weights are Python pickles, which can run code: take one in safetensors or GGUF"
            if pickles
            else "take the repository of a language model in safetensors or GGUF",
        )
    if TOKENIZER not in sizes:
        raise EngineError(
            f"has no {TOKENIZER}", where=name.repository, hint="take a repository whose tokenizer is in that format"
        )
    read_architecture(Settings(read_json(get(CONFIG)), f"{name}: {CONFIG}"))
    beside = [file for file in BESIDE if file in sizes]
    if whole:
        return [CONFIG, *beside, WEIGHTS]
    shards = sorted(set(read_index(get(INDEX)).values()))
    lacking = [shard for shard in shards if shard not in sizes]
    if lacking:
        raise EngineError(f"has no {lacking[0]}, which {INDEX} names", where=name.repository, hint="ask its authors")
    return [CONFIG, *beside, INDEX, *shards]


def _ggufs(name: HubName, sizes: Mapping[str, int]) -> str:
    """The GGUF files of a repository, the smallest first, as commands."""
    found = sorted(
        (size, file) for file, size in sizes.items() if file.endswith(".gguf") and not _SPLIT.fullmatch(file)
    )
    if not found:
        return "it has no GGUF file that is whole"
    lines = [f"apr pull {name.folder}:{file}  ({size:,} bytes)" for size, file in found[:_LISTED]]
    more = [f".. and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return "choose one of them:\n    " + "\n    ".join([*lines, *more])
