"""Plain asserts of falsifiers tell their values, as those of tests do: pytest rewrites the modules that say so.

Rewritten are a falsifier's module, and what it reaches of the package in which it lies. What it reaches elsewhere is
its subject, which runs as it is written. Nothing changes but the message of an assert that fails.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pv.closure import modules
from pv.config import Config
from pv.mentions import parsed

COMPILING = ("jit", "vectorize", "stencil")
"""What the decorators of numba have in their names: a compiled function cannot hold what pytest writes into it."""


def explain_asserts(falsifier: str, project: Config) -> None:
    """Ask pytest for it, for a falsifier 'module:function'. PvError as `pv.closure.modules`.

    It must be asked before the modules are imported; those that are loaded already stay as they are.
    """
    pytest.register_assert_rewrite(*_explained(falsifier.partition(":")[0], project))


def _explained(home: str, project: Config) -> Iterator[str]:
    package = home.rpartition(".")[0]
    for file, name in modules(home, project).items():
        beside = name == home or (package and name.startswith(f"{package}."))
        if beside and file.suffix == ".py" and name not in sys.modules and not _compiles_asserts(file):
            yield name


def _compiles_asserts(file: Path) -> bool:
    return any(
        isinstance(node, ast.FunctionDef)
        and any(word in ast.unparse(decorator) for decorator in node.decorator_list for word in COMPILING)
        and any(isinstance(part, ast.Assert) for part in ast.walk(node))
        for node in ast.walk(parsed(file.read_bytes(), file))
    )
