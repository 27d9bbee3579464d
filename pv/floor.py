"""A measured floor that a tolerance refers to: by how much honest arithmetic errs, as `apr floor --output` wrote it.

Of the file, "apr-floor/1", what is read here is the model's sha256 and, of each row that is measured against float64,
its largest errors over prompts and layers, which have to agree with its medians and its layers. Whose file it is, and
how it was measured, is no matter of pv.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pv.contract import FloorReference
from pv.errors import PvError
from pv.shapes import nearest

FORMAT = "apr-floor/1"
EXACT = "float64"
METRICS = ("nmse", "rms_ratio", "max_abs_over_max")
"""The errors that a file holds: what a tolerance with a floor may limit."""
ANY = "any"
"""The stage that stands for all: the largest floor of any."""
MOST_TIMES = 4.0
"""How often its floor a limit may be. A prompt that was not measured may err by more than those that were: of seven on
the models here, one erred 2.8 times as much, in nmse, as the largest of the other six at the same stage."""


@dataclass(frozen=True, slots=True)
class StoredFloor:
    """What a file holds. errors: by (arithmetic, kind, stage), the largest error of each metric that a row has."""

    sha256: str
    errors: Mapping[tuple[str, str, str], Mapping[str, float]]


def file_of(reference: FloorReference, root: Path) -> Path:
    """The file that a reference names. PvError where it lies outside of the project, whose root is given."""
    path = Path(os.path.realpath(root / reference.file)) if "\0" not in reference.file else root.parent
    if not path.is_relative_to(os.path.realpath(root)):
        raise PvError(f"{reference.file!r} leads out of the project", hint="write it from the project's folder")
    return path


def read_bytes(reference: FloorReference, root: Path) -> bytes:
    """The bytes of the file that a reference names. PvError as `file_of`, and where it cannot be read."""
    path = file_of(reference, root)
    if path.exists() and not path.is_file():
        raise PvError(f"{reference.file} is no file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = "measure it: apr floor MODEL --output FILE; it is looked for from the project's folder"
        raise PvError(f"there is no file {reference.file}", hint=hint) from None
    except OSError as error:
        raise PvError(f"{reference.file} cannot be read: {error.strerror}") from None


def stored_floor(data: bytes, name: str) -> StoredFloor:
    """What the bytes of a file hold. PvError, with the file's name, for the first thing that is wrong with them."""
    from pv.canonical import parse

    try:
        document = parse(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"it is no {FORMAT}")
        sha256, rows = str(_part(document, "model", "sha256")), list(map(_row, _rows(document)))
        errors = dict(rows)
        if len(errors) < len(rows):
            raise ValueError("a row stands twice")
        return StoredFloor(sha256, errors)
    except (ValueError, RecursionError) as error:
        hint = "measure it again: apr floor MODEL --output FILE"
        raise PvError(f"{name} holds no floor: {error}", hint=hint) from None


def floor_of(stored: StoredFloor, reference: FloorReference, metric: str) -> float:
    """The floor that a reference means; of the stage "any", the largest. PvError where the file does not hold it."""
    own = {key: row for key, row in stored.errors.items() if key[:2] == (reference.arithmetic, reference.kind)}
    if not own:
        known = dict.fromkeys(key[0] for key in stored.errors)
        what = f"{reference.file} holds no {reference.kind} floor of the arithmetic {reference.arithmetic!r}"
        raise PvError(what, hint=nearest(reference.arithmetic, known))
    stages = {key[2]: row for key, row in own.items()}
    if reference.stage != ANY and reference.stage not in stages:
        what = f"{reference.file} holds no floor of the stage {reference.stage!r}"
        raise PvError(what, hint=nearest(reference.stage, (ANY, *stages)))
    meant = stages if reference.stage == ANY else {reference.stage: stages[reference.stage]}
    if any(metric not in row for row in meant.values()):
        raise PvError(f"{reference.file} holds no {metric}", hint="measure it again with today's apr")
    return max(row[metric] for row in meant.values())


def _rows(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = document.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its rows are no list of objects")
    return [row for row in rows if row.get("b") == EXACT]


def _row(row: Mapping[str, Any]) -> tuple[tuple[str, str, str], dict[str, float]]:
    key = tuple(str(row.get(name)) for name in ("a", "kind", "stage"))
    errors = {}
    for name in METRICS:
        if name in row:
            errors[name], median = (_error(_part(row, name, part), part, name) for part in ("max", "median"))
            if median > errors[name]:
                raise ValueError(f"the median {name} of {key[2]} is {median:g}, above the largest, {errors[name]:g}")
    layers = row.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ValueError(f"{key[2]} has no layers")
    largest = max(_error(layer, "max", "nmse") for layer in layers)
    if "nmse" in errors and errors["nmse"] != largest:
        raise ValueError(f"the largest nmse of {key[2]} is {errors['nmse']:g}, but that of its layers is {largest:g}")
    return (key[0], key[1], key[2]), errors


def _part(mapping: Mapping[str, Any], key: str, inner: str) -> Any:
    value = mapping.get(key)
    if not isinstance(value, dict) or inner not in value:
        raise ValueError(f"{key} has no {inner}")
    return value[inner]


def _error(value: Any, part: str, name: str) -> float:
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"the {'largest' if part == 'max' else part} {name} of a row is {value!r:.40}")
    return float(value)
