"""Writing of GGUF model files (version 3, little-endian), tensor by tensor: no model has to fit into memory.

Source: the GGUF specification (ggml-org/ggml, docs/gguf.md). What `read_gguf` refuses is not written.
"""

import contextlib
import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engine.errors import EngineError
from engine.formats import Format
from engine.gguf import DEFAULT_ALIGNMENT, MAX_DIMS, MAX_TENSOR_NAME

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
"""The specification's numbers for the types of values that are written here."""
_CODES = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}
_OF_TYPE: dict[type, int] = {int: U32, float: F32, bool: BOOL, str: STRING}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that is to be written.

    shape   in numpy's order: the last dimension is contiguous
    chunks  called once, when its turn comes: the data in pieces, each a contiguous array
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    chunks: Callable[[], Iterable[NDArray[Any]]]

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= MAX_DIMS or 0 in self.shape or self.shape[-1] % self.format.block:
            raise ValueError(f"tensor {self.name!r} of shape {self.shape} cannot be of format {self.format.name}")
        if len(self.name.encode()) > MAX_TENSOR_NAME:
            raise ValueError(f"tensor name {self.name!r} is longer than {MAX_TENSOR_NAME} bytes")

    @property
    def nbytes(self) -> int:
        """Bytes of its data, without the padding to the next tensor."""
        return math.prod(self.shape) // self.format.block * self.format.nbytes


def pair(key: str, value: int | float | bool | str | Sequence[Any], kind: int | None = None) -> bytes:
    """A metadata pair as it lies in a file.

    value  int, float, bool or str, written as u32, float32, bool or string; or a sequence of one of these
    kind   another type for the number, or for each of the sequence's elements; an empty sequence needs it
    """
    if isinstance(value, (int, float, bool, str)):
        kind = _OF_TYPE[type(value)] if kind is None else kind
        return _string(key) + struct.pack("<I", kind) + _scalar(kind, value)
    kind = _OF_TYPE[type(value[0])] if kind is None else kind
    elements = b"".join([_scalar(kind, element) for element in value])
    return _string(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + elements


def write_gguf(
    path: Path, pairs: Sequence[bytes], tensors: Sequence[Tensor], alignment: int = DEFAULT_ALIGNMENT
) -> int:
    """Write a file that does not exist yet, and return its size in bytes.

    pairs      metadata, each as `pair` makes it
    tensors    in the order in which they will lie
    alignment  of each tensor's data in bytes; another than 32 needs the pair general.alignment

    The file has its name only when it is whole, and nothing is left of one that could not be finished. Raises
    EngineError when the path is taken or the system refuses (room for the whole file is asked for at the start), and
    ValueError when a tensor's chunks are not as long as its shape says.
    """
    refuse_taken(path)
    start = header(pairs, tensors, alignment)
    size = len(start) + sum(_padded(tensor.nbytes, alignment) for tensor in tensors)
    temporary = path.with_name(f".apr-{os.getpid()}.tmp")  # short: a name may be as long as the system allows
    try:
        with open(temporary, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told of now, not after an hour
            file.write(start)
            for tensor in tensors:
                written = 0
                for chunk in tensor.chunks():
                    written += file.write(chunk.data)
                if written != tensor.nbytes:
                    raise ValueError(f"tensor {tensor.name!r} came as {written} bytes, not {tensor.nbytes}")
                file.write(bytes(_padded(written, alignment) - written))
        os.replace(temporary, path)
    except OSError as error:
        raise EngineError(
            f"a file of {size:,} bytes cannot be written: {error.strerror or error}",
            where=str(path),
            hint="choose another folder, or make room and give write permission there",
        ) from error
    finally:
        _remove(temporary)
    return size


def refuse_taken(path: Path) -> None:
    """Raise EngineError if something has this path already: a model is never overwritten."""
    if os.path.isdir(path):  # not path.is_dir(), which raises for a name that is too long
        raise EngineError("is a folder", where=str(path), hint="name the file that is to be written in it")
    if os.path.lexists(path):
        raise EngineError("exists already", where=str(path), hint="remove it first, or name another file")


def header(pairs: Sequence[bytes], tensors: Sequence[Tensor], alignment: int = DEFAULT_ALIGNMENT) -> bytes:
    """All before the first tensor's data, padded to where that begins."""
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ValueError("two tensors have one name")
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)), *pairs]
    offset = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        fields = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.format.ggml_id, offset)
        parts += [_string(tensor.name), fields]
        offset += _padded(tensor.nbytes, alignment)
    described = b"".join(parts)
    return described.ljust(_padded(len(described), alignment), b"\0")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # its folder is none, or went away: then nothing was left in it
        path.unlink(missing_ok=True)


def _padded(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _scalar(kind: int, value: Any) -> bytes:
    return _string(value) if kind == STRING else struct.pack(_CODES[kind], value)
