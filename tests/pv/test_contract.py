import math
import os
from pathlib import Path

import pytest

from pv.canonical import digest
from pv.contract import (
    ContractError,
    Tolerance,
    UnreadableError,
    make_contract,
    read_contract,
)
from pv.words import Level, level_named
from pv.yaml_loader import load

GOOD = Path(__file__).parents[1] / "contracts" / "good"


def contract(text):
    return make_contract(Path("contracts/x.yaml"), load(text, "contracts/x.yaml"))


def test_a_test_of_ours_is_read_in_full():
    read = read_contract(GOOD / "bound-test.yaml")
    first = read.tests[0]
    assert (read.stem, read.kind, read.version) == ("bound-test", "schema", "2.3.0")
    assert (first.id, first.index, first.line) == ("FALSIFY-PREFIX-001", 0, 30)
    assert first.rule == "the prefix is the length"
    assert first.prediction == "5 bytes of text become 9 bytes, the first four of which are 5, 0, 0, 0"
    assert first.if_fails == "the length is written in another byte order"
    assert first.test == ""
    assert first.binds_to == "length_prefix"
    assert first.obligations == ("OBL-1",)
    assert first.falsifiers == {
        "algorithm": "falsifiers.prefix:first_bytes_are_the_length",
        "live": "falsifiers.prefix:files_have_prefixes",
        "oracle": "falsifiers.prefix:cbor2_reads_the_same",
    }
    assert first.mutants == ("big_endian", "off_by_one")
    assert first.models == ("tiny-qwen2", "smollm2-135m")
    assert first.tolerance == Tolerance(metric="bytes", limit=0.0, because="lengths are exact", floor=None)
    assert first.status == "FUNCTIONAL"
    assert first.raw is read.document.value["falsification_tests"][0]
    assert [(test.ours, test.bound, test.status) for test in read.tests] == [
        (True, True, "FUNCTIONAL"),
        (True, True, "partial"),
        (False, False, "UNTESTED"),
    ]
    assert [test.line for test in read.tests] == [30, 44, 55]


def test_equations_and_obligations_are_kept_as_read():
    read = read_contract(GOOD / "bound-test.yaml")
    assert list(read.equations) == ["length_prefix", "round_trip"]
    assert read.equations["round_trip"] == {"formula": "read(write(s)) = s", "domain": "texts shorter than 2^32 bytes"}
    assert [entry["id"] for entry in read.obligations] == ["OBL-1", "OBL-2"]


@pytest.mark.parametrize(
    ("test", "read", "at"),
    [
        ("{prediction: p}", "p", "prediction"),
        ("{expected: p}", "p", "expected"),
        ("{prediction: ~, expected: p}", "p", "expected"),
        ("{expected: p, prediction: ~}", "p", "expected"),
        ("{prediction: p, expected: q}", "p", "prediction"),
        ("{prediction: '', expected: q}", "", "prediction"),
        ("{expected: ~}", "", "expected"),
        ("{prediction: ~, expected: ~}", "", "prediction"),
        ("{}", "", "prediction"),
    ],
)
def test_a_spelling_without_a_value_hides_no_other(test, read, at):
    (only,) = contract(f"falsification_tests: [{test}]\n").tests
    assert (only.prediction, only.entry.at("prediction")[-1]) == (read, at)


def test_later_spellings_are_read_as_the_first_ones():
    read = read_contract(GOOD / "spellings-of-the-second-generation.yaml")
    first, second = read.tests
    assert read.kind == "registry"
    assert read.version == "1.10"
    assert list(read.equations) == ["unique", "equation_1"]
    assert (first.rule, first.prediction, first.test, first.if_fails) == (
        "no name occurs twice",
        "0 names",
        "sort names | uniq -d",
        "two records have one name",
    )
    assert second.test == "tests/listing.rs"
    assert second.raw["algorithm_evidence"] == ["seen once"]
    assert (first.bound, second.bound) == (False, False)


def test_a_registry_by_its_old_flag_is_no_kernel():
    assert contract("metadata: {registry: true}").kind == "registry"
    assert contract("metadata: {registry: true, kind: schema}").kind == "schema"
    assert contract("metadata: {registry: no}").kind == "kernel"
    assert contract("{}").kind == "kernel"


def test_text_is_what_was_written_even_where_it_looks_like_a_number():
    read = contract(
        "metadata: {version: 1.10}\nfalsification_tests: [{id: 007, prediction: 1e3, mutants: [x, 1.0, true]}]"
    )
    (test,) = read.tests
    assert (read.version, test.id, test.prediction, test.mutants) == ("1.10", "007", "1e3", ("x", "1.0", "true"))


def test_values_of_wrong_types_read_as_missing():
    read = contract(
        """
metadata: [1]
equations: none
proof_obligations: {id: x}
falsification_tests:
- text
- id: [x]
  rule: {a: 1}
  falsifiers: [a:b]
  mutants: big_endian
  models: {a: 1}
  obligations: [1, [2], {a: 3}, null, OBL]
  tolerance: 0.1
  status: null
"""
    )
    (test,) = read.tests
    assert (read.kind, read.version, read.equations, read.obligations) == ("kernel", "", {}, ())
    assert (test.id, test.index, test.line, test.rule) == ("", 1, 7, "")
    assert (test.falsifiers, test.mutants, test.models, test.obligations) == ({}, (), (), ("1", "OBL"))
    assert (test.tolerance, test.status, test.ours, test.bound) == (None, None, True, False)


@pytest.mark.parametrize(
    ("limit", "read"), [("1e-4", 1e-4), ("3", 3.0), ("true", None), ("'1'", None), (".nan", math.nan)]
)
def test_a_limit_is_a_number_or_none(limit, read):
    (test,) = contract(f"falsification_tests: [{{tolerance: {{limit: {limit}}}}}]").tests
    assert test.tolerance.limit == pytest.approx(read, nan_ok=True)


def test_what_pv_does_not_know_is_kept():
    read = contract("gates: {G-1: {verdict: pass}}\nfalsification_tests: [{id: A, element: [1, {b: 2}]}]")
    assert read.document.value["gates"] == {"G-1": {"verdict": "pass"}}
    assert read.tests[0].raw["element"] == [1, {"b": 2}]


def test_the_claim_of_a_test_can_be_digested_whatever_yaml_1_2_holds():
    read = read_contract(GOOD / "yaml-1.2.yaml")
    assert len(digest(read.document.value["proof_obligations"])) == 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"- a\n", r":1:1: a contract is a mapping with metadata and equations, not a list$"),
        (b"# x\ntext\n", r":2:1: a contract is a mapping with metadata and equations, not 'text'$"),
        (b"a: 1\na: 2\n", r":2:1: the key 'a' occurs twice, first in line 1\n  hint: keep one of them"),
        (b"a: [\n", r":\d:\d: .*flow"),
        (b"a: \xff\n", r":1:4: byte 0xFF is not UTF-8\n  hint: save the file as UTF-8$"),
    ],
)
def test_a_file_that_holds_no_contract_is_an_error_with_its_place(tmp_path, data, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=message) as caught:
        read_contract(path)
    assert str(caught.value).startswith(str(path))
    assert not isinstance(caught.value, UnreadableError)


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"---\n", b"\xef\xbb\xbf\n\n"])
def test_an_empty_file_holds_nothing_to_measure(tmp_path, data):
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="holds no contract: it is empty"):
        read_contract(path)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    with pytest.raises(UnreadableError, match=r"missing\.yaml: cannot be read: No such file or directory$"):
        read_contract(tmp_path / "missing.yaml")
    with pytest.raises(UnreadableError, match=r"cannot be read: Is a directory$"):
        read_contract(tmp_path)
    with pytest.raises(UnreadableError, match=r"cannot be read: embedded null byte$"):
        read_contract(Path("a\0b"))


def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(ContractError, match="is binary data, not text"):
        read_contract(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("UNTESTED", Level.UNTESTED),
        ("PARTIAL", Level.PARTIAL),
        ("PARTIAL_ALGORITHM_LEVEL", Level.PARTIAL),
        (" functional ", Level.FUNCTIONAL),
        ("Discharged", Level.DISCHARGED),
        ("FALSIFIED", Level.FALSIFIED),
        ("STALE", Level.STALE),
        ("PARTIAL_ALGORITHM", None),
        ("DONE", None),
        ("", None),
    ],
)
def test_a_level_is_known_by_its_long_and_short_name(word, level):
    assert level_named(word) == level


def test_a_named_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.yaml")
    with pytest.raises(UnreadableError, match=r"p\.yaml: is not a regular file: a named pipe is not read$"):
        read_contract(tmp_path / "p.yaml")
