"""A model file in other formats: read, quantised and written tensor by tensor, so that none has to fit into memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.formats import Format, dequantise
from engine.gguf import GGUFFile
from engine.gguf_writer import Tensor, pair, refuse_taken, write_gguf
from engine.mixes import Mix, format_of
from engine.model import read_model
from engine.quantise import CHUNK, compile_kernels, largest, quantise
from engine.tensors import TensorInfo

U8 = NDArray[np.uint8]
FLOATS = ("F32", "F16", "BF16")
QUANTIZATION_VERSION = 2
"""Value of general.quantization_version: ggml's layouts of today."""


def quantise_file(
    file: GGUFFile,
    mix: Mix,
    path: Path,
    *,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Write a model that this engine reads in the formats of a mix, and return the new file's size in bytes.

    threads  None: one per core that this process may use; the bytes do not depend on it
    tell     called with a line for each tensor whose rows do not fit the format that the mix wants, and with one where
             weights had been quantised before, other than to what they are now

    Metadata stay byte for byte, but for general.file_type and general.quantization_version. A tensor that has its
    format already is copied. Raises EngineError for a weight that is not finite or too large for its format, with its
    coordinates, and as write_gguf does.
    """
    refuse_taken(path)  # before anything is compiled
    available = len(os.sched_getaffinity(0))
    if threads is None:
        threads = available
    if not 1 <= threads <= available:
        raise EngineError(f"{threads} threads asked for", where="--threads", hint=f"1 to {available} are possible here")
    config = read_model(file).config
    formats = {
        name: format_of(mix, name, info.shape, n_layers=config.n_layers, tied=config.tied, tell=tell)
        for name, info in file.tensors.items()
    }
    again = [
        name
        for name, info in file.tensors.items()
        if info.format.name not in FLOATS and formats[name].name not in (info.format.name, *FLOATS)
    ]
    if again:
        tell(
            f"{len(again)} tensors are quantised anew, first {again[0]} from {file.tensors[again[0]].format.name} to "
            f"{formats[again[0]].name}: the errors add up, so take a file in F16, BF16 or F32 if there is one"
        )
    compile_kernels({fmt for name, fmt in formats.items() if fmt != file.tensors[name].format}, tell)
    with ThreadPoolExecutor(threads) as pool:
        tensors = [
            Tensor(name, info.shape, formats[name], partial(_chunks, file, info, formats[name], pool, threads))
            for name, info in file.tensors.items()
        ]
        return write_gguf(path, _pairs(file, mix), tensors, file.alignment)


def _pairs(file: GGUFFile, mix: Mix) -> list[bytes]:
    """The metadata with what the mix says of the file; what is new comes last."""
    changed = {
        "general.file_type": mix.file_type,
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    kept = [
        pair(key, changed.pop(key)) if key in changed else file.data[place].tobytes()
        for key, place in file.pairs.items()
    ]
    return kept + [pair(key, value) for key, value in changed.items()]


def _chunks(file: GGUFFile, info: TensorInfo, fmt: Format, pool: ThreadPoolExecutor, threads: int) -> Iterator[U8]:
    """The tensor's data in its new format, in order; no more is computed ahead than there are threads for."""
    raw = file.raw(info.name)
    step = max(1, CHUNK // info.shape[-1])
    waiting: deque[Future[U8]] = deque()
    for start in range(0, info.rows, step):
        waiting.append(pool.submit(_convert, file, info, fmt, raw[start : start + step], start))
        if len(waiting) > 2 * threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _convert(file: GGUFFile, info: TensorInfo, fmt: Format, raw: U8, start: int) -> U8:
    """Rows of a tensor in another format; start is the first one's number."""
    weights = dequantise(raw, info.format)
    copied = fmt == info.format
    most = float(np.finfo(np.float32).max) if copied else largest(fmt)
    wrong = ~(np.abs(weights) <= most)  # a NaN is wrong too
    if wrong.any():
        row, column = np.unravel_index(int(wrong.argmax()), weights.shape)
        at = (*np.unravel_index(start + row, info.shape[:-1]), column) if len(info.shape) > 1 else (column,)
        value, place = weights[row, column], ", ".join(str(int(index)) for index in at)
        if np.isfinite(value):
            raise EngineError(
                f"weight [{place}] is {value:g}, but {fmt.name} ends at {most:g}",
                where=f"{file.path}: tensor {info.name!r}",
                hint="choose bf16 or f32, or look how the weight came to be so large",
            )
        raise EngineError(
            f"weight [{place}] is {value}",
            where=f"{file.path}: tensor {info.name!r}",
            hint="the file is damaged, or its training failed: obtain the model again",
        )
    return raw if copied else quantise(weights, fmt)
