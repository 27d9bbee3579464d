import dataclasses
import re
from pathlib import Path

import pytest

from pv import rules
from pv.cli import main
from pv.explain import FOLDER, explanation
from pv.findings import ERROR, RULES
from pv.settings import settings_around
from pv.validate import validate

assert rules.RULE_MODULES
EXPECTED = re.compile(r"^# (?:(\S+):)?(\d+): (error|warning|note) ([A-Z0-9-]+)$", re.MULTILINE)
BY_FUNCTION = [name for name, rule in RULES.items() if rule.check or rule.across or rule.within]


def written(files, folder: Path) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def found(files, folder: Path, rule: str) -> list[tuple[str, int, str, str]]:
    folder = written(files, folder)
    asked = RULES[rule]
    verdict = validate([folder], lint=asked.lint, imports=asked.imports, settings=settings_around(folder))
    return sorted((Path(at.path).name, at.line, at.severity, at.rule) for at in verdict.findings)


@pytest.mark.parametrize("rule", RULES)
def test_the_example_that_breaks_a_rule_has_exactly_the_findings_it_states(rule, tmp_path):
    example = explanation(rule).fires
    stated = sorted(
        (Path(other or name).name, int(line), severity, broken)
        for name, text in example.items()
        for other, line, severity, broken in EXPECTED.findall(text)
    )
    assert (RULES[rule].severity, rule) in {(severity, broken) for *_, severity, broken in stated}
    assert found(example, tmp_path, rule) == stated


@pytest.mark.parametrize("rule", RULES)
def test_the_example_that_keeps_a_rule_is_accepted_and_keeps_it(rule, tmp_path):
    folder = written(explanation(rule).holds, tmp_path)
    settings = settings_around(folder)
    assert [at for at in validate([folder], settings=settings).findings if at.severity == ERROR] == []
    found = validate([folder], lint=True, imports=RULES[rule].imports, settings=settings).findings
    assert rule not in {at.rule for at in found}


@pytest.mark.parametrize("rule", BY_FUNCTION)
def test_without_its_body_a_rule_finds_nothing_in_the_example_that_breaks_it(rule, tmp_path, monkeypatch):
    emptied = {
        name: lambda *args: iter(()) for name in ("check", "across", "within") if getattr(RULES[rule], name) is not None
    }
    monkeypatch.setitem(RULES, rule, dataclasses.replace(RULES[rule], **emptied))
    assert rule not in {broken for *_, broken in found(explanation(rule).fires, tmp_path, rule)}


def test_every_data_file_is_about_a_rule():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(RULES)


def test_explain_shows_reason_and_examples(capsys):
    assert main(["explain", "schema-004"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("SCHEMA-004 (error)\n  an equation has a formula\n")
    assert "promises nothing" in text
    assert "fires on:\n    # 10: error SCHEMA-004\n" in text
    assert "holds for:\n" in text


def test_explain_lists_all_rules(capsys):
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(RULES)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("SCHEMA-04", "SCHEMA-004"),
        ("schema-4", "SCHEMA-004"),
        ("SCHEMA-0011", "SCHEMA-011"),
        ("SHEMA-004", "SCHEMA-004"),
        ("pv-val-4", "PV-VAL-004"),
        ("PV-SCR-1", "PV-SCR-001"),
    ],
)
def test_an_unknown_rule_is_answered_with_the_nearest_one(wrong, meant, capsys):
    assert main(["explain", wrong]) == 2
    assert capsys.readouterr().err == f"pv: there is no rule {wrong!r}\n  hint: did you mean {meant!r}?\n"


@pytest.mark.parametrize("wrong", ["zzz", "9" * 5000])
def test_a_rule_that_is_like_none_is_answered_with_where_they_are_listed(wrong, capsys):
    assert main(["explain", wrong]) == 2
    assert capsys.readouterr().err.endswith("  hint: pv explain, without a rule, lists them\n")
