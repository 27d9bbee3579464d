"""What git knows about the files of a repository: read from its objects, nothing is checked out.

git is run with fixed arguments and without a shell. A name that a user gave is looked up once, behind
--end-of-options; from then on only ids of commits and paths after `--` are passed.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pv.errors import PvError
from pv.report import printable

ABSENT = "a clone that is shallow lacks old commits: `git fetch --unshallow`"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of a commit. link: it is a symbolic link, which is followed within the commit when it is read."""

    commit: str
    path: str
    id: str
    link: bool


def root(folder: Path) -> Path:
    """The top of the working tree around a folder. PvError where there is none, or git cannot tell."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    if done.returncode:
        raise PvError(f"git finds no repository here: {_complaint(done)}", where=printable(str(folder)))
    return Path(os.fsdecode(done.stdout.removesuffix(b"\n")))


def state(folder: Path, apart: Path) -> tuple[str, bool]:
    """The commit that is checked out around a folder, and whether the working tree differs from it but for `apart`.

    ('', False) outside of a repository, before its first commit, and without git: this is told to a reader, and proves
    nothing.
    """
    try:
        top = root(folder)
        found = _commit(top, "HEAD")
        if found is None:
            return "", False
        pathspec = [":/"]
        if apart.resolve().is_relative_to(top.resolve()):
            pathspec.append(f":(top,exclude,literal){apart.resolve().relative_to(top.resolve()).as_posix()}")
        changed = _must(_git(top, "status", "--porcelain", "-z", "--untracked-files=normal", "--", *pathspec)).stdout
    except PvError:
        return "", False
    return found, bool(changed)


def is_revision(top: Path, name: str) -> bool:
    return _commit(top, name) is not None


def commit(top: Path, name: str) -> str:
    """The id of the commit that a revision names. PvError where it names none."""
    found = _commit(top, name)
    if found is None:
        raise PvError(printable(f"git knows no revision {name!r}"), hint=ABSENT)
    return found


def _commit(top: Path, name: str) -> str | None:
    if "\0" in name:
        return None
    done = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return None if done.returncode else done.stdout.decode("ascii").strip()


def merge_base(top: Path, one: str, other: str) -> str:
    """The best common ancestor of two commits, by their ids. PvError where they have none."""
    done = _git(top, "merge-base", one, other)
    if done.returncode:
        raise PvError(f"{one[:12]} and {other[:12]} have no common ancestor", hint=ABSENT)
    return done.stdout.decode("ascii").split()[0]


def files(top: Path, commit_id: str, paths: Sequence[str]) -> list[Blob]:
    """The files of a commit at and below paths, which are relative to the top; "." is all of it."""
    inside = () if "." in paths else paths
    done = _must(_git(top, "ls-tree", "-r", "-z", "--full-tree", commit_id, "--", *inside))
    found = []
    for entry in filter(None, done.stdout.split(b"\0")):
        facts, _, path = entry.partition(b"\t")
        mode, kind, blob = facts.decode("ascii").split()
        if kind == "blob":
            found.append(Blob(commit_id, os.fsdecode(path), blob, mode == "120000"))
    return found


def submodules(top: Path, commit_id: str) -> list[str]:
    """The folders of a commit that are repositories of their own: what they hold is not in it."""
    done = _must(_git(top, "ls-tree", "-r", "-z", "--full-tree", commit_id))
    entries = (entry.partition(b"\t") for entry in done.stdout.split(b"\0") if entry)
    return [os.fsdecode(path) for facts, _, path in entries if facts.split()[1] == b"commit"]


def contents(top: Path, blobs: Sequence[Blob]) -> list[bytes | None]:
    """The bytes of files; None for a link that leads to no file of its commit."""
    if not blobs:
        return []
    # one object a line (older versions of git know no -z here), so a link with a line break in its path leads nowhere
    wanted = [f"{blob.commit}:{blob.path}" if blob.link and "\n" not in blob.path else blob.id for blob in blobs]
    feed = b"".join(os.fsencode(name) + b"\n" for name in wanted)
    text = _must(_git(top, "cat-file", "--batch", "--follow-symlinks", feed=feed)).stdout
    found: list[bytes | None] = []
    at = 0
    for blob in blobs:
        end = text.index(b"\n", at)
        words = text[at:end].split()
        at = end + 1
        if words[-1] == b"missing":
            found.append(None)
            continue
        size = int(words[-1])  # "ID blob SIZE"; "dangling SIZE" and its like where a link leads nowhere
        followed = words[1:2] == [b"blob"] and not (blob.link and "\n" in blob.path)
        found.append(text[at : at + size] if followed else None)
        at += size + 1
    return found


def renames(top: Path, old: str, new: str | None) -> dict[str, str]:
    """Which path of a commit became which of another one, or of the working tree for None, as git detects it."""
    form = ("-r", "-z", "-M", "--diff-filter=R", "--name-status")
    done = _must(_git(top, *(("diff-tree", *form, old, new) if new else ("diff-index", *form, old)), "--"))
    words = [os.fsdecode(word) for word in done.stdout.split(b"\0")][:-1]
    return dict(zip(words[1::3], words[2::3], strict=True))


def _git(folder: Path, *arguments: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    # a repository's own configuration must start no program
    command = ("git", "-C", os.fspath(folder), "-c", "core.fsmonitor=false", *arguments)
    variables = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(command, input=feed, capture_output=True, env=variables, check=False)
    except FileNotFoundError:
        raise PvError("git is not installed, or not on PATH", hint="two files or folders need no git") from None
    except OSError as error:
        raise PvError(f"git cannot be run: {error.strerror}") from None


def _must(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    if done.returncode:
        raise PvError(f"git {done.args[5]} failed: {_complaint(done)}")
    return done


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").splitlines() or [f"exit code {done.returncode}"]
    return printable(lines[0].removeprefix("fatal: "))
