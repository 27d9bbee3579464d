"""What the arrays show beside the errors: which arithmetic really ran, where a suspect fails, and by how much."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.bisection.floor import Floor
from engine.bisection.measured import Clue, Decisive, Finding
from engine.bisection.readings import Error, Reading, error_of
from engine.bisection.sides import Stages
from engine.bisection.stages import SQUARE, Key, inputs, name_of, weights
from engine.config import Config
from engine.model import Model, Weight
from engine.stage_error import RESOLUTION, groups

F32 = NDArray[np.float32]

PLAIN = 0.25
"""An error below this share of what rounding to int8 gives: such products were computed in floating point."""


def decisive(subject: F32, oracle: F32, floor: F32 | None) -> Decisive:
    """The difference as a user sees it.

    subject, oracle  logits (vocab,) float32
    floor            largest |error| of honest logits, each side's; None: not known, so nothing is a near-tie
    """
    a, b = (np.nan_to_num(side.astype(np.float64), nan=-np.inf) for side in (subject, oracle))
    best_a, best_b = (np.argsort(-side, kind="stable")[:5] for side in (a, b))
    top = int(best_a[0]), int(best_b[0])
    other = top[0] if top[0] != top[1] else int(best_b[1])
    with np.errstate(invalid="ignore"):  # of logits that are all NaN
        margin = float(b[top[1]] - b[other])
    return Decisive(
        top1=top,
        top5=len(set(best_a.tolist()) & set(best_b.tolist())),
        kl=_kl(a, b),
        margin=margin,
        resolution=0.0 if floor is None else float(2 * np.sqrt(np.sum(floor**2))),
    )


def _kl(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """KL divergence of softmax(a) from softmax(b), in nats; NaN where a side has none."""
    if not (np.isfinite(a.max()) and np.isfinite(b.max())):
        return float("nan")
    with np.errstate(all="ignore"):
        p, q = (side - side.max() - np.log(np.sum(np.exp(side - side.max()))) for side in (b, a))
        terms = np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0.0)
    return max(0.0, float(terms.sum())) if np.isfinite(terms).all() else float("nan")


# ---------------------------------------------------------------- which path computed this?


def served_otherwise(
    claims: str, outputs: Stages, floor: Floor, model: Model, parts: Sequence[int], *, repeated: bool = True
) -> tuple[list[Finding], str, list[tuple[Key, slice]]]:
    """Whether the products are of the arithmetic that the subject's path claims, a line that says what they are, and
    the rows of those that are not.

    claims   "fast": activations meet quantised matrices as int8, others in float32; "reference": all is float64
    outputs  of the subject, handed what `floor` was handed
    parts    how many tokens came at a time: each may have been served by kernels of its own
    repeated whether the outputs are of the very inputs that `floor` had; else they may be of more digits than those

    The evidence is in the numbers: rounding leaves an error of known size, and even of known value.
    """
    seen: dict[str, list[tuple[Key, int]]] = {"int8": [], "float": [], "float32": [], "float64": [], "neither": []}
    for key, part, got, exact, rounded in _products(outputs, floor, model, parts):
        noise = _rms(rounded - exact)
        if noise > 64 * RESOLUTION * _rms(exact):
            plain, whole = _rms(got - exact) < PLAIN * noise, _rms(got - rounded) < 0.5 * noise
            seen["float" if plain else "int8" if whole else "neither"].append((key, part))
        elif noise == 0 and got.size >= 256 and exact.any():  # floating point; sums in float32 get not every bit right
            same = np.array_equal(got, exact)
            plain = _rms(got - exact) < 64 * RESOLUTION * _rms(exact)
            seen["float64" if same else "float32" if plain else "neither"].append((key, part))
    total = sum(map(len, seen.values()))
    if not total:
        return [], "no product here tells one arithmetic from another", []
    summary = ", ".join(f"{kind} in {len(places)}" for kind, places in seen.items() if places)
    others = ("float", "float64") if claims == "fast" else ("int8", "float32") if repeated else ("int8",)
    wrong = [place for kind in others for place in seen[kind]]
    if not wrong:
        return [], f"as the outputs show, of {total} products {summary}", []
    places = [(key, slice(sum(parts[:part]), sum(parts[: part + 1]))) for key, part in wrong]
    key, rows = places[0]
    which = f"tokens {rows.start} to {rows.stop - 1}" if rows.stop - rows.start > 1 else f"token {rows.start}"
    text = (
        f"the path claims {claims}, but {len(wrong)} of {total} products are not of its arithmetic ({summary}), as if "
        f"another path served: first {name_of(key)}, {which}"
    )
    return [Finding("silent-fallback", text, key)], f"as the outputs show, of {total} products {summary}", places


def _products(
    outputs: Stages, floor: Floor, model: Model, parts: Sequence[int]
) -> Iterator[tuple[Key, int, F32, F32, F32]]:
    """For each product and each part of the prompt: what came, the same in float64, and with rounding to int8."""
    for key in floor.int8:
        column = 0
        for weight in weights(key, model):
            columns = slice(column, column + weight.rows)
            column = columns.stop
            finer = key[0] == "qkv_matmul" and weight is model.layers[key[1] or 0].v  # its rounding leaves rests
            if finer or key not in outputs:
                continue
            start = 0
            for number, part in enumerate(parts):
                rows = slice(start, start + part)
                start += part
                if key[0] == "lm_head" and number + 1 < len(parts):
                    continue
                arrays = (outputs[key], floor.exact[key], floor.int8[key])
                got, exact, rounded = (one[None, :] if one.ndim == 1 else one[rows, columns] for one in arrays)
                yield key, number, got, exact, rounded


def _rms(x: F32) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


# ---------------------------------------------------------------- where, and by how much?


def clue(
    key: Key,
    reading: Reading,
    got: F32,
    want: F32,
    floors: list[Error],
    given: Stages,
    model: Model,
    parts: Sequence[int],
) -> Clue:
    """The patterns of a suspect's error.

    got, want  the subject's output and the right one, for the same inputs
    given      those inputs
    """
    error = error_of(got, want, key[0], model.config)
    least = RESOLUTION * np.maximum(error.stage.scale, error.stage.size)
    floor = np.maximum(np.sqrt(sum(one.stage.rms**2 for one in floors)), least)
    with np.errstate(divide="ignore", invalid="ignore"):
        bad = np.where(error.stage.rms > 0, error.stage.rms / floor, 0.0) > 2.0
    patterns = list(_places(key[0], bad, model.config, parts))
    with np.errstate(all="ignore"):
        x, y = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        if broken := int(np.count_nonzero(~np.isfinite(x) & np.isfinite(y))):
            patterns.append(f"{broken} of {x.size} entries are not finite")
        x, y = x[finite], y[finite]
        factor = float(x @ y / (y @ y)) if y.any() else 0.0
        if not broken and abs(factor - 1) > 0.01 and np.linalg.norm(x - factor * y) < 0.02 * np.linalg.norm(y):
            patterns.append("all zero" if not x.any() else f"everything times {factor:.4g}")
    for one in inputs(key, model.config.n_layers):
        if one in given and given[one].shape == got.shape and np.array_equal(got, given[one]):
            patterns.append(f"equal to its input {one[0]}")
    return Clue(_steps(key, reading, given, model), tuple(patterns))


def _places(stage: str, bad: NDArray[np.bool_], config: Config, parts: Sequence[int]) -> Iterator[str]:
    """Which tokens and heads fail, where it is not all."""
    tokens, heads = np.flatnonzero(bad.any(axis=1)), np.flatnonzero(bad.any(axis=0))
    T = len(bad)
    if 0 < len(tokens) < T and stage != "lm_head":
        start = parts[0]
        if len(parts) > 1 and tokens.tolist() == list(range(start, T)):
            yield f"only from token {start} on: those that are decoded alone"
        elif len(parts) > 1 and tokens.tolist() == list(range(start)):
            yield f"only the tokens before {start}: the prompt, not decoding"
        elif len(parts) > 2 and tokens.tolist() == list(range(start + 1, T)):
            yield f"only from token {start + 1} on: those that follow a token that was decoded alone"
        elif tokens.tolist() == list(range(int(tokens[0]), T)):
            yield f"from token {tokens[0]} on"
        else:
            yield f"tokens {_some(tokens)}"
    if 0 < len(heads) < bad.shape[1]:
        parts_of = _head_names(stage, config)
        yield f"heads {', '.join(parts_of[head] for head in heads[:8])}{' ..' if len(heads) > 8 else ''}"


def _head_names(stage: str, c: Config) -> list[str]:
    if stage in ("qkv_matmul", "qkv_bias"):
        names = [f"q{head}" for head in range(c.heads)]
        return names + [f"{part}{head}" for part in "kv" for head in range(c.kv_heads)]
    return [str(head) for head in range(groups(stage, c))]


def _some(numbers: NDArray[np.int64]) -> str:
    return ", ".join(map(str, numbers[:8])) + (" .." if len(numbers) > 8 else "")


def _steps(key: Key, reading: Reading, given: Stages, model: Model) -> float | None:
    """The difference at the reading's spot in quantisation steps; None where the stage is no product of such weights.

    One step is what the output moves by if every activation moves by one step of its block's scale (largest / 127),
    in quadrature: honest rounding is 0.29 of it.
    """
    (source, *_), spot = inputs(key, model.config.n_layers) or (None,), reading.spot
    if spot is None or source not in given:
        return None
    row = spot.coordinate[-1]
    weight: Weight | None = None
    for one in weights(key, model):
        if row < one.rows:
            weight = one
            break
        row -= one.rows
    if weight is None or weight.format.block == 1 or key[0] in SQUARE:
        return None
    x = given[source][-1 if key[0] == "lm_head" else spot.coordinate[0]].astype(np.float64)
    one_row = Weight(weight.name, weight.raw[row : row + 1], weight.format, 1, weight.columns).dequantised()[0]
    blocks = x.reshape(-1, weight.format.block)
    scales = np.repeat(np.abs(blocks).max(axis=1) / 127, weight.format.block)
    step = float(np.sqrt(np.sum((scales * one_row.astype(np.float64)) ** 2)))
    apart = abs(spot.a - spot.b)
    return apart / step if step > 0 and np.isfinite(apart) else None
