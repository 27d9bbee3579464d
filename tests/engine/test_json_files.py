"""Tests of engine.json_files."""

import os

import pytest

from engine import json_files
from engine.errors import EngineError
from engine.json_files import read_json, read_text


@pytest.mark.parametrize(
    ("raw", "where", "message"),
    [
        (b'{\n "a": 1,\n}', ":3", "is not JSON: "),
        (b"", ":1", "is not JSON: Expecting value"),
        (b"[1, 2]", "", "holds [1, 2], not an object"),
        (b"3", "", "holds 3, not an object"),
        (b'{"a": "\xff"}', ": offset 7", "is not UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "is not JSON that can be read: "),
        (b'{"a": ' + b"1" * 5000 + b"}", "", "is not JSON that can be read: "),
    ],
)
def test_what_is_no_object_is_refused_with_its_line(tmp_path, raw, where, message):
    path = tmp_path / "f.json"
    path.write_bytes(raw)
    with pytest.raises(EngineError) as caught:
        read_json(path)
    assert caught.value.where == f"{path}{where}"
    assert caught.value.args[0].startswith(message)


def test_a_text_that_is_no_file_or_too_large_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "f").write_text("12345678")
    monkeypatch.setattr(json_files, "MAX_BYTES", 7)
    for name, message in {
        "pipe": "is not a regular file",
        "": "is not a regular file",
        "f": "is larger than 7 bytes",
    }.items():
        with pytest.raises(EngineError) as caught:
            read_text(tmp_path / name)
        assert caught.value.args[0] == message
    monkeypatch.setattr(json_files, "MAX_BYTES", 8)
    assert read_text(tmp_path / "f") == "12345678"


def test_an_object_is_read(tmp_path):
    (tmp_path / "f").write_text('{"a": [1, 2.5, null, "ä"]}', encoding="utf-8")
    assert read_json(tmp_path / "f") == {"a": [1, 2.5, None, "ä"]}


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {"none": "no such file", "loop": "cannot be read: Too many levels of symbolic links"}.items():
        with pytest.raises(EngineError) as caught:
            read_text(tmp_path / name)
        assert (caught.value.where, caught.value.args[0]) == (str(tmp_path / name), reason)
