"""A model in the folder layout of Hugging Face: its files, its JSON, and its weights from one or several shards.

Source: the documentation of transformers (`save_pretrained` writes this layout). Which files decide what the model
computes and says is fixed here: they are what is read, and what the model's digest is about.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, brief
from engine.json_files import read_json
from engine.safetensors import SafetensorsFile, read_safetensors
from engine.tensors import AGAIN, TensorInfo

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BESIDE = (GENERATION, TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, TEMPLATE)
"""What is read beside the configuration and the weights, where it exists."""
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_LAYOUT = f"such a folder holds {CONFIG}, {WEIGHTS} (or its shards and {INDEX}) and {TOKENIZER}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """A folder whose configuration was read, and whose shards were checked, each by itself and against the index."""

    path: Path
    config: Mapping[str, Any]
    shards: Mapping[str, SafetensorsFile]  # by the name of the file
    owners: Mapping[str, str]  # the name of the shard that holds a tensor
    tensors: Mapping[str, TensorInfo]
    files: tuple[str, ...]  # the names of all that is read

    @property
    def name(self) -> str:
        """What the model is called, as name_of."""
        return name_of(self.path)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """As TensorFile.raw."""
        return self._shard(name).raw(name)

    def dequantised(self, name: str) -> NDArray[np.float32]:
        """As TensorFile.dequantised."""
        return self._shard(name).dequantised(name)

    def _shard(self, name: str) -> SafetensorsFile:
        if name not in self.owners:
            raise EngineError(f"tensor {brief(name)} is missing", where=str(self.path), hint=AGAIN)
        return self.shards[self.owners[name]]


def name_of(folder: Path) -> str:
    """What a model is called: its folder, or OWNER/NAME where that lies in a cache of the Hugging Face hub."""
    path = folder.absolute()
    repository = path.parents[1].name if path.parent.name == "snapshots" else ""
    if repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return path.resolve().name


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder's configuration, and the headers of all its shards; raises EngineError for what is incomplete."""
    if not _exists(folder, CONFIG):
        raise EngineError(f"is a folder without {CONFIG}", where=str(folder), hint=_what_else(folder))
    config = read_json(folder / CONFIG)
    names, index = _shard_names(folder)
    shards = {name: read_safetensors(folder / name) for name in names}
    owners: dict[str, str] = {}
    for shard, file in shards.items():
        for tensor in file.tensors:
            if tensor in owners:
                raise EngineError(
                    f"tensor {brief(tensor)} lies in {owners[tensor]} too", where=str(folder / shard), hint=AGAIN
                )
            owners[tensor] = shard
    if index is not None:
        _check_index(folder / INDEX, index, owners)
    beside = [name for name in (INDEX, *BESIDE) if _exists(folder, name)]
    return Checkpoint(
        path=folder,
        config=config,
        shards=shards,
        owners=owners,
        tensors={name: shards[shard].tensors[name] for name, shard in owners.items()},
        files=(CONFIG, *names, *beside),
    )


def read_index(path: Path) -> dict[str, str]:
    """The name of the shard of each tensor; raises EngineError for an index that names anything but files beside it."""
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(name, str) for name in index.values()):
        raise EngineError("its weight_map does not name a file for each tensor", where=str(path), hint=AGAIN)
    for name in sorted(set(index.values())):
        if not _SHARD.fullmatch(name):
            raise EngineError(
                f"names {brief(name)}, which is not a .safetensors file beside it",
                where=str(path),
                hint="take the folder as its authors published it, and do not trust this one",
            )
    return index


def _shard_names(folder: Path) -> tuple[list[str], dict[str, str] | None]:
    """The names of the shards, and the index where there is one."""
    whole = _exists(folder, WEIGHTS)
    if not _exists(folder, INDEX):
        if not whole:
            raise EngineError(f"is a folder without {WEIGHTS}", where=str(folder), hint=_what_else(folder))
        return [WEIGHTS], None
    path = folder / INDEX
    index = read_index(path)
    names = sorted(set(index.values()))
    for name in names:
        if not _exists(folder, name):
            raise EngineError(f"names {name}, which is missing", where=str(path), hint=AGAIN)
    if whole and WEIGHTS not in names:
        raise EngineError(
            f"lies beside {WEIGHTS}, which it does not name: it is not clear which of them is the model",
            where=str(path),
            hint="remove the one that does not belong there",
        )
    return names, index


def _check_index(path: Path, index: Mapping[str, str], owners: Mapping[str, str]) -> None:
    """Whether index and shards name the same tensors in the same files."""
    for tensor in sorted(index.keys() | owners.keys()):
        stated, found = index.get(tensor), owners.get(tensor)
        if stated != found:
            raise EngineError(
                f"tensor {brief(tensor)} lies in {found or 'no shard'}, but the index names {stated or 'none for it'}",
                where=str(path),
                hint=AGAIN,
            )


def _exists(folder: Path, name: str) -> bool:
    """Whether a folder has an entry of this name; a link that leads nowhere is one, and an error when it is read."""
    path = folder / name
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    return True


def _what_else(folder: Path) -> str:
    """What to do with a folder that is no checkpoint, by what it holds."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"it cannot be listed: {error.strerror or error}"
    files = [name for name in names if name.endswith(".gguf")]
    if files:
        return f"name the .gguf file in it: {', '.join(files[:8])}{', ..' if len(files) > 8 else ''}"
    if any(name.startswith("pytorch_model") for name in names):
        return "its weights are Python pickles, which can run code: convert them to safetensors first"
    return _LAYOUT
