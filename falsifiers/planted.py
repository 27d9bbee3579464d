"""The installed commands as a falsifier meets them, with a defect planted where a mutant is tried.

A live trial starts a process of its own. In a mutant's trial this module is that process: `python -m falsifiers.planted
MUTANT MODULE ARGS..` plants the defect, then runs the command whose `main` lies in MODULE.
"""

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from pv.trial import Trial

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


def command(
    trial: Trial,
    script: str,
    module: str,
    *arguments: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Finished:
    """Run an installed console script; in a mutant's trial, `main` of its module with the defect planted.

    Raises RuntimeError (the trial is ERRORED) when the script would run another copy of the code than this project's,
    and when a mutant makes the command crash: that would be red for the wrong reason.
    """
    if not _runs_this_code(module):
        raise RuntimeError(
            f"the installed {script} does not run this project's {module}: `pip install -e .` here first"
        )
    start = [str(Path(sys.executable).parent / script)]
    if trial.mutant is not None:
        start = [sys.executable, "-m", __name__, trial.mutant, module]
    done = subprocess.run(
        [*start, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or trial.folder,
        # what a planted defect makes `pv` find must not be remembered
        env={**os.environ, "PYTHONSAFEPATH": "1", "PV_CACHE_DIR": os.devnull, **(env or {})},
        timeout=600,
        check=False,
    )
    finished = Finished(done.returncode, done.stdout, done.stderr)
    if trial.mutant is not None and (done.returncode not in (0, 1, 2) or "Traceback (most" in done.stderr):
        raise RuntimeError(f"mutant {trial.mutant} makes {script} crash: {finished.last_line}")
    return finished


@functools.cache
def _runs_this_code(module: str) -> bool:
    """Whether a new process of this interpreter, as the console script is, imports the module from the same file."""
    spec = importlib.util.find_spec(module)
    code = f"import importlib.util as u; print(u.find_spec({module!r}).origin)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/", check=False)
    return spec is not None and done.stdout.strip() == spec.origin


def main(argv: list[str]) -> int:
    mutant, module, *arguments = argv
    defect, _, name = mutant.partition(":")
    try:
        with getattr(importlib.import_module(defect), name)():
            code: int = importlib.import_module(module).main(arguments)
            return code
    except Exception:
        traceback.print_exc()
        return CRASHED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
