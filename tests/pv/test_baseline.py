import json
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.baseline import Key, key_of, lines_of, read, rendered, write
from pv.errors import PvError
from pv.findings import Finding

A, B = Key("SCHEMA-006", "c/a.yaml", "m"), Key("SCHEMA-009", "c/a.yaml", "n")


def test_what_is_written_is_read(tmp_path):
    known = Counter({B: 2, A: 1})
    write(tmp_path / "known.json", known)
    assert read(tmp_path / "known.json") == known
    assert (tmp_path / "known.json").read_text() == (
        '{"schema": "pv-baseline/1", "findings": [\n'
        '{"rule": "SCHEMA-006", "path": "c/a.yaml", "message": "m", "count": 1},\n'
        '{"rule": "SCHEMA-009", "path": "c/a.yaml", "message": "n", "count": 2}\n'
        "]}\n"
    )
    assert lines_of(tmp_path / "known.json", known) == {A: 2, B: 3}
    assert os.listdir(tmp_path) == ["known.json"]


@given(st.dictionaries(st.builds(Key, st.text(), st.text(), st.text()), st.integers(1, 9)))
def test_any_finding_survives_the_file(tmp_path_factory, entries):
    file = tmp_path_factory.getbasetemp() / "known.json"
    write(file, Counter(entries))
    assert read(file) == Counter(entries)
    assert len(lines_of(file, Counter(entries))) == len(entries)


def test_in_a_file_that_somebody_laid_out_the_lines_are_not_known(tmp_path):
    (tmp_path / "known.json").write_text(json.dumps(json.loads(rendered(Counter({A: 1})))))
    assert read(tmp_path / "known.json") == {A: 1}
    assert lines_of(tmp_path / "known.json", Counter({A: 1})) == {}


def test_a_finding_stays_the_same_when_lines_move(tmp_path):
    def found(line, message):
        return Finding("SCHEMA-020", "error", str(tmp_path / "x.yaml"), line, 3, message, "hint")

    key = key_of(found(9, "the key 'a' occurs twice, first in line 7"), tmp_path)
    assert key == key_of(found(19, "the key 'a' occurs twice, first in line 17"), tmp_path)
    assert key == ("SCHEMA-020", "x.yaml", "the key 'a' occurs twice, first in line")
    assert key_of(found(1, "the id T is taken in c/x.yaml:17"), tmp_path).message == "the id T is taken in x.yaml"
    assert key_of(found(1, "/home/c/x.yml has the same name"), tmp_path).message == "x.yml has the same name"
    assert key != key_of(found(9, "the key 'b' occurs twice, first in line 7"), tmp_path)


ENTRY = {"rule": "R", "path": "p", "message": "m", "count": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is no JSON: "),
        ("\x00", "is no JSON: "),
        ("[" * 99999, "is no JSON: "),
        ("[]", "is no baseline of schema pv-baseline/1"),
        ('{"schema": "pv-baseline/2", "findings": []}', "is no baseline of schema pv-baseline/1"),
        ('{"schema": "pv-baseline/1", "findings": {}}', "is no baseline of schema pv-baseline/1"),
        ([1], r"findings\[0\]: must have rule, path, message and count$"),
        ([ENTRY, {**ENTRY, "line": 1}], r"findings\[1\]: must have rule, path, message and count$"),
        ([{**ENTRY, "path": 3}], r"findings\[0\]: rule, path, message must be text$"),
        ([{**ENTRY, "count": 0}], r"findings\[0\]: count must be a whole number of at least 1, not 0$"),
        ([{**ENTRY, "count": True}], r"findings\[0\]: count must be a whole number of at least 1, not True$"),
    ],
)
def test_a_damaged_baseline_is_an_error_and_hides_nothing(tmp_path, text, message):
    file = tmp_path / "known.json"
    file.write_text(text if isinstance(text, str) else json.dumps({"schema": "pv-baseline/1", "findings": text}))
    with pytest.raises(PvError, match=r"known\.json: " + message):
        read(file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_baseline_that_is_not_utf_8_is_an_error(tmp_path, encoding):
    file = tmp_path / "known.json"
    file.write_bytes(rendered(Counter({A: 1})).replace("c/a", "c/ä").encode(encoding))
    with pytest.raises(PvError, match=r"known\.json: is (not UTF-8\n  hint: save it as UTF-8|no JSON: .*)$"):
        read(file)


def test_a_baseline_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "known.json"
    file.write_text(rendered(Counter({A: 1})), encoding="utf-8-sig")
    assert read(file) == {A: 1}
    assert lines_of(file, Counter({A: 1})) == {}


def test_a_missing_baseline_is_an_error_that_says_how_to_write_one(tmp_path):
    with pytest.raises(
        PvError, match=r"known\.json: there is no such baseline\n  hint: write it with --write-baseline"
    ):
        read(tmp_path / "known.json")
    with pytest.raises(PvError, match=r": cannot be read: Is a directory$"):
        read(tmp_path)


def test_a_baseline_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "known.json").mkdir()
    with pytest.raises(PvError, match=r"known\.json: cannot be written: Is a directory$"):
        write(tmp_path / "known.json", Counter())
    assert os.listdir(tmp_path) == ["known.json"]
    with pytest.raises(PvError, match=r"cannot be written: No such file or directory$"):
        write(tmp_path / "gone" / "known.json", Counter())
