"""A version of a project as a folder of its own: the working tree, another folder, or a revision of git.

A revision is written out to a temporary folder from git's objects, byte for byte, and removed afterwards; the user's
tree is not touched. `git archive` would not do: export-ignore and export-subst leave files out and change others,
filters of the repository start programs, and evidence that is left out is a fall that nobody sees.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pv import git
from pv.config import Config, find
from pv.errors import PvError
from pv.excerpt import printable

AT_ONCE = 256
"""How many files are held in memory at a time while a revision is written out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a project; its files are there as long as the context that made it.

    name      what the reader calls it
    commit    the id of its commit; None for a folder
    unread    submodules and links that lead out, by their paths from the repository's top: they were not written out
    prefixes  the folders that its files are below on this machine, the innermost first
    """

    name: str
    commit: str | None
    config: Config
    unread: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name, with the commit where that says more."""
        short = self.commit[:7] if self.commit else ""
        return f"{self.name} ({short})" if short and not self.name.startswith(short) else self.name

    def plain(self, text: str) -> str:
        """A text about this version without the folders of this machine in it."""
        for prefix in self.prefixes:
            text = text.replace(f"{prefix}{os.sep}", "").replace(prefix, ".")
        return text


def working_tree(config: Config) -> Version:
    """The project as it lies there."""
    return Version(name="the working tree", commit=None, config=config, prefixes=(str(config.root),))


@contextlib.contextmanager
def version_at(name: str | None, here: Path) -> Iterator[Version]:
    """The project around the folder `here` at a revision; None is the working tree, and a folder is another project.

    PvError for what is neither or both, and for a version in which there was no such project.
    """
    if name is None:
        yield working_tree(find(here))
    elif _is_folder(name, here):
        folder = (here / name).resolve()
        config = find(folder)
        if config.root != folder:
            hint = f"the project around it is {config.root}: name that folder, or give this one a pyproject.toml"
            raise PvError("is no project of its own", where=printable(name), hint=hint)
        yield Version(name=name, commit=None, config=config, prefixes=(str(config.root),))
    else:
        with _written_out(name, find(here).root) as version:
            yield version


def _is_folder(name: str, here: Path) -> bool:
    folder = os.path.isdir(here / name)
    if name.startswith(("./", "../", "/")) or name in (".", ".."):
        if not folder:
            raise PvError("there is no such folder", where=printable(name))
        return True
    try:
        known = git.is_revision(git.root(here), name)
    except PvError:  # without a repository it can only be a folder
        if not folder:
            raise PvError(
                "is neither a folder nor, without a repository of git, a revision", where=printable(name)
            ) from None
        return True
    if folder and known:
        raise PvError(
            f"{name!r} is a folder and a revision",
            hint=f"write ./{name} for the folder, refs/heads/{name} for the branch",
        )
    return folder


@contextlib.contextmanager
def _written_out(name: str, project: Path) -> Iterator[Version]:
    top = git.root(project)
    commit = git.commit(top, name)
    inner = os.path.relpath(os.path.realpath(project), os.path.realpath(top))
    with tempfile.TemporaryDirectory(prefix="pv-", ignore_cleanup_errors=True) as place:
        target = Path(os.path.realpath(place)) / "tree"
        target.mkdir()
        unread = extract(top, commit, target)
        (target / ".git").mkdir()  # no commit holds one: the search for a project ends here
        root = target if inner == "." else target / inner
        prefixes = tuple(dict.fromkeys((str(root), str(target))))
        named = Version(
            name=name,
            commit=commit,
            config=Config(root=root, contracts=root, evidence=root),
            unread=unread,
            prefixes=prefixes,
        )
        try:
            if not root.is_dir():
                raise PvError(f"{named.title} has no folder {inner}: there is no project to compare with")
            config = find(root)
            if config.root != root:
                raise PvError(f"in {named.title}, {inner} is no project of its own: there is nothing to compare with")
            yield replace(named, config=config)
        except PvError as error:
            where = f"{named.title}: {named.plain(error.where)}" if str(target) in error.where else error.where
            raise PvError(named.plain(str(error.args[0])), where=where, hint=named.plain(error.hint)) from None


def extract(top: Path, commit: str, target: Path) -> tuple[str, ...]:
    """Write the files of a commit below an empty folder; return the paths of what was left out.

    Left out are submodules, links that lead out of the folder or nowhere inside of it by a safe way, and names that
    could write elsewhere. PvError for a file that the clone lacks.
    """
    blobs = git.files(top, commit, ["."])
    left = [*git.submodules(top, commit), *(blob.path for blob in blobs if not _safe(blob.path))]
    blobs = [replace(blob, link=False) if not blob.link else blob for blob in blobs if _safe(blob.path)]
    links = [blob for blob in blobs if blob.link]
    files = [blob for blob in blobs if not blob.link]
    for start in range(0, len(files), AT_ONCE):
        some = files[start : start + AT_ONCE]
        for blob, data in zip(some, git.contents(top, some), strict=True):
            file = target / blob.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_present(data, blob.path))
    texts = git.contents(top, [replace(blob, link=False) for blob in links])  # where they lead, not what is there
    made = []
    for blob, text in zip(links, texts, strict=True):
        goal = os.fsdecode(_present(text, blob.path))
        place = target / blob.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not goal or os.path.isabs(goal) or "\0" in goal:
            left.append(blob.path)
        else:
            place.symlink_to(goal)
            made.append(place)
    out = [place for place in made if not _leads_inside(place, target)]
    for place in out:  # all at once: a link may lead through another
        place.unlink()
    return tuple(sorted([*left, *(place.relative_to(target).as_posix() for place in out)]))


def _safe(path: str) -> bool:
    """Whether a path of a commit stays below its folder: who makes a tree by hand may write anything into it."""
    parts = PurePosixPath(path).parts
    return (
        not path.startswith("/") and not {"..", ".git"} & {part.lower() for part in parts} and path == "/".join(parts)
    )


def _leads_inside(link: Path, target: Path) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(target)


def _present(data: bytes | None, path: str) -> bytes:
    if data is None:
        raise PvError(
            "is not in this clone", where=printable(path), hint="a partial clone lacks files: fetch them first"
        )
    return data
