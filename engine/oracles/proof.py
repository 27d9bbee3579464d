"""The proof that an oracle captures what it computes, on models that are known to be good.

A dumper that changes the computation, hands over memory that is written again, or takes one stage for another, would
have a defect looked for where none is. So each oracle is tried before it is believed, once in a process:

1. With and without capture, the logits are the same bits; the stage lm_head is these logits; no array changes after it
   was handed over (engine.oracles.watched, which looks at the model at hand, too).
2. Each stage that it promises comes once, in our shapes. No two arrays share memory.
3. The stages fit together: the reference path, fed with the captured inputs of each stage, gives its captured output
   (engine.oracles.fit, which `apr oracle` asks of the model at hand, too).
4. Where another oracle is installed, both agree stage by stage.

Where 3 fails, another oracle that is installed tells which side is wrong: if it agrees with this one, and does not fit
either, it is our reference path.

Nothing is allowed in 3 and 4 but the floor: what honest arithmetic in the oracle's types errs by, measured for these
models and tokens on the captured inputs (3), and left to itself (4), with the allowances of bisection.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.bisection.floor import Evaluations
from engine.bisection.readings import read
from engine.bisection.sides import Stages, of_oracle
from engine.bisection.stages import expected, name_of
from engine.errors import EngineError
from engine.mixes import mix_named
from engine.model import Model, read_model
from engine.opening import open_file
from engine.oracles import MODULES, MissingLibraryError, Oracle, fit, open_unproved
from engine.oracles.fit import MisfitError
from engine.oracles.watched import UnfaithfulError
from engine.registry import locate
from engine.synth import plan
from engine.synth_models import LIKES, Like

PACKAGED = "tiny-qwen2-f16"


def _small(like: Like) -> Like:
    """The same kind of model, of 2 layers and 512 tokens."""
    sizes = replace(
        like.config,
        n_layers=2,
        hidden=64,
        ffn=96,
        heads=4,
        kv_heads=2,
        head_dim=16,
        rope_dim=16,
        vocab=512,
        context=512,
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
LONG = TOKENS * 29
"""For the small llama: more than 256, to a multiple of which llama.cpp pads its keys."""


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
                stages = _tried(oracle, model, TOKENS)
                if model.config.name == SMALL_LLAMA.config.name:
                    _tried(oracle, model, LONG)
            finally:
                oracle.close()
            for other in MODULES:
                if other != name:
                    _compare(oracle, stages, other, path, model)


def _tried(oracle: Oracle, model: Model, tokens: Sequence[int]) -> Stages:
    """As check; where the reference path, and not the oracle, is wrong, the error says so."""
    try:
        return check(oracle, model, tokens)
    except ProofError as error:
        if error.misfit is None:
            raise
        raise _judged(oracle, error, error.misfit, model, tokens) from error


def known_good(folder: Path) -> Iterator[Path]:
    """Files of the models to prove on; `folder` takes what is not packaged."""
    from engine.gguf_writer import write_gguf

    yield locate(PACKAGED)
    path = folder / "small-llama.gguf"
    write_gguf(path, *plan(SMALL_LLAMA, mix_named("f16", "--quant"), seed=0))
    yield path


def check(oracle: Oracle, model: Model, tokens: Sequence[int] = TOKENS) -> Stages:
    """The stages of an oracle that has this model open, once they are proved (1 to 3 above); raises ProofError."""
    try:
        return fit.fitting(oracle, model, tokens)
    except UnfaithfulError as error:
        raise ProofError(oracle, error.reason, error if isinstance(error, MisfitError) else None) from error


def _compare(oracle: Oracle, stages: Stages, other: str, path: Path, model: Model) -> None:
    """Raise EngineError unless another oracle, where it is installed, agrees with these stages."""
    try:
        second = open_unproved(other, path)
    except MissingLibraryError:
        return
    try:
        theirs = fit.capture(second, TOKENS)
    except UnfaithfulError as error:
        raise ProofError(second, error.reason) from error
    finally:
        second.close()
    names = (*of_oracle(oracle.name, oracle.variant), *of_oracle(second.name, second.variant))
    floor = Evaluations().floor(model, names, TOKENS, None)
    for key in expected(model.config.n_layers):
        if key not in stages or key not in theirs:
            continue
        reading = read(stages[key], theirs[key], key[0], model.config, floor.of(names, key))
        if not reading.carried:
            raise ProofError(oracle, f"{name_of(key)} is not that of the oracle {other}: {fit.told(reading)}")


def _judged(
    oracle: Oracle, error: "ProofError", misfit: MisfitError, model: Model, tokens: Sequence[int]
) -> EngineError:
    """The error, once other oracles were asked which side is wrong, the oracle or the reference path."""
    key, c = misfit.key, model.config
    for other in MODULES:
        if other == oracle.name:
            continue
        try:
            with closing(open_unproved(other, model.path)) as second:
                theirs = fit.capture(second, tokens)
        except EngineError:  # not installed, or no witness
            continue
        reading = dict(fit.readings(second, model, tokens, theirs)).get(key)
        if reading is None:
            continue
        if reading.within:  # it gives what the reference path gives: the oracle stands alone
            return error
        names = (*of_oracle(oracle.name, oracle.variant), *of_oracle(second.name, second.variant))
        floors = Evaluations().floor(model, names, tokens, None).of(names, key)
        if read(misfit.stages[key], theirs[key], key[0], c, floors).carried:
            return EngineError(
                f"our reference path is wrong on a known-good model: the oracles {oracle.name} and {other} agree in "
                f"{name_of(key)}, and it gives something else: {fit.told(misfit.reading)}",
                hint="no comparison with it tells anything until what it reads, dequantises or computes there is "
                "mended, or else what captures from both",
            )
    error.hint = (
        f"either {oracle.engine} is a version that this engine does not know, or our reference path is wrong; another "
        "oracle, where it is installed and gives this stage, tells which"
    )
    return error


class ProofError(EngineError):
    """An oracle failed its proof; misfit where it is a stage that is not what the reference path gives."""

    def __init__(self, oracle: Oracle, reason: str, misfit: MisfitError | None = None) -> None:
        self.misfit = misfit
        super().__init__(
            f"the oracle {oracle.name} ({oracle.variant}) failed its proof on a known-good model: {reason}",
            hint=f"it is not believed; {oracle.engine} may be a version that this engine does not know",
        )
