"""One planned trial, from names in a contract to a record: import, plant, call, compare, say what was seen."""

import functools
import importlib
import linecache
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pv.binding import Binding, Planned, seed_of
from pv.canonical import canonical
from pv.closure import modules, undigested
from pv.config import Config, locate, registered
from pv.errors import PvError
from pv.outcome import Outcome, supports
from pv.statement import OracleSubject, Record, environment
from pv.trial import Falsified, ModelFile, Planting, Skipped, Trial, is_mutant
from pv.watch import Watch, watching

HOME = Path(__file__).resolve().parent
NO_COMMAND = "the live falsifier started no command on the model's file"
NO_COMMAND_HINT = "hint: run the installed command, with trial.model.path among its arguments"


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


class _Unfit(Exception):  # noqa: N818  (becomes ERRORED)
    """The trial cannot be made as the contract asks for it."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    outcome: Outcome
    message: str = ""
    details: str = ""
    trial: Trial | None = None


_spoiled: list[str] = []  # mutants that could not be taken out: nothing that this process sees from then on counts
_executed: dict[tuple[Path, str], set[str]] = {}
"""By project and falsifier's module: the files whose code ran while it was imported and tried. A file that was loaded
once is not loaded again, so what an earlier trial of the module did is held against its later ones."""


def run(
    binding: Binding,
    planned: Planned,
    config: Config,
    *,
    where: str,
    seed: int | None = None,
    skips: tuple[type[BaseException], ...] = (),
    twice: bool = False,
    keeping: Path | None = None,
) -> Result:
    """Make one trial and say what came of it.

    where  'contract.yaml:line', for messages
    seed   instead of the trial's own
    skips  exceptions beside Skipped that mean SKIPPED
    twice  also try a SURVIVED without a mutant again: another outcome, number of comparisons or observation is FLAKY
    keeping  the folder for outputs that are to be kept, by digest; None where nothing keeps them

    A FALSIFIED without a mutant is tried again at once with the same seed: anything but the same message is FLAKY.
    KeyboardInterrupt and the like pass through; by then every mutant is taken out.
    """
    if seed is None:
        seed = seed_of(binding.contract, binding.test, planned.role, planned.model)
    _environment()  # before an import can set a variable: what is recorded must not depend on the order of trials
    planted = ""
    try:
        if _spoiled:
            raise _Unfit(f"mutant {_spoiled[0]} could not be taken out of this process: start a new one")
        module = _module(planned.falsifier.partition(":")[0], config, f"{where}: {binding.test}")
        function = _function(module, planned, f"{where}: {binding.test}")
        planting = _planting(module, planned, f"{where}: {binding.test}")
        planted = " ".join((planting.__doc__ or "").split()) if planting else ""
        model = _model(planned, config, where)
    except Skipped as skipped:
        attempt = _Attempt(Outcome.SKIPPED, str(skipped))
    except _Unfit as unfit:
        attempt = _Attempt(Outcome.ERRORED, str(unfit.args[0]), unfit.args[1] if len(unfit.args) > 1 else "")
    else:
        attempt = _attempt(function, planting, planned, model, seed, binding.limit, config, skips, keeping)
        again_if = (Outcome.FALSIFIED, Outcome.SURVIVED) if twice else (Outcome.FALSIFIED,)
        if attempt.outcome in again_if and planned.mutant is None:
            again = _attempt(function, planting, planned, model, seed, binding.limit, config, skips, keeping)
            if differs := _differs(attempt, again):
                attempt = replace(attempt, outcome=Outcome.FLAKY, message=f"seed {seed} gave {differs}")
        try:
            _check_files(module.__name__, config, f"{where}: {binding.test}")  # again: imports may wait for the call
            if attempt.outcome is not Outcome.SKIPPED:
                _check_executed(module.__name__, config, f"{where}: {binding.test}")
        except _Unfit as unfit:
            attempt = replace(attempt, outcome=Outcome.ERRORED, message=unfit.args[0], details=unfit.args[1])
    return Result(record=_record(binding, planned, seed, attempt), planted=planted, details=attempt.details)


def _differs(one: _Attempt, other: _Attempt) -> str:
    """What came out differently when the same was tried again, the first thing of it: 'this, then that', '' if nothing.

    Of promises that were broken only the message is compared: it says what was seen.
    """
    first, then = (
        f"{attempt.outcome}" + (f" ({attempt.message})" if attempt.message else "") for attempt in (one, other)
    )
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
    return f"{name} = {canonical(_told(trial.observations[name], trial)).decode()}"


def _around(text: str, at: int) -> str:
    """The text, or what stands around a place of it where it is long."""
    return text if len(text) <= 80 else f"{text[:20]} .. {text[max(20, at - 20) : at + 20]} .."


def _record(binding: Binding, planned: Planned, seed: int, attempt: _Attempt) -> Record:
    trial = attempt.trial
    oracle = trial.oracle_used if trial else None
    return Record(
        contract=binding.contract,
        test=binding.test,
        role=planned.role,
        falsifier=planned.falsifier,
        mutant=planned.mutant,
        model=binding.models[planned.model] if planned.model else None,
        oracle=OracleSubject(name=oracle[0], version=oracle[1]) if oracle else None,
        outcome=attempt.outcome,
        message=attempt.message,
        seed=seed,
        comparisons=trial.comparisons if trial else 0,
        observations={name: _told(value, trial) for name, value in trial.observations.items()} if trial else {},
        outputs=dict(trial.outputs) if trial else {},
        artifacts=dict(trial.artifacts) if trial and not planned.mutant else {},  # nobody asks for a defect's output
        claim=binding.claim,
        code=binding.code[planned.falsifier],
        environment=_environment(),
    )


@functools.cache
def _environment() -> dict[str, str]:
    return environment()


def _module(name: str, config: Config, where: str) -> ModuleType:
    """Import the falsifier's module, and make sure that it and what it imports are the files of the digest."""
    for folder in reversed(config.sources):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
    try:
        with _executing(name, config):
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        _check_files(name, config, where)  # a module of another place may be why
        raise _Unfit(f"{where}: {name} cannot be imported: {_one_line(error)}", _frames(error, config.root)) from None
    _check_files(name, config, where)
    return module


def _check_files(name: str, config: Config, where: str) -> None:
    """_Unfit where a module of the falsifier's closure was loaded from another file than the one that is digested.

    A copy in site-packages may lie below the project's root, in its .venv: the folder says nothing, the file does.
    """
    try:
        digested = modules(name, config)
    except PvError as error:
        head, _, hint = str(error).partition("\n")
        raise _Unfit(f"{where}: {head}", hint.strip()) from None
    for file, loaded in sorted(digested.items()):
        if sys.modules.get(loaded) is None:
            continue
        origin = getattr(sys.modules[loaded], "__file__", None)
        if origin is None or Path(origin).resolve() != file.resolve():
            raise _Unfit(
                f"{where}: {loaded} was imported from {origin or 'no file'}, and the project's is {file}: "
                "what it does would be recorded under the digest of other code",
                "hint: install the project in place: pip install -e .",
            )


@contextmanager
def _executing(name: str, config: Config) -> Iterator[Watch]:
    """Watch what runs inside the block on behalf of the falsifier's module."""
    with watching() as watch:
        try:
            yield watch
        finally:
            _executed.setdefault((config.root, name), set()).update(watch.files)


def _check_executed(name: str, config: Config, where: str) -> None:
    """_Unfit where first-party code ran of which the digest knows nothing: it could change and nobody would notice."""
    loose = undigested(name, _executed.get((config.root, name), ()), config)
    if loose:
        raise _Unfit(
            f"{where}: {loose[0]} was executed, and the digest of {name} does not cover it",
            "hint: import it by a literal name, so that a change of it is noticed",
        )


def _function(module: ModuleType, planned: Planned, where: str) -> Any:
    name = planned.falsifier.partition(":")[2]
    function = getattr(module, name, None)
    if not callable(function) or is_mutant(function):
        known = [key for key, value in vars(module).items() if callable(value) and not is_mutant(value)]
        raise _Unfit(f"{where}: no function {name!r} in {module.__name__}", _near(name, known))
    return function


def _planting(module: ModuleType, planned: Planned, where: str) -> Planting | None:
    if planned.mutant is None:
        return None
    candidate = getattr(module, planned.mutant, None)
    if candidate is None:
        known = [key for key, value in vars(module).items() if is_mutant(value)]
        raise _Unfit(f"{where}: no mutant {planned.mutant!r} in {module.__name__}", _near(planned.mutant, known))
    if not is_mutant(candidate):
        raise _Unfit(f"{where}: {module.__name__}.{planned.mutant} is no mutant", "hint: decorate it with @mutant")
    planting: Planting = candidate
    return planting


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"hint: did you mean {close[0]!r}?" if close else ""


def _model(planned: Planned, config: Config, where: str) -> ModelFile | None:
    if planned.model is None:
        return None
    try:
        model = registered(config, planned.model, where=where)
        path = locate(model)
    except PvError as error:
        head, _, hint = str(error).partition("\n")
        raise _Unfit(head, hint.strip()) from None
    if path is None:
        raise Skipped(f"model {planned.model} is not on this machine; obtain it with `apr pull {planned.model}`")
    return ModelFile(name=model.name, path=path, sha256=model.sha256)


def _attempt(
    function: Any,
    planting: Planting | None,
    planned: Planned,
    model: ModelFile | None,
    seed: int,
    limit: float | None,
    config: Config,
    skips: tuple[type[BaseException], ...],
    keeping: Path | None,
) -> _Attempt:
    """Call the falsifier once, the mutant planted around it, in a fresh trial."""
    module = planned.falsifier.partition(":")[0]
    mutant = f"{module}:{planned.mutant}" if planned.mutant else None
    keeping = None if planned.mutant else keeping
    trial = Trial(seed=seed, model=model, mutant=mutant, limit=limit, keeping=keeping)
    try:
        with _executing(module, config) as watch, warnings.catch_warnings():
            warnings.simplefilter("default")  # what came of a trial must not depend on the runner's filter of warnings
            attempt = _called(function, planting, trial, planned, config, skips)
        arguments = (argument for command in watch.commands for argument in command)
        if (
            planned.role == "live"
            and model
            and supports(attempt.outcome, planned.mutant)  # nothing else could turn anything green
            and not any(_names(model, argument) for argument in arguments)
        ):
            return replace(attempt, outcome=Outcome.ERRORED, message=NO_COMMAND, details=NO_COMMAND_HINT)
        return attempt
    finally:
        if "folder" in vars(trial):
            shutil.rmtree(trial.folder, ignore_errors=True)


def _names(model: ModelFile, argument: str) -> bool:
    """Whether an argument of a command, or a shell's text, holds the model's path or its name as a word."""
    paths = {str(model.path), str(model.path.resolve())}
    return any(path in argument for path in paths) or model.name in argument.replace("=", " ").split()


def _called(
    function: Any,
    planting: Planting | None,
    trial: Trial,
    planned: Planned,
    config: Config,
    skips: tuple[type[BaseException], ...],
) -> _Attempt:
    attempt: _Attempt | None = None
    passing: BaseException | None = None
    try:
        with planting() if planting else nullcontext():
            # Nothing is thrown into the mutant: even one without try/finally takes its defect out.
            try:
                attempt = _judged(function, trial, planned, config, skips)
            except BaseException as error:
                passing = error
    except (Exception, SystemExit) as error:
        if attempt is None and passing is None:
            return _Attempt(
                Outcome.ERRORED,
                f"mutant {planned.mutant} could not be planted: {_one_line(error)}",
                _frames(error, config.root),
                trial,
            )
        _spoiled.append(str(trial.mutant))
        message = f"mutant {planned.mutant} could not be taken out: {_one_line(error)}"
        attempt = _Attempt(Outcome.ERRORED, message, _frames(error, config.root), trial)
    if passing is not None:
        raise passing
    assert attempt is not None
    return attempt


def _judged(
    function: Any, trial: Trial, planned: Planned, config: Config, skips: tuple[type[BaseException], ...]
) -> _Attempt:
    """The attempt that a call of the falsifier amounts to."""
    skipping: tuple[type[BaseException], ...] = (Skipped, *skips)
    try:
        function(trial)
    except Falsified as falsified:
        message = str(falsified) or trial.falsified or "no message given"
        return _Attempt(Outcome.FALSIFIED, _told(message, trial), "", trial)
    except skipping as skipped:
        if trial.falsified is None:
            return _Attempt(Outcome.SKIPPED, _told(str(skipped), trial) or "no reason given", "", trial)
    except (Exception, SystemExit) as error:
        if trial.falsified is None:
            hint = "\nhint: an assert is no comparison: use trial.check" if isinstance(error, AssertionError) else ""
            details = _frames(error, config.root) + hint
            return _Attempt(Outcome.ERRORED, _told(_one_line(error), trial), _told(details, trial), trial)
    if trial.falsified is not None:  # its exception was caught on the way
        return _Attempt(Outcome.FALSIFIED, _told(trial.falsified, trial), "", trial)
    if trial.comparisons == 0:
        return _Attempt(Outcome.ERRORED, "the falsifier made no comparison", "hint: use trial.check, equal", trial)
    if planned.role == "oracle" and trial.oracle_used is None:
        return _Attempt(Outcome.ERRORED, "the falsifier named no oracle", "hint: trial.oracle(name, version)", trial)
    return _Attempt(Outcome.SURVIVED, "", "", trial)


def _told(value: Any, trial: Trial) -> Any:
    """The value without the name of the trial's folder, which differs from run to run."""
    if isinstance(value, str) and "folder" in vars(trial):
        return value.replace(str(trial.folder), "<folder>")
    if isinstance(value, list):
        return [_told(element, trial) for element in value]
    if isinstance(value, dict):
        return {key: _told(element, trial) for key, element in value.items()}
    return value


def _one_line(error: BaseException) -> str:
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    return text if len(text) <= 300 else text[:300] + " .."


def _frames(error: BaseException, root: Path) -> str:
    """The traceback as the author should see it: the frames of his project, without those of pv, and the error."""
    linecache.checkcache()
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in told.stack if Path(frame.filename).resolve().is_relative_to(root)]
    told.stack = traceback.StackSummary.from_list(
        [
            traceback.FrameSummary(os.path.relpath(frame.filename, root), frame.lineno, frame.name, line=frame.line)
            for frame in own
            if not Path(frame.filename).resolve().is_relative_to(HOME)
        ]
    )
    return "".join(told.format(chain=False)).rstrip("\n")
