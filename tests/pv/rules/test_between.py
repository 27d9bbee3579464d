from pathlib import Path

import pytest

from pv.facts import stem_of
from pv.findings import ERROR, WARNING
from pv.validate import validate

HEAD = "metadata: {{kind: pattern, version: 1.0.0, description: d, references: [r], depends_on: [{}]}}\n"
OURS = "falsification_tests: [{id: A, prediction: p, if_fails: f, mutants: [m], falsifiers: {algorithm: 'a:b'}}]\n"


def write(folder: Path, **depends_on: str) -> Path:
    for stem, names in depends_on.items():
        (folder / f"{stem}.yaml").write_text(HEAD.format(names))
    return folder


def findings(*paths: Path) -> list[tuple[str, str, str, int, int, str, str]]:
    found = [at for at in validate(list(paths)).findings if at.rule.startswith("PV-DEP")]
    return [(at.rule, at.severity, Path(at.path).name, at.line, at.column, at.message, at.hint) for at in found]


def test_a_dependency_that_leads_nowhere_is_a_warning_in_a_foreign_contract_and_an_error_in_ours(tmp_path):
    write(tmp_path, rmsnorm="", other="rmsnrm")
    what = "there is no contract 'rmsnrm', neither in this run nor beside this one nor in the project"
    hint = "did you mean 'rmsnorm'?"
    assert findings(tmp_path) == [("PV-DEP-001", WARNING, "other.yaml", 1, 89, what, hint)]
    (tmp_path / "other.yaml").write_text(HEAD.format("rmsnrm") + OURS)
    assert findings(tmp_path) == [("PV-DEP-001", ERROR, "other.yaml", 1, 89, what, hint)]


def test_what_is_near_nothing_is_answered_with_what_to_do(tmp_path):
    (only,) = findings(write(tmp_path, a="zebra"))
    assert only[-1] == "give its folder too, where it has another one"


@pytest.mark.parametrize(
    "name", ["b", "b.yaml", "b.yml", "./b.yaml", "folder/b", "contracts/b.yaml", " b ", "..\\b.yaml"]
)
def test_a_contract_may_be_named_by_stem_file_or_path(name, tmp_path):
    assert stem_of(name) == "b"
    assert findings(write(tmp_path, a=f"'{name}'", b="")) == []


@pytest.mark.parametrize("name", ["qwen2.5-shapes", "x.yaml.d", "a b"])
def test_a_dot_in_a_stem_is_no_suffix(name):
    assert stem_of(name) == name


@pytest.mark.parametrize("name", ["''", "' '"])
def test_an_empty_name_is_that_of_no_contract(name, tmp_path):
    (only,) = findings(write(tmp_path, a=name))
    assert only[5] == "there is no contract '', neither in this run nor beside this one nor in the project"


def test_a_single_contract_is_not_told_of_those_beside_it(tmp_path):
    write(tmp_path, a="b", b="")
    assert findings(tmp_path / "a.yaml") == []
    (tmp_path / "b.yaml").rename(tmp_path / "b.yml")
    assert findings(tmp_path / "a.yaml") == []


def test_a_contract_of_the_project_is_found_wherever_it_lies(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\ncontracts = 'promises'\n")
    for folder in ("promises/deep", "drafts"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "promises" / "deep", b="")
    write(tmp_path / "drafts", a="b", c="../promises/deep/b.yaml")
    assert findings(tmp_path / "drafts" / "a.yaml") == []
    assert findings(tmp_path / "drafts" / "c.yaml") == []
    (tmp_path / "promises" / "deep" / "b.yaml").rename(tmp_path / "b.txt")
    assert [at[0] for at in findings(tmp_path / "drafts" / "c.yaml")] == ["PV-DEP-001"]


def test_a_path_leads_to_a_contract_of_another_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", a="../b/b.yaml, ../b/c")
    write(tmp_path / "b", b="../a/a.yaml")
    assert [(at[0], at[5].partition(",")[0]) for at in findings(tmp_path / "a")] == [
        ("PV-DEP-002", "depends on itself: a -> b -> a"),
        ("PV-DEP-001", "there is no contract 'c'"),
    ]


def test_a_circle_is_shown_once_where_its_first_contract_enters_it(tmp_path):
    write(tmp_path, a="d, b", b="c", c="a", d="")
    what = "depends on itself: a -> b -> c -> a"
    hint = "move what they share into a contract of its own"
    assert findings(tmp_path) == [("PV-DEP-002", WARNING, "a.yaml", 1, 92, what, hint)]
    (tmp_path / "c.yaml").write_text(HEAD.format("a") + OURS)
    assert findings(tmp_path) == [("PV-DEP-002", ERROR, "a.yaml", 1, 92, what, hint)]


def test_a_contract_that_depends_on_itself_is_a_circle(tmp_path):
    assert [at[5] for at in findings(write(tmp_path, a="a.yaml"))] == ["depends on itself: a -> a"]


def test_each_circle_has_a_finding(tmp_path):
    write(tmp_path, a="b, c", b="a", c="a", d="e", e="d")
    assert [at[5] for at in findings(tmp_path)] == [
        "depends on itself: a -> c -> a",
        "depends on itself: b -> a -> b",
        "depends on itself: d -> e -> d",
    ]


def test_a_circle_through_contracts_that_were_not_given_is_found(tmp_path):
    write(tmp_path, a="b", b="c", c="a", d="c")
    assert [at[5] for at in findings(tmp_path / "b.yaml")] == ["depends on itself: b -> c -> a -> b"]
    assert findings(tmp_path / "d.yaml") == []  # the circle is none of its own


def test_names_that_no_file_can_have_raise_nothing(tmp_path):
    names = ["''", "' '", "'\\0'", '"\\0"', "'..'", "'/'", "x" * 300, "[a]", "{a: b}", "7", "~", "true"]
    path = write(tmp_path, a=", ".join(names)) / "a.yaml"
    assert {at[0] for at in findings(path)} == {"PV-DEP-001"}


def test_what_is_no_contract_beside_a_contract_raises_nothing(tmp_path):
    write(tmp_path, a="b")
    (tmp_path / "b.yaml").write_text("{")
    assert findings(tmp_path / "a.yaml") == []


def test_a_number_is_a_name_as_it_was_written(tmp_path):
    (only,) = findings(write(tmp_path, **{"1.1": "1.10", "007": ""}))
    assert only[5].startswith("there is no contract '1.10', ")
    assert findings(write(tmp_path, **{"1.1": "007"})) == []


@pytest.mark.parametrize("name", ["models", "binding", "a-playbook"])
def test_what_is_known_to_be_no_contract_is_none_to_depend_on(name, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nmodels = 'contracts/models.yaml'\n")
    folder = tmp_path / "contracts"
    folder.mkdir()
    write(folder, a=name)
    (folder / f"{name}.yaml").write_text("tiny: {}")
    assert [at[0] for at in findings(folder / "a.yaml")] == ["PV-DEP-001"]
    assert [at[0] for at in findings(folder)] == ["PV-DEP-001"]


def test_a_dependency_in_capitals_is_found_beside(tmp_path):
    write(tmp_path, a="b", b="")
    (tmp_path / "b.yaml").rename(tmp_path / "b.YAML")
    assert findings(tmp_path / "a.yaml") == []
