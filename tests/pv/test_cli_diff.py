import io
import json
import os
import sys

import pytest

from pv.cli import main
from tests.pv.test_diff import BASE, contract
from tests.pv.test_git import commit, run

LOOSE = BASE.replace("limit: 1.0e-4", "limit: 1.0e-3")
RETIRED = BASE.replace("ACTIVE", "RETIRED").replace("1.2.3", "2.0.0")
INVALID = BASE.replace("binds_to: size", "binds_to: sise")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which the command runs."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def repository(folder):
    """A repository with contracts/x.yaml and contracts/y.yaml in its first commit, tagged v1."""
    run(folder, "init", "-q", "-b", "main")
    write(folder, {"contracts/x.yaml": BASE, "contracts/y.yaml": BASE})
    commit(folder)
    run(folder, "tag", "v1")
    return folder


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def diff(capsys, *args):
    code = main(["diff", *map(str, args)])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def refused(capsys, *args):
    assert main(["diff", *map(str, args)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def content(capsys, *args):
    code = main(["diff", "--json", *map(str, args)])
    return code, json.loads(capsys.readouterr().out)


# -- files and folders ------------------------------------------------------------------------------------------------


def test_a_loosened_tolerance_under_a_patch_step_is_rejected_with_place_and_reason(folder, capsys):
    write(folder, {"old.yaml": BASE, "new.yaml": LOOSE.replace("1.2.3", "1.2.4")})
    line = BASE[: BASE.index("limit: 1.0e-4")].count("\n") + 1
    assert diff(capsys, "old.yaml", "new.yaml") == (
        1,
        [
            f"new.yaml:{line}: major: falsification_tests[FALSIFY-1].tolerance.limit: 0.0001 -> 0.001 "
            "(the tolerance is loosened)",
            "new.yaml: 1.2.3 -> 1.2.4: needed is a major step, but the version announces a patch change: reject",
            "  hint: version: 2.0.0 or later",
            "reject: 1 contract: 0 unchanged, 1 changed, 0 added, 0 removed; 1 change (1 major); "
            "0 of 1 versions announce enough",
        ],
    )


def test_a_step_that_is_large_enough_is_accepted(folder, capsys):
    write(folder, {"old.yaml": BASE, "new.yaml": LOOSE.replace("1.2.3", "2.0.0")})
    code, lines = diff(capsys, "old.yaml", "new.yaml")
    assert code == 0
    assert lines[-2] == "new.yaml: 1.2.3 -> 2.0.0: needed is a major step: accept"


def test_the_same_bytes_are_unchanged_even_where_they_are_no_valid_contract(folder, capsys):
    write(folder, {"old/x.yaml": INVALID, "new/x.yaml": INVALID})
    assert diff(capsys, "old", "new") == (
        0,
        ["accept: 1 contract: 1 unchanged, 0 changed, 0 added, 0 removed; 0 changes"],
    )


def test_a_comment_needs_no_step_and_is_counted_as_unchanged(folder, capsys):
    write(folder, {"old.yaml": BASE, "new.yaml": "# a comment\n" + BASE})
    assert diff(capsys, "old.yaml", "new.yaml") == (
        0,
        [
            "new.yaml: 1.2.3 -> 1.2.3: needed is no step: accept",
            "accept: 1 contract: 1 unchanged, 0 changed, 0 added, 0 removed; 0 changes; "
            "1 of 1 versions announce enough",
        ],
    )


def test_folders_are_matched_by_path_then_by_name_and_what_is_left_is_added_or_removed(folder, capsys):
    write(folder, {"old/x.yaml": BASE, "old/deep/moved.yaml": BASE, "old/gone.yaml": BASE, "old/late.yaml": RETIRED})
    write(folder, {"new/x.yaml": BASE, "new/moved.yaml": LOOSE, "new/fresh.yaml": BASE})
    code, lines = diff(capsys, "old", "new")
    assert code == 1
    assert lines[0] == "new/fresh.yaml: added at 1.2.3: accept"
    assert lines[1].startswith("old/gone.yaml: removed at 1.2.3: what it promised is withdrawn, ")
    assert lines[2].startswith("  hint: let it state `status: RETIRED`")
    assert lines[3] == "old/late.yaml: removed at 2.0.0, it was retired: accept"
    assert lines[4].startswith("new/moved.yaml:")
    assert lines[-1] == (
        "reject: 5 contracts: 1 unchanged, 1 changed, 1 added, 2 removed; 1 change (1 major); "
        "2 of 4 versions announce enough"
    )


def test_two_names_that_occur_twice_are_not_matched_by_guessing(folder, capsys):
    write(folder, {"old/a/x.yaml": BASE, "old/b/x.yaml": BASE, "new/x.yaml": BASE})
    _, found = content(capsys, "old", "new")
    assert (found["added"], found["removed"]) == (1, 2)


def test_an_invalid_contract_on_either_side_is_named_and_the_others_are_compared(folder, capsys):
    write(folder, {"old/a.yaml": INVALID, "old/b.yaml": BASE, "old/c.yaml": BASE, "old/d.yaml": BASE})
    write(folder, {"new/a.yaml": BASE, "new/b.yaml": "metadata: [", "new/c.yaml": "", "new/d.yaml": "#\n" + BASE})
    code, lines = diff(capsys, "old", "new")
    assert code == 2
    assert lines[0] == "new/d.yaml: 1.2.3 -> 1.2.3: needed is no step: accept"
    line = BASE[: BASE.index("binds_to")].count("\n") + 1
    why = "is no valid contract: PV-LINK-001: FALSIFY-1: there is no equation 'sise'"
    assert lines[1] == f"old/a.yaml:{line}:3: not compared: {why}"
    assert lines[2].startswith("new/b.yaml:1:11: not compared: ")
    assert lines[3] == "new/c.yaml: not compared: holds no contract: it is empty"
    assert lines[-1].startswith("decline: 1 contract: 1 unchanged, ")
    assert lines[-1].endswith("; 3 not compared")


def test_what_is_wrong_outranks_what_could_not_be_compared(folder, capsys):
    write(folder, {"old/a.yaml": BASE, "old/b.yaml": BASE, "new/a.yaml": "", "new/b.yaml": LOOSE})
    assert diff(capsys, "old", "new")[0] == 1


def test_a_contract_cannot_steer_the_terminal(folder, capsys):
    evil = '"\\e[31m red \\n reject: all"'
    write(folder, {"old.yaml": BASE, "new.yaml": BASE.replace("rule: it can be read", f"rule: {evil}")})
    _, lines = diff(capsys, "old.yaml", "new.yaml")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def test_a_version_cannot_steer_the_terminal_either(folder, capsys):
    write(folder, {"old.yaml": BASE, "new.yaml": LOOSE.replace("1.2.3", '"\\e[31m1.2"')})
    _, lines = diff(capsys, "old.yaml", "new.yaml")
    assert lines[1].startswith(r"new.yaml: 1.2.3 -> \x1b[31m1.2: needed is a major step, but ")


def test_two_files_that_cannot_be_read_are_not_the_same(folder, capsys):
    for side in ("old", "new"):
        (folder / side).mkdir()
        (folder / side / "x.yaml").symlink_to("nowhere")
    code, lines = diff(capsys, "old", "new")
    assert code == 2
    assert lines[:2] == [
        f"{side}/x.yaml: not compared: cannot be read: No such file or directory" for side in ("old", "new")
    ]


def test_long_texts_are_shown_from_where_they_begin_to_differ(folder, capsys):
    long = "a word " * 30
    write(folder, {"old.yaml": BASE.replace("5 bytes become 9 bytes", f"{long}and 5 bytes")})
    write(folder, {"new.yaml": BASE.replace("5 bytes become 9 bytes", f"{long}and 6 bytes")})
    _, lines = diff(capsys, "old.yaml", "new.yaml")
    assert lines[0].endswith(
        'prediction: ..d a word a word and 5 bytes" -> ..d a word a word and 6 bytes" (what was promised is replaced)'
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["old.yaml"], "pv: 'old.yaml' is compared with nothing\n"),
        (["old.yaml", "nope.yaml"], "pv: nope.yaml: there is no such file or folder\n"),
        (["./nope.yaml", "old.yaml"], "pv: ./nope.yaml: there is no such file or folder\n"),
        (["old.yaml", "folder"], "pv: a file and a folder: old.yaml, folder\n"),
        (["folder", "folder"], "pv: folder and folder hold no contracts: no *.yaml or *.yml\n"),
        (["main..HEAD"], "git finds no repository here: not a git repository"),
        (["nope", "old.yaml"], "'nope' is no file or folder, and git finds no repository here"),
    ],
)
def test_bad_usage_is_one_clear_error(folder, capsys, args, message):
    write(folder, {"old.yaml": BASE, "folder/notes.txt": ""})
    assert message in refused(capsys, *args)


def test_json_has_its_documented_shape(folder, capsys):
    write(folder, {"old/x.yaml": BASE, "old/y.yaml": BASE, "old/z.yaml": BASE})
    write(folder, {"new/x.yaml": BASE.replace("seed: 7", "seed: .nan"), "new/y.yaml": "", "new/z.yaml": BASE})
    code, found = content(capsys, "old", "new")
    assert code == 1
    line = BASE[: BASE.index("seed: 7")].count("\n") + 1
    assert found == {
        "schema": "pv-diff/1",
        "verdict": "reject",
        "contracts": 2,
        "unchanged": 1,
        "changed": 1,
        "added": 0,
        "removed": 0,
        "comparisons": [
            {
                "contract": "x",
                "old": "old/x.yaml",
                "new": "new/x.yaml",
                "old_version": "1.2.3",
                "new_version": "1.2.3",
                "needed": "major",
                "announced": "none",
                "least": "2.0.0",
                "verdict": "reject",
                "reason": "the version announces no change",
                "changes": [
                    {
                        "class": "major",
                        "what": "changed",
                        "place": "our_own_key.seed",
                        "in": "new",
                        "line": line,
                        "old": 7,
                        "new": "nan",
                        "reason": "what was promised is replaced",
                    }
                ],
            }
        ],
        "declined": [{"path": "new/y.yaml", "reason": "holds no contract: it is empty"}],
    }


# -- revisions --------------------------------------------------------------------------------------------------------


def test_a_revision_is_compared_with_the_working_tree_untracked_files_among_it(repository, capsys):
    write(repository, {"contracts/x.yaml": LOOSE, "contracts/fresh.yaml": BASE, "contracts/.hidden.yaml": "no"})
    (repository / "contracts" / "y.yaml").unlink()
    code, found = content(capsys, "v1", "contracts")
    assert code == 1
    assert [(each["old"], each["new"]) for each in found["comparisons"]] == [
        (None, "contracts/fresh.yaml"),
        ("v1:contracts/x.yaml", "contracts/x.yaml"),
        ("v1:contracts/y.yaml", None),
    ]


def test_one_file_of_a_revision_is_compared_even_after_it_is_gone(repository, capsys):
    assert diff(capsys, "HEAD", "contracts/x.yaml")[0] == 0
    (repository / "contracts" / "x.yaml").unlink()
    code, lines = diff(capsys, "HEAD", "contracts/x.yaml")
    assert code == 1
    assert lines[0].startswith("HEAD:contracts/x.yaml: removed at 1.2.3: ")
    assert lines[-1].startswith("reject: 1 contract: ")


def test_without_a_path_the_contracts_of_the_project_are_compared(repository, capsys):
    write(repository, {"pyproject.toml": '[tool.pv]\ncontracts = "promises"\n', "promises/z.yaml": BASE})
    commit(repository)
    write(repository, {"promises/z.yaml": LOOSE, "contracts/x.yaml": LOOSE})
    code, found = content(capsys, "HEAD")
    assert (code, [each["contract"] for each in found["comparisons"]]) == (1, ["z"])


def test_two_revisions_are_compared_whatever_lies_in_the_working_tree(repository, capsys):
    write(repository, {"contracts/x.yaml": LOOSE})
    commit(repository)
    write(repository, {"contracts/x.yaml": "metadata: ["})
    for words in ("v1..HEAD", "v1..", "v1..main"):
        code, lines = diff(capsys, words, "contracts")
        assert code == 1
        assert lines[0].startswith(f"{words.partition('..')[2] or 'HEAD'}:contracts/x.yaml:")
    assert diff(capsys, "..v1", "contracts")[1][0].startswith("v1:contracts/x.yaml:")


def test_three_dots_leave_out_what_the_other_side_changed(repository, capsys):
    run(repository, "checkout", "-q", "-b", "side")
    write(repository, {"contracts/x.yaml": LOOSE.replace("1.2.3", "2.0.0")})
    commit(repository)
    run(repository, "checkout", "-q", "main")
    write(repository, {"contracts/y.yaml": LOOSE})
    commit(repository)
    code, found = content(capsys, "main...side", "contracts")
    base = run(repository, "rev-parse", "v1")[:12]
    assert (code, [each["old"] for each in found["comparisons"]]) == (0, [f"{base}:contracts/x.yaml"])
    code, found = content(capsys, "main..side", "contracts")
    assert (code, len(found["comparisons"])) == (1, 2)


def test_a_rename_that_git_detects_is_a_major_change_and_no_removal(repository, capsys):
    run(repository, "mv", "contracts/x.yaml", "contracts/new-name.yaml")
    write(repository, {"contracts/new-name.yaml": BASE.replace("1.2.3", "2.0.0")})
    for words in ("v1", "v1.."):
        code, found = content(capsys, words, "contracts")
        assert (code, found["changed"], found["added"], found["removed"]) == (0, 1, 0, 0)
        [only] = found["comparisons"]
        assert (only["needed"], only["changes"][0]["place"]) == ("major", "the file's name")
        run(repository, "add", "-A")
        run(repository, "commit", "-q", "--allow-empty", "-m", "x")


def test_a_name_that_is_taken_again_is_compared_with_its_own_past(repository, capsys):
    run(repository, "mv", "contracts/x.yaml", "contracts/z.yaml")
    write(repository, {"contracts/x.yaml": LOOSE, "contracts/y.yaml": BASE + "# other bytes than those of x\n"})
    _, found = content(capsys, "v1", "contracts")
    assert [(each["contract"], each["old"]) for each in found["comparisons"]] == [
        ("x", "v1:contracts/x.yaml"),
        ("y", "v1:contracts/y.yaml"),
        ("z", None),
    ]


def test_hidden_files_and_files_that_are_no_contracts_are_passed_over_in_a_commit_too(repository, capsys):
    names = ("contracts/.hidden.yaml", "contracts/.deep/x.yaml", "contracts/binding.yaml", "contracts/notes.txt")
    write(repository, dict.fromkeys(names, "no contract"))
    commit(repository)
    assert diff(capsys, "v1..", "contracts")[1] == [
        "accept: 2 contracts: 2 unchanged, 0 changed, 0 added, 0 removed; 0 changes"
    ]
    assert diff(capsys, "v1..", "contracts/.hidden.yaml")[0] == 2


@pytest.mark.parametrize("key", ["models", "milestones"])
@pytest.mark.parametrize("revisions", ["HEAD", "HEAD..next"])
def test_a_registry_of_models_among_the_contracts_is_no_contract_that_changed(repository, capsys, revisions, key):
    registry = {"pyproject.toml": f"[tool.pv]\n{key} = 'contracts/models.yaml'\n", "contracts/models.yaml": "a: {}"}
    write(repository, registry)
    commit(repository)
    write(repository, {"contracts/models.yaml": "b: {}"})
    if ".." in revisions:
        run(repository, "switch", "-q", "-c", "next")
        commit(repository)
        run(repository, "branch", "-f", "main", "HEAD~1")
        revisions = "main..next"
    code, lines = diff(capsys, revisions)
    assert (code, lines) == (0, ["accept: 2 contracts: 2 unchanged, 0 changed, 0 added, 0 removed; 0 changes"])
    assert diff(capsys, revisions, "contracts/models.yaml")[0] == 2


def test_settings_of_today_take_no_contract_out_of_a_commit(repository, capsys):
    write(repository, {"pyproject.toml": "[tool.pv]\nmodels = 'contracts/x.yaml'\n"})
    code, lines = diff(capsys, "v1")
    assert code == 1
    assert lines[0].startswith("v1:contracts/x.yaml: removed at 1.2.3: ")


@pytest.mark.parametrize(
    "settings", ["[tool.pv", "tool = 1", "[tool.pv]\nmodel = 'x'", "[tool.pv]\nmodels = '../m.yaml'"]
)
def test_settings_of_a_commit_that_cannot_be_read_hide_no_contract(repository, capsys, settings):
    write(repository, {"pyproject.toml": settings})
    commit(repository)
    assert diff(capsys, "HEAD", "contracts")[1][-1].startswith("accept: 2 contracts: 2 unchanged, ")
    write(repository, {"pyproject.toml": ""})
    assert diff(capsys, "HEAD", "contracts")[1][-1].startswith("accept: 2 contracts: 2 unchanged, ")


def test_a_pipe_among_contracts_is_not_compared_and_nobody_waits_for_it(repository, capsys):
    os.mkfifo("contracts/p.yaml")
    why = "contracts/p.yaml: not compared: is no regular file: it is read only if it is named itself"
    for args in (["HEAD", "contracts"], ["contracts", "contracts"]):
        code, lines = diff(capsys, *args)
        assert code == 2
        assert lines[0].endswith(why)


def test_capitals_make_no_other_suffix_in_a_commit(repository, capsys):
    write(repository, {"contracts/z.YAML": BASE})
    commit(repository)
    assert diff(capsys, "v1..")[1][-1].startswith("accept: 3 contracts: 2 unchanged, 0 changed, 1 added, ")


def test_a_pure_rename_needs_a_major_step(repository, capsys):
    run(repository, "mv", "contracts/x.yaml", "contracts/z.yaml")
    (repository / "contracts" / "y.yaml").write_text(BASE + "# other bytes than those of x\n")
    code, found = content(capsys, "v1", "contracts")
    assert code == 1
    assert {each["contract"]: each["needed"] for each in found["comparisons"]} == {"y": "none", "z": "major"}


def test_a_contract_that_moves_to_another_folder_keeps_its_name(repository, capsys):
    run(repository, "mv", "contracts/x.yaml", "x.yaml")
    assert diff(capsys, "v1", ".")[0] == 0


def test_paths_are_those_of_the_current_folder(repository, capsys, monkeypatch):
    write(repository, {"contracts/x.yaml": LOOSE})
    monkeypatch.chdir(repository / "contracts")
    code, lines = diff(capsys, "v1", "x.yaml", "../contracts/y.yaml")
    assert code == 1
    assert lines[0].startswith("x.yaml:")
    assert lines[-1].startswith("reject: 2 contracts: 1 unchanged, 1 changed")


def test_a_path_through_a_linked_folder_is_the_same_contract(repository, capsys):
    (repository.parent / "link").symlink_to(repository)
    (repository / "also").symlink_to("contracts")
    write(repository, {"contracts/x.yaml": LOOSE})
    for path in (repository.parent / "link" / "contracts", "also"):
        assert diff(capsys, "v1", path)[1][-1].startswith("reject: 2 contracts: 1 unchanged, 1 changed")


def test_a_path_that_holds_nothing_in_either_version_declines(repository, capsys):
    code, lines = diff(capsys, "v1", "contracts", "nope")
    assert code == 2
    assert lines == [
        "nope: not compared: holds no contract in either version",
        "decline: 2 contracts: 2 unchanged, 0 changed, 0 added, 0 removed; 0 changes; 1 not compared",
    ]


def test_a_name_that_is_a_path_and_a_revision_is_refused(repository, capsys):
    run(repository, "branch", "contracts")
    write(repository, {"other/x.yaml": BASE})
    assert refused(capsys, "contracts", "other").startswith(
        "pv: 'contracts' is a path and a revision\n  hint: write ./"
    )
    assert diff(capsys, "./contracts", "other")[0] == 1
    assert diff(capsys, "contracts..", "contracts")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nope", "contracts"], "pv: 'nope' is no file or folder, and no revision that git knows\n  hint: "),
        (["nope..HEAD"], "pv: git knows no revision 'nope'\n  hint: "),
        (["HEAD...nope"], "pv: git knows no revision 'nope'\n  hint: "),
        (["contracts"], "pv: 'contracts' is compared with nothing\n  hint: "),
        (["contracts/x.yaml", "contracts/nope.yaml"], "pv: contracts/nope.yaml: there is no such file or folder\n"),
        (["../nope.yaml", "contracts"], "pv: ../nope.yaml: there is no such file or folder\n"),
        (["HEAD", ".."], "lies outside of the repository\n  hint: the repository is "),
    ],
)
def test_bad_usage_in_a_repository_is_one_clear_error(repository, capsys, args, message):
    assert message in refused(capsys, *args)


def test_a_link_out_of_its_commit_is_not_compared(repository, capsys):
    (repository / "contracts" / "z.yaml").symlink_to("/etc/hostname")
    commit(repository)
    code, lines = diff(capsys, "v1..", "contracts")
    assert code == 2
    assert lines[0] == "HEAD:contracts/z.yaml: not compared: is a link to no file of its commit"


def test_the_contract_of_the_page_is_the_one_that_these_tests_edit():
    assert contract(BASE).version == "1.2.3"
    assert LOOSE != BASE != INVALID


@pytest.fixture
def piped(monkeypatch):
    def give(text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return give


def test_standard_input_is_either_side(folder, capsys, piped):
    write(folder, {"old/x.yaml": BASE, "new/x.yaml": LOOSE})
    code, lines = diff(capsys, "old/x.yaml", "new/x.yaml")
    assert code == 1
    piped(LOOSE)
    assert diff(capsys, "old/x.yaml", "-") == (code, [line.replace("new/x.yaml", "<stdin>") for line in lines])
    piped(BASE)
    assert diff(capsys, "-", "new/x.yaml") == (code, [line.replace("old/x.yaml", "<stdin>") for line in lines])
    piped(BASE)
    assert diff(capsys, "-", "old/x.yaml")[0] == 0


def test_an_invalid_standard_input_is_declined_by_its_name(folder, capsys, piped):
    write(folder, {"x.yaml": BASE})
    for text, reason in (
        (INVALID, "is no valid contract"),
        ("[]", "a contract is a mapping"),
        ("", "holds no contract"),
    ):
        piped(text)
        code, lines = diff(capsys, "x.yaml", "-")
        assert code == 2
        assert any(line.startswith("<stdin>") and reason in line for line in lines)


@pytest.mark.parametrize("sides", [["-", "contracts"], ["-"], ["-", "x.yaml", "y.yaml"]])
def test_standard_input_is_compared_with_one_file(folder, capsys, piped, sides):
    write(folder, {"x.yaml": BASE, "y.yaml": BASE, "contracts/x.yaml": BASE})
    piped(BASE)
    assert refused(capsys, *sides) == (
        "pv: -: is standard input, which is compared with one file\n  hint: pv diff old.yaml - or pv diff - new.yaml\n"
    )


@pytest.mark.parametrize("sides", [["HEAD", "-"], ["-", "HEAD"]])
def test_standard_input_is_compared_with_no_revision(folder, capsys, piped, sides):
    piped(BASE)
    hint = "  hint: standard input is compared with one file\n"
    assert refused(capsys, *sides) == f"pv: HEAD: there is no such file\n{hint}"


def test_standard_input_is_not_both_sides(folder, capsys, piped):
    piped(BASE)
    assert refused(capsys, "-", "-") == (
        "pv: -: standard input is one version, not both\n  hint: name the file of the other one\n"
    )
