"""Whether what an oracle captured fits together: on the models that it is proved on, and on the model at hand.

Each stage that it promises comes once, in our shapes, and no two arrays share memory. Each is what the captured stages
before it give: the reference path, fed with them, is no further off than bisection allows over the floor, which is
measured for this model and these tokens on the captured inputs. That costs 3 to 6 evaluations of every stage in numpy,
and memory: all captured stages are held, those in float64 beside them (kept as float32), and those of one arithmetic
or two.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.arithmetic import HonestPath, arithmetic_named, to_int8
from engine.bisection.floor import INT8, Evaluations, Floor
from engine.bisection.readings import Error, Reading, error_of, read
from engine.bisection.sides import Pieces, Stages, of_oracle
from engine.bisection.stages import Key, expected, inputs, name_of, shape, weights
from engine.errors import EngineError
from engine.model import Model, Weight
from engine.oracles import Oracle, watched
from engine.oracles.watched import UnfaithfulError
from engine.reference import Floats, ReferencePath, matmul

F32 = NDArray[np.float32]


class MisfitError(UnfaithfulError):
    """A captured stage is not what the captured stages before it give: which one, how far off, and all of them."""

    def __init__(self, oracle: Oracle, key: Key, reading: Reading, stages: Stages) -> None:
        self.key, self.reading, self.stages = key, reading, stages
        hint = (
            f"take another oracle; {oracle.engine} may be a version that this engine does not know, or our reference "
            "path, which it is held to, wrong on this model"
        )
        super().__init__(oracle, f"{name_of(key)} is not what its inputs give: {told(reading)}", hint)


def fitting(oracle: Oracle, model: Model, tokens: Sequence[int]) -> Stages:
    """The stages of an oracle that has this model open, watched and found to fit together.

    Raises UnfaithfulError, naming the first thing that failed; MisfitError is one.
    """
    c, stages = model.config, capture(oracle, tokens)
    promised = [key for key in expected(c.n_layers) if key[0] not in oracle.missing]
    lacking = [key for key in promised if key not in stages]
    if lacking or len(stages) > len(promised):
        key = lacking[0] if lacking else next(key for key in stages if key not in promised)
        reason = "not captured" if lacking else "captured, but not promised"
        raise UnfaithfulError(oracle, f"{name_of(key)} is {reason}")
    for key, array in stages.items():
        if array.shape != (due := shape(key[0], c, len(tokens))):
            raise UnfaithfulError(oracle, f"{name_of(key)} has the shape {array.shape}, not {due}")
    for (first, a), (second, b) in combinations(stages.items(), 2):
        if np.may_share_memory(a, b):  # arrays in C order: their bounds tell
            raise UnfaithfulError(oracle, f"{name_of(first)} and {name_of(second)} share memory")
    for key, reading in readings(oracle, model, tokens, stages):
        if not reading.within:
            raise MisfitError(oracle, key, reading, stages)
    return stages


def capture(oracle: Oracle, tokens: Sequence[int]) -> Stages:
    """Its stages, watched: also whether an array that takes a stage's place is ignored."""
    stages: Stages = {}

    def taken(stage: str, layer: int | None, array: F32) -> F32:
        stages[stage, layer] = array
        return np.full_like(array, np.nan)

    try:
        watched.forward(oracle, tokens, taken)
    except (EngineError, MemoryError):
        raise
    except Exception as error:  # a version of the library that names its parts otherwise may raise anything
        raise UnfaithfulError(oracle, f"its stages cannot be captured: {type(error).__name__}: {error}") from error
    return stages


def readings(oracle: Oracle, model: Model, tokens: Sequence[int], stages: Stages) -> Iterator[tuple[Key, Reading]]:
    """Each captured stage beside what the captured ones before it give, in the order of execution.

    Left out is what nothing can be told of: stages that read NaN, and those in which honest arithmetic of the oracle's
    types is not finite either (float16 ends at 65504). What made the first NaN is read.
    """
    c, names = model.config, of_oracle(oracle.name, oracle.variant)
    floor = Evaluations().floor(model, names, tokens, stages)
    turned = _turned(model, stages, floor.exact)
    scaled = _scaled(model, tokens, stages, floor) if oracle.name == "llama-cpp" else {}
    lost = {key for key, array in stages.items() if np.isnan(array).any()}
    for key in expected(c.n_layers):
        if key not in stages or not lost.isdisjoint(inputs(key, c.n_layers)):
            continue
        floors = [*floor.of(names, key), *_summed(key, model, floor), *turned.get(key, ()), *scaled.get(key, ())]
        if all(np.isfinite(one.stage.whole) for one in floors):
            yield key, read(stages[key], floor.exact[key], key[0], c, floors)


class _NextFrequencies(ReferencePath):
    """Rotary frequencies of the next float32 number: an angle of them is off by a step for each radian."""

    def angles(self, positions: NDArray[np.int64]) -> Floats:
        angles: Floats = super().angles(positions) * (1 + np.finfo(np.float32).eps)
        return angles


def _turned(model: Model, stages: Stages, exact: Stages) -> dict[Key, list[Error]]:
    """What one float32 step of the frequencies does to queries and keys.

    A model has a few dozen frequencies: by chance those of our own float32 are the nearest ones where another library's
    powers are a step off. That is lost at small positions, and grows with them.
    """
    c, found = model.config, dict[Key, list[Error]]()
    path, parts = _NextFrequencies(model), (("q_post_rope", 0, c.q_width), ("k_post_rope", c.q_width, c.kv_width))
    for layer in range(c.n_layers):
        qkv = stages.get(("qkv_bias", layer), exact["qkv_bias", layer]).astype(np.float64)
        for stage, start, width in parts:
            heads = qkv[:, start : start + width].reshape(len(qkv), -1, c.head_dim)
            with np.errstate(over="ignore", invalid="ignore"):
                turned = path.rotate(heads, np.arange(len(qkv))).reshape(len(qkv), -1).astype(np.float32)
            found[stage, layer] = [error_of(turned, exact[stage, layer], stage, c)]
    return found


def _summed(key: Key, model: Model, floor: Floor) -> list[Error]:
    """Of a product, its float32 error in sums one after another: of n terms it is the root of n times that in pairs.

    In which order a library sums is not known; 32 terms at a time are the least that their vectors add.
    """
    terms = max((weight.columns for weight in weights(key, model)), default=0) / 32
    return [floor.errors["float32"][key].times(math.sqrt(terms))] if terms > 1 else []


class HalfScales(HonestPath):
    """int8, but scales of blocks of 32 activations are kept in float16, as ggml keeps them (block_q8_0, block_q8_1).

    Of weights with minima (Q4_1, Q5_1), these meet the block's sum, which is in float16 too.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, arithmetic_named(INT8))

    def product(self, x: Floats, weight: Weight) -> Floats:
        if weight.format.block != 32:
            return super().product(x, weight)
        largest = np.abs(x.astype(np.float32)).reshape(len(x), -1, 32).max(axis=2, keepdims=True)
        scale = largest / np.float32(127)
        share = np.divide(scale.astype(np.float16), scale, out=np.ones_like(scale), where=scale != 0)
        exact = to_int8(x, 32).reshape(len(x), -1, 32)
        worth = exact * share
        product = matmul(worth.reshape(x.shape), weight)
        if weight.format.name in ("Q4_1", "Q5_1"):
            blocks = weight.raw.reshape(weight.rows, -1, weight.format.nbytes)
            minima = np.ascontiguousarray(blocks[:, :, 2:4]).view("<f2")[:, :, 0].astype(np.float64)
            lost = exact.sum(axis=2).astype(np.float32).astype(np.float16) - worth.sum(axis=2)
            product = product + lost @ minima.T
        return product


def _scaled(model: Model, tokens: Sequence[int], stages: Stages, floor: Floor) -> dict[Key, list[Error]]:
    """What scales in float16 change in the products of int8, one float16 step of the largest entries."""
    if all(weight.format.block != 32 for key in stages for weight in weights(key, model)):
        return {}
    pieces = Pieces(len(tokens), stages)
    HalfScales(model).forward(tokens, pieces.tap)
    c, single = model.config, floor.int8
    return {
        key: [error_of(array, single[key], key[0], c)] for key, array in pieces.stages.items() if weights(key, model)
    }


def told(reading: Reading) -> str:
    """How far a stage lies above its floor, and where most."""
    text = f"they differ by {reading.error:.2g}, where honest rounding errs by {reading.floor:.2g}"
    if reading.spot is None:
        return text
    place, a, b = list(reading.spot.coordinate), reading.spot.a, reading.spot.b
    return (
        f"{text}; most at {place}, {a:.6g} and {b:.6g}: {max(reading.single, reading.peak):.3g} times the floor there"
    )
