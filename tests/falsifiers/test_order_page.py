"""Tests of docs/order.md: its constants are those of the kernels and of the oracle, and so is its table of formats."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from engine.kernels.blocks import LAYOUTS
from engine.stages import NAMES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/order.md").read_text()
CONSTANTS = re.findall(r"^\| (\w+) \| (binary\d\d) \| (\S+) \| (0x[0-9a-f]+) \|$", PAGE, re.MULTILINE)
SINGLE = [np.float32(value) for _, kind, value, _ in CONSTANTS if kind == "binary32"]
DOUBLE = [np.float64(value) for _, kind, value, _ in CONSTANTS if kind == "binary64"]


def literals(file, function):
    """The floating-point numbers in the source of a function, or of a module's assignment, as they are signed there."""
    tree = ast.parse((ROOT / file).read_text())
    (found,) = [
        node
        for node in tree.body
        if getattr(node, "name", None) == function
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == function)
    ]
    numbers = []
    for node in ast.walk(found):
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            if type(node.operand.value) is float:
                numbers.append(-node.operand.value)
            node.operand.value = None
        elif isinstance(node, ast.Constant) and type(node.value) is float:
            numbers.append(node.value)
    return numbers


def test_the_page_has_18_constants_each_once():
    assert len(CONSTANTS) == 18
    assert len({name for name, *_ in CONSTANTS}) == 18
    for name, *_ in CONSTANTS:
        assert len(re.findall(rf"\b{name}\b", PAGE)) > 1 or name in ("C1", "C2", "C3", "C4", "C5"), name  # it is used


@pytest.mark.parametrize(("name", "kind", "value", "bits"), CONSTANTS)
def test_the_bits_of_a_constant_are_those_of_its_value(name, kind, value, bits):
    rounded = np.float32(value).view(np.uint32) if kind == "binary32" else np.float64(value).view(np.uint64)
    assert int(rounded) == int(bits, 16), name


@pytest.mark.parametrize(
    ("file", "function"), [("engine/kernels/rows.py", "exponential"), ("falsifiers/integer_steps.py", "exp")]
)
def test_the_constants_of_exp_are_those_of_the_page(file, function):
    written = {np.float32(number) for number in literals(file, function)} - {np.float32(0)}
    assert written == set(SINGLE)


def test_the_constants_of_angles_are_those_of_the_page():
    theirs = [*literals("engine/numerics.py", "cos_sin"), *literals("engine/numerics.py", "_HALF_PI")]
    assert set(theirs) - {1.0} == set(DOUBLE)
    assert set(literals("falsifiers/integer_steps.py", "rope_tables")) - {1.0} == set(DOUBLE)


def test_the_table_of_formats_is_that_of_the_kernels():
    rows = re.findall(r"^\| (Q\S+(?:, Q\S+)*) \| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    table = {name: row[1:] for row in rows for name in row[0].split(", ")}
    assert set(table) == {layout.name for layout in LAYOUTS}
    for layout in LAYOUTS:
        block, exact, least, joins = table[layout.name]
        assert int(block) == layout.block
        offset = re.search(r"\(q_i - (\d+)\)", exact)
        assert (int(offset[1]) if offset else 0) == (0 if layout.name == "Q8_0" else layout.offset)
        assert ("sc " in exact) == (layout.block == 256)
        assert (least != "none") == bool(layout.minimum)
        assert ("-(dmin s)" in joins) == (layout.minimum < 0)
        assert ("fma(m s" in joins) == (layout.minimum > 0)


def test_every_stage_is_on_the_page():
    assert [name for name in NAMES if f"`{name}" not in PAGE] == []
