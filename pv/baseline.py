"""The file of the findings that were known when it was written: they reject nothing, every other finding does.

Schema pv-baseline/1, one finding a line:

    {"schema": "pv-baseline/1", "findings": [
    {"rule": "SCHEMA-009", "path": "contracts/x.yaml", "message": "T-1 does not say ..", "count": 1}
    ]}

A finding is known by its rule, by its file's path from the root of the project, and by its message without numbers of
lines and folders of files: it stays known when it moves within its file, and in whatever folder pv is called.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from pv.errors import PvError
from pv.findings import Finding
from pv.places import place_of

SCHEMA = "pv-baseline/1"
FIRST_LINE = 2
"""The line of the first finding in a file that was written here."""

NUMBERS = re.compile(r"(?<=\bline) \d+|(?<=\.yaml):\d+|(?<=\.yml):\d+")
"""Numbers of lines in a message."""


class Key(NamedTuple):
    """What stays the same of a finding while its file is edited elsewhere."""

    rule: str
    path: str
    message: str


def key_of(found: Finding, root: Path) -> Key:
    return Key(found.rule, place_of(found.path, root), _settled(found.message))


def _settled(message: str) -> str:
    """A message without what changes with lines elsewhere, and with the folder that pv is called in."""
    words = (word[word.rfind("/") + 1 :] if ".yaml" in word or ".yml" in word else word for word in message.split(" "))
    return NUMBERS.sub("", " ".join(words))


def read(file: Path) -> Counter[Key]:
    """The known findings with their counts. PvError where there is no such file or it is damaged."""
    where = str(file)
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        hint = "write it with --write-baseline, or take it out of [tool.pv]"
        raise PvError("there is no such baseline", where=where, hint=hint) from None
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError:
        raise PvError("is not UTF-8", where=where, hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise PvError(f"is no JSON: {error}", where=where) from None
    entries = content.get("findings") if isinstance(content, dict) and content.get("schema") == SCHEMA else None
    if not isinstance(entries, list):
        raise PvError(f"is no baseline of schema {SCHEMA}", where=where)
    known: Counter[Key] = Counter()
    for index, entry in enumerate(entries):
        known[_key(entry, f"{where}: findings[{index}]")] += entry["count"]
    return known


def _key(entry: Any, where: str) -> Key:
    names = Key._fields
    if not isinstance(entry, dict) or entry.keys() != {*names, "count"}:
        raise PvError(f"must have {', '.join(names)} and count", where=where)
    if not all(isinstance(entry[name], str) for name in names):
        raise PvError(f"{', '.join(names)} must be text", where=where)
    if type(entry["count"]) is not int or entry["count"] < 1:
        raise PvError(f"count must be a whole number of at least 1, not {entry['count']!r}", where=where)
    return Key(*(entry[name] for name in names))


def rendered(known: Counter[Key]) -> str:
    """The text of the file, always the same for the same findings."""
    lines = [json.dumps({**key._asdict(), "count": known[key]}) for key in sorted(known)]
    return f'{{"schema": "{SCHEMA}", "findings": [\n' + ",\n".join(lines) + "\n]}\n"


def lines_of(file: Path, known: Counter[Key]) -> dict[Key, int]:
    """The line of each finding in the file; none where somebody else has laid it out."""
    if file.read_text(encoding="utf-8") != rendered(known):
        return {}
    return {key: line for line, key in enumerate(sorted(known), FIRST_LINE)}


def write(file: Path, known: Counter[Key]) -> None:
    """Write a baseline, whole or not at all. PvError where that cannot be done."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
        try:
            with open(handle, "w", encoding="utf-8") as stream:
                stream.write(rendered(known))
            os.chmod(name, 0o644)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise PvError(f"cannot be written: {error.strerror}", where=str(file)) from None
