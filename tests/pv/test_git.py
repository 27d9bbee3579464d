import os
import subprocess

import pytest

from pv import git
from pv.errors import PvError

ONE, TWO = b"one\n", b"two\n" * 30


def run(folder, *arguments):
    """git as its own user, whatever is configured on this machine."""
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    variables = {**clean, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", "-C", folder, *arguments], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder):
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "-m", "x")
    return run(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit: a.yaml, deep/b.yaml and a name that git would quote."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    top = tmp_path / "top"
    (top / "deep").mkdir(parents=True)
    run(tmp_path, "init", "-q", "-b", "main", "top")
    (top / "a.yaml").write_bytes(ONE)
    (top / "deep" / "b.yaml").write_bytes(TWO)
    (top / 'ü "\n.yaml').write_bytes(ONE)
    commit(top)
    return top


def test_the_files_of_a_commit_are_read_with_their_bytes(repository):
    head = git.commit(repository, "HEAD")
    blobs = git.files(repository, head, ["."])
    found = dict(zip([blob.path for blob in blobs], git.contents(repository, blobs), strict=True))
    assert found == {"a.yaml": ONE, "deep/b.yaml": TWO, 'ü "\n.yaml': ONE}


def test_only_the_files_below_the_paths_are_listed(repository):
    head = git.commit(repository, "HEAD")
    assert [blob.path for blob in git.files(repository, head, ["deep"])] == ["deep/b.yaml"]
    assert git.files(repository, head, ["missing"]) == []
    assert git.contents(repository, []) == []


def test_submodules_are_told_apart_from_files(repository):
    head = git.commit(repository, "HEAD")
    assert git.submodules(repository, head) == []
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},deep/module")
    run(repository, "commit", "-q", "-m", "x")
    assert git.submodules(repository, git.commit(repository, "HEAD")) == ["deep/module"]


def test_a_path_is_no_pattern(repository):
    assert git.files(repository, git.commit(repository, "HEAD"), ["*.yaml"]) == []


def test_nothing_is_checked_out_and_the_working_tree_is_not_asked(repository):
    head = git.commit(repository, "HEAD")
    (repository / "a.yaml").unlink()
    blobs = git.files(repository, head, ["a.yaml"])
    assert git.contents(repository, blobs) == [ONE]
    assert not (repository / "a.yaml").exists()


def test_links_are_followed_within_their_commit(repository):
    (repository / "deep" / "link.yaml").symlink_to("../a.yaml")
    (repository / "out.yaml").symlink_to("/etc/hostname")
    (repository / "gone.yaml").symlink_to("nowhere")
    (repository / "round.yaml").symlink_to("round.yaml")
    (repository / "folder.yaml").symlink_to("deep")
    (repository / "a\nb.yaml").symlink_to("a.yaml")
    blobs = git.files(repository, commit(repository), ["."])
    found = dict(zip([blob.path for blob in blobs], git.contents(repository, blobs), strict=True))
    assert found.pop("deep/link.yaml") == ONE
    assert found.pop("deep/b.yaml") == TWO
    links = ("out.yaml", "gone.yaml", "round.yaml", "folder.yaml", "a\nb.yaml")
    assert {name: found[name] for name in links} == dict.fromkeys(links)
    assert found["a.yaml"] == ONE


def test_a_rename_is_detected_between_commits_and_in_the_working_tree(repository):
    old = git.commit(repository, "HEAD")
    run(repository, "mv", "deep/b.yaml", "c.yaml")
    assert git.renames(repository, old, None) == {"deep/b.yaml": "c.yaml"}
    new = commit(repository)
    assert git.renames(repository, old, new) == {"deep/b.yaml": "c.yaml"}
    assert git.renames(repository, new, new) == {}


def test_a_revision_is_a_commit_or_unknown(repository):
    head = run(repository, "rev-parse", "HEAD")
    run(repository, "tag", "-a", "-m", "x", "v1")
    assert git.commit(repository, "v1") == git.commit(repository, "main") == head
    for name in ("nope", "", "--all", "-h", "--since=1", "HEAD:deep", "HEAD..HEAD", "a\0b", "main\n", "$(true)"):
        assert not git.is_revision(repository, name)
        with pytest.raises(PvError, match=r"^git knows no revision "):
            git.commit(repository, name)


def test_an_unknown_revision_is_named_without_control_characters(repository):
    with pytest.raises(PvError) as caught:
        git.commit(repository, "\x1b[31mred")
    assert str(caught.value).splitlines()[0] == r"git knows no revision '\x1b[31mred'"
    assert "fetch --unshallow" in caught.value.hint


def test_a_merge_base_is_the_commit_where_two_lines_parted(repository):
    base = git.commit(repository, "HEAD")
    run(repository, "checkout", "-q", "-b", "side")
    (repository / "a.yaml").write_bytes(TWO)
    side = commit(repository)
    run(repository, "checkout", "-q", "main")
    (repository / "z.yaml").write_bytes(ONE)
    assert git.merge_base(repository, commit(repository), side) == base
    run(repository, "checkout", "-q", "--orphan", "other")
    with pytest.raises(PvError, match=r"^[0-9a-f]{12} and [0-9a-f]{12} have no common ancestor\n"):
        git.merge_base(repository, side, commit(repository))


def test_the_top_is_found_from_any_folder_in_it(repository):
    assert git.root(repository / "deep") == repository


def test_no_repository_is_an_error_with_the_reason_of_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(PvError, match="git finds no repository here: not a git repository"):
        git.root(tmp_path)


def test_a_missing_git_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PvError, match=r"^git is not installed, or not on PATH"):
        git.root(tmp_path)


def test_a_git_that_fails_is_named_with_its_complaint(repository):
    with pytest.raises(PvError, match=r"^git ls-tree failed: not a tree object$"):
        git.files(repository, "0123456789" * 4, ["."])


def test_a_repository_starts_no_program_of_its_configuration(repository, tmp_path):
    program, trace = tmp_path / "program", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\necho run >> {trace}\n")
    program.chmod(0o755)
    run(repository, "config", "core.fsmonitor", str(program))
    run(repository, "config", "diff.external", str(program))
    run(repository, "config", "core.pager", str(program))
    (repository / "a.yaml").write_bytes(TWO)
    git.renames(repository, git.commit(repository, "HEAD"), None)
    assert not trace.exists()
