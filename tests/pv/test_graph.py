import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.cli import main
from pv.collection import collect
from pv.cycles import cycles
from pv.graph import _order, as_dot, as_mermaid, graph

HEAD = "metadata: {{version: 1.0.0, kind: pattern, description: d, references: [r], depends_on: {}}}\n"


def written(folder, **depends):
    for name, on in depends.items():
        (folder / f"{name}.yaml").write_text(HEAD.format(json.dumps(on)), encoding="utf-8")
    return folder


def made(folder, **depends):
    return graph(collect([written(folder, **depends)]))


def run(capsys, *args):
    code = main(["graph", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_dependencies_come_first_and_else_names(tmp_path, capsys):
    code, lines, err = run(capsys, written(tmp_path, z=[], a=["m"], m=["z"], b=["z", "m"]))
    assert (code, err) == (0, "")
    assert lines == [
        "z",
        "m -> z",
        "a -> m",
        "b -> m, z",
        "4 contracts, 4 dependencies, 0 on what is missing, 0 cycles",
    ]


def test_a_name_that_points_nowhere_is_shown_with_its_line(tmp_path, capsys, monkeypatch):
    written(tmp_path, a=["gone"])
    monkeypatch.chdir(tmp_path)
    code, lines, _ = run(capsys, "a.yaml")
    assert code == 0
    assert lines == [
        "a -> gone (missing)",
        "a.yaml:1: a depends on gone, which is none of these contracts",
        "1 contract, 1 dependency, 1 on what is missing, 0 cycles",
    ]


def test_a_cycle_is_shown_and_rejected_with_what_has_no_order_for_it(tmp_path, capsys):
    code, lines, _ = run(capsys, written(tmp_path, a=["b"], b=["c", "a2"], c=["a"], a2=[], user=["a"], free=["a2"]))
    assert code == 1
    assert lines == [
        "a2",
        "free -> a2",
        "cycle: a -> b -> c -> a",
        "no order for: a, b, c, user",
        "reject: 6 contracts, 6 dependencies, 0 on what is missing, 1 cycle",
    ]


def test_a_contract_that_depends_on_itself_is_a_cycle(tmp_path):
    found = made(tmp_path, a=["a"])
    assert (found.cycles, found.order, found.code) == ((("a",),), (), 1)


def test_every_name_on_a_cycle_is_shown_on_a_shortest_one(tmp_path):
    found = made(tmp_path, a=["b", "c"], b=["c"], c=["d"], d=["a"], x=["y", "a"], y=["x"])
    assert found.cycles == (("a", "c", "d"), ("b", "c", "d", "a"), ("x", "y"))


NAMES = st.sampled_from([f"n{index}" for index in range(7)])


@given(st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=4)))
def test_there_is_an_order_of_all_or_a_cycle_and_both_are_true(drawn):
    edges = {name: sorted(set(on) & set(drawn)) for name, on in sorted(drawn.items())}
    order, ways = list(_order(edges)), list(cycles(edges, list(edges)))
    assert (len(order) == len(edges)) is (not ways)
    for at, name in enumerate(order):
        assert set(edges[name]) <= set(order[:at])
    assert not {name for way in ways for name in way} & set(order)


def test_the_order_of_the_arguments_makes_no_difference(tmp_path, capsys):
    written(tmp_path, a=["b", "gone"], b=["c"], c=[], d=["a"])
    paths = [tmp_path / f"{name}.yaml" for name in "abcd"]
    for form in ("text", "dot", "json", "mermaid"):
        assert run(capsys, "--format", form, *paths) == run(capsys, "--format", form, *reversed(paths))


def test_a_deep_chain_is_no_recursion(tmp_path):
    edges = {f"n{index:05}": [f"n{index + 1:05}"] if index < 4999 else [] for index in range(5000)}
    assert list(_order(edges)) == sorted(edges, reverse=True)


def test_json_has_its_documented_shape(tmp_path, capsys):
    code, lines, _ = run(capsys, written(tmp_path, a=["b", "gone"], b=[]), "--format", "json")
    assert code == 0
    assert json.loads("\n".join(lines)) == {
        "schema": "pv-graph/1",
        "contracts": [{"name": name, "path": str(tmp_path / f"{name}.yaml")} for name in "ab"],
        "dependencies": [
            {"from": "a", "to": "b", "path": str(tmp_path / "a.yaml"), "line": 1, "known": True},
            {"from": "a", "to": "gone", "path": str(tmp_path / "a.yaml"), "line": 1, "known": False},
        ],
        "order": ["b", "a"],
        "cycles": [],
        "declined": [],
    }


def test_dot_draws_what_is_missing_dashed_and_a_cycle_red(tmp_path):
    assert as_dot(made(tmp_path, a=["b", "gone"], b=["a"])).splitlines() == [
        "digraph contracts {",
        "  rankdir=BT;",
        "  node [shape=box];",
        '  n0 [label="a"];',
        '  n1 [label="b"];',
        '  n2 [label="gone", style=dashed];',
        "  n0 -> n1 [color=red];",
        "  n0 -> n2 [style=dashed];",
        "  n1 -> n0 [color=red];",
        "}",
    ]


def test_mermaid_draws_what_is_missing_dashed_and_a_cycle_red(tmp_path):
    assert as_mermaid(made(tmp_path, a=["gone", "b"], b=["a"])).splitlines() == [
        "graph BT",
        '  n0["a"]',
        '  n1["b"]',
        '  n2["gone"]:::missing',
        "  n0 --> n1",
        "  n0 -.-> n2",
        "  n1 --> n0",
        "  classDef missing stroke-dasharray: 5 5",
        "  linkStyle 0,2 stroke:red",
    ]


HOSTILE = 'a"]; evil --> x; //\\" \\n \n<script>#quot;`%%{init}%%'


def test_names_end_no_label_in_dot_and_mermaid(tmp_path):
    found = made(tmp_path, a=[HOSTILE])
    dot, mermaid = as_dot(found).splitlines(), as_mermaid(found).splitlines()
    assert len(dot) == 7
    assert re.fullmatch(r'  n1 \[label="(?:[^"\\]|\\\\|\\")*", style=dashed\];', dot[4])
    assert dot[4].count(r"\\n") == 2  # the line break is shown, and is none
    assert len(mermaid) == 5
    assert re.fullmatch(r'  n1\["(?:[A-Za-z0-9 _.-]|#[0-9]+;)*"\]:::missing', mermaid[2])


def test_graphviz_reads_what_is_written_for_it(tmp_path):
    pictured = as_dot(made(tmp_path, a=[HOSTILE, "b"], b=["a"]))
    try:
        done = subprocess.run(["dot", "-Tplain"], input=pictured, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("Graphviz is not on this machine")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\nedge ") == 3


def test_of_two_contracts_of_one_name_the_second_is_declined(tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, a=[])
    code, lines, err = run(capsys, tmp_path)
    assert (code, lines[0]) == (2, "a")
    assert err == f"pv: {tmp_path}/two/a.yaml: not measured: has the same name as {tmp_path}/one/a.yaml\n"


def test_dependencies_that_cannot_be_read_are_said_and_never_green(tmp_path, capsys):
    code, _, err = run(capsys, written(tmp_path, a="b", b=[]))
    assert code == 2
    assert "is not read: metadata.depends_on must be a list" in err


def test_a_name_that_stands_twice_is_one_dependency(tmp_path):
    assert len(made(tmp_path, a=["b", "b"], b=[]).dependencies) == 1


def test_an_empty_folder_is_declined(tmp_path, capsys):
    code, lines, err = run(capsys, tmp_path)
    assert (code, lines) == (2, ["decline: 0 contracts, 0 dependencies, 0 on what is missing, 0 cycles"])
    assert err == f"pv: {tmp_path}: not measured: holds no contracts: no *.yaml or *.yml\n"


def test_the_file_is_named_as_it_was_given(tmp_path, capsys, monkeypatch):
    written(tmp_path, a=["gone"])
    monkeypatch.chdir(tmp_path.parent)
    _, lines, _ = run(capsys, Path(tmp_path.name))
    assert lines[1].startswith(f"{tmp_path.name}/a.yaml:1: ")


def test_a_dependency_may_be_written_as_a_file(tmp_path):
    found = made(tmp_path, a=["../x/b.yaml", "b"], b=[])
    assert [(one.of, one.on, one.known) for one in found.dependencies] == [("a", "b", True)]
