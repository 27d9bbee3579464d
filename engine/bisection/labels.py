"""Whether a side is what it says that it is: the arithmetic that its numbers show, beside the one that its label names.

A label is a word in a manifest or an attribute of an object. Rounding is in the numbers: an error of known size, and of
known value where activations are rounded to int8.
"""

from collections.abc import Iterable

from engine.bisection.clues import PLAIN, served_otherwise
from engine.bisection.floor import INT8, Floor
from engine.bisection.measured import Finding
from engine.bisection.readings import error_of
from engine.bisection.sides import CACHED, FolderSide, PathSide, Side, Stages
from engine.bisection.stages import Key, inputs, weights
from engine.model import Model
from engine.stage_error import RESOLUTION
from engine.trace_folder import OWN

COARSE = (INT8, "float16", "bfloat16", CACHED)
"""Arithmetics whose errors are far above those of float32, so that it shows where they are not there."""


def claimed_path(side: Side) -> str | None:
    """The path of ours that a side says that it is, None for another engine."""
    if isinstance(side, FolderSide):
        return side.manifest.path if side.manifest.path in OWN else None
    return side.spec.engine if isinstance(side, PathSide) else None


def needed(side: Side) -> tuple[str, ...]:
    """The arithmetics that its label is held to, beside float64."""
    named = tuple(name for name in side.arithmetic if name in COARSE)
    return (*named, INT8) if claimed_path(side) and INT8 not in named else named


def own_name(role: str, side: Side) -> list[Finding]:
    """A finding if a path that ran names itself otherwise than it was asked for."""
    served = side.facts().get("path", side.spec.engine) if isinstance(side, PathSide) else side.spec.engine
    if served == side.spec.engine:
        return []
    return [Finding("silent-fallback", f"the {role} was asked for as {side.spec.engine}, and {served} served it")]


def another_path(role: str, side: Side, stages: Stages, floor: Floor, model: Model, tokens: int) -> list[Finding]:
    """A finding if the products of a side are not of the path of ours that it says it is.

    floor  of `needed`, handed these very stages
    """
    path = claimed_path(side)
    if path is None:
        return []
    fed = {
        key: array for key, array in stages.items() if all(one in stages for one in inputs(key, model.config.n_layers))
    }
    tokens = max(len(array) for (stage, _), array in stages.items() if stage != "lm_head" or len(stages) == 1)
    parts = side.parts(tokens) if isinstance(side, PathSide) else (tokens,)
    found, _, _ = served_otherwise(path, fed, floor, model, parts, repeated=False)
    return [Finding(one.kind, f"the {role}: {one.text}", one.key) for one in found]


def finer_than_said(role: str, side: Side, stages: Stages, floor: Floor, model: Model) -> list[Finding]:
    """A finding for each arithmetic that a side says it has, and that its stages are too right for.

    floor  of `needed`, handed these very stages
    """
    found = []
    for name in side.arithmetic:
        if name not in COARSE or (name == INT8 and claimed_path(side)):
            continue
        keys = [
            key
            for key in _where(name, stages, model)
            if all(one in stages for one in inputs(key, model.config.n_layers))
        ]
        finer = [key for key in keys if _is_finer(key, stages, floor, name, model)]
        if 2 * len(finer) > len(keys):
            text = (
                f"the {role} says {name}, but {len(finer)} of {len(keys)} stages that show it err by less than a "
                "quarter of that: they were computed from more digits, and the floor of its label is too wide for them"
            )
            found.append(Finding("other-arithmetic", text, finer[0]))
    return found


def _fed(stages: Stages, model: Model) -> Stages:
    """Of these stages those whose inputs are among them."""
    layers = model.config.n_layers
    return {key: array for key, array in stages.items() if all(one in stages for one in inputs(key, layers))}


def _where(name: str, stages: Stages, model: Model) -> Iterable[Key]:
    """The stages on which an arithmetic leaves its mark."""
    for key in stages:
        blocks = [weight.format.block > 1 for weight in weights(key, model)]
        if name == CACHED:
            marked = key[0] in ("attn_scores", "attention")
        else:
            marked = all(blocks) and bool(blocks) if name == INT8 else bool(blocks)
        if marked:
            yield key


def _is_finer(key: Key, stages: Stages, floor: Floor, name: str, model: Model) -> bool:
    """Whether a stage errs by less than a quarter of what an arithmetic leaves, where that is far above float32's."""
    noise = floor.errors[name][key].stage.whole
    error = error_of(stages[key], floor.exact[key], key[0], model.config).stage
    return noise > 64 * RESOLUTION * error.size and error.whole < PLAIN * noise
