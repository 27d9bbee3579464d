"""The code of a function and of the helpers that it names, as it is written: nothing is imported.

Followed are names, and attributes of modules, to definitions in the package of the falsifier and in that of the
function itself. With them goes what a module of these does beside its definitions when it is imported, as filling a
table, and what lies in the data files that it declares. What is taken from other packages is the subject of a trial,
and changes with it.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pv.closure import Import, absolute
from pv.config import Config
from pv.errors import PvError
from pv.mentions import data_files, data_sha256, parsed
from pv.namespace import Module, read


@dataclass(frozen=True, slots=True)
class Written:
    """Where a function is defined, and the syntax trees of it and its helpers, without positions and docstrings.

    Among the trees are the modules' other statements, and digests of their data files.
    """

    file: Path
    line: int
    trees: frozenset[str]


def written(module: str, name: str, config: Config) -> Written | None:
    """What `name` of a first-party module is made of; None where the text of the module does not show it."""
    known: dict[str, Module | None] = {}
    packages = {module.partition(".")[0]}
    place: tuple[Path, int] | None = None
    trees, beside, met, pending = set[str](), set[str](), set[tuple[str, str]](), [(module, name)]
    while pending:
        at = pending.pop()
        source = _module(at[0], config, known)
        if at in met or source is None:
            continue
        met.add(at)
        for bound in source.names.get(at[1], ()):
            if isinstance(bound.source, ast.ImportFrom) and isinstance(bound.node, ast.alias):
                item = _imported(bound.source, bound.node, source)
                if place is None:
                    packages.add(item.module.partition(".")[0])
                pending.append((item.module, item.name or ""))
            elif bound.source is None and bound.node is not None:
                place = place or (source.file, bound.node.lineno)
                trees.add(_tree(bound.node))
                pending += _named(bound.node, source)
                if source.name not in beside:
                    beside.add(source.name)
                    for statement in _beside(source.file):
                        trees.add(_tree(statement))
                        pending += _named(statement, source)
                    trees |= _data(source.file, config)
        pending = [one for one in pending if one[0].partition(".")[0] in packages]
    return Written(*place, frozenset(trees)) if place else None


def _beside(file: Path) -> Iterator[ast.stmt]:
    """The statements of a module that are no definition, import, assignment to names, or docstring."""
    for statement in parsed(file.read_bytes(), file).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        if targets and all(isinstance(target, ast.Name) for target in targets):
            continue
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            yield statement


def _data(file: Path, config: Config) -> set[str]:
    try:
        return {f"{found.name} {data_sha256(found)}" for found in data_files(file, config.root)}
    except (PvError, OSError):  # the digest of the code says so
        return set()


def _module(name: str, config: Config, known: dict[str, Module | None]) -> Module | None:
    if name not in known:
        try:
            known[name] = read(name, config)
        except PvError:  # no module of ours
            known[name] = None
    return known[name]


def _imported(statement: ast.ImportFrom, alias: ast.alias, module: Module) -> Import:
    written_as = "." * statement.level + (statement.module or "")
    return absolute(Import(written_as, alias.name, statement.lineno), module.name, module.file)


def _named(node: ast.AST, module: Module) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a definition may mean by its names and dotted names."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield module.name, part.id
        elif isinstance(part, ast.Attribute):
            steps: list[str] = []
            value: ast.expr = part
            while isinstance(value, ast.Attribute):
                steps.insert(0, value.attr)
                value = value.value
            for bound in module.names.get(value.id, ()) if isinstance(value, ast.Name) else ():
                if isinstance(bound.node, ast.alias) and bound.source is not None:
                    *parents, last = [*_module_parts(bound.source, bound.node, module), *steps]
                    yield ".".join(parents), last


def _module_parts(statement: ast.Import | ast.ImportFrom, alias: ast.alias, module: Module) -> list[str]:
    """The dotted name that an import gives to what it binds."""
    if isinstance(statement, ast.ImportFrom):
        item = _imported(statement, alias, module)
        return [*item.module.split("."), item.name or ""]
    return alias.name.split(".") if alias.asname else [alias.name.partition(".")[0]]


def _tree(node: ast.AST) -> str:
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(part, False):
            del part.body[0]
    return ast.dump(node)
