"""The shape of a contract as a JSON Schema, draft 2020-12: it refuses a document exactly if pv.shapes.mismatches does.

One difference is left: JSON Schema takes 8.0 for a whole number, and a contract does not (PV-TYPE-001).

No keyword is used that draft 7 lacks but `$defs`, which is only pointed into, and a `$ref` has nothing beside it: what
knows older drafts reads the schema too.
"""

from typing import Any, TypeAlias

from pv.shapes import ANYTHING, FLAG, INTEGER, NUMBER, TEXT, Choice, ListOf, MapOf, Record, Shape
from pv.vocabulary import CONTRACT

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:pv-contracts:contract-1"

Schema: TypeAlias = dict[str, Any]

_TYPES = {TEXT: ("string", "number", "boolean"), NUMBER: ("number",), INTEGER: ("integer",), FLAG: ("boolean",)}
_NOT_NULL: Schema = {"not": {"type": "null"}}


def contract_schema(record: Record = CONTRACT) -> Schema:
    """The schema of documents that have a record's shape."""
    definitions: dict[int, tuple[str, Schema]] = {}
    root = _record(record, "", definitions)
    return {"$schema": DIALECT, "$id": ID, "title": "Contract", **root, "$defs": dict(definitions.values())}


def _record(record: Record, section: str, definitions: dict[int, tuple[str, Schema]]) -> Schema:
    """The schema of a record that stands at a section, the path of keys from the root.

    definitions  records that lists and mappings hold, by identity since they have no hash: the section that they were
                 met in first, and their schema; it grows
    """
    properties: dict[str, Schema] = {}
    required: list[str] = []
    either: list[Schema] = []
    for name, key in record.keys.items():
        value = _value(key.shape, f"{section}.{name}".lstrip("."), definitions)
        if key.required and not key.also:
            required.append(name)
            value = value or _NOT_NULL
        else:
            value = _or_null(value)
        if key.required and key.also:
            words = (name, *key.also)
            either.append({"anyOf": [{"required": [word], "properties": {word: _NOT_NULL}} for word in words]})
        what = f"in contracts of kind {key.kind}: {key.what}" if key.kind else key.what
        properties[name] = {"description": what, **value}
        for word in key.also:
            properties[word] = {"description": f"another spelling of {name}: {what}", **value}
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if either:
        schema["allOf"] = either
    return schema


def _value(shape: Shape, section: str, definitions: dict[int, tuple[str, Schema]]) -> Schema:
    """The schema of a value that is there."""
    if isinstance(shape, str):
        return {} if shape == ANYTHING else {"type": list(_TYPES[shape])}
    if isinstance(shape, Choice):
        return {"enum": list(shape.words)}
    if isinstance(shape, Record):
        return _record(shape, section, definitions)
    if isinstance(shape, ListOf):
        return {"type": ["array"], "items": _item(shape.item, section, definitions)}
    if isinstance(shape, MapOf):
        return {"type": ["object"], "additionalProperties": _item(shape.value, section, definitions)}
    item = _item(shape.record, section, definitions)
    return {"type": ["object", "array"], "additionalProperties": item, "items": item}


def _item(shape: Shape, section: str, definitions: dict[int, tuple[str, Schema]]) -> Schema:
    """The schema of a value in a list or in a mapping of names: of a record, where it is defined."""
    if not isinstance(shape, Record):
        return _value(shape, section, definitions)
    if id(shape) not in definitions:
        definitions[id(shape)] = section, _record(shape, section, definitions)
    return {"$ref": f"#/$defs/{definitions[id(shape)][0]}"}


def _or_null(schema: Schema) -> Schema:
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "type" in schema:
        types = schema["type"]
        return {**schema, "type": [*([types] if isinstance(types, str) else types), "null"]}
    return schema
