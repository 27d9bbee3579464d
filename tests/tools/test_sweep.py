import ast

import pytest

from tools.sweep import KINDS, ROOT, SPARED, TARGETS, changes, left_out, spared

SOURCE = '''
def outer(a, b):
    """Not a line that does something."""
    total = (a + b) * 2
    if a < b:
        total -= 1
    return total


def other(a):
    return a
'''


def changed(name: str | None, *kinds: str) -> list[str]:
    """The lines that differ after each change."""
    found = []
    for change in changes("x.py", SOURCE, name, kinds):
        text = SOURCE[: change.start] + change.text + SOURCE[change.end :]
        ast.parse(text)
        (line,) = set(text.splitlines()) - set(SOURCE.splitlines()) or {"pass"}
        found.append(line.strip())
    return sorted(found)


def test_every_statement_is_deleted_once_and_no_docstring():
    assert changed("outer", "delete") == ["pass"] * 3


def test_a_condition_is_held_false_and_true():
    assert changed("outer", "condition") == ["if False:", "if True:"]


def test_operators_are_swapped_where_they_stand():
    assert changed("outer", "operator") == ["if a <= b:", "total = (a + b) / 2", "total = (a - b) * 2"]


def test_constants_are_nudged():
    assert changed("outer", "constant") == ["total -= (1 + 1)", "total = (a + b) * (2 + 1)"]


def test_without_a_name_every_function_is_changed():
    assert len(changed(None, "delete")) == 4


def test_an_unknown_name_is_told():
    with pytest.raises(SystemExit, match=r"^x\.py has no function or class 'nothing'"):
        list(changes("x.py", SOURCE, "nothing", KINDS))


def test_every_spared_change_is_one_that_would_be_made():
    found = {change for file in {file for file, *_ in SPARED} for change in every_change(file)}
    assert sum(spared(change) for change in found) == len(SPARED)


def every_change(file):
    return list(changes(file, (ROOT / file).read_text(encoding="utf-8"), None, KINDS))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_exists_and_every_change_of_it_is_a_program(target):
    file, _, name = target.partition(":")
    source = (ROOT / file).read_text(encoding="utf-8")
    found = list(changes(file, source, name or None, KINDS))
    assert found
    for change in found:
        ast.parse(source[: change.start] + change.text + source[change.end :])


def test_a_copy_goes_without_the_evidence_and_has_all_packages():
    assert left_out(str(ROOT), ["pv", "evidence", "tests", ".git", "pyproject.toml"]) == {"evidence", "tests", ".git"}
    assert left_out(str(ROOT / "pv"), ["evidence", "__pycache__", "cli.py"]) == {"__pycache__"}
