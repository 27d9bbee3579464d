"""Canonical JSON (RFC 8785), so that one value has one sequence of bytes and one digest.

JSON has no NaN and no infinities. `encode` writes them as the texts "NaN", "Infinity" and "-Infinity"; it stands at the
boundary of a record, and nothing turns the texts back into numbers.
"""

import hashlib
import json
import math
from typing import Any, TypeAlias

from pv.errors import PvError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

EXACT = 2**53 - 1  # RFC 8785 numbers are IEEE doubles: a larger integer would lose digits without a word


def encode(value: Any, *, where: str = "") -> Json:
    """The JSON value of None, bools, numbers, text, lists, tuples and mappings with text keys.

    Non-finite floats become texts, lone surrogates become backslash escapes. PvError for an integer beyond 2^53 - 1,
    a key that is no text, and any other type.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int):
        if abs(value) > EXACT:
            raise PvError(f"{value} is not exact as a JSON number", where=where, hint="write it as text, in quotes")
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [encode(element, where=where) for element in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise PvError(f"the key {key!r} is no text", where=where, hint="put it in quotes")
        return {str(encode(key)): encode(element, where=where) for key, element in value.items()}
    raise PvError(f"{type(value).__name__} has no place in JSON", where=where)


def canonical(value: Any, *, where: str = "") -> bytes:
    """RFC 8785 bytes of `encode(value)`."""
    return canonical_json(encode(value, where=where))


def canonical_json(value: Json) -> bytes:
    """RFC 8785 bytes of what is JSON already. ValueError for a lone surrogate, which UTF-8 cannot hold."""
    if _is_plain(value):  # twenty times faster, and the same bytes
        return _ENCODER.encode(value).encode()
    import rfc8785

    return bytes(rfc8785.dumps(value))


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _is_plain(value: Json) -> bool:
    """Whether Python's own JSON is canonical for the value: no floats, and keys whose order UTF-16 does not change."""
    found = [value]
    for element in found:  # grows while it is walked
        if isinstance(element, str):
            continue
        if isinstance(element, dict):
            if not all(map(str.isascii, element)):
                return False
            found += element.values()
        elif isinstance(element, list):
            found += element
        elif isinstance(element, float):
            return False
    return True


def parse(data: bytes) -> Json:
    """The value of canonical bytes. ValueError for anything that is not JSON, a duplicate key, or a NaN literal."""
    value: Json = _DECODER.decode(data.decode("utf-8"))
    return value


def _integer(digits: str) -> int | float:
    number = int(digits) if len(digits) <= 17 else 2**60
    return number if abs(number) <= EXACT else float(digits)  # 1e20 is written 100000000000000000000


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice")
    return mapping


def _refuse(literal: str) -> float:
    raise ValueError(f"{literal} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, object_pairs_hook=_unique, parse_constant=_refuse)


def sha256(data: bytes) -> str:
    """Digest in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any, *, where: str = "") -> str:
    """sha256 of the canonical bytes."""
    return sha256(canonical(value, where=where))
