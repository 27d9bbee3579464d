"""Tests of engine.identity."""

import hashlib
import subprocess

import pytest

from engine.errors import EngineError
from engine.identity import sha256_file, sha256_list


def test_a_file_is_named_by_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(EngineError, match=r"/none: cannot be read: No such file or directory$"):
        sha256_file(tmp_path / "none")


def test_the_list_is_what_sha256sum_prints(tmp_path):
    names = ["config.json", "Z.safetensors", "a.json", "model-2.safetensors"]
    for name in names:
        (tmp_path / name).write_text(name * 3)
    digests = {name: sha256_file(tmp_path / name) for name in names}
    done = subprocess.run(
        "LC_ALL=C sha256sum $(ls | LC_ALL=C sort) | sha256sum",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert sha256_list(digests) == done.stdout.split()[0].decode()


def test_names_and_contents_decide_and_their_order_does_not():
    one = {"a": "1" * 64, "b": "2" * 64}
    assert sha256_list(one) == sha256_list(dict(reversed(one.items())))
    others = [{"a": "2" * 64, "b": "1" * 64}, {"a": "1" * 64}, {"a": "1" * 64, "c": "2" * 64}, {}]
    assert len({sha256_list(each) for each in [one, *others]}) == 5
