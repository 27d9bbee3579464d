import os
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pv.cli import main
from pv.collection import collect
from pv.contract import make_contract
from pv.errors import PvError
from pv.migrate import migration
from pv.yaml_loader import load

HEAD = "metadata:\n  version: 1.0.0\n  description: d\n  references: [r]\n"
OLD = """\
# kind: in a comment
kind: pattern   # why
metadata:
  version: 1.0.0
  description: 'statement: x'  # description: y
  references: [r]

proof_obligations:
- id: O-1
  "statement" : 'it holds'   # statement
  verification: |
    statement: no key

- {id: O-2, statement: "kind: x", verification: y,}
falsification_tests:
  - description: >-
      expected: no key
    id: T-1
    'expected': 1
    fails_if: "\\u0041"
    test_harness: cargo test
    name: a title
  - id: T-2
    rule: new
    prediction: new
    command: make
    description_of_something: else
unknown: {statement: kept, kind: kept}
"""
NEW = """\
# kind: in a comment
# why
metadata:
  version: 1.0.0
  description: 'statement: x'  # description: y
  references: [r]
  kind: pattern

proof_obligations:
- id: O-1
  "property" : 'it holds'   # statement
  formal: |
    statement: no key

- {id: O-2, property: "kind: x", formal: y,}
falsification_tests:
  - rule: >-
      expected: no key
    id: T-1
    'prediction': 1
    if_fails: "\\u0041"
    test_harness: cargo test
    name: a title
  - id: T-2
    rule: new
    prediction: new
    test: make
    description_of_something: else
unknown: {statement: kept, kind: kept}
"""


def migrated(text, path="x.yaml"):
    found = migration(make_contract(Path(path), load(text, path)))
    return found.after if found else text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_old_spellings_are_renamed_and_every_other_byte_stays(before, end):
    assert migrated(before + OLD.replace("\n", end)) == before + NEW.replace("\n", end)


def test_a_migrated_contract_is_not_due_again():
    assert migrated(NEW) == NEW


PAIRS = [("statement", "property"), ("verification", "formal")]
TESTS = [("description", "rule"), ("expected", "prediction"), ("fails_if", "if_fails")]
TESTS += [("command", "test")]


@given(
    st.lists(
        st.tuples(st.sampled_from(PAIRS), st.sampled_from(["a", "'x: y'", "|\n    statement: x", "[a]"])), max_size=4
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", '"', "'"]),
    st.sampled_from(["", " ", "  # statement: z"]),
)
def test_what_is_renamed_is_the_key_and_nothing_else(entries, end, quote, trail):
    def text(which):
        lines = [HEAD + "proof_obligations: []\n" if not entries else HEAD + "proof_obligations:\n"]
        for spelling, value in entries:
            rest = "" if value.startswith("|") else trail
            lines.append(f"- id: x\n  {quote}{spelling[which]}{quote}: {value}{rest}\n")
        return "".join(lines).replace("\n", end)

    assert migrated(text(0)) == text(1)


@pytest.mark.parametrize(("old", "new"), TESTS)
def test_each_spelling_of_a_test_is_known(old, new):
    assert migrated(f"{HEAD}falsification_tests:\n- {{id: T, {old}: x}}\n").endswith(f"- {{id: T, {new}: x}}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "proof_obligations:\n- id: O\n  statement: a\n  property: b\n",
            r"^x\.yaml:7: O has 'property' and 'statement', two spellings of one key\n  hint: keep one of them",
        ),
        (
            "falsification_tests:\n- {id: T, rule: a, description: a}\n",
            r"^x\.yaml:6: T has 'rule' and 'description', two",
        ),
        (
            "falsification_tests:\n- {expected: a, prediction: a}\n",
            r"^x\.yaml:6: falsification test 0 has 'prediction' ",
        ),
        (
            "falsification_tests:\n- {id: T, test: a, command: b}\n",
            r"^x\.yaml:6: T has 'test' and 'command', two spell",
        ),
    ],
)
def test_two_spellings_at_once_are_refused(text, message):
    with pytest.raises(PvError, match=message):
        migrated(HEAD + text)


def test_what_only_stands_in_for_a_key_is_no_spelling_of_it():
    text = HEAD + "falsification_tests:\n- {id: T, test: a, name: b}\n- {id: U, test_harness: c, name: d}\n"
    assert migrated(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"kind: a\n{HEAD}  kind: b\n",
            r"^x\.yaml:1: kind stands at the top and in metadata\n  hint: keep the right one",
        ),
        (
            f"kind: a\n{HEAD}  kind: a\n",
            r"^x\.yaml:1: kind stands at the top and in metadata\n  hint: keep the one in meta",
        ),
        ("kind: a\n", r"^x\.yaml:1: kind at the top cannot be moved: there is no metadata"),
        ("kind: a\nmetadata: {}\n", r"^x\.yaml:1: kind at the top cannot be moved: there is no metadata"),
        ("{kind: a, metadata: {version: 1}}\n", r"^x\.yaml:1: kind at the top cannot be moved; nothing is written"),
        (f"kind: &k a\n{HEAD}x: *k\n", r"^x\.yaml:1: kind at the top cannot be moved; nothing is written"),
        (f"kind:\n  a\n{HEAD}", r"^x\.yaml:1: kind at the top cannot be moved; nothing is written"),
        (f"kind: [a]\n{HEAD}", r"^x\.yaml:1: kind at the top cannot be moved; nothing is written"),
        (f"kind:\n{HEAD}", r"^x\.yaml:1: kind at the top cannot be moved; nothing is written"),
    ],
)
def test_a_kind_that_cannot_be_moved_cleanly_is_refused(text, message):
    with pytest.raises(PvError, match=message):
        migrated(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (f"{HEAD}kind: a", f"{HEAD}  kind: a\n"),
        (f"\ufeffkind: a\n{HEAD}", f"\ufeff{HEAD}  kind: a\n"),
        (f"{HEAD}kind: 'a'\nx: 1\n", f"{HEAD}  kind: 'a'\nx: 1\n"),
        ("metadata: {version: 1}\nkind: a\nx: 1\n", "metadata: {version: 1, kind: a}\nx: 1\n"),
        ("metadata: {version: 1}\n\nkind: a #c\n", "metadata: {version: 1, kind: a}\n\n#c\n"),
        ("---\nkind: a\nmetadata:\n    version: 1\n", "---\nmetadata:\n    version: 1\n    kind: a\n"),
    ],
)
def test_kind_moves_behind_the_last_key_of_metadata(text, after):
    assert migrated(text) == after
    assert yaml.safe_load(after)["metadata"]["kind"] == "a"


@pytest.mark.parametrize(
    "text",
    [
        "proof_obligations:\n- &a statement: x\n",
        'proof_obligations:\n- "state\\u006dent": x\n',
        "proof_obligations:\n- !!str statement: x\n",
        "x: &o {id: O, statement: x}\nproof_obligations:\n- *o\n",
    ],
)
def test_a_key_that_is_not_written_plainly_is_left_to_its_author(text):
    with pytest.raises(PvError, match=r"nothing is written\n  hint: write the keys plainly"):
        migrated(HEAD + text)


def test_an_entry_behind_an_alias_is_renamed_with_its_anchor():
    text = HEAD + "proof_obligations:\n- &o {id: O, %s: x}\n- *o\n"
    assert migrated(text % "statement") == text % "property"


def test_a_list_of_equations_stays_a_list():
    text = HEAD + "equations:\n- id: e\n  formula: x\n"
    assert migrated(text) == text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *args):
    code = main(["migrate", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_without_write_the_difference_is_shown_and_nothing_is_written(folder, capsys):
    code, lines, err = run(capsys, ".")
    assert (code, err) == (1, "")
    assert (folder / "old.yaml").read_text() == OLD
    assert lines[:5] == [
        "--- old.yaml",
        "+++ old.yaml",
        "@@ -1,28 +1,29 @@",
        " # kind: in a comment",
        "-kind: pattern   # why",
    ]
    assert lines[-1] == "2 contracts: 1 to rewrite (9 keys)"
    assert [line for line in lines if line.startswith("-  ")] == [
        "-  \"statement\" : 'it holds'   # statement",
        "-  verification: |",
        "-  - description: >-",
        "-    'expected': 1",
        '-    fails_if: "\\u0041"',
        "-    command: make",
    ]


def test_with_write_the_contract_is_rewritten_once_and_keeps_its_mode(folder, capsys):
    os.chmod(folder / "old.yaml", 0o640)
    assert run(capsys, "--write", ".") == (0, ["2 contracts: 1 rewritten (9 keys)"], "")
    assert (folder / "old.yaml").read_text() == NEW
    assert stat.S_IMODE((folder / "old.yaml").stat().st_mode) == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["new.yaml", "old.yaml"]
    assert run(capsys, ".") == (0, ["2 contracts: 0 to rewrite (0 keys)"], "")


def test_a_refused_contract_keeps_no_other_from_being_rewritten_and_is_never_green(folder, capsys):
    both = HEAD + "proof_obligations:\n- {id: O, property: a, statement: b}\n"
    (folder / "both.yaml").write_text(both)
    code, lines, err = run(capsys, "--write", ".")
    assert (code, lines) == (2, ["3 contracts: 1 rewritten (9 keys)"])
    assert err == (
        "pv: both.yaml:6: not measured: O has 'property' and 'statement', two spellings of one key "
        "(hint: keep one of them, as 'property')\n"
    )
    assert (folder / "both.yaml").read_text() == both
    assert (folder / "old.yaml").read_text() == NEW
    assert run(capsys, ".")[0] == 2


def test_a_contract_that_changed_meanwhile_is_left_alone(folder):
    from pv.migrate import write

    found = migration(collect([folder / "old.yaml"]).contracts[0])
    (folder / "old.yaml").write_text(OLD + "more: 1\n")
    with pytest.raises(PvError, match=r"was changed since it was read; nothing is written\n  hint: migrate again$"):
        write(found)
    assert (folder / "old.yaml").read_text() == OLD + "more: 1\n"


def test_the_rule_about_a_kind_at_the_top_is_satisfied_by_a_migration(folder, capsys):
    def wrong():
        main(["validate", "old.yaml"])
        return "SCHEMA-018" in capsys.readouterr().out

    assert wrong()
    assert run(capsys, "--write", "old.yaml")[0] == 0
    assert not wrong()


def test_an_empty_folder_is_declined(tmp_path, capsys):
    assert run(capsys, tmp_path)[0] == 2
