import json
import re

import pytest

from pv.at_revision import version_at
from pv.cli import main
from pv.ledger_diff import as_json, as_markdown, as_text, moves
from pv.outcome import Outcome
from pv.status import survey
from pv.words import Level
from tests.pv.test_gate import OTHER, PLACE, edit, record, repository, write
from tests.pv.test_git import commit, run

assert repository


def compared(folder, base="main", head=None):
    with version_at(base, folder) as old, version_at(head, folder) as new:
        return moves((old, survey(old.config)), (new, survey(new.config)))


def told(found):
    return [(move.kind, move.test, move.base, move.head) for move in found.moves]


def test_nothing_moves_in_an_unchanged_tree(repository, capsys):
    found = compared(repository)
    assert (told(found), found.unchanged, found.code) == ([], 4, 0)
    assert main(["ledger", "diff", "main"]) == 0
    base = run(repository, "rev-parse", "--short=7", "main")
    assert capsys.readouterr().out == (
        f"main ({base}) -> the working tree: tests 4 -> 4: 0 rose, 0 fell, 0 went stale, 0 changed, 0 added, "
        "0 removed, 0 restated, 4 unchanged\n"
    )


def test_what_went_stale_is_told_with_the_reason(repository):
    write(repository, {"sums.py": "x = 1\n"})
    found = compared(repository)
    assert told(found) == [("stale", "T-1", Level.DISCHARGED, Level.STALE)]
    assert found.moves[0].reasons == ("11 records, all for other digests: code changed",)


def test_what_fell_and_what_rose_is_told_with_the_reason(repository):
    write(repository, {"sums.py": "x = 1\n"})
    record(repository, only=lambda plan: plan.role == "algorithm")
    commit(repository)
    found = compared(repository)
    assert told(found) == [("fell", "T-1", Level.DISCHARGED, Level.PARTIAL)]
    assert found.moves[0].reasons[0] == "not FUNCTIONAL: live-tiny has no SURVIVED record for today's digests"
    assert not any(reason.startswith("PARTIAL") for reason in found.moves[0].reasons)
    record(repository)
    found = compared(repository, "work")
    assert told(found) == [("rose", "T-1", Level.PARTIAL, Level.DISCHARGED)]
    assert found.moves[0].reasons == ("oracle survived, and its mutants were caught",)


def test_a_promise_that_broke_is_never_a_rise_and_nor_is_its_evidence_going_stale(repository):
    record(repository, only=lambda plan: plan.suffix == "algorithm", outcome=Outcome.FALSIFIED, message="seen")
    assert told(compared(repository)) == [("fell", "T-1", Level.DISCHARGED, Level.FALSIFIED)]
    commit(repository)
    write(repository, {"sums.py": "x = 1\n"})
    assert told(compared(repository, "work")) == [("stale", "T-1", Level.FALSIFIED, Level.STALE)]
    commit(repository)
    record(repository, only=lambda plan: plan.suffix == "algorithm")
    assert told(compared(repository, "work")) == [("changed", "T-1", Level.STALE, Level.UNTESTED)]


def test_tests_that_come_go_and_state_something_else_are_told_the_worst_first(repository):
    edit(repository, ("- id: T-2\n", "- id: T-3\n"), ("status: FUNCTIONAL", "status: PARTIAL"))
    found = compared(repository)
    assert told(found) == [
        ("added", "T-3", None, Level.UNTESTED),
        ("removed", "T-2", Level.UNTESTED, None),
        ("restated", "T-1", Level.DISCHARGED, Level.DISCHARGED),
    ]
    lines = as_text(found).splitlines()
    assert lines[1] == f"removed: {PLACE}:33: T-2: UNTESTED: it had earned UNTESTED"
    assert lines[2] == f"restated: {PLACE}:19: T-1: states FUNCTIONAL -> PARTIAL: it has earned DISCHARGED in both"
    assert (found.unchanged, found.tests) == (2, (4, 4))


def test_an_id_that_stands_twice_hides_no_test(repository):
    edit(repository, ("- id: T-2\n", "- id: T-1\n"))
    assert told(compared(repository)) == [
        ("added", "T-1", None, Level.UNTESTED),
        ("removed", "T-2", Level.UNTESTED, None),
    ]


def test_two_folders_are_compared_each_with_its_own_evidence(repository, tmp_path, capsys):
    run(repository, "worktree", "add", "-q", "../old", "main")
    write(repository, {"sums.py": "x = 1\n"})
    assert main(["ledger", "diff", "../old", ".", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["base"], content["head"]) == ({"name": "../old", "commit": None}, {"name": ".", "commit": None})
    assert [move["kind"] for move in content["moves"]] == ["stale"]


def test_the_json_has_the_documented_shape(repository):
    write(repository, {"sums.py": "x = 1\n"})
    content = json.loads(as_json(compared(repository)))
    assert list(content) == ["schema", "base", "head", "totals", "moves", "declined", "falsifiers"]
    assert content["schema"] == "pv-ledger-diff/1"
    assert content["base"] == {"name": "main", "commit": run(repository, "rev-parse", "main")}
    assert content["totals"]["stale"] == 1
    assert list(content["moves"][0]) == [
        "kind", "contract", "test", "path", "line", "base", "head", "stated_base", "stated_head", "reasons",
    ]  # fmt: skip


def test_the_markdown_names_no_folder_of_this_machine_and_means_nothing_to_github(repository, tmp_path):
    edit(repository, ("- id: T-2\n", '- id: "T|3<b>"\n'))
    write(repository, {"sums.py": "import checks.nothing\n"})
    text = as_markdown(compared(repository))
    assert r"T\|3&lt;b&gt;" in text
    assert "cannot be bound: sums.py:1: no module" in text.replace("\\_", "_")
    commit(repository)
    for difference in (
        text,
        as_markdown(compared(repository, "main", "work")),
        as_text(compared(repository, "work", "main")),
    ):
        assert str(tmp_path) not in difference
        assert "/pv-" not in difference
    assert re.search(r"^\*\*Fell\*\* \(1\)$", text, re.MULTILINE)
    assert text == as_markdown(compared(repository))


@pytest.mark.parametrize("side", ["base", "head"])
def test_a_version_that_could_not_be_read_as_a_whole_is_no_green(repository, side):
    write(repository, {OTHER: "a: [\n"})
    if side == "base":
        commit(repository)
        run(repository, "branch", "-f", "main", "work")
        run(repository, "checkout", "-q", "HEAD~1", "--", OTHER)
    found = compared(repository)
    assert found.code == 2
    ((path, _),) = found.declined
    assert re.fullmatch(rf"{'main' if side == 'base' else 'the working tree'}.*: {OTHER}:1:4", path)


def test_evidence_that_a_base_keeps_elsewhere_is_not_known(repository):
    text = (repository / "pyproject.toml").read_text()
    write(repository, {"pyproject.toml": text + 'evidence = "../elsewhere"\n'})
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    found = compared(repository)
    assert found.code == 2
    assert [why for _, why in found.declined] == ["lies outside of the repository: what was in it then is not known"]


def test_a_submodule_in_a_base_that_may_have_decided_about_a_level_is_told(repository):
    head = run(repository, "rev-parse", "HEAD")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},vendored")
    run(repository, "commit", "-q", "-m", "x")
    assert compared(repository, "work").code == 0  # all that was bound has evidence of that day
    write(repository, {"sums.py": "x = 1\n"})
    run(repository, "commit", "-q", "-m", "x", "sums.py")
    found = compared(repository, "work")
    assert found.code == 2
    assert found.declined[0][1].startswith("is a submodule or leads out: perhaps that is why T-1 has no evidence")


def test_a_model_that_a_revision_holds_only_as_a_pointer_says_nothing_about_its_levels(repository):
    (repository / "tiny.gguf").write_bytes(b"pointer")
    commit(repository)
    (repository / "tiny.gguf").write_bytes(b"tiny")
    assert (compared(repository, "work").code, compared(repository, "work").declined) == (0, ())
