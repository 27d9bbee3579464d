"""The floor of a model: by how much honest arithmetic errs at each stage, measured over a set of prompts.

An error that some arithmetic cannot avoid is no defect of an engine that computes in it; one above it has to be
explained. Isolated: each stage is fed the exact outputs before it, and errs by its own arithmetic alone. Cumulative:
it is fed what the same arithmetic computed, and carries its errors on, as a whole run does.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from engine.arithmetic import HonestPath, arithmetic_named
from engine.config import Config
from engine.errors import EngineError
from engine.floor_file import EXACT, METRICS, Row, Spread
from engine.model import Model
from engine.oracles import Oracle, watched
from engine.reference import ReferencePath
from engine.stage_error import measure
from engine.trace_folder import execution_order

ARITHMETICS = ("float32", "float16", "int8")
"""Those that are measured, against float64."""
PROMPTS = (
    "What is 2+2?",
    "The lighthouse keeper closed the door, lit the lamp and waited for the ships.",
    "def area(width, height):\n    return width *",
    "Montag, Dienstag, Mittwoch, Donnerstag,",
    "1, 1, 2, 3, 5, 8, 13, 21, 34,",
    '{"name": "Ada", "born": 1815, "fields": ["mathematics",',
    "No. No! NO?? ... yes",
)
"""A question, prose, a program, another language, a sequence of numbers, JSON, and punctuation."""

Stages = dict[tuple[str, int | None], NDArray[np.float32]]
Key = tuple[str, str, str, str]
Measures = tuple[float, float, float]
"""In the order of floor_file.METRICS."""


def measure_floor(
    model: Model,
    prompts: Sequence[Sequence[int]],
    oracles: Mapping[str, Oracle],
    tell: Callable[[str], None],
) -> tuple[Row, ...]:
    """The errors of each arithmetic against float64, and of each oracle against float64 and against each other.

    prompts  tokens of each
    oracles  open ones, by the name that rows give them; what one cannot give is left out of its rows
    tell     called with a line before each prompt

    Raises EngineError for an oracle whose stages are not of our shapes, or are not to be believed (oracles.watched).
    """
    found: dict[Key, dict[int | None, list[Measures]]] = defaultdict(lambda: defaultdict(list))
    for number, tokens in enumerate(prompts, 1):
        tell(f"prompt {number} of {len(prompts)}: {len(tokens)} tokens")
        exact = captured(model, tokens)
        fed = captured(model, tokens, exact)

        for name in ARITHMETICS:
            for kind, want, forced in (("isolated", fed, exact), ("cumulative", exact, None)):

                def tap(
                    stage: str,
                    layer: int | None,
                    array: NDArray[np.float32],
                    key: tuple[str, str, str] = (name, EXACT, kind),
                    want: Stages = want,
                    forced: Stages | None = forced,
                ) -> NDArray[np.float32] | None:
                    found[*key, stage][layer].append(measures(array, want[stage, layer], stage, model.config))
                    return None if forced is None else forced[stage, layer]

                HonestPath(model, arithmetic_named(name)).forward(tokens, tap)
        sides = {label: _of_oracle(oracle, tokens) for label, oracle in oracles.items()} | {EXACT: exact}
        for a, b in combinations(sides, 2):
            for stage, layer in sides[a].keys() & sides[b].keys():
                measured = _of_pair(a, b, sides, (stage, layer), model.config)
                found[a, b, "cumulative", stage][layer].append(measured)
    order = {name: place for place, name in enumerate((*ARITHMETICS, *oracles, EXACT))}
    rows = (_row(key, layers) for key, layers in found.items())
    return tuple(sorted(rows, key=lambda row: (order[row.a], order[row.b], row.kind, execution_order(row.stage, None))))


def captured(model: Model, tokens: Sequence[int], forced: Stages | None = None) -> Stages:
    """The exact outputs of all stages; with `forced`, of each from the inputs that it gives."""
    found: Stages = {}

    def tap(stage: str, layer: int | None, array: NDArray[np.float32]) -> NDArray[np.float32] | None:
        found[stage, layer] = array.copy()
        return None if forced is None else forced[stage, layer]

    ReferencePath(model).forward(tokens, tap)
    return found


def measures(a: NDArray[np.float32], b: NDArray[np.float32], stage: str, config: Config) -> Measures:
    """The errors of a against b, each as floor_file.Row says; raises ValueError as stage_error.measure."""
    error = measure(a, b, stage, config)
    if error.worst is None:
        return 0.0, 0.0, 0.0
    if not np.isfinite(error.nmse):
        return math.inf, math.inf, math.inf
    nothing = np.where(error.rms > 0, np.inf, 0.0)
    ratio = np.divide(error.rms, error.scale, out=nothing, where=error.scale > 0).max()
    largest = float(np.abs(b, where=np.isfinite(b), out=np.zeros_like(b)).max())
    return error.nmse, float(ratio), abs(error.worst.a - error.worst.b) / largest


def _of_oracle(oracle: Oracle, tokens: Sequence[int]) -> Stages:
    found: Stages = {}
    watched.forward(oracle, tokens, lambda stage, layer, array: found.__setitem__((stage, layer), array))
    return found


def _of_pair(a: str, b: str, sides: Mapping[str, Stages], key: tuple[str, int | None], config: Config) -> Measures:
    try:
        return measures(sides[a][key], sides[b][key], key[0], config)
    except ValueError as error:
        raise EngineError(str(error), where=f"{a} against {b}", hint="an oracle must give stages as ours are") from None


def _row(key: Key, layers: Mapping[int | None, Sequence[Measures]]) -> Row:
    a, b, kind, stage = key
    everywhere = [measured for of_layer in layers.values() for measured in of_layer]
    spreads = (_spread(values) for values in zip(*everywhere, strict=True))
    largest = [max(layers[layer])[0] for layer in sorted(layers, key=lambda layer: layer or 0)]
    return Row(
        a=a,
        b=b,
        kind=kind,
        stage=stage,
        **dict(zip(METRICS, spreads, strict=True)),
        layers=tuple(map(_shortened, largest)),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(_shortened(max(values)), _shortened(median(values)))


def _shortened(value: float) -> float:
    """Three digits, which a reader can compare; what float32 errs by changes by more where a BLAS sums otherwise."""
    return float(f"{value:.2e}")
