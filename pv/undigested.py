"""What a trial used of the project although the digest of its code does not cover it: it could change unnoticed."""

import os
from collections.abc import Iterable
from pathlib import Path

from pv.closure import closure
from pv.config import Config

TOOLS = {"pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini"}
"""Files beside the modules of a flat project that its tools read, in whatever process they run."""


def undigested(module: str, executed: Iterable[str], config: Config) -> tuple[str, ...]:
    """Of the files that were executed, the project's own outside the closure of `module`, relative to the root.

    A file below the root is the project's own, whether its package is called first-party or not: it could change and
    nobody would notice. Not so what is installed there (site-packages), and what pytest itself runs (conftest.py).

    PvError as `closure`.
    """
    files, loose = closure(module, config), set()
    known = {*files, *(file.resolve() for file in files)}
    inside = (f"{config.root}{os.sep}", f"{config.root.resolve()}{os.sep}")
    for name in executed:
        if os.path.isabs(name) and not name.startswith(inside):
            continue  # most files are of no interest, and a path takes time
        places = (Path(name).resolve(), Path(os.path.abspath(name)))
        if known.isdisjoint(places):
            ours = next((place for place in places if _is_ours(place, config)), None)
            loose |= {ours.relative_to(config.root).as_posix()} if ours else set()
    return tuple(sorted(loose))


def undeclared(module: str, opened: Iterable[str], config: Config) -> tuple[str, ...]:
    """Of the files that were read, the project's data that no module of the closure declares, relative to the root.

    Such data lies below the folder of a first-party package, or in the folder of a module of the closure that is in no
    package. Not data: code, and what Python and numba keep in __pycache__. PvError as `closure`.
    """
    files, loose = closure(module, config), set()
    covered = {path.resolve() for path in files}
    flat = {file.parent.resolve() for file in files} & {source.resolve() for source in config.sources}
    packages = [(source / name).resolve() for source in config.sources for name in config.first_party]
    for name in opened:
        if name.endswith((".py", ".pyc")):
            continue
        file = Path(name).resolve()  # whatever the links: what was read is the file at their end
        inside = any(file.is_relative_to(package) for package in packages)
        beside = file.parent in flat and not file.name.startswith(".") and file.name not in TOOLS
        if (inside or beside) and file not in covered and "__pycache__" not in file.parts and file.is_file():
            loose.add(os.path.relpath(file, config.root.resolve()))
    return tuple(sorted(loose))


def _is_ours(file: Path, config: Config) -> bool:
    if not file.is_relative_to(config.root) or not file.is_file():
        return False
    parts = file.relative_to(config.root).parts
    installed = "site-packages" in parts or any(part.startswith(".") for part in parts)
    return not installed and file.name != "conftest.py"
