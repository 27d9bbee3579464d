"""What the loaded modules of a closure hold and name, whoever loaded it: it takes part in what they do.

A module is loaded once, and the import of one that is there is no event. So what a trial uses is also told by what its
modules refer to: by the modules that their sources import, by what their globals are, and by the attributes of packages
that lead to a module (`import a` and `a.b.f`, where another one imported `a.b`).
"""

import ast
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from pv.mentions import absolute, source

Chain = tuple[str, ...]


def referred(closure: Mapping[Path, str]) -> set[str]:
    """The files of the modules, functions and classes that the loaded modules refer to, their own among them."""
    found: set[str | None] = set()
    for file, name in closure.items():
        imported = list(_imported(file, name))
        found |= {_file(module) for module in imported}
        module = sys.modules.get(name)
        held = dict(vars(module)) if module is not None else {}
        for key, value in held.items():
            if not isinstance(value, ModuleType) or value is not sys.modules.get(f"{name}.{key}"):
                found.add(_file_of(value))  # what it holds of its own modules is whatever anybody has imported
        if any(_is_package(value) for value in (*imported, *held.values())):
            found |= {_file(value) for value in _led_to(file, held)}
    return {file for file in found if file}


def _imported(file: Path, name: str) -> Iterator[ModuleType]:
    for item in source(file).imports:
        wanted = absolute(item, name, file)
        for one in (wanted.module, f"{wanted.module}.{wanted.name}"):
            if isinstance(module := sys.modules.get(one), ModuleType):
                yield module


def _file_of(value: Any) -> str | None:
    """Where what a global is was defined; of an object, its class."""
    if isinstance(value, ModuleType):
        return _file(value)
    if type(value) is MethodType:
        value = value.__func__
    elif type(value) is functools.partial:
        value = value.func
    if type(value) is FunctionType:
        return value.__code__.co_filename
    kind = value if issubclass(type(value), type) else type(value)
    defined = type.__dict__["__dict__"].__get__(kind).get("__module__")
    return _file(sys.modules.get(defined)) if isinstance(defined, str) else None


def _file(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) and os.path.isabs(file) else None


def _is_package(value: Any) -> bool:
    """Whether it is a package that holds modules of its own which somebody has loaded."""
    if not isinstance(value, ModuleType) or "__path__" not in vars(value):
        return False
    return any(type(held) is ModuleType for held in list(vars(value).values()))


def _led_to(file: Path, held: Mapping[str, Any]) -> Iterator[ModuleType]:
    """The modules that are named as attributes of modules."""
    local, chains = _chains(file, source(file).sha256)
    for root, *names in chains:
        starts = [held.get(root), *(sys.modules.get(name) for name in local.get(root, ()))]
        for value in starts:
            for name in names:
                if not isinstance(value, ModuleType):
                    break
                value = vars(value).get(name)
                if isinstance(value, ModuleType):
                    yield value


@functools.lru_cache(maxsize=4096)
def _chains(file: Path, sha256: str) -> tuple[dict[str, set[str]], set[Chain]]:
    """By name, the modules that an import gives it anywhere in the file; and what is written as `a.b.c`."""
    local: dict[str, set[str]] = {}
    chains: set[Chain] = set()
    for node in ast.walk(ast.parse(file.read_bytes())) if file.suffix == ".py" else ():
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                local.setdefault(alias.asname or top, set()).add(alias.name if alias.asname else top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                local.setdefault(alias.asname or alias.name, set()).add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Attribute):
            names, value = [node.attr], node.value
            while isinstance(value, ast.Attribute):
                names.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name):
                chains.add((value.id, *reversed(names)))
    return local, chains
