"""Tests of engine.floor_check: which numbers of a stored floor hold, and by how much they may differ."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.floor_check import LOOSE, NEAR, SAME, Different, compare, order_of_sums
from engine.floor_file import Spread, read_floor
from engine.registry import locate
from tests.engine.test_floor_file import FLOOR as MADE_UP
from tests.engine.test_floor_file import FLOORS, ORACLE

STORED = read_floor(FLOORS / "smollm2-135m.json")
OTHER = replace(STORED, sums="f" * 16)


def edited(floor, number, factor, metric="nmse", key="max"):
    """The floor with one number of one row multiplied; so is that of the layer, where the file would show it."""
    row = floor.rows[number]
    spread = getattr(row, metric)
    was = getattr(spread, key)
    changes = {metric: replace(spread, **{key: was * factor})}
    if (metric, key) == ("nmse", "max"):
        changes["layers"] = tuple(was * factor if value == was else value for value in row.layers)
    rows = (*floor.rows[:number], replace(row, **changes), *floor.rows[number + 1 :])
    return replace(floor, rows=rows)


def place(a, kind, stage):
    return next(i for i, row in enumerate(STORED.rows) if (row.a, row.kind, row.stage) == (a, kind, stage))


def test_a_floor_holds_beside_itself_and_every_number_of_it_is_compared():
    found = compare(STORED, STORED)
    assert (found.holds, found.numbers, found.same_sums, found.different) == (True, 3798, True, ())
    assert found.numbers == sum(6 + len(row.layers) for row in STORED.rows)


@pytest.mark.parametrize("row", STORED.rows, ids=lambda row: f"{row.a}-{row.kind}-{row.stage}")
def test_each_number_that_is_doubled_is_found(row):
    alone = replace(STORED, rows=(row,))
    name = f"{row.a} against float64, {row.kind}, {row.stage}: "
    for metric in ("nmse", "rms_ratio", "max_abs_over_max"):
        for key in ("max", "median"):
            was = getattr(getattr(row, metric), key)
            found = compare(edited(alone, 0, 2.0, metric, key), alone)
            assert (Different(f"{name}{metric} {key}", 2 * was, was, SAME) in found.different) is (was > 0)
            assert found.holds is (was == 0)
    for layer, was in enumerate(row.layers):
        layers = (*row.layers[:layer], 2 * was, *row.layers[layer + 1 :])
        found = compare(replace(STORED, rows=(replace(row, layers=layers),)), alone)
        assert [each.what for each in found.different] == [f"{name}nmse of layer {layer}"] * (was > 0)


@pytest.mark.parametrize(
    ("a", "kind", "other", "allowed"),
    [
        ("int8", "cumulative", False, SAME),
        ("float32", "isolated", False, SAME),
        ("int8", "cumulative", True, SAME),
        ("int8", "isolated", True, SAME),
        ("float16", "isolated", True, NEAR),
        ("float16", "cumulative", True, LOOSE),
        ("float32", "isolated", True, LOOSE),
        ("float32", "cumulative", True, LOOSE),
    ],
)
def test_what_a_number_may_differ_by_depends_on_the_order_of_sums(a, kind, other, allowed):
    again = OTHER if other else STORED
    where = place(a, kind, "ffn_out")
    for within, factor in ((True, allowed * 0.999), (True, 1.001 / allowed), (False, allowed * 1.001)):
        found = compare(edited(STORED, where, factor), again)
        assert found.holds is within, factor
        assert {each.allowed for each in found.different} == ({allowed} if not within else set())
        assert found.same_sums is not other
        assert found.undecided is (not within and allowed == LOOSE)


def test_the_largest_factor_of_each_arithmetic_is_told_and_how_tightly_it_is_held():
    where = place("float32", "isolated", "ffn_out")
    for again, allowed in ((STORED, SAME), (OTHER, LOOSE)):
        found = {group.name: group for group in compare(edited(STORED, where, 1 / 8), again).groups}
        assert {name: group.tight for name, group in found.items()} == {
            f"{a} {kind}": again is STORED or a == "int8" or (a, kind) == ("float16", "isolated")
            for a in ("float32", "float16", "int8")
            for kind in ("cumulative", "isolated")
        }
        assert sum(group.numbers for group in found.values()) == 3798
        assert found["float32 isolated"].largest == pytest.approx(8)
        assert found["float32 isolated"].allowed == allowed
        assert {group.largest for name, group in found.items() if name != "float32 isolated"} == {1.0}


def test_what_no_order_of_sums_explains_is_decided():
    where = place("float32", "isolated", "ffn_out")
    loose = edited(STORED, where, 17.0)
    assert compare(loose, OTHER).undecided
    assert not compare(loose, STORED).undecided
    assert not compare(STORED, OTHER).undecided
    assert not compare(edited(loose, place("int8", "isolated", "ffn_out"), 1.02), OTHER).undecided
    assert not compare(edited(STORED, where, math.inf), OTHER).undecided
    assert not compare(replace(STORED, rows=STORED.rows[1:]), OTHER).undecided
    assert not compare(replace(loose, model=replace(STORED.model, architecture="x")), OTHER).undecided


def test_what_is_measured_again_says_which_rows_are_of_an_arithmetic():
    claimed = replace(edited(STORED, place("int8", "isolated", "ffn_out"), 1.02), arithmetics=("float32", "float16"))
    assert [each.allowed for each in compare(claimed, OTHER).different] == 2 * [SAME]


def test_a_model_of_another_name_or_architecture_does_not_hold():
    other = replace(STORED, model=replace(STORED.model, name="else", architecture="qwen2"))
    name = f"name: else in the file, {STORED.model.name} today"
    built = "architecture: qwen2 in the file, llama today"
    found = compare(other, STORED)
    assert (found.holds, found.different, found.model, found.notes) == (False, (), (name, built), ())
    found = compare(other, STORED, named_by_folder=True)
    assert (found.holds, found.model, found.notes) == (False, (built,), (name,))


def test_other_versions_are_noted_and_hold():
    oracle = replace(ORACLE, engine="transformers 4, torch 2")
    other = replace(MADE_UP, package="77", numpy="9.9", oracles=(oracle,))
    found = compare(other, MADE_UP)
    assert found.holds
    assert found.notes == (
        "pv-contracts: 77 in the file, 0.1.0 today",
        "numpy: 9.9 in the file, 2.4.6 today",
        "transformers float32: transformers 4, torch 2 in the file, transformers 5, torch 2 today",
    )


def test_what_is_exact_is_so_in_any_order():
    where = place("int8", "isolated", "attn_softmax")
    assert STORED.rows[where].nmse.max == 0
    row = replace(STORED.rows[where], nmse=Spread(1e-30, 0.0), layers=(1e-30, *STORED.rows[where].layers[1:]))
    again = replace(OTHER, rows=(*STORED.rows[:where], row, *STORED.rows[where + 1 :]))
    assert [(each.stored, each.again) for each in compare(STORED, again).different] == [(0.0, 1e-30)] * 2
    assert not compare(edited(STORED, place("float32", "isolated", "ffn_out"), math.inf), OTHER).holds


def test_a_nan_holds_nowhere():
    where = place("int8", "isolated", "ffn_out")
    broken = edited(STORED, where, math.nan, "rms_ratio")
    for sides in ((STORED, broken), (broken, STORED), (broken, broken)):
        assert [each.what.rpartition(": ")[2] for each in compare(*sides).different] == ["rms_ratio max"]


@pytest.mark.parametrize("swap", [False, True])
def test_a_row_that_one_side_lacks_is_a_difference(swap):
    sides = (STORED, replace(STORED, rows=STORED.rows[:-1]))
    found = compare(*(sides[::-1] if swap else sides))
    assert (found.numbers, len(found.different)) == (3798, 6 + len(STORED.rows[-1].layers))
    assert {each.again if not swap else each.stored for each in found.different} == {None}


def test_nothing_compared_holds_nothing():
    assert not compare(replace(STORED, rows=()), replace(STORED, rows=())).holds


def test_errors_of_an_oracle_are_loose_in_any_order():
    where = next(i for i, row in enumerate(MADE_UP.rows) if row.a == ORACLE.label)
    assert compare(edited(MADE_UP, where, 10.0), MADE_UP).holds
    found = compare(edited(MADE_UP, where, 17.0), MADE_UP)
    assert (found.holds, found.undecided) == (False, False)


def test_the_order_of_sums_has_one_name_and_another_with_other_kernels():
    assert order_of_sums() == order_of_sums()
    assert len(order_of_sums()) == 16
    code = "from engine.floor_check import order_of_sums; print(order_of_sums())"

    def named(**env):
        environment = {**os.environ, **env}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert named().stdout.strip() == order_of_sums()
    assert named(OPENBLAS_NUM_THREADS="1").stdout.strip() == order_of_sums()


def test_a_sum_in_another_order_has_another_name(monkeypatch):
    before, mean = order_of_sums(), np.mean
    monkeypatch.setattr(np, "mean", lambda x, axis: mean(x[:, ::-1], axis=axis))
    assert order_of_sums() != before


@pytest.mark.needs_model
def test_the_stored_floor_of_the_real_model_is_what_is_measured_today():
    """Takes a minute: every number of the file rests on all of its prompts."""
    try:
        locate("smollm2-135m")
    except EngineError as error:
        pytest.skip(str(error))
    apr = Path(sys.executable).with_name("apr")
    command = [apr, "floor", "smollm2-135m", "--check", FLOORS / "smollm2-135m.json", "--json"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # more wait for each other, and are slower
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["different"] == []
    assert (done.returncode, found["numbers"]) == (0, 3798)
