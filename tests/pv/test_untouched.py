"""Modules that something has changed since they were imported, and those that only look so."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from pv.outcome import Outcome
from pv.untouched import touched
from tests.pv.trying import HONEST, Try

SOURCE = """\
    import abc
    import enum
    import functools
    from dataclasses import dataclass
    from typing import NamedTuple

    MODULUS = 251
    RATE: float = 0.0
    PAIR = ONE = (1, (2.5, "x"))
    TABLE = {"a": 1}
    NESTED = ([],)
    EMPTY = set()
    TWICE = 1
    TWICE = 2
    count = 0
    if True:
        BRANCH = 1
    try:
        import missing_module
    except ImportError:
        def fallback(): return 1

    def step(data):
        global count
        count += 1
        return sum(data) % MODULUS

    @functools.cache
    def kept(): return 1

    def wrapped(): return 1
    wrapped = functools.cache(wrapped)

    async def later(): return 1

    class Plain:
        LIMIT = 3
        def run(self): return 1
        def __private(self): return 1
        def __new__(cls): return super().__new__(cls)
        @property
        def told(self): return 1
        def again(self): return 1
        again = functools.cache(again)

    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        def size(self): return __class__

    class Row(NamedTuple):
        x: int
        def size(self): return 1

    class Colour(enum.Enum):
        RED = 1
        def size(self): return 1

    class Base(abc.ABC):
        @abc.abstractmethod
        def size(self): ...
        def other(self): return 1

    class Wraps(type):
        def __new__(cls, name, bases, held):
            held["run"] = functools.cache(held["run"])
            return super().__new__(cls, name, bases, held)

    class Made(metaclass=Wraps):
        def run(self): return 1
"""

Load = Callable[..., tuple[ModuleType, dict[Path, str]]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load_one(text: str = SOURCE, name: str = "touchable") -> tuple[ModuleType, dict[Path, str]]:
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name), {file: name}

    yield load_one
    for name in ("touchable", "touching"):
        sys.modules.pop(name, None)


def test_a_module_as_it_was_imported_is_untouched(load: Load) -> None:
    module, closure = load()
    assert touched(closure) is None
    module.step([1])
    module.TABLE["b"] = 2
    module.NESTED[0].append(1)
    module.EMPTY.add(1)
    module.kept()
    assert touched(closure) is None


def other() -> int:
    return 2


CHANGES: dict[str, tuple[str, object]] = {
    "MODULUS": ("", 65521),
    "RATE": ("", -0.0),
    "ONE": ("", (1, (2.5, "y"))),
    "PAIR": ("", [1, (2.5, "x")]),
    "step": ("", other),
    "later": ("", other),
    "run": ("Plain", other),
    "_Plain__private": ("Plain", other),
    "size": ("Row", other),
    "other": ("Base", other),
    "Plain": ("", type("Plain", (), {})),
    "Base": ("", None),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("warm", [False, True])
def test_what_was_changed_is_named_with_its_line(load: Load, name: str, warm: bool) -> None:
    module, closure = load()
    if warm:
        assert touched(closure) is None
    owner, value = CHANGES[name]
    setattr(getattr(module, owner) if owner else module, name, value)
    found = touched(closure)
    assert found is not None
    (file,) = closure
    told, what, where, line = found
    assert (told, where) == ("touchable", file)
    wanted = f"{owner}.{name}" if owner else {"Plain": "Plain.run", "Base": "Base.other"}.get(name, name)
    assert what == wanted
    assert wanted.rpartition(".")[2].removeprefix("_Plain") in file.read_text().splitlines()[line - 1]


@pytest.mark.parametrize("name", ["Point", "Colour"])
def test_methods_of_generated_classes_are_compared(load: Load, name: str) -> None:
    module, closure = load()
    getattr(module, name).size = other
    assert touched(closure) == ("touchable", f"{name}.size", *closure, _line(closure, f"class {name}", "def size"))


def _line(closure: dict[Path, str], *texts: str) -> int:
    """The line of the last text, after those of the others."""
    lines, at = next(iter(closure)).read_text().splitlines(), 0
    for text in texts:
        at = next(number for number, line in enumerate(lines[at:], at + 1) if text in line)
    return at


def test_a_value_of_another_type_is_another_value(load: Load) -> None:
    module, closure = load("YES = True\n")
    module.YES = 1  # type: ignore[attr-defined]
    assert touched(closure) is not None


def test_code_and_globals_of_a_function_count(load: Load) -> None:
    module, closure = load()
    assert touched(closure) is None
    step = module.step
    module.step = FunctionType(step.__code__, {**vars(module), "MODULUS": 65521})  # type: ignore[attr-defined]
    assert touched(closure) is not None
    module.step = step  # type: ignore[attr-defined]
    assert touched(closure) is None
    step.__code__ = other.__code__
    assert touched(closure) is not None


def test_a_name_that_was_taken_away_is_a_change(load: Load) -> None:
    module, closure = load()
    del module.MODULUS
    found = touched(closure)
    assert found is not None
    assert found[1] == "MODULUS"


@pytest.mark.parametrize(
    "name", ["TABLE", "NESTED", "EMPTY", "TWICE", "count", "BRANCH", "fallback", "kept", "wrapped"], ids=str
)
def test_what_cannot_be_told_is_left_out(load: Load, name: str) -> None:
    module, closure = load()
    setattr(module, name, object())
    assert touched(closure) is None


def test_what_a_module_of_the_closure_sets_while_it_is_imported_is_left_out(load: Load) -> None:
    _, closure = load()
    _, setter = load(
        "import touchable\ntouchable.MODULUS = 7\nsetattr(touchable.Plain, 'run', len)\n"
        "def f():\n    touchable.RATE = 1.0\n",
        "touching",
    )
    assert touched({**closure, **setter}) is None
    assert touched(closure) is not None, "without that module nothing says why"
    sys.modules["touchable"].RATE = 1.0  # type: ignore[attr-defined]
    found = touched({**closure, **setter})
    assert found is not None
    assert found[1] == "RATE"


def test_a_star_import_may_replace_what_stands_before_it(load: Load) -> None:
    load("def step(): return 2\n", "touching")
    module, closure = load("def step(): return 1\nfrom touching import *\ndef last(): return 1\n")
    assert touched(closure) is None
    module.last = other  # type: ignore[attr-defined]
    assert touched(closure) is not None


@pytest.mark.parametrize("hook", ["true", "false"])
def test_functions_in_which_pytest_rewrites_asserts_are_compared_with_what_it_makes_of_them(
    hook: str, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_it="""
        import sys
        from pathlib import Path
        from pv.untouched import touched

        LIMIT = 1

        def plain(): return 1

        def another(): return 2

        def asserting():
            assert LIMIT

        def asserting_less():
            assert True

        def test_it():
            closure = {Path(__file__): __name__}
            assert touched(closure) is None
            swapped = ("plain", another), ("LIMIT", None), ("asserting", None), ("asserting", asserting_less)
            for name, value in swapped:
                before, globals()[name] = globals()[name], value
                assert touched(closure)[1] == name
                globals()[name] = before
        """
    )
    options = ("-p", "no:cacheprovider", "-o", f"enable_assertion_pass_hook={hook}")
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)


def test_a_changed_module_makes_the_trial_errored(try_: Try, project: Path) -> None:
    (project / "helper.py").write_text("LIMIT = 4\n\n\ndef unused(): return 1\n", encoding="utf-8")
    header = "import helper\nfrom pv.trial import *\n\nlimit = 3\n"
    body = "def f(trial): trial.at_most(helper.LIMIT, 4, 'limit')"
    assert try_(body, header=header).record.outcome is Outcome.SURVIVED
    sys.modules["helper"].LIMIT = 3  # type: ignore[attr-defined]
    result = try_(body, header=header)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == (
        "contracts/limits.yaml:7: FALSIFY-L-001: helper.LIMIT is not what helper.py:1 says: it was changed by "
        "something outside the falsifier's imports: a conftest, another module or test"
    )
    assert result.details.startswith("hint: let what changed it take that back")


def test_a_mutant_that_was_taken_out_leaves_nothing(try_: Try) -> None:
    for mutant in ("raised_limit", None):
        result = try_(f"def f(trial): {HONEST}", mutant=mutant)
        assert result.record.outcome is (Outcome.FALSIFIED if mutant else Outcome.SURVIVED)
