import gc
import math
import re
import tracemalloc

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pv import yaml_loader
from pv.yaml_loader import MAX_BYTES, MAX_DEPTH, Position, YamlError, load, parse

PARSERS = [yaml_loader.pure_parser] + ([yaml_loader.c_parser] if yaml.__with_libyaml__ else [])


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__.strip("_"))
def parser(request, monkeypatch):
    monkeypatch.setattr(yaml_loader, "_parser", request.param)


TEXT = """yes no on off y n tRue NO 1_000 0b11 0o8 0x 12:30 1:30:00 2026-01-31 1.2.3 1e 1.e . + .e5 e5 infinity nan =
    nUll ~x -x -.5.0 0x1.8 .Nan +.nan ++1 1- 1,000 \u0661"""


def value(text):
    return load(text, "x.yaml").value


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1e-5", 1e-5),
        ("1.0e-5", 1e-5),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        ("+12", 12),
        ("-12", -12),
        ("017", 17),
        ("0o17", 15),
        ("0xFf", 255),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("!!float 1", 1.0),
        ("!!int 1", 1),
        ("!!null ''", None),
        ("!!seq [!!map {}]", [{}]),
        *[(word, word) for word in TEXT.split()],
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\u00e9\\x00"', "é\0"),
        ("|-\n  a\n  b", "a\nb"),
        (">-\n  a\n  b", "a b"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(parser, text, meaning):
    got = value(f"key: {text}\n")["key"]
    assert got == meaning
    assert type(got) is type(meaning)
    assert math.copysign(1, got) == math.copysign(1, meaning) if isinstance(got, float) else True


def test_not_a_number_is_one(parser):
    assert math.isnan(value(".nan"))


def test_keys_are_text(parser):
    assert value("{1: a, no: b, true: c, 2026-01-31: d, null: e, 0x10: f}") == {
        "1": "a",
        "no": "b",
        "true": "c",
        "2026-01-31": "d",
        "null": "e",
        "0x10": "f",
    }


def test_an_alias_repeats_its_anchor(parser):
    assert value("a: &x [1, {b: &y 2}]\nc: *x\nd: *y\n&k e: *k\n") == {
        "a": [1, {"b": 2}],
        "c": [1, {"b": 2}],
        "d": 2,
        "e": "e",
    }


def test_an_anchor_may_be_set_again(parser):
    assert value("[&x 1, *x, &x 2, *x]") == [1, 1, 2, 2]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_text_holds_nothing(parser, text):
    document = load(text, "x.yaml")
    assert document.value is None
    assert document.position(()).line >= 1


REFUSED = [
    ("a: 1\nb: 2\na: 3\n", "3:1", "the key 'a' occurs twice, first in line 1"),
    ("a:\n  1: x\n  '1': y\n", "3:3", "the key '1' occurs twice, first in line 2"),
    ("a: 1\n--- \nb: 2\n", "2:1", "a second YAML document begins here"),
    ("<<: {a: 1}\n", "1:1", r"merge keys \(<<\) are not supported: YAML 1.2 has none"),
    ("a: !!python/object/apply:os.system [ls]\n", "1:4", "the tag !!python/object/apply:os.system is not allowed here"),
    ("a: !mine x\n", "1:4", "the tag !mine is not allowed here"),
    ("a: !!binary x\n", "1:4", "the tag !!binary is not allowed here"),
    ("a: !!int x\n", "1:4", "the tag !!int is not allowed here"),
    ("a: !!set {x}\n", "1:4", "the tag !!set is not allowed here"),
    ("!mine a: 1\n", "1:1", "the tag !mine is not allowed here"),
    ("? [a]\n: 1\n", "1:3", "a key must be a word or quoted text"),
    ("? {a: 1}\n: 1\n", "1:3", "a key must be a word or quoted text"),
    ("a: &x 1\n*x : 2\n", "2:1", "a key must be a word or quoted text"),
    ("{a: 1, ? }\n", "1:(9|10)", "a key is missing before ':'"),
    ("a: *x\n", "1:4", r"the alias \*x has no anchor before it"),
    ("a: &x [*x]\n", "1:8", r"the alias \*x stands inside its own anchor"),
    ("a: 1e999\n", "1:4", "1e999 is too large for a float64"),
    ("a: " + "9" * 5000 + "\n", "1:4", r"9{37}\.\.\. has more than 400 digits"),
    ("[" * 90, "1:65", "is nested deeper than 64 levels"),
    ("- " * 90, "1:129", "is nested deeper than 64 levels"),
    ("a:\n\t- b\n", "2:1", "a tab stands where YAML wants spaces: .*"),
    ("a: b: c\n", "1:5", "mapping values are not allowed .*"),
    ("a: @b\n", "1:4", "found character .*that cannot start any token.*"),
    ("a: [1\nb: 2\n", "2:.", "(did not find )?expected ',' or ']'.*"),
    ("a: 'x\n", "1:4", "found unexpected end of stream .*"),
    ("a: 1\n b: 2\n", "2:3", "mapping values are not allowed .*"),
    ("a: \x00\n", "1:4", "a NUL character is not allowed in YAML"),
    ("a\n\nb: \x1b[31m\n", "3:4", r"the character U\+001B is not allowed in YAML"),
    ("a: \u2028b: 1\n", "1:4", r"the character U\+2028 is a line break to YAML 1.1 only"),
    ("a: \ud800\n", "1:4", r"the character U\+D800 is not allowed in YAML"),
    ("é: 1\r\rb: ü\x85\n", "3:5", r"the character U\+0085 is a line break to YAML 1.1 only"),
    (b"a: 1\r\nb: \xc3\xa9 \xe9\n", "2:6", "byte 0xE9 is not UTF-8"),
    (b"a: 1\n".decode().encode("utf-16"), "1:1", "is UTF-16, not UTF-8"),
    ("a: 1\n".encode("utf-16-le"), "1:1", "is UTF-16, not UTF-8"),
    ("a: 1\n".encode("utf-16-be"), "1:1", "is UTF-16, not UTF-8"),
    ("a: 1\n".encode("utf-32"), "1:1", "is UTF-32, not UTF-8"),
    ("a: 1\n".encode("utf-32-be"), "1:1", "is UTF-32, not UTF-8"),
    ('a: "\\U99999999"\n', r"1:\d+", "(found invalid|did not find|invalid Unicode|cannot be parsed).*"),
    (b"\x00\x01\xff\xfe", "1:3", "byte 0xFF is not UTF-8"),
    (b"GGUF\x03" + bytes(60), "1:1", "is binary data, not text"),
    (b"GGUF\x03" + bytes(MAX_BYTES), "1:1", "is binary data, not text"),
    (b"a: \0\0\n", "1:4", "a NUL character is not allowed in YAML"),
    (b"a" * (MAX_BYTES + 1), "1:1", "is longer than 4194304 bytes"),
]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a: {<<: {b: 1}, c: 2}\n", [("a", "<<")]),
        ("a:\n- x\n- !mine y\n- {b: !mine [1]}\n", [("a", 1), ("a", 2, "b")]),
        ("!mine {a: 1}\n", [()]),
        ("a: &x {<<: {}}\nb: [1, *x]\n", [("a", "<<"), ("b", 1)]),
        ("a: &x !mine 1\nb: *x\nc: &x 1\nd: *x\n", [("a",), ("b",)]),
        ("a: &x !mine {}\nb: &x {}\nc: *x\n", [("a",)]),
        ("a: &y [&x {<<: {}}]\nb: *y\nc: &y []\nd: *y\n", [("a", 0, "<<"), ("b",)]),
        ("'<<': 1\na: !!str 1\nb: <<\n", []),
    ],
)
def test_parse_collects_merge_keys_and_tags_wherever_an_alias_carries_them(parser, text, paths):
    document = parse(text, "x.yaml")
    assert [odd.path for odd in document.oddities] == paths
    assert [odd.merge for odd in document.oddities] == [path[-1:] == ("<<",) for path in paths]


def test_what_is_odd_stands_in_the_value_as_it_was_written(parser):
    assert parse("a: {<<: {b: 1}, c: !mine 2}\n", "x.yaml").value == {"a": {"<<": {"b": 1}, "c": "2"}}


@pytest.mark.parametrize(("text", "place", "message"), REFUSED)
def test_what_is_refused_is_named_with_its_place(parser, text, place, message):
    with pytest.raises(YamlError, match=rf"^x\.yaml:{place}: {message}(\n|$)"):
        load(text, "x.yaml")


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [", "1:4"),
        ("a: [\n", "1:4"),
        ("a: {b: [1, 2\n# c\n", "1:8"),
        ("a: [1,\n", "1:4|1:6"),
        ('x: 1\na: "open\n\n\n', "2:4"),
        ("x: 1\na: 'open", "2:4"),
        ("a: &", "1:4"),
    ],
)
def test_what_never_ends_is_found_where_it_begins_and_never_behind_the_end_of_the_file(parser, start, text, place):
    with pytest.raises(YamlError, match=rf"^x\.yaml:({place}): ") as caught:
        load(start + text, "x.yaml")
    lines = text.rstrip("\n").count("\n") + 1
    assert all(int(line) <= lines for line in re.findall(r"in line (\d+)", str(caught.value)))


def test_parse_collects_duplicate_keys_and_keeps_the_first_values(parser):
    document = parse("a: 1\nb: [{c: 2, c: [3, {d: 1, d: 2}]}]\na: {x: 1}\n", "x.yaml")
    assert document.value == {"a": 1, "b": [{"c": 2}]}
    assert [(twice.path, twice.first, twice.again) for twice in document.duplicates] == [
        (("b", 0, "c"), Position(2, 6), Position(2, 12)),
        (("a",), Position(1, 1), Position(3, 1)),
    ]
    assert document.span(("a", "x")) is None


PLACES = """\
# é 😀
a: 1.10   # one
"b c":
  - x: |
      text

    # comment
  - {y: 2, z: [3, "ü"]}

n:
same: &s {k: v}
other: *s
"""


@pytest.mark.parametrize(
    ("path", "key", "text", "source"),
    [
        (("a",), (2, 1), "1.10", "1.10"),
        (("b c",), (3, 1), '- x: |\n      text\n\n    # comment\n  - {y: 2, z: [3, "ü"]}', None),
        (("b c", 0), (4, 5), "x: |\n      text", None),
        (("b c", 0, "x"), (4, 5), "|\n      text", "text\n"),
        (("b c", 1), (8, 5), '{y: 2, z: [3, "ü"]}', None),
        (("b c", 1, "z", 1), (8, 19), '"ü"', "ü"),
        (("n",), (10, 1), "", ""),
        (("same", "k"), (11, 11), "v", "v"),
        (("other",), (12, 1), "*s", None),
    ],
)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_every_value_has_its_place(parser, start, path, key, text, source):
    document = load((start + PLACES).encode(), "x.yaml")
    span = document.span(path)
    assert (document.position(path).line, document.position(path).column) == key
    assert document.text[span.start_index : span.end_index] == text
    assert document.source(path) == source
    before = document.text[: span.end_index].removeprefix("\ufeff").split("\n")
    assert (span.end.line, span.end.column - len(start) * (span.end.line == 1)) == (len(before), len(before[-1]) + 1)


ENDS = """\
first: [1, {a: b},   # c
  2]
empty:
"quoted ": "é 😀"  # d
folded: >-
  text

plain: some  words  # e
nested: {x: {y: z}}
flow: [a,
 b]
"""


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_wherever_a_text_breaks_off_what_is_wrong_lies_in_it(parser, break_):
    places = []
    for length in range(len(ENDS)):
        text = ENDS[:length].rstrip("\n")
        try:
            load((text + "\n\n").replace("\n", break_), "x.yaml")
        except YamlError as error:
            places.append((text.split("\n"), error.at))
    assert len(places) > 20
    for lines, at in places:
        assert at.line <= len(lines)
        assert at.column <= len(lines[at.line - 1])


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_a_value_ends_behind_its_last_character(parser, break_):
    document = load(ENDS.replace("\n", break_), "x.yaml")
    ends = {
        ("first",): (0, (2, 5)),
        ("first", 1): (18, (1, 18)),
        ("first", 2): (4, (2, 4)),
        ("empty",): (7, (3, 7)),
        ("quoted ",): (17, (4, 17)),
        ("folded",): (0, (6, 7)),
        ("plain",): (19, (8, 19)),
        ("nested",): (20, (9, 20)),
        ("nested", "x", "y"): (18, (9, 18)),
        ("flow", 0): (9, (10, 9)),
        ("missing",): (0, None),
    }
    for path, (column, end) in ends.items():
        span = document.span(path)
        assert document.end_column(path) == column, path
        assert (span and (span.end.line, span.end.column)) == end, path


def test_what_is_not_there_takes_the_place_of_its_nearest_parent(parser):
    document = load(PLACES, "x.yaml")
    assert document.position(("b c", 1, "missing", 0)) == Position(8, 5)
    assert document.position(("other", "k")) == Position(12, 1)
    assert document.span(("other", "k")) is None
    assert document.source(("missing",)) is None


def bomb(levels, width):
    lines = ['a0: &a0 "ha"']
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(("levels", "width"), [(8, 9), (60, 2), (3, 5000)])
def test_an_alias_bomb_ends_in_an_error_before_it_costs_time_or_memory(levels, width):
    tracemalloc.start()
    try:
        with pytest.raises(YamlError, match="the aliases up to here repeat more than 200000 values and characters"):
            load(bomb(levels, width), "x.yaml")
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_an_alias_bomb_costs_no_more_than_its_text(monkeypatch):
    """10 to the 9th values in 500 bytes: what is counted is what the parser was asked for."""
    text = bomb(10, 9)
    assert len(text) < 500
    asked = []
    parser = yaml_loader._parser

    def counted(text):
        next_event = parser(text)
        return lambda: asked.append(1) or next_event()

    monkeypatch.setattr(yaml_loader, "_parser", counted)
    with pytest.raises(YamlError, match=r"the aliases up to here repeat") as caught:
        load(text, "x.yaml")
    assert caught.value.hint == "write out what is meant, or alias less"
    assert len(asked) < 80


def test_a_document_of_too_many_parts_is_refused_at_the_last_that_it_may_have(parser, monkeypatch):
    monkeypatch.setattr(yaml_loader, "MAX_EVENTS", 10)
    assert value("[1, 2, 3, 4]") == [1, 2, 3, 4]  # the list's two ends, the document's and the text's count too
    with pytest.raises(YamlError, match=r"^x.yaml:1:20: holds more than 10 keys, values and brackets") as caught:
        load("[1, 2, 3, 4, 5, 6, 7, 8]", "x.yaml")
    assert caught.value.hint == "split the file"


def test_reading_leaves_the_garbage_collector_as_it_was():
    for switch, on in ((gc.disable, False), (gc.enable, True)):
        switch()
        try:
            load("a: 1", "x.yaml")
            with pytest.raises(YamlError):
                load("a: [", "x.yaml")
            assert gc.isenabled() is on
        finally:
            gc.enable()


def test_a_long_text_that_is_aliased_often_is_a_bomb_too():
    with pytest.raises(YamlError, match="the aliases up to here repeat"):
        load("a: &a " + "x" * 10_000 + "\nb: [" + "*a, " * 100 + "]", "x.yaml")


def test_a_long_document_without_aliases_is_no_bomb():
    items = load("".join(f"- {{key: {i}}}\n" for i in range(100_000)), "x.yaml").value
    assert items[-1] == {"key": 99_999}


def test_the_deepest_nesting_that_is_allowed_can_be_read(parser):
    assert value("[" * MAX_DEPTH + "]" * MAX_DEPTH)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def written(value):
    """YAML 1.2 text of a value, in flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} : {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    return (
        {None: "null", True: "true", False: "false"}.get(value)
        if value is None or value is True or value is False
        else repr(value)
    )


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(value):
    text = written(value)
    if any(0xD800 <= ord(char) < 0xE000 for char in str(value)):
        return
    assert repr(load(text, "x.yaml").value) == repr(value)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here: there is one parser only")
@given(st.text(alphabet="ab:-[]{},#&*!|>'\"%@\n ?~1.e\t", max_size=40))
@settings(max_examples=200, deadline=None)
def test_what_both_parsers_accept_means_the_same(text):
    def outcome(parser):
        original, yaml_loader._parser = yaml_loader._parser, parser
        try:
            return repr(load(text, "x.yaml").value)
        except YamlError:
            return None  # they differ in what they refuse: libyaml takes a tab behind a word
        finally:
            yaml_loader._parser = original

    quick, pure = outcome(yaml_loader.c_parser), outcome(yaml_loader.pure_parser)
    assert quick == pure or None in (quick, pure)


def test_a_directive_for_another_yaml_is_refused():
    with pytest.raises(YamlError, match=r"%YAML 1\.1 asks for another reading") as caught:
        load(b"%YAML 1.1\n---\na: yes\n", "x.yaml")
    assert caught.value.where == "x.yaml:1:1"
    assert load(b"%YAML 1.2\n---\na: yes\n", "x.yaml").value == {"a": "yes"}


def test_brackets_deeper_than_the_parser_can_go_are_explained():
    with pytest.raises(YamlError, match="nested deeper") as caught:
        load(b"a: " + b"[" * 5000, "x.yaml")
    assert "64 levels" in caught.value.hint
