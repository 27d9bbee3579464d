"""The level that a test has earned: a pure function of what it plans and of what was recorded.

| level                   | what it demands, all of it for the digests of today                               |
|-------------------------|-----------------------------------------------------------------------------------|
| UNTESTED                | nothing                                                                           |
| PARTIAL_ALGORITHM_LEVEL | algorithm SURVIVED, and it was seen red: each mutant, one at least, FALSIFIED      |
| FUNCTIONAL              | PARTIAL, live SURVIVED on each model that the test names, by digest, and each      |
|                         | mutant FALSIFIED by it                                                            |
| DISCHARGED              | FUNCTIONAL, oracle SURVIVED on each, its name and version recorded, each mutant    |
|                         | FALSIFIED; or live put out the same on two distinct machines at least, on each    |
| FALSIFIED               | a promise was FALSIFIED: outranks everything                                      |
| STALE                   | there are records, all of them for other digests: worth nothing                   |

A role is supported by records that were made under the same values of the environment variables that its falsifier
declares; that there are others is told.

A FLAKY record and a mutant that SURVIVED block every level above UNTESTED. Order and copies do not matter, and taking a
supporting record away never raises a level. A record supports only if a believed run lists it; what speaks against a
test counts whoever wrote it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pv.binding import Binding, Planned, seed_of
from pv.evidence.folder import Kept
from pv.evidence.machine import Machine, distinct
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
    recorded  when what supports the level was seen: of each supported trial its newest run, of these the oldest; RFC
             3339 in UTC, or None where nothing supports
    machines  on how many distinct machines, at least, each promise that survived was seen to survive
    evidence  digests of the records of today, sorted
    comparisons  by trial that a record of today supports, how many comparisons were made; of several machines, the most
    variables  of falsifiers whose records were made under different environment variables, which; reasons hold it too
    """

    level: Level
    reasons: tuple[str, ...]
    once: Level = Level.UNTESTED
    counts: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    recorded: str | None = None
    machines: int = 0
    evidence: tuple[str, ...] = ()
    comparisons: Mapping[str, int] = field(default_factory=dict)
    variables: tuple[str, ...] = ()


def earned(binding: Binding | None, kept: Iterable[Kept], left_out: int = 0) -> Earned:
    """The level of a test. Records of other tests are passed over; None, a test without falsifiers, is UNTESTED.

    left_out  how many more records there are, of other claims: they count as stale, which decides nothing beside one
              of today
    """
    if binding is None:
        return Earned(level=Level.UNTESTED, reasons=("unbound: it names no falsifiers",), counts=_counts(None, [], 0))
    own: list[Kept] = []
    stale: list[Record] = []
    for one in kept:
        if (one.record.contract, one.record.test) == (binding.contract, binding.test):
            if is_of_today(binding, one.record):
                own.append(one)
            else:
                stale.append(one.record)
    today = [one.record for one in own if one.runs or not supports(one.record.outcome, one.record.mutant)]
    level, reasons = _judge(binding, today, [one for one in own if one.runs])
    reasons += (apart := _under_different(today))
    if idle := len(own) - len(today):
        reasons.append(f"{idle} records of today support nothing: no believed run lists them")
    if stale and not own:
        level, reasons = Level.STALE, [f"{len(stale)} records, all for other digests: {_changed(binding, stale)}"]
    return Earned(
        level=level,
        reasons=tuple(reasons),
        once=_once(stale) if level is Level.STALE else Level.UNTESTED,
        counts=_counts(binding, today, len(stale) + left_out),
        models=tuple(
            sorted({r.model.name for r in today if r.model and not r.mutant and r.outcome is Outcome.SURVIVED})
        ),
        recorded=_recorded(own),
        machines=min(map(distinct, _machines(own).values()), default=0),
        evidence=tuple(sorted(one.digest for one in own)),
        comparisons=_comparisons(own),
        variables=tuple(apart),
    )


def _recorded(own: list[Kept]) -> str | None:
    newest: dict[str, str] = {}
    for one in own:
        if one.runs and supports(one.record.outcome, one.record.mutant):
            trial = _suffix(one.record)
            newest[trial] = max(newest.get(trial, ""), *(run.time for run in one.runs))
    return min(newest.values(), default=None)


def _comparisons(own: list[Kept]) -> dict[str, int]:
    most: dict[str, int] = {}
    for one in own:
        if one.runs and supports(one.record.outcome, one.record.mutant):
            trial = _suffix(one.record)
            most[trial] = max(most.get(trial, 0), one.record.comparisons)
    return most


def _machines(own: list[Kept]) -> dict[str, set[Machine]]:
    """By trial of a promise that survived: the machines that saw it."""
    seen: dict[str, set[Machine]] = {}
    for one in own:
        if one.runs and one.record.mutant is None and one.record.outcome is Outcome.SURVIVED:
            seen.setdefault(_suffix(one.record), set()).update(run.machine for run in one.runs)
    return seen


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


def _judge(binding: Binding, today: list[Record], kept: list[Kept]) -> tuple[Level, list[str]]:
    """The level that records of today earn; `kept` are those of them that a believed run lists."""
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
        if lacks and rung is Level.DISCHARGED:
            apart = _apart(binding, kept)
            if not apart:
                return rung, [f"{rung.value}: live put out the same on distinct machines", *held]
            lacks.append(apart)
        if lacks:
            return level, [f"not {rung.value}: {lack}" for lack in lacks] + held
        level = rung
        held.append(f"{rung.value}: {role} survived, and its mutants were caught")
    return level, held


def _apart(binding: Binding, kept: list[Kept]) -> str:
    """Why the outputs of the live trials do not show agreement of two machines; '' if they do."""
    for plan in binding.planned:
        if plan.role != "live" or plan.mutant is not None:
            continue
        mine = [one for one in kept if not one.record.mutant and _suffix(one.record) == plan.suffix]
        if not any(one.record.outputs for one in mine):
            return f"nor does live put out anything on {plan.model} that another machine could agree with"
        if any(one.record.outputs != mine[0].record.outputs for one in mine):
            return f"nor do all machines put out the same on {plan.model}"
        number = distinct(run.machine for one in mine for run in one.runs)
        if number < 2:
            return f"nor was the output on {plan.model} seen on a second machine"
    return ""


def _lacks(binding: Binding, role: str, today: list[Record]) -> list[str]:
    """What keeps a role from its rung; nothing where it is supported, under one set of values of its variables."""
    plans = [plan for plan in binding.planned if plan.role == role]
    if not plans:
        return [f"the test names no {role} falsifier"]
    batches: dict[str, list[Record]] = {}
    for record in today:
        if record.role == role:
            batches.setdefault(_under(record), []).append(record)
    told = [_missing(role, plans, batch) for _, batch in sorted(batches.items())] or [_missing(role, plans, [])]
    return min(told, key=len)


def _missing(role: str, plans: list[Planned], batch: list[Record]) -> list[str]:
    lacks = []
    survived = [r for r in batch if not r.mutant and r.outcome is Outcome.SURVIVED]
    caught = {r.mutant for r in batch if r.mutant and r.outcome is Outcome.FALSIFIED}
    for plan in plans:
        if plan.mutant is not None:
            continue
        mine = [r for r in survived if (r.model.name if r.model else None) == plan.model]
        if not mine:
            lacks.append(f"{plan.suffix} has no SURVIVED record for today's digests")
        elif role == "oracle" and not any(r.oracle and r.oracle.name and r.oracle.version for r in mine):
            lacks.append(f"{plan.suffix} survived, but which implementation and version is not recorded")
    mutants = [plan.mutant for plan in plans if plan.mutant]
    if not mutants:
        lacks.append(f"{role} was never seen red: the test names no mutants")
    lacks += [f"mutant {name} has no record of being caught by {role}" for name in mutants if name not in caught]
    return lacks


def _under(record: Record) -> str:
    """The variables under which a record was made, as a text."""
    told = (f"{name}={value!r}" if value is not None else f"no {name}" for name, value in record.variables.items())
    return ", ".join(sorted(told))


def _under_different(today: list[Record]) -> list[str]:
    """Of each falsifier whose records were made under different values of its variables, which."""
    values: dict[str, set[str]] = {}
    for record in today:
        values.setdefault(record.falsifier, set()).add(_under(record))
    return [
        f"records of {falsifier} were made under different variables: {'; '.join(sorted(under))}"
        for falsifier, under in sorted(values.items())
        if len(under) > 1
    ]


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
            today = binding.packages.get(record.falsifier, {})
            changed = sorted(name for name in record.packages.keys() & today if record.packages[name] != today[name])
            reasons.add("code changed" + (f" in {', '.join(changed)}" if changed else ""))
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
