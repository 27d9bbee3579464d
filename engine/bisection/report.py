"""What `apr bisect` says: schema apr-bisect/1 and a text, the verdict first."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.bisection.measured import Decisive, Row
from engine.bisection.readings import CARRIED_ALLOWANCE, Reading
from engine.bisection.run import Bisection
from engine.bisection.stages import Key, name_of
from engine.bisection.verdict import Defect

SCHEMA = "apr-bisect/1"
READINGS = ("cumulative", "isolated", "predicted", "own", "repaired")
LISTED = 8
"""So many defects and suspects the text tells of in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectReport:
    """A bisection and what was run.

    version  of the package
    subject, oracle  side (MODEL@engine), engine, path, variant .. and model (name, architecture, file, sha256; of a
             folder of stages what its manifest says, and no file)
    itself   what it means that both sides are one and the same; "" where they are not
    not_tested  what comparing these sides cannot show, a line each
    command  that gives the same again
    """

    version: str
    subject: dict[str, Any]
    oracle: dict[str, Any]
    prompt: str
    found: Bisection
    itself: str
    not_tested: Sequence[str]
    command: Sequence[str]

    @property
    def replay(self) -> str:
        return shlex.join(self.command)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; numbers that are not finite are "nan", "inf", "-inf"."""
        found, verdict, m = self.found, self.found.verdict, self.found.measured
        decisive = None
        if m.decisive is not None:
            decisive = {**asdict(m.decisive), "flipped": m.decisive.flipped, "near_tie": m.decisive.near_tie}
        document = {
            "schema": SCHEMA,
            "engine": self.version,
            "verdict": verdict.name,
            "exit_code": verdict.exit_code,
            "subject": self.subject,
            "oracle": self.oracle,
            "prompt": self.prompt,
            "tokens": found.tokens,
            "tokens_differ": None if m.tokens is None else asdict(m.tokens),
            "decisive": decisive,
            "computed": found.computed,
            "stages": self.counts(),
            "defects": [self._defect(one) for one in verdict.defects],
            "suspects": [self._defect(one) for one in verdict.suspects],
            "findings": [_finding(one.kind, one.key, one.text) for one in m.findings],
            "missing": verdict.missing,
            "not_tested": [*filter(None, [self.itself]), *self.not_tested],
            "notes": self.notes(),
            "cost": found.cost,
            "rows": [_row(row) for row in m.rows],
            "replay": self.replay,
        }
        values: dict[str, Any] = plain(document)
        return values

    def counts(self) -> dict[str, int]:
        """The denominator."""
        rows, (subject, oracle) = self.found.measured.rows, self.found.captured
        compared = sum(not row.why for row in rows)
        return {"expected": len(rows), "subject": subject, "oracle": oracle, "compared": compared}

    def as_text(self) -> str:
        """The report as lines of plain text."""
        found, verdict, m = self.found, self.found.verdict, self.found.measured
        counts = self.counts()
        lines = [f"{verdict.name}: {self.headline()}"]
        lines += [f"finding   {one.kind}: {one.text}" for one in m.findings]
        for kind, listed in (("defect", verdict.defects), ("suspect", verdict.suspects)):
            for one in listed[:LISTED]:
                lines += [f"{kind:9} {where(one)}", *(f"          {line}" for line in details(one))]
            if len(listed) > LISTED:
                lines.append(f"{kind:9} and {len(listed) - LISTED} more (--json lists them)")
        lines += [f"missing   {one}" for one in verdict.missing]
        lines += [f"subject   {served(self.subject)}", f"oracle    {served(self.oracle)}"]
        if found.computed:
            lines.append(f"computed  {found.computed}")
        lines.append(f"logits    {self.logits()}")
        lines.append(
            f"stages    {counts['compared']} of {counts['expected']} compared; the subject gave {counts['subject']}, "
            f"the oracle {counts['oracle']}; {tokens_text(found)}"
        )
        for name in ("cumulative", "isolated"):
            if highest := _highest(m.rows, name):
                lines.append(f"{name:<11}at most {highest[1].whole:.3g} times its floor, at {name_of(highest[0])}")
        lines += [f"not tested {one}" for one in self.not_tested]
        lines += [f"note      {one}" for one in self.notes()]
        lines.append(f"cost      {cost_text(found)}")
        lines.append(f"replay    {self.replay}")
        return "\n".join(lines)

    def headline(self) -> str:
        """The verdict in words."""
        return "; ".join(filter(None, (self._verdict_in_words(), self.itself)))

    def _verdict_in_words(self) -> str:
        verdict, counts = self.found.verdict, self.counts()
        if verdict.name == "EQUAL":
            return f"every bit of {counts['compared']} stages"
        if verdict.name == "WITHIN_FLOOR":
            compared = f"{counts['compared']} of {counts['expected']} stages compared"
            carried = max((row.cumulative.whole for row in self.found.measured.rows if row.cumulative), default=0.0)
            magnified = "; this model magnifies what was carried" if carried > CARRIED_ALLOWANCE else ""
            return f"{compared}, none above what honest arithmetic errs by{magnified}"
        if verdict.name == "CANNOT_TELL":
            return f"missing: {verdict.missing[0]}"
        names = [name_of((one.stage, one.layer)) for one in verdict.defects]
        parts = [
            f"{len(names)} defect{'s' * (len(names) > 1)}: {', '.join(names[:4])}{' ..' * (len(names) > 4)}"
        ] * bool(names)
        parts += [one.kind for one in self.found.measured.findings]
        return f"{self.subject['side']}: {'; '.join(parts)}"

    def notes(self) -> list[str]:
        """Those of the verdict, and that two models were run where they were two."""
        a, b = (side["model"] for side in (self.subject, self.oracle))
        if a["sha256"] == b["sha256"]:
            return list(self.found.verdict.notes)
        two = f"the sides run two models, of sha256 {a['sha256'][:16]}.. and {b['sha256'][:16]}.."
        return [*self.found.verdict.notes, two]

    def logits(self) -> str:
        """What a user of the model sees of the difference, or why that is not known."""
        if self.found.measured.decisive is not None:
            return decisive_text(self.found.measured.decisive)
        row = next(row for row in self.found.measured.rows if row.key[0] == "lm_head")
        if row.why:
            return f"not compared: lm_head is {row.why}"
        bits = "every bit is the same on both sides" if row.equal_bits else "other bits on the two sides"
        return f"{bits}; without a model at hand, no more is measured of them"

    def _defect(self, one: Defect) -> dict[str, Any]:
        values = asdict(one)
        spot = values.pop("spot")
        values["between"] = [name_of(key) for key in one.between]
        return {**values, "coordinate": None, "a": None, "b": None, "ulp": None, **(spot or {}), "replay": self.replay}


def where(one: Defect) -> str:
    """The place and both values."""
    text = name_of((one.stage, one.layer))
    if one.token is not None:
        text += f", token {one.token}"
    if one.spot is not None:
        a, b = np.float32(one.spot.a), np.float32(one.spot.b)
        text += f", at {one.spot.coordinate}: {a} where {b} is right"
        text += f"; {one.spot.ulp} ULP" if one.spot.ulp is not None else ""
    return text + (f", {one.steps:.3g} quantisation steps" if one.steps is not None else "")


def details(one: Defect) -> list[str]:
    """What it exceeds, what was proved, what it looks like."""
    lines = []
    if math.isfinite(one.over):
        lines.append(f"{one.over:.3g} times what the floor allows")
    proofs = [
        text
        for holds, text in (
            (one.isolated, "fails with the oracle's inputs"),
            (one.own, "fails on the inputs that it had"),
            (one.repaired, "with the oracle's output put in, all that follows agrees"),
        )
        if holds
    ]
    if one.spot is not None:
        lines.append(f"proof: {'; '.join(proofs)}")
    if one.repaired is False:
        lines.append("not proved: with the oracle's output put in, not all that follows agrees")
    if one.between:
        lines.append(f"or one of {', '.join(map(name_of, one.between))}, which could not be compared")
    lines += [f"pattern: {text}" for text in one.patterns]
    return [*lines, f"likely: {'; '.join(one.operations)}"]


def decisive_text(d: Decisive) -> str:
    """What a user of the model sees."""
    if d.flipped:
        kind = "a near-tie" if d.near_tie else "no near-tie"
        choice = (
            f"likeliest token {d.top1[0]}, the oracle's {d.top1[1]}, {kind}: margin {d.margin:.3g}, the floor moves "
        )
        choice += f"{d.resolution:.3g}"
    else:
        choice = f"likeliest token {d.top1[0]} on both sides, margin {d.margin:.3g}"
    return f"{choice}; {d.top5} of the top 5 shared; KL divergence {d.kl:.3g} nats"


def tokens_text(found: Bisection) -> str:
    """How many tokens were run."""
    return f"{len(found.tokens)} token{'s' * (len(found.tokens) > 1)}"


def served(side: dict[str, Any]) -> str:
    """Which path, variant and threads ran."""
    parts = [f"path {side['path']}", f"variant {side['variant']}"]
    if side.get("kv_cache"):
        parts.append(f"{side['kv_cache']} cache")
    if side.get("threads"):
        parts.append(f"{side['threads']} threads")
    if side.get("pieces"):
        parts.append("tokens " + " + ".join(map(str, side["pieces"])))
    if side["engine"] not in ("fast", "reference"):
        parts.append(side["engine"])
    return f"{side['side']}: {', '.join(parts)}"


def cost_text(found: Bisection) -> str:
    """Forward passes and evaluations."""
    subject, oracle, floor = (found.cost[name] for name in ("subject", "oracle", "floor"))
    each = subject["stage_evaluations"]
    return (
        f"subject {subject['forwards']} forward passes{f' and {each} evaluation of each stage' if each else ''}, "
        f"oracle {oracle['forwards']}, floor {floor['stage_evaluations']} evaluations of each stage"
    )


def plain(value: Any) -> Any:
    """Values that JSON can hold."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _finding(kind: str, key: Key | None, text: str) -> dict[str, Any]:
    stage, layer = key or (None, None)
    return {"kind": kind, "stage": stage, "layer": layer, "text": text}


def _row(row: Row) -> dict[str, Any]:
    readings = {name: _reading(getattr(row, name)) for name in READINGS}
    head = {"stage": row.key[0], "layer": row.key[1], "compared": not row.why, "why": row.why}
    return {**head, "equal_bits": row.equal_bits, **readings}


def _reading(one: Reading | None) -> dict[str, Any] | None:
    return None if one is None else {**asdict(one), "over": one.over}


def _highest(rows: Sequence[Row], name: str) -> tuple[Key, Reading] | None:
    found = [(row.key, reading) for row in rows if (reading := getattr(row, name)) is not None]
    return max(found, key=lambda pair: pair[1].whole, default=None)
