"""What was used of the project although no digest covers it."""

import sys
from pathlib import Path

import pytest

from pv.config import Config, find
from pv.undigested import undeclared, undigested
from pv.watch import LOADED

FILES = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["lib", "falsifiers", "flat"]\n',
    "falsifiers/__init__.py": "",
    "falsifiers/x.py": "import lib.a\nPV_DATA = 'declared.json'",
    "falsifiers/declared.json": "",
    "flat.py": "",
    "lib/__init__.py": "",
    "lib/a.py": "",
    "lib/b.py": "",
    "lib/deep/c.py": "",
    "lib/deep/table.bin": "",
    "lib/.hidden/table.bin": "",
    "lib/__pycache__/a.nbi": "",
    "contracts/c.yaml": "",
    "notes.txt": "",
    ".rc": "",
    ".venv/lib/x.json": "",
    ".git/HEAD": "",
    "evidence/x.json": "",
    "conftest.py": "",
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return find(tmp_path)


def test_of_the_executed_files_the_first_party_ones_outside_the_closure_are_undigested(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.syspath_prepend(tmp_path / "venv/lib/site-packages")
    (tmp_path / "venv/lib/site-packages").mkdir(parents=True)
    for name in (".venv/lib/site.py", "lib/native.so", "venv/lib/site-packages/x.py", ".hidden.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "alias").symlink_to(tmp_path)
    covered = [f"{tmp_path}/falsifiers/x.py", f"{tmp_path}/alias/lib/a.py", "lib/a.py", "lib/__init__.py"]
    foreign = ["/usr/lib/x.py", f"{tmp_path}/.venv/lib/site.py"]
    foreign += [f"{tmp_path}/conftest.py"]
    assert undigested("falsifiers.x", [*covered, *foreign], config) == ()
    loose = [f"{tmp_path}/venv/lib/site-packages/x.py"]  # named as if it were installed
    assert undigested("falsifiers.x", loose, config) == ("venv/lib/site-packages/x.py",)
    loose = ["lib/b.py", f"{tmp_path}/alias/lib/deep/c.py", f"{tmp_path}/lib/native.so", "lib/b.py"]
    assert undigested("falsifiers.x", [*covered, *foreign, *loose, ".hidden.py"], config) == (
        ".hidden.py",
        "lib/b.py",
        "lib/deep/c.py",
        "lib/native.so",
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.py").write_text("")
    assert undigested("falsifiers.x", [*covered, f"{tmp_path}/other/x.py"], config) == ("other/x.py",)


def test_every_file_below_the_root_that_was_read_is_data_wherever_it_lies(config: Config, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "lib/deep/table.bin")
    (tmp_path / "away").symlink_to("/etc/hostname")
    fine = ["falsifiers/declared.json", "lib/a.py", "lib/gone.bin", "lib/deep", "../outside", ".git/HEAD"]
    assert undeclared("falsifiers.x", [(f"{tmp_path}/{name}", "x.py") for name in fine], config) == ()
    loose = ["alias", "away", "lib/.hidden/table.bin", "lib/b.py", "lib/__pycache__/a.nbi", "contracts/c.yaml"]
    loose += ["notes.txt", ".rc", "pyproject.toml", "evidence/x.json", ".venv/lib/x.json", "conftest.py"]
    for name in loose:
        want = {"alias": "lib/deep/table.bin"}.get(name, name)
        assert undeclared("falsifiers.x", [(f"{tmp_path}/{name}", "x.py")], config) == (want,)


def test_what_was_installed_below_the_root_is_no_data_of_the_project(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = [(f"{tmp_path}/.venv/lib/x.json", "x.py")]
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert undeclared("falsifiers.x", read, config) == ()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # else nothing at all would be of the project
    assert undeclared("falsifiers.x", read, config) == (".venv/lib/x.json",)


@pytest.mark.parametrize(
    ("reader", "is_tool"),
    [
        (LOADED, True),
        ("/usr/lib/python3/dist-packages/_pytest/config.py", True),
        ("/x/site-packages/coverage/sqldata.py", True),
        ("/x/site-packages/hypothesis/internal/constants_ast.py", True),
        ("/x/site-packages/numba/core/caching.py", True),
        ("/x/site-packages/numpy/lib/npyio.py", False),
        ("/x/coverage/data.py", False),
        ("", False),
    ],
)
def test_what_pytest_and_numba_read_is_no_data_of_the_trial(
    config: Config, tmp_path: Path, reader: str, is_tool: bool
) -> None:
    assert undeclared("falsifiers.x", [(f"{tmp_path}/notes.txt", reader)], config) == (
        () if is_tool else ("notes.txt",)
    )
