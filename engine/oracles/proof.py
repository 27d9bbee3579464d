"""The proof that an oracle captures what it computes, on models that are known to be good.

A dumper that changes the computation, hands over memory that is written again, or takes one stage for another, would
have a defect looked for where none is. So each oracle is tried before it is believed, once in a process:

1. With and without capture, the logits are the same bits; the stage lm_head is these logits.
2. Each stage that it promises comes once, in our shapes. No array changes after it was handed over, and no two share
   memory.
3. The stages fit together: the reference path, fed with the captured inputs of each stage, gives its captured output.
4. Where another oracle is installed, both agree stage by stage.

The bounds tell rounding from another computation, no more: what the stages of a model may differ by is measured
elsewhere.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.errors import EngineError
from engine.mixes import mix_named
from engine.model import Model, read_model
from engine.opening import open_file
from engine.oracles import MODULES, MissingLibraryError, Oracle, open_unproved
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stages import NAMES, WHOLE
from engine.synth import plan
from engine.synth_models import Like
from engine.synth_vocabulary import Plan

F32 = NDArray[np.float32]
Stages = dict[tuple[str, int | None], F32]

PACKAGED = "tiny-qwen2-f16"
SMALL_LLAMA = Like(
    config=Config(
        architecture="llama",
        name="small llama",
        n_layers=2,
        hidden=64,
        ffn=96,
        heads=4,
        kv_heads=2,
        head_dim=16,
        vocab=512,
        context=64,
        rms_eps=1e-5,
        rope_base=1e4,
        rope_dim=16,
        rope_scale=1.0,
        pairing="adjacent",
        qkv_bias=False,
        tied=False,
    ),
    plan=Plan(
        pre="smollm", ordinary=509, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), first=True, size=512
    ),
    token_ids={"bos": 1, "eos": 2},
    add_bos=False,
)
"""The packaged model rotates halves; this one pairs neighbours, as llama.cpp's converter orders a llama's rows."""
TOKENS = (54, 71, 268, 296, 220, 17, 10, 17, 30)
"""Ids that both models have: longer than a vector of 8, no multiple of it, and one id twice."""

UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Largest relative error of one rounding, by the variant of an oracle."""
OTHERS = "float16"
"""What an oracle of another variant rounds to: llama.cpp takes activations to the type of the weights, here F16."""
ALONE, TOGETHER = 8, 32
"""Roundings, by root mean square, that a stage may differ by: fed with the same input, and after all before it.
Measured on both models: at most 3.8 and 11 in float32, whose sums round too, 0.8 and 5 in the others. What is taken for
another stage, or is in another layout, differs by its own size."""


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
                    _compare(oracle, stages, other, path)


def known_good(folder: Path) -> Iterator[Path]:
    """Files of the models to prove on; `folder` takes what is not packaged."""
    from engine.gguf_writer import write_gguf

    yield locate(PACKAGED)
    path = folder / "small-llama.gguf"
    write_gguf(path, *plan(SMALL_LLAMA, mix_named("f16", "--quant"), seed=0))
    yield path


def check(oracle: Oracle, model: Model) -> Stages:
    """The stages of an oracle that has this model open, once they are proved (1 to 3 above); raises EngineError."""
    stages, at_capture = _capture(oracle)
    expected = _reference(model)
    promised = [key for key in expected if key[0] not in oracle.missing]
    lacking = [key for key in promised if key not in stages]
    if lacking or len(stages) > len(promised):
        key = lacking[0] if lacking else next(key for key in stages if key not in promised)
        raise _refusal(oracle, f"{_named(key)} is {'not captured' if lacking else 'captured, but not promised'}")
    for key, array in stages.items():
        if array.shape != expected[key].shape:
            raise _refusal(oracle, f"{_named(key)} has the shape {array.shape}, not {expected[key].shape}")
        if array.tobytes() != at_capture[key]:
            raise _refusal(oracle, f"{_named(key)} was changed after it was captured: its memory is written again")
    for (first, a), (second, b) in combinations(stages.items(), 2):
        if np.may_share_memory(a, b):  # arrays in C order: their bounds tell
            raise _refusal(oracle, f"{_named(first)} and {_named(second)} share memory")
    unit = _unit(oracle)
    for key, own in _reference(model, stages).items():
        distance = _distance(stages[key], own) if key in stages else 0.0
        if not distance <= ALONE * unit:
            raise _refusal(
                oracle,
                f"{_named(key)} is not what its inputs give: it differs from what the reference path makes of them by "
                f"{distance:.1e} of its size, {ALONE * unit:.1e} allowed",
            )
    return stages


def _capture(oracle: Oracle) -> tuple[Stages, dict[tuple[str, int | None], bytes]]:
    """Stages, and their bytes when they came; a forward pass without capture follows, which may write over them."""
    stages: Stages = {}
    at_capture: dict[tuple[str, int | None], bytes] = {}

    def capture(stage: str, layer: int | None, array: F32) -> F32:
        key = (stage, layer)
        if key in stages:
            raise _refusal(oracle, f"{_named(key)} was captured twice")
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise _refusal(oracle, f"{_named(key)} is no float32 array in C order")
        stages[key], at_capture[key] = array, array.tobytes()
        return np.full_like(array, np.nan)  # to be ignored

    try:
        seen = oracle.forward(TOKENS, capture)
        unseen = oracle.forward(TOKENS)
    except EngineError:
        raise
    except Exception as error:  # a version of the library that names its parts otherwise may raise anything
        raise _refusal(oracle, f"its stages cannot be captured: {type(error).__name__}: {error}") from error
    if seen.tobytes() != unseen.tobytes():
        raise _refusal(oracle, "its logits are others while stages are captured")
    head = stages.get(("lm_head", None))
    if head is not None and at_capture["lm_head", None] != seen.tobytes():
        raise _refusal(oracle, "the stage lm_head is not the logits that it returns")
    return stages, at_capture


def _reference(model: Model, inputs: Stages | None = None) -> Stages:
    """The stages of the reference path, each of what `inputs` has for the stages before it, or else of its own."""
    found: Stages = {}

    def tap(stage: str, layer: int | None, array: F32) -> F32 | None:
        found[stage, layer] = array.copy()
        return inputs.get((stage, layer)) if inputs else None

    ReferencePath(model).forward(TOKENS, tap)
    return found


def _compare(oracle: Oracle, stages: Stages, other: str, path: Path) -> None:
    """Raise EngineError unless another oracle, where it is installed, agrees with these stages."""
    try:
        second = open_unproved(other, path)
    except MissingLibraryError:
        return
    try:
        theirs, _ = _capture(second)
    finally:
        second.close()
    limit = TOGETHER * max(_unit(oracle), _unit(second))
    for key in sorted(
        stages.keys() & theirs.keys(), key=lambda key: (key[1] is None, key[1] or 0, NAMES.index(key[0]))
    ):
        distance = _distance(stages[key], theirs[key])
        if not distance <= limit:
            raise _refusal(
                oracle,
                f"{_named(key)} is not that of the oracle {other}: they differ by {distance:.1e} of its size, "
                f"{limit:.1e} allowed",
            )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")  # what is not finite is above any bound
def _distance(a: F32, b: F32) -> float:
    """Root mean square of a - b over that of b; what is not finite in b (a masked score) must be the same in a."""
    finite = np.isfinite(b)
    if a.shape != b.shape or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    x, y = (array[finite].astype(np.float64) for array in (a, b))
    return float(np.sqrt(np.sum((x - y) ** 2) / np.sum(y**2))) if np.any(x != y) else 0.0


def _unit(oracle: Oracle) -> float:
    return UNITS.get(oracle.variant, UNITS[OTHERS])


def _named(key: tuple[str, int | None]) -> str:
    stage, layer = key
    return stage if stage in WHOLE else f"{stage} of layer {layer}"


def _refusal(oracle: Oracle, reason: str) -> EngineError:
    return EngineError(
        f"the oracle {oracle.name} ({oracle.variant}) failed its proof on a known-good model: {reason}",
        hint=f"it is not believed; {oracle.engine} may be a version that this engine does not know",
    )
