"""A bisection: both sides run, what distinguishes them is measured, and the verdict follows from that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bisection.floor import Evaluations
from engine.bisection.measured import Finding, Measured, Row, TokenDifference
from engine.bisection.measuring import LOGITS, Measuring, Ran
from engine.bisection.sides import Pieces, Side, Stages
from engine.bisection.stages import Key, expected
from engine.bisection.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """A verdict and all that it rests on.

    computed  what the subject's products show of the arithmetic that ran
    captured  stages that each side handed over
    cost      forward passes and stage evaluations, of each side and for the floor
    """

    measured: Measured
    verdict: Verdict
    tokens: tuple[int, ...]
    computed: str
    captured: tuple[int, int]
    cost: Mapping[str, Mapping[str, int]]


def bisect(
    subject: Side,
    oracle: Side,
    tokens: Sequence[int],
    difference: TokenDifference | None = None,
    evaluations: Evaluations | None = None,
) -> Bisection:
    """Compare the subject with the oracle on these tokens, stage by stage.

    difference   where the subject's own tokens are others; it is run with the oracle's all the same
    evaluations  that measure the floors; None: new ones
    """
    judged, traced = _ran(oracle, tokens), _ran(subject, tokens)
    model = subject.model or oracle.model
    layers = model.config.n_layers if model else 1 + max(key[1] or 0 for key in (*judged.stages, *traced.stages))
    rows = [_row(key, traced.stages, judged.stages) for key in expected(layers)]
    measured = Measured(
        rows=rows,
        layers=layers,
        tokens=difference,
        injects=subject.injects,
        lacking=frozenset((*subject.missing, *oracle.missing)),
        findings=(*_returned("subject", traced), *_returned("oracle", judged)),
    )
    evaluations, computed = evaluations or Evaluations(), ""
    cost = {
        name: {"forwards": side.forwards, "stage_evaluations": 0}
        for name, side in (("subject", subject), ("oracle", oracle))
    }
    if model is None:
        measured = replace(measured, untested="a model: without one, no error can stand beside a floor")
    else:
        measuring = Measuring(subject, oracle, tokens, judged, traced, model, evaluations)
        measured, computed = measuring.measured(measured)
        cost["subject"] = {"forwards": measuring.forwards, "stage_evaluations": measuring.evaluated}
    cost["floor"] = {"forwards": 0, "stage_evaluations": evaluations.count}
    return Bisection(
        measured=measured,
        verdict=judge(measured),
        tokens=tuple(tokens),
        computed=computed,
        captured=(len(traced.stages), len(judged.stages)),
        cost=cost,
    )


def _ran(side: Side, tokens: Sequence[int]) -> Ran:
    pieces = Pieces(len(tokens))
    logits = side.stages(tokens, pieces)
    return Ran(pieces.stages, logits)


def _returned(side: str, ran: Ran) -> list[Finding]:
    """Logits that a side returns are what users get: they have to be the bits of its last stage."""
    if LOGITS not in ran.stages or ran.logits.tobytes() == ran.stages[LOGITS].tobytes():
        return []
    return [Finding("returned-differs", f"the logits that the {side} returns are not the bits of its stage lm_head")]


def _row(key: Key, subject: Stages, oracle: Stages) -> Row:
    absent = [name for name, stages in (("subject", subject), ("oracle", oracle)) if key not in stages]
    if absent:
        return Row(key=key, why=f"not in the {' nor in the '.join(absent)}")
    a, b = subject[key], oracle[key]
    return Row(key=key, equal_bits=a.tobytes() == b.tobytes(), nan=bool(np.any(np.isnan(a) & np.isnan(b))))
