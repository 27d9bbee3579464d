"""The trace folder: tensor files as they lie on disk, and the manifest that says what they are.

    <folder>/layer-<N>/<stage>.bin    a stage of layer N; the embedding lies in layer-0
    <folder>/<stage>.bin              a stage of the whole model
    <folder>/manifest.json            format "aprt-trace/1", written last

The manifest holds no time, host or thread count: the same run gives the same bytes again.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import aprt
from engine.checkpoint import name_of
from engine.errors import EngineError
from engine.outputs import place_of, replace_file
from engine.stages import ORDER, WHOLE

FORMAT = "aprt-trace/1"
MANIFEST = "manifest.json"
OWN = ("reference", "fast")
PATHS = (*OWN, "transformers", "llama-cpp")
"""Who may have computed a trace: one of our execution paths, or an oracle (engine.oracles)."""
MAY_LACK = 4
"""How many stages llama.cpp may have no tensor for: one today, others in builds that fuse more."""
_AGAIN = "write the folder again with `apr trace`"
_NAMES: dict[type, str] = {str: "text", int: "an integer", list: "a list", dict: "an object"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TracedModel:
    """The model that ran: its name, the sha256 of its file (64 hex digits), its architecture, for example "qwen2"."""

    name: str
    sha256: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor file of a trace: its path relative to the folder, and what it holds (layer None: whole model)."""

    file: str
    stage: str
    layer: int | None
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Where the tensors of a trace come from, as manifest.json says it.

    engine   version of the package that ran; of an oracle, its name and version and those of its libraries
    tokens   ids of the prompt, in order
    path     one of PATHS: the execution path that served, or the oracle
    variant  the kernel variant that served; of an oracle, its dtype or backend
    kv_cache what the fast path kept keys and values in; None of the reference path, and where nobody wrote it down
    tensors  in the order of execution
    missing  stages that an oracle cannot give, whatever was selected; our own paths give all
    """

    engine: str
    model: TracedModel
    prompt: str
    tokens: tuple[int, ...]
    path: str
    variant: str
    tensors: tuple[Entry, ...]
    kv_cache: str | None = None
    missing: tuple[str, ...] = ()


def stage_path(folder: Path, stage: str, layer: int | None) -> Path:
    """Where a stage's tensor lies. Raises ValueError for an unknown stage, or a layer where none belongs."""
    if stage not in ORDER:
        raise ValueError(f"unknown stage {stage!r}")
    if (layer is None) != (stage in WHOLE):
        raise ValueError(f"stage {stage!r} cannot belong to layer {layer}")
    return folder / f"{stage}.bin" if layer is None else folder / f"layer-{layer}" / f"{stage}.bin"


def default_folder(model: Path) -> Path:
    """Where a trace goes when no folder is named: <model-stem>-trace in the current one; of a folder, its own name."""
    return Path(f"{name_of(model).rpartition('/')[2] if model.is_dir() else model.stem}-trace")


def execution_order(stage: str, layer: int | None) -> tuple[bool, int, int, str]:
    """Sort key of tensors: layer by layer, stage by stage, the whole model's last; unknown stages after known ones."""
    return layer is None, layer or 0, ORDER.get(stage, len(ORDER)), stage


class TraceWriter:
    """Writes what is selected of a forward pass into a folder: pass `tap` to the model, then call `finish`.

    The folder is made when missing and never cleaned. Files of an earlier trace may stay, but the manifest names only
    those of this run, and an earlier manifest is removed before the first tensor is written: an interrupted run
    leaves none. As a context manager it leaves nothing where the block fails: its files go, and the folders that it
    made.
    """

    def __init__(self, folder: Path, *, stages: Collection[str], layers: Collection[int]) -> None:
        """Make the folder.

        stages  names out of engine.stages.NAMES
        layers  the selected layers, for stages that belong to one

        Raises EngineError when nothing is selected, the folder cannot be made, or something that is no file lies where
        one belongs.
        """
        self.folder = folder
        self._selected = _selection(stages, layers)
        self._entries: dict[tuple[str, int | None], Entry] = {}
        self._made: list[Path] = []
        if not self._selected:
            raise EngineError(
                "the selected stages have no tensor in the selected layers",
                hint="the embedding lies in layer 0: select that layer, or another stage",
            )
        for path in (folder / MANIFEST, *(stage_path(folder, *key) for key in self._selected)):
            place_of(path)
        self._make(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        with suppress(OSError):  # the error that ended the block is the one to be told
            for entry in self._entries.values():
                (self.folder / entry.file).unlink(missing_ok=True)
            for folder in reversed(self._made):
                folder.rmdir()

    def tap(self, stage: str, layer: int | None, array: NDArray[np.float32]) -> None:
        """Write the tensor at once if it is selected; the caller may reuse the array.

        Raises ValueError when a tensor comes twice, TypeError when it is not float32, EngineError when it cannot be
        written.
        """
        if (stage, layer) not in self._selected:
            return
        if (stage, layer) in self._entries:
            raise ValueError(f"stage {stage!r} of layer {layer} was traced twice: run the prompt in one piece")
        _remove_manifest(self.folder)
        path = stage_path(self.folder, stage, layer)
        self._make(path.parent)
        aprt.write_tensor(path, layer, array)
        file = path.relative_to(self.folder).as_posix()
        self._entries[stage, layer] = Entry(file, stage, layer, tuple(array.shape))

    def finish(
        self,
        *,
        engine: str,
        model: Mapping[str, str],
        prompt: str,
        tokens: Iterable[int],
        path: str,
        variant: str,
        kv_cache: str | None = None,
        missing: Iterable[str] = (),
    ) -> Manifest:
        """Write the manifest and return it; its fields are those of Manifest, those of model of TracedModel.

        Raises EngineError when a selected tensor never came (a partial trace gets no manifest), or a field is not as
        read_manifest demands it.
        """
        absent = sorted(self._selected - self._entries.keys(), key=lambda key: execution_order(*key))
        if absent:
            stage, layer = absent[0]
            owner = "the whole model" if layer is None else f"layer {layer}"
            raise EngineError(
                f"{len(absent)} of {len(self._selected)} selected tensors were not traced, first {stage} of {owner}",
                where=str(self.folder),
                hint="select layers that the model has (`apr inspect` counts them)",
            )
        entries = sorted(self._entries.values(), key=lambda entry: execution_order(entry.stage, entry.layer))
        document = {
            "format": FORMAT,
            "engine": engine,
            "model": dict(model),
            "prompt": prompt,
            "tokens": list(tokens),
            "path": path,
            "variant": variant,
            **({"kv_cache": kv_cache} if kv_cache else {}),
            **({"missing": lacking} if (lacking := list(missing)) else {}),
            "tensors": [
                {"file": entry.file, "stage": entry.stage, "layer": entry.layer, "shape": list(entry.shape)}
                for entry in entries
            ],
        }
        file = self.folder / MANIFEST
        manifest = _checked(document, str(file))
        # ASCII, sorted and indented: the same on every machine, and a change shows as one line
        replace_file(file, ((json.dumps(document, sort_keys=True, indent=1) + "\n").encode("ascii"),))
        return manifest

    def _make(self, folder: Path) -> None:
        self._made += reversed([one for one in (folder, *folder.parents) if not os.path.exists(one)])
        _make_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """Read and check <folder>/manifest.json.

    Raises EngineError when it cannot be read, is not JSON of format "aprt-trace/1", misses a key or has a value of
    the wrong type, names a tensor twice, or places one elsewhere than stage_path does (so none lies outside).
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 is a ValueError too
        raise EngineError(f"not JSON: {error}", where=str(path), hint=_AGAIN) from error
    return _checked(document, str(path))


def _selection(stages: Collection[str], layers: Collection[int]) -> frozenset[tuple[str, int | None]]:
    selected: set[tuple[str, int | None]] = set()
    for stage in stages:
        if stage in WHOLE:
            selected.add((stage, None))
        elif stage == "embedding":
            selected.update((stage, layer) for layer in layers if layer == 0)
        else:
            selected.update((stage, layer) for layer in layers)
    return frozenset(selected)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"the folder cannot be made: {error.strerror or error}",
            where=str(folder),
            hint="choose another folder with --output",
        ) from error


def _remove_manifest(folder: Path) -> None:
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
    except OSError as error:
        raise EngineError(
            f"the manifest of an earlier trace cannot be removed: {error.strerror or error}",
            where=str(folder / MANIFEST),
            hint="choose another folder with --output",
        ) from error


def _checked(document: Any, where: str) -> Manifest:
    """The manifest in a parsed document, or an EngineError that names the first thing that is wrong with it."""
    try:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            found = document.get("format") if isinstance(document, dict) else document
            raise ValueError(f"the format is {found!r:.80}, not {FORMAT!r}")
        model, tokens = _value(document, "model", dict), _value(document, "tokens", list)
        entries = [_entry(item) for item in _value(document, "tensors", list)]
        manifest = Manifest(
            engine=_value(document, "engine", str),
            model=TracedModel(*(_value(model, key, str) for key in ("name", "sha256", "architecture"))),
            prompt=_value(document, "prompt", str),
            tokens=tuple(tokens),
            path=_value(document, "path", str),
            variant=_value(document, "variant", str),
            kv_cache=_value(document, "kv_cache", str) if "kv_cache" in document else None,
            tensors=tuple(sorted(entries, key=lambda entry: execution_order(entry.stage, entry.layer))),
            missing=tuple(_value(document, "missing", list)) if "missing" in document else (),
        )
        if not tokens or not all(type(token) is int and token >= 0 for token in tokens):
            raise ValueError(f"tokens must be a list of ids, not {tokens!r:.80}")
        if manifest.path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, not {manifest.path!r:.80}")
        if re.fullmatch("[0-9a-f]{64}", manifest.model.sha256) is None:
            raise ValueError(f"sha256 must be 64 hex digits, not {manifest.model.sha256!r:.80}")
        if len({entry.file for entry in entries}) < len(entries):
            raise ValueError("a tensor is listed twice")
        _check_missing(manifest)
    except ValueError as error:
        raise EngineError(str(error), where=where, hint=_AGAIN) from error
    return manifest


def _check_missing(manifest: Manifest) -> None:
    """Raise ValueError unless the missing stages are such, once each, of an oracle, and not among the tensors."""
    missing, given = manifest.missing, {entry.stage for entry in manifest.tensors}
    for place, stage in enumerate(missing):
        if type(stage) is not str or stage not in ORDER:
            raise ValueError(f"missing must be a list of stages, and {stage!r:.80} is none")
        if stage in given:
            raise ValueError(f"{stage} is listed as missing, and given")
        if stage in missing[:place]:
            raise ValueError(f"{stage} is listed as missing twice")
    if missing and manifest.path != "llama-cpp":
        raise ValueError(f"the path {manifest.path} gives every stage, and cannot have {', '.join(missing)} missing")
    if len(missing) > MAY_LACK or "lm_head" in missing:
        raise ValueError(f"{len(missing)} stages are missing: llama-cpp lacks {MAY_LACK} at most, and never lm_head")


def _entry(item: Any) -> Entry:
    if not isinstance(item, dict):
        raise ValueError(f"a tensor must be an object, not {item!r:.80}")
    file, stage, shape = _value(item, "file", str), _value(item, "stage", str), _value(item, "shape", list)
    layer = None if item.get("layer", 0) is None else _value(item, "layer", int)
    if stage not in ORDER:
        raise ValueError(f"unknown stage {stage!r:.80}")
    if not shape or not all(type(length) is int and length > 0 for length in shape):
        raise ValueError(f"shape must be a list of positive integers, not {shape!r:.80}")
    if (layer is None) != (stage in WHOLE) or (layer is not None and layer < 0):
        raise ValueError(f"stage {stage} cannot belong to layer {layer}")
    place = stage_path(Path(), stage, layer).as_posix()
    if file != place:  # whatever else it names could lie outside the folder
        raise ValueError(f"the file of {stage} must be {place!r}, not {file!r:.80}")
    return Entry(file, stage, layer, tuple(shape))


def _value(mapping: dict[str, Any], key: str, kind: type[T]) -> T:
    if key not in mapping:
        raise ValueError(f"the key {key!r} is missing")
    value = mapping[key]
    if type(value) is not kind:  # not isinstance: true is no integer
        raise ValueError(f"{key} must be {_NAMES[kind]}, not {value!r:.80}")
    return value
