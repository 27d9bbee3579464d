import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pv import new
from pv.cli import main
from pv.config import find
from pv.errors import PvError
from pv.new import start
from pv.validate import validate

PROJECT = '[tool.pv]\ncontracts = "contracts"\nfirst-party = ["falsifiers", "mine"]\n'
WRITTEN = """\
from pv.trial import Trial, mutant

LENGTH = [3]


def promise_holds(trial: Trial) -> None:
    trial.equal(LENGTH[0], 3, "length")


@mutant
def planted_defect():
    "One too many."
    LENGTH[0] += 1
    yield
    LENGTH[0] -= 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != "pyproject.toml")


def tried(folder):
    command = [sys.executable, "-m", "pytest", "--falsify", "-p", "no:cacheprovider", "contracts"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )


def test_what_is_new_is_valid_at_once_without_a_warning(folder, capsys):
    assert main(["new", "rms-norm"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote contracts/rms-norm-v1.yaml",
        "wrote falsifiers/rms_norm.py",
        "wrote falsifiers/__init__.py",
        "then say what is promised, write the falsifier and its mutant, and try them:",
        "    pv validate contracts/rms-norm-v1.yaml",
        "    pytest --falsify contracts/rms-norm-v1.yaml",
    ]
    verdict = validate([Path("contracts")])
    assert (verdict.code, verdict.findings, verdict.declared, verdict.bound) == (0, (), 1, 1)


def test_what_is_new_is_red_until_the_falsifier_and_its_mutant_are_written(folder):
    start("rms-norm", "falsifiers", folder)
    done = tried(folder)
    assert done.returncode == 1
    assert "trials    1 executed: 0 survived, 0 falsified, 1 errored, 0 flaky; 0 skipped" in done.stdout
    assert "mutants   1 executed: 0 killed, 0 survived, 1 errored, 0 flaky; 0 skipped" in done.stdout
    assert "not written yet: promise_holds of FALSIFY-RMS-NORM-001" in done.stdout
    assert "not written yet: a defect that FALSIFY-RMS-NORM-001 must catch" in done.stdout

    module = folder / "falsifiers" / "rms_norm.py"
    template = module.read_text()
    falsifier, defect = template.index("    # got ="), template.index("    # with patched")
    module.write_text(
        template[:falsifier] + "    trial.equal(3, 3, 'length')\n\n\n" + template[template.index("@mutant") :]
    )
    done = tried(folder)
    assert (done.returncode, "1 survived" in done.stdout) == (1, True)  # the mutant alone keeps it red
    module.write_text(template[:defect] + "    yield\n")
    assert tried(folder).returncode == 1

    module.write_text(WRITTEN)
    done = tried(folder)
    assert done.returncode == 0, done.stdout
    assert "mutants   1 executed: 1 killed" in done.stdout


def test_the_module_of_the_template_is_clean_python(folder):
    start("rms-norm", "falsifiers", folder)
    source = (folder / "falsifiers" / "rms_norm.py").read_text()
    compile(source, "rms_norm.py", "exec", dont_inherit=True)
    assert source.startswith('"""Falsifiers of contracts/rms-norm-v1.yaml, and')


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", "/etc/x", "A", "a_b", "a--b", "-a", "a-", "a b", "ä", "1a", "a.yaml", "a\n", "a\0", "x" * 81],
)
def test_what_is_no_name_is_refused_and_nothing_is_written(folder, name):
    with pytest.raises(PvError, match=r" is no name for a contract\n  hint: lower-case words of a-z and 0-9 with '-'"):
        start(name, "falsifiers", folder)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("name", "package", "word"),
    [
        ("class", "falsifiers", "class"),
        ("x", "a.1b", "1b"),
        ("x", "../up", ""),
        ("x", "", ""),
        ("x", "if", "if"),
        ("x", "a" * 300, "aaa"),
    ],
)
def test_what_python_cannot_import_is_refused_and_nothing_is_written(folder, name, package, word):
    with pytest.raises(PvError, match=rf"^'{word}.*' is no name for a Python module"):
        start(name, package, folder)
    assert files(folder) == []


def test_a_version_in_the_name_is_kept(folder):
    start("rms-norm-v2", "falsifiers", folder)
    assert files(folder)[1] == "contracts/rms-norm-v2.yaml"
    assert "algorithm: falsifiers.rms_norm:promise_holds" in (folder / "contracts/rms-norm-v2.yaml").read_text()


@pytest.mark.parametrize(
    "taken",
    ["contracts/x-v1.yaml", "contracts/deeper/x-v1.yaml", "contracts/x-v1.yml", "falsifiers/x.py"],
)
def test_nothing_is_overwritten_and_nothing_partial_is_left(folder, taken):
    (folder / taken).parent.mkdir(parents=True)
    (folder / taken).write_text("mine")
    before = files(folder)
    with pytest.raises(PvError, match=rf"{taken}: is there already; nothing is written$"):
        start("x", "falsifiers", folder)
    assert files(folder) == before
    assert (folder / taken).read_text() == "mine"


def test_where_writing_fails_midway_everything_is_taken_back(folder, monkeypatch):
    (folder / "falsifiers").write_text("a file, where a package should be")
    with pytest.raises(PvError, match=r"falsifiers.*: cannot be written: |falsifiers: is there already; nothing"):
        start("x", "falsifiers", folder)
    assert files(folder) == ["falsifiers"]


def test_where_the_run_is_stopped_everything_is_taken_back(folder, monkeypatch):
    real = Path.open
    opened = []

    def stopped(path, *args, **keywords):
        opened.append(path.name)
        if path.name == "x.py":
            raise KeyboardInterrupt
        return real(path, *args, **keywords)

    monkeypatch.setattr(Path, "open", stopped)
    with pytest.raises(KeyboardInterrupt):
        start("x", "falsifiers", folder)
    assert opened[-2:] == ["x-v1.yaml", "x.py"]
    assert files(folder) == []


def test_a_package_that_is_not_first_party_is_refused_with_the_line_to_write(folder):
    with pytest.raises(PvError) as refused:
        start("x", "theirs.checks", folder)
    assert str(refused.value) == (
        f"{folder}/pyproject.toml: 'theirs' is not first-party\n"
        '  hint: first-party = ["falsifiers", "mine", "theirs"]'
    )
    assert files(folder) == []


def test_a_package_in_src_is_found_and_new_packages_below_it_get_their_init(folder):
    (folder / "src" / "mine").mkdir(parents=True)
    made = start("x", "mine.checks.deep", folder)
    assert [path.relative_to(folder).as_posix() for path in made.files] == [
        "contracts/x-v1.yaml",
        "src/mine/checks/deep/x.py",
        "src/mine/checks/deep/__init__.py",
        "src/mine/checks/__init__.py",
        "src/mine/__init__.py",
    ]
    assert validate([made.contract]).findings == ()


def test_a_folder_of_falsifiers_that_is_no_package_yet_is_made_one(folder, capsys):
    (folder / "falsifiers").mkdir()
    (folder / "falsifiers" / "old.py").touch()
    assert main(["new", "abc"]) == 0
    assert "wrote falsifiers/__init__.py" in capsys.readouterr().out.splitlines()
    verdict = validate([Path("contracts")])
    assert (verdict.findings, verdict.bound) == ((), 1)
    (folder / "falsifiers" / "__init__.py").unlink()
    verdict = validate([Path("contracts")])  # pv's own package of that name would be imported
    assert ([at.rule for at in verdict.findings], verdict.bound) == (["PV-RUN-007"], 0)
    assert verdict.findings[0].hint == "touch falsifiers/__init__.py"
    assert new.start("abd", "falsifiers", folder).files[-1] == folder / "falsifiers" / "__init__.py"


@pytest.mark.parametrize("there", ["", "[project]\nname = 'x'\n"])
def test_a_project_without_settings_is_told_what_to_add(tmp_path, monkeypatch, capsys, there):
    if there:
        (tmp_path / "pyproject.toml").write_text(there)
    monkeypatch.chdir(tmp_path)
    assert main(["new", "x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("add to pyproject.toml:")
    table = "\n".join(line.strip() for line in lines[at + 1 : at + 5])
    assert tomllib.loads(table)["tool"]["pv"] == {
        "contracts": "contracts",
        "evidence": "evidence",
        "first-party": ["falsifiers"],
    }
    (tmp_path / "pyproject.toml").write_text(there + table + "\n")
    assert find(tmp_path).first_party == ("falsifiers",)
    verdict = validate([Path("contracts")])
    assert [finding for finding in verdict.findings if finding.severity != "note"] == []
    assert tried(tmp_path).returncode == 1


def test_the_template_names_no_other_contract(folder):
    assert "{" not in new.CONTRACT.format(title="a", stem="b", ID="C", module="d").replace("{metric", "")
