"""Pulling of models from a Hugging Face hub, by huggingface_hub: the user's endpoint, token and proxy settings hold.

A model is one GGUF file, or what a folder of the Hugging Face layout needs to run (engine.checkpoint). Every file is
verified against the checksum that the hub states: sha256 for files in LFS, git's own for all others.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import hub_files, pulled
from engine.errors import EngineError
from engine.hub_errors import ROOM, UnreachableError, asking
from engine.identity import sha256_file
from engine.pulled import Held, HubName, Record

_CHUNK = 2**20
_SECONDS = 30  # until the hub must have answered
_CHECKSUMS = {True: re.compile("[0-9a-f]{64}"), False: pulled.COMMIT}
"""What a checksum looks like of a file in LFS, and of any other."""
_KEPT = "is there already, checksum verified"


@dataclass(frozen=True, slots=True)
class Stated:
    """What the hub says about a file: its size in bytes, and its checksum, which is a sha256 if it lies in LFS."""

    size: int
    checksum: str  # hexadecimal; empty where it says none, or anything else
    in_lfs: bool

    def fits(self, path: Path) -> bool:
        """Whether the content of a file is the stated one."""
        if path.stat().st_size != self.size:
            return False
        return (sha256_file(path) if self.in_lfs else git_id(path)) == self.checksum


@dataclass(frozen=True, slots=True)
class Pulled:
    """Where the model lies, and what `pull` did."""

    path: Path
    how: str

    def __str__(self) -> str:
        return f"{self.path}: {self.how}"


def pull(text: str, folder: Path, tell: Callable[[str], None]) -> Pulled:
    """Obtain the model OWNER/NAME[@REVISION][:FILE], unless it is there and right.

    folder  of pulled models, as engine.pulled lays it out
    tell    called with a line before files are downloaded

    A file has its final name only when it is whole, and the model its record only when all files were verified, so an
    interrupted pull leaves no model. Raises EngineError for what the user can put right.
    """
    name = pulled.parse(text)
    if name is None:
        raise EngineError("is not of the form OWNER/NAME[@REVISION][:FILE]", where=text, hint="as Qwen/Qwen2-0.5B")
    hub_files.check_name(name)
    before = _record(folder, name)
    if before is not None and name.is_fixed and _is_whole(folder, name, before):
        return Pulled(pulled.locate(folder, name), _KEPT)
    check_library()
    try:
        commit, stated = _listing(name)
    except UnreachableError:
        if before is None or not _is_whole(folder, name, before):
            raise
        return Pulled(pulled.locate(folder, name), f"{_KEPT}; the hub could not be asked for a newer one")
    try:
        return _Pull(folder, name, commit, stated, tell).run()
    except OSError as error:
        place = str(error.filename or folder)
        raise EngineError(f"cannot be written: {error.strerror or error}", where=place, hint=ROOM) from None


class _Pull:
    """The download of one commit's files; counts what it did."""

    def __init__(
        self, folder: Path, name: HubName, commit: str, stated: Mapping[str, Stated], tell: Callable[[str], None]
    ) -> None:
        self.folder, self.name, self.commit, self.stated, self.tell = folder, name, commit, stated, tell
        self.place = pulled.snapshot(folder, name, commit)
        self.downloaded = self.damaged = 0

    def run(self) -> Pulled:
        files = hub_files.choose(self.name, {file: found.size for file, found in self.stated.items()}, self.get)
        missing = [file for file in files if not self.is_right(file)]
        if missing:
            need = sum(self.stated[file].size for file in missing)
            self.check_room(need)
            self.tell(f"downloading {len(missing)} of {len(files)} files, {need:,} bytes")
        for file in missing:  # the weights come last: without them nothing can be taken for a model
            self.get(file)
        held = {file: self.held(file) for file in files}
        pulled.write_record(self.folder, self.name, Record(self.commit, held))
        how = "downloaded, checksum verified" if self.downloaded else _KEPT
        how = f"was damaged; {how}" if self.damaged else how
        return Pulled(pulled.locate(self.folder, self.name), how)

    def held(self, file: str) -> Held:
        """What the record says of a file that is right."""
        stated = self.stated[file]
        return Held(stated.size, stated.checksum if stated.in_lfs else sha256_file(self.place / file))

    def get(self, file: str) -> Path:
        """The path of a file that is there and right, downloaded unless it is so already."""
        from huggingface_hub import hf_hub_download

        path, stated = self.place / file, self.stated[file]
        if self.is_right(file):
            return path
        if path.exists() or path.is_symlink():
            self.damaged += 1
            path.unlink()
        # where the library keeps the content, for all commits: it would be linked to as it is
        blob = self.place.parents[1] / "blobs" / stated.checksum
        if blob.exists() and not stated.fits(blob):
            blob.unlink()
        with asking(self.name, f" ({file})"):
            hf_hub_download(self.name.repository, file, revision=self.commit, cache_dir=pulled.cache_of(self.folder))
        if not self.is_right(file):
            found = path.stat().st_size
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise EngineError(
                f"{file} was received with {found} bytes and another checksum than the hub states",
                where=str(self.name),
                hint="pull again; if that does not help, do not use the file, and report it",
            )
        self.downloaded += 1
        return path

    def is_right(self, file: str) -> bool:
        """Whether a file is there with the size and the checksum that the hub states."""
        path, stated = self.place / file, self.stated[file]
        if not stated.checksum:
            raise EngineError(
                f"the hub states no checksum for {file}", where=str(self.name), hint="use an endpoint that does"
            )
        return path.is_file() and stated.fits(path)

    def check_room(self, need: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise EngineError(
                f"{need:,} bytes are needed, but {free:,} are free",
                where=str(self.folder),
                hint=ROOM,
            )


def check_library() -> None:
    """Raise EngineError where huggingface_hub is missing, or older than what engine.hub_errors knows of it."""
    try:
        from huggingface_hub import __version__ as version
    except ImportError as error:
        version = f"none ({error})"
    if not version[0].isdecimal() or version.startswith("0."):
        raise EngineError(
            f"models of a hub need huggingface_hub 1.0 or newer; installed is {version}",
            where="huggingface_hub",
            hint="pip install 'pv-contracts[hub]'",
        )


def git_id(path: Path) -> str:
    """git's id of a file's content: the sha1 of `blob <size>`, NUL, and the content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _listing(name: HubName) -> tuple[str, dict[str, Stated]]:
    """The commit that the revision means, and what the hub says about its files."""
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what concerns the user is in our errors
    with asking(name):
        info = HfApi().model_info(name.repository, revision=name.revision, files_metadata=True, timeout=_SECONDS)
    if info.sha is None or not pulled.COMMIT.fullmatch(info.sha):
        raise EngineError("the hub names no commit", where=str(name), hint="use another endpoint (HF_ENDPOINT)")
    stated = {}
    for each in info.siblings or ():
        checksum, in_lfs = each.lfs.sha256 if each.lfs else each.blob_id, bool(each.lfs)
        if checksum is None or not _CHECKSUMS[in_lfs].fullmatch(checksum):
            checksum = ""  # as `get` makes a path of it, it must not lead elsewhere
        stated[each.rfilename] = Stated(each.size or 0, checksum, in_lfs)
    return info.sha, stated


def _record(folder: Path, name: HubName) -> Record | None:
    try:
        return pulled.read_record(folder, name)
    except EngineError:  # it is written anew
        return None


def _is_whole(folder: Path, name: HubName, record: Record) -> bool:
    """Whether all files of a record are there with their checksums."""
    place = pulled.snapshot(folder, name, record.commit)
    return all(
        (place / file).is_file() and sha256_file(place / file) == held.sha256 for file, held in record.files.items()
    )
