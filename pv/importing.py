"""What a falsifier's module holds once it is imported: asked by `pv lint --import` alone.

Each module is imported in a process of its own, and that with all its children is gone afterwards: one that crashes,
ends its process or never comes to an end says so in one answer.
"""

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pv.config import Config, find
from pv.resolve import FUNCTION, MISSING, MUTANT, OTHER, Meaning

SECONDS = 60
"""How long an import may take; one that compiles kernels takes some."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What the names in a module are; or why it could not be imported, in words that follow its name."""

    failure: str = ""
    names: Mapping[str, Meaning] = field(default_factory=dict)


def imported(module: str, names: Collection[str], config: Config) -> Imported:
    """Import the module of a project as a trial would, in another process, and look the names up in it."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pv.importing", str(answer.fileno()), str(config.root), module, *names],
            cwd=config.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(answer.fileno(),),
            start_new_session=True,
        )
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return Imported(f"is not imported within {SECONDS} seconds")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        answer.seek(0)
        text = answer.read()
        errors.seek(0)
        last = errors.read()[-2000:].decode(errors="replace").strip().rpartition("\n")[2]
    if not text:
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return Imported(f"ends its process {how} when it is imported" + (f": {last}" if last else ""))
    told: dict[str, Any] = json.loads(text)
    return Imported(told["failure"], {name: Meaning(*found) for name, found in told["names"].items()})


def _answer(root: Path, module: str, names: list[str]) -> dict[str, Any]:
    from pv.loading import Unfit, module_of

    try:
        loaded = module_of(module, find(root), module)
    except Unfit as error:
        return {"failure": error.message.removeprefix(f"{module}: ").removeprefix(f"{module} "), "names": {}}
    return {"failure": "", "names": {name: _meaning(loaded, name) for name in names}}


def _meaning(module: Any, name: str) -> tuple[str, str]:
    """The kind of a name, and why, as in pv.resolve.Meaning."""
    from pv.loading import one_line
    from pv.trial import is_mutant

    try:
        value = getattr(module, name)
    except AttributeError:
        return MISSING, ""
    except BaseException as error:
        return OTHER, f"a name that raises {one_line(error)}"
    if is_mutant(value):
        return MUTANT, ""
    if inspect.isclass(value) or not callable(value):
        return OTHER, "a class" if inspect.isclass(value) else f"a value of type {type(value).__name__}"
    if inspect.iscoroutinefunction(value) or inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        return OTHER, "a function whose body does not run when it is called: it is async, or a generator"
    try:
        inspect.signature(value).bind("trial")
    except TypeError:
        return OTHER, "a function that cannot be called with a trial alone"
    except ValueError:  # a builtin that does not tell
        pass
    return FUNCTION, ""


if __name__ == "__main__":
    told = _answer(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    with os.fdopen(int(sys.argv[1]), "w") as stream:
        json.dump(told, stream)
    os._exit(0)  # whatever the module has started, and would wait for
