"""What one file mentions: the modules that it imports or names, and the data and the variables that it declares.

Read from the syntax tree, never by importing. A module declares what else it reads by literals of its own:

    PV_DATA = ("vectors.json", "tables/*.bin")  # relative to the module's own file; `**` stands for any folders
    PV_ENVIRONMENT = ("CI",)  # environment variables: evidence holds their values
"""

import ast
import functools
import glob
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pv.canonical import sha256
from pv.environment import NAME as VARIABLE
from pv.errors import PvError

NAME = re.compile(r"([A-Za-z_][\w.-]*)(?::[A-Za-z_]\w*)?")  # a dotted module, with a function perhaps, or a command
DATA, ENVIRONMENT = "PV_DATA", "PV_ENVIRONMENT"
SETTLED = 50_000_000
"""Nanoseconds after which a change has another time than the one before: file systems count in ticks of some 10 ms."""

T = TypeVar("T")
Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Import:
    """One mention of a module: `from module import name`, or with no name `import module`."""

    module: str
    name: str | None
    line: int
    required: bool = False  # whether a missing module is an error: not for texts, nor where an ImportError is caught


@dataclass(frozen=True, slots=True)
class Source:
    """A file as the closure sees it.

    data       the patterns that it declares, with their line; variables: the names of its environment variables
    """

    sha256: str
    imports: tuple[Import, ...] = ()
    texts: tuple[Import, ...] = ()
    data: tuple[tuple[str, int], ...] = ()
    variables: tuple[str, ...] = ()


def stamp(file: Path | str) -> Stamp:
    """What changes with the file, or with the entries of the folder. PvError where it cannot be told."""
    try:
        stat = os.stat(file)
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(file)) from None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def settled(*stamps: Stamp) -> bool:
    """Whether the next change will show: one within the same tick of the clock has the same stamp."""
    return all(stamp[2] < time.time_ns() - SETTLED for stamp in stamps)


def source(file: Path) -> Source:
    """Digest and mentions of a module's file. PvError, naming file and line, where it cannot be read or parsed."""
    return _remembered(_read, file)


def data_sha256(file: Path) -> str:
    """sha256 of a data file, whatever it holds."""
    return _remembered(_digested, file)


def _remembered(read: "functools._lru_cache_wrapper[T]", file: Path) -> T:
    """What `read` makes of the file; the stamp makes a changed file another key."""
    found = stamp(file)
    try:
        return read(file, found) if settled(found) else read.__wrapped__(file, found)
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(file)) from None


@functools.lru_cache(maxsize=4096)
def _digested(file: Path, stamp: Stamp) -> str:
    return sha256(file.read_bytes())


@functools.lru_cache(maxsize=4096)
def _read(file: Path, stamp: Stamp) -> Source:
    data = file.read_bytes()
    if file.suffix != ".py":
        return Source(sha256(data))
    tree = parsed(data, file)
    nodes = _telling(tree)
    variables = tuple(name for name, _ in _declared(tree, file, ENVIRONMENT))
    return Source(
        sha256(data), tuple(_imports(nodes)), tuple(_texts(nodes)), tuple(_declared(tree, file, DATA)), variables
    )


def parsed(data: bytes, file: Path) -> ast.Module:
    """The syntax tree of a module. PvError, naming file and line, where it does not parse."""
    try:
        return ast.parse(data, filename=str(file))
    except SyntaxError as error:
        raise PvError(f"does not parse: {error.msg}", where=f"{file}:{error.lineno or 1}") from None
    except (ValueError, RecursionError) as error:
        raise PvError(f"does not parse: {error}", where=str(file)) from None


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


# data files


def data_files(file: Path, root: Path) -> tuple[Path, ...]:
    """The data files that a module's file declares, each once, in order of their paths.

    PvError, naming file and line, for a pattern that leads out of the root, and for one that no file matches.
    """
    return tuple(sorted({path for pattern, line in source(file).data for path in _matching(pattern, line, file, root)}))


def _matching(pattern: str, line: int, file: Path, root: Path) -> list[Path]:
    where = f"{file}:{line}"
    names = [os.path.normpath(file.parent / name) for name in glob.glob(pattern, root_dir=file.parent, recursive=True)]
    found = [Path(name) for name in names if os.path.isfile(name) and not _is_compiled(name)]
    named = Path(os.path.normpath(file.parent / pattern))
    if (
        os.path.isabs(pattern)
        or not all(path.is_relative_to(root) for path in (named, *found))
        or not all(path.resolve().is_relative_to(root.resolve()) for path in found)
    ):
        raise PvError(
            f"{DATA}: {pattern!r} leads out of the project",
            where=where,
            hint=f"name a file below {root}, relative to this module: only such a file is the same on every machine",
        )
    if not found:
        raise PvError(
            f"{DATA}: no file matches {pattern!r} in {file.parent}",
            where=where,
            hint="correct the name, or leave it out: patterns are relative to the module's own file",
        )
    return found


def _is_compiled(name: str) -> bool:
    return "__pycache__" in name.split(os.sep)  # it comes and goes, and says nothing that its source does not


def _declared(tree: ast.Module, file: Path, declaration: str) -> Iterator[tuple[str, int]]:
    """The texts of PV_DATA or PV_ENVIRONMENT at the top of a module. PvError for anything but a literal of texts."""
    example = '("vectors.json", "tables/*.bin")' if declaration == DATA else '("CI",)'
    for statement in tree.body:
        for value in _assigned(statement, declaration):
            elements = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [value]
            for element in elements:
                text = element.value if isinstance(element, ast.Constant) else None
                wanted: Callable[[str], object] = VARIABLE.fullmatch if declaration == ENVIRONMENT else str.strip
                if not isinstance(text, str) or not wanted(text) or "\0" in text:
                    raise PvError(
                        f"{declaration} must be a literal of texts",
                        where=f"{file}:{element.lineno}",
                        hint=f"write {declaration} = {example}: it is read, and never executed",
                    )
                yield text, element.lineno


def _assigned(statement: ast.stmt, name: str) -> Iterator[ast.expr]:
    """What a statement gives to a name, if it does."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return
    if any(isinstance(target, ast.Name) and target.id == name for target in targets) and statement.value is not None:
        yield statement.value


# imports and texts


TELLING = frozenset({ast.Import, ast.ImportFrom, ast.Call, ast.Constant, ast.Try, ast.TryStar})


def _telling(tree: ast.AST) -> list[ast.AST]:
    """The nodes that may mention something: ast.walk in a third of its time, of which `pv status` takes the most."""
    pending, found = [tree], []
    while pending:
        node = pending.pop()
        if type(node) in TELLING:
            found.append(node)
        for value in vars(node).values():
            if type(value) is list:
                pending += [element for element in value if isinstance(element, ast.AST)]
            elif isinstance(value, ast.AST):
                pending.append(value)
    return found


def _imports(nodes: list[ast.AST]) -> Iterator[Import]:
    caught = {
        id(node)
        for attempt in nodes
        if isinstance(attempt, (ast.Try, ast.TryStar)) and any(map(_catches_import_error, attempt.handlers))
        for statement in attempt.body
        for node in _telling(statement)
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
