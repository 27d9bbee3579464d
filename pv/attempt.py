"""One call of a falsifier, its mutant planted around it, and what the call amounts to."""

import shutil
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pv.account import Account, account_of
from pv.binding import Planned
from pv.config import Config
from pv.guards import UNREAD_HINT, joined, tampered, unread, unseen
from pv.loading import executing, frames, one_line
from pv.outcome import Outcome, supports
from pv.patching import noted
from pv.trial import Falsified, ModelFile, Planting, Skipped, Trial

NO_COMMAND = "the live falsifier started no command on the model's file"
MISPLACED_HINT = "hint: patch the module of the subject, and let the falsifier call it there: `module.function(..)`"
UNMEASURED = "the contract states a tolerance for this test, and the falsifier never read trial.tolerance"
UNMEASURED_HINT = "hint: compare with trial.tolerance, or take the tolerance out of the contract: it holds nothing"
NO_COMMAND_HINT = "hint: run the installed command, with trial.model.path among its arguments"

Kinds = tuple[type[BaseException], ...]

_spoiled: list[str] = []  # mutants that could not be taken out: nothing that this process sees from then on counts


def spoiled() -> str:
    """The mutant that could not be taken out of this process, '' if there is none."""
    return _spoiled[0] if _spoiled else ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one call."""

    outcome: Outcome
    message: str = ""
    details: str = ""
    trial: Trial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is called, and how.

    skips    exceptions beside Skipped that mean SKIPPED
    digested  files beside the model whose digests stand in the record
    keeping  the folder for outputs that are to be kept, by digest; None where nothing keeps them
    passing  exceptions that are none of the falsifier's: they pass through, once the mutant is taken out
    """

    function: Any
    planting: Planting | None
    planned: Planned
    model: ModelFile | None
    seed: int
    limit: float | None
    config: Config
    skips: Kinds
    passing: Kinds
    digested: tuple[Path, ...] = ()
    keeping: Path | None = None


def attempt(task: Task) -> Attempt:
    """Call the falsifier once, the mutant planted around it, in a fresh trial."""
    planned, module = task.planned, task.planned.falsifier.partition(":")[0]
    mutant = f"{module}:{planned.mutant}" if planned.mutant else None
    keeping = None if mutant else task.keeping
    trial = Trial(seed=task.seed, model=task.model, mutant=mutant, limit=task.limit, keeping=keeping)
    account = account_of(trial)
    own = [*task.digested, *([task.model.path] if task.model else [])]
    try:
        with executing(module, task.config, own) as watch, warnings.catch_warnings():
            warnings.simplefilter("default")  # what came of a trial must not depend on the runner's filter of warnings
            with unseen(account):
                made = _called(task, trial)
            own += [account.folder] if account.folder else []
        arguments = (argument for command in watch.commands for argument in command)
        if (
            planned.role == "live"
            and task.model
            and supports(made.outcome, planned.mutant)  # nothing else could turn anything green
            and not any(_names(task.model, argument) for argument in arguments)
        ):
            return replace(made, outcome=Outcome.ERRORED, message=NO_COMMAND, details=NO_COMMAND_HINT)
        return made
    finally:
        if account.folder is not None:
            shutil.rmtree(account.folder, ignore_errors=True)


def _names(model: ModelFile, argument: str) -> bool:
    """Whether an argument of a command, or a shell's text, holds the model's path or its name as a word."""
    paths = {str(model.path), str(model.path.resolve())}
    return any(path in argument for path in paths) or model.name in argument.replace("=", " ").split()


def _called(task: Task, trial: Trial) -> Attempt:
    made: Attempt | None = None
    passing: BaseException | None = None
    mutant, root = task.planned.mutant, task.config.root
    home = task.planned.falsifier.partition(":")[0]
    noted()  # what was patched before is none of this mutant's
    try:
        with task.planting() if task.planting else nullcontext():
            misplaced = noted() == {home}
            # Nothing is thrown into the mutant: even one without try/finally takes its defect out.
            try:
                made = _misplaced(mutant, home, trial) if misplaced else _judged(task, trial)
            except BaseException as error:
                passing = error
    except task.passing:
        raise
    except BaseException as error:
        if made is None and passing is None:
            message = f"mutant {mutant} could not be planted: {one_line(error)}"
            return Attempt(Outcome.ERRORED, message, frames(error, root), trial)
        _spoiled.append(str(account_of(trial).mutant))
        made = Attempt(
            Outcome.ERRORED, f"mutant {mutant} could not be taken out: {one_line(error)}", frames(error, root), trial
        )
    if passing is not None:
        raise passing
    assert made is not None
    return made


def _misplaced(mutant: str | None, home: str, trial: Trial) -> Attempt:
    message = f"mutant {mutant} patches {home} alone, the falsifier's own module: no defect is in the subject"
    return Attempt(Outcome.ERRORED, message, MISPLACED_HINT, trial)


def _judged(task: Task, trial: Trial) -> Attempt:
    """The attempt that a call of the falsifier amounts to."""
    account = account_of(trial)
    ended = _ended(task, trial)
    if changed := tampered():
        account.spoil(f"the falsifier or its mutant changed {changed}, with which it is judged")
    if account.invalid is not None and (account.falsified is None or account.mutant is not None):
        return Attempt(Outcome.ERRORED, told(account.invalid, trial), told(ended.details, trial), trial)
    if account.falsified is not None and ended.outcome is not Outcome.FALSIFIED:  # its exception was caught on the way
        return Attempt(Outcome.FALSIFIED, told(account.falsified, trial), "", trial)
    return replace(ended, message=told(ended.message, trial), details=told(ended.details, trial))


def _ended(task: Task, trial: Trial) -> Attempt:
    """How the call itself ended, and whether it compared what it had to."""
    account, root = account_of(trial), task.config.root
    skipping: Kinds = (Skipped, *task.skips)
    try:
        with joined(account):
            returned = task.function(trial)
    except Falsified as falsified:
        return _falsified(falsified, account, trial)
    except skipping as skipped:
        return Attempt(Outcome.SKIPPED, _text(skipped) or "no reason given", "", trial)
    except task.passing:
        raise
    except BaseException as error:
        hint = "\nhint: an assert is no comparison: use trial.check" if isinstance(error, AssertionError) else ""
        return Attempt(Outcome.ERRORED, one_line(error), frames(error, root) + hint, trial)
    if why := unread(returned):
        return Attempt(Outcome.ERRORED, why, UNREAD_HINT, trial)
    if account.comparisons == 0:
        return Attempt(Outcome.ERRORED, "the falsifier made no comparison", "hint: use trial.check, equal", trial)
    if task.planned.role == "oracle" and account.oracle_used is None:
        return Attempt(Outcome.ERRORED, "the falsifier named no oracle", "hint: trial.oracle(name, version)", trial)
    if task.limit is not None and not account.measured:
        return Attempt(Outcome.ERRORED, UNMEASURED, UNMEASURED_HINT, trial)
    return Attempt(Outcome.SURVIVED, "", "", trial)


def _falsified(falsified: Falsified, account: Account, trial: Trial) -> Attempt:
    if account.falsified is None and account.mutant is not None:
        return Attempt(
            Outcome.ERRORED,
            f"Falsified was raised, and no comparison failed: {_text(falsified)}",
            "hint: a mutant plants a defect, and a comparison of the trial has to notice it: use trial.check, equal",
            trial,
        )
    return Attempt(Outcome.FALSIFIED, _text(falsified) or account.falsified or "no message given", "", trial)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"a {type(error).__name__} whose text raises {type(broken).__name__}"


def told(value: Any, trial: Trial) -> Any:
    """The value without the name of the trial's folder, which differs from run to run."""
    folder = account_of(trial).folder
    if isinstance(value, str) and folder is not None:
        return value.replace(str(folder), "<folder>")
    if isinstance(value, list):
        return [told(element, trial) for element in value]
    if isinstance(value, dict):
        return {key: told(element, trial) for key, element in value.items()}
    return value
