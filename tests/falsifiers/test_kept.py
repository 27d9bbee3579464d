"""Tests of falsifiers.kept: what is served is what would be computed, and a fault in its own code is never served."""

import numpy as np
import pytest

from engine.bisection import readings
from engine.bisection.floor import Evaluations
from engine.bisection.naming import Spec
from engine.bisection.sides import PathSide, Pieces
from falsifiers import bisection, kept
from falsifiers.faults import FAULTS, NAMED
from falsifiers.kept import Kept
from falsifiers.synthetic import random_model
from pv.trial import patched

TOKENS = bisection.TOKENS[:18]
OF_REFERENCE = [one.name for one in FAULTS if one.where == "reference"]


@pytest.fixture(scope="module")
def model():
    return random_model(np.random.default_rng(71), "llama")


@pytest.fixture
def beside(model):
    return Kept(model, TOKENS)


def fast(model):
    return PathSide(Spec("m@fast", "m", "fast"), model, threads=1)


def said(found):
    return found.verdict, found.measured.rows, found.measured.decisive, found.computed


def fresh(model):
    return bisection.bisected(model, TOKENS)


def test_what_is_kept_changes_nothing_that_is_said(model, beside):
    for name in ("silu_is_gelu", "last_row_of_up_is_another", "rows_of_the_embedding_are_one_off"):
        with NAMED[name].plant():
            assert said(beside.bisect(fast(model))) == said(fresh(model)), name
    assert said(beside.bisect(fast(model))) == said(fresh(model))
    assert beside.served == 4 + 2 * 3  # the pass each time; of two floors the first measures


@pytest.mark.parametrize("name", OF_REFERENCE)
def test_a_fault_in_the_reference_is_not_served_from_what_was_kept(model, beside, name):
    beside.bisect(fast(model))
    served = beside.served
    with NAMED[name].plant(), np.errstate(all="ignore"):
        found = beside.bisect(fast(model))
    places = NAMED[name].places(model)
    assert (found.verdict.defects[0].stage, found.verdict.defects[0].layer) == places[0]
    assert beside.served == served
    assert beside.bisect(fast(model)).verdict.name == "WITHIN_FLOOR"
    assert beside.served == served + 3


def test_what_a_fault_in_the_reference_gave_is_not_served_once_it_is_taken_out(model):
    with NAMED["reference_has_gelu"].plant():
        beside = Kept(model, TOKENS)
        assert beside.bisect(fast(model)).verdict.name == "DIVERGES"
    assert beside.bisect(fast(model)).verdict.name == "WITHIN_FLOOR"


def test_a_constant_by_which_floors_are_read_counts_as_code(beside):
    assert beside.holds()
    with patched(readings, "RESOLUTION", 2.0**-20):
        assert not beside.holds()
    assert beside.holds()


def test_faults_of_the_fast_path_leave_the_code_of_the_oracle_alone(beside):
    for one in FAULTS:
        with one.plant():
            assert beside.holds() is (one.where != "reference"), one.name


def test_a_floor_of_other_stages_is_measured_though_one_of_the_kept_stands_among_them(model, beside):
    """As where a repaired embedding is the oracle's own, and what follows is the subject's."""
    beside.bisect(fast(model))
    with NAMED["silu_is_gelu"].plant():
        fast(model).stages(TOKENS, pieces := Pieces(len(TOKENS)))
    mixed = {**pieces.stages, ("embedding", 0): beside.stages["embedding", 0]}
    for names in (("int8", "float32"), *(names for names, alone in beside.floors if not alone)):
        names = [name for name in names if name != "handed over in float32"]
        got = kept._KeptFloors(beside).floor(model, names, TOKENS, mixed)
        want = Evaluations().floor(model, names, TOKENS, mixed)
        assert got.exact.keys() == want.exact.keys()
        assert all(np.array_equal(got.exact[key], want.exact[key]) for key in want.exact)
        assert not np.array_equal(got.exact["ffn_swigl", 0], beside.stages["ffn_swigl", 0])
