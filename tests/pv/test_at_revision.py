import os

import pytest

from pv.at_revision import extract, version_at
from pv.errors import PvError
from tests.pv.test_git import commit, run


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a project in its top, tagged v1, and another one in inner/."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    top = tmp_path / "top"
    top.mkdir()
    run(top, "init", "-q", "-b", "main")
    write(top, {"pyproject.toml": "[tool.pv]\n", "inner/pyproject.toml": "[tool.pv]\n", "a.txt": "one\n"})
    commit(top)
    run(top, "tag", "v1")
    return top


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_revision_is_written_out_as_it_was_and_removed_afterwards(repository):
    write(repository, {"a.txt": "two\n", "new.txt": "untracked\n"})
    with version_at("v1", repository) as version:
        root = version.config.root
        assert (root / "a.txt").read_text() == "one\n"
        assert not (root / "new.txt").exists()
        assert version.title == f"v1 ({run(repository, 'rev-parse', '--short=7', 'v1')})"
        assert version.unread == ()
    assert not root.exists()
    assert (repository / "a.txt").read_text() == "two\n"
    assert run(repository, "status", "--porcelain") == "M a.txt\n?? new.txt"


def test_attributes_leave_nothing_out_and_change_nothing(repository):
    write(repository, {".gitattributes": "evidence export-ignore\n*.txt export-subst\n", "a.txt": "$Format:%H$\n"})
    write(repository, {"evidence/one.json": "{}"})
    commit(repository)
    with version_at("HEAD", repository) as version:
        assert (version.config.root / "evidence/one.json").read_text() == "{}"
        assert (version.config.root / "a.txt").read_text() == "$Format:%H$\n"


def test_a_project_below_the_top_is_found_in_its_place(repository):
    with version_at("v1", repository / "inner") as version:
        assert version.config.root.name == "inner"


def test_the_search_for_a_project_does_not_leave_the_revision(repository, tmp_path, monkeypatch):
    run(repository, "rm", "-q", "--cached", "pyproject.toml")
    run(repository, "commit", "-q", "-m", "x")
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, {"pyproject.toml": "[tool.pv]\ncontracts = 'theirs'\n"})
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    with version_at("HEAD", repository) as version:
        assert version.config.contracts == version.config.root / "contracts"


@pytest.mark.parametrize(
    ("name", "inside", "why"),
    [
        ("later", "later", r"v1 \(.{7}\) has no folder later: there is no project to compare with"),
        ("nowhere", "", "git knows no revision 'nowhere'"),
    ],
)
def test_a_revision_without_the_project_is_an_error(repository, name, inside, why):
    write(repository, {"later/pyproject.toml": "[tool.pv]\n"})
    with pytest.raises(PvError, match=why), version_at("v1" if inside else name, repository / inside):
        pass


def test_a_folder_whose_settings_were_in_another_one_is_no_project_of_its_own(repository):
    write(repository, {"docs/a.md": ""})
    commit(repository)
    write(repository, {"docs/pyproject.toml": "[tool.pv]\n"})
    with (
        pytest.raises(PvError, match=r"^in HEAD \(.*\), docs is no project of its own"),
        version_at("HEAD", repository / "docs"),
    ):
        pass


def test_an_error_about_a_revision_does_not_name_the_temporary_folder(repository):
    write(repository, {"pyproject.toml": "[tool.pv]\ncontract = 'x'\n"})
    commit(repository)
    write(repository, {"pyproject.toml": "[tool.pv]\n"})
    with pytest.raises(PvError) as caught, version_at("HEAD", repository):
        pass
    assert caught.value.where == f"HEAD ({run(repository, 'rev-parse', '--short=7', 'HEAD')}): pyproject.toml"
    assert caught.value.args[0] == "[tool.pv] has no key 'contract'"


def test_links_stay_links_and_those_that_lead_out_are_left_out(repository, tmp_path):
    (repository / "in.txt").symlink_to("a.txt")
    (repository / "folder").symlink_to("inner")
    (repository / "out.txt").symlink_to("../secret")
    (repository / "absolute.txt").symlink_to(str(tmp_path))
    (repository / "inner" / "up").symlink_to("../..")
    (repository / "by").symlink_to("folder/up/secret")
    (tmp_path / "secret").write_text("secret")
    commit(repository)
    target = tmp_path / "target"
    target.mkdir()
    left = extract(repository, run(repository, "rev-parse", "HEAD"), target)
    assert left == ("absolute.txt", "by", "inner/up", "out.txt")
    assert (target / "in.txt").is_symlink()
    assert (target / "in.txt").read_text() == "one\n"
    assert (target / "folder").resolve() == target / "inner"
    assert sorted(path.name for path in target.rglob("*")) == [
        "a.txt",
        "folder",
        "in.txt",
        "inner",
        *["pyproject.toml"] * 2,
    ]


def test_a_submodule_is_left_out_and_told(repository, tmp_path):
    head = run(repository, "rev-parse", "HEAD")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},contracts")
    run(repository, "commit", "-q", "-m", "x")
    with version_at("HEAD", repository) as version:
        assert version.unread == ("contracts",)


@pytest.mark.parametrize("path", ["../up.txt", ".git/config", "a/../../b", ".GIT/hooks"])
def test_a_tree_that_was_made_by_hand_writes_nothing_elsewhere(repository, tmp_path, monkeypatch, path):
    from pv import git

    blobs = [git.Blob("", path, run(repository, "rev-parse", "HEAD:a.txt"), False)]
    monkeypatch.setattr(git, "files", lambda *args: blobs)
    target = tmp_path / "target"
    target.mkdir()
    assert extract(repository, run(repository, "rev-parse", "HEAD"), target) == (path,)
    assert list(target.iterdir()) == []


def test_a_file_that_a_clone_lacks_is_an_error(repository, tmp_path, monkeypatch):
    from pv import git

    monkeypatch.setattr(git, "files", lambda *args: [git.Blob("", "a.txt", "1" * 40, False)])
    with pytest.raises(PvError, match=r"^a\.txt: is not in this clone"):
        extract(repository, run(repository, "rev-parse", "HEAD"), tmp_path)


def test_a_folder_is_a_version_where_it_is_a_project_of_its_own(repository, tmp_path):
    with version_at("inner", repository) as version:
        assert (version.config.root, version.commit, version.title) == (repository / "inner", None, "inner")
    write(repository, {"plain/a.txt": ""})
    with pytest.raises(PvError, match=r"^plain: is no project of its own"), version_at("plain", repository):
        pass
    with pytest.raises(PvError, match=r"^\./none: there is no such folder"), version_at("./none", repository):
        pass
    with version_at(None, repository) as version:
        assert (version.config.root, version.title) == (repository, "the working tree")


def test_a_name_of_a_folder_and_a_revision_is_refused(repository):
    run(repository, "branch", "inner")
    with (
        pytest.raises(PvError, match=r"^'inner' is a folder and a revision\n  hint: write \./inner"),
        version_at("inner", repository),
    ):
        pass
    with version_at("./inner", repository) as version:
        assert version.commit is None
    with version_at("refs/heads/inner", repository) as version:
        assert version.commit == run(repository, "rev-parse", "HEAD")


def test_without_a_repository_only_folders_are_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write(tmp_path, {"old/pyproject.toml": "[tool.pv]\n"})
    with version_at("old", tmp_path) as version:
        assert version.config.root == tmp_path / "old"
    with pytest.raises(PvError, match=r"^main: is neither a folder nor, without"), version_at("main", tmp_path):
        pass
