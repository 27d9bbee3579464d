import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Mismatch,
    Named,
    Record,
    described,
    mismatches,
    named,
    nearest,
)
from pv.yaml_loader import parse


def found(text: str, **keys: Key) -> list[Mismatch]:
    return list(mismatches(parse(text, "x.yaml"), Record(keys)))


@pytest.mark.parametrize(
    ("shape", "right", "wrong"),
    [
        (TEXT, ("t", "''", "no", "~"), ("[]", "{}")),
        (NUMBER, ("1", "1e-5", ".inf", "~"), ("'1'", "true", "[]", "{}")),
        (INTEGER, ("0", "-3", "0o17", "~"), ("1.0", "'1'", "true", "[]")),
        (FLAG, ("true", "false", "~"), ("no", "'true'", "0", "{}")),
        (ANYTHING, ("1", "[]", "{a: [b]}", "~"), ()),
        (Choice(("x", "y")), ("x", "'y'", "~"), ("z", "X", "''", "1", "[x]")),
        (ListOf(TEXT), ("[]", "[a, b]", "~"), ("a", "{}", "[~]", "[[a]]", "[a, {}]")),
        (MapOf(TEXT), ("{}", "{a: b}", "~"), ("a", "[]", "{a: ~}", "{a: [b]}")),
        (Record({"k": Key(TEXT)}), ("{}", "{k: t}", "{k: ~}", "{other: [1]}", "~"), ("[]", "t", "{k: []}")),
        (Named(Record({"k": Key(TEXT)})), ("{}", "[]", "{n: {k: t}}", "[{k: t}]", "~"),
         ("t", "{n: t}", "{n: ~}", "[t]", "[{k: []}]", "{n: {k: []}}")),
    ],
)  # fmt: skip
def test_a_value_has_its_shape_or_one_mismatch_says_that_it_has_not(shape, right, wrong):
    for value in right:
        assert found(f"key: {value}\n", key=Key(shape)) == [], value
    for value in wrong:
        (only,) = found(f"key: {value}\n", key=Key(shape))
        assert only.place[0] == "key", value
        assert only.kind in (TYPE, CHOICE)


@pytest.mark.parametrize(("value", "shown"), [("1.10", "1.1"), ("true", "true"), ("-3", "-3")])
def test_a_number_or_a_flag_where_text_is_meant_is_read_and_told(value, shown):
    (only,) = found(f"key: [a, {value}]\n", key=Key(ListOf(TEXT)))
    assert (only.kind, only.place, only.message) == (LOOSE, ("key", 1), f"key[1] is {shown}, and text is meant here")


@pytest.mark.parametrize(
    ("shape", "value", "message", "hint"),
    [
        (TEXT, "{a: b}", "key must be text, not a mapping", "text with ': ' in it needs quotes"),
        (TEXT, "[a]", "key must be text, not a list",
         "text that begins with '[' needs quotes; several lines go below '|'"),
        (NUMBER, "8 ULP", "key must be a number, not '8 ULP'", "write it without quotes and units"),
        (INTEGER, "8.5", "key must be a whole number, not 8.5", ""),
        (FLAG, "no", "key must be true or false, not 'no'", ""),
        (Choice(("ready", "done")), "reday", "key: 'reday' is not known", "did you mean 'ready'?"),
        (Choice(("ready", "done")), "[ready]", "key must be text, not a list",
         "text that begins with '[' needs quotes; several lines go below '|'"),
        (ListOf(TEXT), "a", "key must be a list, not 'a'", "put each item on a line of its own, behind '- '"),
        (ListOf(MapOf(NUMBER)), "[{}, {n: t}]", "key[1].n must be a number, not 't'",
         "write it without quotes and units"),
        (MapOf(TEXT), "[]", "key must be a mapping, not a list", ""),
        (MapOf(TEXT), "{a: ~}", "key.a must be text, not nothing", ""),
        (Named(Record({})), "t", "key must be a mapping, not 't'", ""),
    ],
)  # fmt: skip
def test_a_mismatch_says_where_what_is_wanted_what_is_there_and_what_to_do(shape, value, message, hint):
    (only,) = found(f"key: {value}\n", key=Key(shape))
    assert (only.message, only.hint) == (message, hint)


def test_a_required_key_that_is_missing_is_told_at_the_entry_and_an_empty_one_at_the_key():
    key = Key(ListOf(Record({"id": Key(TEXT, required=True, also=("name",))})))
    tests = found("tests: [{}, {id: ~}, {name: ~}, {id: ~, name: n}, {id: i}]\n", tests=key)
    assert [(at.kind, at.place, at.message) for at in tests] == [
        (REQUIRED, ("tests", 0), "tests[0] lacks 'id'"),
        (REQUIRED, ("tests", 1, "id"), "tests[1] lacks 'id'"),
        (REQUIRED, ("tests", 2, "name"), "tests[2] lacks 'id'"),
    ]
    (top,) = found("other: 1\n", tests=Key(TEXT, required=True))
    assert (top.place, top.message) == ((), "the contract lacks 'tests'")


def test_another_spelling_has_the_shape_of_its_key():
    (only,) = found("name: [1]\n", id=Key(TEXT, also=("title", "name")))
    assert only.place == ("name",)


def test_what_is_below_a_key_of_ours_is_ours():
    keys = {"mine": Key(ListOf(Record({"k": Key(TEXT, required=True)})), ours=True), "theirs": Key(TEXT)}
    assert [(at.place, at.ours) for at in found("mine: [{}, {k: []}]\ntheirs: []\n", **keys)] == [
        (("mine", 0), True),
        (("mine", 1, "k"), True),
        (("theirs",), False),
    ]


def test_a_document_that_is_no_mapping_has_no_shape_to_break():
    assert found("[1]", key=Key(TEXT, required=True)) == []


@pytest.mark.parametrize(
    ("keys", "free", "message"),
    [
        ({"a": Key(TEXT, also=("b",)), "b": Key(TEXT)}, {}, "two keys share a spelling"),
        ({"a": Key(TEXT, also=("c",)), "b": Key(TEXT, also=("c",))}, {}, "two keys share a spelling"),
        ({"a": Key(TEXT, also=("b",))}, {"b": ""}, "a key is both read and free"),
    ],
)
def test_a_record_whose_spellings_are_ambiguous_cannot_be_made(keys, free, message):
    with pytest.raises(AssertionError, match=f"^{message}"):
        Record(keys, free)


def test_a_place_in_words():
    assert named(("falsification_tests", 2, "prediction")) == "falsification_tests[2].prediction"
    assert named((0, "a")) == "[0].a"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        ("x" * 40, repr("x" * 40)),
        ("x" * 41, "text"),
        (True, "true"),
        (1.5, "1.5"),
        ([], "a list"),
        ({}, "a mapping"),
    ],
)
def test_a_value_in_words(value, words):
    assert described(value) == words


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("algoritm", ("live", "algorithm"), "did you mean 'algorithm'?"),
        ("LIVE", ("live", "algorithm"), "did you mean 'live'?"),
        ("zzz", ("live", "algorithm"), "known: live, algorithm"),
        ("zzz", (), "there is none"),
        ("zzz", [f"w{i}" for i in range(33)], f"known: {', '.join(f'w{i}' for i in range(32))}, .."),
        ("last", [*(f"w{i}" for i in range(64)), "last"], f"known: {', '.join(f'w{i}' for i in range(32))}, .."),
    ],
)
def test_the_nearest_known_word_is_the_hint_or_all_of_them(word, known, hint):
    assert nearest(word, known) == hint


@given(st.text(min_size=1, max_size=100), st.lists(st.text(min_size=1), max_size=5))
def test_a_known_word_is_nearest_to_itself(word, others):
    assert nearest(word, [*others, word]) == f"did you mean {word!r}?"
