"""Tests of pv.floor, and of what holds a tolerance to it: rules, the claim of a test, `pv gate`."""

import json
import math

import pytest

from pv.binding import bind
from pv.contract import FloorReference
from pv.errors import PvError
from pv.findings import ERROR
from pv.floor import MOST_TIMES, floor_of, read_bytes, stored_floor
from pv.gate import gate
from pv.project import forget
from pv.status import row_of
from pv.validate import validate
from tests.pv.test_binding import CONTRACT, FILES, TINY, project
from tests.pv.test_gate import PLACE, commit, edit, record, repository, run

assert repository  # a fixture
FLOOR = "{file: floors/tiny.json, stage: any, arithmetic: int8, times: 2.0}"
TOLERANCE = f"tolerance: {{metric: nmse, limit: 6.0e-5, because: measured, floor: {FLOOR}}}"
HELD = CONTRACT.replace("  status: PARTIAL\n", f"  {TOLERANCE}\n").replace(
    "metadata:\n", "metadata:\n  kind: schema\n  references: [RFC 1952]\n"
)
LINE = HELD.splitlines().index(f"  {TOLERANCE}") + 1


def spread(largest, median=0.0):
    return {"max": largest, "median": median}


def row(stage, nmse, a="int8", kind="cumulative", **more):
    return {"a": a, "b": "float64", "kind": kind, "stage": stage, "nmse": spread(nmse), "layers": [nmse], **more}


def document(*rows, sha256=TINY):
    return {"format": "apr-floor/1", "model": {"sha256": sha256}, "rows": list(rows)}


STORED = document(
    row("attn_out", 1.0e-5),
    row("ffn_out", 4.0e-5),
    row("ffn_out", 1.0, kind="isolated"),
    row("ffn_out", 1.0, a="float16"),
    {**row("ffn_out", 9.0), "b": "transformers float32"},
)


def reference(**changes):
    known = {"file": "f.json", "stage": "any", "arithmetic": "int8", "kind": "cumulative", "times": 2.0}
    return FloorReference(**{**known, **changes})


def stored(value=STORED):
    return stored_floor(json.dumps(value).encode(), "f.json")


# -- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, 4.0e-5),
        ({"stage": "attn_out"}, 1.0e-5),
        ({"kind": "isolated"}, 1.0),
        ({"arithmetic": "float16", "stage": "ffn_out"}, 1.0),
    ],
)
def test_the_floor_is_the_largest_error_of_the_stage_or_of_any(changes, want):
    assert floor_of(stored(), reference(**changes), "nmse") == want


def test_what_is_measured_against_another_engine_is_no_floor_of_an_arithmetic():
    with pytest.raises(PvError, match=r"^f\.json holds no isolated floor of the arithmetic 'float16'"):
        floor_of(stored(), reference(arithmetic="float16", kind="isolated"), "nmse")
    assert 9.0 not in [error["nmse"] for error in stored().errors.values()]


@pytest.mark.parametrize(
    ("changes", "metric", "message"),
    [
        (
            {"arithmetic": "int4"},
            "nmse",
            r"holds no cumulative floor of the arithmetic 'int4'\n  hint: did you mean 'int8'",
        ),
        ({"stage": "ffn_outt"}, "nmse", r"holds no floor of the stage 'ffn_outt'\n  hint: did you mean 'ffn_out'"),
        ({}, "rms_ratio", r"holds no rms_ratio\n  hint: measure it again"),
    ],
)
def test_what_a_file_does_not_hold_is_named(changes, metric, message):
    with pytest.raises(PvError, match=rf"^f\.json {message}"):
        floor_of(stored(), reference(**changes), metric)


def test_an_infinite_floor_is_read_as_such():
    assert floor_of(stored(document(row("ffn_out", "inf"))), reference(), "nmse") == math.inf


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff", "'utf-8' codec"),
        (b"[" * 100_000, "maximum recursion depth"),
        (b'{"format": "apr-floor/1", "format": "apr-floor/1"}', "a key stands twice"),
        (b"[]", "it is no apr-floor/1"),
        (b'{"format": "apr-floor/2"}', "it is no apr-floor/1"),
        (b'{"format": "apr-floor/1"}', "model has no sha256"),
        (json.dumps({**STORED, "rows": None}).encode(), "its rows are no list of objects"),
        (json.dumps({**STORED, "rows": [1]}).encode(), "its rows are no list of objects"),
        (json.dumps(document({**row("x", 1), "nmse": 1})).encode(), "nmse has no max"),
        (json.dumps(document(row("x", 1.0), row("x", 2.0))).encode(), "a row stands twice"),
        (json.dumps(document(row("x", -1.0))).encode(), r"the largest nmse of a row is -1\.0"),
        (json.dumps(document(row("x", True))).encode(), "the largest nmse of a row is True"),
        (json.dumps(document(row("x", math.nan))).encode(), "NaN is not JSON"),
        (
            json.dumps(document(row("x", 0.4, layers=[0.9]))).encode(),
            r"the largest nmse of x is 0\.4, but that of its layers is 0\.9",
        ),
        (
            json.dumps(document(row("x", 0.4, layers=[0.3, 0.1]))).encode(),
            r"the largest nmse of x is 0\.4, but that of its layers is 0\.3",
        ),
        (json.dumps(document(row("x", 0.4, layers=[0.4, "nan"]))).encode(), "the largest nmse of a row is 'nan'"),
        (json.dumps(document(row("x", 0.4, layers=[]))).encode(), "x has no layers"),
        (json.dumps(document(row("x", 0.4, layers=0.4))).encode(), "x has no layers"),
        (json.dumps(document({**row("x", 0.4), "nmse": {"max": 0.4}})).encode(), "nmse has no median"),
        (
            json.dumps(document({**row("x", 0.4), "nmse": spread(0.4, 0.5)})).encode(),
            r"the median nmse of x is 0\.5, above the largest, 0\.4",
        ),
        (
            json.dumps(document(row("x", 0.4, rms_ratio=spread(0.1, 0.2)))).encode(),
            r"the median rms_ratio of x is 0\.2, above the largest, 0\.1",
        ),
    ],
)
def test_what_is_no_floor_is_refused(data, message):
    with pytest.raises(
        PvError, match=rf"^f\.json holds no floor: {message}(.|\n)*\n  hint: measure it again: apr floor"
    ):
        stored_floor(data, "f.json")


@pytest.mark.parametrize("name", ["../f.json", "/etc/passwd", "a/../../f.json", "f\0.json"])
def test_a_file_outside_of_the_project_is_refused(tmp_path, name):
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "f.json").write_text("{}")
    with pytest.raises(PvError, match="leads out of the project"):
        read_bytes(reference(file=name), root)


def test_a_link_that_leads_out_of_the_project_is_refused(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "f.json").write_text("{}")
    (root / "f.json").symlink_to(tmp_path / "f.json")
    with pytest.raises(PvError, match=r"^'f\.json' leads out of the project"):
        read_bytes(reference(), root)


@pytest.mark.parametrize(
    ("name", "message"), [("gone.json", r"^there is no file gone\.json\n  hint: measure it"), (".", r"^\. is no file$")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, message):
    with pytest.raises(PvError, match=message):
        read_bytes(reference(file=name), tmp_path)


# -- the rules --------------------------------------------------------------------------------------------------------


def held(tmp_path, *changes, floor=STORED, lint=False, text=HELD):
    """What PV-TOL finds, after each pair of changes, old and new, in the contract."""
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    project(tmp_path, **{PLACE: text})
    if floor is not None:
        (tmp_path / "floors").mkdir(exist_ok=True)
        (tmp_path / "floors" / "tiny.json").write_text(json.dumps(floor))
    forget()
    found = validate([tmp_path / PLACE], lint=lint).findings
    return [(at.rule, at.severity, at.line, at.message, at.hint) for at in found if at.rule.startswith("PV-TOL")]


def test_a_limit_between_the_floor_and_its_times_is_accepted(tmp_path):
    for limit in ("4.0e-5", "6.0e-5", "8.0e-5"):
        assert held(tmp_path, "limit: 6.0e-5", f"limit: {limit}", lint=True) == []


BELOW = "what computes honestly would fail"


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            ("limit: 6.0e-5", "limit: 3.9e-5"),
            "its limit 3.9e-05 lies below the largest nmse of honest int8",
            f"it is 4e-05, measured in floors/tiny.json: {BELOW}",
        ),
        (
            ("limit: 6.0e-5", "limit: 8.1e-5"),
            "its limit 8.1e-05 is more than 2 times the largest nmse of honest int8",
            "at most 8e-05, since 4e-05 was measured in floors/tiny.json",
        ),
        (
            ("limit: 6.0e-5", "limit: 4.0e-2"),
            "its limit 0.04 is more than 2 times the largest nmse of honest int8",
            "at most 8e-05, since 4e-05 was measured in floors/tiny.json",
        ),
        (
            ("limit: 6.0e-5", "limit: 4.0e-2", "times: 2.0", "times: 1000"),
            "a limit of 1000 times the floor is none",
            "from 1 to 4: what lies further above honest errors is one",
        ),
        (
            ("limit: 6.0e-5", "limit: 6.0e-5", "stage: any", "stage: attn_out"),
            "its limit 6e-05 is more than 2 times attn_out nmse of honest int8",
            "at most 2e-05, since 1e-05 was measured in floors/tiny.json",
        ),
        (
            ("int8", "int4"),
            "floors/tiny.json holds no cumulative floor of the arithmetic 'int4'",
            "did you mean 'int8'?",
        ),
        (("any", "ffn"), "floors/tiny.json holds no floor of the stage 'ffn'", "did you mean 'ffn_out'?"),
        (
            ("floors/tiny.json", "floors/tin.json"),
            "there is no file floors/tin.json",
            "measure it: apr floor MODEL --output FILE; it is looked for from the project's folder",
        ),
        (
            ("floors/tiny.json", "../tiny.json"),
            "'../tiny.json' leads out of the project",
            "write it from the project's folder",
        ),
        (
            ("metric: nmse", "metric: ulp"),
            "there is no floor of the metric 'ulp'",
            "measured are nmse, rms_ratio, max_abs_over_max",
        ),
        (
            ("metric: nmse", "metric: rms_ratio"),
            "floors/tiny.json holds no rms_ratio",
            "measure it again with today's apr",
        ),
        (
            ("times: 2.0", "times: 4.5"),
            "a limit of 4.5 times the floor is none",
            "from 1 to 4: what lies further above honest errors is one",
        ),
        (
            ("times: 2.0", "times: 0.5"),
            "a limit of 0.5 times the floor is none",
            "from 1 to 4: what lies further above honest errors is one",
        ),
        (
            ("times: 2.0", "times: .nan"),
            "a limit of nan times the floor is none",
            "from 1 to 4: what lies further above honest errors is one",
        ),
    ],
)
def test_a_limit_that_does_not_keep_to_its_floor_is_an_error(tmp_path, changes, message, hint):
    assert held(tmp_path, *changes) == [("PV-TOL-004", ERROR, LINE, f"T-1: {message}", hint)]


def test_a_floor_of_another_model_is_an_error(tmp_path):
    found = held(tmp_path, floor=document(row("ffn_out", 4.0e-5), sha256="ee" * 32))
    message = "T-1: floors/tiny.json was measured on the model eeeeeeeeeeee.., which is none of its models"
    assert found == [("PV-TOL-004", ERROR, LINE, message, "measure tiny or smol")]


@pytest.mark.parametrize(
    "changes",
    [
        (
            "    live: checks.sums:files\n",
            "",
            "    oracle: checks.sums:same_as_zlib\n",
            "",
            "  models: [tiny, smol]\n",
            "",
        ),
        ("models: [tiny, smol]", "models: [tiny, small]"),
    ],
)
def test_whose_models_are_not_known_is_not_told_that_a_floor_is_of_another(tmp_path, changes):
    assert held(tmp_path, *changes, floor=document(row("ffn_out", 4.0e-5), sha256="ee" * 32)) == []


def test_a_floor_that_is_infinite_justifies_no_finite_limit(tmp_path):
    ((rule, *_, message, hint),) = held(tmp_path, floor=document(row("ffn_out", "inf")))
    assert rule == "PV-TOL-004"
    assert message == "T-1: its limit 6e-05 lies below the largest nmse of honest int8"
    assert hint.startswith("it is inf, measured")


@pytest.mark.parametrize("key", ["file: floors/tiny.json, ", "stage: any, ", "arithmetic: int8, ", ", times: 2.0"])
def test_a_floor_without_one_of_its_keys_is_refused(tmp_path, key):
    project(tmp_path, **{PLACE: HELD.replace(key, "")})
    (tmp_path / "floors").mkdir()
    (tmp_path / "floors" / "tiny.json").write_text(json.dumps(STORED))
    found = [(at.rule, at.severity) for at in validate([tmp_path / PLACE]).findings]
    assert [at for at in found if at[0].startswith(("PV-TYPE", "PV-TOL"))] == [("PV-TYPE-002", ERROR)]


def test_a_contract_that_lies_in_no_project_is_not_held_to_a_file(tmp_path):
    (tmp_path / "x.yaml").write_text(HELD)
    assert [at.rule for at in validate([tmp_path / "x.yaml"]).findings if at.rule.startswith("PV-TOL")] == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "Expecting value"),
        (json.dumps(STORED)[:-1], "Expecting"),
        (json.dumps({**STORED, "format": "apr-floor/2"}), "it is no apr-floor/1"),
        (json.dumps(document(row("ffn_out", 4.0e-5), row("ffn_out", 8.0e-5))), "a row stands twice"),
    ],
)
def test_a_floor_whose_file_is_broken_is_an_error_where_it_is_named(tmp_path, data, message):
    project(tmp_path, **{PLACE: HELD, "floors/tiny.json": data})
    forget()
    (found,) = [at for at in validate([tmp_path / PLACE]).findings if at.rule.startswith("PV-TOL")]
    assert (found.rule, found.severity, found.line) == ("PV-TOL-004", ERROR, LINE)
    assert found.message.startswith(f"T-1: floors/tiny.json holds no floor: {message}")
    assert found.hint == "measure it again: apr floor MODEL --output FILE"


def test_a_floor_of_another_stage_or_arithmetic_alone_is_an_error(tmp_path):
    ((*_, message, _),) = held(tmp_path, "any", "lm_head", floor=STORED)
    assert message == "T-1: floors/tiny.json holds no floor of the stage 'lm_head'"
    ((*_, message, _),) = held(tmp_path, floor=document(row("ffn_out", 4.0e-5, kind="isolated")))
    assert message == "T-1: floors/tiny.json holds no cumulative floor of the arithmetic 'int8'"


def test_times_have_a_bound_that_the_vocabulary_names():
    from pv.vocabulary import FLOOR as RECORD

    assert RECORD.keys["times"].what.endswith(f"1 to {MOST_TIMES:g}")


# -- the claim --------------------------------------------------------------------------------------------------------


def test_the_file_of_a_floor_belongs_to_the_claim(tmp_path):
    held(tmp_path)
    config, contract = project(tmp_path, **{PLACE: HELD})
    before = [bind(contract, test, config) for test in contract.tests]
    (tmp_path / "floors" / "tiny.json").write_text(json.dumps(STORED) + "\n")
    after = [bind(contract, test, config) for test in contract.tests]
    assert after[0].claim != before[0].claim
    assert (after[0].code, after[1]) == (before[0].code, before[1])


def test_evidence_is_stale_once_the_floor_is_another(tmp_path):
    from pv.evidence.folder import read
    from tests.pv.test_binding import recorded

    held(tmp_path)
    config, contract = project(tmp_path, **{PLACE: HELD})
    recorded(bind(contract, contract.tests[0], config), config)
    earned = row_of(contract, contract.tests[0], config, read(config.evidence)).earned
    assert earned.level.value == "DISCHARGED"
    (tmp_path / "floors" / "tiny.json").write_text(json.dumps(document(row("ffn_out", 5.0e-5))))
    earned = row_of(contract, contract.tests[0], config, read(config.evidence)).earned
    assert (earned.level.value, "claim changed" in earned.reasons[0]) == ("STALE", True)


def test_a_test_whose_floor_is_missing_cannot_be_bound(tmp_path):
    config, contract = project(tmp_path, **{PLACE: HELD})
    with pytest.raises(
        PvError, match=r"checksum-v1\.yaml:\d+: T-1: there is no file floors/tiny\.json\n  hint: measure"
    ):
        bind(contract, contract.tests[0], config)


# -- pv gate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (f", floor: {FLOOR}", "", "T-1: the floor of the tolerance is gone, and nothing justifies its limit"),
        ("times: 2.0", "times: 3.0", ""),
        ("limit: 1.0e-4", "limit: 9.0e-5", ""),
        (f"limit: 1.0e-4, because: measured, floor: {FLOOR}", "limit: 0, because: equal", ""),
    ],
)
def test_the_floor_of_a_tolerance_may_not_be_taken_away(repository, old, new, words):
    run(repository, "checkout", "-q", "main")
    text = (repository / PLACE).read_text()
    (repository / PLACE).write_text(text.replace("because: measured", f"because: measured, floor: {FLOOR}"))
    (repository / "floors").mkdir()
    (repository / "floors" / "tiny.json").write_text(json.dumps(document(row("ffn_out", 8.0e-5))))
    record(repository)
    commit(repository)
    run(repository, "checkout", "-q", "-B", "work")
    edit(repository, (old, new))
    record(repository)
    found = [each.message for each in gate("main", repository).findings if each.id == "GATE-TOLERANCE"]
    assert found == [words] * bool(words)


def test_files_of_the_tests_are_those_of_a_project():
    assert set(FILES) > {"pyproject.toml", "models.yaml"}
