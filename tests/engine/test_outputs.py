"""Tests of engine.outputs: what may be replaced, what must stay what it is."""

import os
import socket
import stat
import sys

import pytest

from engine.errors import EngineError
from engine.outputs import file_at, folder_at, place_of, replace_file


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def made(kind, here):
    """A path of each kind that is no regular file, and what an error calls it."""
    path = here / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(kind)  # relative: the whole path may be longer than a socket's name
    else:
        os.mkfifo(here.parent / "elsewhere")
        path.symlink_to({"to-folder": ".", "to-pipe": "../elsewhere", "to-nothing": "nothing"}[kind])
    return path


OTHERS = {
    "folder": "is a folder, not a regular file",
    "pipe": "is a named pipe, not a regular file",
    "socket": "is a socket, not a regular file",
    "to-folder": "leads to a folder, not a regular file",
    "to-pipe": "leads to a named pipe, not a regular file",
    "to-nothing": "is a link that leads nowhere: to nothing",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_regular_file_is_refused_and_stays(here, kind):
    path = made(kind, here)
    before = os.lstat(path)
    with pytest.raises(EngineError, match=rf"^{path}: {OTHERS[kind]}\n  hint: "):
        replace_file(path, (b"new",))
    with pytest.raises(EngineError, match=rf"^--report {kind}: {OTHERS[kind]}\n  hint: "):
        file_at("--report", kind)
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(here) == [kind]


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_refused(here, monkeypatch, kind):
    """A plain file is told to be one: a test that fails must not replace a device of this machine."""
    path = here / "full"
    path.write_bytes(b"old")
    real = os.stat

    def told(name, *args, **kwargs):
        found = real(name, *args, **kwargs)
        return os.stat_result((kind | 0o666, *found[1:])) if str(name).endswith("full") else found

    monkeypatch.setattr(os, "stat", told)
    for write in (lambda: replace_file(path, (b"new",)), lambda: file_at("--report", "full")):
        with pytest.raises(EngineError, match=r"full: is a device, not a regular file\n"):
            write()
    monkeypatch.undo()
    assert path.read_bytes() == b"old"


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(here):
    (here / "file").write_bytes(b"old")

    def parts():
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(EngineError, match=r"file: cannot be written: No space left on device\n  hint: choose another"):
        replace_file(here / "file", parts())
    assert ((here / "file").read_bytes(), os.listdir(here)) == (b"old", ["file"])


def test_a_link_is_followed_and_stays(here):
    (here / "deep").mkdir()
    file = here / "deep" / "file"
    file.write_bytes(b"old")
    (here / "near").symlink_to("deep/file")
    (here / "far").symlink_to("near")
    replace_file(here / "far", (b"n", b"ew"))
    assert file.read_bytes() == b"new"
    assert (here / "far").is_symlink()
    assert (here / "near").is_symlink()
    assert sorted(os.listdir(here)) == ["deep", "far", "near"]
    assert os.listdir(here / "deep") == ["file"]
    assert file_at("--report", "far").name == "far"


def test_a_file_is_replaced_and_what_is_not_there_is_made(here):
    replace_file(here / "file", (b"one",))
    assert place_of(here / "file") == here / "file"
    replace_file(here / "file", (b"two",))
    assert ((here / "file").read_bytes(), os.listdir(here)) == (b"two", ["file"])


def test_a_loop_of_links_and_a_name_that_is_too_long_are_errors_of_the_system(here):
    (here / "loop").symlink_to("loop")
    with pytest.raises(EngineError, match=r"^--report loop: cannot be written: "):
        file_at("--report", "loop")
    with pytest.raises(EngineError, match=r"^--report x{300}: cannot be written: File name too long\n"):
        file_at("--report", "x" * 300)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "--report: the name of the file is empty\n  hint: name one"),
        ("no/where.html", "--report no/where.html: there is no folder no\n  hint: make it first"),
        ("file/below", "--report file/below: there is no folder file\n  hint: make it first"),
    ],
)
def test_a_file_that_has_no_folder_is_refused(here, name, error):
    (here / "file").touch()
    with pytest.raises(EngineError) as caught:
        file_at("--report", name)
    assert str(caught.value) == error


def test_a_folder_that_cannot_be_written_is_refused(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(EngineError, match=r"^--report x: the folder \. cannot be written\n"):
        file_at("--report", "x")
    with pytest.raises(EngineError, match=r"^--output x: the folder \. cannot be written\n"):
        folder_at("--output", "x")


def test_the_file_that_standard_output_goes_to_is_refused(here, capfd):
    with open("out", "wb") as file:
        saved = os.dup(1)
        sys.stdout.flush()
        os.dup2(file.fileno(), 1)
        try:
            with pytest.raises(EngineError, match=r"^--report out: is where standard output goes\n"):
                file_at("--report", "out")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert file_at("--report", "out").name == "out"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "--output: the name of the folder is empty"),
        ("file", "--output file: is no folder"),
        ("file/below", "--output file/below: cannot be made: file is no folder"),
        ("pipe", "--output pipe: is no folder"),
        ("pipe/a/b", "--output pipe/a/b: cannot be made: pipe is no folder"),
        ("nowhere", "--output nowhere: is no folder"),
    ],
)
def test_what_can_be_no_folder_is_refused(here, name, error):
    (here / "file").touch()
    os.mkfifo("pipe")
    (here / "nowhere").symlink_to("nothing")
    with pytest.raises(EngineError) as caught:
        folder_at("--output", name)
    assert str(caught.value).startswith(f"{error}\n  hint: ")


@pytest.mark.parametrize("name", ["new", "new/er", "there", "link", "there/new"])
def test_a_folder_that_is_there_or_can_be_made_is_taken_and_not_made_yet(here, name):
    (here / "there").mkdir()
    (here / "link").symlink_to("there")
    assert str(folder_at("--output", name)) == name
    assert sorted(os.listdir(here)) == ["link", "there"]
