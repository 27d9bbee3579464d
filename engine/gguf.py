"""Reading of GGUF model files (versions 2 and 3, little-endian), memory-mapped.

Source: the GGUF specification (ggml-org/ggml, docs/gguf.md). A file from the network is not trusted: every count,
length and offset is checked against the file before anything is allocated or read by it, and what two readers could
understand differently (duplicate names, NUL in a name, overlapping tensors) is refused.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.errors import EngineError, brief
from engine.formats import FORMATS, UNSUPPORTED, Format
from engine.tensors import AGAIN, TensorFile, TensorInfo, looks_like, map_file

MAX_HEADER = 128 * 2**20
"""Bytes that metadata and tensor descriptions may take; vocabularies of today need about 10 MB."""
MAX_KEY = 65535  # bytes, from the specification
MAX_TENSOR_NAME = 64  # bytes, from the specification
MAX_DIMS = 4
MAX_NESTING = 4  # arrays within arrays
MIN_ALIGNMENT, DEFAULT_ALIGNMENT, MAX_ALIGNMENT = 8, 32, 65536

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SMALLEST = {kind: struct.calcsize(code) for kind, code in _NUMBERS.items()} | {_BOOL: 1, _STRING: 8, _ARRAY: 12}
"""Bytes that the shortest value of each type takes."""
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_SMALLEST_PAIR = 8 + 4 + 1  # key length, value type, one byte of value
_SMALLEST_TENSOR = 8 + 4 + 8 + 4 + 8  # name length, number of dimensions, one dimension, format, offset

_REWRITE = "the program that wrote this file broke the GGUF specification: convert the model again with a current one"


class _Missing(Enum):
    """The default that no caller passes."""

    MISSING = 0


_MISSING = _Missing.MISSING
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GGUFFile(TensorFile):
    """A file whose header was checked. Metadata values are int, float, bool, str or (nested) tuples of these."""

    version: int
    alignment: int
    metadata: dict[str, Any]
    pairs: dict[str, slice]  # where the key, the type and the value of each lie in the file

    def integer(self, key: str, default: T | _Missing = _MISSING) -> int | T:
        """An integer of the metadata.

        A key that is missing gives the default; without a default, and for a value of another type, EngineError.
        """
        value: int | T = self._value(key, "an integer", (int,), default)
        return value

    def number(self, key: str, default: T | _Missing = _MISSING) -> float | T:
        """A number of the metadata, as `integer`; an integer is a number too, a bool is not."""
        value: float | T = self._value(key, "a number", (float, int), default)
        return value

    def text(self, key: str, default: T | _Missing = _MISSING) -> str | T:
        """A string of the metadata, as `integer`."""
        value: str | T = self._value(key, "a string", (str,), default)
        return value

    def array(self, key: str, default: T | _Missing = _MISSING) -> tuple[Any, ...] | T:
        """An array of the metadata, as `integer`; its elements are all of one type."""
        value: tuple[Any, ...] | T = self._value(key, "an array", (tuple,), default)
        return value

    def _value(self, key: str, wanted: str, types: tuple[type, ...], default: object) -> Any:
        if key not in self.metadata:
            if default is not _MISSING:
                return default
            raise EngineError(
                f"metadata key {key!r} is missing",
                where=str(self.path),
                hint="the file is incomplete, or its architecture is not what it says: convert the model again",
            )
        value = self.metadata[key]
        if type(value) not in types:  # not isinstance: a bool is an int in Python, not in GGUF
            raise EngineError(
                f"metadata key {key!r} holds {_KINDS[type(value)]} ({brief(value)}), not {wanted}",
                where=str(self.path),
                hint=_REWRITE,
            )
        return value


_KINDS: dict[type, str] = {int: "an integer", float: "a number", bool: "a bool", str: "a string", tuple: "an array"}


def read_gguf(path: Path) -> GGUFFile:
    """Map a file and read its header; raises EngineError for all that is not a complete, unambiguous GGUF file."""
    cursor = _Cursor(path, map_file(path))
    version = _read_version(cursor)
    tensor_count = cursor.count("tensors", _SMALLEST_TENSOR)
    pair_count = cursor.count("metadata pairs", _SMALLEST_PAIR)
    metadata, pairs = _read_metadata(cursor, pair_count)
    alignment = _alignment(path, metadata)
    tensors = _read_tensors(cursor, tensor_count, alignment)
    data = np.frombuffer(cursor.buffer, dtype=np.uint8)
    return GGUFFile(
        path=path,
        version=version,
        alignment=alignment,
        metadata=metadata,
        pairs=pairs,
        tensors=tensors,
        data=data,
    )


class _Cursor:
    """A position in the header; every read is checked against the end of the file first."""

    __slots__ = ("buffer", "path", "position", "size")

    def __init__(self, path: Path, buffer: mmap.mmap) -> None:
        self.path, self.buffer = path, buffer
        self.position, self.size = 0, len(buffer)

    def advance(self, nbytes: int, what: str) -> int:
        """Step over nbytes that are in the file, and return where they start."""
        start = self.position
        end = start + nbytes
        if end > self.size:
            raise self.error(f"the file ends inside {what}: {end - self.size} bytes are missing", AGAIN)
        if end > MAX_HEADER:
            raise self.error(f"the header is longer than {MAX_HEADER} bytes", "no known model needs that: " + AGAIN)
        self.position = end
        return start

    def u32(self, what: str) -> int:
        value: int = _U32.unpack_from(self.buffer, self.advance(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        value: int = _U64.unpack_from(self.buffer, self.advance(8, what))[0]
        return value

    def count(self, of: str, smallest: int) -> int:
        """A u64 that counts things of which each takes at least `smallest` bytes of the rest of the file."""
        at = self.position
        count = self.u64(f"the number of {of}")
        most = (self.size - self.position) // smallest
        if count > most:
            raise self.error(
                f"{count} {of} are announced, but the rest of the file has room for at most {most}", AGAIN, at
            )
        return count

    def string(self, what: str) -> str:
        nbytes = self.u64(f"the length of {what}")
        start = self.advance(nbytes, f"{what} of {nbytes} bytes")
        try:
            return self.buffer[start : self.position].decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8", _REWRITE, start + error.start) from None

    def name(self, what: str, longest: int) -> str:
        at = self.position
        name = self.string(what)
        if self.position - at - 8 > longest:
            raise self.error(f"{what} is longer than {longest} bytes", _REWRITE, at)
        if "\0" in name:
            raise self.error(f"{what} {brief(name)} contains NUL", "other readers would take it for a shorter name", at)
        return name

    def error(self, message: str, hint: str, at: int | None = None) -> EngineError:
        return EngineError(message, where=f"{self.path}: offset {self.position if at is None else at}", hint=hint)


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.buffer[: len(b"GGUF")]
    if magic != b"GGUF":
        hint = looks_like(cursor.buffer[:16])
        if hint is None:
            hint = _SAFETENSORS if cursor.buffer[8:9] == b"{" else "give a model in the GGUF format"
        raise cursor.error(f"not a GGUF file: it starts with {magic!r}", hint)
    cursor.advance(4, "the magic")
    version = cursor.u32("the version")
    if version and version & 0xFFFF == 0:
        raise cursor.error("a big-endian GGUF file", "convert it to little-endian (gguf-py: gguf-convert-endian)", 4)
    if version not in (2, 3):
        raise cursor.error(
            f"GGUF version {version} is not supported", "versions 2 and 3 are: convert the model again", 4
        )
    return version


_SAFETENSORS = "this looks like a safetensors file: give it the ending .safetensors, beside its config.json"


def _read_metadata(cursor: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, slice]]:
    """The values by key, and where each pair lies."""
    metadata: dict[str, Any] = {}
    pairs: dict[str, slice] = {}
    for _ in range(count):
        at = cursor.position
        key = cursor.name("a metadata key", MAX_KEY)
        if key in metadata:
            raise cursor.error(f"metadata key {brief(key)} occurs twice", _REWRITE, at)
        metadata[key] = _read_value(cursor, cursor.u32("a value's type"), f"the value of {brief(key)}", 0)
        pairs[key] = slice(at, cursor.position)
    return metadata, pairs


def _read_value(cursor: _Cursor, kind: int, what: str, depth: int) -> Any:
    """One value; depth counts the arrays around it."""
    if kind not in _SMALLEST:
        raise cursor.error(f"{what} has the unknown type {kind}", AGAIN, cursor.position - 4)
    if kind == _STRING:
        return cursor.string(what)
    if kind != _ARRAY:
        return _read_numbers(cursor, kind, 1, what)[0]
    if depth == MAX_NESTING:
        raise cursor.error(f"{what} has arrays nested deeper than {MAX_NESTING}", _REWRITE)
    inner = cursor.u32(f"the element type of {what}")
    if inner not in _SMALLEST:
        raise cursor.error(f"{what} has elements of the unknown type {inner}", AGAIN, cursor.position - 4)
    count = cursor.count(f"elements of {what}", _SMALLEST[inner])
    if inner == _STRING:
        return _read_strings(cursor, count, what)
    if inner == _ARRAY:
        return tuple(_read_value(cursor, _ARRAY, what, depth + 1) for _ in range(count))
    return _read_numbers(cursor, inner, count, what)


def _read_numbers(cursor: _Cursor, kind: int, count: int, what: str) -> tuple[Any, ...]:
    start = cursor.advance(count * _SMALLEST[kind], what)
    if kind != _BOOL:
        return struct.unpack_from(f"<{count}{_NUMBERS[kind]}", cursor.buffer, start)
    values = cursor.buffer[start : cursor.position]
    wrong = values.lstrip(b"\0\1")
    if wrong:
        at = cursor.position - len(wrong)
        raise cursor.error(f"{what} has the byte {wrong[0]} for a bool, which must be 0 or 1", _REWRITE, at)
    return tuple(map(bool, values))


def _read_strings(cursor: _Cursor, count: int, what: str) -> tuple[str, ...]:
    """As `count` calls of cursor.string, in a loop of its own for speed: vocabularies have some 100,000 of them."""
    buffer, unpack, end = cursor.buffer, _U64.unpack_from, min(cursor.size, MAX_HEADER)
    position = cursor.position
    strings: list[str] = []
    append = strings.append
    for _ in range(count):
        start = position + 8
        stop = start + unpack(buffer, position)[0] if start <= end else start
        if stop > end:
            break
        try:
            append(buffer[start:stop].decode())
        except UnicodeDecodeError:
            break
        position = stop
    cursor.position = position
    if len(strings) < count:
        cursor.string(f"element {len(strings)} of {what}")  # the one that ended the loop: raises the error it deserves
    return tuple(strings)


def _alignment(path: Path, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or not MIN_ALIGNMENT <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise EngineError(
            f"general.alignment is {brief(value)}, not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}",
            where=str(path),
            hint=_REWRITE,
        )
    return value


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """The descriptions of all tensors, each checked by itself, then against each other and the end of the file."""
    described: dict[str, tuple[tuple[int, ...], Format, int]] = {}
    for _ in range(count):
        at = cursor.position
        name = cursor.name("a tensor name", MAX_TENSOR_NAME)
        if name in described:
            raise cursor.error(f"tensor {name!r} occurs twice", _REWRITE, at)
        described[name] = _read_description(cursor, name)
    start = _align(cursor.position, alignment)
    tensors: dict[str, TensorInfo] = {}
    expected, first_cut = 0, ""
    for name, (shape, fmt, offset) in described.items():
        where = f"{cursor.path}: tensor {name!r}"
        if offset % alignment:
            raise EngineError(f"its offset {offset} is not a multiple of {alignment}", where=where, hint=_REWRITE)
        if offset != expected:
            wrong = "overlap the tensor before them" if offset < expected else "leave a hole before them"
            raise EngineError(
                f"its data at offset {offset} {wrong}: the next free offset is {expected}",
                where=where,
                hint="tensors lie one after another, in the order of their descriptions; do not trust this file",
            )
        nbytes = math.prod(shape) // fmt.block * fmt.nbytes
        tensors[name] = TensorInfo(name, shape, fmt, start + offset, nbytes)
        if not first_cut and start + offset + nbytes > cursor.size:
            first_cut = name
        end, expected = start + offset + nbytes, _align(offset + nbytes, alignment)
    if first_cut:
        raise EngineError(
            f"the file has {cursor.size} bytes, but its tensors need {end}: {end - cursor.size} bytes are missing",
            where=f"{cursor.path}: tensor {first_cut!r}",
            hint=AGAIN,
        )
    return tensors


def _read_description(cursor: _Cursor, name: str) -> tuple[tuple[int, ...], Format, int]:
    """Shape, format, and offset in the data section of one tensor."""
    where, what = f"{cursor.path}: tensor {name!r}", f"the description of tensor {name!r}"
    n_dims = cursor.u32(what)
    if not 1 <= n_dims <= MAX_DIMS:
        raise EngineError(f"it has {n_dims} dimensions, not 1 to {MAX_DIMS}", where=where, hint=_REWRITE)
    dims = struct.unpack_from(f"<{n_dims}Q", cursor.buffer, cursor.advance(8 * n_dims, what))
    shape = dims[::-1]
    if 0 in shape:
        raise EngineError(f"its shape {shape} has a dimension of 0", where=where, hint=_REWRITE)
    kind = cursor.u32(what)
    if kind not in FORMATS:
        known = ", ".join(fmt.name for fmt in FORMATS.values())
        called = f"format {UNSUPPORTED[kind]}" if kind in UNSUPPORTED else f"the unknown format {kind}"
        raise EngineError(
            f"it has {called}, which is not supported", where=where, hint=f"quantise the model to {known}"
        )
    fmt = FORMATS[kind]
    if shape[-1] % fmt.block:
        raise EngineError(
            f"its rows of {shape[-1]} weights are not whole {fmt.name} blocks of {fmt.block}",
            where=where,
            hint=_REWRITE,
        )
    return shape, fmt, cursor.u64(what)


def _align(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
