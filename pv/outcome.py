"""What a trial came to."""

from enum import StrEnum


class Outcome(StrEnum):
    """The five ends of a trial. Only SURVIVED supports a level, and of a mutant only FALSIFIED does."""

    SURVIVED = "SURVIVED"  # it was tried, and the promise held
    FALSIFIED = "FALSIFIED"  # it was tried, and the promise is broken
    ERRORED = "ERRORED"  # it could not be tried, or made no comparison
    FLAKY = "FLAKY"  # the same seed gave another outcome
    SKIPPED = "SKIPPED"  # it was not tried, for a reason that is said


OBSERVED = frozenset({Outcome.SURVIVED, Outcome.FALSIFIED, Outcome.FLAKY})
"""The outcomes of trials that saw something: these are recorded, the others never are."""


def supports(outcome: Outcome, mutant: str | None) -> bool:
    """Whether the outcome speaks for its test: a promise has to survive, a planted defect has to be caught."""
    return outcome is (Outcome.SURVIVED if mutant is None else Outcome.FALSIFIED)
