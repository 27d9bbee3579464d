"""Which files of evidence a version has, and which of them another one lost."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pv.canonical import sha256


def digests(folder: Path) -> dict[str, str]:
    """Every file below the evidence folder by its path in it, with the digest of its bytes; unfinished ones left out."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            if not (name.startswith(".") and name.endswith(".part")):
                path = Path(place, name)
                found[path.relative_to(folder).as_posix()] = _digest(path)
    return found


def _digest(path: Path) -> str:
    """The digest of a regular file; of anything else what it is, which equals no digest."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "no regular file"
    try:
        return sha256(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def lost_evidence(old: Mapping[str, str], new: Mapping[str, str], released: Collection[str]) -> list[tuple[str, str]]:
    """Files that are gone or have other bytes, each with which of the two; but for those whose digests were released."""
    lost = []
    for name, digest in sorted(old.items()):
        if name not in new:
            if digest not in released:
                lost.append((name, "gone"))
        elif new[name] != digest:
            lost.append((name, "changed"))
    return lost


def released(folder: Path) -> frozenset[str]:
    """The digests of records that the evidence folder says were taken out on purpose."""
    return frozenset()
