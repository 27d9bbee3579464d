"""Tests of engine.pulled: names, and what they lead to."""

import json
import math
import os

import pytest

from engine import pulled
from engine.errors import EngineError
from engine.pulled import Held, HubName, Record, locate, parse, read_record, write_record

COMMIT = "0123456789" * 4
NAME = HubName("me", "m")
FILE = HubName("me", "m", file="a/b.gguf")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Qwen/Qwen2.5-0.5B", HubName("Qwen", "Qwen2.5-0.5B")),
        ("o/n:f-Q4_K_M.gguf", HubName("o", "n", "main", "f-Q4_K_M.gguf")),
        ("o/n:a/b.gguf", HubName("o", "n", "main", "a/b.gguf")),
        ("o/n@v1.0", HubName("o", "n", "v1.0")),
        ("o/n@refs/pr/3:f.gguf", HubName("o", "n", "refs/pr/3", "f.gguf")),
        (f"o/n@{COMMIT}", HubName("o", "n", COMMIT)),
    ],
)
def test_a_name_is_taken_apart_and_written_alike(text, want):
    assert parse(text) == want
    assert str(want) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "/o/n", "./n", "../n", "o/../n", "o/n/x", "o//n", "o/n:", "o/n@", "o/n@:f", "o/n:../f.gguf", "-o/n"),
        *("o/n:/f.gguf", "o/n:a//b", "o/n:a/../b", "o/n:./b", "o/n:a\\b", "o/n x", "o/n\n", "o/n:f\n", "https://h/o/n"),
        "o/" + "n" * 97,
    ],
)
def test_another_form_is_no_name(text):
    assert parse(text) is None


def test_a_revision_is_fixed_if_it_is_a_commit():
    assert HubName("o", "n", COMMIT).is_fixed
    assert not any(HubName("o", "n", revision).is_fixed for revision in ("main", COMMIT[:-1], COMMIT.replace("0", "g")))


def held(folder, name, content=b"12345", file="config.json"):
    place = pulled.snapshot(folder, name, COMMIT) / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    write_record(folder, name, Record(COMMIT, {file: Held(len(content), "ab" * 32)}))
    return place


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = Record(COMMIT, {"config.json": Held(5, "ab" * 32), "a/b.gguf": Held(2**40, "cd" * 32)})
    assert read_record(tmp_path, NAME) is None
    write_record(tmp_path, NAME, record)
    assert read_record(tmp_path, NAME) == record
    assert read_record(tmp_path, FILE) is read_record(tmp_path, HubName("me", "m", "v1")) is None
    assert [path.name for path in (tmp_path / "pulled/me/m").iterdir()] == ["main.json"]


def test_revisions_and_files_have_records_of_their_own(tmp_path):
    names = [NAME, FILE, HubName("me", "m", "refs/pr/1"), HubName("me", "m", "v1", "x.gguf"), HubName("me", "m2")]
    for size, name in enumerate(names):
        write_record(tmp_path, name, Record(COMMIT, {name.file or "config.json": Held(size, "ab" * 32)}))
    for size, name in enumerate(names):
        assert read_record(tmp_path, name).files[name.file or "config.json"].size == size


def test_a_name_leads_to_its_folder_and_a_file_to_itself(tmp_path):
    place = held(tmp_path, NAME)
    assert locate(tmp_path, NAME) == place.parent
    place = held(tmp_path, FILE, file="a/b.gguf")
    assert locate(tmp_path, FILE) == place


def test_without_a_record_a_file_that_is_there_is_not_found(tmp_path):
    place = held(tmp_path, NAME)
    (tmp_path / "pulled/me/m/main.json").unlink()
    assert place.exists()
    with pytest.raises(EngineError) as caught:
        locate(tmp_path, NAME)
    assert str(caught.value) == (
        "me/m: no such file, and no model of that name was pulled\n  hint: check the path, or obtain it: apr pull me/m"
    )


def test_what_else_was_pulled_of_a_repository_is_told(tmp_path):
    held(tmp_path, FILE, file="a/b.gguf")
    held(tmp_path, HubName("me", "m", "v1"))
    (tmp_path / "pulled/me/m/damaged.json").write_text("{")
    with pytest.raises(
        EngineError, match=r"was pulled; pulled are: me/m:a/b.gguf, me/m@v1\n  hint: check .* apr pull me/m$"
    ):
        locate(tmp_path, NAME)


def test_a_file_that_changed_its_size_or_is_gone_is_named(tmp_path):
    place = held(tmp_path, NAME)
    place.write_bytes(b"123")
    with pytest.raises(
        EngineError, match=r"config.json: a file of me/m has 3 bytes, but was pulled with 5\n  hint: apr pull"
    ):
        locate(tmp_path, NAME)
    place.unlink()
    with pytest.raises(EngineError, match=r"config.json: a file of me/m is not there\n  hint: apr pull me/m$"):
        locate(tmp_path, NAME)


GOOD = {"schema": "apr-pulled/1", "commit": COMMIT, "files": {"config.json": {"size": 5, "sha256": "ab" * 32}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "apr-pulled/2"},
        {"commit": "../../../etc"},
        {"commit": 7},
        {"files": {}},
        {"files": []},
        {"files": {"../../x": {"size": 5, "sha256": "ab"}}},
        {"files": {"/etc/passwd": {"size": 5, "sha256": "ab"}}},
        {"files": {"x": {"size": "many", "sha256": "ab"}}},
        {"files": {"x": {"size": math.inf, "sha256": "ab"}}},
        {"files": {"x": {"sha256": "ab"}}},
        {"files": {"x": 3}},
    ],
    ids=str,
)
def test_a_record_that_is_none_is_refused(tmp_path, changes):
    path = tmp_path / "pulled/me/m/main.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(GOOD))
    assert read_record(tmp_path, NAME).commit == COMMIT
    path.write_text(json.dumps(GOOD | changes))
    with pytest.raises(EngineError, match=r"main.json: is no record of a pull\n  hint: apr pull me/m$"):
        read_record(tmp_path, NAME)


def test_a_record_of_a_file_names_that_file(tmp_path):
    write_record(tmp_path, FILE, Record(COMMIT, {"config.json": Held(5, "ab" * 32)}))
    with pytest.raises(EngineError, match="is no record of a pull"):
        read_record(tmp_path, FILE)


def test_a_name_that_is_too_long_for_a_file_was_not_pulled(tmp_path):
    held(tmp_path, NAME)
    for name in (HubName("me", "m", "v" * 300), HubName("me", "m", file="f" * 300)):
        assert read_record(tmp_path, name) is None


def test_a_record_that_cannot_be_put_in_place_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    held(tmp_path, NAME)
    before = (tmp_path / "pulled/me/m/main.json").read_bytes()

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_record(tmp_path, NAME, Record(COMMIT, {"x": Held(1, "ab" * 32)}))
    assert {path.name: path.read_bytes() for path in (tmp_path / "pulled/me/m").iterdir()} == {"main.json": before}
