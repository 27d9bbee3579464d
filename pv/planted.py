"""A started command, with the defect of a mutant planted in it where one is tried.

A mutant is planted in the process that tries it, so a process that a falsifier starts would run without the defect.
Where a mutant is tried this module is that process: `python -m pv.planted MUTANT SCRIPT TARGET ARGS..` plants the
defect, then does what the console script SCRIPT does: it calls TARGET, 'module:function', or the `main` of a module.
"""

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASHED = 99
"""Exit code of a planted command that ended in a traceback: the defect broke the program, not the promise."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return (self.err.strip().splitlines() or self.out.strip().splitlines() or ["no output"])[-1]

    @property
    def crashed(self) -> bool:
        return self.code not in (0, 1, 2) or "Traceback (most" in self.err


def start(
    script: str,
    target: str,
    arguments: Sequence[object],
    *,
    mutant: str | None,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
) -> Finished:
    """Run an installed console script to its end; with a mutant, its target with the defect planted.

    RuntimeError where the script would run another copy of the code than this process would.
    """
    module = target.partition(":")[0]
    if not _runs_this_code(module):
        raise RuntimeError(
            f"the installed {script} does not run this project's {module}: `pip install -e .` here first"
        )
    command = [str(Path(sys.executable).parent / script)]
    if mutant is not None:
        command = [sys.executable, "-m", __name__, mutant, script, target]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONSAFEPATH": "1", **env},
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@functools.cache
def _runs_this_code(module: str) -> bool:
    """Whether a new process of this interpreter, as the console script is, imports the module from the same file."""
    spec = importlib.util.find_spec(module)
    code = f"import importlib.util as u; print(u.find_spec({module!r}).origin)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/", check=False)
    return spec is not None and done.stdout.strip() == spec.origin


def main(argv: Sequence[str]) -> Any:
    mutant, script, target, *arguments = argv
    sys.argv[:] = [
        script,
        *arguments,
    ]  # as the console script has it: a command that could see its mutant could obey it
    defect, _, name = mutant.partition(":")
    module, _, function = target.partition(":")
    try:
        with getattr(importlib.import_module(defect), name)():
            return getattr(importlib.import_module(module), function or "main")()
    except Exception:
        traceback.print_exc()
        return CRASHED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
