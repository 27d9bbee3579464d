import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pv import measure as module
from pv import processes
from pv.cache import Cache, key
from pv.measure import SHARE, measure

CONTRACTS = Path(__file__).parents[1] / "contracts"
FILES = [*sorted((CONTRACTS / "good").glob("*.yaml")), *sorted((CONTRACTS / "bad").glob("*.yaml"))]
OURS = (CONTRACTS / "good" / "bound-test.yaml").read_text(encoding="utf-8")
IN_PROCESSES = """
import dataclasses, os, sys
from pathlib import Path
from pv import measure as module
from pv import processes
from pv.cache import Cache, key
from pv.measure import measure
files = sorted(Path(sys.argv[1]).iterdir()) + [Path("missing.yaml")]
given = {Path("<stdin>"): b"metadata: 1\\n"}
files.insert(3, Path("<stdin>"))
alone = list(measure(files, given, lint=True))
assert len(alone) == len(files) > 2 * module.SHARE
pids = []
original = module.shared
def results(function, tasks, jobs, **more):
    pids.append(jobs)
    return original(function, tasks, jobs, **more)
module.shared = results
assert list(measure(files, given, lint=True, jobs=2)) == alone
cache = Cache(Path(sys.argv[2]), key())
assert list(measure(files, given, lint=True, jobs=2, cache=cache)) == alone
assert list(measure(files, given, lint=True, jobs=2, cache=Cache(Path(sys.argv[2]), key()))) == alone
assert pids[:2] == [2, 2] and pids[2] < 2, pids
print(sum(bool(each.within) for each in alone), sum(each.checked is None for each in alone))
"""


def many(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2 * SHARE + 10):
        shutil.copy(FILES[number % len(FILES)], folder / f"{number:03}.yaml")
    (folder / "998.yaml").write_text(OURS.replace("falsifiers.", "no_such_package."), encoding="utf-8")
    (folder / "999.yaml").touch()
    return folder


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_several_processes_and_a_cache_find_what_one_process_finds_in_the_same_order(tmp_path):
    done = run(IN_PROCESSES, many(tmp_path / "many"), tmp_path / "cache")
    assert (done.returncode, done.stderr) == (0, "")
    within, declined = map(int, done.stdout.split())
    assert within >= 1
    assert declined == 2  # missing.yaml and the empty one


def test_a_killed_process_ends_in_one_error(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom pv import measure as module\nfrom pv.errors import PvError\n"
        "module.check_bytes = lambda *args, **kwargs: os._exit(9)\n"
        "try:\n    list(module.measure(sorted(Path(sys.argv[1]).iterdir()), {}, jobs=2))\n"
        "except PvError as error:\n    print(error)\n"
    )
    done = run(script, many(tmp_path / "many"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "a process was killed while it measured\n  hint: try --jobs 1: it needs less memory\n"


def test_what_a_project_gets_wrong_is_one_error_from_any_process(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom pv.errors import PvError\nfrom pv.measure import measure\n"
        "for jobs in (1, 2):\n    try:\n        list(measure(sorted(Path(sys.argv[1]).iterdir()), {}, jobs=jobs))\n"
        "    except PvError as error:\n        print(error)\n"
    )
    folder = many(tmp_path / "many")
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\ncontracts = 1\n", encoding="utf-8")
    done = run(script, folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout[: len(done.stdout) // 2], done.stdout[len(done.stdout) // 2 :]
    assert first == second
    assert str(tmp_path / "pyproject.toml") in first


def test_a_process_with_several_threads_is_not_copied(monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda path: ["1", "2"])
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", lambda *args: pytest.fail("was copied"))
    assert len(list(measure(FILES[:5] * SHARE, {}, jobs=2))) == 5 * SHARE


def test_a_pipe_is_read_once_with_a_cache_too(tmp_path):
    pipe = tmp_path / "x.yaml"
    for _ in range(2):
        reader, writer = os.pipe()
        os.write(writer, OURS.encode())
        os.close(writer)
        pipe.unlink(missing_ok=True)
        pipe.symlink_to(f"/dev/fd/{reader}")
        (found,) = measure([pipe], {}, cache=Cache(tmp_path / "cache", key()))
        os.close(reader)
        assert found.checked is not None, found.declined
        assert found.checked.facts is not None


def test_few_files_are_measured_by_this_process(monkeypatch):
    monkeypatch.setattr(processes, "_may_fork", lambda: pytest.fail("asked for other processes"))
    assert len(list(measure(FILES[:10], {}, jobs=8))) == 10


def test_a_contract_that_is_known_is_asked_again_what_its_project_says(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n", encoding="utf-8")
    file = tmp_path / "contracts" / "bound-test.yaml"
    file.parent.mkdir()
    file.write_text(OURS, encoding="utf-8")
    first, second = (list(measure([file], {}, lint=True, cache=Cache(tmp_path / "cache", key()))) for _ in range(2))
    assert first == second
    assert first[0].within


def test_a_contract_with_a_key_twice_is_asked_about_its_project_too(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\n", encoding="utf-8")
    file = tmp_path / "twice.yaml"
    file.write_text(f"{OURS}\nmetadata: 1\n", encoding="utf-8")
    (found,) = measure([file], {}, lint=True)
    assert "SCHEMA-020" in {each.rule for each in found.checked.findings}
    assert found.within


def test_what_is_known_of_a_contract_that_has_changed_since_is_not_believed(tmp_path, monkeypatch):
    file = tmp_path / "x.yaml"
    broken = OURS.replace("prediction:", "predicts:", 1)
    file.write_text(OURS, encoding="utf-8")
    list(measure([file], {}, cache=Cache(tmp_path / "cache", key())))
    reads = iter([OURS.encode(), broken.encode()])  # the one to look it up, the other to ask about its project
    monkeypatch.setattr(module, "read_bytes", lambda path: next(reads))
    (found,) = measure([file], {}, cache=Cache(tmp_path / "cache", key()))
    assert "SCHEMA-008" in {each.rule for each in found.checked.findings}


def test_a_file_that_changes_while_it_is_measured_is_remembered_as_what_was_measured(tmp_path, monkeypatch):
    file = tmp_path / "x.yaml"
    green, red = FILES[1].read_bytes(), (CONTRACTS / "bad" / "schema-004-empty-formula.yaml").read_bytes()
    file.write_bytes(green)
    reads = iter([green, red])
    monkeypatch.setattr(module, "read_bytes", lambda path: next(reads))
    cache = Cache(tmp_path / "cache", key())
    (found,) = measure([file], {}, cache=cache)
    assert "SCHEMA-004" in {each.rule for each in found.checked.findings}
    known = Cache(tmp_path / "cache", key())
    assert known.get(module.digest_of(file, red, False), file) == found.checked
    assert known.get(module.digest_of(file, green, False), file) is None
