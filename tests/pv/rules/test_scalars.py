from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pv.contract import ContractError, make_contract, read_contract
from pv.findings import NOTE, WARNING
from pv.rules import check, check_file
from pv.rules.scalars import SUSPECT, _unambiguous
from pv.yaml_loader import YamlError, parse
from pv.yaml_text import resolve

HEAD = "metadata:\n  kind: pattern\n  version: 1.0.0\n  description: d\n  references: [r]\n"


def findings(text: str, head: str = HEAD) -> list[tuple[str, str, int, str, str]]:
    contract = make_contract(Path("x.yaml"), parse(head + text, "x.yaml"))
    found = [at for at in check(contract, lint=True) if at.rule.startswith("PV-YAML")]
    return [(at.rule, at.severity, at.line, at.message, at.hint) for at in found]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", "false"),
        ("Yes", "true"),
        ("OFF", "false"),
        ("on", "true"),
        ("12:30", "the number 750"),
        ("1_000", "the number 1000"),
        ("0777", "the number 777"),
        ("1.10", "the number 1.1"),
        ("+5", "the number 5"),
        ("0x10", "the number 16"),
        ("1e5", "the number 100000.0"),
        ("2026-01-02T03:04:05Z", "the time 2026-01-02 03:04:05+00:00"),
    ],
)
def test_text_that_other_readers_take_for_something_else_is_told(written, read):
    message = f"metadata.author: {written} without quotes is {read} to other YAML readers"
    assert findings(f"  author: {written}\n") == [("PV-YAML-003", NOTE, 6, message, f'write "{written}"')]
    for quoted in (f'"{written}"', f"'{written}'", f"|\n    {written}", f">-\n    {written}", f"!!str {written}"):
        assert findings(f"  author: {quoted}\n") == []


@pytest.mark.parametrize(
    "text", ["2026-01-02", "1.0", "17", "-3", "true", "False", "1.0.0", "none", "~", "2026-02-31T00:00:00Z"]
)
def test_text_that_prints_as_it_was_written_is_not_told(text):
    assert findings(f"  author: {text}\n") == []


def test_a_version_that_loses_its_zero_is_told():
    head = HEAD.replace("1.0.0", "1.10")
    message = "metadata.version: 1.10 without quotes is the number 1.1 to other YAML readers"
    assert findings("", head) == [("PV-YAML-006", WARNING, 3, message, 'write "1.10"')]


PARTS = """\
equations:
  e: {{formula: x, domain: {domain}}}
proof_obligations:
- {{id: {id}, property: p}}
falsification_tests:
- {{id: T, rule: r, prediction: 1, if_fails: f, status: {status}, binds_to: {binds_to}, obligations: [{obligation}],
   falsifiers: {{algorithm: {target}}}, mutants: [{mutant}], models: [{model}], tolerance: {{metric: {metric}}}}}
"""
PLACES = {
    "domain": (7, "equations.e.domain"),
    "id": (9, "proof_obligations[0].id"),
    "status": (11, "falsification_tests[0].status"),
    "binds_to": (11, "falsification_tests[0].binds_to"),
    "obligation": (11, "falsification_tests[0].obligations[0]"),
    "target": (12, "falsification_tests[0].falsifiers.algorithm"),
    "mutant": (12, "falsification_tests[0].mutants[0]"),
    "model": (12, "falsification_tests[0].models[0]"),
    "metric": (12, "falsification_tests[0].tolerance.metric"),
}
SHOWN = {
    "no": "false",
    "on": "true",
    "1_000": "the number 1000",
    "12:30": "the number 750",
    "2026-01-31": "the date 2026-01-31",
    "2026-01-31T00:00:00Z": "the time 2026-01-31 00:00:00+00:00",
}


def told(contract_text: str) -> list[tuple[str, int, str]]:
    contract = make_contract(Path("x.yaml"), parse(contract_text, "x.yaml"))
    found = [at for at in check(contract) if at.rule == "PV-YAML-006"]
    assert {at.severity for at in found} <= {WARNING}
    return [(at.message, at.line, at.column) for at in found]


@pytest.mark.parametrize("written", SHOWN)
@pytest.mark.parametrize("part", PLACES)
def test_what_decides_something_is_told_by_validate_where_it_stands(part, written):
    words = dict.fromkeys(PLACES, "word") | {part: written}
    line, place = PLACES[part]
    message = f"{place}: {written} without quotes is {SHOWN[written]} to other YAML readers"
    text = HEAD + PARTS.format(**words)
    ((what, at, column),) = told(text)
    assert (what, at) == (message, line)
    assert text.splitlines()[line - 1][column - 1 :].startswith((f"{place.rpartition('.')[2]}: {written}", written))
    assert told(HEAD + PARTS.format(**(words | {part: f'"{written}"'}))) == []


@pytest.mark.parametrize("written", ["0o17", "1e3", "17", "true"])
def test_a_number_for_text_that_decides_is_told_once(written):
    """A number to every reader: that text is meant is PV-TYPE-005's."""
    text = f"proof_obligations:\n- {{id: {written}, property: p}}\n"
    contract = make_contract(Path("x.yaml"), parse(HEAD + text, "x.yaml"))
    assert [(at.rule, at.line) for at in check(contract) if "id" in at.message and at.line == 7] == [("PV-TYPE-005", 7)]


NUMBERS = dict.fromkeys(["1e-5", "0o17", "017"], "PV-YAML-004")
NO_NUMBERS = dict.fromkeys(["no", "1_000", "12:30", "2026-01-31"], "PV-TYPE-001")


@pytest.mark.parametrize(("written", "rule"), [*NUMBERS.items(), *NO_NUMBERS.items()])
def test_a_tolerance_that_readers_disagree_on_is_told_by_validate(written, rule):
    text = f"proof_obligations:\n- {{id: O, property: p, tolerance: {written}}}\n"
    contract = make_contract(Path("x.yaml"), parse(HEAD + text, "x.yaml"))
    assert [(at.rule, at.line) for at in check(contract) if "tolerance" in at.message] == [(rule, 7)]


def test_days_where_days_are_meant_are_not_told():
    assert told(HEAD + "  created: 2026-01-31\n  author: 2026-01-31\n") == []


def test_names_and_items_of_lists_are_told():
    text = "equations:\n  on: {formula: f, invariants: [a, off]}\n  'no': {formula: f}\n"
    assert [(line, message.split(" without")[0]) for _, _, line, message, _ in findings(text)] == [
        (7, "the name on"),
        (7, "equations.on.invariants[1]: off"),
    ]


@pytest.mark.parametrize(
    ("written", "theirs", "better"),
    [
        ("1e-5", "text", "1.0e-05"),
        ("1.0e5", "text", "100000.0"),
        ("017", "the number 15", "17"),
        ("0o17", "text", "15"),
    ],
)
def test_a_number_that_is_another_one_to_yaml_1_1_is_told(written, theirs, better):
    text = f"proof_obligations:\n- property: p\n  tolerance: {written}\n"
    message = f"proof_obligations[0].tolerance: {written} is {theirs} to a YAML 1.1 reader"
    assert findings(text) == [("PV-YAML-004", WARNING, 8, message, f"write {better}")]
    assert findings(text.replace(written, better)) == []


def test_a_value_of_the_wrong_type_is_left_to_the_rule_about_types():
    assert findings("  registry: yes\nproof_obligations: [{property: p, tolerance: no}]\n") == []


def test_values_of_unknown_keys_and_behind_aliases_are_not_looked_at():
    assert findings("  mine: no\nequations: {e: {formula: f, codomain: &a b, domain: *a}}\nother: 1_0\n") == []


@pytest.mark.parametrize(
    "text", ['{"a": {"formula":f,"domain":no}}', "\n  a:\n    domain:\n      no", "{a: {? domain : no}}"]
)
def test_a_scalar_is_found_wherever_yaml_lets_it_stand(text):
    assert [message.split(" without")[0] for *_, message, _ in findings(f"equations: {text}\n")] == [
        "equations.a.domain: no"
    ]


def test_a_byte_order_mark_moves_nothing():
    contract = make_contract(Path("x"), parse(f"\ufeff{HEAD}  author: no\nequations: {{on: {{formula: f}}}}\n", "x"))
    assert [at.line for at in check(contract, lint=True) if at.rule.startswith("PV-YAML-00")] == [6, 7]
    contract = make_contract(Path("x"), parse("\ufeff{equations: {on: {formula: f}}}\n", "x"))
    assert [at.column for at in check(contract, lint=True) if at.rule == "PV-YAML-006"] == [14]


UNREAD = "machines:\n  small: &s {cores: 2}\n  large: {<<: *s}\n  huge: {<<: *s}\nday: !mine x\n"


def test_merge_keys_and_tags_in_unread_parts_are_told_once_each():
    what = "merge keys (<<) are not supported: YAML 1.2 has none; nothing reads this part (2 merge keys in all)"
    assert findings(UNREAD) == [
        ("PV-YAML-005", WARNING, 8, what, "write the keys out, or alias the values one by one"),
        (
            "PV-YAML-005",
            WARNING,
            10,
            "the tag !mine is not allowed here; nothing reads this part",
            "write a plain value",
        ),
    ]


OURS = "falsification_tests: [{id: A, rule: r, prediction: 1, if_fails: f, falsifiers: {algorithm: 'a:b'}}]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<<: {equations: {}}\n", 6),
        ("equations:\n  e: {formula: !mine f}\n", 7),
        ("equations:\n  e: {<<: {formula: f}}\n", 7),
        ("x: &x {<<: {formula: f}}\nequations: {e: *x}\n", 7),
        ("metadata2: !mine x\nequations: !mine {}\n", 7),
        ("proof_obligations:\n- !mine {property: p}\n", 7),
        (UNREAD + OURS, 8),
    ],
)
def test_merge_keys_and_tags_are_refused_where_pv_reads_and_anywhere_in_a_contract_of_ours(tmp_path, text, line):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + text)
    (found,) = check_file(path).findings
    assert (found.rule, found.severity, found.line) == ("PV-YAML-001", "error", line)
    with pytest.raises(ContractError, match=rf"x\.yaml:{line}:\d+: (merge keys|the tag)"):
        read_contract(path)


def test_a_contract_with_a_merge_key_that_nobody_reads_can_be_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + UNREAD)
    assert read_contract(path).kind == "pattern"


@example("---")  # alone it would begin a document
@given(st.text(alphabet="0123456789._:+-eExoyYnNsSofFTZ", min_size=1, max_size=9))
def test_exactly_the_scalars_that_pyyaml_would_print_otherwise_are_told(text):
    try:
        document = parse(f"{HEAD}  author: {text}\n", "x.yaml")
        assume(document.value["metadata"]["author"] is not None)
    except YamlError:
        assume(False)
    try:
        theirs = yaml.safe_load(f"author: {text}")["author"]
    except (ValueError, yaml.YAMLError):
        theirs = text
    mine = document.value["metadata"]["author"]
    differs = any(not isinstance(one, str) and str(one).lower() != text.lower() for one in (mine, theirs))
    contract = make_contract(Path("x.yaml"), document)
    assert [at.rule for at in check(contract, lint=True) if at.rule == "PV-YAML-003"] == ["PV-YAML-003"] * differs


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18))
def test_the_form_that_is_offered_is_the_same_number_to_both(number):
    written = _unambiguous(number)
    assert repr(yaml.safe_load(written)) == repr(resolve(written)) == repr(number)


@pytest.mark.parametrize(
    "text",
    ["a: 5\n", "bound: 16", "x: [1, 2.5, 0.25]", "on a day, no 1_0 in it", "created: 2026-01-02\n", "p: no one\n"],
)
def test_most_texts_need_no_second_look(text):
    assert SUSPECT.search(text) is None
