"""The APRT file: one stage tensor as a 12-byte header and float32 values, all little-endian.

    bytes 0-3    magic `APRT`
    bytes 4-7    u32 layer; 0xFFFFFFFF for a stage of the whole model
    bytes 8-11   u32 dim_product, the number of values
    bytes 12-    dim_product float32 values, row-major

A file is exactly 12 + 4 * dim_product bytes long. The bits of every value are kept, those of NaNs too.
"""

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.outputs import replace_file
from engine.stages import WHOLE_MODEL

MAGIC = b"APRT"
HEADER_BYTES = 12
U32_MAX = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 12 bytes say: the layer (None for the whole model) and the number of values."""

    layer: int | None
    dim_product: int


@dataclass(frozen=True, slots=True, eq=False)
class StageTensor:
    """A tensor as read: its layer (None for the whole model) and its values, float32 (dim_product,), read-only."""

    layer: int | None
    values: NDArray[np.float32]


def pack_header(layer: int | None, dim_product: int) -> bytes:
    """The 12 bytes before the values.

    layer        0 .. 0xFFFFFFFE, or None for a stage of the whole model
    dim_product  number of values, 0 .. 0xFFFFFFFF

    Raises EngineError when a number does not fit its field.
    """
    if layer is not None and not 0 <= layer < WHOLE_MODEL:
        raise EngineError(f"layer {layer} does not fit the header: it must lie in 0..{WHOLE_MODEL - 1}")
    if not 0 <= dim_product <= U32_MAX:
        raise EngineError(
            f"{dim_product} values do not fit the header: it counts up to {U32_MAX}",
            hint="trace fewer tokens",
        )
    return struct.pack("<4sII", MAGIC, WHOLE_MODEL if layer is None else layer, dim_product)


def write_tensor(path: Path, layer: int | None, array: NDArray[np.float32]) -> None:
    """Write an array as a whole file: another process sees the old file or the new one, never half of one.

    path   replaced when it exists; its folder must exist
    layer  0 .. 0xFFFFFFFE, or None for a stage of the whole model
    array  float32 of any shape; written row-major, bit for bit

    Raises TypeError for another dtype (a conversion would change bits unseen), EngineError when the file cannot
    be written or a number does not fit its field.
    """
    if array.dtype != np.float32:
        raise TypeError(f"a stage tensor must be float32 in the byte order of this machine, not {array.dtype.str}")
    # As integers: swapping bytes for a big-endian host must never pass through a float and quieten a NaN.
    words = np.ascontiguousarray(array).reshape(-1).view(np.uint32).astype("<u4", copy=False)
    replace_file(path, (pack_header(layer, words.size), words.data))


def header(path: Path) -> Header:
    """Read and check the header, and the file's size against it. Raises EngineError as read_tensor does."""
    with _opened(path) as file:
        return _read_header(file, path)


def read_tensor(path: Path) -> StageTensor:
    """Read a tensor file; the values are mapped from the file, not loaded.

    Raises EngineError, with the path and the offset at fault, when the path is no file, or is too short for a header,
    or starts with another magic, or is not exactly as long as its header says.
    """
    with _opened(path) as file:
        head = _read_header(file, path)
        if head.dim_product == 0:  # an empty range cannot be mapped
            return StageTensor(head.layer, np.empty(0, np.float32))
        words: NDArray[Any] = np.memmap(file, dtype="<u4", mode="r", offset=HEADER_BYTES, shape=(head.dim_product,))
    values = np.asarray(words).astype(np.uint32, copy=False).view(np.float32)
    values.flags.writeable = False
    return StageTensor(head.layer, values)


def _opened(path: Path) -> IO[bytes]:
    """The file, opened; only regular files, since reading from a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise EngineError("is a folder, not a tensor file", where=str(path))
        if not stat.S_ISREG(mode):
            raise EngineError("is not a regular file", where=str(path))
        return open(path, "rb")
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _read_header(file: IO[bytes], path: Path) -> Header:
    size = os.fstat(file.fileno()).st_size
    raw = file.read(HEADER_BYTES)
    hint = "write the file again with `apr trace`"
    if len(raw) < HEADER_BYTES:
        raise EngineError(
            f"the file ends inside the header: {len(raw)} bytes, a header has {HEADER_BYTES}",
            where=f"{path}: offset {len(raw)}",
            hint=hint,
        )
    magic, layer, dim_product = struct.unpack("<4sII", raw)
    if magic != MAGIC:
        raise EngineError(
            f"not a stage tensor: the file starts with {magic!r}, not {MAGIC!r}",
            where=f"{path}: offset 0",
            hint="give a .bin file written by `apr trace`",
        )
    expected = HEADER_BYTES + 4 * dim_product
    if size != expected:
        raise EngineError(
            f"the header announces {dim_product} values, so the file must be {expected} bytes long, but it is {size}",
            where=f"{path}: offset 8",
            hint=hint,
        )
    return Header(None if layer == WHOLE_MODEL else layer, dim_product)
