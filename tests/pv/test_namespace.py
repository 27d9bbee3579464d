import ast
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from pv.config import Config
from pv.errors import PvError
from pv.namespace import read


def module(root: Path, text: str):
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "__init__.py").write_text(text, encoding="utf-8")
    return read("mine", Config(root=root, contracts=root, evidence=root, first_party=("mine",)))


def test_each_place_that_binds_a_name_is_kept_in_its_order_with_whether_it_always_runs(tmp_path):
    text = (
        "import a.b, c.d as e\nfrom f import g as h\nx = y = 1\nif x:\n    def x(): ...\nwith x as z:\n    (w, v) = z\n"
    )
    found = module(tmp_path, text).names
    assert list(found) == ["a", "e", "h", "x", "y", "z", "w", "v"]
    assert [(type(one.node), one.certain) for one in found["x"]] == [(ast.Constant, True), (ast.FunctionDef, False)]
    assert [(one.node, one.certain) for one in found["w"]] == [(None, True)]
    text = "try:\n    t = 1\nexcept E:\n    t = 2\nmatch 1:\n    case 1:\n        m = 1\n"
    assert [one.certain for bound in module(tmp_path / "rare", text).names.values() for one in bound] == [False] * 3
    assert isinstance(found["h"][0].source, ast.ImportFrom)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", ""),
        ("from f import *", "a star import may bring it"),
        ("def __getattr__(name): ...", "the module's __getattr__ may make it"),
        ("def f():\n    global x", "a function binds global names in line 2"),
        ("exec('x = 1')", "exec() in line 1 may make it"),
        ("import sys\nsys.modules[__name__].x = 1", "sys.modules in line 2 may be used to make it"),
    ],
)
def test_a_module_says_why_it_may_have_names_that_its_text_does_not_show(tmp_path, text, why):
    assert module(tmp_path, text).elsewhere == why


def test_a_folder_without_a_source_has_no_names_and_what_does_not_parse_is_an_error(tmp_path):
    config = Config(root=tmp_path, contracts=tmp_path, evidence=tmp_path, first_party=("empty", "bad", "built"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.py").write_text("def x(")
    (tmp_path / f"built{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    assert read("empty", config) is read("built", config) is None
    with pytest.raises(PvError, match=r"bad\.py:1: does not parse"):
        read("bad", config)
