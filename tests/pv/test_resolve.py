import importlib
import inspect
import sys
from pathlib import Path

import pytest

from pv.config import Config
from pv.errors import PvError
from pv.resolve import FOREIGN, FUNCTION, MISSING, MUTANT, OTHER, UNKNOWN, Meaning, Sources
from pv.trial import is_mutant


def config(root: Path) -> Config:
    return Config(root=root, contracts=root, evidence=root, first_party=("mine", "other"))


def project(root: Path, **files: str) -> Sources:
    for name, text in files.items():
        path = root / "mine" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "mine" / "__init__.py").touch()
    return Sources(config(root))


def of_x(root: Path, text: str, **files: str) -> Meaning:
    return project(root, m=text, **files).meaning("mine.m", "x")


MADE = "from pv.trial import mutant\n@mutant\ndef x():\n    'd'\n    yield\n"


@pytest.mark.parametrize(
    "text",
    [
        "def x(trial): ...",
        "x = lambda trial: None",
        "def x(*trials): ...",
        "def x(trial, more=1, *, last=2, **others): ...",
        "def x(trial):\n    def parts(): yield\n    return [part for part in parts()]",
        "from unittest import mock\n@mock.patch('m')\ndef x(trial, m): ...",
        "def f(trial): ...\nx = f",
        "import functools\ndef f(trial, n): ...\nx = functools.partial(f, n=1)",
        "import functools\n@functools.cache\ndef x(trial): ...",
        "@staticmethod\ndef x(trial): ...",
        "x: object = 1\ndef x(trial): ...",
        "x = 1\nif True:\n    pass\ndef x(trial): ...",
        "try:\n    from nowhere import y\n    def x(trial): ...\nexcept ImportError:\n    def x(trial): ...",
        "if 1:\n    def x(trial): ...\nelse:\n    x = lambda trial: None",
        "with open('f') as f:\n    def x(trial): ...",
        "x = 1\nwith open('f'):\n    def x(trial): ...",
        "match 1:\n    case 1:\n        def x(trial): ...",
    ],
)
def test_what_can_be_called_is_a_function(text, tmp_path):
    assert of_x(tmp_path, text) == Meaning(FUNCTION)


@pytest.mark.parametrize(
    "text",
    [
        MADE,
        "import pv.trial\n@pv.trial.mutant\ndef x(): 'd'; yield",
        "import pv.trial as t\n@t.mutant\ndef x(): 'd'; yield",
        "from pv import trial\n@trial.mutant\ndef x(): 'd'; yield",
        "from pv.trial import mutant as planted\n@planted\ndef x(): 'd'; yield",
        "import pv.trial\nplanted = pv.trial.mutant\n@planted\ndef x(): 'd'; yield",
        "import functools\nfrom pv.trial import mutant\n@functools.cache\n@mutant\ndef x(): 'd'; yield",
        "from pv.trial import mutant\ndef f(): yield\nx = mutant(f)",
    ],
)
def test_what_mutant_of_pv_trial_made_is_a_mutant_under_any_alias(text, tmp_path):
    assert of_x(tmp_path, text) == Meaning(MUTANT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@mutant\ndef x(): yield", "has no docstring that says which defect it plants"),
        ("@mutant\ndef x():\n    ' '\n    yield", "has no docstring that says which defect it plants"),
        ("@mutant\ndef x(): 'd'", "is no generator function: it yields nowhere"),
        ("@mutant\ndef x():\n    'd'\n    def y(): yield\n    return", "is no generator function: it yields nowhere"),
        ("@mutant\nasync def x():\n    'd'\n    yield", "is no generator function: it yields nowhere"),
        ("@mutant\nclass x: 'd'", "is no generator function: it yields nowhere"),
        ("@mutant\ndef x(trial):\n    'd'\n    yield", "is called without arguments, and asks for one"),
        ("@mutant\ndef x():\n    'd'\n    return others()", ""),
        ("@mutant\ndef x(*, of=1):\n    'd'\n    yield from others()", ""),
        ("@mutant\n@made\ndef x(): ...", ""),
        ("try:\n    @mutant\n    def x():\n        'd'\n        yield\nexcept E:\n    x = mutant(others)", ""),
        ("if y:\n    @mutant\n    def x():\n        'd'\n        yield\nelse:\n    @mutant\n    def x(): yield", ""),
    ],
)
def test_a_mutant_that_can_never_be_planted_says_why(text, why, tmp_path):
    assert of_x(tmp_path, f"from pv.trial import mutant\n{text}") == Meaning(MUTANT, why)


def test_mutant_is_known_through_a_first_party_module(tmp_path):
    tools = "from pv.trial import mutant as planted\n"
    assert of_x(tmp_path, "from mine.tools import planted\n@planted\ndef x(): yield", tools=tools).kind == MUTANT
    assert of_x(tmp_path / "2", "from . import tools\n@tools.planted\ndef x(): yield", tools=tools).kind == MUTANT


@pytest.mark.parametrize("text", ["from mine.other import x", "from .other import x", "from mine.other import y as x"])
def test_a_re_export_is_followed_inside_first_party_code(text, tmp_path):
    assert of_x(tmp_path, text, other="def x(trial): ...\ny = x").kind == FUNCTION
    assert of_x(tmp_path / "2", text, other=MADE + "y = x").kind == MUTANT
    assert of_x(tmp_path / "3", text, other="z = 1") == Meaning(MISSING)


def test_an_attribute_of_a_first_party_module_is_followed(tmp_path):
    assert of_x(tmp_path, "import mine.other\nx = mine.other.y", other="def y(trial): ...").kind == FUNCTION


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = 1", "a value"),
        ("x = f'{1}'", "a value"),
        ("x, y = 1, 2", None),
        ("import x", "a module"),
        ("import os as x", "a module"),
        ("import x.y", "a module"),
        ("from mine import other as x", "a module"),
        ("async def x(trial): ...", "an async function, which nobody awaits"),
        ("class x:\n    def __init__(self, trial): ...", "a class"),
        ("def x(trial):\n    with y:\n        yield", "a generator function, whose body nobody runs"),
        ("def x(trial): return (yield from y)", "a generator function, whose body nobody runs"),
        ("import functools\n@functools.cache\ndef x(trial): yield", "a generator function, whose body nobody runs"),
        ("def x(): ...", "a function that takes no trial"),
        ("def x(*, trial=1): ...", "a function that takes no trial"),
        ("x = lambda: None", "a function that takes no trial"),
        ("def x(trial, more): ...", "a function that asks for more than a trial"),
        ("def x(trial, /, more, last=1): ...", "a function that asks for more than a trial"),
        ("def x(trial, *, more): ...", "a function that asks for more than a trial"),
    ],
)
def test_what_is_neither_function_nor_mutant_is_named(text, what, tmp_path):
    found = of_x(tmp_path, text, other="")
    assert found == (Meaning(OTHER, what) if what else Meaning(UNKNOWN, "an expression makes it"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("from mine.other import *", "a star import may bring it"),
        ("def __getattr__(name): ...", "the module's __getattr__ may make it"),
        ("globals()['x'] = 1", "globals() in line 1 may make it"),
        ("exec('x = 1')", "exec() in line 1 may make it"),
        ("def f():\n    global x\n    x = 1", "a function binds global names in line 2"),
        ("import sys\nsetattr(sys.modules[__name__], 'x', 1)", "sys.modules in line 2 may be used to make it"),
        (
            "try:\n    from numpy import x\nexcept ImportError:\n    def x(trial): ...",
            "it is defined in more than one way",
        ),
        ("def make(): ...\nx = make()", "a call makes it"),
        ("x = a or b", "an expression makes it"),
        ("for x in (): ...", "an expression makes it"),
        ("(x := 1)", "an expression makes it"),
        ("def x(trial): ...\ndel x", "an expression makes it"),
        ("def x(trial): ...\nif 1:\n    x = 1", "it is defined in more than one way"),
        ("x = y\ny = x", "its definitions lead in a circle"),
        ("@x.y\ndef f(): ...\nx = x.y", "it is an attribute of x"),
        ("class C:\n    def f(trial): ...\nx = C.f", "it is an attribute of C"),
        ("x = (1).real", "it comes from elsewhere, which is not first-party"),
        ("from mine.m import x", "its definitions lead in a circle"),
    ],
)
def test_what_cannot_be_told_says_why(text, why, tmp_path):
    assert of_x(tmp_path, text, other="") == Meaning(UNKNOWN, why)


@pytest.mark.parametrize(
    "text", ["from numpy import x", "import numpy\nx = numpy.sum", "from numpy import sum as s\nx = s"]
)
def test_what_another_package_holds_is_foreign(text, tmp_path):
    assert of_x(tmp_path, text) == Meaning(FOREIGN, "it comes from numpy, which is not first-party")


def test_a_folder_without_init_is_shadowed_by_a_package_of_its_name(tmp_path, monkeypatch):
    found = project(tmp_path / "ours", m="def x(trial): ...")
    (tmp_path / "ours" / "mine" / "__init__.py").unlink()
    (tmp_path / "theirs" / "mine").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "theirs"))
    monkeypatch.chdir(tmp_path / "ours")
    assert found.meaning("mine.m", "x") == Meaning(FUNCTION)  # folders of one name are one package
    (tmp_path / "theirs" / "mine" / "__init__.py").touch()
    importlib.invalidate_caches()
    with pytest.raises(PvError) as error:
        Sources(found.config).meaning("mine.m", "x")
    taken = tmp_path / "theirs" / "mine" / "__init__.py"
    assert error.value.args[0] == f"no module 'mine.m': mine/ has no __init__.py, so Python takes mine from {taken}"
    assert error.value.hint == "touch mine/__init__.py"
    (tmp_path / "ours" / "mine" / "__init__.py").touch()
    assert Sources(found.config).meaning("mine.m", "x") == Meaning(FUNCTION)


def test_a_decorator_that_may_make_a_mutant_leaves_a_doubt(tmp_path):
    text = "import numpy\n@numpy.vectorize(1)\ndef x(trial): ...\n"
    assert of_x(tmp_path, text) == Meaning(FUNCTION, "its decorator numpy.vectorize(1) may do anything")


def test_a_name_that_nothing_binds_is_missing(tmp_path):
    text = "import os\ndef y(trial):\n    x = 1\n    for z in (): ...\nclass C:\n    x = 1\n"
    assert of_x(tmp_path, text) == Meaning(MISSING)


def test_names_lists_what_a_module_defines_of_a_kind(tmp_path):
    text = MADE + "from mine.other import z\ndef f(trial): ...\ndef _g(trial): ...\nn = 1\n"
    found = project(tmp_path, m=text, other="def z(trial): ...")
    assert found.names("mine.m", FUNCTION) == ["f"]
    assert found.names("mine.m", MUTANT) == ["x"]


def test_a_package_is_read_from_its_init_and_a_folder_without_one_holds_nothing_readable(tmp_path):
    found = project(tmp_path, __init__="def x(trial): ...\n")
    (tmp_path / "mine" / "__init__.py").write_text("def x(trial): ...\n")
    (tmp_path / "other").mkdir()
    assert found.meaning("mine", "x").kind == FUNCTION
    assert found.meaning("other", "x") == Meaning(UNKNOWN, "other is no Python source")


@pytest.mark.parametrize(
    ("module", "message", "hint"),
    [
        ("mine.mm", "no module 'mine.mm' below {}", "did you mean 'mine.m'?"),
        ("yours.m", "'yours.m' is no first-party module, so a change of it could not be noticed",
         "first-party here: mine, other; see [tool.pv] first-party"),
        ("mine.bad", "does not parse: expected ':'", ""),
        (f"mine.{'x' * 300}", f"no module 'mine.{'x' * 300}': File name too long", ""),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_read_is_an_error(module, message, hint, tmp_path):
    found = project(tmp_path, m="", bad="def x(trial)\n")
    with pytest.raises(PvError) as error:
        found.meaning(module, "x")
    assert (error.value.args[0], error.value.hint) == (message.format(tmp_path), hint)


def test_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert of_x(tmp_path, "raise SystemExit('imported')\ndef x(trial): ...").kind == FUNCTION
    assert "mine.m" not in sys.modules


def is_called_with_a_trial(function) -> bool:
    try:
        inspect.signature(function).bind("trial")
    except TypeError:
        return False
    return not inspect.isgeneratorfunction(function)


@pytest.mark.parametrize("module", ["apr_cli_trace_save_tensor", "aprt_files", "model_parity", "contract_validates"])
def test_the_falsifiers_of_the_project_mean_what_an_import_finds(module):
    root = Path(__file__).parents[2]
    found = Sources(Config(root=root, contracts=root, evidence=root, first_party=("engine", "falsifiers", "pv")))
    imported = importlib.import_module(f"falsifiers.{module}")
    for name, value in vars(imported).items():
        if name.startswith("__"):
            continue
        kind = found.meaning(f"falsifiers.{module}", name).kind
        if kind == MUTANT:
            assert is_mutant(value), name
        elif kind == FUNCTION:
            assert callable(value), name
            assert not is_mutant(value), name
        elif kind == OTHER:
            plain = inspect.isfunction(value) and not hasattr(value, "__wrapped__")  # no decorator made it
            assert not (plain and is_called_with_a_trial(value)), name
        else:
            assert kind in (UNKNOWN, FOREIGN), name
    assert set(found.names(f"falsifiers.{module}", MUTANT)) == {
        name for name, value in vars(imported).items() if is_mutant(value)
    }
