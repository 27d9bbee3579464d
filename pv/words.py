"""The words that contracts, evidence and verdicts share: the roles of falsifiers and the levels of tests."""

from enum import StrEnum

ROLES = ("algorithm", "live", "oracle")


class Level(StrEnum):
    """What is believed of a test, and what a contract may state."""

    UNTESTED = "UNTESTED"
    PARTIAL = "PARTIAL_ALGORITHM_LEVEL"
    FUNCTIONAL = "FUNCTIONAL"
    DISCHARGED = "DISCHARGED"
    FALSIFIED = "FALSIFIED"
    STALE = "STALE"

    @property
    def worth(self) -> int:
        """Place in the order of levels: STALE is worth as much as UNTESTED, FALSIFIED less."""
        return {"FALSIFIED": -1, "UNTESTED": 0, "STALE": 0, "FUNCTIONAL": 2, "DISCHARGED": 3}.get(self.value, 1)


def level_named(text: str) -> Level | None:
    """The level that a word names, PARTIAL alone being accepted for the long name. None for a word that names none."""
    word = text.strip().upper()
    return Level.PARTIAL if word == "PARTIAL" else next((level for level in Level if level.value == word), None)
