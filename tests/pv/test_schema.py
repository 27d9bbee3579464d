import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from pv.cli import main
from pv.schema import contract_schema
from pv.shapes import (
    ANYTHING,
    CHOICE,
    FLAG,
    INTEGER,
    LOOSE,
    NUMBER,
    REQUIRED,
    TEXT,
    TYPE,
    Choice,
    Key,
    ListOf,
    MapOf,
    Named,
    Record,
    inner,
    mismatches,
)
from pv.vocabulary import CONTRACT
from pv.yaml_loader import Document, parse

ROOT = Path(__file__).parents[2]
OURS = sorted([*(ROOT / "contracts").rglob("*.yaml"), *(ROOT / "tests/contracts/good").rglob("*.yaml")])
SHAPELESS = [
    path
    for name in ("type-001", "type-002", "type-003")
    for path in sorted((ROOT / "tests/contracts/bad").glob(f"pv-{name}-*.yaml"))
]
VALIDATORS = [kind(contract_schema()) for kind in (Draft202012Validator, Draft7Validator)]
"""The second shows what somebody sees whose editor knows draft 7 and nothing newer."""


def refused(value, record=CONTRACT) -> set[str]:
    """The kinds of mismatches in a value; the schema refuses it exactly if there are some."""
    document = Document(value, "", (), (None, None, None, None))
    kinds = {found.kind for found in mismatches(document, record)} - {LOOSE}
    validators = VALIDATORS if record is CONTRACT else [Draft202012Validator(contract_schema(record))]
    for validator in validators:
        assert validator.is_valid(value) is not bool(kinds), (
            value,
            [error.message for error in validator.iter_errors(value)],
        )
    return kinds


def read(path):
    return parse(path.read_bytes(), str(path)).value


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_schema_accepts_a_good_contract(path):
    assert refused(read(path)) == set()


@pytest.mark.parametrize("path", SHAPELESS, ids=lambda path: path.stem)
def test_the_schema_refuses_a_contract_of_another_shape(path):
    kind = {"1": TYPE, "2": REQUIRED, "3": CHOICE}[path.name[len("pv-type-00")]]
    assert refused(read(path)) == {kind}


def least(record: Record) -> dict:
    """A mapping with the record's required keys alone."""
    return {name: valid(key.shape) for name, key in record.keys.items() if key.required}


def valid(shape):
    if isinstance(shape, Record):
        return least(shape)
    if isinstance(shape, Choice):
        return shape.words[0]
    return (
        {TEXT: "t", NUMBER: 0.5, INTEGER: 1, FLAG: True, ANYTHING: 0}.get(shape)
        if isinstance(shape, str)
        else []
        if isinstance(shape, ListOf)
        else {}
    )


def holders(shape, wrap=lambda value: value):
    """Every record of a shape, with a function that puts a value of it into the least document."""
    if isinstance(shape, Record):
        yield shape, wrap
        for name, key in shape.keys.items():
            for word in (name, *key.also):
                yield from holders(key.shape, lambda value, word=word: wrap({**least(shape), word: value}))
    elif isinstance(shape, ListOf | MapOf | Named):
        if not isinstance(shape, MapOf):
            yield from holders(inner(shape), lambda value: wrap([value]))
        if not isinstance(shape, ListOf):
            yield from holders(inner(shape), lambda value: wrap({"n": value}))


VALUES = (None, "", "t", 0, 7, -1.5, math.inf, math.nan, True, [], {}, [None], ["t"], [0.5], [[]], [{}], {"n": None},
          {"n": "t"}, {"n": []}, {"n": {}}, {"n": {"n": "t"}}, [{"id": "t"}], {"id": {}})  # fmt: skip


def test_schema_and_rules_agree_about_every_key_and_values_of_every_type():
    seen = dict.fromkeys(("", TYPE, REQUIRED, CHOICE), 0)
    for record, put in holders(CONTRACT):
        for name, key in record.keys.items():
            words = (name, *key.also)
            without = {word: value for word, value in least(record).items() if word != name}
            assert refused(put(without)) == ({REQUIRED} if key.required else set())
            for word in words:
                for value in VALUES:
                    for kind in refused(put({**without, word: value})) or {""}:
                        seen[kind] += 1
            if isinstance(key.shape, Choice):
                assert all(
                    refused(put({**without, word: choice})) == set() for word in words for choice in key.shape.words
                )
    assert min(seen.values()) > 10


@pytest.mark.parametrize("shape", [TEXT, ANYTHING])
def test_a_required_key_is_there_under_one_of_its_spellings_and_is_not_null(shape):
    record = Record({"a": Key(shape, required=True, also=("b", "c")), "d": Key(shape, required=True)})
    accepted = 0
    for there in itertools.product(("no", None, "t"), repeat=4):
        value = {word: value for word, value in zip("abcd", there, strict=True) if value != "no"}
        wanted = value.get("d") == "t" and "t" in (value.get("a"), value.get("b"), value.get("c"))
        assert refused(value, record) == (set() if wanted else {REQUIRED})
        accepted += wanted
    assert accepted == 27 - 8


NAMES = st.sampled_from("abcdef")
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats().filter(lambda x: not x.is_integer())
)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES | st.just("id"), below, max_size=3)
)


@st.composite
def records(draw, below):
    names = draw(st.permutations("abcdef"))
    keys = {}
    for _ in range(draw(st.integers(0, 3))):
        also = tuple(names.pop() for _ in range(draw(st.integers(0, 1))))
        keys[names.pop()] = Key(draw(below), required=draw(st.booleans()), also=also)
    return Record(keys)


SHAPES = st.recursive(
    st.sampled_from([TEXT, NUMBER, INTEGER, FLAG, ANYTHING, Choice(("x", "y"))]),
    lambda below: below.map(ListOf) | below.map(MapOf) | records(below) | records(below).map(Named),
    max_leaves=8,
)


def values(shape):
    """Values that nearly always have the shape."""
    if shape == ANYTHING:
        return JSON
    if isinstance(shape, str):
        fitting = {
            TEXT: st.text(max_size=3) | st.integers() | st.booleans(),
            NUMBER: st.integers() | SCALARS.filter(lambda value: isinstance(value, float)),
            INTEGER: st.integers(),
            FLAG: st.booleans(),
        }[shape]
    elif isinstance(shape, Choice):
        fitting = st.sampled_from(shape.words)
    elif isinstance(shape, Record):
        fitting = mappings(shape)
    elif isinstance(shape, ListOf):
        fitting = st.lists(values(shape.item), max_size=2)
    else:
        fitting = st.dictionaries(NAMES, values(inner(shape)), max_size=2)
        if isinstance(shape, Named):
            fitting |= st.lists(values(shape.record), max_size=2)
    return st.integers(0, 9).flatmap(lambda at: JSON if at == 9 else fitting)


@st.composite
def mappings(draw, record):
    """Required keys are seldom missing or null, most others are; a key has any of its spellings, or two of them."""
    value = {}
    chosen = draw(st.sets(st.sampled_from(sorted(record.keys)), max_size=3)) if record.keys else ()
    for name, key in record.keys.items():
        if name in chosen or key.required:
            absent = draw(st.integers(0, 9)) == 9
            for word in draw(st.lists(st.sampled_from((name, *key.also)), min_size=1, max_size=2)):
                if not absent:
                    value[word] = draw(values(key.shape))
                elif draw(st.booleans()):
                    value[word] = None
    return value | draw(st.dictionaries(st.sampled_from("xyz"), JSON, max_size=1))


@given(st.data())
def test_schema_and_rules_agree_about_any_document_of_any_vocabulary(data):
    record = data.draw(records(SHAPES))
    Draft202012Validator.check_schema(contract_schema(record))
    refused(data.draw(mappings(record)), record)


@given(mappings(CONTRACT))
def test_schema_and_rules_agree_about_documents_made_from_the_vocabulary(document):
    refused(document)


def test_a_whole_number_with_a_fraction_of_zero_is_the_one_difference():
    document = {"metadata": {"description": "d", "demand_score": 3.0}}
    (only,) = mismatches(Document(document, "", (), (None, None, None, None)), CONTRACT)
    assert only.message == "metadata.demand_score must be a whole number, not 3.0"
    assert all(validator.is_valid(document) for validator in VALIDATORS)


def test_the_schema_is_one_of_draft_2020_12_and_of_draft_7():
    schema = contract_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["$id"], schema["title"]) == ("urn:pv-contracts:contract-1", "Contract")
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)


def parts(schema):
    yield schema
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            yield from parts(value)


def test_a_reference_stands_alone_and_points_to_a_definition():
    schema = contract_schema()
    references = [part for part in parts(schema) if "$ref" in part]
    assert {part["$ref"] for part in references} == {f"#/$defs/{name}" for name in schema["$defs"]}
    assert all(len(part) == 1 for part in references)


def test_an_editor_can_say_something_about_every_key():
    schema = contract_schema()
    keys = [key for part in parts(schema) if "properties" in part for key in part["properties"].items()]
    assert [name for name, value in keys if not value.get("description")] == []
    told = {name: value["description"] for name, value in schema["$defs"]["proof_obligations"]["properties"].items()}
    assert told["statement"] == f"another spelling of property: {told['property']}"
    assert schema["properties"]["target"]["description"] == "in contracts of kind kaizen: the same metrics after it"


def test_pv_schema_prints_the_schema(capsys):
    assert main(["schema"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (contract_schema(), "")
