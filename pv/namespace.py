"""The names that the text of a first-party module binds, and where: nothing is imported."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pv.closure import module_file, parsed
from pv.config import Config
from pv.errors import PvError
from pv.places import shown

Definition: TypeAlias = ast.stmt | ast.expr | ast.alias


@dataclass(frozen=True, slots=True)
class Bound:
    """One place that gives a name its meaning.

    node     the definition, the value that is assigned, or None where the value has no expression of its own
    source   the statement of an import
    certain  whether it runs whenever the module is imported
    """

    node: Definition | None
    source: ast.Import | ast.ImportFrom | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Module:
    """The names of a module; `elsewhere` says why it may have more of them than its text shows, empty if it has not."""

    name: str
    file: Path
    names: Mapping[str, tuple[Bound, ...]]
    elsewhere: str


def read(name: str, config: Config) -> Module | None:
    """The module, or None where it has no Python source. PvError for one that is foreign, missing or does not parse."""
    try:
        file = module_file(name, config)
    except OSError as error:  # a name that no file can have
        raise PvError(f"no module {name!r}: {error.strerror}", where=str(config.root)) from None
    _require_unshadowed(name, config)
    if file is None or file.suffix != ".py":
        return None
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(file)) from None
    tree = parsed(data, file)
    names: dict[str, list[Bound]] = {}
    for known, bound in _bindings(tree.body, certain=True):
        names.setdefault(known, []).append(bound)
    return Module(name, file, {known: tuple(bound) for known, bound in names.items()}, _elsewhere(tree, names))


def _require_unshadowed(name: str, config: Config) -> None:
    """PvError where the top-level folder of a module has no __init__.py and Python takes another place's package.

    A folder without __init__ is taken only if no entry of the path has a package or module of its name.
    """
    top = name.partition(".")[0]
    if module_file(top, config) is not None:
        return
    if taken := next(filter(None, (_place(finder, top) for finder in sys.meta_path)), ""):
        folder = next(found for folder in config.sources if (found := folder / top).is_dir())
        raise PvError(
            f"no module {name!r}: {shown(folder)}/ has no __init__.py, so Python takes {top} from {taken}",
            hint=f"touch {shown(folder / '__init__.py')}",
        )


def _place(finder: Any, top: str) -> str:
    """Where a finder of the path has a package or module; empty for none, and for a folder without __init__."""
    try:
        spec = finder.find_spec(top, None)
    except Exception:  # a finder of somebody else
        return ""
    return str(spec.origin or "") if spec and spec.loader else ""


def _bindings(body: list[ast.stmt], *, certain: bool) -> Iterator[tuple[str, Bound]]:
    """The names that statements of a module bind, in their order."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name, Bound(statement, None, certain)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                plain = alias.name.partition(".")[0] if isinstance(statement, ast.Import) else alias.name
                yield alias.asname or plain, Bound(alias, statement, certain)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                for name in _stored(target):
                    yield name, Bound(statement.value if isinstance(target, ast.Name) else None, None, certain)
        else:
            sure = certain and isinstance(statement, ast.With)
            for part in ast.iter_child_nodes(statement):
                if isinstance(part, ast.stmt):
                    yield from _bindings([part], certain=sure)
                elif isinstance(part, ast.ExceptHandler | ast.match_case):
                    yield from _bindings(part.body, certain=False)
                else:
                    for name in _stored(part):
                        yield name, Bound(None, None, certain)


def _stored(node: ast.AST) -> list[str]:
    """The names that an expression or a target binds or deletes."""
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)]


def _elsewhere(tree: ast.Module, names: Mapping[str, object]) -> str:
    """Why a module may have more names than its statements bind; empty if it has not."""
    if "*" in names:
        return "a star import may bring it"
    if "__getattr__" in names:
        return "the module's __getattr__ may make it"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            return f"a function binds global names in line {node.lineno}"
        if isinstance(node, ast.Name) and node.id in ("globals", "exec"):
            return f"{node.id}() in line {node.lineno} may make it"
        if isinstance(node, ast.Attribute) and node.attr == "modules" and getattr(node.value, "id", "") == "sys":
            return f"sys.modules in line {node.lineno} may be used to make it"
    return ""
