"""Reading of safetensors files, memory-mapped.

Source: the description of the format in the README of huggingface/safetensors: u64 length of the header, the header in
JSON ({NAME: {dtype, shape, data_offsets: [begin, end]}}, and texts by name under __metadata__), the data. All
multi-byte numbers are little-endian; data_offsets count from the first byte after the header. This reader demands what
the reference implementation demands, above all that the tensors fill the data without a gap or an overlap, and more: no
key occurs twice, and none is unknown.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from engine.errors import EngineError, brief
from engine.formats import FORMATS, Format
from engine.tensors import AGAIN, TensorFile, TensorInfo, looks_like, map_file

MAX_HEADER = 100_000_000
"""Bytes that the header may take: the limit of the reference implementation."""
DTYPES: dict[str, Format] = {fmt.name: fmt for fmt in FORMATS.values() if fmt.name in ("F32", "F16", "BF16")}
"""The supported dtypes."""
METADATA = "__metadata__"

_LENGTH = struct.Struct("<Q")
_KEYS = ("dtype", "shape", "data_offsets")
_REWRITE = "the program that wrote this file broke the safetensors format: write the model again with a current one"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SafetensorsFile(TensorFile):
    """A file whose header was checked; its tensors in the order of their data."""

    metadata: dict[str, str]


def read_safetensors(path: Path) -> SafetensorsFile:
    """Map a file and read its header; raises EngineError for all that is not a complete, unambiguous safetensors file.

    A number that the file states is held against the file's size before anything is read or allocated by it.
    """
    buffer = map_file(path)
    text = _header(path, buffer)
    start = _LENGTH.size + len(text)
    header = _parsed(path, text)
    metadata = _metadata(path, header.pop(METADATA, {}))
    tensors = [_tensor(path, name, entry, start) for name, entry in header.items()]
    tensors.sort(key=lambda info: (info.offset, info.nbytes))
    _check_places(path, tensors, start, len(buffer))
    data = np.frombuffer(buffer, dtype=np.uint8)
    return SafetensorsFile(path=path, tensors={info.name: info for info in tensors}, data=data, metadata=metadata)


def _header(path: Path, buffer: mmap) -> bytes:
    """The bytes of the header, which lie in the file."""
    size = len(buffer)
    if size < _LENGTH.size:
        raise _error(path, 0, f"the file ends inside the header's length: it has {size} bytes, not {_LENGTH.size}")
    (length,) = _LENGTH.unpack_from(buffer)
    rest = size - _LENGTH.size
    if buffer[: len(b"GGUF")] == b"GGUF":
        raise _error(path, 0, "not a safetensors file", "this looks like a GGUF file: give it the ending .gguf")
    if not 2 <= length <= min(rest, MAX_HEADER):
        hint = looks_like(buffer[:16])
        if hint is not None and buffer[_LENGTH.size : _LENGTH.size + 1] != b"{":
            raise _error(path, 0, f"not a safetensors file: it starts with {buffer[:8]!r}", hint)
        most = f"the rest of the file has {rest}" if length > rest else f"2 to {MAX_HEADER} are allowed"
        raise _error(path, 0, f"a header of {length} bytes is announced, but {most}")
    text = buffer[_LENGTH.size : _LENGTH.size + length]
    if text[:1] != b"{":
        raise _error(path, _LENGTH.size, f"the header starts with {text[:1]!r}, not with '{{'", _REWRITE)
    return text


class _RefusedError(Exception):
    """What the header's JSON must not hold; args: message, the text to look for."""


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    """The header's object; errors name the byte of the file."""
    try:
        header: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise _error(path, _LENGTH.size + error.start, "the header is not UTF-8") from None
    except json.JSONDecodeError as error:
        at = _LENGTH.size + len(error.doc[: error.pos].encode())
        raise _error(path, at, f"the header is not JSON: {error.msg}") from None
    except _RefusedError as error:
        message, found = error.args
        raise _error(path, _LENGTH.size + max(0, text.rfind(found)), message, _REWRITE) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, objects within objects
        raise _error(path, _LENGTH.size, f"the header cannot be read: {error}", _REWRITE) from None
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _RefusedError(f"{brief(name)} occurs twice", json.dumps(name).encode())
        found[name] = value
    return found


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"the header is not JSON: {name}", name.encode())


def _metadata(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _error(path, _LENGTH.size, f"{METADATA} is not a mapping of names to texts", _REWRITE)
    return found


def _tensor(path: Path, name: str, entry: Any, start: int) -> TensorInfo:
    """One tensor, checked by itself; `start`: where the data begins in the file."""
    where = f"{path}: tensor {brief(name)}"
    if not isinstance(entry, dict) or set(entry) != set(_KEYS):
        said = f"has the keys {', '.join(map(brief, entry))}" if isinstance(entry, dict) else f"is {brief(entry)}"
        raise EngineError(f"its description {said}, not {', '.join(_KEYS)}", where=where, hint=_REWRITE)
    dtype, shape, offsets = (entry[key] for key in _KEYS)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise EngineError(
            f"its dtype {brief(dtype)} is not supported",
            where=where,
            hint=f"supported: {', '.join(DTYPES)}; take the model in one of them, or quantised in a GGUF file",
        )
    if not _are_counts(shape):
        raise EngineError(f"its shape is {brief(shape)}, not a list of numbers >= 0", where=where, hint=_REWRITE)
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise EngineError(f"its data_offsets are {brief(offsets)}, not [begin, end]", where=where, hint=_REWRITE)
    begin, end = offsets
    elements = 1
    for size in shape:
        elements *= size
        if elements >= 2**63:  # at once: the product of thousands of sizes takes minutes
            raise EngineError(f"its shape {brief(tuple(shape))} is larger than any file", where=where, hint=_REWRITE)
    nbytes = elements * DTYPES[dtype].nbytes
    if nbytes != end - begin:
        raise EngineError(
            f"{dtype} of shape {brief(tuple(shape))} takes {nbytes} bytes, but its data_offsets {offsets} have "
            f"{end - begin}",
            where=where,
            hint=_REWRITE,
        )
    return TensorInfo(name, tuple(shape), DTYPES[dtype], start + begin, nbytes)


def _are_counts(values: Any) -> bool:
    # not isinstance: true is no number
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _check_places(path: Path, tensors: Iterable[TensorInfo], start: int, size: int) -> None:
    """Whether the tensors, in the order of their data, fill all that lies behind the header."""
    end, cut = start, None
    for info in tensors:
        if info.offset != end:
            wrong = "overlaps the data of the tensor before it" if info.offset < end else "leaves a gap before it"
            raise EngineError(
                f"its data at offset {info.offset} {wrong}, which ends at {end}",
                where=f"{path}: tensor {brief(info.name)}",
                hint="the data of one tensor follows that of another; do not trust this file",
            )
        end += info.nbytes
        if end > size and cut is None:
            cut = info.name
    if cut is not None:
        raise EngineError(
            f"the file has {size} bytes, but its tensors need {end}: {end - size} bytes are missing",
            where=f"{path}: tensor {brief(cut)}",
            hint=AGAIN,
        )
    if end < size:
        raise _error(path, end, f"{size - end} bytes behind the last tensor belong to none", _REWRITE)


def _error(path: Path, at: int, message: str, hint: str = AGAIN) -> EngineError:
    return EngineError(message, where=f"{path}: offset {at}", hint=hint)
