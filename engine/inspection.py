"""What a model file holds, as facts and as text."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from engine.gguf import read_gguf
from engine.model import read_model
from engine.tokenizer import Tokenizer


def describe(path: Path) -> dict[str, Any]:
    """Facts of a checked model (schema apr-inspect/1); raises EngineError where the engine could not run it."""
    file = read_gguf(path)
    c = read_model(file).config
    tokenizer = Tokenizer.from_gguf(file)
    tensors = [
        {"name": t.name, "shape": list(t.shape), "format": t.format.name, "offset": t.offset, "bytes": t.nbytes}
        for t in file.tensors.values()
    ]
    return {
        "schema": "apr-inspect/1",
        "file": str(path),
        "bytes": int(file.data.size),
        "gguf_version": file.version,
        "config": {field: getattr(c, field) for field in c.__slots__},
        "vocabulary": {"tokens": tokenizer.vocab_size, "end_tokens": sorted(tokenizer.eos_ids)},
        "parameters": sum(math.prod(t.shape) for t in file.tensors.values()),
        "formats": dict(Counter(str(t["format"]) for t in tensors)),
        "metadata": {key: _short(value) for key, value in file.metadata.items()},
        "tensors": tensors,
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as lines for a reader."""
    lines = [
        f"{facts['file']}  GGUF v{facts['gguf_version']}, {facts['bytes']:,} bytes, {facts['parameters']:,} parameters",
        "",
        *(f"  {key:<14} {value}" for key, value in facts["config"].items()),
        f"  {'vocabulary':<14} {facts['vocabulary']['tokens']} tokens, end tokens {facts['vocabulary']['end_tokens']}",
        f"  {'formats':<14} {', '.join(f'{count} x {name}' for name, count in facts['formats'].items())}",
        "",
        "metadata",
        *(f"  {key} = {value}" for key, value in facts["metadata"].items()),
        "",
        "tensors",
        *(
            f"  {t['name']:<28} {t['format']:<5} {_dimensions(t['shape']):>14} {t['bytes']:>12,} B at {t['offset']}"
            for t in facts["tensors"]
        ),
    ]
    return "\n".join(lines)


def _dimensions(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _short(value: Any) -> Any:
    """Long arrays and texts by their length: a vocabulary is no reading matter. JSON has no NaN and no infinity."""
    if isinstance(value, tuple):
        return [_short(element) for element in value] if len(value) <= 8 else f"[{len(value)} entries]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > 200:
        return value[:200] + f"... ({len(value)} characters)"
    return value
