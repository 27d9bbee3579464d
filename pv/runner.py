"""One planned trial, from names in a contract to a record: import, plant, call, compare, say what was seen."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from pv.attempt import Attempt, Kinds, Task, attempt, spoiled, told
from pv.binding import Binding, Planned, seed_of
from pv.canonical import canonical
from pv.config import Config
from pv.environment import value_of
from pv.loading import (
    Unfit,
    check_files,
    check_reach,
    check_untouched,
    check_used,
    function_of,
    model_of,
    module_of,
    planting_of,
)
from pv.outcome import Outcome
from pv.statement import OracleSubject, Record, environment
from pv.trial import Skipped, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a trial came to.

    record   what is kept as evidence, if the outcome observed something
    planted  the sentence that says which defect was planted; empty without a mutant
    details  for ERRORED: the author's own frames of the traceback, and the hint
    """

    record: Record
    planted: str = ""
    details: str = ""


def run(
    binding: Binding,
    planned: Planned,
    config: Config,
    *,
    where: str,
    seed: int | None = None,
    skips: Kinds = (),
    passing: Kinds = (KeyboardInterrupt,),
    twice: bool = False,
    keeping: Path | None = None,
) -> Result:
    """Make one trial and say what came of it.

    where  'contract.yaml:line', for messages
    seed   instead of the trial's own
    skips  exceptions beside Skipped that mean SKIPPED; passing: those that are no outcome, as of a run that is stopped
    twice  also try a SURVIVED without a mutant again: another outcome, number of comparisons or observation is FLAKY
    keeping  the folder for outputs that are to be kept, by digest; None where nothing keeps them

    A FALSIFIED without a mutant is tried again at once with the same seed: anything but the same message is FLAKY.
    What passes through does so when every mutant is taken out.
    """
    if seed is None:
        seed = seed_of(binding.contract, binding.test, planned.role, planned.model)
    _environment()  # before an import can set a variable: what is recorded must not depend on the order of trials
    planted, named = "", f"{where}: {binding.test}"
    skipping: Kinds = (Skipped, *skips)
    try:
        if mutant := spoiled():
            raise Unfit(f"mutant {mutant} could not be taken out of this process: start a new one")
        check_reach(planned.falsifier.partition(":")[0], config, named)
        module = module_of(planned.falsifier.partition(":")[0], config, named, passing=(*passing, *skipping))
        function = function_of(module, planned, named)
        planting = planting_of(module, planned, named)
        planted = " ".join((planting.__doc__ or "").split()) if planting else ""
        model = model_of(planned, config, where)
        check_untouched(module.__name__, config, named)
    except skipping as skipped:
        made = Attempt(Outcome.SKIPPED, str(skipped) or "no reason given")
    except Unfit as unfit:
        made = Attempt(Outcome.ERRORED, unfit.message, unfit.details)
    else:
        task = Task(
            function=function,
            planting=planting,
            planned=planned,
            model=model,
            seed=seed,
            limit=binding.limit,
            config=config,
            skips=skips,
            passing=passing,
            digested=(binding.document,) if binding.document else (),
            keeping=keeping,
        )
        made = _tried(task, twice=twice)
        try:
            check_files(module.__name__, config, named)  # again: imports may wait for the call
            if made.outcome is not Outcome.SKIPPED:
                check_used(module.__name__, config, named)
        except Unfit as unfit:
            made = replace(made, outcome=Outcome.ERRORED, message=unfit.message, details=unfit.details)
    return Result(record=_record(binding, planned, seed, made), planted=planted, details=made.details)


def _tried(task: Task, *, twice: bool) -> Attempt:
    """One attempt, or two that have to come out alike."""
    made = attempt(task)
    again_if = (Outcome.FALSIFIED, Outcome.SURVIVED) if twice else (Outcome.FALSIFIED,)
    if made.outcome in again_if and task.planned.mutant is None and (differs := _differs(made, attempt(task))):
        return replace(made, outcome=Outcome.FLAKY, message=f"seed {task.seed} gave {differs}")
    return made


def _differs(one: Attempt, other: Attempt) -> str:
    """What came out differently when the same was tried again, the first thing of it: 'this, then that', '' if nothing.

    Of promises that were broken only the message is compared: it says what was seen.
    """
    first, then = (f"{made.outcome}" + (f" ({made.message})" if made.message else "") for made in (one, other))
    if first != then:
        return f"{first}, then {then}"
    if one.outcome is not Outcome.SURVIVED or one.trial is None or other.trial is None:
        return ""
    if one.trial.comparisons != other.trial.comparisons:
        return f"number of comparisons = {one.trial.comparisons}, then {other.trial.comparisons}"
    for name in dict.fromkeys((*one.trial.observations, *other.trial.observations)):
        first, then = (_observed(name, trial) for trial in (one.trial, other.trial))
        if first != then:
            at = next((i for i, (a, b) in enumerate(zip(first, then, strict=False)) if a != b), 0)
            return f"{_around(first, at)}, then {_around(then, at)}"
    for name in dict.fromkeys((*one.trial.outputs, *other.trial.outputs)):
        first, then = (trial.outputs.get(name, "nothing") for trial in (one.trial, other.trial))
        if first != then:
            return f"output {name} = {first[:12]}, then {then[:12]}"
    if one.trial.oracle_used != other.trial.oracle_used:
        first, then = ("oracle " + " ".join(trial.oracle_used or ("none",)) for trial in (one.trial, other.trial))
        return f"{first}, then {then}"
    return ""


def _observed(name: str, trial: Trial) -> str:
    if name not in trial.observations:
        return f"no {name}"
    return f"{name} = {canonical(told(trial.observations[name], trial)).decode()}"


def _around(text: str, at: int) -> str:
    """The text, or what stands around a place of it where it is long."""
    return text if len(text) <= 80 else f"{text[:20]} .. {text[max(20, at - 20) : at + 20]} .."


def _record(binding: Binding, planned: Planned, seed: int, made: Attempt) -> Record:
    trial = made.trial
    oracle = trial.oracle_used if trial else None
    return Record(
        contract=binding.contract,
        test=binding.test,
        role=planned.role,
        falsifier=planned.falsifier,
        mutant=planned.mutant,
        model=binding.models[planned.model] if planned.model else None,
        oracle=OracleSubject(name=oracle[0], version=oracle[1]) if oracle else None,
        outcome=made.outcome,
        message=made.message,
        seed=seed,
        comparisons=trial.comparisons if trial else 0,
        observations={name: told(value, trial) for name, value in trial.observations.items()} if trial else {},
        outputs=trial.outputs if trial else {},
        artifacts=trial.artifacts if trial and not planned.mutant else {},  # nobody asks for a defect's output
        claim=binding.claim,
        code=binding.code[planned.falsifier],
        packages=binding.packages.get(planned.falsifier, {}),
        variables={name: value_of(name) for name in binding.variables.get(planned.falsifier, ())},
        environment=_environment(),
    )


@functools.cache
def _environment() -> dict[str, str]:
    return environment()
