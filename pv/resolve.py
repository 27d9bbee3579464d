"""What a name in a first-party module is, read from the syntax tree: nothing is imported.

Followed are definitions, other names for them, and imports from first-party modules. Where a name may come from
elsewhere (a star import, a call, a package that is not first-party), the answer is UNKNOWN, with the reason.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pv.closure import Import, absolute, module_file
from pv.config import Config
from pv.errors import PvError
from pv.namespace import Bound, Module, read

MUTANT_MAKER = "pv.trial.mutant"
MAX_STEPS = 32
"""How often a name may stand for another one; `x = x.y` would go on for ever."""

FUNCTION, MUTANT, OTHER, MISSING, UNKNOWN = "function", "mutant", "other", "missing", "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name is.

    kind   FUNCTION: something that runs when it is called with a trial; MUTANT: made by @mutant; OTHER: neither;
           MISSING: nothing; UNKNOWN
    why    for OTHER, what it is; for UNKNOWN, why that cannot be told; for a FUNCTION, why it may be a mutant yet;
           for a MUTANT, what is wrong with it, so that it can never be planted
    unwritten  it is a function or a mutant that does nothing yet, or raises NotImplementedError before all else
    """

    kind: str
    why: str = ""
    unwritten: bool = field(default=False, compare=False)


Trail: TypeAlias = frozenset[tuple[str, str]]


class Sources:
    """The first-party modules of a project; each is read once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._modules: dict[str, Module | None] = {}

    def meaning(self, module: str, name: str) -> Meaning:
        """What `name` is in `module`. PvError for a module that is not first-party, is missing or does not parse."""
        return self._meaning(module, name, frozenset())

    def unwritten(self, module: str, name: str) -> bool:
        """Whether it is a falsifier or a mutant that does nothing yet; what cannot be read is another matter."""
        try:
            return self._meaning(module, name, frozenset()).unwritten
        except PvError:
            return False

    def names(self, module: str, kind: str) -> list[str]:
        """The names that a module defines and that mean something of a kind. PvError as `meaning`."""
        found = self._module(module)
        own = [name for name, bound in found.names.items() if bound[-1].source is None] if found else []
        return [name for name in own if not name.startswith("_") and self.meaning(module, name).kind == kind]

    def _meaning(self, module: str, name: str, trail: Trail) -> Meaning:
        if (module, name) in trail:
            return Meaning(UNKNOWN, "its definitions lead in a circle")
        trail |= {(module, name)}
        source = self._module(module)
        if source is None:
            return Meaning(UNKNOWN, f"{module} is no Python source")
        bound = source.names.get(name, ())
        if not bound:
            return Meaning(UNKNOWN, source.elsewhere) if source.elsewhere else Meaning(MISSING)
        last = max((index for index, one in enumerate(bound) if one.certain), default=0)
        found = [self._of(one, source, trail) for one in bound[last:]]
        if len({one.kind for one in found}) > 1:
            return Meaning(UNKNOWN, "it is defined in more than one way")
        return next((one for one in found if one == Meaning(MUTANT)), found[-1])  # one that is unfit may not be it

    def _of(self, bound: Bound, module: Module, trail: Trail) -> Meaning:
        node = bound.node
        if isinstance(bound.source, ast.Import):
            return Meaning(OTHER, "a module")
        if isinstance(bound.source, ast.ImportFrom):
            assert isinstance(node, ast.alias)
            return self._imported(_imported_from(bound.source, node, module), trail)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return self._decorated(node, module)
        if isinstance(node, ast.Lambda):
            return _called_with_a_trial(node.args)
        if isinstance(node, ast.Name):
            return self._meaning(module.name, node.id, trail)
        if isinstance(node, ast.Attribute):
            parent, _, name = (self._origin(node, module) or "").rpartition(".")
            if parent.partition(".")[0] in self.config.first_party and not self._is_module(parent):
                return Meaning(UNKNOWN, f"it is an attribute of {ast.unparse(node.value)}")
            return self._imported(Import(parent, name, node.lineno), trail)
        if isinstance(node, ast.Call):
            maker = self._origin(node.func, module)
            if maker == MUTANT_MAKER:
                return Meaning(MUTANT)
            return Meaning(FUNCTION) if maker == "functools.partial" else Meaning(UNKNOWN, "a call makes it")
        literals = (
            ast.Constant | ast.JoinedStr | ast.List | ast.Tuple | ast.Dict | ast.Set | ast.ListComp | ast.DictComp
        )
        if isinstance(node, literals):
            return Meaning(OTHER, "a value")
        return Meaning(UNKNOWN, "an expression makes it")

    def _imported(self, item: Import, trail: Trail) -> Meaning:
        """What `from module import name` gives."""
        assert item.name is not None
        if item.module.partition(".")[0] not in self.config.first_party:
            return Meaning(UNKNOWN, f"it comes from {item.module or 'elsewhere'}, which is not first-party")
        found = self._meaning(item.module, item.name, trail)
        if found.kind in (MISSING, UNKNOWN) and self._is_module(f"{item.module}.{item.name}"):
            return Meaning(OTHER, "a module")
        return found

    def _is_module(self, name: str) -> bool:
        try:
            return module_file(name, self.config) is not None
        except (PvError, OSError):
            return False

    def _decorated(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, module: Module) -> Meaning:
        doubt = ""
        for index, decorator in enumerate(node.decorator_list):
            origin = self._origin(decorator.func if isinstance(decorator, ast.Call) else decorator, module)
            if origin == MUTANT_MAKER:
                last = index + 1 == len(node.decorator_list)  # what others below it made of the function is not known
                return Meaning(MUTANT, _unfit(node) if last else "", _begins_unwritten(node))
            if (origin or "").partition(".")[0] not in (*sys.stdlib_module_names, "builtins"):
                doubt = f"its decorator {ast.unparse(decorator)} may do anything"
        if doubt:
            return Meaning(FUNCTION, doubt, _unwritten(node))
        if isinstance(node, ast.ClassDef):
            return Meaning(OTHER, "a class")
        if isinstance(node, ast.AsyncFunctionDef):
            return Meaning(OTHER, "an async function, which nobody awaits")
        if _yields(node):
            return Meaning(OTHER, "a generator function, whose body nobody runs")
        found = Meaning(FUNCTION) if node.decorator_list else _called_with_a_trial(node.args)
        return replace(found, unwritten=found.kind == FUNCTION and _unwritten(node))

    def _origin(self, node: ast.expr, module: Module) -> str | None:
        """Where the value of a name, dots allowed, is defined: `pv.trial.mutant`. None where that cannot be told."""
        steps: list[str] = []
        while isinstance(node, ast.Attribute):
            steps.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        dotted, seen = ".".join([module.name, node.id, *steps]), set[str]()
        if node.id not in module.names:
            return None if module.elsewhere else ".".join(["builtins", node.id, *steps])
        while dotted not in seen and dotted != MUTANT_MAKER and len(seen) < MAX_STEPS:
            seen.add(dotted)
            dotted = self._one_step(dotted) or dotted
        return dotted

    def _one_step(self, dotted: str) -> str | None:
        """Where the last part of a dotted name that its module defines comes from; None where it is defined there."""
        if dotted.partition(".")[0] not in self.config.first_party:
            return None
        parts = dotted.split(".")
        for size in range(len(parts) - 1, 0, -1):
            name = ".".join(parts[:size])
            module = self._module(name) if self._is_module(name) else None
            bound = module.names.get(parts[size], ()) if module else ()
            if module and bound:
                node, source = bound[-1].node, bound[-1].source
                if isinstance(source, ast.ImportFrom) and isinstance(node, ast.alias):
                    item = _imported_from(source, node, module)
                    return ".".join([item.module, item.name or "", *parts[size + 1 :]])
                if isinstance(source, ast.Import) and isinstance(node, ast.alias):
                    return ".".join([node.name if node.asname else node.name.partition(".")[0], *parts[size + 1 :]])
                if isinstance(node, ast.Name | ast.Attribute):
                    return ".".join([name, ast.unparse(node), *parts[size + 1 :]])
                return None
        return None

    def _module(self, name: str) -> Module | None:
        """The module, or None where it has no Python source. PvError as `meaning`."""
        if name not in self._modules:
            self._modules[name] = read(name, self.config)
        return self._modules[name]


def _called_with_a_trial(takes: ast.arguments) -> Meaning:
    """What a function is that is called with one argument, the trial."""
    places = [*takes.posonlyargs, *takes.args]
    if not places and not takes.vararg:
        return Meaning(OTHER, "a function that takes no trial")
    if len(places) - len(takes.defaults) > 1 or None in takes.kw_defaults:
        return Meaning(OTHER, "a function that asks for more than a trial")
    return Meaning(FUNCTION)


def _unfit(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """Why what @mutant decorates can never be planted; empty where nothing is seen that speaks against it."""
    if not (ast.get_docstring(node) or "").strip():
        return "has no docstring that says which defect it plants"
    returns = any(isinstance(part, ast.Return) and part.value for part in _own(node))  # an iterator from elsewhere, say
    if not isinstance(node, ast.FunctionDef) or not (_yields(node) or returns):
        return "is no generator function: it yields nowhere"
    takes = node.args
    if len(takes.posonlyargs) + len(takes.args) > len(takes.defaults) or None in takes.kw_defaults:
        return "is called without arguments, and asks for one"
    return ""


def _unwritten(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return not _statements(node) or _begins_unwritten(node)


def _begins_unwritten(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether NotImplementedError is raised before anything else is done."""
    first = next(iter(_statements(node)), None)
    raised = first.exc if isinstance(first, ast.Raise) else None
    made = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(made, ast.Name) and made.id == "NotImplementedError"


def _statements(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
    """What a body does: without docstrings, `...` and pass."""
    return [
        part
        for part in node.body
        if not (isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)))
    ]


def _yields(node: ast.FunctionDef) -> bool:
    return any(isinstance(part, ast.Yield | ast.YieldFrom) for part in _own(node))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function's body, without those of what is defined in it."""
    for part in node.body if isinstance(node, ast.FunctionDef) else ast.iter_child_nodes(node):
        yield part
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.GeneratorExp):
            yield from _own(part)


def _imported_from(statement: ast.ImportFrom, alias: ast.alias, module: Module) -> Import:
    written = "." * statement.level + (statement.module or "")
    return absolute(Import(written, alias.name, statement.lineno), module.name, module.file)
