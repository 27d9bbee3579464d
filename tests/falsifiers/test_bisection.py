"""Tests of falsifiers.bisection and bisection_kinds: every fault is a mutant and shows, and every reading is needed."""

from pathlib import Path

import numpy as np
import pytest

from falsifiers import bisection, bisection_kinds
from falsifiers.bisection import ONE_LOGIT, bisected_backwards, of_many_tokens, telling, tried
from falsifiers.fault import TOKENIZER
from falsifiers.faults import FAULTS, NAMED
from falsifiers.synthetic import random_model
from pv.contract import read_contract
from pv.trial import Falsified, Skipped, Trial

CONTRACT = Path(__file__).resolve().parents[2] / "contracts/bisect-v1.yaml"
TESTS = {test.id[-3:]: test for test in read_contract(CONTRACT).tests}


def test_every_fault_is_a_mutant_of_one_test():
    planted = [name for number in ("001", "003", "004") for name in TESTS[number].mutants]
    assert sorted(planted) == sorted(name for name, fault in NAMED.items() if fault.where != TOKENIZER)
    for number, module in (("001", bisection), ("003", bisection_kinds), ("004", bisection_kinds)):
        assert all(getattr(module, name) is NAMED[name].plant for name in TESTS[number].mutants)


def test_faults_of_the_tokenizer_are_mutants_where_tokens_are_promised():
    (test,) = (one for one in read_contract(CONTRACT.with_name("model-parity-v1.yaml")).tests if one.id[-3:] == "007")
    assert sorted(test.mutants) == sorted(name for name, fault in NAMED.items() if fault.where == TOKENIZER)


def test_no_fault_is_imported_that_is_no_mutant():
    """Or a fault that was taken out of the contract would go unseen."""
    planted = {name for test in TESTS.values() for name in test.mutants}
    for module in (bisection, bisection_kinds):
        assert {name for name, value in vars(module).items() if hasattr(value, "fault")} <= planted


def test_what_the_contract_counts_is_what_there_is():
    third = TESTS["003"]
    reference = [name for name in third.mutants if NAMED[name].where == "reference"]
    assert f"each of {len(third.mutants)} planted faults, {len(reference)} of them in the reference" in third.prediction
    assert f"each of {len(TESTS['001'].mutants)} planted faults" in TESTS["001"].prediction
    assert f"each of {len(TESTS['004'].mutants)} faults" in TESTS["004"].prediction
    assert f"the {len(FAULTS)} faults that are planted" in CONTRACT.read_text()
    count = len(tried(random_model(np.random.default_rng(1), "qwen2"))) + 1
    assert f"{count} of {count} are said to diverge" in TESTS["002"].prediction


def test_each_fault_shows_on_one_of_the_models_that_it_is_tried_on():
    models = [model for _, model, _, _ in bisection_kinds.kinds(np.random.default_rng(2))]
    for name in (*TESTS["003"].mutants, *TESTS["004"].mutants):
        if name not in TESTS["004"].mutants:  # they show where there are two threads and vector code
            assert any(NAMED[name].shows_on(model) for model in models), name


@pytest.mark.parametrize("name", ["nan_is_zeroed", "nibbles_are_exchanged", "scaling_of_positions_is_forgotten"])
def test_a_fault_that_few_models_show_is_noticed(name):
    with NAMED[name].plant(), np.errstate(all="ignore"), pytest.raises(Falsified, match=r"is said to be DIVERGES$"):
        bisection_kinds.models_of_every_kind_agree(Trial(seed=3))


@pytest.fixture(scope="module", params=range(72, 75))
def wide(request):
    rng = np.random.default_rng(request.param)
    return (model := of_many_tokens(rng)), telling(model, rng)


def test_one_logit_of_an_oracle_shows_in_its_entry_alone(wide):
    with NAMED[ONE_LOGIT].plant():
        found = bisected_backwards(*wide)
    assert [(one.stage, one.layer) for one in found.verdict.defects] == [("lm_head", None)]
    (row,) = (row for row in found.measured.rows if row.suspect)
    (reading,) = row.failing
    assert reading is row.isolated
    assert reading.whole < 1.4
    assert reading.single < 4
    assert reading.peak > 6
    assert reading.spot.coordinate == (wide[0].config.vocab - 1,)


def test_without_the_largest_entries_one_logit_goes_unseen(wide):
    with bisection.single_entries_are_not_read(), NAMED[ONE_LOGIT].plant():
        assert bisected_backwards(*wide).verdict.name == "WITHIN_FLOOR"


@pytest.mark.parametrize(
    ("name", "reading"),
    [("logits_are_capped", "predicted"), ("fused_kernel_rounds_what_it_multiplied", "own")],
)
def test_a_fault_that_one_reading_alone_shows_is_found_by_it(name, reading):
    model = random_model(np.random.default_rng(1), "qwen2")
    with NAMED[name].plant():
        found = bisection.bisected(model)
    suspects = [row for row in found.measured.rows if row.suspect]
    assert [row.key for row in suspects] == NAMED[name].places(model)
    assert all(row.failing == [getattr(row, reading)] for row in suspects)


def test_vector_code_and_threads_are_skipped_where_there_are_none(monkeypatch):
    made = bisection_kinds.fast
    monkeypatch.setattr(bisection_kinds, "fast", lambda model: one_thread(made(model)))
    with pytest.raises(Skipped, match=r"^(this process may use one thread only|this CPU has no vector code)"):
        bisection_kinds.two_threads_of_vector_code_agree(Trial(seed=4))


def one_thread(side):
    side.threads = 1
    return side


def test_the_faults_that_are_tried_begin_with_another_path_and_hold_small_ones():
    chosen = [one.name for one in tried(random_model(np.random.default_rng(1), "qwen2"))]
    assert chosen[0] == "reference_serves_as_the_fast_path"
    assert set(bisection.SMALL) <= set(chosen)
    stages = {one.stage for one in FAULTS if one.stage and one.where != TOKENIZER}
    assert len({NAMED[name].stage for name in chosen}) == 1 + len(stages)
