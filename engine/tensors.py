"""Tensors in a memory-mapped file: where each lies, and its bytes. What the readers of all formats share."""

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, brief
from engine.formats import Format, dequantise

AGAIN = "the file is damaged or its download was cut short: obtain it again"
_OTHERS = (
    (b"pk\x03\x04", "this looks like a zip archive or a PyTorch checkpoint: convert it to safetensors or GGUF first"),
    (b"\x80", "this looks like a Python pickle: convert it first, and only if you trust its source"),
    (b"<", "this looks like a web page, not a model: the download address leads elsewhere"),
    (b"version https://", "this is a Git LFS pointer: run `git lfs pull` to obtain the file itself"),
    (b"ggml", "this format came before GGUF: convert the original model again"),
    (b"lmgg", "this format came before GGUF: convert the original model again"),
    (b"tjgg", "this format came before GGUF: convert the original model again"),
    (b"{", "this looks like JSON, as config.json of a model: name the folder that it lies in"),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies, and how.

    shape   in numpy's order: the last dimension is contiguous (GGUF files list dimensions the other way round)
    offset  from the start of the file, in bytes
    nbytes  without the padding to the next tensor
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    offset: int
    nbytes: int

    @property
    def rows(self) -> int:
        """Product of all dimensions but the last."""
        return self.nbytes // self.row_nbytes

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row of shape[-1] weights."""
        return self.shape[-1] // self.format.block * self.format.nbytes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TensorFile:
    """A file whose header was checked: every tensor lies in it."""

    path: Path
    tensors: dict[str, TensorInfo]
    data: NDArray[np.uint8]  # the whole file, mapped read-only

    def raw(self, name: str) -> NDArray[np.uint8]:
        """(rows, bytes per row) uint8, a read-only view of the file; a one-dimensional tensor is one row."""
        info = self.tensor(name)
        return self.data[info.offset : info.offset + info.nbytes].reshape(info.rows, info.row_nbytes)

    def dequantised(self, name: str) -> NDArray[np.float32]:
        """The tensor in its shape as float32, a new array."""
        info = self.tensor(name)
        return dequantise(self.raw(name), info.format).reshape(info.shape)

    def tensor(self, name: str) -> TensorInfo:
        """What the header says about a tensor; raises EngineError for one that is missing."""
        if name not in self.tensors:
            raise EngineError(f"tensor {brief(name)} is missing", where=str(self.path), hint=AGAIN)
        return self.tensors[name]


def map_file(path: Path) -> mmap.mmap:
    """The file, mapped read-only; it stays mapped while an array refers to it. Raises EngineError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise EngineError("is a directory", where=str(path), hint="give the path of a model file in it")
        if not stat.S_ISREG(mode):
            raise EngineError("is not a regular file", where=str(path), hint="write the model to a file first")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise EngineError("is empty", where=str(path), hint=AGAIN)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise EngineError("no such file", where=str(path), hint="check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineError(
            f"cannot be read: {reason}", where=str(path), hint="check its permissions and its disk"
        ) from None


def looks_like(start: bytes) -> str | None:
    """What to do with a file that begins with these bytes (16 are enough); None for nothing well known."""
    start = start.lstrip().lower()
    return next((hint for magic, hint in _OTHERS if start.startswith(magic)), None)
