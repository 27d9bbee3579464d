import builtins

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.store import digest_in, fetch, open_store, put, size_in

DATA = b"logits" * 1000
DIGEST = sha256(DATA)
PLACE = f"sha256/{DIGEST[:2]}/{DIGEST}"


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    if request.param == "file":
        yield open_store(f"file://{tmp_path}/store")
        return
    yield open_store("memory://pv-store/prefix")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


def written(store):
    return [path.partition("/sha256/")[2] for path in store.files.find(store.root)]


def test_bytes_lie_under_their_digest_and_are_sent_once(store, source, monkeypatch):
    assert size_in(store, DIGEST) is None
    assert put(store, DIGEST, source) is True
    assert written(store) == [PLACE.removeprefix("sha256/")]
    assert (size_in(store, DIGEST), digest_in(store, DIGEST)) == (6000, DIGEST)
    monkeypatch.setattr(type(store.files), "put_file", None)
    assert put(store, DIGEST, source) is False


@pytest.mark.parametrize("damaged", [b"", b"cut", b"x" + DATA[1:]], ids=["emptied", "truncated", "flipped"])
def test_a_damaged_object_is_replaced(store, source, damaged):
    put(store, DIGEST, source)
    store.files.pipe_file(store.path(DIGEST), damaged)
    assert put(store, DIGEST, source) is True
    assert digest_in(store, DIGEST) == DIGEST
    assert put(store, DIGEST, source) is False


def test_bytes_that_do_not_have_the_digest_are_never_sent(store, source):
    source.write_bytes(b"x" + DATA[1:])
    with pytest.raises(
        PvError, match=rf"/source: has sha256 {sha256(b'x' + DATA[1:])[:12]}\.\., not {DIGEST[:12]}\.\.$"
    ):
        put(store, DIGEST, source)
    assert size_in(store, DIGEST) is None


def test_what_is_fetched_is_believed_by_its_digest_alone(store, source, tmp_path):
    target = tmp_path / "target"
    assert fetch(store, DIGEST, target) is None
    put(store, DIGEST, source)
    assert fetch(store, DIGEST, target) == DIGEST
    assert target.read_bytes() == DATA
    store.files.pipe_file(store.path(DIGEST), b"x" * 6000)
    target.write_text("before")
    assert fetch(store, DIGEST, target) == sha256(b"x" * 6000)
    assert target.read_text() == "before"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_upload_that_dies_leaves_nothing_under_the_digest(store, source, monkeypatch):
    def dies(self, source, target, **_):
        self.pipe_file(target, b"half")
        raise OSError("the line\nis cut")

    monkeypatch.setattr(type(store.files), "put_file", dies)
    with pytest.raises(PvError, match=rf"{PLACE}: the store cannot be used: the line is cut$"):
        put(store, DIGEST, source)
    if isinstance(store.files, MemoryFileSystem):  # which stands for stores that show an object only when it is whole
        assert size_in(store, DIGEST) == 4
    else:
        assert written(store) == []


def test_bytes_that_arrive_in_part_are_an_error(store, source, monkeypatch):
    monkeypatch.setattr(
        type(store.files), "put_file", lambda self, source, target, **_: self.pipe_file(target, b"half")
    )
    with pytest.raises(PvError, match=rf"{PLACE}: 6000 bytes were sent, and 4 are there$"):
        put(store, DIGEST, source)


def test_a_store_that_cannot_be_asked_is_an_error_and_not_an_absence(store, monkeypatch):
    def refuses(*_, **__):
        raise PermissionError("no credentials")

    monkeypatch.setattr(type(store.files), "size", refuses)
    monkeypatch.setattr(type(store.files), "open", refuses)
    for ask in (size_in, digest_in):
        with pytest.raises(PvError, match=r": the store cannot be used: no credentials$"):
            ask(store, DIGEST)


def test_a_file_that_cannot_be_written_is_an_error(store, source, tmp_path):
    put(store, DIGEST, source)
    with pytest.raises(PvError, match=r"/no/file: cannot be written: No such file or directory$"):
        fetch(store, DIGEST, tmp_path / "no" / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PvError, match=r"/folder: cannot be written: Is a directory$"):
        fetch(store, DIGEST, tmp_path / "folder")


def test_a_url_that_no_library_knows_is_an_error():
    with pytest.raises(PvError, match=r"^nonsense://x: \[tool\.pv\] store cannot be used: .*\n  hint: .* s3fs for s3"):
        open_store("nonsense://x")


def test_without_the_library_a_store_is_an_error(monkeypatch):
    real = builtins.__import__

    def importing(name, *rest):
        if name == "fsspec":
            raise ModuleNotFoundError("No module named 'fsspec'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(PvError, match=r"not installed: No module named 'fsspec'\n  hint: pip install 'pv-contracts\[s"):
        open_store("memory://x")
    assert fsspec
