import json
from fractions import Fraction

import pytest

from pv.binding import bind
from pv.cli import main
from pv.collection import collect
from pv.config import find
from pv.coverage import coverage, percent
from pv.outcome import Outcome
from pv.words import Level
from tests.pv.rules.test_project import MODEL
from tests.pv.test_binding import project as checksum_project
from tests.pv.test_binding import recorded
from tests.pv.test_obligations import CONTRACT, HEAD


def equal_parts(folder, covered, of, name="x-v1.yaml"):
    """A contract with so many obligations covered."""
    lines = [HEAD, "proof_obligations:\n"] + [f"- {{id: O-{n}, property: p{n}}}\n" for n in range(of)]
    lines.append("falsification_tests:\n" if covered else "")
    for n in range(covered):
        lines.append(
            f"- {{id: T-{n}, rule: r, prediction: 1, if_fails: f, obligations: [O-{n}], "
            "falsifiers: {algorithm: 'a:b'}, mutants: [m]}\n"
        )
    (folder / name).write_text("".join(lines))
    return folder / name


def run(capsys, *args):
    code = main(["coverage", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_the_command_counts_what_is_run_and_lists_what_is_not(tmp_path, capsys, monkeypatch):
    text = CONTRACT.replace("proof_obligations", "equations: {e: {formula: x}, g: {formula: y}}\nproof_obligations", 1)
    (tmp_path / "x-v1.yaml").write_text(text.replace("  mutants: [m]\n", "  mutants: [m]\n  binds_to: e\n"))
    monkeypatch.chdir(tmp_path)
    code, lines, err = run(capsys, "x-v1.yaml")
    counts = "8 obligations, 1 not applicable; 2 tested by id, 2 by text alone, 1 run; 6 uncovered; 14.2 % covered"
    assert (code, err) == (0, "")
    assert lines == [
        "x-v1.yaml",
        f"  {counts}; no evidence",
        "  2 equations: 1 bound by a test, 1 run",
        "  x-v1.yaml:7: O-2: nothing runs T-2",
        "  x-v1.yaml:9: it is finite: no test names it; the rule of T-3 repeats its text",
        "  x-v1.yaml:10: O-4: no test names it; the rule of T-4 repeats its text",
        "  x-v1.yaml:12: O-5: no test names it",
        "  x-v1.yaml:19: O-7: another obligation has the id O-7 too: which one a test means is not known",
        "  x-v1.yaml:20: O-7: another obligation has the id O-7 too: which one a test means is not known",
        "  x-v1.yaml:2: equation g: no test binds to it",
        f"1 contract: {counts}",
    ]


@pytest.mark.parametrize(
    ("covered", "of", "minimum", "code"),
    [
        (2, 3, "66.6", 0),
        (2, 3, "66.7", 1),
        (3, 3, "100", 0),
        (999, 1000, "100", 1),
        (999, 1000, "99.9", 0),
        (0, 3, "0", 0),
        (0, 3, "0.1", 1),
        (0, 0, "0", 2),
        (0, 0, "100", 2),
    ],
)
def test_less_than_the_minimum_is_rejected_and_nothing_to_cover_is_declined(
    tmp_path, capsys, covered, of, minimum, code
):
    path = equal_parts(tmp_path, covered, of) if of else tmp_path / "x-v1.yaml"
    if not of:
        path.write_text(HEAD)
    got, lines, _ = run(capsys, path, "--min", minimum)
    assert got == code
    assert lines[-1].startswith(("accept: 1 contract", "reject: 1 contract", "decline: 1 contract")[code])
    assert lines[-1].endswith(f", {minimum} % asked")


def test_nothing_to_cover_is_not_all_covered(tmp_path, capsys):
    (tmp_path / "x-v1.yaml").write_text(HEAD)
    code, lines, _ = run(capsys, tmp_path / "x-v1.yaml")
    assert code == 2
    assert lines[1] == "  no obligation: nothing to cover"
    assert lines[-1].startswith("decline: 1 contract: 0 obligations")
    assert lines[-1].endswith("; nothing to cover")


def test_a_contract_without_obligations_raises_no_percentage(tmp_path, capsys):
    equal_parts(tmp_path, 1, 2)
    (tmp_path / "y-v1.yaml").write_text(HEAD)
    code, lines, _ = run(capsys, tmp_path)
    assert code == 0
    assert lines[-1].endswith("; 50.0 % covered")


def test_a_percentage_is_rounded_down(tmp_path, capsys):
    _, lines, _ = run(capsys, equal_parts(tmp_path, 1999, 2000))
    assert lines[-1].endswith("; 99.9 % covered")


def test_what_is_not_applicable_is_in_no_percentage(tmp_path, capsys):
    path = equal_parts(tmp_path, 1, 1)
    aside = "- {id: N, property: n, applies_to: not_applicable, na_reason: none here, na_owner: me}\n"
    path.write_text(path.read_text().replace("falsification_tests", f"{aside}falsification_tests"))
    found = coverage(collect([path]))
    assert percent(found.obligations) == 100
    assert run(capsys, path)[1][1].startswith("  2 obligations, 1 not applicable; 1 tested by id")


@pytest.mark.parametrize("wrong", ["nan", "-1", "100.5", "inf", "80%", "", "1/2", "1e1", "0x10"])
def test_a_minimum_that_is_no_percentage_is_refused(capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        main(["coverage", f"--min={wrong}"])
    assert stopped.value.code == 2
    assert f"{wrong!r} is no number from 0 to 100" in capsys.readouterr().err


def test_below_the_minimum_is_rejected_even_where_something_cannot_be_read(tmp_path, capsys):
    path = equal_parts(tmp_path, 1, 2)
    assert run(capsys, path, tmp_path / "none.yaml", "--min", "100")[0] == 1
    code, lines, err = run(capsys, path, tmp_path / "none.yaml", "--min", "50")
    assert code == 2
    assert lines[-1].startswith("decline: ")
    assert err == f"pv: {tmp_path}/none.yaml: not measured: cannot be read: No such file or directory\n"


FALSIFIERS = (
    "import sums\ndef order(trial): trial.equal(1, 1, 'a')\ndef files(trial): pass\ndef same_as_zlib(trial): pass\n"
)


def project(folder):
    """The project of the tests of bindings, with falsifiers that exist."""
    return checksum_project(folder, **{"checks/sums.py": FALSIFIERS})


def test_a_falsifier_that_does_not_exist_covers_nothing_unnoticed(tmp_path, capsys):
    _, contract = project(tmp_path)
    assert run(capsys, contract.path, "--min", "50")[0] == 0
    (tmp_path / "checks" / "sums.py").write_text(FALSIFIERS.replace("def order", "def older"))
    code, lines, err = run(capsys, contract.path, "--min", "50")
    assert code == 1
    assert lines[-1].endswith("; 0.0 % covered, 50 % asked")
    assert err == f"pv: {contract.path}:22:5: not measured: T-1: no function 'order' in checks.sums\n"
    assert run(capsys, contract.path)[0] == 2


RUNS = (
    HEAD
    + """\
equations: {e: {formula: x}}
proof_obligations: [{id: O, property: p}]
falsification_tests:
- {id: T, rule: r, prediction: 1, if_fails: f, binds_to: e, obligations: [O], mutants: [m], RUN}
"""
)


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("falsifiers: {algorithm: prose about it}", "T: the algorithm falsifier is 'prose about it', not module:func"),
        ("falsifiers: {algorithmm: 'a:b'}", "T: there is no role 'algorithmm'"),
        ("falsifiers: {algorithm: 'a:b', algorithmm: 'a:b'}", "T: there is no role 'algorithmm'"),
        ("falsifiers: {oracle: 'a:b'}", "T: oracle has no models to run on"),
        ("falsifiers: {live: 'a:b'}, models: [none]", "T: the project has no registry, so no model 'none'"),
        ("falsifiers: {algorithm: 'a:c'}", "T: no function 'c' in a"),
        ("falsifiers: {algorithm: 'a:b'}, models: [x, x]", "T: 'x' stands twice among its models"),
    ],
)
def test_a_test_that_cannot_be_run_covers_nothing(tmp_path, capsys, test, why):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a.py").write_text("def b(trial): trial.equal(1, 1, 'a')\n")
    path = tmp_path / "x-v1.yaml"
    path.write_text(RUNS.replace("RUN", "falsifiers: {algorithm: 'a:b'}"))
    assert run(capsys, path, "--min", "100")[0] == 0
    path.write_text(RUNS.replace("RUN", test))
    code, lines, err = run(capsys, path, "--min", "100")
    assert code == 1
    assert "1 tested by id, 0 by text alone, 0 run; 1 uncovered; 0.0 % covered" in lines[1]
    assert lines[2] == "  1 equation: 1 bound by a test, 0 run"
    assert lines[3].endswith("O: nothing runs T")
    assert f"not measured: {why}" in err


def test_no_model_of_a_registry_that_cannot_be_used_covers_anything(tmp_path, capsys):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nmodels = 'models.yaml'\n")
    (tmp_path / "models.yaml").write_text("[]")
    (tmp_path / "a.py").write_text("def b(trial): trial.equal(1, 1, 'a')\n")
    text = RUNS.replace("RUN", "falsifiers: {live: 'a:b'}, models: [tiny]")
    test = text[text.index("- {id: T") :]
    text = text.replace("property: p}", "property: p}, {id: P, property: q}")
    (tmp_path / "x-v1.yaml").write_text(text + test.replace("T,", "U,").replace("[O]", "[P]"))
    code, lines, err = run(capsys, tmp_path / "x-v1.yaml")
    assert code == 2
    assert "; 0.0 % covered" in lines[-1]
    assert err.count("the registry of models cannot be used") == 1


def test_a_project_is_looked_for_once_however_many_contracts_lie_in_a_folder(tmp_path, monkeypatch):
    for n in range(3):
        equal_parts(tmp_path, 1, 1, f"x{n}-v1.yaml")
    asked = []
    monkeypatch.setattr("pv.project.find", lambda folder: asked.append(folder) or find(folder))
    coverage(collect([tmp_path]))
    assert asked == [tmp_path]


def levels(folder):
    found = coverage(collect([folder / "contracts"]))
    return found.parts[0].earned


def test_what_was_earned_is_the_level_of_today(tmp_path):
    config, contract = project(tmp_path)
    assert levels(tmp_path) is None  # no evidence: nothing is said about levels
    recorded(bind(contract, contract.tests[0], config), config, only=lambda plan: plan.role != "oracle")
    assert levels(tmp_path) == (Level.FUNCTIONAL, Level.UNTESTED)
    (tmp_path / "sums.py").write_text("# changed\n")
    assert levels(tmp_path) == (Level.STALE, Level.UNTESTED)


def test_an_obligation_earns_its_best_test_unless_one_is_falsified(tmp_path):
    config, contract = project(tmp_path)
    text = contract.path.read_text()
    second = text[text.index("- id: T-1") : text.index("- id: T-2")].replace("T-1", "T-9")
    contract.path.write_text(text + second)
    contract = collect([contract.path]).contracts[0]
    first, _, last = contract.tests
    recorded(bind(contract, last, config), config)
    assert levels(tmp_path)[0] is Level.DISCHARGED
    recorded(bind(contract, first, config), config, outcome=Outcome.FALSIFIED, message="seen")
    assert levels(tmp_path)[0] is Level.FALSIFIED


def test_evidence_that_cannot_be_read_is_said_and_is_never_green(tmp_path, capsys):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    damaged = next(config.evidence.rglob("*.json"))
    damaged.write_text("{}")
    code, _, err = run(capsys, tmp_path / "contracts")
    assert code == 2
    assert str(damaged) in err


def test_json_has_its_documented_shape(tmp_path, capsys):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config, only=lambda plan: plan.role != "oracle")
    code, lines, _ = run(capsys, tmp_path / "contracts", "--json", "--min", "75")
    content = json.loads("\n".join(lines))
    assert code == 1
    assert {key: content[key] for key in ("schema", "verdict", "percent", "minimum", "declined")} == {
        "schema": "pv-coverage/1",
        "verdict": "reject",
        "percent": 50.0,
        "minimum": 75.0,
        "declined": [],
    }
    assert content["totals"]["earned"]["FUNCTIONAL"] == 1
    (part,) = content["contracts"]
    assert [(one["id"], one["covered"], one["earned"]) for one in part["obligations"]] == [
        ("OBL-1", True, "FUNCTIONAL"),
        ("OBL-2", False, "UNTESTED"),
    ]
    assert part["equations"] == [
        {"name": "sum", "line": 5, "covered": True, "why": "", "tests": ["T-1"]},
        {"name": "other", "line": 7, "covered": False, "why": "no test binds to it", "tests": []},
    ]


def test_of_two_equations_of_one_name_none_is_covered(tmp_path, capsys):
    text = HEAD + "equations: [{id: e, formula: x}, {id: e, formula: y}]\nfalsification_tests:\n"
    text += (
        "- {id: T, rule: r, prediction: 1, if_fails: f, binds_to: e, falsifiers: {algorithm: 'a:b'}, mutants: [m]}\n"
    )
    (tmp_path / "x-v1.yaml").write_text(text)
    _, lines, _ = run(capsys, tmp_path / "x-v1.yaml")
    assert lines[2] == "  2 equations: 0 bound by a test, 0 run"
    assert lines[3].endswith("x-v1.yaml:2: equation e: another equation has the same name")


def test_percentages_are_exact():
    assert percent([]) is None
    assert Fraction(200, 3) < Fraction("66.7")


UNWRITTEN = [
    "def b(trial): ...\n",
    "def b(trial):\n    'Try it.'\n    pass\n",
    "def b(trial):\n    'Try it.'\n    raise NotImplementedError('not written yet')\n    trial.equal(1, 1, 'a')\n",
    "@mine\ndef b(trial): raise NotImplementedError\n",
    "from c import b\n",
]


@pytest.mark.parametrize("source", UNWRITTEN)
def test_a_falsifier_that_is_not_written_covers_nothing(tmp_path, capsys, source):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nfirst-party = ['a', 'c']\nmodels = 'models.yaml'\n")
    (tmp_path / "models.yaml").write_text(f"tiny: {MODEL}")
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "c.py").write_text("def b(trial): ...\ndef d(trial): trial.equal(1, 1, 'a')\n")
    path = tmp_path / "x-v1.yaml"
    path.write_text(RUNS.replace("RUN", "falsifiers: {algorithm: 'a:b'}"))
    code, lines, err = run(capsys, path, "--min", "100")
    assert (code, err) == (1, "")
    assert "1 tested by id, 0 by text alone, 0 run; 1 uncovered; 0.0 % covered" in lines[1]
    assert lines[3:5] == [
        f"  {path}:3: O: the falsifiers of T are not written yet",
        f"  {path}:2: equation e: the falsifiers of T are not written yet",
    ]
    for written in ("falsifiers: {algorithm: 'c:d'}", "falsifiers: {algorithm: 'a:b', live: 'c:d'}, models: [tiny]"):
        path.write_text(RUNS.replace("RUN", written))
        assert run(capsys, path, "--min", "100")[0] == 0


def test_a_new_contract_is_bound_and_not_covered(tmp_path, capsys, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    monkeypatch.chdir(tmp_path)
    assert main(["new", "x"]) == 0
    capsys.readouterr()
    code, lines, _ = run(capsys, "--min", "100")
    assert code == 1
    assert lines[3].endswith("OBL-X-001: the falsifiers of FALSIFY-X-001 are not written yet")
    assert main(["coverage", "--json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["contracts"]
    (test,) = part["obligations"][0]["tests"]
    assert (test["bound"], test["run"], part["percent"]) == (True, False, 0.0)
    assert main(["obligations"]) == 0
    assert "    FALSIFY-X-001 (line 20) its falsifiers are not written yet" in capsys.readouterr().out.splitlines()
