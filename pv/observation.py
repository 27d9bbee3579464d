"""What a trial measured, as the JSON that evidence holds: short, for a reader."""

import math
import os
import tempfile
from pathlib import Path, PurePath
from typing import Any

from pv.canonical import EXACT, Json
from pv.comparing import kind_of

__tracebackhide__ = True  # as in pv.trial
SHORT = 256  # an observation is for a reader, not an artifact


def observation(value: Any, name: str) -> Json:
    """The value as it is kept. TypeError, with what to do, for what a reader of evidence could not read."""
    kept = _json(value, name)
    if len(repr(kept)) > 16 * SHORT:
        raise TypeError(f"observation {name!r} is too long to be read: observe a summary of it")
    return kept


def bytes_of(value: Any, name: str) -> bytes:
    """The bytes of an output: bytes, those of a file, or of an array with its dtype and shape before them."""
    if isinstance(value, PurePath):
        return Path(value).read_bytes()
    if kind_of(value) == "array":
        return f"{value.dtype.str}{list(value.shape)}".encode() + bytes(value.tobytes())
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"output {name!r} is {type(value).__name__}: pass bytes, a path or an array")
    return bytes(value)


def put_aside(data: bytes, path: Path) -> None:
    """Write a file in one step: another trial may put the same aside."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as stream:
        stream.write(data)
    os.replace(stream.name, path)


def _json(value: Any, name: str) -> Json:
    kind = kind_of(value)
    if type(value).__module__ == "numpy" and kind in ("number", "bool"):
        value = value.item()
    if kind in ("None", "bool", "text"):
        return str(value) if kind == "text" else value
    if kind == "number" and isinstance(value, int):
        if abs(value) > EXACT:
            raise TypeError(f"observation {name!r}: {value} is not exact as a JSON number; observe it as text")
        return int(value)
    if kind == "number" and isinstance(value, float):
        return (
            float(value) if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        )
    if kind == "list" and len(value) <= SHORT:
        return [_json(element, name) for element in value]
    if kind == "mapping" and len(value) <= SHORT:
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"observation {name!r}: the keys of a mapping must be text")
        return {str(key): _json(element, name) for key, element in value.items()}
    if kind in ("list", "mapping"):
        raise TypeError(f"observation {name!r} has {len(value)} elements, more than {SHORT}: observe a summary of it")
    raise TypeError(f"observation {name!r} is {type(value).__name__}: observe numbers, text, or short lists of them")
