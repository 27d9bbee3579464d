"""What a process is seen to do while it is watched."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pv.watch import watching

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
