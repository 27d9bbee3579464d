"""Tests of engine.bisection.verdict: the verdict, of readings that nobody measured."""

import math
from dataclasses import replace

import pytest

from engine.bisection.measured import Clue, Decisive, Finding, Measured, Row, TokenDifference
from engine.bisection.stages import expected
from engine.bisection.verdict import judge, suspects
from tests.engine.bisecting import reading

GOOD = Row(key=("x", 0), cumulative=reading(), isolated=reading())
BAD = reading(9.0, within=False)


def rows(**changes):
    """All rows of two layers; changes: of `stage_layer`, what is other there."""
    found = []
    for key in expected(2):
        name = key[0] if key[1] is None else f"{key[0]}_{key[1]}"
        found.append(replace(GOOD, key=key, **changes.pop(name, {})))
    assert not changes
    return found


def repaired(found, but=()):
    """The rows with a repaired pass in which all agree but these."""
    return [replace(row, repaired=reading(99.0) if row.key in but else reading()) for row in found]


def measured(found, **more):
    return Measured(rows=found, layers=2, **more)


def test_equal_bits_are_equal():
    verdict = judge(measured([replace(row, equal_bits=True) for row in rows()]))
    assert (verdict.name, verdict.exit_code) == ("EQUAL", 0)


def test_errors_of_the_size_of_the_floor_are_within_it():
    found = rows(lm_head={"equal_bits": True})
    assert (judge(measured(found)).name, judge(measured(found)).exit_code) == ("WITHIN_FLOOR", 0)


@pytest.mark.parametrize("name", ["isolated", "predicted", "own"])
def test_a_stage_whose_own_error_is_above_the_floor_is_named_once_its_repair_repairs_the_rest(name):
    found = repaired(rows(ffn_out_1={name: BAD}))
    assert suspects(found) == [("ffn_out", 1)]
    clue = Clue(3.5, ("only heads 2",))
    verdict = judge(measured(found, clues={("ffn_out", 1): clue}))
    (defect,) = verdict.defects
    assert (verdict.name, verdict.exit_code, verdict.suspects) == ("DIVERGES", 1, ())
    assert (defect.stage, defect.layer, defect.token, defect.spot.coordinate) == ("ffn_out", 1, 2, (2, 5))
    assert (defect.steps, defect.patterns) == (3.5, ("only heads 2",))
    assert (defect.isolated, defect.own, defect.repaired) == (name != "own", name == "own", True)
    assert "down's weights" in defect.operations[0]


def test_without_the_repair_nothing_is_named():
    verdict = judge(measured(rows(ffn_out_1={"isolated": BAD})))
    assert (verdict.name, verdict.exit_code, verdict.defects) == ("CANNOT_TELL", 2, ())
    assert [one.stage for one in verdict.suspects] == ["ffn_out"]


def test_a_suspect_behind_which_something_still_disagrees_is_not_proved_and_one_behind_that_is():
    found = rows(attn_norm_0={"isolated": BAD}, ffn_out_1={"isolated": BAD})
    verdict = judge(measured(repaired(found, but=[("ffn_norm", 0)])))
    assert [(one.stage, one.repaired) for one in verdict.defects] == [("ffn_out", True)]
    assert [(one.stage, one.repaired) for one in verdict.suspects] == [("attn_norm", False)]
    assert verdict.missing == (
        "a proof of attn_norm of layer 0: with the oracle's output put in, ffn_norm of layer 0 still does not agree",
    )
    alone = judge(measured(repaired(rows(attn_norm_0={"isolated": BAD}), but=[("ffn_norm", 0)])))
    assert (alone.name, alone.defects) == ("CANNOT_TELL", ())


def test_a_nan_in_the_repaired_pass_does_not_agree():
    found = repaired(rows(attn_norm_0={"isolated": BAD}))
    found[-1] = replace(found[-1], repaired=reading(math.nan))
    assert judge(measured(found)).name == "CANNOT_TELL"


def test_a_subject_that_takes_no_stages_is_never_proved_wrong():
    verdict = judge(measured(rows(ffn_out_1={"own": BAD}), injects=False))
    assert verdict.name == "CANNOT_TELL"
    assert verdict.missing == (
        "a proof of ffn_out of layer 1: above the floor on its own inputs, but nothing can be put into the subject",
    )


def test_an_error_that_was_carried_is_floor_up_to_its_allowance_and_above_it_if_every_stage_was_right_on_its_inputs():
    assert judge(measured(rows(ffn_out_1={"cumulative": reading(2.9, within=False)}))).name == "WITHIN_FLOOR"
    for far in (3.1, math.inf, math.nan):
        found = rows(ffn_out_1={"cumulative": reading(far, within=False)})
        verdict = judge(measured(found))
        assert verdict.name == "CANNOT_TELL"
        assert verdict.missing[0].startswith(
            f"a cause: from ffn_out of layer 1 on, the carried error is {far:.3g} times"
        )
        looked = judge(measured([replace(row, own=reading()) for row in found]))
        assert looked.name == "WITHIN_FLOOR"
        assert looked.notes[0].endswith("every stage is right on the inputs that it had")


def test_what_is_far_from_the_oracle_after_a_repair_and_right_on_its_inputs_agrees():
    found = repaired(rows(attn_norm_0={"isolated": BAD}), but=[("ffn_norm", 0)])
    right = [replace(row, right=row.key == ("ffn_norm", 0)) for row in found]
    assert judge(measured(right)).name == "DIVERGES"


def test_stages_that_nobody_says_are_lacking_leave_the_verdict_open():
    absent = [replace(row, why="not in the oracle") if row.key == ("ffn_silu", 1) else row for row in rows()]
    verdict = judge(measured(absent))
    assert verdict.name == "CANNOT_TELL"
    assert "ffn_silu of layer 1" in verdict.missing[0]
    assert judge(replace(measured(absent), lacking=frozenset({"ffn_silu"}))).name == "WITHIN_FLOOR"
    bits = [replace(row, equal_bits=True) for row in absent]
    assert (
        judge(replace(measured(bits), lacking=frozenset({"ffn_silu"}))).name == "WITHIN_FLOOR"
    )  # not EQUAL: one was not seen


def test_nan_on_both_sides_of_two_folders_is_not_equal():
    same = [replace(row, equal_bits=True) for row in rows()]
    untested = {"untested": "a model"}
    assert judge(replace(measured(same), **untested)).name == "EQUAL"
    broken = [replace(row, nan=row.key == ("ffn_out", 1)) for row in same]
    assert judge(replace(measured(broken), **untested)).name == "CANNOT_TELL"


def test_other_tokens_are_a_defect_of_the_stage_before_the_first():
    verdict = judge(measured(rows(), tokens=TokenDifference(3, 7, None, (4, 3))))
    (defect,) = verdict.defects
    assert (verdict.name, defect.stage, defect.token, defect.layer) == ("DIVERGES", "tokens", 3, None)
    assert defect.patterns == ("7 where the oracle has None",)


def test_a_finding_diverges_without_any_defect():
    verdict = judge(measured(rows(), findings=(Finding("silent-fallback", "another path"),)))
    assert (verdict.name, verdict.exit_code, verdict.defects) == ("DIVERGES", 1, ())


def flip(margin, resolution):
    return Decisive(top1=(5, 6), top5=4, kl=0.1, margin=margin, resolution=resolution)


def test_a_flip_within_the_floor_is_a_near_tie_and_one_above_it_has_no_cause():
    near = judge(measured(rows(), decisive=flip(0.1, 0.1)))
    assert (near.name, near.notes) == (
        "WITHIN_FLOOR",
        ("near-tie: the likeliest token is 5, not 6, by 0.1, within the floor",),
    )
    far = judge(measured(rows(), decisive=flip(0.11, 0.1)))
    assert far.name == "CANNOT_TELL"
    assert far.missing == (
        "a cause: the likeliest token is another by more than the floor, but not every stage was looked into",
    )


def test_nan_on_both_sides_tells_nothing_and_equal_bits_of_it_neither():
    found = [replace(row, equal_bits=True, nan=row.key == ("lm_head", None)) for row in rows()]
    verdict = judge(measured(found))
    assert verdict.name == "CANNOT_TELL"
    assert verdict.missing == ("numbers: both sides hold NaN in 1 stages, first lm_head",)


def test_what_follows_the_last_stage_that_was_compared_is_not_vouched_for():
    found = [replace(row, why="not in the oracle") if row.key[1] is None else row for row in rows()]
    verdict = judge(measured(found))
    assert verdict.name == "CANNOT_TELL"
    assert verdict.missing[1].endswith("what follows post_ffn_residual of layer 1 was not compared")
    assert judge(measured([replace(row, why="not in the oracle") for row in rows()])).name == "CANNOT_TELL"


def test_a_stage_that_the_oracle_lacks_may_be_the_one_that_fails_behind_it():
    found = repaired(rows(ffn_swigl_0={"isolated": BAD}))
    found = [replace(row, why="not in the oracle") if row.key == ("ffn_silu", 0) else row for row in found]
    (defect,) = judge(measured(found)).defects
    assert (defect.stage, defect.between) == ("ffn_swigl", (("ffn_silu", 0),))


def test_without_a_model_there_is_equality_or_nothing_to_tell():
    why = "a model: without one"
    equal = [replace(row, equal_bits=True) for row in rows()]
    assert judge(measured(equal, untested=why)).name == "EQUAL"
    verdict = judge(measured([*equal[:-1], replace(equal[-1], equal_bits=False)], untested=why))
    assert (verdict.name, verdict.missing) == ("CANNOT_TELL", (why,))
    assert judge(measured([], untested=why)).name == "CANNOT_TELL"


def test_equal_bits_of_some_stages_lack_the_others_and_no_model():
    why = "a model: without one"
    equal = [replace(row, equal_bits=True) for row in rows()]
    some = judge(measured([*equal[:-2], replace(equal[-2], why="not there"), equal[-1]], untested=why))
    assert some.missing == (f"1 of {len(equal)} stages, first final_norm, not there: capture them all",)
    lacking = [replace(row, why="not there") if row.key[0] == "ffn_silu" else row for row in equal]
    assert judge(measured(lacking, untested=why, lacking=frozenset({"ffn_silu"}))).missing == (why,)


def test_a_low_cosine_is_told_to_be_floor_unless_a_suspect_comes_before_it():
    low = {"cumulative": reading(cosine=0.99)}
    (note,) = judge(measured(rows(attn_out_0=low))).notes
    assert note.startswith("cosine below 0.999 in 1 stages from attn_out of layer 0 on (0.99000; lowest 0.99000")
    assert note.endswith("is floor, not a defect")
    behind = repaired(rows(attn_norm_0={"isolated": BAD}, attn_out_0=low))
    assert judge(measured(behind)).notes == ()
