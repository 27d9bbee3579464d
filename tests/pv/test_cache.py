import ast
import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pv import cache as module
from pv import rules
from pv.cache import MAX_KEYS, MAX_SHARD, Cache, decoded, encoded, key, open_cache, source_digest
from pv.facts import Facts, Mention
from pv.findings import RULES, SEVERITIES, Finding
from pv.rules import Checked, check_bytes
from pv.validate import validate
from pv.yaml_loader import Position

CONTRACTS = Path(__file__).parents[1] / "contracts"
FILES = [*sorted((CONTRACTS / "good").glob("*.yaml")), *sorted((CONTRACTS / "bad").glob("*.yaml"))]
PLACE = Path("some/where.yaml")


def digest(number: int) -> str:
    return f"{number:064x}"


def known() -> Checked:
    file = CONTRACTS / "bad" / "schema-004-empty-formula.yaml"
    return check_bytes(file, file.read_bytes())[0]


def lines_in(folder: Path) -> list[bytes]:
    return [line for file in sorted(folder.rglob("*")) if file.is_file() for line in file.read_bytes().splitlines()]


@pytest.mark.parametrize("lint", [False, True])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_entry_gives_back_what_was_found_at_another_path(file, lint):
    checked = check_bytes(file, file.read_bytes(), lint=lint)[0]
    assert decoded(encoded(checked), file) == checked
    moved = decoded(encoded(checked), PLACE)
    assert {each.path for each in moved.findings} <= {str(PLACE)}
    assert moved.facts is None or moved.facts.path == PLACE


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
PLACES = st.builds(Position, st.integers(1), st.integers(1))
MENTIONS = st.lists(st.builds(Mention, TEXT, PLACES), max_size=3).map(tuple)


@given(
    st.builds(
        Checked,
        st.just(PLACE),
        st.none()
        | st.builds(
            Facts, path=st.just(PLACE), stem=TEXT, kind=TEXT, version=TEXT, tests=MENTIONS, depends_on=MENTIONS,
            bound=st.integers(0), ours=st.booleans(), dates=MENTIONS, events=MENTIONS, equations=MENTIONS,
        ),
        st.lists(
            st.builds(
                Finding, st.sampled_from(sorted(RULES)), st.sampled_from(SEVERITIES), st.just(str(PLACE)),
                st.integers(1), st.integers(1), TEXT, TEXT, st.integers(0),
            ),
            max_size=3,
        ).map(tuple),
    )
)  # fmt: skip
def test_texts_of_any_characters_survive(checked):
    assert decoded(encoded(checked), PLACE) == checked


def test_a_value_of_another_type_than_entries_can_have_is_refused_when_it_is_declared():
    @dataclasses.dataclass
    class Odd:
        values: dict[str, int]

    with pytest.raises(TypeError, match="the cache cannot keep a dict"):
        module._reader(Odd)


def test_what_was_put_is_got_by_another_cache_of_the_same_key(tmp_path):
    first = Cache(tmp_path, key())
    first.put(digest(1), known())
    first.save()
    assert Cache(tmp_path, key()).get(digest(1), known().path) == known()
    assert Cache(tmp_path, key()).get(digest(2), known().path) is None
    assert Cache(tmp_path, "0" * 40).get(digest(1), known().path) is None


def poisoned(line: bytes) -> dict[str, bytes]:
    name, checksum, entry = line.split(b" ", 2)
    _, facts = json.loads(entry)
    green = json.dumps([[], facts]).encode()
    return {
        "no findings": b" ".join((name, checksum, green)),
        "another digest": b" ".join((digest(2).encode(), checksum, entry)),
        "no checksum": b" ".join((name, entry)),
        "cut off": line[:-9],
        "a flipped bit": line[:-9] + bytes([line[-9] ^ 1]) + line[-8:],
        "empty": b"",
        "no text": b"\xff\xfe\x00 \xff \xff",
    }


CLOCK_AND_DISK = {
    "today",
    "now",
    "time",
    "os",
    "random",
    "open",
    "read_bytes",
    "read_text",
    "is_file",
    "exists",
    "glob",
}
CASES = ["no findings", "another digest", "no checksum", "cut off", "a flipped bit", "empty", "no text"]


@pytest.mark.parametrize("case", CASES)
def test_an_entry_that_somebody_damaged_is_not_believed_and_is_written_again(tmp_path, case):
    cache = Cache(tmp_path, key())
    cache.put(digest(1), known())
    cache.save()
    (shard,) = (tmp_path / key()).iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(poisoned(whole.removesuffix(b"\n"))[case] + b"\n")
    damaged = Cache(tmp_path, key())
    assert [damaged.get(digest(number), PLACE) for number in (1, 2)] == [None, None]
    damaged.put(digest(1), known())
    damaged.save()
    assert Cache(tmp_path, key()).get(digest(1), known().path) == known()


@pytest.mark.parametrize(
    "entry",
    [
        "null", "[]", "[[],null,null]", "{}", "[{},null]", "[[],{}]", "[[],[]]", "[[[]],null]", "1", "[" * 100_000,
        '[[["PV-NO-RULE","error",1,1,"m","",0]],null]', '[[["SCHEMA-004","fatal",1,1,"m","",0]],null]',
        '[[["SCHEMA-004","error","1",1,"m","",0]],null]', '[[["SCHEMA-004","error",true,1,"m","",0]],null]',
    ],
)  # fmt: skip
def test_an_entry_of_another_shape_is_not_believed_though_its_checksum_is_right(tmp_path, entry):
    cache = Cache(tmp_path, key())
    line = cache._checksum(digest(1), entry.encode()) + b" " + entry.encode()
    (tmp_path / key()).mkdir()
    (tmp_path / key() / module._shard_of(digest(1))).write_bytes(digest(1).encode() + b" " + line + b"\n")
    assert cache.get(digest(1), PLACE) is None


def test_an_entry_from_the_folder_of_other_sources_is_not_believed(tmp_path):
    old = Cache(tmp_path, "0" * 40)
    old.folder.mkdir()
    old._write(
        module._shard_of(digest(1)), {digest(1): old._checksum(digest(1), encoded(known())) + b" " + encoded(known())}
    )
    assert old.get(digest(1), PLACE)
    shutil.copytree(old.folder, tmp_path / key())
    assert Cache(tmp_path, key()).get(digest(1), PLACE) is None


def test_a_file_of_another_user_is_not_read(tmp_path, monkeypatch):
    cache = Cache(tmp_path, key())
    cache.put(digest(1), known())
    cache.save()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert Cache(tmp_path, key()).get(digest(1), PLACE) is None


def test_a_changed_added_or_renamed_source_is_another_key(tmp_path):
    package = tmp_path / "pv"
    shutil.copytree(Path(module.__file__).parent, package)
    seen = {source_digest(package)}
    for name, change in (
        ("rules/schema.py", lambda file: file.write_text(file.read_text().replace("SCHEMA-001", "SCHEMA-100", 1))),
        ("vocabulary.py", lambda file: file.write_text(file.read_text() + "\n")),
        ("rules/new.py", lambda file: file.touch()),
        ("words.py", lambda file: file.rename(file.with_name("phrases.py"))),
        ("schemas/statement.schema.json", lambda file: file.write_text("{}")),
    ):
        change(package / name)
        seen.add(source_digest(package))
    assert len(seen) == 6
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").touch()
    assert source_digest(package) in seen


def test_sources_that_cannot_be_found_are_no_key(tmp_path, monkeypatch):
    (tmp_path / "only.pyc").touch()
    with pytest.raises(FileNotFoundError):
        source_digest(tmp_path)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "cache.py"))
    assert open_cache() is None


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [(sys, "version", "3.99.0"), (yaml, "__version__", "7.0"), (yaml, "__with_libyaml__", False)],
    ids=["python", "pyyaml", "libyaml"],
)
def test_another_python_or_parser_is_another_key(monkeypatch, owner, name, value):
    before = key()
    monkeypatch.setattr(owner, name, value)
    assert key() != before


def test_nothing_is_kept_of_a_run_during_which_a_source_was_edited(tmp_path, monkeypatch):
    cache = Cache(tmp_path, key())
    cache.put(digest(1), known())
    monkeypatch.setattr(module, "key", lambda: "f" * 40)
    cache.save()
    assert list(tmp_path.iterdir()) == []


def test_a_rule_about_one_contract_reads_neither_the_clock_nor_the_disk():
    """Else what it found would be remembered for longer than it is true."""
    modules = {rule.check.__module__ for rule in RULES.values() if rule.check}
    assert len(modules) > 4
    for name in modules:
        tree = ast.parse(Path(importlib.import_module(name).__file__).read_text(encoding="utf-8"))
        for part in tree.body:
            marks = [ast.unparse(mark) for mark in getattr(part, "decorator_list", ())]
            asked_every_time = any(mark.startswith(("run_rule", "project_rule")) for mark in marks)
            if not asked_every_time and getattr(part, "name", "") != "today":  # that is looked for itself
                assert called_in(part) & CLOCK_AND_DISK == set(), f"{name}: {ast.unparse(part)[:80]}"


def called_in(tree: ast.AST) -> set[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def test_two_processes_that_write_at_once_leave_only_whole_entries(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom pv.cache import Cache, key\nfrom pv.rules import check_bytes\n"
        "file = Path(sys.argv[2])\nchecked = check_bytes(file, file.read_bytes())[0]\n"
        "for number in range(int(sys.argv[3]), 200, 2):\n"
        "    cache = Cache(Path(sys.argv[1]), key())\n    cache.put(f'{number % 8:064x}', checked)\n    cache.save()\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path), str(known().path)]
    both = [subprocess.Popen([*arguments, start]) for start in "01"]
    assert [process.wait() for process in both] == [0, 0]
    cache = Cache(tmp_path, key())
    found = [cache.get(digest(number), known().path) for number in range(8)]
    assert [each for each in found if each is not None and each != known()] == []
    assert any(found)
    assert list(tmp_path.rglob("*.new")) == []
    for line in lines_in(tmp_path):
        name, checksum, entry = line.split(b" ", 2)
        assert checksum == cache._checksum(name.decode(), entry)


def test_the_oldest_entries_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_SHARD", 3 * len(encoded(known())) + 400)
    for number in range(5):
        cache = Cache(tmp_path, key())
        cache.put(digest(number), known())  # all of one shard: the first digits are equal
        cache.save()
    cache = Cache(tmp_path, key())
    assert [bool(cache.get(digest(number), PLACE)) for number in range(5)] == [False, False, True, True, True]
    assert MAX_SHARD * module.SHARDS * MAX_KEYS < 2**28


def test_only_the_newest_generations_are_kept_and_nothing_else_is_touched(tmp_path):
    for number in range(6):
        folder = tmp_path / f"pv-{number:040x}"
        folder.mkdir()
        (folder / "01").touch()
        os.utime(folder, (number, number))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.gguf").touch()
    (tmp_path / f"{0:040x}").mkdir()
    cache = Cache(tmp_path, key())
    cache.put(digest(1), known())
    cache.save()
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {key(), "models", f"{0:040x}", f"pv-{5:040x}", f"pv-{4:040x}"}
    assert (tmp_path / "models" / "x.gguf").exists()


def test_what_a_killed_run_left_behind_is_removed_when_it_is_old(tmp_path):
    cache = Cache(tmp_path, key())
    cache.folder.mkdir()
    for name, age in (("01.1.1.new", 1), ("02.1.1.new", 2**31)):
        (cache.folder / name).touch()
        os.utime(cache.folder / name, (age, age))
    cache.put(digest(1), known())
    cache.save()
    assert not (cache.folder / "01.1.1.new").exists()
    assert (cache.folder / "02.1.1.new").exists()


@pytest.mark.parametrize("what", ["a file", "locked", "below a file"])
def test_a_folder_that_cannot_be_used_is_no_error(tmp_path, monkeypatch, what):
    place = tmp_path / "cache"
    if what == "locked":
        monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError(13, "no")))
    else:
        place.touch()
        place = place / "below" if what == "below a file" else place
    monkeypatch.setenv("PV_CACHE_DIR", str(place))
    cache = open_cache()
    assert cache is not None
    assert cache.get(digest(1), PLACE) is None
    cache.put(digest(1), known())
    cache.save()


def test_without_a_home_there_is_no_cache(monkeypatch):
    import platformdirs

    def homeless(name):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PV_CACHE_DIR", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", homeless)
    assert open_cache() is None


def test_a_run_believes_the_cache_until_a_byte_of_the_contract_changes(tmp_path, monkeypatch):
    place, folder = tmp_path / "contracts", tmp_path / "cache"
    place.mkdir()
    file = Path(shutil.copy(CONTRACTS / "good" / "kernel-of-the-first-generation.yaml", place))
    asked = []
    original = rules.check
    monkeypatch.setattr(
        rules, "check", lambda contract, lint: asked.append(contract.stem) or original(contract, lint=lint)
    )

    def run(lint=False):
        asked.clear()
        verdict = validate([place], cache=Cache(folder, key()), lint=lint)
        assert verdict == dataclasses.replace(validate([place], lint=lint), settings=verdict.settings)
        return len(asked) - 1  # once without the cache

    assert [run(), run()] == [1, 0]
    file.write_text(file.read_text(encoding="utf-8").replace("prediction:", "prediktion:", 1), encoding="utf-8")
    assert [run(), run()] == [1, 0]
    file.rename(file.with_name("renamed.yaml"))
    assert [run(), run()] == [1, 0]
    assert [run(lint=True), run(lint=True), run()] == [1, 0, 0]
    shutil.move(place, tmp_path / "moved")
    place = tmp_path / "moved"
    assert run() == 0


def test_a_rule_about_one_contract_cannot_see_where_it_lies(monkeypatch):
    """What it finds is remembered for a file of this name and these bytes in any folder."""
    seen = []
    rule = RULES["SCHEMA-004"]
    spy = dataclasses.replace(rule, check=lambda contract: seen.append(contract.path) or rule.check(contract))
    monkeypatch.setitem(RULES, "SCHEMA-004", spy)
    file = known().path
    (checked, contract) = check_bytes(file, file.read_bytes())
    assert set(seen) == {Path(file.name)}
    assert {each.path for each in checked.findings} == {str(file)}
    assert contract.path == checked.facts.path == file


def test_no_cache_neither_reads_nor_writes(tmp_path):
    file = CONTRACTS / "bad" / "schema-004-empty-formula.yaml"
    environment = {**os.environ, "PV_CACHE_DIR": str(tmp_path / "cache")}

    def run(*flags):
        command = [sys.executable, "-c", "import sys; from pv.cli import main; sys.exit(main())", "validate"]
        done = subprocess.run([*command, *flags, str(file)], capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    first = run("--no-cache")
    assert not (tmp_path / "cache").exists()
    assert (first[0], first[2]) == (1, "")
    assert run() == first
    (entry,) = lines_in(tmp_path / "cache")
    assert run() == first
    assert lines_in(tmp_path / "cache") == [entry]
