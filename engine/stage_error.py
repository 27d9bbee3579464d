"""How far one stage's output lies from another, token by token and head by head, and how that stands to a floor.

A fault in one head, or at one position, drowns in the mean over a whole stage; so errors are kept for each token and
for each group of the last axis, and the whole stage is one more measure beside them. All sums are in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.stages import ORDER

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RESOLUTION = 2.0**-22
"""Below this share of a stage's root mean square, an error says nothing but that float32 sums have an order."""
WHOLE_ALLOWANCE = 1.4
"""How often its floor a whole stage's own error may be. Honest arithmetic predicts the roundings of engines that are
not wrong: of the fast path, llama.cpp, and Transformers in three types, on several models, the largest was 1.0."""
SINGLE_ALLOWANCE = 4.0
"""How often its floor the own error of one token and group may be: the largest of thousands, each over a few entries.
On the same pairs, of up to 500 tokens, it was 1.5.

Both are about what a stage errs by itself, fed the same inputs. Errors that were carried are not predicted entry by
entry: there it was 2.1 for a whole stage, and 33 for one token and head (a softmax near 1)."""


@dataclass(frozen=True, slots=True)
class Worst:
    """The place of the largest |a - b| (what is not finite on one side alone comes first), and both values there."""

    coordinate: tuple[int, ...]
    a: float
    b: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageError:
    """What distinguishes a stage's output a from b.

    rms     (T, groups) float64: root mean square of a - b; infinite where one side alone is not finite
    scale   (T, groups) float64: root mean square of b, over the same entries
    count   (T, groups) int64: entries that were compared; equal infinities, as those of masked scores, are left out
    nmse    sum of (a - b)^2 / sum of b^2; infinite where rms is, and where b is zero and a is not
    cosine  of the angle between a and b; 1 if both are zero, 0 if one is; NaN where nmse is infinite for what is not
            finite
    worst   None where every entry that was compared is equal
    """

    rms: F64
    scale: F64
    count: NDArray[np.int64]
    nmse: float
    cosine: float
    worst: Worst | None

    @property
    def whole(self) -> float:
        """Root mean square of a - b over all entries that were compared."""
        return _mean(self.rms, self.count)

    @property
    def size(self) -> float:
        """Root mean square of b over all entries that were compared."""
        return _mean(self.scale, self.count)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How often the floor an error is: over the whole stage, and of the token and group (`at`) where it is most."""

    whole: float
    single: float
    at: tuple[int, int]

    @property
    def within(self) -> bool:
        """Whether both are within their allowances; what is not finite is not."""
        return self.whole <= WHOLE_ALLOWANCE and self.single <= SINGLE_ALLOWANCE


def groups(stage: str, config: Config) -> int:
    """Into how many groups the entries of one token divide, in their order; each is measured apart.

    A head is a group: of queries, keys and values (queries first, then keys, then values), of scores, of their softmax
    and of what attention gives. Elsewhere all entries are one group. Raises ValueError for an unknown stage.
    """
    if stage not in ORDER:
        raise ValueError(f"unknown stage {stage!r}")
    if stage in ("qkv_matmul", "qkv_bias"):
        return config.heads + 2 * config.kv_heads
    if stage == "k_post_rope":
        return config.kv_heads
    return config.heads if stage in ("q_post_rope", "attn_scores", "attn_softmax", "attention") else 1


def measure(a: F32, b: F32, stage: str, config: Config) -> StageError:
    """The error of a, a stage's output as it is tapped, against b, of the same shape.

    a, b  (T, columns) or (T, heads, S) float32; (vocab,) of lm_head, which counts as one token

    A NaN is an infinite error whatever the other side holds; so is an infinity unless the other side holds the same.
    Raises ValueError for shapes that differ, are empty or do not divide into the stage's groups.
    """
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"{stage}: shapes {a.shape} and {b.shape} cannot be compared")
    T, number = (1 if a.ndim == 1 else a.shape[0]), groups(stage, config)
    if a.size % (T * number):
        raise ValueError(f"{stage}: shape {a.shape} does not divide into {number} groups for each token")
    x, y = (side.reshape(T, number, -1).astype(np.float64) for side in (a, b))
    finite = np.isfinite(x) & np.isfinite(y)
    broken = ~finite & ~(np.isinf(x) & (x == y))
    x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)
    count = np.count_nonzero(finite | broken, axis=2)
    squares = np.sum((x - y) ** 2, axis=2)
    squares[broken.any(axis=2)] = np.inf
    sizes = np.sum(y * y, axis=2)
    entries = np.maximum(count, 1)
    total, b_total, a_total = float(squares.sum()), float(sizes.sum()), float(np.sum(x * x))
    return StageError(
        rms=np.sqrt(squares / entries),
        scale=np.sqrt(sizes / entries),
        count=count,
        nmse=_over(total, b_total),
        cosine=math.nan if math.isinf(total) else _cosine(float(np.sum(x * y)), a_total, b_total),
        worst=_worst(a, b, np.where(broken, np.inf, np.abs(x - y))),
    )


def ratio(error: StageError, *floors: StageError, resolution: float = RESOLUTION) -> Ratio:
    """How often its floor the error is. Several floors, one of each side's arithmetic, add in quadrature.

    No floor is taken below the resolution of float32: this share of the root mean square of b, or of b in this token
    and group where that is more. A floor that is not finite justifies nothing: the ratio is infinite, unless the
    error is 0. Raises ValueError without a floor, or for one of another shape.
    """
    if not floors or any(floor.rms.shape != error.rms.shape for floor in floors):
        shapes = [floor.rms.shape for floor in floors]
        raise ValueError(f"an error of shape {error.rms.shape} has no floor in {shapes}")
    least = resolution * np.maximum(error.scale, error.size)
    single = _times(error.rms, np.maximum(np.sqrt(sum(floor.rms**2 for floor in floors)), least))
    together = max(math.hypot(*(floor.whole for floor in floors)), resolution * error.size)
    whole = _times(np.array(error.whole), np.array(together))
    token, group = np.unravel_index(int(np.argmax(single)), single.shape)
    return Ratio(float(whole), float(single[token, group]), (int(token), int(group)))


def _times(error: F64, floor: F64) -> F64:
    """error / floor: 0 where the error is 0, else infinite where the quotient is no finite number."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.where(np.isfinite(floor), error / floor, np.inf)
    return np.where(error == 0, 0.0, np.where(np.isnan(quotient), np.inf, quotient))


def _mean(rms: F64, count: NDArray[np.int64]) -> float:
    total = int(count.sum())
    return math.sqrt(float(np.sum(rms**2 * count, where=count > 0)) / total) if total else 0.0


def _over(total: float, b_total: float) -> float:
    if total == 0:
        return 0.0
    return total / b_total if b_total else math.inf


def _cosine(ab: float, aa: float, bb: float) -> float:
    if aa == 0 or bb == 0:
        return 1.0 if aa == bb else 0.0
    return max(-1.0, min(1.0, ab / math.sqrt(aa * bb)))


def _worst(a: F32, b: F32, apart: F64) -> Worst | None:
    index = int(np.argmax(apart))
    if apart.reshape(-1)[index] == 0:
        return None
    coordinate = tuple(int(part) for part in np.unravel_index(index, a.shape))
    return Worst(coordinate, float(a[coordinate]), float(b[coordinate]))
