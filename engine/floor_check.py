"""A stored floor beside the same floor measured again: which of its numbers no longer hold."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine.floor_file import EXACT, METRICS, Floor, Row

SAME = 1.0101
"""How often one number may be the other where numpy sums in the same order: a step of the third digit."""
NEAR = 1.1
"""The same of float16 alone, where it sums in another order. With the kernels of OpenBLAS for Haswell and Nehalem
beside those for SkylakeX, its errors differed by up to 1.4 % on SmolLM2 and tiny-qwen2. Those of int8, whose sums are
of float64, were equal to the digit, so they are held to SAME everywhere."""
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

    @property
    def factor(self) -> float:
        """How often one is the other, 1 or more. Zero and infinity are near themselves alone: what is exact is exact in
        any order. NaN is near nothing, and so is what is missing."""
        a, b = self.stored, self.again
        if a is None or b is None or math.isnan(a) or math.isnan(b):
            return math.inf
        if a == b:
            return 1.0
        return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Group:
    """What was compared in the same way: an arithmetic's errors, or an oracle's, of one kind.

    largest  the largest factor between a number and the same measured again; infinite where a side has no such number
    allowed  how large it may be
    """

    name: str
    numbers: int
    largest: float
    allowed: float

    @property
    def tight(self) -> bool:
        """Whether a number that is doubled is found."""
        return self.allowed <= NEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a comparison found.

    same_sums  whether both were measured with sums in the same order
    prompts    those, counted from 1, whose tokens are others today; then no number is compared
    model      what the file says of its model that is not so, in words
    notes      what else is another today, and may be, in words
    """

    same_sums: bool
    groups: tuple[Group, ...] = ()
    different: tuple[Different, ...] = ()
    prompts: tuple[int, ...] = ()
    model: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> int:
        """How many were compared, those that one side lacks included."""
        return sum(group.numbers for group in self.groups)

    @property
    def holds(self) -> bool:
        """Whether something was compared, and all of it holds."""
        return self.numbers > 0 and not (self.different or self.prompts or self.model)

    @property
    def undecided(self) -> bool:
        """Whether all that differs are numbers that may differ where numpy sums in another order, as it does."""
        loose = all(each.allowed == LOOSE and each.factor < math.inf for each in self.different)
        return not self.same_sums and bool(self.different) and loose and not (self.prompts or self.model)


def compare(stored: Floor, again: Floor, *, named_by_folder: bool = False) -> Checked:
    """Every number of both floors, of the same model and prompts.

    Which numbers are loose follows from what was measured again, not from what the file says of itself, but for the
    order of its sums. Errors of an oracle are those of another engine's sums, so they are loose whatever numpy's order.

    named_by_folder  whether the model's name is that of its folder, which may be another
    """
    same_sums = stored.sums == again.sums
    sides = [{key: (number, row) for row in floor.rows for key, number in _numbers(row)} for floor in (stored, again)]
    different, groups = [], dict[str, Group]()
    for key in dict.fromkeys((*sides[0], *sides[1])):
        was, now = (side[key][0] if key in side else None for side in sides)
        row = next(side[key][1] for side in sides if key in side)
        each = Different(key, was, now, _allowed(row, again, same_sums))
        if not each.factor <= each.allowed:
            different.append(each)
        name = f"{row.a} {row.kind}" if row.b == EXACT else f"{row.a} against {row.b}"
        so_far = groups.get(name, Group(name, 0, 1.0, each.allowed))
        groups[name] = Group(name, so_far.numbers + 1, max(so_far.largest, each.factor), each.allowed)
    named = _others({"name": (stored.model.name, again.model.name)})
    built = _others({"architecture": (stored.model.architecture, again.model.architecture)})
    engines = {oracle.label: oracle.engine for oracle in again.oracles}
    versions = {"pv-contracts": (stored.package, again.package), "numpy": (stored.numpy, again.numpy)}
    versions |= {each.label: (each.engine, engines.get(each.label, "missing")) for each in stored.oracles}
    return Checked(
        same_sums=same_sums,
        groups=tuple(groups.values()),
        different=tuple(different),
        model=(*(() if named_by_folder else named), *built),
        notes=(*(named if named_by_folder else ()), *_others(versions)),
    )


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


def _allowed(row: Row, again: Floor, same_sums: bool) -> float:
    if row.b != EXACT or row.a not in again.arithmetics:
        return LOOSE
    if same_sums or row.a == "int8":
        return SAME
    return NEAR if (row.a, row.kind) == ("float16", "isolated") else LOOSE


def _others(values: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{name}: {was} in the file, {now} today" for name, (was, now) in values.items() if was != now)
