import os
import time

import pytest

from pv import closure as under_test
from pv.closure import closure, code_digest, package_digests
from pv.config import find
from pv.errors import PvError

FILES = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["lib", "falsifiers"]\n[project.scripts]\ntool = "lib.cli:main"\n',
    "falsifiers/__init__.py": "",
    "falsifiers/x.py": "import json\nimport lib.a\n",
    "lib/__init__.py": "",
    "lib/a.py": "",
    "lib/b.py": "",
    "lib/cli.py": "",
    "lib/deep/__init__.py": "",
    "lib/deep/c.py": "",
    "lib/deep/d.py": "",
}


@pytest.fixture
def project(tmp_path):
    def make(**changed):
        for name, text in {**FILES, **changed}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return find(tmp_path)

    return make


def reached(config, module="falsifiers.x"):
    return [file.relative_to(config.root).as_posix() for file in closure(module, config)]


BASE = ["falsifiers/__init__.py", "falsifiers/x.py"]
DEEP = ["lib/__init__.py", "lib/deep/__init__.py"]


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("import lib.a", ["lib/__init__.py", "lib/a.py"]),
        ("import lib.deep.c as c, os", [*DEEP, "lib/deep/c.py"]),
        ("from lib import a, b", ["lib/__init__.py", "lib/a.py", "lib/b.py"]),
        ("from lib.a import something", ["lib/__init__.py", "lib/a.py"]),
        ("from lib import *", ["lib/__init__.py"]),
        ("def f():\n    if 1:\n        import lib.b", ["lib/__init__.py", "lib/b.py"]),
        ("import importlib\nimportlib.import_module('lib.b')", ["lib/__init__.py", "lib/b.py"]),
        ("from importlib import import_module\nimport_module('lib')", ["lib/__init__.py"]),
        ("__import__('lib.a')", ["lib/__init__.py", "lib/a.py"]),
        ("ARGS = ['-m', 'lib.b']", ["lib/__init__.py", "lib/b.py"]),
        ("MUTANT = 'lib.b:off_by_one'", ["lib/__init__.py", "lib/b.py"]),
        ("import subprocess\nsubprocess.run(['tool', 'run'])", ["lib/__init__.py", "lib/cli.py"]),
        ("import json, os.path, numpy.linalg", []),
        ("TEXT = 'lib a', 'lib', 'other.module', 'lib.nothing.here'", ["lib/__init__.py"]),
    ],
)
def test_a_module_is_reached_by(project, code, files):
    assert reached(project(**{"falsifiers/x.py": code})) == [*BASE, *files]


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("from . import d", ["lib/deep/d.py"]),
        ("from .d import x", ["lib/deep/d.py"]),
        ("from .. import a", ["lib/a.py"]),
        ("from ..b import x", ["lib/b.py"]),
        ("import importlib\nimportlib.import_module('.d', __package__)", ["lib/deep/d.py"]),
    ],
)
def test_relative_imports_start_at_their_package(project, code, files):
    config = project(**{"falsifiers/x.py": "import lib.deep.c", "lib/deep/c.py": code})
    assert set(reached(config)) == {*BASE, *DEEP, "lib/deep/c.py", *files}


def test_a_package_resolves_its_relative_imports_within_itself(project):
    config = project(**{"falsifiers/x.py": "import lib", "lib/__init__.py": "from .deep import c"})
    assert set(reached(config)) == {*BASE, *DEEP, "lib/deep/c.py"}


def test_a_circle_of_imports_ends(project):
    config = project(**{"lib/a.py": "import lib.b", "lib/b.py": "import lib.a"})
    assert reached(config) == [*BASE, "lib/__init__.py", "lib/a.py", "lib/b.py"]


def test_a_module_in_src_and_a_folder_without_init_are_found(project):
    config = project(
        **{
            "pyproject.toml": '[tool.pv]\nfirst-party = ["falsifiers", "far"]',
            "falsifiers/x.py": "from far.away import place",
            "src/far/away/place.py": "",
        }
    )
    assert reached(config) == [*BASE, "src/far/away/place.py"]


def test_an_unrelated_edit_leaves_the_digest_and_a_related_one_changes_it(project):
    config = project(**{"lib/a.py": "from lib.deep import c"})
    before = code_digest("falsifiers.x", config)
    project(**{"lib/a.py": "from lib.deep import c", "lib/b.py": "print('unrelated')", "README.md": "more"})
    assert code_digest("falsifiers.x", config) == before
    for related in ("falsifiers/x.py", "falsifiers/__init__.py", "lib/a.py", "lib/deep/__init__.py", "lib/deep/c.py"):
        file = config.root / related
        text = file.read_text()
        file.write_text(text + "# changed\n")
        assert code_digest("falsifiers.x", config) != before, related
        file.write_text(text)
        assert code_digest("falsifiers.x", config) == before


def test_an_edit_that_keeps_size_and_time_is_noticed(project):
    config = project(**{"lib/a.py": "x = 1\n"})
    file = config.root / "lib/a.py"
    stat = file.stat()
    before = code_digest("falsifiers.x", config)
    file.write_text("x = 2\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert code_digest("falsifiers.x", config) != before


def test_the_digest_does_not_depend_on_where_the_project_lies(project, tmp_path):
    before = code_digest("falsifiers.x", project())
    moved = tmp_path / "moved"
    for name, text in FILES.items():
        (moved / name).parent.mkdir(parents=True, exist_ok=True)
        (moved / name).write_text(text)
    assert code_digest("falsifiers.x", find(moved)) == before


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("\nimport lib.aa", r"falsifiers/x\.py:2: no module 'lib\.aa' below .*\n  hint: did you mean 'lib\.a'\?$"),
        ("from lib.nothing import a", r"falsifiers/x\.py:1: no module 'lib\.nothing'"),
        ("from ....lib import a", r"falsifiers/x\.py:1: relative import beyond the top-level package$"),
        ("import lib.a as\n", r"falsifiers/x\.py:1: does not parse: "),
        ("x = '\0'", r"falsifiers/x\.py.*: does not parse: "),
    ],
)
def test_an_import_that_cannot_be_followed_is_an_error_with_its_line(project, code, message):
    with pytest.raises(PvError, match=message):
        closure("falsifiers.x", project(**{"falsifiers/x.py": code}))


@pytest.mark.parametrize("caught", ["ImportError", "ModuleNotFoundError", "(ValueError, ImportError)", ""])
def test_a_missing_module_may_be_missing_where_that_is_caught(project, caught):
    code = f"try:\n    import lib._version\nexcept {caught}:\n    pass"
    config = project(**{"falsifiers/x.py": code})
    assert reached(config) == [*BASE, "lib/__init__.py"]
    (config.root / "lib/_version.py").write_text("")
    assert "lib/_version.py" in reached(config)


def test_an_uncaught_missing_module_is_an_error_although_a_try_stands_around_it(project):
    code = "try:\n    import lib._version\nexcept ValueError:\n    pass"
    with pytest.raises(PvError, match=r"no module 'lib\._version'"):
        closure("falsifiers.x", project(**{"falsifiers/x.py": code}))


def test_a_foreign_module_has_no_closure(project):
    with pytest.raises(PvError, match=r"^'numpy' is no first-party module, so a change of it could not be noticed"):
        closure("numpy", project())


def test_a_missing_falsifier_module_is_an_error(project):
    with pytest.raises(PvError, match=r"^no module 'falsifiers\.xx' below .*\n  hint: did you mean 'falsifiers\.x'\?"):
        closure("falsifiers.xx", project())


# data files

READER = "import lib.a\nPV_DATA = ('vectors.json', 'tables/*.bin')\n"
DATA = {
    "falsifiers/x.py": READER,
    "falsifiers/vectors.json": "[1]",
    "falsifiers/tables/one.bin": "1",
    "falsifiers/tables/two.bin": "2",
}


def test_declared_data_belongs_to_the_closure(project):
    config = project(**DATA, **{"falsifiers/other.json": ""})
    assert reached(config) == sorted(
        [*BASE, *(name for name in DATA if name != "falsifiers/x.py"), "lib/__init__.py", "lib/a.py"]
    )


def test_data_that_an_imported_module_declares_belongs_to_it_too(project):
    config = project(**{"lib/a.py": "PV_DATA: str = '../data/t.bin'", "data/t.bin": ""})
    assert reached(config) == ["data/t.bin", *BASE, "lib/__init__.py", "lib/a.py"]


def test_an_edit_of_declared_data_changes_the_digest_and_one_of_other_data_does_not(project):
    config = project(**DATA, **{"falsifiers/other.json": ""})
    before = code_digest("falsifiers.x", config)
    (config.root / "falsifiers/other.json").write_text("unrelated")
    assert code_digest("falsifiers.x", config) == before
    for name in ("vectors.json", "tables/two.bin"):
        file = config.root / "falsifiers" / name
        text = file.read_text()
        file.write_text("changed")
        assert code_digest("falsifiers.x", config) != before, name
        file.write_text(text)
        assert code_digest("falsifiers.x", config) == before
    (config.root / "falsifiers/tables/three.bin").write_text("3")  # a file that comes is a change as well
    assert code_digest("falsifiers.x", config) != before


# what is remembered from one walk to the next


def settle(config):
    """Wait until what is written next has another time, and walk."""
    time.sleep(0.06)
    return code_digest("falsifiers.x", config)


def test_a_second_walk_looks_no_name_up_again(project, monkeypatch):
    config = project()
    before = settle(config)
    monkeypatch.setattr(under_test, "_place", None)
    assert code_digest("falsifiers.x", config) == before


@pytest.mark.parametrize(
    ("name", "text", "comes"),
    [
        ("lib/a.py", "import lib.b", "lib/b.py"),
        ("lib/a/__init__.py", "", "lib/a/__init__.py"),  # a package of the name goes before the module
        ("lib/deep/e.py", "", "lib/deep/e.py"),  # which a text names that named nothing before
        ("src/lib2.py", "", "src/lib2.py"),
    ],
)
def test_what_was_remembered_falls_with_a_file_that_changes_or_comes(project, name, text, comes):
    names = '[tool.pv]\nfirst-party = ["lib", "lib2", "falsifiers"]\n'
    code = "import lib.a\nX = 'lib.deep.e', 'lib.deep'\ntry:\n    import lib2\nexcept ImportError: pass"
    config = project(**{"pyproject.toml": names, "falsifiers/x.py": code})
    before = settle(config)
    assert comes not in reached(config)
    project(**{"pyproject.toml": names, "falsifiers/x.py": code, name: text})
    assert code_digest("falsifiers.x", config) != before
    assert comes in reached(config)


def test_a_file_that_changes_twice_within_a_tick_of_the_clock_is_noticed_twice(project):
    config, seen = project(), []
    for number in range(20):
        (config.root / "lib/a.py").write_text(f"x = {number % 10}\n")
        seen.append(code_digest("falsifiers.x", config))
    assert len(set(seen)) == 10
    assert seen[:10] == seen[10:]


# the parts of the closure by package


def test_each_package_has_the_digest_of_its_part(project):
    config = project(**DATA)
    before = package_digests("falsifiers.x", config)
    assert list(before) == ["falsifiers", "lib"]
    for name in ("falsifiers/x.py", "falsifiers/vectors.json", "lib/a.py"):
        file = config.root / name
        text = file.read_text()
        file.write_text(text + " ")
        after = package_digests("falsifiers.x", config)
        assert [part for part in before if after[part] != before[part]] == [name.partition("/")[0]]
        file.write_text(text)
    (config.root / "lib/b.py").write_text("unrelated = 1")
    assert package_digests("falsifiers.x", config) == before


def test_data_belongs_to_the_package_that_declares_it_wherever_it_lies(project):
    config = project(**{"lib/a.py": "PV_DATA = '../data/t.bin'", "data/t.bin": "1"})
    before = package_digests("falsifiers.x", config)
    (config.root / "data/t.bin").write_text("2")
    after = package_digests("falsifiers.x", config)
    assert list(before) == ["falsifiers", "lib"]
    assert [part for part in before if after[part] != before[part]] == ["lib"]


def test_the_parts_of_a_missing_module_are_an_error(project):
    with pytest.raises(PvError, match=r"no module 'falsifiers\.xx'"):
        package_digests("falsifiers.xx", project())
