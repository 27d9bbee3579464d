"""Builds GGUF files byte by byte, so that a test can break any single field of one."""

import struct
from collections.abc import Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def string(text: str | bytes, length: int | None = None) -> bytes:
    """Length and bytes; `length` tells another length than the true one."""
    raw = text if isinstance(text, bytes) else text.encode()
    return u64(len(raw) if length is None else length) + raw


def scalar(kind: int, value: float | str | bytes) -> bytes:
    return string(value) if isinstance(value, (str, bytes)) else struct.pack("<" + CODES[kind], value)


def array(kind: int, elements: Sequence[bytes], count: int | None = None) -> bytes:
    """Element type, count and elements that are bytes already; `count` tells another count than the true one."""
    return u32(kind) + u64(len(elements) if count is None else count) + b"".join(elements)


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    """One metadata pair; value as `scalar` or `array` make it."""
    return string(key) + u32(kind) + value


def tensor(name: str | bytes, dims: Sequence[int], kind: int, offset: int, n_dims: int | None = None) -> bytes:
    """One tensor's description; dims in the file's order (columns first)."""
    counted = len(dims) if n_dims is None else n_dims
    return string(name) + u32(counted) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def padded(raw: bytes, alignment: int = 32) -> bytes:
    return raw + b"\0" * (-len(raw) % alignment)


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_pairs: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; the counts can tell another number than the true one."""
    counts = u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(pairs) if n_pairs is None else n_pairs)
    header = magic + u32(version) + counts + b"".join(pairs) + b"".join(tensors)
    return padded(header, alignment) + data if tensors else header
