"""Whether the modules that a trial uses are still what their files say.

Digests are of files. A conftest.py, a test or another contract's falsifier shares the process, and can give a module
another constant or another function before the trial: then the record would speak of code that nobody ran.

What is compared, of every module of the closure that is loaded: functions of the module, and methods of its classes,
that nothing decorates, by their code; and names that one literal without a list, a dict or a set is assigned to, by
their values. What the source itself gives to a name twice, and what a module of the closure sets from outside while it
is imported (`module.NAME = ..`), is left out.
"""

import ast
import functools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pv.bytecode import REWRITE, rewritten
from pv.mentions import parsed, source

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
KEEPING = {"dataclass", "final", "runtime_checkable", "total_ordering", "unique"}
"""Decorators of classes that leave the methods of the class as they are written."""
SPECIAL = {"__new__", "__init_subclass__", "__class_getitem__", "_generate_next_value_"}
"""Methods that Python or enum puts into the class in another form."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a file gives to a name.

    owner   the class that holds it, '' for the module
    code    of a function, else None; value: of a literal
    """

    owner: str
    name: str
    line: int
    code: CodeType | None = None
    value: Any = None


_seen: dict[str, tuple[ModuleType, str, frozenset[str], list[tuple[Any, str, Any, CodeType | None]]]] = {}
"""By module, what was found to be as it is written: identity is enough to see that it still is."""


def touched(closure: Mapping[Path, str]) -> tuple[str, str, Path, int] | None:
    """The first name of a loaded module that is not what its file says: module, name, file and line; None if all are.

    closure  the files, each with the name under which it is imported. PvError for one that cannot be read.
    """
    loaded = [
        (file, name, module)
        for file, name in closure.items()
        if file.suffix == ".py" and type(module := sys.modules.get(name)) is ModuleType
    ]
    digests = {file: source(file).sha256 for file, _, _ in loaded}
    left_out = _set_outside(frozenset(digests.items()))
    for file, name, module in loaded:
        known = _seen.get(name)
        if known and known[:3] == (module, digests[file], left_out) and _still(known[3]):
            continue
        held = []
        for written in _written(file, digests[file], _is_rewritten(module)):
            if written.name in left_out or (owner := _owner(module, written)) is None:
                continue
            value = vars(owner).get(written.name)
            if not _agrees(module, value, written):
                return name, ".".join(filter(None, (written.owner, written.name))), file, written.line
            held.append((vars(owner), written.name, value, getattr(value, "__code__", None)))
            if written.owner:
                held.append((vars(module), written.owner, owner, None))
        _seen[name] = module, digests[file], left_out, held
    return None


def _still(held: Iterable[tuple[Any, str, Any, CodeType | None]]) -> bool:
    return all(
        names.get(name) is value and (code is None or value.__code__ is code) for names, name, value, code in held
    )


def _owner(module: ModuleType, written: Written) -> Any:
    """The module, or the class; None where something of the class's own may have changed what is written in it."""
    if not written.owner:
        return module
    kind = vars(module).get(written.owner)
    if not isinstance(kind, type):
        return ModuleType(written.owner)  # something else in its place: it has no such method
    library = {"abc", "builtins", "enum", "typing"}
    makers = (type(kind), *(base for base in kind.__mro__[1:] if "__init_subclass__" in vars(base)))
    return kind if all(maker.__module__ in library for maker in makers) else None


def _agrees(module: ModuleType, value: Any, written: Written) -> bool:
    if written.code is None:
        return _same(value, written.value)
    if isinstance(value, ModuleType):  # a submodule of the same name, which its import put there
        return value is sys.modules.get(f"{module.__name__}.{written.name}")
    if type(value) is not FunctionType or value.__globals__ is not vars(module):
        return False
    return value.__code__ == written.code


def _is_rewritten(module: ModuleType) -> bool:
    """Whether pytest loaded it, and wrote into its asserts what tells their values."""
    return type(getattr(module.__spec__, "loader", None)).__module__ == REWRITE


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and (type(one) not in (float, complex) or repr(one) == repr(other))


# what a file says


@functools.lru_cache(maxsize=4096)
def _written(file: Path, sha256: str, by_pytest: bool) -> tuple[Written, ...]:
    data = file.read_bytes()
    tree = parsed(data, file)
    codes: dict[tuple[str, int], CodeType] = {}
    pending = [rewritten(data, file) if by_pytest else compile(tree, str(file), "exec", dont_inherit=True)]
    while pending:
        code = pending.pop()
        codes[code.co_qualname, code.co_firstlineno] = code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    shared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    return tuple(_names(tree.body, "", codes, shared))


def _names(
    body: list[ast.stmt], owner: str, codes: Mapping[tuple[str, int], CodeType], shared: set[str]
) -> Iterator[Written]:
    bound = Counter(_bound(body))
    hidden = max((at for at, line in enumerate(body) if _is_star(line)), default=-1)  # it may replace what is before it
    for line in body[hidden + 1 :]:
        if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef):
            code = codes.get((f"{owner}.{line.name}" if owner else line.name, line.lineno))
            once = bound[line.name] == 1 and line.name not in shared and not line.decorator_list
            if once and code is not None and not (owner and line.name in SPECIAL):
                yield Written(owner, _mangled(line.name, owner), line.lineno, code=code)
        elif isinstance(line, ast.ClassDef) and not owner and bound[line.name] == 1 and line.name not in shared:
            if {_last(decorator) for decorator in line.decorator_list} <= KEEPING:
                yield from _names(line.body, line.name, codes, set())
        elif isinstance(line, ast.Assign | ast.AnnAssign) and not owner and line.value is not None:
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if value := _literal(line.value):
                for name in names:
                    if bound[name] == 1 and name not in shared:
                        yield Written(owner, name, line.lineno, value=value[0])


def _literal(node: ast.expr) -> tuple[Any] | None:
    if any(isinstance(part, ast.List | ast.Dict | ast.Set | ast.Call) for part in ast.walk(node)):
        return None  # it may be filled
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError):
        return None


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    """Each name as often as the scope binds it, in whatever block."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        if isinstance(node, COMPREHENSIONS):
            yield from (part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
        elif not isinstance(node, SCOPES):
            yield from _bound(ast.iter_child_nodes(node))


def _is_star(line: ast.stmt) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(line))


def _last(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _mangled(name: str, owner: str) -> str:
    private = owner.strip("_") and name.startswith("__") and not name.endswith("__")
    return f"_{owner.lstrip('_')}{name}" if private else name


@functools.lru_cache(maxsize=256)
def _set_outside(files: frozenset[tuple[Path, str]]) -> frozenset[str]:
    return frozenset().union(*(_set_by(file, sha256) for file, sha256 in files))


@functools.lru_cache(maxsize=4096)
def _set_by(file: Path, sha256: str) -> frozenset[str]:
    """Names that a file sets as attributes while it is imported, of whatever object."""
    return frozenset(_attributes(parsed(file.read_bytes(), file).body))


def _attributes(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr" and len(node.args) == 3:
            yield str(getattr(node.args[1], "value", ""))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _attributes(ast.iter_child_nodes(node))
