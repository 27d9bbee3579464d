import re
from pathlib import Path

import pytest

from pv import rules, settings
from pv.catalog import ASKED_BY, LEFT_OUT
from pv.cli import main
from pv.findings import RULES

assert rules.RULE_MODULES
assert settings.ABOUT_SETTINGS
PAGE = (Path(__file__).parents[2] / "docs" / "lint.md").read_text(encoding="utf-8")
NUMBERED = {"VAL": 6, "AUD": 5, "SCR": 4, "PRV": 4, "TRD": 2, "SUP": 1, "ENF": 2, "LCK": 1, "VER": 3, "DUP": 1}
CATALOG = [f"PV-{family}-{number:03}" for family, last in NUMBERED.items() for number in range(1, last + 1)]
CATALOG += [f"PV-ONT-{number:03}" for number in range(17, 22)]
"""The ids of the public tool's catalog."""


def rows(title: str) -> list[tuple[str, str]]:
    """The two cells of each row in the table below a title of docs/lint.md."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return [(left, right) for left, right in re.findall(r"^\| (.*?) \| (.*?) \|$", section, re.MULTILINE)][1:]


def test_every_id_of_the_catalog_is_a_rule_or_asked_by_one_or_left_out_and_only_one_of_these():
    assert set(CATALOG) - set(RULES) == ASKED_BY.keys() | LEFT_OUT.keys()
    assert not ASKED_BY.keys() & LEFT_OUT.keys()
    assert not (ASKED_BY.keys() | LEFT_OUT.keys()) & set(RULES)


def test_ids_are_asked_by_rules_that_are_there():
    assert {name for names in ASKED_BY.values() for name in names} <= set(RULES)


def test_the_page_has_the_catalog_in_its_order_and_says_of_each_id_what_the_table_in_the_code_says():
    assert [left for left, _ in rows("The public tool's lint catalog")] == CATALOG
    for name, told in rows("The public tool's lint catalog"):
        if name in LEFT_OUT:
            assert told.startswith("left out: ")
            assert f"**{told.removeprefix('left out: ').capitalize()}.**".lower() in PAGE.lower()
        else:
            assert told == ", ".join(ASKED_BY.get(name, ["the same id"]))


def test_the_page_names_each_rule_that_lint_alone_asks_once():
    named = [name for left, _ in rows("The rules") for name in left.split(", ")]
    assert sorted(named) == sorted(name for name, rule in RULES.items() if rule.lint)


@pytest.mark.parametrize("name", ASKED_BY)
def test_explain_leads_from_an_id_of_the_catalog_to_the_rules_that_ask_it(name, capsys):
    assert main(["explain", name.lower()]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        f"{name} of the public tool is asked by {', '.join(ASKED_BY[name])}\n\n{ASKED_BY[name][0]} ("
    )
    assert all(f"\n{rule} (" in text for rule in ASKED_BY[name])


@pytest.mark.parametrize("name", LEFT_OUT)
def test_explain_says_why_an_id_is_left_out(name, capsys):
    assert main(["explain", name]) == 2
    assert capsys.readouterr().err == f"pv: {name} of the public tool is left out: {LEFT_OUT[name]}\n"
