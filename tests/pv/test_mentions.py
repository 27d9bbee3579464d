"""The data files that a module declares. What it mentions otherwise is tested by what is reached: test_closure."""

import re
import time
from pathlib import Path

import pytest

from pv import mentions
from pv.errors import PvError
from pv.mentions import data_files, data_sha256, settled, source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "pkg/v.json",
        "pkg/w.json",
        "pkg/.hidden",
        "pkg/t/one.bin",
        "pkg/t/deep/two.bin",
        "data/d.txt",
        "[x]/v",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path


def declared(root: Path, code: str, name: str = "pkg/m.py") -> list[str]:
    module = root / name
    module.write_text(code)
    return [file.relative_to(root).as_posix() for file in data_files(module, root)]


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("PV_DATA = ('v.json',)", ["pkg/v.json"]),
        ("PV_DATA = 'v.json'", ["pkg/v.json"]),
        ("PV_DATA = ['v.json', 'v.json', '*.json']", ["pkg/v.json", "pkg/w.json"]),
        ("PV_DATA: tuple[str, ...] = ('t/*.bin',)", ["pkg/t/one.bin"]),
        ("PV_DATA = ('t/**/*.bin',)", ["pkg/t/deep/two.bin", "pkg/t/one.bin"]),
        ("PV_DATA = ('../data/d.txt', '.hidden')", ["data/d.txt", "pkg/.hidden"]),
        ("PV_DATA = ('v.json',)\nPV_DATA += ('w.json',)", ["pkg/v.json", "pkg/w.json"]),
        ("PV_DATA = ()", []),
        ("PV_DATA: tuple[str, ...]", []),
        ("PV_DATUM = 1", []),
        ("def f():\n    PV_DATA = 1", []),
    ],
)
def test_a_module_declares_data_by_a_literal_of_its_own(root: Path, code: str, files: list[str]) -> None:
    assert declared(root, code) == files


def test_a_folder_with_signs_of_a_pattern_in_its_name_is_no_pattern(root: Path) -> None:
    assert declared(root, "PV_DATA = 'v'", "[x]/m.py") == ["[x]/v"]


def test_what_python_compiled_is_no_data(root: Path) -> None:
    (root / "pkg/__pycache__").mkdir()
    (root / "pkg/__pycache__/m.pyc").write_text("")
    assert declared(root, "PV_DATA = '**/*.pyc', 'v.json'".replace("'**/*.pyc', ", "")) == ["pkg/v.json"]
    with pytest.raises(PvError, match=r"no file matches"):
        declared(root, "PV_DATA = '**/*.pyc'")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("PV_DATA = ('v.json',\n 'x.json')", "pkg/m.py:2: PV_DATA: no file matches 'x.json' in "),
        ("\nPV_DATA = 't'", "pkg/m.py:2: PV_DATA: no file matches 't' in "),
        ("PV_DATA = '../../x'", "pkg/m.py:1: PV_DATA: '../../x' leads out of the project\n  hint: name a file below "),
        ("PV_DATA = '/etc/hosts'", "pkg/m.py:1: PV_DATA: '/etc/hosts' leads out of the project"),
        ("PV_DATA = 'link'", "pkg/m.py:1: PV_DATA: 'link' leads out of the project"),
        ("PV_DATA = tuple(NAMES)", "pkg/m.py:1: PV_DATA must be a literal of texts\n  hint: write PV_DATA = ("),
        ("PV_DATA = ('v.json', 3)", "pkg/m.py:1: PV_DATA must be a literal of texts"),
        ("PV_DATA = ('',)", "pkg/m.py:1: PV_DATA must be a literal of texts"),
        ("PV_ENVIRONMENT = ('CI', 3)", "pkg/m.py:1: PV_ENVIRONMENT must be a literal of texts\n  hint: write PV_ENVIR"),
        ("PV_ENVIRONMENT = '*'", "pkg/m.py:1: PV_ENVIRONMENT must be a literal of texts"),
        ("PV_DATA = b'v.json'", "pkg/m.py:1: PV_DATA must be a literal of texts"),
        ("PV_DATA = f'{x}.json'", "pkg/m.py:1: PV_DATA must be a literal of texts"),
    ],
)
def test_a_declaration_that_cannot_be_followed_is_an_error_with_its_line(
    root: Path, tmp_path_factory: pytest.TempPathFactory, code: str, message: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "file"
    outside.write_text("")
    (root / "pkg/link").symlink_to(outside)
    with pytest.raises(PvError, match="^" + re.escape(f"{root}/{message}")):
        declared(root, code)


# stamps


def test_a_stamp_is_settled_once_the_clock_has_ticked() -> None:
    assert settled((1, 0, time.time_ns() - 10**9, 7), (1, 0, 0, 7))
    assert not settled((1, 0, 0, 7), (1, 0, time.time_ns(), 7))


@pytest.mark.parametrize("ago", [0, 10**10])
def test_a_file_is_read_again_until_its_stamp_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    tick = (5, 0, time.time_ns() + 10**9 - ago, 7)
    monkeypatch.setattr(mentions, "stamp", lambda file: tick)
    file = tmp_path / "m.py"
    seen = []
    for text in ("x = 1", "x = 2"):  # of one size, within one tick
        file.write_text(text)
        seen.append((source(file).sha256, data_sha256(file)))
    assert (seen[0] == seen[1]) == bool(ago)
