"""A measured floor as a file, "apr-floor/1": where it comes from, and a row for each arithmetic, kind and stage.

It holds no time and no host: the same measurement gives the same bytes again, where numpy sums in the same order.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import EngineError
from engine.outputs import replace_file
from engine.stages import NAMES, ORDER, WHOLE
from engine.trace_folder import TracedModel

FORMAT = "apr-floor/1"
EXACT = "float64"
"""What the errors of an arithmetic are measured against."""
KINDS = ("cumulative", "isolated")
METRICS = ("nmse", "rms_ratio", "max_abs_over_max")
T = TypeVar("T")
_AGAIN = "measure it again with `apr floor MODEL --output FILE`"
_NAMES: dict[type, str] = {str: "text", int: "an integer", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Spread:
    """Over prompts and layers: the largest and the median."""

    max: float
    median: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a errs by against b at a stage.

    a, b       names of arithmetics (engine.arithmetic), or of oracles with their variant
    kind       "isolated": fed b's outputs; "cumulative": fed its own, from the first stage on
    nmse       of the whole stage (engine.stage_error)
    rms_ratio  of the token and group where it is largest: root mean square of the error over that of b there
    max_abs_over_max  the largest |a - b| of the stage over its largest |b|
    layers     the largest nmse of each layer, over prompts; one number where a stage belongs to none, or to one
    """

    a: str
    b: str
    kind: str
    stage: str
    nmse: Spread
    rms_ratio: Spread
    max_abs_over_max: Spread
    layers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One of the prompts, and the model's tokens of it."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsedOracle:
    """An oracle that was measured: as engine.oracles names it, with the versions that ran, and what it did not give."""

    name: str
    variant: str
    engine: str
    missing: tuple[str, ...]

    @property
    def label(self) -> str:
        """How rows name it."""
        return f"{self.name} {self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A measured floor.

    package, numpy  versions
    sums            in which order numpy summed (engine.floor_check.order_of_sums)
    arithmetics     those that were measured, beside EXACT
    rows            in the order of arithmetics and oracles, kinds and stages
    """

    package: str
    numpy: str
    sums: str
    model: TracedModel
    prompts: tuple[Prompt, ...]
    arithmetics: tuple[str, ...]
    oracles: tuple[UsedOracle, ...]
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON values; a number that is infinite is "inf"."""
        plain: dict[str, Any] = _plain({"format": FORMAT, **asdict(self)})
        return plain

    def as_bytes(self) -> bytes:
        """The file: ASCII, keys sorted, a line for each prompt, oracle and row."""
        parts = []
        for key, value in sorted(self.as_json().items()):
            text = json.dumps(value, sort_keys=True)
            if key in ("prompts", "oracles", "rows") and value:
                text = "[\n" + ",\n".join(json.dumps(item, sort_keys=True) for item in value) + "\n]"
            parts.append(f"{json.dumps(key)}: {text}")
        return ("{\n" + ",\n".join(parts) + "\n}\n").encode("ascii")

    def as_text(self) -> str:
        """A table for each arithmetic and pair: NMSE, its median, the layer of the largest, and the largest ratio."""
        tokens = sum(len(prompt.tokens) for prompt in self.prompts)
        layers = max(len(row.layers) for row in self.rows)
        lines = [
            f"{self.model.name} ({self.model.architecture}), sha256 {self.model.sha256}",
            f"prompts: {len(self.prompts)}, tokens: {tokens}, layers: {layers}; numpy {self.numpy}",
        ]
        lines += [f"{oracle.label}: {oracle.engine}" for oracle in self.oracles]
        at = {(row.a, row.b, row.kind, row.stage): row for row in self.rows}
        for a, b in dict.fromkeys((row.a, row.b) for row in self.rows):
            kinds = [kind for kind in reversed(KINDS) if any(key[:3] == (a, b, kind) for key in at)]
            head = ["stage"]
            table = []
            for kind in kinds:
                head += [f"{kind} nmse", "median", "layer", "rms ratio"]
            for stage in NAMES:
                found = [at.get((a, b, kind, stage)) for kind in kinds]
                if any(found):
                    table.append((stage, *(cell for row in found for cell in _cells(row))))
            lines += ["", f"{a} against {b}", *_table([tuple(head), *table])]
        return "\n".join(lines)


def write_floor(path: Path, floor: Floor) -> None:
    """Write the file in one step; raises EngineError."""
    replace_file(path, (floor.as_bytes(),))


def read_floor(path: Path) -> Floor:
    """Read and check a file; raises EngineError that names the first thing that is wrong with it."""
    hint = "name a file that `apr floor MODEL --output FILE` wrote"
    try:
        if path.exists() and not path.is_file():
            raise EngineError("is no file", where=str(path), hint=hint)
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror or error}", where=str(path), hint=hint) from error
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 is a ValueError too
        raise EngineError(f"not JSON: {error}", where=str(path), hint=_AGAIN) from error
    try:
        return _checked(document)
    except ValueError as error:
        raise EngineError(str(error), where=str(path), hint=_AGAIN) from error


def _checked(document: Any) -> Floor:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise ValueError(f"the format is {found!r:.80}, not {FORMAT!r}")
    model = _value(document, "model", dict)
    floor = Floor(
        package=_value(document, "package", str),
        numpy=_value(document, "numpy", str),
        sums=_value(document, "sums", str),
        model=TracedModel(*(_value(model, key, str) for key in ("name", "sha256", "architecture"))),
        prompts=tuple(_prompt(item) for item in _value(document, "prompts", list)),
        arithmetics=tuple(_texts(document, "arithmetics")),
        oracles=tuple(_oracle(item) for item in _value(document, "oracles", list)),
        rows=tuple(_row(item) for item in _value(document, "rows", list)),
    )
    if re.fullmatch("[0-9a-f]{64}", floor.model.sha256) is None:
        raise ValueError(f"sha256 must be 64 hex digits, not {floor.model.sha256!r:.80}")
    if re.fullmatch("[0-9a-f]{16}", floor.sums) is None or floor.sums == "0" * 16:
        raise ValueError(f"sums must be the 16 hex digits of an order of sums, not {floor.sums!r:.80}")
    if not floor.prompts:
        raise ValueError("there is no prompt")
    have = [(row.a, row.b, row.kind, row.stage) for row in floor.rows]
    if len(set(have)) < len(have):
        raise ValueError(f"the row {' '.join(next(key for key in have if have.count(key) > 1))} is there twice")
    named = {EXACT, *floor.arithmetics, *(oracle.label for oracle in floor.oracles)}
    for row in floor.rows:
        if not {row.a, row.b} <= named:
            raise ValueError(f"{row.a} against {row.b} is neither of the arithmetics nor of the oracles")
    want = [(a, EXACT, kind, stage) for a in floor.arithmetics for kind in KINDS for stage in NAMES]
    missing = [key for key in want if key not in set(have)]
    if missing or not want:
        which = f", first {' '.join(missing[0])}" if missing else ""
        raise ValueError(f"{len(missing)} of {len(want)} rows are missing{which}")
    counts = {len(row.layers) for row in floor.rows if row.stage not in WHOLE and row.stage != "embedding"}
    if len(counts) > 1 or any(len(row.layers) > 1 for row in floor.rows if row.stage in (*WHOLE, "embedding")):
        raise ValueError("rows differ in their number of layers")
    return floor


def _row(item: Any) -> Row:
    a, b, kind, stage = (_value(_object(item), key, str) for key in ("a", "b", "kind", "stage"))
    row = Row(
        a=a,
        b=b,
        kind=kind,
        stage=stage,
        **{metric: _spread(item, metric) for metric in METRICS},
        layers=tuple(_number(value, "layers") for value in _value(item, "layers", list)),
    )
    if row.stage not in ORDER:
        raise ValueError(f"unknown stage {row.stage!r:.80}")
    if row.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {row.kind!r:.80}")
    if not row.layers or max(row.layers) != row.nmse.max:
        raise ValueError(f"the largest nmse of {row.stage} is {row.nmse.max}, but its layers have {row.layers!r:.80}")
    return row


def _spread(item: Mapping[str, Any], key: str) -> Spread:
    value = _value(item, key, dict)
    spread = Spread(*(_number(value.get(name), f"{name} of {key}") for name in ("max", "median")))
    if spread.median > spread.max:
        raise ValueError(f"the median of {key} is {spread.median}, above the largest, {spread.max}")
    return spread


def _number(value: Any, what: str) -> float:
    if value == "inf":
        return math.inf
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{what} must be a number of at least 0 or 'inf', not {value!r:.80}")
    return float(value)


def _prompt(item: Any) -> Prompt:
    tokens = _value(_object(item), "tokens", list)
    if not tokens or not all(type(token) is int and token >= 0 for token in tokens):
        raise ValueError(f"tokens must be a list of ids, not {tokens!r:.80}")
    return Prompt(_value(item, "text", str), tuple(tokens))


def _oracle(item: Any) -> UsedOracle:
    name, variant, engine = (_value(_object(item), key, str) for key in ("name", "variant", "engine"))
    return UsedOracle(name, variant, engine, tuple(_texts(item, "missing")))


def _texts(document: Mapping[str, Any], key: str) -> list[str]:
    values = _value(document, key, list)
    if not all(type(value) is str for value in values):
        raise ValueError(f"{key} must be a list of names, not {values!r:.80}")
    return values


def _object(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"an object is needed, not {item!r:.80}")
    return item


def _value(mapping: Mapping[str, Any], key: str, kind: type[T]) -> T:
    if key not in mapping:
        raise ValueError(f"the key {key!r} is missing")
    value = mapping[key]
    if type(value) is not kind:  # not isinstance: true is no integer
        raise ValueError(f"{key} must be {_NAMES[kind]}, not {value!r:.80}")
    return value


def _cells(row: Row | None) -> tuple[str, ...]:
    if row is None:
        return ("-", "-", "-", "-")
    layer = str(row.layers.index(row.nmse.max)) if len(row.layers) > 1 else "-"
    return (f"{row.nmse.max:.3g}", f"{row.nmse.median:.3g}", layer, f"{row.rms_ratio.max:.3g}")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *rest = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], rest, strict=True))])
        for row in rows
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return "inf" if value == math.inf else value
