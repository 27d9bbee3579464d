"""What `apr determinism` says: schema apr-determinism/1 and a text."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from engine.cells import F32, digest
from engine.compare import Difference, compare
from engine.determinism import Outcome, Spot
from engine.variants import KV_CACHES


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome, what was run, and where two cells differ first.

    model   name, architecture, file, sha256
    spots   the two tensors, if some differ
    values  both tensors as they came out when they were run once more; None where they did not
    kv_cache  what keys and values were kept in
    """

    model: dict[str, str]
    tokens: tuple[int, ...]
    outcome: Outcome
    spots: tuple[Spot, Spot] | None = None
    values: tuple[F32, F32] | None = None
    kv_cache: str = KV_CACHES[0]

    def first(self) -> Difference | None:
        """The first value in which the two tensors differ; None where running them once more shows none."""
        if self.values is None:
            return None
        a, b = self.values
        return next(iter(compare(a, b, shape=a.shape, limit=1).first), None)

    def as_json(self) -> dict[str, Any]:
        outcome = self.outcome
        cells = [{**asdict(cell), "sha256": digest(stages)} for cell, stages in outcome.measured.items()]
        kinds = {cell["sha256"] for cell in cells}
        return {
            "schema": "apr-determinism/1",
            "model": self.model,
            "tokens": list(self.tokens),
            "kv_cache": self.kv_cache,
            "verdict": outcome.verdict,
            "sha256": min(kinds, default=None) if outcome.verdict == "equal" else None,
            "planned": outcome.planned,
            "measured": len(outcome.measured),
            "cells": cells,
            "not_run": [
                {"cells": [asdict(cell) for cell in one.cells], "reason": one.reason, "failed": one.failed}
                for one in outcome.not_run
            ],
            "first": self._first_as_json(),
        }

    def _first_as_json(self) -> dict[str, Any] | None:
        if self.spots is None:
            return None
        a, b = self.spots
        found: dict[str, Any] = {
            "layer": a.key[1],
            "a": {**asdict(a.cell), "stage": a.key[0]},
            "b": {**asdict(b.cell), "stage": b.key[0]},
            "again": None,
        }
        if (value := self.first()) is not None:
            found["again"] = {
                "coordinate": value.coordinate,
                "a": str(value.a),
                "b": str(value.b),
                "a_bits": f"{value.a_bits:#010x}",
                "b_bits": f"{value.b_bits:#010x}",
            }
        return found

    def as_text(self) -> str:
        outcome = self.outcome
        counts = Counter((cell.variant, digest(stages)) for cell, stages in outcome.measured.items())
        lines = [
            f"{self.model['name']}; tokens: {len(self.tokens)}; {self.kv_cache} cache",
            "cells  variant      sha256",
        ]
        lines += [f"{count:5}  {variant:11}  {value}" for (variant, value), count in counts.items()]
        for one in outcome.not_run:
            reason = one.reason.replace("\n", "\n       ")
            lines.append(f"{len(one.cells):5}  {'failed' if one.failed else 'not run'}: {reason}")
        lines += self._difference()
        of = f"{len(outcome.measured)} of {outcome.planned} cells measured"
        return "\n".join([*lines, f"{outcome.verdict}: {of}, {outcome.tensors} tensors each"])

    def _difference(self) -> list[str]:
        if self.spots is None:
            return []
        a, b = self.spots
        owner = "the whole model" if a.key[1] is None else f"layer {a.key[1]}"
        lines = [f"first difference: {a.key[0]} of {owner}", f"  a  {a.cell}", f"  b  {b.cell}"]
        if b.key != a.key:
            lines[0] = f"first difference: {a.key[0]} where it is traced (a), {b.key[0]} where not (b)"
        if self.values is None:
            return [*lines, "  run once more, the two tensors did not both come"]
        value = self.first()
        if value is None:
            return [*lines, "  run once more, the two show no difference: it comes and goes"]
        where = ", ".join(map(str, value.coordinate or ()))
        return [*lines, f"  at ({where}): a {value.a!r} {value.a_bits:#010x}, b {value.b!r} {value.b_bits:#010x}"]
