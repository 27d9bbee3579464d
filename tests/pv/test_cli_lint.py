import json
from pathlib import Path

import pytest

from pv.cli import main
from pv.findings import RULES
from tests.pv.verdicts import ERROR, GOOD, files

CONTRACTS = Path(__file__).parents[1] / "contracts"
VAGUE = GOOD + "falsification_tests:\n- {id: T-1, prediction: fine, if_fails: f, rule: r, test: t, binds_to: e}\n"
REGISTRY = "bindings:\n- {contract: good.yaml, equation: e, function: f, status: not_implemented}\n"


def run(capsys, *args) -> tuple[int, list[str]]:
    code = main([*map(str, args)])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def rules(capsys, *args) -> tuple[int, set[str]]:
    code, lines = run(capsys, *args, "--json")
    return code, {found["rule"] for found in json.loads("\n".join(lines))["findings"]}


def test_lint_asks_what_validate_does_not(tmp_path, capsys):
    (path,) = files(tmp_path, vague=VAGUE)
    assert rules(capsys, "validate", path) == (0, set())
    code, found = rules(capsys, "lint", path)
    assert code == 0
    assert found >= {"AUDIT-003", "PV-STYLE-001"}
    assert all(RULES[rule].lint for rule in found)


@pytest.mark.parametrize("path", sorted((CONTRACTS / "bad").iterdir()), ids=lambda path: path.stem)
def test_lint_finds_all_that_validate_finds(path, capsys):
    _, lines = run(capsys, "validate", path, "--json")
    asked = json.loads("\n".join(lines))
    _, lines = run(capsys, "lint", path, "--json")
    answered = json.loads("\n".join(lines))
    assert [found for found in answered["findings"] if not RULES[found["rule"]].lint] == asked["findings"]


def test_exit_codes_are_those_of_validate(tmp_path, capsys):
    good, bad = files(tmp_path, good=GOOD, bad=ERROR)
    assert run(capsys, "lint", good)[0] == 0
    assert run(capsys, "lint", bad)[0] == 1
    code, lines = run(capsys, "lint", tmp_path / "missing.yaml")
    assert (code, lines[-1].split(":")[0]) == (2, "decline")


def test_strict_rejects_for_a_warning_of_lint_and_says_so(tmp_path, capsys):
    (path,) = files(tmp_path, vague=VAGUE)
    assert run(capsys, "validate", path, "--strict")[0] == 0
    assert run(capsys, "lint", path)[0] == 0
    code, lines = run(capsys, "lint", path, "--strict")
    assert code == 1
    assert lines[-1].startswith("reject: 1 file: 0 accepted, 1 rejected; ")
    assert ", warnings reject;" in lines[-1]


def test_a_registry_beside_the_contracts_is_measured_and_one_that_is_chosen_takes_its_place(tmp_path, capsys):
    folder = tmp_path / "contracts"
    folder.mkdir()
    files(folder, good=GOOD)
    (folder / "binding.yaml").write_text(REGISTRY)
    (tmp_path / "mine.yaml").write_text(REGISTRY.replace("not_implemented", "partial"))
    assert "BIND-003" in rules(capsys, "lint", folder)[1]
    found = rules(capsys, "lint", folder, "--binding", tmp_path / "mine.yaml")[1]
    assert "BIND-002" in found
    assert "BIND-003" not in found


def test_a_chosen_registry_that_is_not_there_declines(tmp_path, capsys):
    (path,) = files(tmp_path, good=GOOD)
    code, lines = run(capsys, "lint", path, "--binding", tmp_path / "none.yaml")
    assert code == 2
    assert f"{tmp_path / 'none.yaml'}: not measured: cannot be read: No such file or directory" in lines
    assert lines[-1].startswith("decline: ")


def test_nothing_to_lint_is_no_success(tmp_path, capsys):
    assert run(capsys, "lint", tmp_path)[0] == 2


@pytest.mark.parametrize("command", ["validate", "lint"])
def test_a_registry_that_is_named_as_a_contract_is_told_who_reads_registries(command, tmp_path, capsys):
    (tmp_path / "binding.yaml").write_text(REGISTRY)
    code, lines = run(capsys, command, tmp_path / "binding.yaml")
    assert code == 1
    told = [line for line in lines if "a binding registry is no contract" in line]
    assert told == [
        "  hint: a binding registry is no contract: pv lint reads binding.yaml beside contracts, and --binding FILE"
    ]
