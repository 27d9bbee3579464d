"""What a model is, as one number: traces, evidence and `apr inspect` name it by the sha256 of what it consists of."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from engine.errors import EngineError


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; raises EngineError for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=str(path)) from None


def sha256_list(digests: Mapping[str, str]) -> str:
    """The sha256 of what `sha256sum` prints of files {name: sha256}, sorted by name: names and contents decide.

    A line for each: its sha256, two spaces, its name, a line feed. Names are sorted by their bytes (LC_ALL=C).
    """
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests, key=str.encode))
    return hashlib.sha256(lines.encode()).hexdigest()
