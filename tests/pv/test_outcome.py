import pytest

from pv.outcome import OBSERVED, Outcome, supports


@pytest.mark.parametrize("outcome", Outcome)
def test_a_promise_is_supported_by_survival_alone_and_a_mutant_by_its_death_alone(outcome):
    assert supports(outcome, None) is (outcome is Outcome.SURVIVED)
    assert supports(outcome, "off_by_one") is (outcome is Outcome.FALSIFIED)


def test_a_trial_that_could_not_be_made_observed_nothing():
    assert {Outcome.SURVIVED, Outcome.FALSIFIED, Outcome.FLAKY} == OBSERVED
