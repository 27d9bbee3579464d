"""The words in which a falsifier says what it saw."""

import copy
import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.trial import Falsified, ModelFile, Skipped, Trial, is_mutant, mutant, patched

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@pytest.fixture
def trial() -> Trial:
    return Trial(seed=0)


# check


def test_check_counts_one_comparison_and_says_nothing_when_it_holds(trial: Trial) -> None:
    trial.check(True, "never seen")
    trial.check(np.bool_(True), "never seen")
    assert (trial.comparisons, trial.falsified) == (2, None)


@pytest.mark.parametrize("no", [False, np.bool_(False)])
def test_a_failed_check_falsifies_with_its_message(trial: Trial, no: bool) -> None:
    with pytest.raises(Falsified, match=r"^the header is gone$"):
        trial.check(no, "the header is gone")
    assert trial.comparisons == 1


def test_a_failed_check_is_remembered_though_its_exception_is_caught(trial: Trial) -> None:
    for message in ("first", "second"):
        with pytest.raises(Falsified):
            trial.check(False, message)
    trial.check(True, "third")
    assert trial.falsified == "first"


@pytest.mark.parametrize("truthy", [1, 0, "yes", None, [], np.array([True]), np.float32(1)])
def test_check_refuses_what_is_not_a_bool(trial: Trial, truthy: object) -> None:
    with pytest.raises(TypeError, match=r"^check\(\) takes a bool, not "):
        trial.check(truthy, "message")  # type: ignore[arg-type]
    assert trial.comparisons == 0


@pytest.mark.parametrize("message", ["", None, 3])
def test_check_refuses_to_stay_silent(trial: Trial, message: object) -> None:
    with pytest.raises(TypeError, match=r"^check\(\) needs a message that says what was seen"):
        trial.check(True, message)  # type: ignore[arg-type]


# equal


@given(value=VALUES)
def test_every_value_without_nan_equals_itself(value: object) -> None:
    trial = Trial(seed=0)
    trial.equal(copy.deepcopy(value), value, "value")
    assert trial.comparisons == 1


@given(blob=st.binary(min_size=1, max_size=64), data=st.data())
def test_one_changed_byte_is_found_at_its_index(blob: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = blob[:at] + bytes([blob[at] ^ data.draw(st.integers(1, 255))]) + blob[at + 1 :]
    with pytest.raises(
        Falsified, match=rf"^body: first difference at byte {at}: got {changed[at]:02x}.*want {blob[at]:02x}"
    ):
        Trial(seed=0).equal(changed, blob, "body")


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    data=st.data(),
    wrong=st.sampled_from([math.nan, math.inf, -1.0]),
)
def test_one_changed_element_is_found_at_its_index(shape: list[int], data: st.DataObject, wrong: float) -> None:
    want = np.ones(shape, dtype=np.float32)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    got = want.copy()
    got[at] = wrong
    with pytest.raises(Falsified) as caught:
        Trial(seed=0).equal(got, want, "logits")
    where = "[" + ", ".join(map(str, at)) + "]"
    assert str(caught.value) == f"logits: 1 of {want.size} elements differ, first at {where}: got {wrong}, want 1.0"


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (3, 4, "x: got 3, want 4"),
        (3, 3.5, "x: got 3, want 3.5"),
        (True, False, "x: got True, want False"),
        (1, True, "x: got int 1, want bool True"),
        (None, 3, "x: got NoneType None, want int 3"),
        ("3", 3, "x: got str '3', want int 3"),
        (b"a", "a", "x: got bytes b'a', want str 'a'"),
        (math.nan, math.nan, "x: got nan, want nan"),
        ([math.nan], [math.nan], "x: at [0]: got nan, want nan"),
        (np.float32(0.1), np.float32(0.2), "x: got 0.1, want 0.2"),
        ([1, 2, 3], [1, 5, 3], "x: at [1]: got 2, want 5"),
        ([1, 2], [1, 2, 3], "x: got 2 elements, want 3; the common ones agree"),
        ([1, 7], [1, 2, 3], "x: at [1]: got 7, want 2 (lengths 2, 3)"),
        ({"a": 1}, {"a": 1, "b": 2}, "x: key 'b' is missing"),
        ({"a": 1, "b": 2}, {"a": 1}, "x: key 'b' is not wanted"),
        ({"a": [1]}, {"a": [2]}, "x: at ['a']: at [0]: got 1, want 2"),
        (b"\x00\x01", b"\x00\x02", "x: first difference at byte 1: got 01, want 02 (2 bytes)"),
        (b"\x00", b"\x00\x02", "x: first difference at byte 1: got the end, want 02 (got 1 bytes, want 2)"),
        (np.zeros(2, np.float32), np.zeros(2), "x: got float32[2], want float64[2]"),
        (np.zeros((2, 1)), np.zeros((1, 2)), "x: got float64[2, 1], want float64[1, 2]"),
        (Path("a"), Path("b"), f"x: got {Path('a')!r}, want {Path('b')!r}"),
        ({1}, {2}, "x: got {1}, want {2}"),
        (
            "a" * 99,
            "a" * 98 + "b",
            "x: first difference at character 98: got 'aaaaaaaaaaa' (of 99), want 'aaaaaaaaaab' (of 99)",
        ),
    ],
)  # fmt: skip
def test_equal_says_where_and_how_two_values_differ(trial: Trial, got: object, want: object, message: str) -> None:
    with pytest.raises(Falsified) as caught:
        trial.equal(got, want, "x")
    assert str(caught.value) == message
    assert trial.falsified == message


def test_bytes_of_equal_nans_are_equal_and_those_of_signed_zeros_are_not(trial: Trial) -> None:
    nan = np.array([np.nan, 1], dtype=np.float32)
    trial.equal(nan.tobytes(), nan.tobytes(), "bits")
    trial.equal(np.float32(-0.0), np.float32(0.0), "IEEE value")
    with pytest.raises(Falsified, match=r"^bits: first difference at byte 3: got 80, want 00"):
        trial.equal(np.float32(-0.0).tobytes(), np.float32(0.0).tobytes(), "bits")


def test_long_values_are_shortened_in_the_message(trial: Trial) -> None:
    with pytest.raises(Falsified) as caught:
        trial.equal(set(range(1000)), {1}, "set")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("want", [object(), np.array([object()]), lambda: None])
def test_equal_refuses_what_it_cannot_compare(trial: Trial, want: object) -> None:
    with pytest.raises(TypeError, match=r"^equal\(\) cannot compare "):
        trial.equal(want, want, "x")
    assert trial.comparisons == 0


def test_a_subject_that_returns_the_wrong_kind_falsifies_and_does_not_crash(trial: Trial) -> None:
    with pytest.raises(Falsified, match=r"^x: got object <object .*want int 3$"):
        trial.equal(object(), 3, "x")


# at_most


def test_at_most_holds_up_to_its_limit(trial: Trial) -> None:
    trial.at_most(3, 3, "x")
    trial.at_most(np.float32(2.5), 3, "x")
    trial.at_most(-math.inf, 0, "x")
    assert trial.comparisons == 3


@pytest.mark.parametrize(
    ("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (np.float32(0.2), "0.2"), (np.float64("nan"), "nan")]
)
def test_at_most_falsifies_beyond_its_limit_and_for_nan(trial: Trial, value: float, shown: str) -> None:
    with pytest.raises(Falsified) as caught:
        trial.at_most(value, 0.1, "nmse")
    assert str(caught.value) == f"nmse: {shown} is not at most 0.1"


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
def test_a_limit_that_forbids_nothing_or_everything_is_refused(trial: Trial, limit: float) -> None:
    with pytest.raises(TypeError, match=r"^at_most\(\) needs a finite limit, not "):
        trial.at_most(1, limit, "x")


@pytest.mark.parametrize("value", [None, "3", np.zeros(1), True, 1j])
def test_at_most_refuses_what_is_not_a_real_number(trial: Trial, value: object) -> None:
    with pytest.raises(TypeError, match=r"^at_most\(\) takes real numbers: the value is "):
        trial.at_most(value, 1, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["", None, 4])
def test_a_comparison_must_be_named(trial: Trial, what: object) -> None:
    with pytest.raises(TypeError, match=r"^say what is compared"):
        trial.equal(1, 1, what)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^say what is compared"):
        trial.at_most(1, 1, what)  # type: ignore[arg-type]


# observe


def test_observations_are_plain_json(trial: Trial) -> None:
    trial.observe("layer", np.int32(3))
    trial.observe("nmse", np.float32(0.5))
    trial.observe("worst", {"at": (np.int64(1), 2), "got": math.nan, "want": -math.inf, "same": np.bool_(False)})
    assert trial.observations == {
        "layer": 3,
        "nmse": 0.5,
        "worst": {"at": [1, 2], "got": "NaN", "want": "-Infinity", "same": False},
    }
    assert type(trial.observations["layer"]) is int
    assert type(trial.observations["nmse"]) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), "observation 'x' is ndarray: observe numbers, text, or short lists of them"),
        (b"raw", "observation 'x' is bytes: observe numbers, text, or short lists of them"),
        ({1}, "observation 'x' is set: observe numbers, text, or short lists of them"),
        (2**53, "observation 'x': 9007199254740992 is not exact as a JSON number; observe it as text"),
        (np.uint64(2**63), "observation 'x': 9223372036854775808 is not exact as a JSON number; observe it as text"),
        ({1: 2}, "observation 'x': the keys of a mapping must be text"),
        ([0] * 257, "observation 'x' has 257 elements, more than 256: observe a summary of it"),
        ("x" * 5000, "observation 'x' is too long to be read: observe a summary of it"),
    ],
)  # fmt: skip
def test_observe_refuses_what_json_or_a_reader_cannot_take(trial: Trial, value: object, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        trial.observe("x", value)
    assert str(caught.value) == message
    assert trial.observations == {}


# skip, oracle, rng, folder


def test_skip_ends_the_trial_with_its_reason(trial: Trial) -> None:
    with pytest.raises(Skipped, match=r"^no AVX-512 here$"):
        trial.skip("no AVX-512 here")
    with pytest.raises(TypeError, match=r"^skip\(\) needs a reason$"):
        trial.skip("")


def test_an_oracle_is_named_once_with_its_version(trial: Trial) -> None:
    trial.oracle("transformers", "5.0")
    trial.oracle("transformers", "5.0")
    assert trial.oracle_used == ("transformers", "5.0")
    with pytest.raises(TypeError, match=r"^a trial has one oracle; \('transformers', '5.0'\) is already named$"):
        trial.oracle("llama.cpp", "b1")
    with pytest.raises(TypeError, match=r"^oracle\(\) takes the implementation's name and its version"):
        trial.oracle("llama.cpp", "")


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, other, third = (Trial(seed=seed).rng.integers(0, 2**63, 8).tolist() for seed in (7, 7, 8))
    assert one == other != third


def test_every_trial_has_an_empty_folder_of_its_own(trial: Trial) -> None:
    assert list(trial.folder.iterdir()) == []
    assert trial.folder == trial.folder != Trial(seed=0).folder


def test_the_folder_goes_with_the_trial() -> None:
    trial = Trial(seed=0, model=ModelFile(name="m", path=Path("m.gguf"), sha256="0" * 64))
    folder = trial.folder
    (folder / "file").write_bytes(b"x")
    del trial
    assert not folder.exists()


# mutants


def test_patched_plants_and_restores_even_when_the_block_fails() -> None:
    subject = SimpleNamespace(pack=len)
    with pytest.raises(ZeroDivisionError), patched(subject, "pack", lambda: 1 // 0):
        subject.pack()
    assert subject.pack is len


def test_patched_restores_static_and_inherited_attributes_as_they_were() -> None:
    class Parent:
        @staticmethod
        def pack() -> str:
            return "parent"

    class Child(Parent):
        pass

    before = vars(Parent)["pack"]
    with patched(Parent, "pack", staticmethod(lambda: "planted")), patched(Child, "pack", staticmethod(lambda: "own")):
        assert (Parent.pack(), Child.pack()) == ("planted", "own")
    assert vars(Parent)["pack"] is before
    assert "pack" not in vars(Child)


def test_patched_restores_an_object_without_a_dict() -> None:
    class Slots:
        __slots__ = ("size",)

    subject = Slots()
    subject.size = 3
    with patched(subject, "size", 4):
        assert subject.size == 4
    assert subject.size == 3


def test_patched_refuses_to_plant_nothing() -> None:
    subject = SimpleNamespace(pack=len)
    with pytest.raises(AttributeError, match="pakc"), patched(subject, "pakc", repr):
        pass
    with pytest.raises(TypeError, match=r"^patched\(\): pack is that value already"), patched(subject, "pack", len):
        pass


def test_a_mutant_is_told_from_other_functions() -> None:
    @mutant
    def planted() -> Iterator[None]:
        "Plants nothing much."
        yield

    assert is_mutant(planted)
    assert planted.__doc__ == "Plants nothing much."
    assert not is_mutant(len)
    with planted():
        pass


def test_a_mutant_must_say_what_it_plants() -> None:
    def unnamed() -> Iterator[None]:
        yield

    with pytest.raises(TypeError, match=r"^mutant unnamed needs a docstring that says which defect it plants$"):
        mutant(unnamed)


def test_the_author_api_imports_neither_numpy_nor_pytest_nor_the_engine() -> None:
    code = (
        "import sys, pv.trial; print([m for m in ('numpy', 'numba', 'pytest', 'engine', 'yaml') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_folder_whose_removal_was_interrupted_is_removed_when_the_process_ends() -> None:
    code = """
import shutil
from pv import trial
remove, calls = shutil.rmtree, []
def interrupted(*args, **options):
    calls.append(1)
    if len(calls) <= 2:
        raise KeyboardInterrupt
    remove(*args, **options)
shutil.rmtree = interrupted
one = trial.Trial(seed=0)
print(one.folder)
(one.folder / "file").touch()
del one
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()


def test_an_output_that_is_to_be_kept_lies_in_the_folder_under_its_digest(tmp_path):
    array = np.arange(3, dtype="int16")
    (tmp_path / "file").write_bytes(b"text")
    for folder in (None, tmp_path / "kept"):
        if folder:
            folder.mkdir()
        trial = Trial(seed=0, keeping=folder)
        trial.output("bytes", b"abc", keep=True)
        trial.output("file", tmp_path / "file", keep=True)
        trial.output("array", array, keep=True)
        trial.output("digest only", b"0123")
        assert trial.artifacts == {"bytes": 3, "file": 4, "array": 12}
    kept = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    assert kept[trial.outputs["array"]] == b"<i2[3]" + array.tobytes()
    assert kept == {hashlib.sha256(data).hexdigest(): data for data in (b"abc", b"text", b"<i2[3]" + array.tobytes())}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("trial.equal(2, 3, 'sum')", "pv.trial.Falsified: sum: got 2, want 3"),
        ("trial.close(1.0, 2.0, 0.5, 'sum')", "pv.trial.Falsified: sum: *"),
        ("trial.check(1, 'no bool')", "TypeError: check() takes a bool, not int: *"),
        ("trial.observe('it', object())", "TypeError: observation 'it' is object: *"),
    ],
)
def test_where_a_unit_test_of_a_falsifier_fails_pytest_shows_its_authors_lines_alone(pytester, line, error):
    pytester.makepyfile(
        test_it=f"""
        from pv.trial import Trial

        def falsifier(trial):
            {line}

        def test_it():
            falsifier(Trial(seed=0))
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*falsifier(Trial(seed=0))", f"> *{line}", f"E *{error}"])
    told = result.stdout.str()
    assert [name for name in ("trial.py", "comparing.py", "observation.py") if f"pv/{name}:" in told] == []
