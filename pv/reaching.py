"""Whether the code of a falsifier reaches for what pv keeps of its trial, which no falsifier has a reason to see.

Read from the source, as the closure is: a name that is computed, a frame or the garbage collector lead there unseen.
"""

import ast
import functools
from collections.abc import Mapping
from pathlib import Path

from pv.mentions import absolute, parsed, source
from pv.undigested import HOME

KEEPERS = ("pv.account", "pv.attempt", "pv.guards", "pv.loading", "pv.runner")
"""Modules that hold the accounts of trials, or make and judge trials."""
WAYS = ("account_of", "open_account")
"""What leads from a trial to its account; pv.trial holds these names too."""


def reaching(closure: Mapping[Path, str]) -> tuple[Path, int, str] | None:
    """The first place where a module outside of pv names one of these: file, line and what it names; None if none does.

    closure  the files, each with the name under which it is imported. PvError for one that cannot be read.
    """
    for file, name in sorted(closure.items()):
        if file.suffix == ".py":
            for line, named in _named(file, name, source(file).sha256):
                return file, line, named
    return None


@functools.lru_cache(maxsize=4096)
def _named(file: Path, module: str, sha256: str) -> tuple[tuple[int, str], ...]:
    """The places where a file names a keeper or a way to the account, in order."""
    if str(file.resolve()).startswith(HOME):
        return ()
    told = source(file)
    found = set()
    for item in (*told.imports, *told.texts):
        wanted = absolute(item, module, file)
        full = f"{wanted.module}.{wanted.name}" if wanted.name else wanted.module
        if full.rpartition(".")[2] in WAYS or any(f"{full}.".startswith(f"{keeper}.") for keeper in KEEPERS):
            found.add((item.line, full))
    for node in ast.walk(parsed(file.read_bytes(), file)):
        if isinstance(node, ast.Attribute) and node.attr in WAYS:
            found.add((node.lineno, node.attr))
    return tuple(sorted(found))
