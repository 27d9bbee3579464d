import pytest

from pv import rules
from pv.changelog import acceptance, entries
from tests.pv.test_diff import BASE, contract

START = BASE.index("changelog:")
END = BASE.index("our_own_key")


def with_changelog(text):
    return contract(BASE[:START] + text + BASE[END:])


ENTRY = "changelog:\n- version: 1.2.3\n  reason: measured again\n  accepts: {FALSIFY-1: [demotion, mutant]}\n"


def test_an_entry_accepts_what_it_names_and_no_more():
    head = with_changelog(ENTRY)
    (entry,) = entries(head)
    assert (entry.version, entry.reason, entry.accepts) == (
        "1.2.3",
        "measured again",
        {"FALSIFY-1": ("demotion", "mutant")},
    )
    assert acceptance(head, None, "FALSIFY-1", "demotion") == (entry, "")
    assert acceptance(head, None, "FALSIFY-1", "mutant") == (entry, "")
    assert acceptance(head, None, "FALSIFY-1", "test") == (None, "")
    assert acceptance(head, None, "FALSIFY-2", "demotion") == (None, "")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version: 1.2.3", "version: 1.2.2", "is about 1.2.2, the contract's version is 1.2.3"),
        ("reason: measured again", "reason: ''", "gives no reason"),
        ("reason: measured again", "reason: ' '", "gives no reason"),
    ],
)
def test_an_entry_of_another_version_or_without_a_reason_accepts_nothing(old, new, why):
    found, said = acceptance(with_changelog(ENTRY.replace(old, new)), None, "FALSIFY-1", "demotion")
    assert found is None
    assert said.endswith(why)


@pytest.mark.parametrize(
    "again",
    [
        ENTRY,
        ENTRY.replace("reason: measured again", "reason: 'measured   again'"),
        ENTRY.replace("demotion, mutant", "mutant, demotion"),
    ],
)
def test_an_entry_that_the_base_has_accepts_nothing_whatever_its_form(again):
    found, said = acceptance(with_changelog(again), with_changelog(ENTRY), "FALSIFY-1", "demotion")
    assert found is None
    assert said.endswith("is an old one: it accepted an earlier loss")


@pytest.mark.parametrize(
    "text",
    [
        "changelog: text\n",
        "changelog: [text]\n",
        "changelog:\n- accepts: text\n",
        "changelog: {a: b}\n",
        "changelog:\n",
    ],
)
def test_what_has_another_form_accepts_nothing(text):
    assert acceptance(with_changelog(text), None, "FALSIFY-1", "demotion") == (None, "")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("changelog: text\n", "PV-TYPE-001"),
        ("changelog: [{version: 1.0.0}]\n", "PV-TYPE-002"),
        ("changelog: [{reason: r}]\n", "PV-TYPE-002"),
        (ENTRY.replace("mutant", "mutants"), "PV-TYPE-003"),
        (ENTRY.replace("[demotion, mutant]", "demotion"), "PV-TYPE-001"),
        (ENTRY.replace("accepts", "accept"), "PV-KEY-001"),
    ],
)
def test_a_changelog_of_another_form_is_found_by_the_validator(text, rule):
    assert rule in {found.rule for found in rules.check(with_changelog(text))}


def test_a_changelog_as_documented_breaks_no_rule():
    without, with_it = ([found.message for found in rules.check(with_changelog(text))] for text in ("", ENTRY))
    assert without == with_it
