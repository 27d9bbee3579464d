from pathlib import Path

import pytest

from pv.config import find
from pv.contract import read_contract
from pv.errors import PvError
from pv.project import Project, forget, project_around
from pv.words import Level

CONTRACT = """\
metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}
falsification_tests:
- {id: A, prediction: p, if_fails: f, mutants: [m], falsifiers: {algorithm: 'mine:f'}, status: FUNCTIONAL}
- {id: B, prediction: p, if_fails: f}
"""


@pytest.fixture(autouse=True)
def _fresh():
    forget()


def test_contracts_in_one_project_share_it(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert project_around(tmp_path / "a") is project_around(tmp_path / "b")


def test_a_relative_folder_is_that_of_the_current_one(tmp_path, monkeypatch):
    roots = []
    for name in ("a", "b"):
        (tmp_path / name / "contracts").mkdir(parents=True)
        (tmp_path / name / "pyproject.toml").write_text("")
        monkeypatch.chdir(tmp_path / name)
        roots.append(project_around(Path("contracts")).config.root)
    assert roots == [tmp_path / "a", tmp_path / "b"]


def test_a_project_that_changed_is_read_anew_once_the_old_one_is_forgotten(tmp_path):
    assert project_around(tmp_path).config.contracts == tmp_path / "contracts"
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\ncontracts = 'promises'\n")
    assert project_around(tmp_path).config.contracts == tmp_path / "contracts"
    forget()
    assert project_around(tmp_path).config.contracts == tmp_path / "promises"


def test_a_damaged_pyproject_is_an_error(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv\n")
    with pytest.raises(PvError, match=r"^.*pyproject\.toml: cannot be read: "):
        project_around(tmp_path)


@pytest.mark.parametrize(("name", "marked"), [("pyproject.toml", True), (".git", True), ("setup.cfg", False)])
def test_a_project_is_marked_by_a_pyproject_or_a_repository(name, marked, tmp_path):
    (tmp_path / name).touch()
    assert project_around(tmp_path).marked is marked


def test_contracts_are_found_in_depth_and_a_missing_folder_holds_none(tmp_path):
    assert project_around(tmp_path).contracts == {}
    forget()
    (tmp_path / "contracts" / "deep").mkdir(parents=True)
    (tmp_path / "contracts" / "deep" / "a.yml").touch()
    assert project_around(tmp_path).contracts == {"a": tmp_path / "contracts" / "deep" / "a.yml"}


def test_a_registry_that_cannot_be_used_is_kept_as_its_error(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nmodels = 'models.yaml'\n")
    wrong = project_around(tmp_path).models
    assert isinstance(wrong, PvError)
    assert wrong.args[0] == "cannot be read: No such file or directory"


def test_rows_are_those_of_pv_status(tmp_path):
    (tmp_path / "mine.py").write_text("def f(trial): ...\n")
    (tmp_path / "x.yaml").write_text(CONTRACT)
    rows = Project(find(tmp_path)).rows(read_contract(tmp_path / "x.yaml"))
    assert [(row.test.id, row.stated, row.earned.level, row.overclaimed) for row in rows] == [
        ("A", Level.FUNCTIONAL, Level.UNTESTED, True),
        ("B", Level.UNTESTED, Level.UNTESTED, False),
    ]


def test_evidence_that_cannot_be_read_lowers_the_row_that_it_was_about(tmp_path):
    (tmp_path / "mine.py").write_text("def f(trial): ...\n")
    (tmp_path / "x.yaml").write_text(CONTRACT)
    (tmp_path / "evidence" / "x" / "A").mkdir(parents=True)
    (tmp_path / "evidence" / "x" / "A" / "1.json").write_text("{")
    first, second = Project(find(tmp_path)).rows(read_contract(tmp_path / "x.yaml"))
    assert first.earned.reasons[0].startswith("its evidence cannot be believed: evidence/x/A/1.json: ")
    assert second.earned.reasons == ("unbound: it names no falsifiers",)
