import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.bindings import attached, read_registry, registries
from pv.contract import UnreadableError, make_contract
from pv.facts import Facts, facts_of
from pv.findings import ERROR, WARNING
from pv.rules import check_together
from pv.validate import validate
from pv.yaml_loader import load


def registry(folder: Path, text: str, name: str = "binding.yaml"):
    (folder / name).write_text(text, encoding="utf-8")
    return read_registry(folder / name)


def faults(folder: Path, text: str) -> list[tuple[int, str, str]]:
    return [(fault.at.line, fault.message, fault.hint) for fault in registry(folder, text).faults]


def facts(path: Path, *equations: str, kind: str = "pattern") -> Facts:
    text = f"metadata: {{kind: {kind}}}\nequations:\n" + "".join(f"  {name}: {{}}\n" for name in equations)
    return facts_of(make_contract(path, load(text, str(path))))


def bindings(*rows: tuple[str, str, str]) -> str:
    listed = (f"- {{contract: {c}, equation: {e}, status: {s}, function: f}}\n" for c, e, s in rows)
    return "bindings:\n" + "".join(listed)


def judged(folder: Path, text: str, *contracts: Facts) -> list[tuple[str, int, str, str, str]]:
    """What the rules about registries find where one holds the text: (file, line, severity, rule, message)."""
    known = [registry(folder, text)]
    found = check_together(attached(contracts, known, chosen=False), lint=True)
    return [
        (Path(at.path).name, at.line, at.severity, at.rule, at.message)
        for at in found
        if at.rule.startswith(("BIND", "PV-BIND"))
    ]


def test_a_binding_is_read_with_its_places_and_the_stem_of_its_contract(tmp_path):
    (tmp_path / "norm-v1.yaml").touch()
    known = registry(tmp_path, bindings(("kernels/norm-v1.yaml", "e", "partial"), ("far.yml", "g", "pending")))
    assert known.faults == ()
    assert [(each.stem, each.found) for each in known.bindings] == [("norm-v1", True), ("far", False)]
    first = known.bindings[0]
    assert (first.contract.name, first.equation.name, first.status.name) == ("kernels/norm-v1.yaml", "e", "partial")
    assert {at.line for at in (first.contract.at, first.equation.at, first.status.at)} == {2}


def test_a_contract_in_the_folder_around_the_registry_is_found(tmp_path):
    (tmp_path / "norm.yml").touch()
    (tmp_path / "crate").mkdir()
    assert registry(tmp_path / "crate", bindings(("norm.yaml", "e", "partial"))).bindings[0].found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a registry is a mapping, not nothing"),
        ("[]", "a registry is a mapping, not a list"),
        ("version: 1", "a registry has a list of bindings, not nothing"),
        ("bindings: {a: b}", "a registry has a list of bindings, not a mapping"),
        ("bindings: [x]", "binding 0 must be a mapping, not 'x'"),
        ("bindings: [~]", "binding 0 must be a mapping, not nothing"),
    ],
)
def test_what_is_no_registry_has_one_fault_that_says_so(tmp_path, text, message):
    assert [what for _, what, _ in faults(tmp_path, text)] == [message]


def test_a_file_that_is_no_yaml_is_a_fault_at_its_place(tmp_path):
    (at,) = registry(tmp_path, "bindings:\n- {a: [b}\n").faults
    assert at.at.line == 2


def test_a_key_twice_is_a_fault(tmp_path):
    assert len(faults(tmp_path, "bindings: []\nbindings: []\n")) == 1


@pytest.mark.parametrize("key", ["contract", "equation", "status"])
@pytest.mark.parametrize("value", [None, "''", "' '", "[a]", "{a: b}", "~"])
def test_a_binding_without_one_of_its_three_names_is_a_fault_and_no_binding(tmp_path, key, value):
    values = {"contract": "c.yaml", "equation": "e", "status": "partial", key: value}
    body = ", ".join(f"{name}: {text}" for name, text in values.items() if text is not None)
    known = registry(tmp_path, f"bindings:\n- {{{body}}}\n")
    assert known.bindings == ()
    assert [fault.message for fault in known.faults] == [f"binding 0 lacks {key!r}"]


def test_an_unknown_status_is_answered_with_the_nearest(tmp_path):
    text = bindings(("c.yaml", "e", "implementd"))
    assert faults(tmp_path, text) == [(2, "'implementd' is no status of a binding", "did you mean 'implemented'?")]


def test_what_is_implemented_names_where(tmp_path):
    text = "bindings:\n- {contract: c.yaml, equation: e, status: implemented"
    assert faults(tmp_path, text + "}\n") == [(2, "is implemented, and names neither function nor module_path", "")]
    assert faults(tmp_path, text + ", module_path: 'a::b'}\n") == []


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_no_value_of_bindings_raises(tmp_path_factory, value):
    import json

    folder = tmp_path_factory.getbasetemp()
    registry(folder, json.dumps({"bindings": [value, {"contract": value, "equation": value, "status": value}]}))


def test_a_file_that_is_not_there_is_declined_and_not_silently_empty(tmp_path):
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_registry(tmp_path / "binding.yaml")
    known, declined = registries([], [], tmp_path / "mine.yaml")
    assert known == []
    assert declined == [(str(tmp_path / "mine.yaml"), "cannot be read: No such file or directory")]


def test_registries_are_those_walked_and_those_beside_contracts_each_once_or_the_chosen_one_alone(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        registry(tmp_path / folder, "bindings: []")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    walked = [tmp_path / "b" / "binding.yaml", tmp_path / "b" / "playbook.yaml"]
    contracts = [tmp_path / "a" / "x.yaml", tmp_path / "a" / "y.yaml", tmp_path / "c" / "z.yaml"]
    known, declined = registries(contracts, walked, None)
    assert [each.path for each in known] == [tmp_path / "b" / "binding.yaml", tmp_path / "a" / "binding.yaml"]
    assert declined == []
    known, _ = registries(contracts, walked, tmp_path / "a" / "binding.yaml")
    assert [each.path for each in known] == [tmp_path / "a" / "binding.yaml"]


def test_a_file_that_was_measured_as_a_contract_is_no_registry_too(tmp_path):
    registry(tmp_path, "bindings: []")
    assert registries([tmp_path / "binding.yaml", tmp_path / "x.yaml"], [], None) == ([], [])


def test_a_registry_counts_for_contracts_in_folders_around_and_below_it_and_not_elsewhere(tmp_path):
    for folder in ("a/b/c", "d"):
        (tmp_path / folder).mkdir(parents=True)
    known = [registry(tmp_path / "a" / "b", "bindings: []")]
    contracts = [facts(tmp_path / name / "x.yaml", "e") for name in (".", "a", "a/b", "a/b/c", "d")]
    near = [bool(each.registries) for each in attached(contracts, known, chosen=False)]
    assert near == [True, True, True, True, False]
    assert all(each.registries for each in attached(contracts, known, chosen=True))


def test_an_equation_that_no_binding_names_is_an_error_in_a_contract_that_one_names(tmp_path):
    text = bindings(("x.yaml", "e", "implemented"))
    assert judged(tmp_path, text, facts(tmp_path / "x.yaml", "e", "f")) == [
        ("x.yaml", 4, ERROR, "BIND-001", "equation 'f' has no binding")
    ]


@pytest.mark.parametrize(("kind", "number"), [("kernel", 1), ("pattern", 0)])
def test_a_contract_that_no_binding_names_is_an_error_if_it_is_a_kernel(tmp_path, kind, number):
    what = "no binding names the contract, and so none of its equations: there are 2"
    found = judged(tmp_path, "bindings: []", facts(tmp_path / "x.yaml", "e", "f", kind=kind))
    assert found == [("x.yaml", 3, ERROR, "BIND-001", what)] * number


def test_what_a_malformed_registry_leaves_unbound_is_not_claimed(tmp_path):
    text = bindings(("x.yaml", "e", "implemented")) + "- {contract: x.yaml}\n"
    rules = {rule for *_, rule, _ in judged(tmp_path, text, facts(tmp_path / "x.yaml", "e", "f", kind="kernel"))}
    assert rules == {"PV-BIND-002"}


@pytest.mark.parametrize(
    ("status", "rule", "how"),
    [
        ("partial", "BIND-002", "only in part"),
        ("not_implemented", "BIND-003", "by nothing"),
        ("pending", "BIND-003", "by nothing yet"),
    ],
)
def test_what_is_not_implemented_in_full_is_a_warning(tmp_path, status, rule, how):
    found = judged(tmp_path, bindings(("x.yaml", "e", status)), facts(tmp_path / "x.yaml", "e"))
    assert found == [("binding.yaml", 2, WARNING, rule, f"equation 'e' of x is implemented {how}")]


def test_a_binding_of_nothing_is_an_error(tmp_path):
    text = bindings(("x.yaml", "ee", "partial"), ("y.yaml", "e", "partial"), ("x.yaml", "e", "implemented"))
    assert judged(tmp_path, text, facts(tmp_path / "x.yaml", "e")) == [
        ("binding.yaml", 2, ERROR, "PV-BIND-001", "x has no equation 'ee'"),
        ("binding.yaml", 3, ERROR, "PV-BIND-001", "there is no contract 'y.yaml'"),
    ]


def test_a_binding_of_a_contract_outside_the_run_is_no_error(tmp_path):
    (tmp_path / "y.yaml").touch()
    text = bindings(("y.yaml", "e", "partial"), ("x.yaml", "e", "implemented"))
    assert judged(tmp_path, text, facts(tmp_path / "x.yaml", "e")) == []


def test_validate_reads_no_registry_and_lint_rejects_a_broken_one(tmp_path):
    (tmp_path / "x.yaml").write_text("metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n")
    registry(tmp_path, "bindings: x")
    assert validate([tmp_path]).code == 0
    verdict = validate([tmp_path], lint=True)
    assert verdict.code == 1
    assert [Path(file.path).name for file in verdict.checked] == ["x.yaml", "binding.yaml"]
    assert verdict.skipped == ()


def test_standard_input_lies_beside_no_registry(tmp_path, monkeypatch):
    registry(tmp_path, "bindings: x")
    monkeypatch.chdir(tmp_path)
    text = b"metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n"
    verdict = validate([Path("<stdin>")], lint=True, given={Path("<stdin>"): text})
    assert [os.fspath(file.path) for file in verdict.checked] == ["<stdin>"]
