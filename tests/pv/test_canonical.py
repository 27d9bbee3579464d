import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.canonical import EXACT, canonical, digest, encode, parse
from pv.errors import PvError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT, EXACT) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_bytes_read_back_as_the_same_value_and_the_same_bytes(value):
    data = canonical(value)
    assert parse(data) == encode(value)
    assert canonical(parse(data)) == data


def test_the_example_of_rfc_8785_has_its_published_bytes():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical(value).hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e3333333333"
        "33332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c"
        "5c5c222f227d"
    )


def test_non_finite_numbers_become_texts_at_the_boundary():
    assert encode([math.nan, math.inf, -math.inf, 1.5]) == ["NaN", "Infinity", "-Infinity", 1.5]


def test_a_large_float_that_is_written_as_an_integer_reads_back():
    assert canonical(1e20) == b"100000000000000000000"
    assert parse(canonical(1e20)) == 1e20


def test_the_order_of_keys_does_not_change_the_digest():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_an_integer_that_json_would_round_is_refused():
    assert canonical(EXACT) == b"9007199254740991"
    with pytest.raises(
        PvError, match=r"^here: 9007199254740992 is not exact as a JSON number\n  hint: write it as text"
    ):
        canonical({"seed": EXACT + 1}, where="here")


@pytest.mark.parametrize(
    ("value", "message"),
    [({1: 2}, r"^the key 1 is no text"), ({"a": {1, 2}}, r"^set has no place"), (b"x", r"^bytes has no place")],
)
def test_what_json_cannot_say_is_refused(value, message):
    with pytest.raises(PvError, match=message):
        canonical(value)


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b"[NaN]", b"[Infinity]", b"{", b"\xff", b""])
def test_bytes_that_are_not_strict_json_are_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011  (json's own messages)
        parse(data)


def test_a_lone_surrogate_is_written_as_its_escape():
    assert canonical("a\ud800") == json.dumps("a\\ud800").encode()
