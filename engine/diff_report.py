"""What a diff of stage tensors found, as values, JSON and text."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.compare import Comparison, Difference
from engine.errors import EngineError
from engine.trace_folder import Manifest

SCHEMA = "apr-diff/1"
VERDICTS = ("equal", "different", "not comparable")


@dataclass(frozen=True, slots=True)
class Row:
    """One pair of tensor files that was compared; stage is None when neither name nor manifest tells it."""

    file: str
    stage: str | None
    layer: int | None
    shape: tuple[int, ...] | None
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    """The outcome of `diff`: rows in the order of execution, or the reasons why nothing was compared."""

    a: Path
    b: Path
    manifests: tuple[Manifest | None, Manifest | None] = (None, None)
    rows: tuple[Row, ...] = ()
    refusals: tuple[EngineError, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 every bit is equal, 1 some differ, 2 nothing was compared."""
        if self.refusals or not self.rows:
            return 2
        return 1 if self.first_different else 0

    @property
    def first_different(self) -> Row | None:
        """The first row, in the order of execution, with a difference."""
        return next((row for row in self.rows if not row.comparison.equal_bits), None)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, schema "apr-diff/1"; numbers that are not finite are "nan", "inf", "-inf"."""
        sides = []
        for path, manifest in zip((self.a, self.b), self.manifests, strict=True):
            facts = None if manifest is None else asdict(manifest)
            if facts is not None:
                del facts["tensors"]
            sides.append({"name": str(path), "manifest": facts})
        first = self.first_different
        document = {
            "schema": SCHEMA,
            "verdict": VERDICTS[self.exit_code],
            "exit_code": self.exit_code,
            "a": sides[0],
            "b": sides[1],
            "refusals": [
                {"message": error.args[0], "where": error.where, "hint": error.hint} for error in self.refusals
            ],
            "notes": self.notes,
            "tensors_compared": len(self.rows),
            "tensors_different": sum(not row.comparison.equal_bits for row in self.rows),
            "first_different": None if first is None else first.file,
            "tensors": [{**asdict(row), "equal_bits": row.comparison.equal_bits} for row in self.rows],
        }
        plain: dict[str, Any] = _plain(document)
        return plain

    def as_text(self) -> str:
        """The report as lines of plain text, the verdict last."""
        lines = []
        for label, path, manifest in zip("AB", (self.a, self.b), self.manifests, strict=True):
            facts = ""
            if manifest is not None:
                facts = f"  ({manifest.model.name}, path {manifest.path}, variant {manifest.variant})"
            lines.append(f"{label}  {path}{facts}")
        lines += [f"note: {note}" for note in self.notes]
        verdict = VERDICTS[self.exit_code]
        if self.exit_code == 2:
            return "\n".join(lines + [f"{verdict}: {error}" for error in self.refusals])
        lines += _table([_HEAD, *(_cells(row) for row in self.rows)])
        first, values = self.first_different, sum(row.comparison.count for row in self.rows)
        total = f"{len(self.rows)} tensor{'s' * (len(self.rows) > 1)}"
        if first is None:
            return "\n".join([*lines, f"{verdict}: {total}, {values} values, every bit"])
        for title, listed in (("first", first.comparison.first), ("largest", first.comparison.largest)):
            if listed:
                lines.append(f"{title} differences in {first.file}:")
                lines += _table([("index", "at", "A", "B", "A - B"), *(_details(item) for item in listed)])
        changed = [row.comparison.different for row in self.rows if not row.comparison.equal_bits]
        counts = f"{len(changed)} of {total}, {sum(changed)} of {values} values"
        return "\n".join([*lines, f"{verdict}: {counts}, from {first.file} on"])


_HEAD = (
    "layer",
    "stage",
    "values",
    "differ",
    "max |A-B|",
    "at",
    "A",
    "B",
    "rms",
    "nmse",
    "cosine",
    "ulp",
    "nonfinite A/B",
)


def _cells(row: Row) -> tuple[str, ...]:
    """One line of the table; `-` is a measure that is not defined, or the place of a difference that is not there."""
    c = row.comparison
    layer = "-" if row.layer is None else str(row.layer)
    place = ("-", "-", "-") if c.worst is None else _details(c.worst)[1:4]
    rms, nmse = ("-" if value is None else f"{value:.6g}" for value in (c.rms, c.nmse))
    cosine, ulp = "-" if c.cosine is None else f"{c.cosine:.9g}", "-" if c.max_ulp is None else str(c.max_ulp)
    head = (layer, row.stage or row.file, str(c.count), str(c.different), f"{c.max_abs:.6g}")
    return (*head, *place, rms, nmse, cosine, ulp, f"{c.nonfinite_a}/{c.nonfinite_b}")


def _details(item: Difference) -> tuple[str, ...]:
    """One line of a list of differences; a NaN with its bits, since two NaNs may differ in nothing else."""
    values = [
        f"nan:{bits:08x}" if math.isnan(value) else str(np.float32(value))
        for value, bits in ((item.a, item.a_bits), (item.b, item.b_bits))
    ]
    at = f"[{item.index}]" if item.coordinate is None else str(list(item.coordinate))
    return (str(item.index), at, *values, f"{item.diff:.6g}")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
