"""The shape of a contract as a JSON Schema, draft 2020-12: what pv.shapes.mismatches refuses, the schema refuses.

One difference is left: 8.0 is a whole number in JSON Schema and none in a contract (PV-TYPE-001).

A reference stands alone in its schema, and there is no keyword that draft 7 lacks but `$defs`, which is only pointed
into: editors that know older drafts read the schema too.
"""

from typing import Any, TypeAlias

from pv.shapes import ANYTHING, FLAG, INTEGER, NUMBER, TEXT, Choice, ListOf, MapOf, Record, Shape
from pv.vocabulary import CONTRACT

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:pv-contracts:contract-1"
TITLE = "Contract: what a program promises, and what tries to break it"

Schema: TypeAlias = dict[str, Any]

_SCALARS: dict[str, list[str]] = {
    TEXT: ["string", "number", "boolean"],
    NUMBER: ["number"],
    INTEGER: ["integer"],
    FLAG: ["boolean"],
}


def contract_schema(record: Record = CONTRACT) -> Schema:
    """The schema of documents of a record's shape: JSON values, made anew for each call."""
    definitions: dict[str, Schema] = {}
    root = _Definitions(definitions).record(record, "")
    return {"$schema": DIALECT, "$id": ID, "title": TITLE, **root, "$defs": definitions}


class _Definitions:
    """Makes schemas of shapes. Those of records in lists and mappings are entered by the place of the first of them."""

    def __init__(self, entered: dict[str, Schema]) -> None:
        self.entered = entered
        self.names: dict[int, str] = {}  # by identity: records hold mappings, which have no hash

    def record(self, record: Record, section: str) -> Schema:
        properties: dict[str, Schema] = {}
        present: list[Schema] = []
        for name, key in record.keys.items():
            words = (name, *key.also)
            alone = key.required and not key.also
            for word in words:
                schema = self.shape(key.shape, f"{section}.{name}".lstrip("."))
                what = key.what if word == name else f"another spelling of {name}: {key.what}"
                properties[word] = {"description": what, **(schema if alone else _or_null(schema))}
            if key.required and key.also:
                present.append({"anyOf": [_present(word) for word in words]})
        required = [name for name, key in record.keys.items() if key.required and not key.also]
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            **({"allOf": present} if present else {}),
        }

    def shape(self, shape: Shape, section: str) -> Schema:
        """What a value that is there must be."""
        if isinstance(shape, str):
            return {} if shape == ANYTHING else {"type": list(_SCALARS[shape])}
        if isinstance(shape, Choice):
            return {"enum": list(shape.words)}
        if isinstance(shape, Record):
            return self.record(shape, section)
        if isinstance(shape, ListOf):
            return {"type": "array", "items": self.item(shape.item, section)}
        if isinstance(shape, MapOf):
            return {"type": "object", "additionalProperties": self.item(shape.value, section)}
        item = self.item(shape.record, section)
        return {"type": ["object", "array"], "additionalProperties": item, "items": dict(item)}

    def item(self, shape: Shape, section: str) -> Schema:
        if not isinstance(shape, Record):
            return self.shape(shape, section)
        if id(shape) not in self.names:
            self.names[id(shape)] = section
            self.entered[section] = self.record(shape, section)
        return {"$ref": f"#/$defs/{self.names[id(shape)]}"}
