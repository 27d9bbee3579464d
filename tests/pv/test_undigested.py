"""What was used of the project although no digest covers it."""

from pathlib import Path

import pytest

from pv.config import Config, find
from pv.undigested import undeclared, undigested

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
    for name in (".venv/lib/site.py", "lib/native.so"):
        (tmp_path / name).write_text("")
    (tmp_path / "alias").symlink_to(tmp_path)
    covered = [f"{tmp_path}/falsifiers/x.py", f"{tmp_path}/alias/lib/a.py", "lib/a.py", "lib/__init__.py"]
    foreign = ["/usr/lib/x.py", f"{tmp_path}/.venv/lib/site.py", f"{tmp_path}/venv/lib/site-packages/x.py"]
    assert undigested("falsifiers.x", [*covered, *foreign], config) == ()
    loose = ["lib/b.py", f"{tmp_path}/alias/lib/deep/c.py", f"{tmp_path}/lib/native.so", "lib/b.py"]
    assert undigested("falsifiers.x", [*covered, *foreign, *loose], config) == (
        "lib/b.py",
        "lib/deep/c.py",
        "lib/native.so",
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.py").write_text("")
    assert undigested("falsifiers.x", [*covered, f"{tmp_path}/other/x.py"], config) == ("other/x.py",)


def test_of_the_files_that_were_read_the_projects_undeclared_data_is_told(config: Config, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "lib/deep/table.bin")
    fine = ["falsifiers/declared.json", "lib/b.py", "lib/b.pyc", "lib/__pycache__/a.nbi", "contracts/c.yaml"]
    fine += ["notes.txt", ".venv/lib/x.json", "lib/gone.bin", "lib/deep", "../outside"]
    assert undeclared("falsifiers.x", [f"{tmp_path}/{name}" for name in fine], config) == ()
    loose = ["lib/deep/table.bin", "alias", "lib/.hidden/table.bin"]
    assert undeclared("falsifiers.x", [f"{tmp_path}/{name}" for name in loose], config) == (
        "lib/.hidden/table.bin",
        "lib/deep/table.bin",
    )


def test_data_beside_a_module_that_is_in_no_package_is_its_data(config: Config, tmp_path: Path) -> None:
    names = [f"{tmp_path}/{name}" for name in ("notes.txt", ".rc", "pyproject.toml", "contracts/c.yaml")]
    assert undeclared("flat", names, config) == ("notes.txt",)
