"""The store of artifacts: bytes that engines put out, kept elsewhere by their digest, through fsspec.

    <store>/sha256/<first two digits>/<sha256 of the bytes>

What lies there under its digest is read before it is kept, and replaced if it is damaged: what is read from there is
believed by its digest alone. Where a file system can rename, bytes arrive under another name first; an object store
shows an object only when it is whole.
"""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pv.errors import PvError

INSTALL = "pip install 'pv-contracts[store]'"
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Store:
    """A place of artifacts. files: the file system of fsspec; root: the folder in it."""

    url: str
    files: Any
    root: str

    def path(self, digest: str) -> str:
        return f"{self.root}/sha256/{digest[:2]}/{digest}"

    def shown(self, digest: str) -> str:
        return f"{self.url}/sha256/{digest[:2]}/{digest}"


def open_store(url: str) -> Store:
    """The store at a URL; nothing is asked of it yet. PvError where no library knows such a URL."""
    try:
        import fsspec
    except ImportError as error:
        what = f"[tool.pv] store needs a library that is not installed: {error}"
        raise PvError(what, hint=INSTALL) from None
    try:
        files, root = fsspec.core.url_to_fs(url)
    except Exception as error:  # whatever the library of the kind may raise: it is said
        hint = "stores other than folders need a library of their own beside fsspec: s3fs for s3, gcsfs for gs"
        raise PvError(f"[tool.pv] store cannot be used: {_told(error)}", where=url, hint=hint) from None
    return Store(url, files, root.rstrip("/"))


def size_in(store: Store, digest: str) -> int | None:
    """The size of what lies under a digest; None where nothing does. PvError where the store cannot be asked."""
    with _asking(store, digest):
        store.files.invalidate_cache()
        try:
            return int(store.files.size(store.path(digest)))
        except FileNotFoundError:
            return None


def put(store: Store, digest: str, source: Path) -> bool:
    """Send a file to the store under its digest; False if it is there already, whole.

    PvError for a file that does not have that digest, and where it does not arrive.
    """
    size = source.stat().st_size
    with source.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise PvError(f"has sha256 {found[:12]}.., not {digest[:12]}..", where=str(source))
    if size_in(store, digest) == size and digest_in(store, digest) == digest:
        return False
    target = store.path(digest)
    with _asking(store, digest):
        store.files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if _renames(store.files):
            part = f"{target}.{secrets.token_hex(8)}.part"
            try:
                store.files.put_file(str(source), part)
                store.files.mv(part, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    store.files.rm_file(part)
                raise
        else:
            store.files.put_file(str(source), target)
    arrived = size_in(store, digest)
    if arrived != size:
        raise PvError(f"{size} bytes were sent, and {arrived} are there", where=store.shown(digest))
    return True


def _renames(files: Any) -> bool:
    """Whether the file system moves a file in one step; what fsspec does without its help is a copy."""
    import fsspec

    return type(files).mv is not fsspec.AbstractFileSystem.mv


def digest_in(store: Store, digest: str) -> str | None:
    """sha256 of the bytes that lie under a digest; None where nothing does. PvError where they cannot be read."""
    found = hashlib.sha256()
    with _asking(store, digest):
        try:
            with store.files.open(store.path(digest), "rb") as stream:
                while block := stream.read(BLOCK):
                    found.update(block)
        except FileNotFoundError:
            return None
    return found.hexdigest()


def fetch(store: Store, digest: str, target: Path) -> str | None:
    """Bring what lies under a digest to a file, if that is its digest; return the digest that it has, None for nothing.

    PvError where it cannot be read or written. The file is there whole or not at all.
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    except OSError as error:
        raise PvError(f"cannot be written: {error.strerror}", where=str(target)) from None
    try:
        found = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream, _asking(store, digest):
            try:
                with store.files.open(store.path(digest), "rb") as source:
                    while block := source.read(BLOCK):
                        found.update(block)
                        stream.write(block)
            except FileNotFoundError:
                return None
        if found.hexdigest() == digest:
            os.chmod(name, 0o644)
            try:
                os.replace(name, target)
            except OSError as error:
                raise PvError(f"cannot be written: {error.strerror}", where=str(target)) from None
        return found.hexdigest()
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _asking(store: Store, digest: str) -> Iterator[None]:
    """What goes wrong on the way to the store, said in one line: each library has errors of its own."""
    try:
        yield
    except PvError:
        raise
    except Exception as error:
        raise PvError(f"the store cannot be used: {_told(error)}", where=store.shown(digest)) from None


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
