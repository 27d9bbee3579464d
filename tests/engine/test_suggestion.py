"""Tests of engine.suggestion."""

import pytest

from engine.errors import EngineError
from engine.suggestion import named


def test_a_known_name_is_given_back():
    assert named("b", ["a", "b"], what="letter", where="--letter") == "b"


def test_an_unknown_name_is_an_error_that_lists_the_known_ones_and_guesses():
    with pytest.raises(EngineError) as caught:
        named("alpa", iter(["alpha", "beta"]), what="letter", where="--letter")
    assert str(caught.value) == "--letter: unknown letter 'alpa'\n  hint: did you mean alpha? known: alpha, beta"
    with pytest.raises(EngineError) as caught:
        named("zzz", ["alpha", "beta"], what="letter", where="--letter")
    assert str(caught.value) == "--letter: unknown letter 'zzz'\n  hint: known: alpha, beta"
