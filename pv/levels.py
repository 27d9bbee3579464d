"""The level that a test has earned: a pure function of what it plans and of what was recorded.

| level                   | what it demands, all of it for the digests of today                               |
|-------------------------|-----------------------------------------------------------------------------------|
| UNTESTED                | nothing                                                                           |
| PARTIAL_ALGORITHM_LEVEL | algorithm SURVIVED, and it was seen red: each mutant, one at least, FALSIFIED      |
| FUNCTIONAL              | PARTIAL, live SURVIVED on a model named by digest, and each mutant FALSIFIED by it |
| DISCHARGED              | FUNCTIONAL, oracle SURVIVED, its name and version recorded, each mutant FALSIFIED  |
| FALSIFIED               | a promise was FALSIFIED: outranks everything                                      |
| STALE                   | there are records, all of them for other digests: worth nothing                   |

A FLAKY record and a mutant that SURVIVED block every level above UNTESTED. Order and copies do not matter, and taking a
supporting record away never raises a level. Equal output on a second machine is no way to DISCHARGED here: nothing that
is recorded identifies a machine so that one could not pass for two.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pv.binding import Binding, seed_of
from pv.outcome import Outcome, supports
from pv.statement import Record, suffix
from pv.words import ROLES, Level, level_named

LADDER = tuple(zip(ROLES, (Level.PARTIAL, Level.FUNCTIONAL, Level.DISCHARGED), strict=True))
"""Each rung needs its role supported and every rung below it."""


def stated(text: str | None) -> Level | None:
    """The level that a contract's `status` states; a missing one states UNTESTED. None for a word that is no level."""
    return Level.UNTESTED if text is None else level_named(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """A level with its reasons.

    reasons  what holds the level where it is, most serious first; never empty
    once     for STALE, the highest level that the same records earned for the digests they carry
    counts   of planned trials: planned, recorded (with a record of today), survived, falsified, mutants, killed, blind
             (a mutant survived), flaky; and of records: stale
    models   names of the models on which a model trial survived today
    """

    level: Level
    reasons: tuple[str, ...]
    once: Level = Level.UNTESTED
    counts: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()


def earned(binding: Binding | None, records: Iterable[Record]) -> Earned:
    """The level of a test. Records of other tests are passed over; None, a test without falsifiers, is UNTESTED."""
    if binding is None:
        return Earned(level=Level.UNTESTED, reasons=("unbound: it names no falsifiers",), counts=_counts(None, [], 0))
    mine = [record for record in records if (record.contract, record.test) == (binding.contract, binding.test)]
    today = [record for record in mine if is_of_today(binding, record)]
    stale = [record for record in mine if not is_of_today(binding, record)]
    level, reasons = _judge(binding, today)
    if stale and not today:
        level, reasons = Level.STALE, [f"{len(stale)} records, all for other digests: {_changed(binding, stale)}"]
    return Earned(
        level=level,
        reasons=tuple(reasons),
        once=_once(stale) if level is Level.STALE else Level.UNTESTED,
        counts=_counts(binding, today, len(stale)),
        models=tuple(
            sorted({r.model.name for r in today if r.model and not r.mutant and r.outcome is Outcome.SURVIVED})
        ),
    )


def is_of_today(binding: Binding, record: Record) -> bool:
    """Whether a record is about what stands in the working tree: claim, code, model by digest, and a planned trial.

    A planned trial has one seed. Of a seed that somebody picked nobody knows how many were tried before it.
    """
    model = record.model.name if record.model else None
    return (
        record.claim == binding.claim
        and record.code == binding.code.get(record.falsifier)
        and (model is None or record.model == binding.models.get(model))
        and _has_own_seed(record)
        and any(
            (plan.role, plan.falsifier, plan.model, plan.mutant)
            == (record.role, record.falsifier, model, record.mutant)
            for plan in binding.planned
        )
    )


def _has_own_seed(record: Record) -> bool:
    model = record.model.name if record.model else None
    return record.seed == seed_of(record.contract, record.test, record.role, model)


def _judge(binding: Binding, today: list[Record]) -> tuple[Level, list[str]]:
    falsified = [r for r in today if r.outcome is Outcome.FALSIFIED and r.mutant is None]
    if falsified:
        return Level.FALSIFIED, sorted({f"FALSIFIED [{_suffix(r)}]: {r.message}" for r in falsified})
    blocks = sorted(
        {f"mutant survived [{_suffix(r)}]: the falsifier cannot see this defect" for r in today if _is_blind(r)}
        | {f"FLAKY [{_suffix(r)}]: {r.message}" for r in today if r.outcome is Outcome.FLAKY}
    )
    if blocks:
        return Level.UNTESTED, blocks
    level, held = Level.UNTESTED, list[str]()
    for role, rung in LADDER:
        lacks = _lacks(binding, role, today)
        if lacks:
            return level, [f"not {rung.value}: {lack}" for lack in lacks] + held
        level = rung
        held.append(f"{rung.value}: {role} survived, and its mutants were caught")
    return level, held


def _lacks(binding: Binding, role: str, today: list[Record]) -> list[str]:
    """What keeps a role from its rung; nothing where it is supported."""
    plans = [plan for plan in binding.planned if plan.role == role]
    if not plans:
        return [f"the test names no {role} falsifier"]
    lacks = []
    survived = [r for r in today if r.role == role and not r.mutant and r.outcome is Outcome.SURVIVED]
    caught = {r.mutant for r in today if r.role == role and r.mutant and r.outcome is Outcome.FALSIFIED}
    if not survived:
        lacks.append(f"{role} has no SURVIVED record for today's digests")
    elif role == "oracle" and not any(r.oracle and r.oracle.name and r.oracle.version for r in survived):
        lacks.append("oracle survived, but which implementation and version is not recorded")
    mutants = [plan.mutant for plan in plans if plan.mutant]
    if not mutants:
        lacks.append(f"{role} was never seen red: the test names no mutants")
    lacks += [f"mutant {name} has no record of being caught by {role}" for name in mutants if name not in caught]
    return lacks


def _is_blind(record: Record) -> bool:
    return record.mutant is not None and record.outcome is Outcome.SURVIVED


def _suffix(record: Record) -> str:
    return suffix(record.role, record.model.name if record.model else None, record.mutant)


def _once(stale: list[Record]) -> Level:
    """The highest level that records of one claim, each of its trial's own seed, earned; a role with one code each.

    The mutants of an older claim are not known any more: those that were recorded stand for them.
    """
    best = Level.UNTESTED
    for claim in {record.claim for record in stale}:
        level = Level.UNTESTED
        for role, rung in LADDER:
            batches: dict[tuple[str, str], list[Record]] = {}
            for record in stale:
                if (record.claim, record.role) == (claim, role) and _has_own_seed(record):
                    batches.setdefault((record.falsifier, record.code), []).append(record)
            if not any(_held(batch) for batch in batches.values()):
                break
            level = rung
        best = max(best, level, key=lambda level: level.worth)
    return best


def _held(batch: list[Record]) -> bool:
    speaks = all(supports(record.outcome, record.mutant) for record in batch)
    survived = any(not r.mutant and (r.role != "oracle" or r.oracle is not None) for r in batch)
    return speaks and survived and any(r.mutant for r in batch)


def _changed(binding: Binding, stale: list[Record]) -> str:
    """Which of the digests keep the records from counting."""
    reasons = set()
    for record in stale:
        model = record.model and binding.models.get(record.model.name)
        if record.claim != binding.claim:
            reasons.add("claim changed")
        if record.code != binding.code.get(record.falsifier):
            reasons.add("code changed")
        if record.model != model:
            reasons.add("model changed")
        if not _has_own_seed(record):
            reasons.add("not the trial's own seed")
    return ", ".join(sorted(reasons)) or "no such trial is planned"


def _counts(binding: Binding | None, today: list[Record], stale: int) -> dict[str, int]:
    plans = binding.planned if binding else ()
    ends: dict[str, set[Outcome]] = {}
    for record in today:
        ends.setdefault(_suffix(record), set()).add(record.outcome)
    kinds = Counter((plan.mutant is not None, frozenset(ends.get(plan.suffix, ()))) for plan in plans)

    def having(outcome: Outcome, *, mutant: bool | None = None, only: bool = False) -> int:
        return sum(
            number
            for (planted, outcomes), number in kinds.items()
            if outcome in outcomes and (mutant is None or planted is mutant) and (not only or len(outcomes) == 1)
        )

    return {
        "planned": len(plans),
        "recorded": sum(number for (_, outcomes), number in kinds.items() if outcomes),
        "survived": having(Outcome.SURVIVED, mutant=False, only=True),
        "falsified": having(Outcome.FALSIFIED, mutant=False),
        "mutants": sum(plan.mutant is not None for plan in plans),
        "killed": having(Outcome.FALSIFIED, mutant=True, only=True),
        "blind": having(Outcome.SURVIVED, mutant=True),
        "flaky": having(Outcome.FLAKY),
        "stale": stale,
    }
