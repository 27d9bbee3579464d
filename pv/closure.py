"""Which first-party files a module reaches by import, and the digest of them: today's code of a falsifier.

Read from the syntax tree, never by importing. What counts as reaching a module:
- import and from .. import, relative ones too, at any depth: inside functions, conditions and `if TYPE_CHECKING`;
- the __init__ files of the packages on the way;
- importlib.import_module("literal") and __import__("literal");
- any text that is exactly the dotted name of a first-party module (`[sys.executable, "-m", "engine.cli"]`), with an
  optional `:function`, or exactly the name of one of the project's console scripts (`subprocess.run(["apr", ..])`).
Reaching too much only makes evidence stale too early; reaching too little would keep it when it should fall.
"""

import ast
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from pv.canonical import digest, sha256
from pv.config import Config
from pv.errors import PvError

NAME = re.compile(r"([A-Za-z_][\w.-]*)(?::[A-Za-z_]\w*)?")  # a dotted module, with a function perhaps, or a command


@dataclass(frozen=True, slots=True)
class Import:
    """One mention of a module: `from module import name`, or with no name `import module`."""

    module: str
    name: str | None
    line: int
    required: bool = False  # whether a missing module is an error: not for texts, nor where an ImportError is caught


@dataclass(frozen=True, slots=True)
class _Source:
    sha256: str
    imports: tuple[Import, ...] = ()
    texts: tuple[Import, ...] = ()


def closure(module: str, config: Config) -> tuple[Path, ...]:
    """The files that `module` reaches, its own among them, in order of their paths.

    PvError, naming file and line, for a first-party module that is imported and does not exist, and for one that does
    not parse.
    """
    return tuple(sorted(modules(module, config)))


def modules(module: str, config: Config) -> dict[Path, str]:
    """The files of the closure, each with the name under which it is imported. PvError as `closure`."""
    _require_first_party(module, config)
    found: dict[Path, str] = {}
    _reach(Import(module, None, 0, True), None, config, found)
    return found


def module_file(module: str, config: Config) -> Path | None:
    """The file of a first-party module, None for a package without __init__. PvError for one that does not exist."""
    _require_first_party(module, config)
    files = _files(Import(module, None, 0, True), None, config, lambda name: _find(name, config))
    return {name: file for file, name in files}.get(module)


def _require_first_party(module: str, config: Config) -> None:
    if module.partition(".")[0] not in config.first_party:
        raise PvError(
            f"{module!r} is no first-party module, so a change of it could not be noticed",
            hint=f"first-party here: {', '.join(config.first_party) or 'nothing'}; see [tool.pv] first-party",
        )


def undigested(module: str, executed: Iterable[str], config: Config) -> tuple[str, ...]:
    """Of the files that were executed, the first-party ones outside the closure of `module`, relative to their source.

    PvError as `closure`.
    """
    files, loose = closure(module, config), set()
    known = {*files, *(file.resolve() for file in files)}
    for name in executed:
        if set(config.first_party).isdisjoint(name.replace(".", os.sep).split(os.sep)):
            continue  # most files are of no interest, and a path takes time
        places = {Path(os.path.abspath(name)), Path(name).resolve()}
        if places.isdisjoint(known):
            loose |= {place.relative_to(config.root).as_posix() for place in places if _is_ours(place, config)}
    return tuple(sorted(loose))


def _is_ours(file: Path, config: Config) -> bool:
    inside = [file.relative_to(source).parts for source in config.sources if file.is_relative_to(source)]
    return any(parts and parts[0].partition(".")[0] in config.first_party for parts in inside)


def code_digest(module: str, config: Config) -> str:
    """sha256 over the closure's (path relative to the root, sha256 of the bytes), sorted by path."""
    files = closure(module, config)
    return digest([[file.relative_to(config.root).as_posix(), _source(file).sha256] for file in files])


def _reach(first: Import, user: Path | None, config: Config, found: dict[Path, str]) -> None:
    """Add what `first` leads to; a stack, since a chain of imports may be deeper than Python's recursion."""
    find = functools.cache(lambda name: _find(name, config))
    pending, met = [(first, user)], set[tuple[str, str | None, bool]]()
    while pending:
        wanted, user = pending.pop()
        if (wanted.module, wanted.name, wanted.required) in met:
            continue
        met.add((wanted.module, wanted.name, wanted.required))
        for file, module in _files(wanted, user, config, find):
            if file not in found:
                found[file] = module
                pending.extend((item, file) for item in _wanted(file, module, config))


def _wanted(file: Path, module: str, config: Config) -> Iterator[Import]:
    """What the file mentions that may be ours, under its full name."""
    source, scripts = _source(file), dict(config.scripts)
    imported = (absolute(item, module, file) for item in source.imports)
    named = (
        Import(scripts.get(item.module, item.module), None, item.line)
        for item in source.texts
        if "." in item.module or item.module in scripts
    )
    for item in (*imported, *named):
        if item.module.partition(".")[0] in config.first_party:
            yield item


def absolute(item: Import, module: str, file: Path) -> Import:
    """A relative import with its package's name in front."""
    dots = len(item.module) - len(item.module.lstrip("."))
    if not dots:
        return item
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    if dots > len(package):
        raise PvError("relative import beyond the top-level package", where=f"{file}:{item.line}")
    base = package[: len(package) - dots + 1]
    return Import(".".join([*base, *filter(None, [item.module[dots:]])]), item.name, item.line, item.required)


def _files(
    wanted: Import, user: Path | None, config: Config, find: Callable[[str], Path | None]
) -> Iterator[tuple[Path, str]]:
    """The files that an import loads: each package's __init__, the module, and the name if that is a module too."""
    parts = wanted.module.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[:size])
        place = find(name)
        if place is None:
            if wanted.required:
                _missing(name, wanted, user, config)
            return
        yield from _loaded(place, name)
    if wanted.name is not None and wanted.name != "*":
        name = f"{wanted.module}.{wanted.name}"
        place = find(name)
        if place is not None:
            yield from _loaded(place, name)
        elif wanted.required and find(wanted.module) in _folders(wanted.module, config):
            _missing(name, wanted, user, config)  # a folder without __init__ has no names but its modules


def _loaded(place: Path, name: str) -> Iterator[tuple[Path, str]]:
    if place.is_file():
        yield place, name


def _folders(module: str, config: Config) -> list[Path]:
    return [source.joinpath(*module.split(".")) for source in config.sources]


def _find(module: str, config: Config) -> Path | None:
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


def _source(file: Path) -> _Source:
    try:
        stat = file.stat()
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(file)) from None
    return _read(file, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@functools.lru_cache(maxsize=4096)
def _read(file: Path, stamp: tuple[int, ...]) -> _Source:
    """Digest and imports of a file; the stamp makes a changed file another key."""
    data = file.read_bytes()
    if file.suffix != ".py":
        return _Source(sha256(data))
    nodes = list(ast.walk(parsed(data, file)))
    return _Source(sha256(data), tuple(_imports(nodes)), tuple(_texts(nodes)))


def parsed(data: bytes, file: Path) -> ast.Module:
    """The syntax tree of a module. PvError, naming file and line, where it does not parse."""
    try:
        return ast.parse(data, filename=str(file))
    except SyntaxError as error:
        raise PvError(f"does not parse: {error.msg}", where=f"{file}:{error.lineno or 1}") from None
    except (ValueError, RecursionError) as error:
        raise PvError(f"does not parse: {error}", where=str(file)) from None


def _imports(nodes: list[ast.AST]) -> Iterator[Import]:
    caught = {
        id(node)
        for attempt in nodes
        if isinstance(attempt, (ast.Try, ast.TryStar)) and any(map(_catches_import_error, attempt.handlers))
        for statement in attempt.body
        for node in ast.walk(statement)
    }
    for node in nodes:
        required = id(node) not in caught
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno, required)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import("." * node.level + (node.module or ""), alias.name, node.lineno, required)
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.strip("."):
                yield Import(name.value, None, node.lineno, required)


def _texts(nodes: list[ast.AST]) -> Iterator[Import]:
    found: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (name := NAME.fullmatch(node.value)):
            found.setdefault(name[1], node.lineno)
    return (Import(name, None, line) for name, line in found.items())


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {getattr(kind, "id", getattr(kind, "attr", "")) for kind in types}
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
