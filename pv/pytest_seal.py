"""What a trial came to, from the process that made it to the one that judges, so that no hook on the way changes it.

Reports pass through the hooks of every plugin and conftest.py. The text of a trial is therefore made when the trial
ends, kept here and not in the item, and sealed with a key of the run; what arrives with another seal is not believed.
"""

import hashlib
import hmac
import json
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from pv.canonical import encode
from pv.outcome import Outcome
from pv.statement import ModelSubject, OracleSubject, Record

_texts: "weakref.WeakKeyDictionary[pytest.Item, list[str]]" = weakref.WeakKeyDictionary()


def put(item: pytest.Item, record: Record, planted: str) -> None:
    """Keep what a trial of the item came to."""
    content = {"path": str(item.path), "planted": planted, "record": asdict(record)}
    _texts.setdefault(item, []).append(json.dumps(encode(content)))  # ASCII: a plain text passes every transport


def texts_of(item: pytest.Item) -> tuple[str, ...]:
    """What each trial of the item came to in this process, the newest last."""
    return tuple(_texts.get(item, ()))


def record_of(text: str) -> Record:
    content: dict[str, Any] = json.loads(text)["record"]
    content["outcome"] = Outcome(content["outcome"])
    content["model"] = ModelSubject(**content["model"]) if content["model"] else None
    content["oracle"] = OracleSubject(**content["oracle"]) if content["oracle"] else None
    return Record(**content)


def seal(key: bytes, node: str, text: str) -> str:
    return hmac.new(key, f"{node}\0{text}".encode(), hashlib.sha256).hexdigest()


def is_sealed(key: bytes, node: str, text: object, given: object) -> bool:
    return (
        isinstance(text, str)
        and isinstance(given, str)
        and hmac.compare_digest(seal(key, node, text).encode(), given.encode())
    )


def sealed_mapping(key: bytes, made: Mapping[str, str]) -> list[str]:
    """A mapping as a worker sends it when it ends."""
    text = json.dumps(made)
    return [text, seal(key, "", text)]


def opened_mapping(key: bytes, sent: object) -> dict[str, str] | None:
    """The mapping that a worker sent; None where it was changed on the way, or not sent."""
    if not (isinstance(sent, list) and len(sent) == 2 and is_sealed(key, "", *sent)):
        return None
    found: dict[str, str] = json.loads(sent[0])
    return found
