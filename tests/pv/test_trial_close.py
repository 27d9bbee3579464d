"""Numbers and arrays compared within a limit, with the worst coordinate named."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.trial import Falsified, Trial

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LIMIT = st.floats(min_value=0, max_value=1e300)


@pytest.fixture
def trial() -> Trial:
    return Trial(seed=0)


def far(got: Any, want: Any, limit: float, **options: float) -> str:
    """The message with which the two are too far apart."""
    trial = Trial(seed=0)
    with pytest.raises(Falsified) as caught:
        trial.close(got, want, limit, "x", **options)
    assert trial.comparisons == 1
    return str(caught.value)


def test_arrays_within_the_limit_are_close_and_count_one_comparison(trial: Trial) -> None:
    want = np.arange(12, dtype=np.float32).reshape(3, 4)
    trial.close(want + np.float32(0.25), want, 0.25, "x")
    assert (trial.comparisons, trial.falsified, trial.observations) == (1, None, {})


def test_the_worst_coordinate_is_named_and_observed(trial: Trial) -> None:
    want = np.zeros((4, 32), dtype=np.float32)
    got = want.copy()
    got[0, 1], got[2, 17], got[3, 3] = 0.25, -0.5, 0.0625
    message = "logits: max |difference| 0.5 at [2, 17] (got -0.5, want 0.0), limit 0.1; 2 of 128 beyond it"
    with pytest.raises(Falsified, match="^" + re.escape(message) + "$"):
        trial.close(got, want, 0.1, "logits")
    assert trial.observations == {
        "logits: worst": {"at": [2, 17], "difference": "0.5", "got": "-0.5", "want": "0.0", "beyond": 2}
    }


def test_with_a_relative_limit_the_worst_is_what_is_furthest_beyond_its_own() -> None:
    got, want = np.array([1010.0, 1.5, 0.0]), np.array([1000.0, 1.0, 0.0])
    assert far(got, want, 0.0, relative=0.1) == (
        "x: |difference| 0.5 at [1] (got 1.5, want 1.0), limit 0.0 + 0.1 * |want| = 0.1; 1 of 3 beyond it"
    )


def test_numbers_have_no_coordinate() -> None:
    assert far(1.5, 1.0, 0.25) == "x: max |difference| 0.5 (got 1.5, want 1.0), limit 0.25; 1 of 1 beyond it"
    Trial(seed=0).close(np.float32(1.5), 1.0, 0.5, "x")
    Trial(seed=0).close(1 + 1j, 1.0 + 0j, 1, "x")


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.nan, math.nan),  # NaN equals nothing: two that agree may come from one defect
        (math.inf, 1.0),
        (1.0, math.inf),
        (-math.inf, math.inf),
        (complex(0, math.nan), 0j),
    ],
)
@pytest.mark.parametrize("relative", [0.0, 0.5, 1e308])
def test_nan_is_close_to_nothing_and_an_infinity_to_itself_only(got: complex, want: complex, relative: float) -> None:
    kind = complex if isinstance(got, complex) else float
    assert "at [1]" in far(np.array([0, got], kind), np.array([0, want], kind), 1e308, relative=relative)
    Trial(seed=0).close(np.array([math.inf, -math.inf]), np.array([math.inf, -math.inf]), 0, "x")


def test_a_nan_is_worse_than_any_difference() -> None:
    assert far(np.array([9.0, math.nan, math.inf]), np.zeros(3), 1).startswith(
        "x: max |difference| nan at [1] (got nan"
    )


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (np.zeros(3), np.zeros(4), "x: got float64[3], want float64[4]"),
        (np.zeros((1, 3)), np.zeros(3), "x: got float64[1, 3], want float64[3]"),
        (np.zeros(3), np.zeros(3, dtype=int), "x: got float64[3], want int64[3]"),
        (np.zeros(1), 0.0, "x: got float64[1], want float64[]"),
    ],
)
def test_another_shape_or_kind_falsifies(got: Any, want: Any, message: str) -> None:
    assert far(got, want, 1e9) == message


def test_precisions_of_one_kind_are_compared(trial: Trial) -> None:
    trial.close(np.float32([0.1]), np.float64([0.1]), 1e-8, "x")
    trial.close(np.float16([2048]), np.float32([2049]), 1, "x")


@pytest.mark.parametrize(
    ("got", "want", "limit", "apart"),
    [
        ([2**63 - 1], [-(2**63)], 1e18, str(2**64 - 1)),
        ([-5], [5], 9.75, "10"),
        ([2**62 + 1], [2**62], 0.999, "1"),  # which a float64 would round away
    ],
)
def test_the_difference_of_integers_is_exact(got: Any, want: Any, limit: float, apart: str) -> None:
    assert f"max |difference| {apart} at [0]" in far(np.array(got, np.int64), np.array(want, np.int64), limit)
    Trial(seed=0).close(np.array([2**62 + 1]), np.array([2**62]), 1, "x")
    Trial(seed=0).close(np.array([-110]), np.array([-100]), 0, "x", relative=0.1)
    Trial(seed=0).close(np.array([0], np.uint64), np.array([2**64 - 1], np.uint64), 0, "x", relative=1.0)


@pytest.mark.parametrize(
    ("got", "want", "options", "message"),
    [
        ("a", "a", {}, "close() compares numbers and arrays of numbers, not <U1: use equal"),
        (True, True, {}, "close() compares numbers and arrays of numbers, not bool: use equal"),
        (np.array([None]), 1.0, {}, "close() compares numbers and arrays of numbers, not object: use equal"),
        (np.zeros((2, 0)), np.zeros((2, 0)), {}, "close() has nothing to compare: both arrays are empty, [2, 0]"),
        (1.0, 1.0, {"limit": math.nan}, "close() needs a finite limit >= 0, not nan"),
        (1.0, 1.0, {"limit": math.inf}, "close() needs a finite limit >= 0, not inf"),
        (1.0, 1.0, {"limit": -1.0}, "close() needs a finite limit >= 0, not -1.0"),
        (1.0, 1.0, {"limit": True}, "close() needs a finite limit >= 0, not True"),
        (1.0, 1.0, {"limit": "1"}, "close() needs a finite limit >= 0, not '1'"),
        (1.0, 1.0, {"limit": np.float32("nan")}, "close() needs a finite limit >= 0, not nan"),
        (1.0, 1.0, {"relative": math.nan}, "close() needs a finite relative >= 0, not nan"),
        (1.0, 1.0, {"what": ""}, "say what is compared: the last argument is its name"),
    ],
)
def test_wrong_use_of_close_is_no_comparison(
    trial: Trial, got: Any, want: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        trial.close(got, want, **{"limit": 0.0, "what": "x", **options})
    assert trial.comparisons == 0


@pytest.mark.parametrize("again", [lambda x: x, lambda x: x[:], lambda x: x.view()])
def test_an_array_is_not_compared_with_itself(trial: Trial, again: Any) -> None:
    array = np.arange(3.0)
    for compare in (lambda: trial.close(again(array), array, 1.0, "x"), lambda: trial.equal(again(array), array, "x")):
        with pytest.raises(TypeError, match=r"was given one ndarray twice, which cannot differ from itself: copy it$"):
            compare()
    assert trial.comparisons == 0
    trial.equal(array.copy(), array, "x")
    trial.equal(array[:2].copy(), array[:2], "x")
    same = [1]
    with pytest.raises(TypeError, match=r"^equal\(\) was given one list twice"):
        trial.equal(same, same, "x")
    for value in (7, "text", b"bytes", None, (), []):  # of which Python makes one for all
        trial.equal(value, value, "x")


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=6), LIMIT)
def test_close_says_what_python_says_of_each_element(pairs: list[tuple[float, float]], limit: float) -> None:
    got, want = (np.array(side) for side in zip(*pairs, strict=True))
    apart = [abs(g - w) for g, w in pairs]
    if all(distance <= limit for distance in apart):
        Trial(seed=0).close(got, want, limit, "x")
    else:
        message = far(got, want, limit)
        assert f"at [{apart.index(max(apart))}]" in message
        assert message.endswith(f"; {sum(distance > limit for distance in apart)} of {len(pairs)} beyond it")


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=4))
def test_integers_are_compared_as_python_compares_them(pairs: list[tuple[int, int]]) -> None:
    got, want = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    worst = max(abs(g - w) for g, w in pairs)
    if worst == 0:
        Trial(seed=0).close(got, want, 0, "x")
    else:
        assert f"max |difference| {worst} at" in far(got, want, 0)
