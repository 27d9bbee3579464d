import json
import sys
from pathlib import Path

import pytest

from pv.cli import main
from pv.findings import ERROR, NOTE, WARNING
from pv.validate import validate

CONTRACT = """\
metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}
falsification_tests:
- id: A
  prediction: p
  if_fails: f
  falsifiers:
    algorithm: mine.checks:finds
  mutants: [wrong]
"""
CHECKS = "from pv.trial import mutant\n\n\ndef finds(trial): ...\n\n\n@mutant\ndef wrong():\n    'd'\n    yield\n"
NONE = "number = 1\nclass Kind: ...\ndef parts(trial): yield\ndef alone(): ...\n"
MODEL = "{about: a, licence: l, sha256: '" + "0" * 64 + "', size: 1, file: x.gguf}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nmodels = 'models.txt'\n")
    (tmp_path / "models.txt").write_text(f"tiny: {MODEL}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "checks.py").write_text(CHECKS)
    (tmp_path / "x.yaml").write_text(CONTRACT)
    return tmp_path


def findings(root: Path, *changes: str, lint: bool = False) -> list[tuple[str, str, int, int, str, str]]:
    """What the rules of pv.rules.project find, after each pair of changes, old and new, in the contract."""
    text = CONTRACT
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    (root / "x.yaml").write_text(text)
    rules = ("PV-RUN-007", "PV-RUN-008", "PV-RUN-009", "PV-MODEL", "PV-STATUS")
    found = [at for at in validate([root / "x.yaml"], lint=lint).findings if at.rule.startswith(rules)]
    return [(at.rule, at.severity, at.line, at.column, at.message, at.hint) for at in found]


def test_what_exists_is_not_told_and_not_imported(root, monkeypatch):
    (root / "mine" / "checks.py").write_text(f"{CHECKS}raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(root))
    assert findings(root) == []
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("mine.cheks:finds", "no module 'mine.cheks' below {}", "did you mean 'mine.checks'?"),
        ("mine.checks:find", "no function 'find' in mine.checks", "did you mean 'finds'?"),
        ("mine.checks:nothing", "no function 'nothing' in mine.checks", "known: finds"),
        ("mine.checks:wrong", "mine.checks:wrong is a mutant, not a falsifier",
         "a mutant plants a defect; name the function that must notice it"),
        ("mine.checks:number", "mine.checks:number is no falsifier but a value", ""),
        ("mine.checks:Kind", "mine.checks:Kind is no falsifier but a class", ""),
        ("mine.checks:parts", "mine.checks:parts is no falsifier but a generator function, whose body nobody runs", ""),
        ("mine.checks:alone", "mine.checks:alone is no falsifier but a function that takes no trial", ""),
        ("numpy:sum", "'numpy' is no first-party module, so a change of it could not be noticed",
         "first-party here: mine; see [tool.pv] first-party"),
        ("mine.bad:f", "does not parse: expected ':' ({}/mine/bad.py:1)", ""),
        ("mine.far:f", "no module 'mine.gone' below {}", ""),
    ],
)  # fmt: skip
def test_a_falsifier_that_is_none_is_an_error_on_its_line(target, message, hint, root):
    (root / "mine" / "checks.py").write_text(f"{CHECKS}{NONE}")
    (root / "mine" / "bad.py").write_text("def f(trial)\n")
    (root / "mine" / "far.py").write_text("from mine.gone import f\n")
    (only,) = [at for at in findings(root, "mine.checks:finds", target) if at[0] == "PV-RUN-007"]
    assert only == ("PV-RUN-007", ERROR, 7, 5, f"A: {message.format(root)}", hint)


@pytest.mark.parametrize(
    ("old", "new", "bound"),
    [
        ("mine.checks:finds", "mine.checks:finds", 1),
        ("mine.checks:finds", "mine.checks:find", 0),
        ("mine.checks:finds", "mine.cheks:finds", 0),
        ("mine.checks:finds", "numpy:sum", 0),
        ("[wrong]", "[wrong, wrong]", 0),
        ("[wrong]", "[wrong]\n  models: [tiny]", 1),
        ("[wrong]", "[wrong]\n  models: [tinny]", 0),
        ("[wrong]", "[wrung]", 1),
    ],
)
@pytest.mark.parametrize("command", ["validate", "lint"])
def test_a_test_is_bound_if_all_that_it_runs_is_there(old, new, bound, command, root, capsys):
    (root / "x.yaml").write_text(CONTRACT.replace(old, new))
    for _ in range(2):  # what is remembered of the contract is not what is there
        main([command, str(root / "x.yaml"), "--json"])
        assert json.loads(capsys.readouterr().out)["tests"] == {"declared": 1, "bound": bound}
    main([command, str(root / "x.yaml"), "--quiet"])
    unbound = "" if bound else ", 1 unbound (nothing runs them)"
    assert capsys.readouterr().out.endswith(f"1 test declared, {bound} bound{unbound}\n")


@pytest.mark.parametrize("target", ["mine.checks", "a b:c", "mine.checks:", ":f"])
def test_what_is_no_module_and_function_is_left_to_the_rule_about_its_form(target, root):
    assert findings(root, "mine.checks:finds", f"'{target}'") == []


def test_a_role_that_is_none_is_left_to_the_rule_about_roles(root):
    assert findings(root, "algorithm: mine.checks:finds", "algoritm: mine.nowhere:finds") == []


@pytest.mark.parametrize(
    ("mutant", "message", "hint"),
    [
        ("wrung", "no mutant 'wrung' in mine.checks", "did you mean 'wrong'?"),
        ("finds", "mine.checks:finds is no mutant", "decorate it with @mutant of pv.trial"),
        ("number", "mine.checks:number is no mutant", "decorate it with @mutant of pv.trial"),
    ],
)
def test_a_mutant_that_is_none_is_an_error_on_its_line(mutant, message, hint, root):
    (root / "mine" / "checks.py").write_text(f"{CHECKS}number = 1\n")
    assert findings(root, "[wrong]", f"[wrong, {mutant}]") == [("PV-RUN-008", ERROR, 8, 20, f"A: {message}", hint)]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("'d'\n", "pass\n", "has no docstring that says which defect it plants"),
        ("yield", "pass", "is no generator function: it yields nowhere"),
        ("wrong()", "wrong(trial)", "is called without arguments, and asks for one"),
    ],
)
def test_a_mutant_that_can_never_be_planted_is_an_error_on_its_line(old, new, why, root):
    (root / "mine" / "checks.py").write_text(CHECKS.replace(old, new))
    hint = "a mutant is a generator function with a docstring that plants its defect around one yield"
    assert findings(root) == [("PV-RUN-008", ERROR, 8, 13, f"A: the mutant mine.checks:wrong {why}", hint)]


def test_a_mutant_must_lie_in_the_module_of_every_falsifier(root):
    (root / "mine" / "live.py").write_text("def finds(trial): ...\n")
    two = "algorithm: mine.checks:finds\n    live: mine.live:finds"
    assert findings(root, "algorithm: mine.checks:finds", two, "[wrong]", "[wrong]\n  models: [tiny]") == [
        ("PV-RUN-008", ERROR, 9, 13, "A: no mutant 'wrong' in mine.live", "there is none")
    ]
    (root / "mine" / "live.py").write_text("from .checks import wrong\ndef finds(trial): ...\n")
    assert findings(root, "algorithm: mine.checks:finds", two, "[wrong]", "[wrong]\n  models: [tiny]") == []


def test_mutants_of_a_module_that_is_missing_are_not_told_of_as_well(root):
    assert [at[0] for at in findings(root, "mine.checks:finds", "mine.gone:finds")] == ["PV-RUN-007"]


def test_what_only_an_import_can_tell_is_a_note(root):
    star = "from mine.more import *\n"
    (root / "mine" / "checks.py").write_text(star)
    cannot = "cannot be told without importing it: a star import may bring it"
    assert findings(root) == [
        ("PV-RUN-009", NOTE, 7, 5, f"A: whether mine.checks:finds is a function {cannot}", ""),
        ("PV-RUN-009", NOTE, 8, 13, f"A: whether mine.checks:wrong is a mutant {cannot}", ""),
    ]


def test_a_decorator_that_may_make_a_mutant_is_a_note_and_no_error(root):
    (root / "mine" / "checks.py").write_text(
        "from numpy import made\ndef finds(trial): ...\n@made\ndef wrong(): yield\n"
    )
    why = "its decorator made may do anything"
    what = f"A: whether mine.checks:wrong is a mutant cannot be told without importing it: {why}"
    assert findings(root) == [("PV-RUN-009", NOTE, 8, 13, what, "")]


def test_a_contract_outside_of_any_project_is_one_note(tmp_path):
    models = ("[wrong]", "[wrong]\n  models: [tiny]\n  status: FUNCTIONAL")
    what = "lies in no project, so what a test names outside of it was not looked for"
    hint = "a project is a folder with a pyproject.toml or a .git"
    note = ("PV-RUN-009", NOTE, 6, 3, what, hint)
    assert findings(tmp_path, *models) == [note]
    assert findings(tmp_path, *models, lint=True) == [note]
    test = CONTRACT.partition("- id")[2]
    (only,) = findings(tmp_path, test, f"{test}- id{test.replace(' A', ' B')}")
    assert only[4] == "lies in no project, so what 2 tests name outside of it was not looked for"


def test_falsifiers_beside_a_contract_are_looked_at_without_a_project_too(tmp_path):
    (tmp_path / "mine.py").write_text(CHECKS)
    assert findings(tmp_path, "mine.checks:finds", "mine:finds") == []
    assert [at[0] for at in findings(tmp_path, "mine.checks:finds", "mine:find")] == ["PV-RUN-007"]


def test_a_model_that_is_not_registered_is_an_error_on_its_name(root):
    models = ("[wrong]", "[wrong]\n  models: [tiny, tinny, large]")
    assert findings(root, *models) == [
        ("PV-MODEL-001", ERROR, 9, 18, "A: no model 'tinny' in the registry", "did you mean 'tiny'?"),
        ("PV-MODEL-001", ERROR, 9, 25, "A: no model 'large' in the registry", "known: tiny"),
    ]


def test_a_model_in_a_project_without_a_registry_is_an_error(root):
    (root / "pyproject.toml").write_text("[tool.pv]\n")
    what = "A: the project has no registry, so no model 'tiny'"
    hint = "name a registry: [tool.pv] models = .. in pyproject.toml"
    assert findings(root, "[wrong]", "[wrong]\n  models: [tiny]") == [("PV-MODEL-001", ERROR, 9, 12, what, hint)]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (MODEL.replace("0" * 64, "0" * 63), "model 'tiny': sha256 must be 64 hexadecimal digits in lower case"),
        (MODEL.replace("sha256", "sha"), "model 'tiny': missing or unknown: sha, sha256"),
    ],
)
def test_a_registry_without_a_whole_digest_is_an_error_where_the_model_is_named(entry, what, root):
    (root / "models.txt").write_text(f"large: {MODEL.replace('x.gguf', 'y.gguf')}tiny: {entry}")
    found = findings(root, "[wrong]", "[wrong]\n  models: [large, tiny]")
    assert [at[:5] for at in found] == [
        ("PV-MODEL-002", ERROR, 9, 19, f"A: the registry of models cannot be used: {what} ({root}/models.txt)")
    ]


def test_a_registry_that_is_missing_is_one_error_at_the_first_model(root):
    (root / "models.txt").unlink()
    found = findings(root, "[wrong]", "[wrong]\n  models: [large, tiny]")
    what = "A: the registry of models cannot be used: cannot be read: No such file or directory"
    assert [at[:5] for at in found] == [("PV-MODEL-002", ERROR, 9, 12, f"{what} ({root}/models.txt)")]
    assert findings(root) == []


def test_a_level_above_the_evidence_is_an_error_of_lint_alone(root):
    claim = ("[wrong]", "[wrong]\n  status: PARTIAL")
    assert findings(root, *claim) == []
    what = "A: states PARTIAL_ALGORITHM_LEVEL, and has earned UNTESTED: not PARTIAL_ALGORITHM_LEVEL: algorithm has no "
    hint = "record evidence (pytest --falsify --record), then let pv promote --write state what it is worth"
    found = ("PV-STATUS-002", ERROR, 9, 3, f"{what}SURVIVED record for today's digests")
    assert findings(root, *claim, lint=True) == [(*found, f"there is no folder {root}/evidence: {hint}")]
    (root / "evidence").mkdir()
    assert findings(root, *claim, lint=True) == [(*found, hint)]
    for honest in ("UNTESTED", "FALSIFIED", "STALE"):
        assert findings(root, "[wrong]", f"[wrong]\n  status: {honest}", lint=True) == []


def test_a_level_of_a_test_that_cannot_be_bound_says_why(root):
    (root / "mine" / "checks.py").write_text(f"{CHECKS}import mine.gone\n")
    (only,) = findings(root, "[wrong]", "[wrong]\n  status: PARTIAL", lint=True)
    assert f"earned UNTESTED: cannot be bound: {root}/mine/checks.py:11: no module 'mine.gone'" in only[4]


def test_a_level_that_a_test_without_falsifiers_states_is_told_once(root):
    other = "[wrong]\n- {id: B, prediction: p, if_fails: f, status: FUNCTIONAL}"
    assert [(at[0], at[1]) for at in findings(root, "[wrong]", other, lint=True)] == [("PV-STATUS-004", WARNING)]


def test_a_word_that_is_no_level_is_told_once(root):
    assert [at[0] for at in findings(root, "[wrong]", "[wrong]\n  status: GREEN", lint=True)] == ["PV-STATUS-001"]


def test_a_summary_that_was_typed_is_an_error_of_lint_alone(root):
    summary = (
        "[wrong]",
        "[wrong]\nverification_summary: {total_obligations: 0, l2_property_tested: 3, bound: one, untested: true, "
        "functional: 0, l4_lean_proved: 7}",
    )
    assert findings(root, *summary) == []
    assert [(at[0], at[1], at[2], at[4]) for at in findings(root, *summary, lint=True)] == [
        ("PV-STATUS-003", ERROR, 9, "verification_summary: l2_property_tested is 3, and pv counts 0"),
        ("PV-STATUS-003", ERROR, 9, "verification_summary: bound is one, and pv counts 1"),
        ("PV-STATUS-003", ERROR, 9, "verification_summary: untested is true, and pv counts 1"),
    ]


@pytest.mark.parametrize("marked", [True, False])
def test_in_a_foreign_contract_a_summary_is_held_to_what_the_contract_says_itself(tmp_path, marked):
    if marked:
        (tmp_path / "pyproject.toml").write_text("[tool.pv]\n")
    text = """\
metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}
equations: {e: {formula: f, domain: d}}
proof_obligations:
- {type: bound, property: p, lean: {theorem: A, status: proved}}
- {type: bound, property: q, lean: {theorem: B}}
- {type: bound, property: r}
falsification_tests: [{id: A, rule: p, prediction: one, test: a::b, if_fails: f}]
verification_summary:
  total_obligations: 3
  l2_property_tested: 3
  l4_lean_proved: 1
  l4_sorry_count: 1
  l4_not_applicable: 1
  bound: 1
"""

    def told(text: str) -> list[tuple[str, int, str]]:
        (tmp_path / "x.yaml").write_text(text)
        found = validate([tmp_path / "x.yaml"], lint=True).findings
        return [(at.severity, at.line, at.message) for at in found if at.rule == "PV-STATUS-003"]

    assert told(text) == []
    wrong = text.replace("total_obligations: 3", "total_obligations: 1").replace("proved: 1", "proved: 3")
    assert told(wrong.replace("sorry_count: 1", "sorry_count: 0")) == [
        (WARNING, 9, "verification_summary: total_obligations is 1, and pv counts 3"),
        (WARNING, 11, "verification_summary: l4_lean_proved is 3, and pv counts 1"),
        (WARNING, 12, "verification_summary: l4_sorry_count is 0, and pv counts 1"),
    ]
    elsewhere = wrong.replace(", lean: {theorem: A, status: proved}", "").replace(", lean: {theorem: B}", "")
    assert [line for _, line, _ in told(elsewhere)] == [9]  # proofs in Lean may stand elsewhere


ODD = (None, "", "x", "a:b", "mine.checks:finds", 0, -1.5, True, [], [[]], [None, 7, "x"], {}, {"a": {"b": []}})


def test_values_of_every_type_at_every_key_of_a_test_raise_nothing(root):
    keys = ("falsifiers", "mutants", "models", "status", "tolerance", "obligations", "binds_to", "covers", "id")
    for key in keys:
        for value in ODD:
            test = {"id": "A", "falsifiers": {"algorithm": "mine.checks:finds", "live": value}, "mutants": ["wrong"]}
            document = {"metadata": {}, "falsification_tests": [{**test, key: value}], "verification_summary": value}
            (root / "x.yaml").write_text(json.dumps(document))
            assert validate([root / "x.yaml"], lint=True).checked
