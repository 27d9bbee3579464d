import os
from pathlib import Path

import pytest

from pv.places import contracts_in, meant, meets_a_file, pattern, place_of, shown


@pytest.mark.parametrize(
    ("glob", "hits", "misses"),
    [
        ("contracts/a.yaml", ["contracts/a.yaml"], ["contracts/aXyaml", "x/contracts/a.yaml", "contracts/a.yaml\n"]),
        ("contracts/*.yaml", ["contracts/a.yaml", "contracts/.yaml"], ["contracts/b/a.yaml", "contracts/a.yml"]),
        ("contracts/**", ["contracts/a.yaml", "contracts/b/c/a.yaml"], ["contracts", "contracts2/a.yaml"]),
        ("**/a.yaml", ["a.yaml", "b/a.yaml", "b/c/a.yaml"], ["ba.yaml"]),
        ("a/**/b.yaml", ["a/b.yaml", "a/x/y/b.yaml"], ["ab.yaml", "a/xb.yaml"]),
        ("?.yaml", ["a.yaml"], ["ab.yaml", "/.yaml"]),
        ("[ab].yaml", ["[ab].yaml"], ["a.yaml"]),
    ],
)
def test_a_glob_matches_whole_places(glob, hits, misses):
    for place in hits:
        assert pattern(glob).match(place), place
    for place in misses:
        assert not pattern(glob).match(place), place


def test_a_file_has_one_place_however_it_is_reached(tmp_path, monkeypatch):
    (tmp_path / "project" / "contracts").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project" / "contracts")
    root = tmp_path / "project"
    for path in ("a.yaml", "../contracts/a.yaml", root / "contracts" / "a.yaml", tmp_path / "link/contracts/a.yaml"):
        assert place_of(str(path), root) == "contracts/a.yaml"
        assert place_of(str(path), tmp_path / "link") == "contracts/a.yaml"
    assert place_of(str(tmp_path / "other.yaml"), root) == "../other.yaml"
    assert place_of("<stdin>", root) == "<stdin>"


def test_a_link_to_a_file_has_a_place_of_its_own(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    assert place_of(str(tmp_path / "b.yaml"), tmp_path) == "b.yaml"


def test_the_contracts_of_a_glob_are_those_on_disk(tmp_path):
    for name in ("c/a.yaml", "c/b/a.yml", "c/binding.yaml", "c/.hidden/a.yaml", "d/a.yaml", "note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert contracts_in(tmp_path, "c/**") == ["c/a.yaml", "c/b/a.yml"]
    assert contracts_in(tmp_path, "**/a.*") == ["c/a.yaml", "c/b/a.yml", "d/a.yaml"]
    assert contracts_in(tmp_path, "c/a.yaml") == ["c/a.yaml"]
    assert contracts_in(tmp_path, "note.txt") == ["note.txt"]
    assert contracts_in(tmp_path, "x" * 300) == contracts_in(tmp_path, "x" * 300 + "/*") == []
    assert contracts_in(tmp_path, "gone/*.yaml") == contracts_in(tmp_path, "gone.yaml") == []


def test_a_glob_meets_files_that_are_no_contracts_too_but_none_in_hidden_folders(tmp_path):
    for name in ("c/binding.yaml", "c/.hidden.yaml", "c/.deep/a.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    met = [
        glob
        for glob in ("c/b*.yaml", "c/.h*.yaml", "**", "c/.deep/**", "c/.d*/**", "x/**")
        if meets_a_file(tmp_path, glob)
    ]
    assert met == ["c/b*.yaml", "c/.h*.yaml", "**", "c/.deep/**"]
    assert meets_a_file(tmp_path, "c/binding.yaml")
    assert not meets_a_file(tmp_path, "c")


def test_an_absolute_path_may_be_meant_from_the_root(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert meant(tmp_path, ".", f"{tmp_path}/a.yaml") == "a.yaml"
    assert meant(tmp_path, "gone", "b.yaml") == ""


def test_the_registry_of_models_is_no_contract_that_a_run_could_have_missed(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pv]\nmodels = "contracts/models.yaml"\n')
    (tmp_path / "contracts").mkdir()
    for name in ("a.yaml", "models.yaml"):
        (tmp_path / "contracts" / name).write_text("")
    assert contracts_in(tmp_path, "contracts/**") == ["contracts/a.yaml"]


def test_files_below_the_current_folder_are_shown_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "pyproject.toml") == "pyproject.toml"
    assert shown(Path(os.sep, "elsewhere", "x")) == "/elsewhere/x"
