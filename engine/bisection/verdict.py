"""The verdict of a bisection: a pure function of what was measured.

A stage is a suspect if its own error, without what was carried to it, is above its floor: with the oracle's inputs
(isolated: a forward pass of the subject that is handed the oracle's output at every stage), or against the reference's
stage on the inputs that the subject really had (own). It is named if the proof holds the other way round too: with
the oracle's output put in at all suspects, everything behind it agrees with the oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.bisection.measured import Clue, Measured, Row, TokenDifference
from engine.bisection.readings import CARRIED_ALLOWANCE, Spot
from engine.bisection.stages import OPERATIONS, Key, name_of, unseen_before

EQUAL, WITHIN_FLOOR, DIVERGES, CANNOT_TELL = VERDICTS = ("EQUAL", "WITHIN_FLOOR", "DIVERGES", "CANNOT_TELL")
LOST = "the likeliest token is another by more than the floor"
EXIT_CODES = {EQUAL: 0, WITHIN_FLOOR: 0, DIVERGES: 1, CANNOT_TELL: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A stage that is wrong, or may be: what it does there, and what was proved.

    token, spot  where it stands highest above its floor, and both values there
    steps        the difference in quantisation steps
    between      stages that could not be compared, one of which it may be as well
    isolated, own, repaired   the three proofs: fails with the oracle's inputs, fails on its own, all behind it agrees
    """

    stage: str
    layer: int | None
    token: int | None
    spot: Spot | None
    over: float
    steps: float | None
    operations: tuple[str, ...]
    patterns: tuple[str, ...]
    between: tuple[Key, ...]
    isolated: bool
    own: bool
    repaired: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """defects are proved, suspects are not; missing: what it would take to tell more; notes explain."""

    name: str
    defects: tuple[Defect, ...] = ()
    suspects: tuple[Defect, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.name]


def suspects(rows: Sequence[Row]) -> list[Key]:
    """The stages whose own error is above the floor, in the order of execution."""
    return [row.key for row in rows if row.suspect]


def judge(m: Measured) -> Verdict:
    """The verdict of what was measured."""
    compared = [row for row in m.rows if not row.why]
    if m.untested:
        equal = bool(compared) and len(compared) == len(m.rows) and all(row.equal_bits for row in compared)
        if equal and m.tokens is None and not any(row.nan for row in compared):
            return Verdict(name=EQUAL)
        missing = _missing(m, compared, (), ())
        if not missing or not all(row.equal_bits for row in compared):  # equal bits need no floor
            missing = [m.untested, *missing]
        return Verdict(name=CANNOT_TELL, missing=tuple(missing))
    order = {row.key: place for place, row in enumerate(m.rows)}
    found = [row for row in m.rows if row.suspect]
    left = [row for row in m.rows if not row.suspect and not row.agrees]
    last = max((order[row.key] for row in left), default=-1)
    defects: list[Defect] = []
    unproved: list[Defect] = []
    if m.tokens is not None:
        defects.append(_of_tokens(m.tokens))
    for row in found:
        agrees = None if row.repaired is None else last < order[row.key]
        one = _defect(row, m, agrees)
        (defects if m.injects and agrees else unproved).append(one)
    missing = _missing(m, compared, unproved, left)
    if defects or m.findings:
        name = DIVERGES
    elif missing:
        name = CANNOT_TELL
    else:
        whole = len(compared) == len(m.rows)
        name = EQUAL if whole and all(row.equal_bits for row in compared) else WITHIN_FLOOR
    return Verdict(
        name=name, defects=tuple(defects), suspects=tuple(unproved), missing=tuple(missing), notes=tuple(_notes(m))
    )


def _missing(m: Measured, compared: Sequence[Row], unproved: Sequence[Defect], left: Sequence[Row]) -> list[str]:
    """What keeps the verdict from being told."""
    reasons = []
    names = ", ".join(name_of((one.stage, one.layer)) for one in unproved)
    if unproved and not m.injects:
        reasons.append(
            f"a proof of {names}: above the floor on its own inputs, but nothing can be put into the subject"
        )
    elif unproved:
        reasons.append(
            f"a proof of {names}: with the oracle's output put in, "
            f"{name_of(left[-1].key) if left else 'what follows'} still does not agree"
        )
    absent = [row for row in m.rows if row.why and row.key[0] not in m.lacking]
    if absent:
        reasons.append(
            f"{len(absent)} of {len(m.rows)} stages, first {name_of(absent[0].key)}, {absent[0].why}: capture them all"
        )
    broken = [row.key for row in compared if row.nan]
    if broken:
        reasons.append(f"numbers: both sides hold NaN in {len(broken)} stages, first {name_of(broken[0])}")
    if not any(row.key[0] == "lm_head" for row in compared):
        place = name_of(compared[-1].key) if compared else "nothing"
        reasons.append(f"the oracle's or the subject's lm_head: what follows {place} was not compared")
    strange = _unexplained(m)
    if strange and not all(row.own for row in compared) and not broken:
        reasons.append(f"a cause: {strange}, but not every stage was looked into")
    elif strange and m.decisive and m.decisive.lost:
        reasons.append(
            f"a cause: {LOST}, though every stage is right on the inputs that it had: this model magnifies noise on "
            "this prompt, try others"
        )
    return reasons


def _unexplained(m: Measured) -> str:
    """What exceeds the floor although no stage is a suspect; "" if nothing does."""
    if any(row.suspect for row in m.rows):
        return ""
    for row in m.rows:
        if row.cumulative is not None and not row.cumulative.whole <= CARRIED_ALLOWANCE:
            return f"from {name_of(row.key)} on, the carried error is {row.cumulative.whole:.3g} times its floor"
    return LOST if m.decisive and m.decisive.lost else ""


def _notes(m: Measured) -> list[str]:
    notes = []
    if strange := _unexplained(m):
        notes.append(
            f"{strange}: noise that this model magnifies, since every stage is right on the inputs that it had"
        )
    if m.decisive and m.decisive.flipped and m.decisive.near_tie:
        a, b = m.decisive.top1
        notes.append(f"near-tie: the likeliest token is {a}, not {b}, by {m.decisive.margin:.3g}, within the floor")
    noisy = [
        row
        for row in m.rows
        if row.cumulative is not None and not row.suspect and row.cumulative.cosine < 0.999 and not _behind(row, m.rows)
    ]
    if noisy:
        worst = min(noisy, key=lambda row: row.cumulative.cosine if row.cumulative else 1.0)
        assert worst.cumulative is not None
        first = noisy[0].cumulative
        assert first is not None
        notes.append(
            f"cosine below 0.999 in {len(noisy)} stages from {name_of(noisy[0].key)} on ({first.cosine:.5f}; lowest "
            f"{worst.cumulative.cosine:.5f} at {name_of(worst.key)}) is floor, not a defect"
        )
    return notes


def _behind(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a suspect comes before it, so that its error may be carried from there."""
    for other in rows:
        if other is row:
            return False
        if other.suspect:
            return True
    return False


def _defect(row: Row, m: Measured, agrees: bool | None) -> Defect:
    reading, clue = max(row.failing, key=lambda one: one.over), m.clues.get(row.key, Clue())
    stage, layer = row.key
    spot = reading.spot
    skipped = {one.key for one in m.rows if one.why}
    return Defect(
        stage=stage,
        layer=layer,
        token=None if spot is None or stage == "lm_head" else spot.coordinate[0],
        spot=spot,
        over=reading.over,
        steps=clue.steps,
        operations=OPERATIONS[stage],
        patterns=clue.patterns,
        between=unseen_before(row.key, m.layers, skipped),
        isolated=any(one is not None and not one.within for one in (row.isolated, row.predicted)),
        own=row.own is not None and not row.own.within,
        repaired=agrees,
    )


def _of_tokens(difference: TokenDifference) -> Defect:
    return Defect(
        stage="tokens",
        layer=None,
        token=difference.position,
        spot=None,
        over=float("inf"),
        steps=None,
        operations=OPERATIONS["tokens"],
        patterns=(f"{difference.subject} where the oracle has {difference.oracle}",),
        between=(),
        isolated=True,
        own=False,
        repaired=None,
    )
