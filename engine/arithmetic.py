"""Honest arithmetic of fewer digits: the reference's forward pass, rounded as engines round that are not wrong.

What such a pass errs by is what no engine of that arithmetic can be blamed for: the floor of a comparison.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.model import Model, Weight
from engine.reference import Floats, ReferencePath, matmul, rmsnorm

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """In which numbers a forward pass is computed.

    name     as users and files write it
    dtype    of sums, and of what lies between the roundings
    storage  what weights and results are rounded to: "float16", "bfloat16", or None: to nothing else
    int8     whether activations are rounded to 8-bit integers where they meet a matrix in a quantised format, by the
             rule of docs/order.md; the product itself is exact
    rests    whether the matrix v meets what that rounding left, too, as in the fast path; elsewhere the error is the
             same without
    """

    name: str
    dtype: type[np.floating[Any]]
    storage: str | None = None
    int8: bool = False
    rests: bool = False


ARITHMETICS = (
    Arithmetic("float64", np.float64),
    Arithmetic("float32", np.float32),
    Arithmetic("float16", np.float32, storage="float16"),
    Arithmetic("bfloat16", np.float32, storage="bfloat16"),
    Arithmetic("int8", np.float64, int8=True),
    Arithmetic("int8-rests", np.float64, int8=True, rests=True),
)
NAMES = tuple(arithmetic.name for arithmetic in ARITHMETICS)


def arithmetic_named(name: str, where: str = "") -> Arithmetic:
    """The arithmetic of that name; raises EngineError for another."""
    for arithmetic in ARITHMETICS:
        if arithmetic.name == name:
            return arithmetic
    raise EngineError(f"unknown arithmetic {name!r}", where=where, hint=f"one of: {', '.join(NAMES)}")


class HonestPath(ReferencePath):
    """The reference's forward passes in another arithmetic; in float64, its bits.

    In float16 and bfloat16 every result of an operation is rounded, as engines do that keep their tensors in that type
    (Transformers): weights, the normed row before its gain, cosines, sines and what they multiply, scores before their
    scale. Sums, roots, exponentials and the angles of positions are of float32.
    """

    name = "honest"

    def __init__(self, model: Model, arithmetic: Arithmetic) -> None:
        self.arithmetic, self.dtype, self.variant = arithmetic, arithmetic.dtype, f"numpy-{arithmetic.name}"
        super().__init__(model)

    def angles(self, positions: NDArray[np.int64]) -> Floats:
        """As the reference; in float32, of two angles for each position and pair the one that errs more.

        One is llama.cpp's: of each pair, that of the pair before times one number, which errs in proportion to the
        pair. But at some positions its roundings cancel, and those of other honest ways do not: Transformers rounds
        the frequency, and the position times it. So the other angle is the farther of the two float32 numbers that the
        right one lies between: none errs by less than half a unit in the last place, except at position 0 and where
        the frequency itself, as that of the first pair, is a float32 number.
        """
        exact = super().angles(positions)
        if self.dtype is np.float64:
            return exact
        c = self.model.config
        steps = np.full((len(positions), c.rope_dim // 2), c.rope_base ** (-2.0 / c.rope_dim), np.float32)
        steps[:, 0] = positions
        angles: F32 = np.multiply.accumulate(steps, axis=1)
        if self.model.rope_factors is not None:
            angles = angles / self.model.rope_factors
        angles /= np.float32(c.rope_scale)
        nearest = exact.astype(np.float32)
        farther = np.nextafter(nearest, np.where(nearest < exact, np.inf, -np.inf).astype(np.float32))
        frequencies = super().angles(np.ones(1, np.int64))
        sure = (frequencies == frequencies.astype(np.float32)) | (exact == 0)
        other = np.where(sure, nearest, farther)
        return np.where(np.abs(angles - exact) < np.abs(other - exact), other, angles)

    def rounded(self, x: Floats) -> Floats:
        """x to the nearest of what the arithmetic stores, ties to even."""
        if self.arithmetic.storage is None:
            return x
        if self.arithmetic.storage == "bfloat16":
            return to_bfloat16(x.astype(np.float32))
        return x.astype(np.float16).astype(x.dtype)

    def norm(self, x: Floats, gain: F32) -> Floats:
        """As the reference; what is stored in a type of 16 bits is rounded before it meets the gain, too."""
        if self.arithmetic.storage is None:
            return super().norm(x, gain)
        ones = np.ones_like(gain)
        return self.rounded(rmsnorm(x, ones, self.model.config.rms_eps)) * self.rounded(gain)

    def product(self, x: Floats, weight: Weight) -> Floats:
        """As the reference, of weights and activations as the arithmetic has them."""
        block = weight.format.block
        if self.arithmetic.int8 and block > 1:
            worth = to_int8(x, block)
            if self.arithmetic.rests and any(weight is layer.v for layer in self.model.layers):
                worth = worth + to_int8(x.astype(np.float32) - worth, block)
            return matmul(worth, weight)
        if self.dtype is np.float64:
            return matmul(x, weight)
        result: Floats = x @ self.rounded(weight.dequantised()).T
        return result

    def biased(self, qkv: Floats, products: Floats, bias: F32) -> Floats:
        """As the reference; in a type of 16 bits, the bias is added before the product is rounded, as torch does.

        So what rounding took is given back; qkv itself is kept, since something may have taken its place.
        """
        if self.arithmetic.storage is None:
            return super().biased(qkv, products, bias)
        lost = products - self.rounded(products)
        return qkv + np.where(np.isfinite(lost), lost, 0) + self.rounded(bias)


def to_bfloat16(x: F32) -> F32:
    """x (any shape) rounded to the upper half of its bits, to nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + 0x7FFF)
    kept = np.where(np.isnan(x), bits | 0x00400000, rounded) & np.uint32(0xFFFF0000)
    return kept.astype(np.uint32).view(np.float32).reshape(x.shape)


def to_int8(x: Floats, block: int) -> NDArray[np.float64]:
    """What activations x (T, k * block) are worth as 8-bit integers times the scale of their block of 32 or 256.

    The rule of docs/order.md, in float32 as it says there; the product of integer and scale is exact. The sign of the
    scale, which differs there between 32 and 256, changes no value: halves go away from zero on both sides. A block
    that holds what is not finite is NaN.
    """
    blocks = x.astype(np.float32).reshape(len(x), -1, block)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    scale = np.where(np.isfinite(largest), largest / np.float32(127), np.float32(np.nan))
    steps = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale != 0)
    integers = np.copysign(np.minimum(np.floor(np.abs(steps) + np.float32(0.5)), np.float32(127)), steps)
    worth: NDArray[np.float64] = (integers.astype(np.float64) * scale).reshape(x.shape)
    return worth
