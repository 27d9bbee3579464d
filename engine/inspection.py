"""What a model consists of, as facts and as text."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from engine.checkpoint import Checkpoint
from engine.gguf import GGUFFile
from engine.opening import digests_of, identity, open_model, weights_nbytes


def describe(path: Path) -> dict[str, Any]:
    """Facts of a checked model (schema apr-inspect/1); raises EngineError where the engine could not run it.

    gguf_version is null for a folder; its tensors have `file` too, and their offsets are in that file.
    """
    opened = open_model(path)
    file, c, tokenizer = opened.file, opened.model.config, opened.tokenizer
    digests = digests_of(file)
    tensors = [
        {"name": t.name, "shape": list(t.shape), "format": t.format.name, "offset": t.offset, "bytes": t.nbytes}
        | ({"file": file.owners[t.name]} if isinstance(file, Checkpoint) else {})
        for t in file.tensors.values()
    ]
    return {
        "schema": "apr-inspect/1",
        "file": str(file.path),
        "bytes": weights_nbytes(file),
        "sha256": identity(file, digests),
        "files": digests,
        "gguf_version": file.version if isinstance(file, GGUFFile) else None,
        "config": {field: getattr(c, field) for field in c.__slots__},
        "vocabulary": {"tokens": tokenizer.vocab_size, "end_tokens": sorted(tokenizer.eos_ids)},
        "parameters": sum(math.prod(t.shape) for t in file.tensors.values()),
        "formats": dict(Counter(str(t["format"]) for t in tensors)),
        "metadata": {key: _short(value) for key, value in _metadata(file).items()},
        "tensors": tensors,
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as lines for a reader."""
    version = facts["gguf_version"]
    kind = "safetensors" if version is None else f"GGUF v{version}"
    lines = [
        f"{facts['file']}  {kind}, {facts['bytes']:,} bytes, {facts['parameters']:,} parameters",
        "",
        f"  {'sha256':<14} {facts['sha256']}",
        *(f"  {key:<14} {value}" for key, value in facts["config"].items()),
        f"  {'vocabulary':<14} {facts['vocabulary']['tokens']} tokens, end tokens {facts['vocabulary']['end_tokens']}",
        f"  {'formats':<14} {', '.join(f'{count} x {name}' for name, count in facts['formats'].items())}",
        "",
        "metadata",
        *(f"  {key} = {value}" for key, value in facts["metadata"].items()),
        "",
        *(
            ["files", *(f"  {digest}  {name}" for name, digest in facts["files"].items()), ""]
            if version is None
            else []
        ),
        "tensors",
        *(
            f"  {t['name']:<28} {t['format']:<5} {_dimensions(t['shape']):>14} {t['bytes']:>12,} B at {t['offset']}"
            + (f" in {t['file']}" if "file" in t else "")
            for t in facts["tensors"]
        ),
    ]
    return "\n".join(lines)


def _metadata(file: GGUFFile | Checkpoint) -> dict[str, Any]:
    return dict(file.config) if isinstance(file, Checkpoint) else file.metadata


def _dimensions(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _short(value: Any) -> Any:
    """Long arrays and texts by their length: a vocabulary is no reading matter. JSON has no NaN and no infinity."""
    if isinstance(value, tuple | list):
        return [_short(element) for element in value] if len(value) <= 8 else f"[{len(value)} entries]"
    if isinstance(value, dict):
        return {key: _short(element) for key, element in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > 200:
        return value[:200] + f"... ({len(value)} characters)"
    return value
