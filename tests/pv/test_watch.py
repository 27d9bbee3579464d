"""What a process is seen to do while it is watched."""

import linecache
import os
import pkgutil
import sqlite3
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest

from pv.watch import LOADED, watching

TRUE = "/bin/true"


def test_every_way_to_start_a_command_is_seen_with_its_arguments() -> None:
    with watching() as watch:
        subprocess.run([TRUE, "a", b"b", Path("c")], check=True)
        subprocess.run("true d", shell=True, check=True)
        os.waitpid(os.posix_spawn(TRUE, [TRUE, "e"], {}), 0)
        os.system("true f")
        thread = threading.Thread(target=subprocess.run, args=([TRUE, "g"],))
        thread.start()
        thread.join()
    # newer Pythons tell a subprocess.run that becomes a posix_spawn twice
    assert list(dict.fromkeys(watch.commands)) == [("a", "b", "c"), ("-c", "true d"), ("e",), ("true f",), ("g",)]


def test_the_files_of_executed_code_are_seen_and_text_without_a_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "watched_module.py").write_text("import json\n", encoding="utf-8")
    (tmp_path / "watched_script.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with watching() as watch:
        __import__("watched_" + "module")
        exec(compile("x = 1", str(tmp_path / "watched_script.py"), "exec"))
        exec("x = 1")
        eval("1 + 1")
    del sys.modules["watched_module"]
    assert watch.files == {str(tmp_path / "watched_module.py"), str(tmp_path / "watched_script.py")}


def test_nothing_is_seen_outside_the_block_and_an_inner_watch_hides_nothing_from_the_outer() -> None:
    with watching() as outer:
        with watching() as inner:
            subprocess.run([TRUE, "1"], check=True)
        subprocess.run([TRUE, "2"], check=True)
    subprocess.run([TRUE, "3"], check=True)
    assert (set(outer.commands), set(inner.commands)) == ({("1",), ("2",)}, {("1",)})


def test_what_is_opened_to_be_read_is_seen_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c", "d", "e", "f"):
        Path(name).write_text("")
    with watching() as watch:
        Path("a").read_text()
        os.close(os.open(b"b", os.O_RDONLY))
        with Path("c").open("r+") as stream, open(os.dup(stream.fileno())):  # a descriptor has no name of its own
            pass
        Path("d").write_text("")
        with Path("e").open("a"), Path("f").open("w+"):
            pass
        sqlite3.connect("g").close()
        with pytest.raises(FileNotFoundError):
            Path("gone").read_bytes()
    assert {one[:2] for one in watch.opened} == {
        (str(tmp_path / name), __file__) for name in ("a", "b", "c", "g", "gone")
    }


def test_who_reads_is_told_but_for_the_standard_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.npy", "b.py", "c.py"):
        np.save(tmp_path / name, np.zeros(1)) if name == "a.npy" else (tmp_path / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with watching() as watch:
        np.load(tmp_path / "a.npy")
        __import__("b")
        assert traceback.FrameSummary(str(tmp_path / "b.py"), 1, "f").line  # of a loaded module, as tracebacks do
        linecache.getline(str(tmp_path / "c.py"), 1)
        pkgutil.get_data("b", "c.py")
    del sys.modules["b"]
    readers: dict[str, set[str]] = {}
    for path, reader, _ in watch.opened:
        readers.setdefault(os.path.basename(path), set()).add(reader)
    assert (readers["b.py"], readers["c.py"]) == ({LOADED}, {__file__})
    assert [Path(reader).parts[-4:-2] for reader in readers["a.npy"]] == [("site-packages", "numpy")]


def test_reading_in_a_folder_that_is_gone_fails_as_it_would_unwatched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with watching() as watch, pytest.raises(FileNotFoundError, match="'name'"):
        Path("name").read_bytes()
    assert watch.opened == set()
