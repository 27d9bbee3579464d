"""The proof that an oracle captures what it computes, on models that are known to be good.

A dumper that changes the computation, hands over memory that is written again, or takes one stage for another, would
have a defect looked for where none is. So each oracle is tried before it is believed, once in a process:

1. With and without capture, the logits are the same bits; the stage lm_head is these logits; no array changes after it
   was handed over (engine.oracles.watched, which looks at the model at hand, too).
2. Each stage that it promises comes once, in our shapes. No two arrays share memory.
3. The stages fit together: the reference path, fed with the captured inputs of each stage, gives its captured output.
4. Where another oracle is installed, both agree stage by stage.

Nothing is allowed in 3 and 4 but the floor: what honest arithmetic in the oracle's types errs by, measured for these
models and tokens on the captured inputs (3), and left to itself (4), with the allowances of bisection.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bisection.floor import Evaluations
from engine.bisection.readings import Reading, read
from engine.bisection.sides import Stages, of_oracle
from engine.bisection.stages import expected, name_of, shape
from engine.errors import EngineError
from engine.mixes import mix_named
from engine.model import Model, read_model
from engine.opening import open_file
from engine.oracles import MODULES, MissingLibraryError, Oracle, open_unproved, watched
from engine.registry import locate
from engine.synth import plan
from engine.synth_models import LIKES, Like

F32 = NDArray[np.float32]

PACKAGED = "tiny-qwen2-f16"


def _small(like: Like) -> Like:
    """The same kind of model, of 2 layers and 512 tokens."""
    sizes = replace(
        like.config, n_layers=2, hidden=64, ffn=96, heads=4, kv_heads=2, head_dim=16, rope_dim=16, vocab=512, context=64
    )
    special = like.plan.special[:3]
    return replace(
        like,
        config=replace(sizes, name="small llama", tied=False),
        plan=replace(like.plan, special=special, ordinary=512 - len(special), size=512),
    )


SMALL_LLAMA = _small(LIKES["smollm2-135m"])
"""The packaged model rotates halves; this one pairs neighbours, as llama.cpp's converter orders a llama's rows."""
TOKENS = (54, 71, 268, 296, 220, 17, 10, 17, 30)
"""Ids that both models have: longer than a vector of 8, no multiple of it, and one id twice."""


def prove(name: str, **options: Any) -> None:
    """Raise EngineError, naming the first thing that failed, unless the oracle of that name proves itself.

    options  as those of engine.oracles.open_oracle
    """
    _proved(name, tuple(sorted(options.items())))


@cache  # what raised is tried again
def _proved(name: str, options: tuple[tuple[str, Any], ...]) -> None:
    with TemporaryDirectory(prefix="apr-") as folder:
        for path in known_good(Path(folder)):
            model, oracle = read_model(open_file(path)), open_unproved(name, path, **dict(options))
            try:
                stages = check(oracle, model)
            finally:
                oracle.close()
            for other in MODULES:
                if other != name:
                    _compare(oracle, stages, other, path, model)


def known_good(folder: Path) -> Iterator[Path]:
    """Files of the models to prove on; `folder` takes what is not packaged."""
    from engine.gguf_writer import write_gguf

    yield locate(PACKAGED)
    path = folder / "small-llama.gguf"
    write_gguf(path, *plan(SMALL_LLAMA, mix_named("f16", "--quant"), seed=0))
    yield path


def check(oracle: Oracle, model: Model) -> Stages:
    """The stages of an oracle that has this model open, once they are proved (1 to 3 above); raises EngineError."""
    c, stages = model.config, _capture(oracle)
    order = expected(c.n_layers)
    promised = [key for key in order if key[0] not in oracle.missing]
    lacking = [key for key in promised if key not in stages]
    if lacking or len(stages) > len(promised):
        key = lacking[0] if lacking else next(key for key in stages if key not in promised)
        raise _refusal(oracle, f"{name_of(key)} is {'not captured' if lacking else 'captured, but not promised'}")
    for key, array in stages.items():
        if array.shape != (due := shape(key[0], c, len(TOKENS))):
            raise _refusal(oracle, f"{name_of(key)} has the shape {array.shape}, not {due}")
    for (first, a), (second, b) in combinations(stages.items(), 2):
        if np.may_share_memory(a, b):  # arrays in C order: their bounds tell
            raise _refusal(oracle, f"{name_of(first)} and {name_of(second)} share memory")
    names = of_oracle(oracle.name, oracle.variant)
    floor = Evaluations().floor(model, names, TOKENS, stages)
    for key in promised:
        reading = read(stages[key], floor.exact[key], key[0], c, floor.of(names, key))
        if not reading.within:
            raise _refusal(oracle, f"{name_of(key)} is not what its inputs give: {_told(reading)}")
    return stages


def _capture(oracle: Oracle) -> Stages:
    """Its stages, watched: also whether an array that takes a stage's place is ignored."""
    stages: Stages = {}

    def capture(stage: str, layer: int | None, array: F32) -> F32:
        stages[stage, layer] = array
        return np.full_like(array, np.nan)

    try:
        watched.forward(oracle, TOKENS, capture)
    except watched.UnfaithfulError as error:
        raise _refusal(oracle, error.reason) from error
    except EngineError:
        raise
    except Exception as error:  # a version of the library that names its parts otherwise may raise anything
        raise _refusal(oracle, f"its stages cannot be captured: {type(error).__name__}: {error}") from error
    return stages


def _compare(oracle: Oracle, stages: Stages, other: str, path: Path, model: Model) -> None:
    """Raise EngineError unless another oracle, where it is installed, agrees with these stages."""
    try:
        second = open_unproved(other, path)
    except MissingLibraryError:
        return
    try:
        theirs = _capture(second)
    finally:
        second.close()
    names = (*of_oracle(oracle.name, oracle.variant), *of_oracle(second.name, second.variant))
    floor = Evaluations().floor(model, names, TOKENS, None)
    for key in expected(model.config.n_layers):
        if key not in stages or key not in theirs:
            continue
        reading = read(stages[key], theirs[key], key[0], model.config, floor.of(names, key))
        if not reading.carried:
            raise _refusal(oracle, f"{name_of(key)} is not that of the oracle {other}: {_told(reading)}")


def _told(reading: Reading) -> str:
    """How far a stage lies above its floor, and where most."""
    told = f"they differ by {reading.error:.2g}, where honest rounding errs by {reading.floor:.2g}"
    if reading.spot is None:
        return told
    place, a, b = list(reading.spot.coordinate), reading.spot.a, reading.spot.b
    return (
        f"{told}; most at {place}, {a:.6g} and {b:.6g}: {max(reading.single, reading.peak):.3g} times the floor there"
    )


def _refusal(oracle: Oracle, reason: str) -> EngineError:
    return EngineError(
        f"the oracle {oracle.name} ({oracle.variant}) failed its proof on a known-good model: {reason}",
        hint=f"it is not believed; {oracle.engine} may be a version that this engine does not know",
    )
