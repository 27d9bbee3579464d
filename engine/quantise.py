"""From float32 to the blocks of a format: the way back of engine.formats.dequantise.

Of the formats with codes of few bits, the scales are searched for, so that the squared error is smaller than with
ggml's rule of thumb (engine.kernels.search and superblocks). Q8_0 is ggml's rule, as are F16 and BF16: their errors
are too small to matter, and their bytes are those that every other tool writes.
"""

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import packing
from engine.formats import Format

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

LARGEST = 65504.0
"""The largest magnitude of a weight in any format but F32 and BF16: scales are float16, and end there."""
BF16_LARGEST = float.fromhex("0x1.fefffep127")
"""The largest float32 that does not round to infinity in BF16."""
CHUNK = 2**18
"""Weights that are worked on at a time."""

_SHRINK = np.array([0, 0.02, -0.02, 0.04, -0.04, 0.06, 0.08, 0.1, 0.12], np.float32)
_ROUNDS = 2
_REACH_K = np.array([63, 60], np.float32)
_GRID_6_K = np.concatenate([side * np.linspace(-36, -24, 49, dtype=np.float32) for side in (1, -1)])
_REACH_6_K = np.array([-128, 127, -124], np.float32)


def largest(fmt: Format) -> float:
    """The largest magnitude of a weight that a format can hold."""
    return {"F32": float(np.finfo(np.float32).max), "BF16": BF16_LARGEST}.get(fmt.name, LARGEST)


def quantise(weights: F32, fmt: Format) -> U8:
    """The blocks of rows of weights.

    weights  (..., k * fmt.block) float32, each finite and within +-largest(fmt)
    returns  (..., k * fmt.nbytes) uint8

    The same weights give the same bytes on every CPU, and whatever lies beside them. Raises ValueError for rows that
    are not whole blocks, and for weights that are not as they must be.
    """
    if weights.dtype != np.float32 or weights.ndim == 0 or weights.shape[-1] % fmt.block:
        raise ValueError(f"{weights.dtype} of shape {weights.shape} is not rows of {fmt.name} blocks of {fmt.block}")
    if weights.size and not np.abs(weights).max() <= largest(fmt):  # a NaN fails it too
        raise ValueError(f"{fmt.name} holds weights within +-{largest(fmt):g} alone")
    blocks = np.ascontiguousarray(weights).reshape(-1, fmt.block)
    out = np.empty((len(blocks), fmt.nbytes), np.uint8)
    convert, step = _CONVERSIONS[fmt.name], CHUNK // fmt.block
    for start in range(0, len(blocks), step):
        out[start : start + step] = convert(blocks[start : start + step])
    return out.reshape(*weights.shape[:-1], weights.shape[-1] // fmt.block * fmt.nbytes)


def compile_kernels(formats: Iterable[Format], tell: Callable[[str], None]) -> None:
    """Compile what quantising to these formats needs; threads may quantise only after that.

    tell  called with one line if something is not found on disk
    """
    names = sorted({_KERNELS[fmt.name] for fmt in formats if fmt.name in _KERNELS})
    if not names:
        return
    _kernels()
    from engine.warmup import is_kept

    missing = [name for name in names if not is_kept(name)]
    if missing:
        tell(f"compiling {len(missing)} kernels of the quantiser, once: the next start finds them")
    for fmt in formats:
        quantise(np.zeros((1, fmt.block), np.float32), fmt)


@functools.cache
def _kernels() -> tuple[ModuleType, ModuleType]:
    """The compiled search; loaded when it is first needed, since that loads numba."""
    from engine.kernels import prepared

    with prepared.cache():
        from engine.kernels import search, superblocks
    return search, superblocks


_KERNELS = {
    "Q4_0": "ray_blocks",
    "Q4_1": "line_blocks",
    "Q5_0": "ray_blocks",
    "Q5_1": "line_blocks",
    "Q4_K": "line_superblocks",
    "Q5_K": "line_superblocks",
    "Q6_K": "ray_superblocks",
}


def _tiles(blocks: F32, shape: tuple[int, ...]) -> F32:
    """(T, *shape, LANES) from (N, prod(shape)): blocks as lanes, continued with zeros to whole tiles."""
    lanes = _kernels()[0].LANES
    whole = np.zeros((-(-len(blocks) // lanes) * lanes, blocks.shape[1]), np.float32)
    whole[: len(blocks)] = blocks
    return np.ascontiguousarray(np.moveaxis(whole.reshape(-1, lanes, *shape), 1, -1))


def _rows(lanes: NDArray[T], count: int) -> NDArray[T]:
    """(count, prod(shape)) from (T, *shape, LANES), or (count,) from (T, LANES): the way back of `_tiles`."""
    rows = np.moveaxis(lanes, -1, 1)
    flat = rows.reshape(-1) if lanes.ndim == 2 else rows.reshape(rows.shape[0] * rows.shape[1], -1)
    return np.ascontiguousarray(flat[:count])


def _line(blocks: F32, top: int) -> tuple[U8, F32, F32]:
    """Codes (N, 32), scales (N,) and offsets (N,) of Q4_1 and Q5_1."""
    tiles = _tiles(blocks, (32,))
    count, _, lanes = tiles.shape
    scales, offsets = np.empty((count, lanes), np.float32), np.empty((count, lanes), np.float32)
    codes = np.empty(tiles.shape, np.uint8)
    _kernels()[0].line_blocks(tiles, np.float32(top), _SHRINK, _ROUNDS, scales, offsets, codes)
    return _rows(codes, len(blocks)), _rows(scales, len(blocks)), _rows(offsets, len(blocks))


def _ray(blocks: F32, low: int) -> tuple[U8, F32]:
    """Codes (N, 32) from 0 and scales (N,) of Q4_0 and Q5_0."""
    tiles = _tiles(blocks, (32,))
    count, _, lanes = tiles.shape
    scales, codes = np.empty((count, lanes), np.float32), np.empty(tiles.shape, np.uint8)
    reach = np.linspace(low - 1, low + 3, 17, dtype=np.float32)
    reach = np.concatenate([reach, -reach])
    _kernels()[0].ray_blocks(tiles, np.float32(low), np.float32(-low - 1), reach, scales, codes)
    return _rows(codes, len(blocks)), _rows(scales, len(blocks))


def _k(blocks: F32, top: int) -> U8:
    """Q4_K and Q5_K."""
    tiles = _tiles(blocks, (8, 32))
    count, lanes = len(tiles), tiles.shape[-1]
    scales, minima = np.empty((count, lanes), np.float32), np.empty((count, lanes), np.float32)
    of_blocks = [np.empty((count, 8, lanes), np.uint8) for _ in range(2)]
    codes = np.empty(tiles.shape, np.uint8)
    _kernels()[1].line_superblocks(
        tiles, np.float32(top), _SHRINK, _ROUNDS, _REACH_K, scales, minima, *of_blocks, codes
    )
    n = len(blocks)
    small = (_rows(part, n) for part in of_blocks)
    return packing.pack_k(_rows(codes, n), _rows(scales, n), _rows(minima, n), *small, fifth=top == 31)


def _6_k(blocks: F32) -> U8:
    tiles = _tiles(blocks, (16, 16))
    count, lanes = len(tiles), tiles.shape[-1]
    scales, of_blocks = np.empty((count, lanes), np.float32), np.empty((count, 16, lanes), np.int8)
    codes = np.empty(tiles.shape, np.uint8)
    _kernels()[1].ray_superblocks(tiles, _GRID_6_K, _REACH_6_K, scales, of_blocks, codes)
    n = len(blocks)
    return packing.pack_6_k(_rows(codes, n), _rows(scales, n), _rows(of_blocks, n))


def _q8_0(blocks: F32) -> U8:
    """By ggml's rule (quantize_row_q8_0_ref): the largest weight becomes 127, ties go away from 0."""
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    normal = scales >= np.finfo(np.float32).tiny  # of what is smaller, 1 / scale may not be finite
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=normal)
    wanted = blocks * inverse[:, None]
    size = np.abs(wanted)
    whole = np.floor(size)
    whole += size - whole >= np.float32(0.5)
    return packing.pack_8(np.copysign(whole, wanted).astype(np.int8), scales)


def _bf16(blocks: F32) -> U8:
    """The upper half of each float32, rounded to the nearest, ties to even."""
    bits = blocks.view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype("<u2").view(np.uint8)


_CONVERSIONS: dict[str, Callable[[F32], U8]] = {
    "F32": lambda blocks: blocks.astype("<f4").view(np.uint8),
    "F16": lambda blocks: blocks.astype("<f2").view(np.uint8),
    "BF16": _bf16,
    "Q4_0": lambda blocks: packing.pack_4(*_ray(blocks, -8)),
    "Q4_1": lambda blocks: packing.pack_4(*_line(blocks, 15)),
    "Q5_0": lambda blocks: packing.pack_5(*_ray(blocks, -16)),
    "Q5_1": lambda blocks: packing.pack_5(*_line(blocks, 31)),
    "Q8_0": _q8_0,
    "Q4_K": lambda blocks: _k(blocks, 15),
    "Q5_K": lambda blocks: _k(blocks, 31),
    "Q6_K": _6_k,
}
