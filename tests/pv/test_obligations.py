import json

import pytest

from pv.cli import main
from pv.collection import collect
from pv.obligations import obligations, totals
from pv.runnable import Standing

HEAD = "metadata: {version: 1.0.0, kind: pattern, description: d, references: [r]}\n"
CONTRACT = (
    HEAD
    + """\
proof_obligations:
- id: O-1
  type: bound
  property: it is bounded
- id: O-2
  property: it ends
- property: it is finite
- id: O-4
  property: it sums
- id: O-5
  property: nobody looks
- id: O-6
  property: it is a GPU's
  applies_to: not_applicable
  na_reason: there is none
  na_owner: me
- {id: O-7, property: first of two}
- {id: O-7, property: second of two}
falsification_tests:
- id: T-1
  rule: it is bounded
  prediction: at most 1
  if_fails: f
  obligations: [O-1, O-1]
  falsifiers: {algorithm: 'a:b'}
  mutants: [m]
  status: FUNCTIONAL
- id: T-2
  rule: it
  prediction: 2
  if_fails: f
  obligations: [O-2, O-7]
  test: cargo test
- {id: T-3, rule: it  is finite, prediction: 3, if_fails: f}
- {id: T-4, rule: it sums, prediction: 4, if_fails: f}
"""
)


def collected(folder, text=CONTRACT, name="x-v1.yaml"):
    (folder / name).write_text(text, encoding="utf-8")
    return collect([folder / name])


def test_only_a_test_that_names_the_id_is_linked_and_only_one_with_falsifiers_covers(tmp_path):
    (contract,) = collected(tmp_path).contracts
    found = obligations(contract, Standing())
    linked = [([test.id for test in one.tests], [test.id for test in one.by_text]) for one in found]
    assert linked == [
        (["T-1"], []),
        (["T-2"], []),
        ([], ["T-3"]),
        ([], ["T-4"]),
        ([], []),
        ([], []),
        ([], []),
        ([], []),
    ]
    assert [one.why for one in found] == [
        "",
        "nothing runs T-2",
        "no test names it; the rule of T-3 repeats its text",
        "no test names it; the rule of T-4 repeats its text",
        "no test names it",
        "",
        "another obligation has the id O-7 too: which one a test means is not known",
        "another obligation has the id O-7 too: which one a test means is not known",
    ]
    assert totals(found) == {
        "obligations": 8,
        "not_applicable": 1,
        "tested": 2,
        "by_text": 2,
        "run": 1,
        "uncovered": 6,
    }


def test_as_many_tests_as_obligations_cover_none_unless_they_name_them(tmp_path):
    text = HEAD + "proof_obligations:\n- {id: A, property: a}\n- {id: B, property: b}\nfalsification_tests:\n"
    text += "".join(
        f"- {{id: T-{n}, rule: r, prediction: 1, if_fails: f, obligations: [A], falsifiers: {{algorithm: 'a:b'}}, "
        "mutants: [m]}\n"
        for n in range(2)
    )
    (contract,) = collected(tmp_path, text).contracts
    assert [one.run for one in obligations(contract, Standing())] == [True, False]


@pytest.mark.parametrize("reason", ["", "  na_reason: ''\n"])
def test_an_obligation_is_not_set_aside_without_a_reason(tmp_path, reason):
    text = f"{HEAD}proof_obligations:\n- id: A\n  property: p\n  applies_to: not_applicable\n{reason}"
    (contract,) = collected(tmp_path, text).contracts
    assert totals(obligations(contract, Standing()))["uncovered"] == 1


def test_the_command_lists_place_type_tests_and_levels_and_ends_with_denominators(tmp_path, capsys, monkeypatch):
    collected(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["obligations", "x-v1.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[:6] == [
        "x-v1.yaml:3: O-1 [bound]: it is bounded",
        "    T-1 (line 21) states FUNCTIONAL",
        "x-v1.yaml:6: O-2: it ends",
        "    T-2 (line 29) names no falsifier: nothing runs it",
        "    UNCOVERED: nothing runs T-2",
        "x-v1.yaml:8: (no id): it is finite",
    ]
    assert "    not applicable: there is none" in lines
    assert lines[-1] == (
        "1 contract: 8 obligations, 1 not applicable; 2 tested by id, 2 by text alone, 1 run; 6 uncovered"
    )


def test_json_has_its_documented_shape(tmp_path, capsys):
    collected(tmp_path)
    assert main(["obligations", "--json", str(tmp_path / "x-v1.yaml")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == "pv-obligations/1"
    assert content["totals"]["contracts"] == 1
    assert content["declined"] == []
    assert content["obligations"][0] == {
        "contract": "x-v1",
        "path": str(tmp_path / "x-v1.yaml"),
        "line": 3,
        "id": "O-1",
        "type": "bound",
        "property": "it is bounded",
        "not_applicable": False,
        "covered": True,
        "why": "",
        "tests": [{"id": "T-1", "line": 21, "bound": True, "run": True, "stated": "FUNCTIONAL"}],
        "by_text": [],
    }
    assert content["obligations"][2]["id"] is None


def test_no_obligation_at_all_is_nothing_measured(tmp_path, capsys):
    collected(tmp_path, HEAD)
    assert main(["obligations", str(tmp_path)]) == 2
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path}/x-v1.yaml: declares no proof obligation"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "x-v1.yaml:1:4: not measured: "),
        (HEAD + "proof_obligations: {id: A}\n", "x-v1.yaml:2:1: not measured: is not read: proof_obligations must be"),
        (HEAD + "proof-obligations: []\n", "x-v1.yaml:2:1: not measured: is not read: the key 'proof-obligations'"),
        (HEAD * 2, "x-v1.yaml:2:1: not measured: the key 'metadata' occurs twice"),
    ],
)
def test_what_cannot_be_read_is_said_and_is_never_green(tmp_path, capsys, monkeypatch, text, message):
    collected(tmp_path)
    (tmp_path / "y").mkdir()
    collected(tmp_path / "y", text)
    monkeypatch.chdir(tmp_path / "y")
    assert main(["obligations", "../x-v1.yaml", "x-v1.yaml"]) == 2
    out, err = capsys.readouterr()
    assert "O-1 [bound]" in out
    assert err.startswith(f"pv: {message}")


def test_a_missing_path_is_said_and_declined(tmp_path, capsys):
    collected(tmp_path)
    assert main(["obligations", str(tmp_path), str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == (
        f"pv: {tmp_path}/none.yaml: not measured: cannot be read: No such file or directory\n"
    )


def test_without_paths_the_contracts_of_the_project_are_meant(tmp_path, capsys, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.pv]\ncontracts = "promises"\n')
    (tmp_path / "promises").mkdir()
    (tmp_path / "below").mkdir()
    collected(tmp_path / "promises")
    monkeypatch.chdir(tmp_path)
    assert main(["obligations"]) == 0
    assert capsys.readouterr().out.startswith("promises/x-v1.yaml:3: O-1")
    monkeypatch.chdir(tmp_path / "below")
    assert main(["obligations"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/promises/x-v1.yaml:3: O-1")


def test_texts_of_a_contract_forge_no_line_and_steer_no_terminal(tmp_path, capsys):
    text = HEAD + 'proof_obligations:\n- {id: "A\\e[2J\\nfake: line", type: "b\\n", property: "c\\u202Ed"}\n'
    collected(tmp_path, text)
    main(["obligations", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == rf"{tmp_path}/x-v1.yaml:3: A\x1b[2J\nfake: line [b\n]: c\u202ed"
    assert len(lines) == 3


@pytest.mark.parametrize(
    "test", ["falsifiers: {algorithm: prose}", "falsifiers: {algorithmm: 'a:b'}", "falsifiers: {live: 'a:b'}"]
)
def test_a_test_whose_falsifiers_cannot_be_planned_runs_nothing(tmp_path, capsys, test):
    text = CONTRACT.replace("falsifiers: {algorithm: 'a:b'}", test)
    (contract,) = collected(tmp_path, text).contracts
    assert totals(obligations(contract, Standing()))["run"] == 0
    assert totals(obligations(collected(tmp_path).contracts[0], Standing()))["run"] == 1
    collected(tmp_path, text)
    main(["obligations", str(tmp_path / "x-v1.yaml")])
    assert "    T-1 (line 21) its falsifiers cannot be run" in capsys.readouterr().out.splitlines()
