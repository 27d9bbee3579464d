"""A stored floor beside the same floor measured again: which of its numbers no longer hold."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine.floor_file import EXACT, METRICS, Floor, Row

SAME = 1.0101
"""How often one number may be the other where numpy sums in the same order: a step of the third digit."""
NEAR = 1.1
"""The same where it sums in another order, for errors that hardly depend on it: of int8, whose sums are of float64, and
of float16 alone. With the kernels of OpenBLAS for Haswell and Nehalem beside those for SkylakeX, those of int8 were
equal to the digit on SmolLM2 and tiny-qwen2, and those of float16 differed by up to 1.4 %."""
LOOSE = 16.0
"""The same for errors of float32, and for those that float16 carries: sums in few digits err at random. Beside those of
SkylakeX, those of float32 were 0.11 to 8.3 times as large, and those that float16 carries 0.16 to 3 times."""
Number: TypeAlias = float | None


@dataclass(frozen=True, slots=True)
class Different:
    """A number that does not hold: what it is of, as stored, as measured again; None where a side has no such number.

    allowed  how often one may be the other
    """

    what: str
    stored: Number
    again: Number
    allowed: float


@dataclass(frozen=True, slots=True)
class Checked:
    """What a comparison found.

    numbers    how many were compared, those that one side lacks included
    same_sums  whether both were measured with sums in the same order
    prompts    those, counted from 1, whose tokens are others today; then no number is compared
    """

    numbers: int
    same_sums: bool
    prompts: tuple[int, ...]
    different: tuple[Different, ...]

    @property
    def holds(self) -> bool:
        """Whether something was compared, and all of it holds."""
        return self.numbers > 0 and not self.different and not self.prompts


def compare(stored: Floor, again: Floor) -> Checked:
    """Every number of both floors, of the same model and prompts.

    Errors of an oracle are those of another engine's sums, so they are loose whatever numpy's order is.
    """
    same_sums = stored.sums == again.sums
    sides = [{key: (number, row) for row in floor.rows for key, number in _numbers(row)} for floor in (stored, again)]
    different = []
    for key in dict.fromkeys((*sides[0], *sides[1])):
        was, now = (side[key][0] if key in side else None for side in sides)
        row = next(side[key][1] for side in sides if key in side)
        allowed = _allowed(row, stored, same_sums)
        if not _near(was, now, allowed):
            different.append(Different(key, was, now, allowed))
    return Checked(len({*sides[0], *sides[1]}), same_sums, (), tuple(different))


def order_of_sums() -> str:
    """16 hex digits, another for each order in which numpy sums and rounds here: what float32 errs by depends on it.

    Which kernels a BLAS takes follows from the CPU. Tried are the products, sums and functions that a forward pass is
    made of, on fixed numbers of several shapes.
    """
    digest = hashlib.sha256()
    for rows, columns in ((1, 576), (7, 576), (29, 1536), (64, 96)):
        x, weight = _fixed(rows, columns), _fixed(200, columns)
        for result in (
            x @ weight.T,
            x.astype(np.float64) @ weight.astype(np.float64).T,
            np.einsum("thd,shd->ths", x.reshape(rows, -1, 32), x.reshape(rows, -1, 32)),
            np.mean(x * x, axis=1),
            np.exp(x),
            np.cos(x * 100),
            np.sin(x * 100),
        ):
            digest.update(np.ascontiguousarray(result).tobytes())
    return digest.hexdigest()[:16]


def _fixed(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The same numbers from -0.5 to 0.5 everywhere, exact in float32: a multiplicative hash of their indices."""
    index = np.arange(rows * columns, dtype=np.uint32)
    with np.errstate(over="ignore"):
        hashed = (index * np.uint32(2654435761)) >> np.uint32(8)
    numbers = hashed.astype(np.float32) / np.float32(2**24) - np.float32(0.5)
    return numbers.reshape(rows, columns)


def _numbers(row: Row) -> Iterator[tuple[str, float]]:
    name = f"{row.a} against {row.b}, {row.kind}, {row.stage}"
    for metric in METRICS:
        spread = getattr(row, metric)
        yield f"{name}: {metric} max", spread.max
        yield f"{name}: {metric} median", spread.median
    for layer, number in enumerate(row.layers):
        yield f"{name}: nmse of layer {layer}", number


def _allowed(row: Row, stored: Floor, same_sums: bool) -> float:
    if row.b != EXACT or row.a not in stored.arithmetics:
        return LOOSE
    if same_sums:
        return SAME
    return NEAR if row.a == "int8" or (row.a, row.kind) == ("float16", "isolated") else LOOSE


def _near(a: Number, b: Number, allowed: float) -> bool:
    """Zero and infinity are near themselves alone: what is exact is exact in any order. NaN is near nothing."""
    return a is not None and b is not None and (a == b or (a <= allowed * b and b <= allowed * a))
