"""Reading of JSON and other text beside a model: small files, from anywhere, of which a broken one is one error."""

import json
import stat
from pathlib import Path
from typing import Any

from engine.errors import EngineError, brief

MAX_BYTES = 256 * 2**20
"""What such a file may have; tokenizer.json of today has up to 35 MB."""
_AGAIN = "the file is damaged or its download was cut short: obtain it again"


def read_text(path: Path) -> str:
    """A file of text; raises EngineError for one that is missing, too large or not UTF-8."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EngineError("is not a regular file", where=str(path), hint=_AGAIN)
        if status.st_size > MAX_BYTES:
            raise EngineError(f"is larger than {MAX_BYTES} bytes", where=str(path), hint="no known model needs that")
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise EngineError("is not UTF-8", where=f"{path}: offset {error.start}", hint=_AGAIN) from None
    except FileNotFoundError:
        raise EngineError("no such file", where=str(path), hint="obtain the folder again, with all its files") from None
    except OSError as error:
        raise EngineError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint="check the file"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises EngineError for one that is missing, or holds anything else."""
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path) -> dict[str, Any]:
    """The object in the text of a JSON file, as read_json."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise EngineError(f"is not JSON: {error.msg}", where=f"{path}:{error.lineno}", hint=_AGAIN) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, objects within objects
        raise EngineError(f"is not JSON that can be read: {error}", where=str(path), hint=_AGAIN) from None
    if not isinstance(found, dict):
        raise EngineError(f"holds {brief(found)}, not an object", where=str(path), hint=_AGAIN)
    return found
