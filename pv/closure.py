"""Which first-party files a module reaches, and the digest of them: today's code of a falsifier.

Read from the syntax tree, never by importing. What counts as reaching a module:
- import and from .. import, relative ones too, at any depth: inside functions, conditions and `if TYPE_CHECKING`;
- the __init__ files of the packages on the way;
- importlib.import_module("literal") and __import__("literal");
- any text that is exactly the dotted name of a first-party module (`[sys.executable, "-m", "engine.cli"]`), with an
  optional `:function`, or exactly the name of one of the project's console scripts (`subprocess.run(["apr", ..])`).
The data files that a reached module declares (`PV_DATA = ("vectors.json",)`, see pv.mentions) belong to the digest too,
and the values of the environment variables that it declares (PV_ENVIRONMENT) to the record.
Reaching too much only makes evidence stale too early; reaching too little would keep it when it should fall.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from pv.canonical import digest
from pv.config import Config
from pv.errors import PvError
from pv.mentions import Import as Import
from pv.mentions import Stamp, data_files, data_sha256, settled, source, stamp
from pv.mentions import absolute as absolute
from pv.mentions import parsed as parsed

Edge = tuple[Path, str]
"""A file that is reached, and the name under which it is imported."""


def closure(module: str, config: Config) -> tuple[Path, ...]:
    """The files that `module` reaches, its own and the declared data among them, in order of their paths.

    PvError, naming file and line, for a first-party module that is imported and does not exist, for one that does not
    parse, and for declared data that is not there.
    """
    return tuple(sorted(_digests(modules(module, config), config)))


def modules(module: str, config: Config) -> dict[Path, str]:
    """The module files of the closure, each with the name under which it is imported. PvError as `closure`."""
    _require_first_party(module, config)
    known = _known(config)
    found: dict[Path, str] = {}
    pending = [*_files(Import(module, None, 0, True), None, known)]
    while pending:  # a stack, since a chain of imports may be deeper than Python's recursion
        file, name = pending.pop()
        if file not in found:
            found[file] = name
            pending.extend(_edges(file, name, known))
    return found


def module_file(module: str, config: Config) -> Path | None:
    """The file of a first-party module, None for a package without __init__. PvError for one that does not exist."""
    _require_first_party(module, config)
    files = _files(Import(module, None, 0, True), None, _known(config))
    return {name: file for file, name in files}.get(module)


def code_digest(module: str, config: Config) -> str:
    """sha256 over the closure's (path relative to the root, sha256 of the bytes), sorted by path.

    PvError as `closure`.
    """
    return _digest(_digests(modules(module, config), config), config)


def package_digests(module: str, config: Config) -> dict[str, str]:
    """By top-level first-party package, the digest of its part of the closure: its modules and what they declare.

    Sorted by name. A change of the code digest is a change of one of these. PvError as `closure`.
    """
    parts: dict[str, dict[Path, str]] = {}
    for file, name in modules(module, config).items():
        parts.setdefault(name.partition(".")[0], {})[file] = name
    return {package: _digest(_digests(part, config), config) for package, part in sorted(parts.items())}


def variables(module: str, config: Config) -> tuple[str, ...]:
    """The environment variables that the modules of the closure declare, sorted. PvError as `closure`."""
    return tuple(sorted({name for file in modules(module, config) for name in source(file).variables}))


def _digests(found: dict[Path, str], config: Config) -> dict[Path, str]:
    """By file, the sha256 of the modules and of the data that they declare."""
    data = {path for file in found for path in data_files(file, config.root)}
    return {file: data_sha256(file) for file in data} | {file: source(file).sha256 for file in found}


def _digest(digests: dict[Path, str], config: Config) -> str:
    return digest([[file.relative_to(config.root).as_posix(), sha256] for file, sha256 in sorted(digests.items())])


def _require_first_party(module: str, config: Config) -> None:
    if module.partition(".")[0] not in config.first_party:
        raise PvError(
            f"{module!r} is no first-party module, so a change of it could not be noticed",
            hint=f"first-party here: {', '.join(config.first_party) or 'nothing'}; see [tool.pv] first-party",
        )


# what one walk may remember for the next


@dataclass(slots=True, eq=False)
class _Known:
    """Where the modules of a project lie, and which file leads to which.

    It holds as long as the folders of the first-party packages have the entries that they had: only a file that comes
    or goes can give a name another place. What a file says is looked up by the file's stamp.
    """

    config: Config
    folders: dict[str, Stamp]
    places: dict[str, Path | None] = field(default_factory=dict)
    edges: dict[tuple[Path, str], tuple[str, tuple[Edge, ...]]] = field(default_factory=dict)  # sha256 of the file

    def holds(self) -> bool:
        try:
            return all(stamp(folder) == known for folder, known in self.folders.items())
        except PvError:
            return False


_remembered: dict[Config, _Known] = {}


def _known(config: Config) -> _Known:
    known = _remembered.get(config)
    if known is None or not known.holds():
        _remembered.pop(config, None)
        known = _Known(config, dict(_folders_of(config)))
        if settled(*known.folders.values()):
            _remembered[config] = known
    return known


def _folders_of(config: Config) -> Iterator[tuple[str, Stamp]]:
    """Every folder in which a first-party module may lie, with its stamp; src, that it may be made, by its parent's."""
    yield from ((str(folder), stamp(folder)) for folder in config.sources)
    pending, met = [str(folder / name) for folder in config.sources for name in config.first_party], set[Stamp]()
    while pending:
        folder = pending.pop()
        if not os.path.isdir(folder) or folder.endswith("__pycache__"):
            continue
        found = stamp(folder)
        if found in met:  # a link that leads back
            continue
        met.add(found)
        yield folder, found
        with os.scandir(folder) as entries:
            pending += [entry.path for entry in entries if entry.name.isidentifier() and entry.is_dir()]


def _edges(file: Path, module: str, known: _Known) -> tuple[Edge, ...]:
    """What the file leads to."""
    sha256 = source(file).sha256
    remembered = known.edges.get((file, module))
    if remembered is None or remembered[0] != sha256:
        edges = [edge for item in _wanted(file, module, known.config) for edge in _files(item, file, known)]
        remembered = known.edges[file, module] = sha256, tuple(dict.fromkeys(edges))
    return remembered[1]


def _wanted(file: Path, module: str, config: Config) -> Iterable[Import]:
    """What the file mentions that may be ours, under its full name."""
    mentioned, scripts = source(file), dict(config.scripts)
    imported = (absolute(item, module, file) for item in mentioned.imports)
    named = (
        Import(scripts.get(item.module, item.module), None, item.line)
        for item in mentioned.texts
        if "." in item.module or item.module in scripts
    )
    ours = (item for item in (*imported, *named) if item.module.partition(".")[0] in config.first_party)
    return {(item.module, item.name, item.required): item for item in ours}.values()


def _files(wanted: Import, user: Path | None, known: _Known) -> Iterator[Edge]:
    """The files that an import loads: each package's __init__, the module, and the name if that is a module too."""
    parts = wanted.module.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[:size])
        place = _find(name, known)
        if place is None:
            if wanted.required:
                _missing(name, wanted, user, known.config)
            return
        yield from _loaded(place, name)
    if wanted.name is not None and wanted.name != "*":
        name = f"{wanted.module}.{wanted.name}"
        place = _find(name, known)
        if place is not None:
            yield from _loaded(place, name)
        elif wanted.required and _find(wanted.module, known) in _folders(wanted.module, known.config):
            _missing(name, wanted, user, known.config)  # a folder without __init__ has no names but its modules


def _loaded(place: Path, name: str) -> Iterator[Edge]:
    if place.is_file():
        yield place, name


def _folders(module: str, config: Config) -> list[Path]:
    return [source.joinpath(*module.split(".")) for source in config.sources]


def _find(module: str, known: _Known) -> Path | None:
    if module not in known.places:
        known.places[module] = _place(module, known.config)
    return known.places[module]


def _place(module: str, config: Config) -> Path | None:
    """The module's file, or its folder where it is a package without __init__, as Python's finders would choose."""
    folders = _folders(module, config)
    for folder in folders:
        for file in (folder / "__init__.py", *(folder.with_name(folder.name + end) for end in EXTENSION_SUFFIXES)):
            if file.is_file():
                return file
        if (file := folder.with_name(folder.name + ".py")).is_file():
            return file
    return next((folder for folder in folders if folder.is_dir()), None)


def _missing(name: str, wanted: Import, user: Path | None, config: Config) -> None:
    parent, _, last = name.rpartition(".")
    near = [
        file.stem
        for folder in (_folders(parent, config) if parent else config.sources)
        if folder.is_dir()
        for file in folder.iterdir()
    ]
    from difflib import get_close_matches

    close = get_close_matches(last, near, n=1)
    raise PvError(
        f"no module {name!r} below {config.root}",
        where=f"{user}:{wanted.line}" if user else "",
        hint=f"did you mean {'.'.join(filter(None, [parent, close[0]]))!r}?" if close else "",
    )
