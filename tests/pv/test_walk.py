import os
from pathlib import Path

import pytest

from pv.errors import PvError
from pv.walk import contracts_below, find, is_contract, yaml_files


def test_files_come_in_depth_and_in_order(tmp_path):
    for name in ("b/z.yml", "b/a.yaml", "a.yaml", "c.yaml", ".hidden/c.yaml", ".d.yaml", "e.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [str(file.relative_to(tmp_path)) for file in yaml_files(tmp_path)]
    assert found == ["a.yaml", "c.yaml", "b/a.yaml", "b/z.yml"]


def test_a_folder_that_cannot_be_searched_is_no_empty_one(tmp_path, monkeypatch):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(PvError, match=r": cannot be read: Permission denied$"):
        list(yaml_files(tmp_path))


@pytest.mark.parametrize(
    ("name", "wanted"), [("softmax.yaml", True), ("binding.yaml", False), ("a-playbook-v1.yaml", False)]
)
def test_binding_registries_and_playbooks_are_no_contracts(name, wanted):
    assert is_contract(Path("contracts") / name, None) is wanted


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "a.yaml",
        "b.yml",
        "binding.yaml",
        "s/c.yaml",
        "s/t/d.yaml",
        ".h/e.yaml",
        ".f.yaml",
        "s/g.txt",
        "x[1].yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "s" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("**/*.yaml", ["a.yaml", "binding.yaml", "s/c.yaml", "s/t/d.yaml", "x[1].yaml"]),
        ("*.y*ml", ["a.yaml", "b.yml", "binding.yaml", "x[1].yaml"]),
        ("s/**/*.yaml", ["s/c.yaml", "s/t/d.yaml"]),
        ("s/**/d.yaml", ["s/t/d.yaml"]),
        ("**/t/*", ["s/t/d.yaml"]),
        ("?.y[am]*", ["a.yaml", "b.yml"]),
        (".*.yaml", [".f.yaml"]),
        ("x[1].yaml", ["x[1].yaml"]),
        ("s/t*", ["s/t/d.yaml"]),
        ("s/**", ["s/c.yaml", "s/t/d.yaml"]),
        ("./s/../*.yml", ["s/../b.yml"]),
    ],
)
def test_a_pattern_that_no_shell_expanded_means_what_a_shell_would_make_of_it(tree, pattern, files):
    found = find([Path(pattern)])
    assert sorted(map(str, (*found.files, *found.skipped))) == files
    assert found.skipped == [Path(name) for name in files if name == "binding.yaml"]
    assert found.declined == []


def test_a_pattern_that_matches_nothing_is_declined(tree):
    found = find([Path("q/**/*.yaml"), Path("*.json"), Path("a.yaml/*")])
    assert found.files == []
    assert found.declined == [(name, "matches no file") for name in ("q/**/*.yaml", "*.json", "a.yaml/*")]


def test_an_absolute_pattern_is_searched_where_it_says(tree, tmp_path):
    assert find([tmp_path / "s" / "*.yaml"]).files == [tmp_path / "s" / "c.yaml"]


def test_each_file_is_taken_once_in_the_order_of_the_arguments(tree, tmp_path):
    found = find([Path("s"), Path("b.yml"), tmp_path / "s" / "c.yaml", Path("*.y*ml"), Path("./s/loop/a.yaml")])
    assert list(map(str, found.files)) == ["s/c.yaml", "s/t/d.yaml", "b.yml", "a.yaml", "x[1].yaml"]


def test_what_is_given_is_no_file_of_the_disk(tree):
    found = find([Path("<stdin>"), Path("a.yaml"), Path("<stdin>")], given={Path("<stdin>"): b""})
    assert found.files == [Path("<stdin>"), Path("a.yaml")]


def test_a_folder_without_contracts_and_no_argument_are_declined(tmp_path):
    assert find([tmp_path]).declined == [(str(tmp_path), "holds no contracts: no *.yaml or *.yml")]
    assert find([]).declined == [
        ("", "no file or folder is given (hint: name some; by default it is the folder contracts)")
    ]


def test_a_folder_that_cannot_be_searched_is_declined_once_and_is_an_error_in_a_pattern(tmp_path, monkeypatch):
    def closed(place):
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr("os.scandir", closed)
    monkeypatch.setattr("os.listdir", closed)
    assert find([tmp_path]).declined == [(str(tmp_path), "cannot be read: Permission denied")]
    with pytest.raises(PvError, match=rf"^{tmp_path}: cannot be read: Permission denied$"):
        find([tmp_path / "*.yaml"])


def test_a_file_that_is_missing_is_left_to_whoever_reads_it(tmp_path):
    assert find([tmp_path / "missing.yaml"]).files == [tmp_path / "missing.yaml"]


@pytest.mark.parametrize("key", ["models", "milestones"])
def test_the_registry_of_models_and_the_milestones_are_no_contracts(tmp_path, key):
    (tmp_path / "pyproject.toml").write_text(f'[tool.pv]\n{key} = "models/registry.yaml"\n')
    for name in ("models/registry.yaml", "a.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("metadata: {}")
    found = find([tmp_path])
    assert (found.files, found.skipped) == ([tmp_path / "a.yaml"], [tmp_path / "models/registry.yaml"])
    assert find([tmp_path / "models/registry.yaml"]).files == [tmp_path / "models/registry.yaml"]
    assert not is_contract(tmp_path / "models/registry.yaml", None)  # of who did not ask the project, it is asked
    assert is_contract(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert not is_contract(tmp_path / "a.yaml", tmp_path / "a.yaml")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder contracts with a.yaml and the project's registry of models, models.yaml."""
    (tmp_path / "pyproject.toml").write_text('[tool.pv]\nmodels = "contracts/models.yaml"\n')
    (tmp_path / "contracts").mkdir()
    for name in ("a.yaml", "models.yaml"):
        (tmp_path / "contracts" / name).write_text("metadata: {}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("pattern", ["contracts/*.yaml", "*/*", "contract[s]", "**/*.yaml"])
def test_a_pattern_passes_over_what_a_folder_does(project, pattern):
    found = find([Path(pattern)])
    assert found.files == [Path("contracts/a.yaml")]
    assert found.skipped == [Path("contracts/models.yaml")]
    assert found.declined == []


def test_a_pattern_that_matches_no_contract_is_declined_and_a_file_that_is_named_is_measured(project):
    assert find([Path("contracts/m*.yaml")]).declined == [("contracts/m*.yaml", "matches no contract")]
    assert find([Path("contracts/models.yaml")]).files == [Path("contracts/models.yaml")]


def test_capitals_make_no_other_suffix(tmp_path):
    for name in ("a.YAML", "b.Yml", "c.yaml", "d.YAML.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in find([tmp_path]).files] == ["a.YAML", "b.Yml", "c.yaml"]


def test_what_is_hidden_or_linked_is_named_and_not_looked_into(tmp_path):
    for name in ("c/a.yaml", "c/.old/b.yaml", "c/.d.yaml", "c/.notes.txt", "c/.git/e.yaml", "elsewhere/f.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "link").symlink_to(tmp_path / "elsewhere")
    found = contracts_below(tmp_path / "c")
    assert [file.name for file in found.files] == ["a.yaml"]
    assert [path.name for path in found.hidden] == [".old", "link", ".d.yaml"]
    assert (found.skipped, found.declined) == ([], [])
    assert find([tmp_path / "c", tmp_path / "c"]).hidden == found.hidden


@pytest.mark.parametrize("argument", [".", "*.yaml"])
def test_a_walk_waits_for_no_pipe_and_says_so(tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("p.yaml")
    Path("a.yaml").touch()
    Path("gone.yaml").symlink_to("nowhere")
    found = find([Path(argument)])
    assert [file.name for file in found.files] == ["a.yaml", "gone.yaml"]
    assert found.declined == [("p.yaml", "is no regular file: it is read only if it is named itself")]
    assert find([Path("p.yaml")]).files == [Path("p.yaml")]
