import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pv.semver import Size, Version, least, step, version

NUMBERS = st.integers(0, 3)
PRE = st.sampled_from([(), (), (), ("alpha",), ("alpha", "1"), ("rc", "1"), ("rc", "2"), ("rc", "10"), ("1",)])
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS, PRE)


def at(text):
    found = version(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.0",
        "v1.0.0",
        "1.0.0.0",
        "01.0.0",
        "1.0.0-",
        "1.0.0-01",
        "1.0.0-a..b",
        "1.0.0+",
        "1.0.0 ",
        "1.0.٣",
        "-1.0.0",
    ],
)
def test_what_is_no_semantic_version_is_none(text):
    assert version(text) is None


def test_endless_digits_are_no_version_and_no_traceback():
    assert version("9" * 5000 + ".0.0") is None


def test_precedence_is_that_of_the_specification():
    words = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.10.0"
    )
    order = [at(word) for word in words.split()]
    for index, lower in enumerate(order):
        assert not lower < lower
        assert all(lower < higher and not higher < lower for higher in order[index + 1 :])


def test_build_metadata_has_no_rank():
    assert at("1.0.0+a") == at("1.0.0+b")


@pytest.mark.parametrize(
    ("old", "new", "size"),
    [
        ("1.2.3", "1.2.3", "none"),
        ("1.2.3", "1.2.4", "patch"),
        ("1.2.3", "1.3.0", "minor"),
        ("1.2.3", "2.0.0", "major"),
        ("1.2.3", "1.2.2", "none"),
        ("2.0.0", "1.9.9", "none"),
        ("0.3.1", "0.3.2", "patch"),
        ("0.3.1", "0.4.0", "major"),
        ("0.3.1", "1.0.0", "major"),
        ("1.2.3", "2.0.0-rc.1", "major"),
        ("2.0.0-rc.1", "2.0.0-rc.2", "major"),
        ("2.0.0-rc.1", "2.0.0", "major"),
        ("1.3.0-rc.1", "1.3.0", "minor"),
        ("1.2.4-rc.1", "1.2.4", "patch"),
    ],
)
def test_a_step_announces(old, new, size):
    assert step(at(old), at(new)).word == size


@given(VERSIONS, st.sampled_from(Size))
def test_the_least_version_announces_enough_and_no_release_before_it_does(old, size):
    wanted = least(old, size)
    assert step(old, wanted) >= size
    if size is not Size.NONE:
        numbers = range(5)
        for other in (Version(x, y, z) for x in numbers for y in numbers for z in numbers):
            assert not (other < wanted and step(old, other) >= size)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_a_later_version_announces_no_less(old, new, later):
    assume(new < later)
    assert step(old, new) <= step(old, later)


@given(VERSIONS)
def test_a_version_is_read_as_it_is_written(known):
    assert version(str(known)) == known
