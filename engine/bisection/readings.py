"""An error of a stage beside its floor, as bisection reads it: by the whole stage, by token and head, by entry.

Beside what engine.stage_error measures stands the largest error of a single entry in each token and group: one wrong
logit of 49152, or one wrong row of a product, is lost in the mean of all.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.bisection.stages import SQUARE
from engine.compare import compare
from engine.config import Config
from engine.stage_error import RESOLUTION, SINGLE_ALLOWANCE, WHOLE_ALLOWANCE, StageError, groups, measure, ratio

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

PEAK_ALLOWANCE = 4.0
"""How often the largest honest error of an entry in its token and group the largest one may be: both are the largest
of a few dozen or more, of which normal ones differ by less than half; clean pairs stay below 2."""
CARRIED_ALLOWANCE = 3.0
"""How often its floor the carried error of a stage may be. Both are one sample of what noise became on its way through
the layers, rounded elsewhere each; on clean pairs the one is less than twice the other."""


@dataclass(frozen=True, slots=True)
class Error:
    """How a differs from b: by token and group (engine.stage_error), and its largest entries.

    peak, size  (T, groups): the largest |a - b|, infinite where one side alone is not finite; the largest |b|
    """

    stage: StageError
    peak: F64
    size: F64

    def times(self, factor: float) -> "Error":
        """The same error, so much larger."""
        return Error(replace(self.stage, rms=self.stage.rms * factor), self.peak * factor, self.size)


@dataclass(frozen=True, slots=True)
class Spot:
    """One entry: its coordinate, both values, and how many float32 steps they are apart (None: a NaN, or infinite)."""

    coordinate: tuple[int, ...]
    a: float
    b: float
    ulp: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An error of a stage over its floor.

    error, floor  root mean square over the whole stage
    whole         error / floor, over the whole stage
    single        the same of the token and group (`at`) where it is most
    peak          the same of the largest entries of a token and group, where it is most
    within        whether all three are within their allowances
    nmse, cosine  of the stage; cosine is NaN where a side is not finite
    spot          the entry that stands highest above its floor; None where no entry differs
    """

    error: float
    floor: float
    whole: float
    single: float
    peak: float
    at: tuple[int, int]
    within: bool
    nmse: float
    cosine: float
    spot: Spot | None

    @property
    def over(self) -> float:
        """The largest of the three ratios, each over its allowance: above 1 it is no honest arithmetic."""
        return max(self.whole / WHOLE_ALLOWANCE, self.single / SINGLE_ALLOWANCE, self.peak / PEAK_ALLOWANCE)

    @property
    def carried(self) -> bool:
        """Whether it may be an error that was carried to the stage: the floor's is one sample of those."""
        return self.whole <= CARRIED_ALLOWANCE and self.peak <= CARRIED_ALLOWANCE * PEAK_ALLOWANCE


def error_of(a: F32, b: F32, stage: str, config: Config) -> Error:
    """The error of a, a stage's output, against b of the same shape; both as they are tapped.

    What is NaN on both sides is no difference: it is for the verdict to say that nothing can be told of it.
    """
    a, b = _hushed(a, b)
    found = measure(a, b, stage, config)
    apart = _apart(a, b).reshape(*found.rms.shape, -1)
    with np.errstate(invalid="ignore"):
        size = np.where(np.isfinite(b), np.abs(b), 0).astype(np.float64).reshape(apart.shape)
    return Error(found, apart.max(axis=2), size.max(axis=2))


def read(a: F32, b: F32, stage: str, config: Config, floors: list[Error], resolution: float = RESOLUTION) -> Reading:
    """The error of a against b, over the floors of both sides in quadrature.

    resolution  the share of the stage's size that no floor lies below
    """
    a, b = _hushed(a, b)
    error = error_of(a, b, stage, config)
    stands = ratio(error.stage, *(floor.stage for floor in floors), resolution=resolution)
    together = max(math.hypot(*(floor.stage.whole for floor in floors)), resolution * error.stage.size)
    if stage in SQUARE:  # a token that sees few others has few errors, by chance small ones
        floors = [_of_all_tokens(floor) for floor in floors]
        single = ratio(error.stage, *(floor.stage for floor in floors), resolution=resolution)
        stands = replace(single, whole=stands.whole)
    highest = np.sqrt(sum(floor.peak**2 for floor in floors))
    least = np.maximum(highest, resolution * np.maximum(error.size, error.stage.size))
    with np.errstate(divide="ignore", invalid="ignore"):
        peaks = np.where(error.peak == 0, 0.0, np.where(np.isfinite(least), error.peak / least, np.inf))
    peak = float(peaks.max())
    by_entry = peak / PEAK_ALLOWANCE > stands.single / SINGLE_ALLOWANCE
    place = divmod(int(np.argmax(peaks)), peaks.shape[1]) if by_entry else stands.at
    return Reading(
        error=error.stage.whole,
        floor=together,
        whole=stands.whole,
        single=stands.single,
        peak=peak,
        at=stands.at,
        within=stands.within and peak <= PEAK_ALLOWANCE,
        nmse=error.stage.nmse,
        cosine=error.stage.cosine,
        spot=_spot(a, b, stage, config, place) if peak else None,
    )


def _of_all_tokens(floor: Error) -> Error:
    """The floor in which each token of a group has the largest error of all tokens."""
    rms, peak = (np.broadcast_to(one.max(axis=0), one.shape) for one in (floor.stage.rms, floor.peak))
    return Error(replace(floor.stage, rms=rms), peak, floor.size)


def _hushed(a: F32, b: F32) -> tuple[F32, F32]:
    """Both with 0 where both are NaN."""
    both = np.isnan(a) & np.isnan(b)
    return (np.where(both, np.float32(0), a), np.where(both, np.float32(0), b)) if both.any() else (a, b)


def _apart(a: F32, b: F32) -> F64:
    """|a - b|; infinite where a NaN is, or an infinity that the other side has not."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return np.where(np.isnan(apart), np.where(np.isinf(a) & (a == b), 0.0, np.inf), apart)


def _spot(a: F32, b: F32, stage: str, config: Config, place: tuple[int, int]) -> Spot:
    """The entry of a token and group that differs most."""
    token, group = place
    number = groups(stage, config)
    rows = 1 if a.ndim == 1 else len(a)
    apart = _apart(a, b).reshape(rows, number, -1)
    index = (token * number + group) * apart.shape[2] + int(np.argmax(apart[token, group]))
    coordinate = tuple(int(part) for part in np.unravel_index(index, a.shape))
    x, y = a.reshape(-1)[index : index + 1], b.reshape(-1)[index : index + 1]
    return Spot(coordinate, float(x[0]), float(y[0]), compare(x, y).max_ulp)
