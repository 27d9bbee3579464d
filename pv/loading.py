"""From the names in a contract to what they mean: the falsifier's module, its function, the mutant, the model file.

What runs and what is read on the way is watched: it must be the files of the digest, and no others of the project.
"""

import importlib
import linecache
import os
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pv.account import Account
from pv.binding import Planned
from pv.bytecode import check_bytecode
from pv.closure import module_file, modules
from pv.compiled import check_caches
from pv.config import Config, locate, registered
from pv.environment import ALL, Used
from pv.errors import PvError
from pv.guards import unseen
from pv.reaching import reaching
from pv.referred import referred
from pv.trial import ModelFile, Planting, Skipped, is_mutant
from pv.undigested import HOME as JUDGE
from pv.undigested import unannounced, undeclared, undigested
from pv.untouched import touched
from pv.watch import Watch, session, watching

HOME = Path(__file__).resolve().parent


class Unfit(Exception):  # noqa: N818  (becomes ERRORED)
    """The trial cannot be made as the contract asks for it: the message, and perhaps details."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message, self.details = message, details


_executed: dict[tuple[Path, str], set[str]] = {}
"""By project and falsifier's module: the files whose code ran while it was imported and tried. A file that was loaded
once is not loaded again, so what an earlier trial of the module did is held against its later ones."""
_loaded: dict[Path, set[tuple[str, str]]] = {}
"""By project, the files whose code ran, with the module that was being imported meanwhile, for whomever that was."""
_opened: dict[tuple[Path, str], set[Used]] = {}
"""The same of the files that were read, and who read them, but for what is the own of the trial that read it."""
_asked: dict[tuple[Path, str], set[Used]] = {}
"""The same of the environment variables that were asked for, and who asked."""


def module_of(
    name: str, config: Config, where: str, *, passing: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
) -> ModuleType:
    """Import the falsifier's module, and make sure that it and what it imports are the files of the digest."""
    for folder in reversed(config.sources):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
    try:
        check_bytecode(_digested(name, config, where))
    except PvError as error:
        raise _unfit(error, where) from None
    try:
        with executing(name, config), unseen(Account()):
            module = importlib.import_module(name)
    except passing:
        raise
    except BaseException as error:
        check_files(name, config, where)  # a module of another place may be why
        raise Unfit(f"{where}: {name} cannot be imported: {one_line(error)}", frames(error, config.root)) from None
    check_files(name, config, where)
    return module


def check_files(name: str, config: Config, where: str) -> None:
    """Unfit where what was loaded of the falsifier's closure is not, or may not be, what the digested files say.

    A copy in site-packages may lie below the project's root, in its .venv: the folder says nothing, the file does.
    """
    digested = _digested(name, config, where)
    for file, loaded in sorted(digested.items()):
        if sys.modules.get(loaded) is None:
            continue
        origin = getattr(sys.modules[loaded], "__file__", None)
        if origin is None or Path(origin).resolve() != file.resolve():
            raise Unfit(
                f"{where}: {loaded} was imported from {origin or 'no file'}, and the project's is {file}: "
                "what it does would be recorded under the digest of other code",
                "hint: install the project in place: pip install -e .",
            )
    try:
        check_caches(digested.values())
    except PvError as error:
        raise _unfit(error, where) from None


def check_reach(name: str, config: Config, where: str) -> None:
    """Unfit where the falsifier's closure names what pv keeps of a trial."""
    if reached := reaching(_digested(name, config, where)):
        file, line, named = reached
        raise Unfit(
            f"{where}: {os.path.relpath(file, config.root)}:{line} names {named}: it reaches into the account of its "
            "own trial",
            "hint: a falsifier says what it saw by the methods of its trial, and needs nothing of pv but pv.trial",
        )


def check_untouched(name: str, config: Config, where: str) -> None:
    """Unfit where a loaded module of the falsifier's closure is no longer what its file says."""
    if changed := touched(_digested(name, config, where)):
        module, what, file, line = changed
        raise Unfit(
            f"{where}: {module}.{what} is not what {os.path.relpath(file, config.root)}:{line} says: it was changed by "
            "something outside the falsifier's imports: a conftest, another module or test",
            "hint: let what changed it take that back (an earlier trial can be it too), or run the trials in a process "
            "of their own; a file that was edited since it was imported needs a new process",
        )


def _digested(name: str, config: Config, where: str) -> dict[Path, str]:
    try:
        return modules(name, config)
    except PvError as error:
        raise _unfit(error, where) from None


def _unfit(error: PvError, where: str) -> Unfit:
    head, _, hint = str(error).partition("\n")
    return Unfit(f"{where}: {head}", hint.strip())


@contextmanager
def executing(name: str, config: Config, own: Collection[Path] = ()) -> Iterator[Watch]:
    """Watch what runs inside the block on behalf of the falsifier's module.

    own  files whose digests stand in the record, and folders that are the trial's: what is read of them is not held
         against it
    """
    with watching() as watch:
        try:
            yield watch
        finally:
            places = {place for path in own for place in (path, path.resolve())}
            foreign = {one for one in watch.opened if places.isdisjoint((Path(one[0]), *Path(one[0]).parents))}
            _executed.setdefault((config.root, name), set()).update(watch.files)
            _loaded.setdefault(config.root, set()).update(watch.loaded)
            _opened.setdefault((config.root, name), set()).update(foreign if places else watch.opened)
            _asked.setdefault((config.root, name), set()).update(watch.asked)


def check_used(name: str, config: Config, where: str) -> None:
    """Unfit where first-party code ran, data was read or a variable asked for of which a record would hold nothing."""
    covered, between = modules(name, config), session()
    if between is not None and (early := _unseen(covered, between.before)):
        raise Unfit(
            f"{where}: {early} was imported before anybody watched what it reads then",
            "hint: let no -p, no entry point of a plugin and no .pth file import it: pytest_plugins in a conftest.py "
            "does the same and is watched",
        )
    ran = _executed.get((config.root, name), set()) | _meanwhile(covered, config)
    if loose := undigested(name, ran | referred(covered), config):
        told = "was executed" if undigested(name, ran, config) else "is used"
        raise Unfit(
            f"{where}: {loose[0]} {told}, and the digest of {name} does not cover it",
            "hint: import it by a literal name, and let [tool.pv] first-party name it, so that a change is noticed",
        )
    if data := undeclared(name, _used(_opened, name, config), config):
        raise Unfit(
            f"{where}: {data[0]} was read, and the digest of {name} does not cover it",
            "hint: declare it in a module that the falsifier reaches, by the path from there: "
            f'PV_DATA = ("{_from(name, data[0], config)}",); or, if the trial made it, make it in trial.folder',
        )
    if asked := unannounced(name, _used(_asked, name, config), config):
        wanted, file = asked[0]
        if wanted == ALL:
            raise Unfit(
                f"{where}: {file} asks for all environment variables, and a record cannot hold them",
                "hint: ask for those that it needs by name, and declare them in PV_ENVIRONMENT; a command that is "
                "started without env inherits them all; to give it one more, pass env to trial.start, or start "
                "`env NAME=value command`",
            )
        raise Unfit(
            f"{where}: {file} asks for the environment variable {wanted}, which no module that {name} reaches declares",
            f'hint: declare it there: PV_ENVIRONMENT = ("{wanted}",), and records will hold its value',
        )


def _used(by: dict[tuple[Path, str], set[Used]], name: str, config: Config) -> set[tuple[str, str]]:
    """What the module's trials used, and what the modules that it reaches used when they were imported for another."""
    reached, between = _names(modules(name, config)), session()
    used = {
        (what, who)
        for (root, module), trials in by.items()
        if root == config.root
        for what, who, importing in trials
        if module == name or importing in reached
    }
    if between is not None:
        others = between.watch.opened if by is _opened else between.watch.asked
        used |= {(what, who) for what, who, importing in others if importing in reached}
    return used


def _meanwhile(covered: dict[Path, str], config: Config) -> set[str]:
    """The files whose code ran while a module of the closure was imported, for whomever that was."""
    reached, between = _names(covered), session()
    loaded = [_loaded.get(config.root, set()), *([between.watch.loaded] if between else [])]
    return {file for pairs in loaded for file, importing in pairs if importing in reached}


def _names(covered: dict[Path, str]) -> set[str]:
    return {str(place) for file in covered for place in (file, file.resolve())}


def _unseen(covered: dict[Path, str], before: dict[str, ModuleType]) -> str:
    """A module of the closure that was there before the watch began. Those of pv read nothing."""
    for file, name in sorted(covered.items()):
        module = sys.modules.get(name)
        if module is not None and module is before.get(name) and not str(file.resolve()).startswith(JUDGE):
            return name
    return ""


def _from(name: str, data: str, config: Config) -> str:
    """The path of a file of the project, as the falsifier's module would declare it."""
    module = module_file(name, config)
    return os.path.relpath(config.root / data, module.parent if module else config.root)


def function_of(module: ModuleType, planned: Planned, where: str) -> Any:
    name = planned.falsifier.partition(":")[2]
    function = getattr(module, name, None)
    if not callable(function) or is_mutant(function):
        known = [key for key, value in vars(module).items() if callable(value) and not is_mutant(value)]
        raise Unfit(f"{where}: no function {name!r} in {module.__name__}", _near(name, known))
    return function


def planting_of(module: ModuleType, planned: Planned, where: str) -> Planting | None:
    if planned.mutant is None:
        return None
    candidate = getattr(module, planned.mutant, None)
    if candidate is None:
        known = [key for key, value in vars(module).items() if is_mutant(value)]
        raise Unfit(f"{where}: no mutant {planned.mutant!r} in {module.__name__}", _near(planned.mutant, known))
    if not is_mutant(candidate):
        raise Unfit(f"{where}: {module.__name__}.{planned.mutant} is no mutant", "hint: decorate it with @mutant")
    planting: Planting = candidate
    return planting


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"hint: did you mean {close[0]!r}?" if close else ""


def model_of(planned: Planned, config: Config, where: str) -> ModelFile | None:
    if planned.model is None:
        return None
    try:
        model = registered(config, planned.model, where=where)
        path = locate(model)
    except PvError as error:
        head, _, hint = str(error).partition("\n")
        raise Unfit(head, hint.strip()) from None
    if path is None:
        raise Skipped(f"model {planned.model} is not on this machine; obtain it with `apr pull {planned.model}`")
    return ModelFile(name=model.name, path=path, sha256=model.sha256)


def one_line(error: BaseException) -> str:
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    return text if len(text) <= 300 else text[:300] + " .."


def frames(error: BaseException, root: Path) -> str:
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
