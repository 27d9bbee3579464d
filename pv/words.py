"""The words that contracts, evidence and verdicts share: roles of falsifiers, levels of tests, names of folders."""

import re
from enum import StrEnum

ROLES = ("algorithm", "live", "oracle")

LIFE = ("RETIRED", "PROPOSED", "ACTIVE")
"""What metadata.status may say of a document, the least first; where it says nothing, it is ACTIVE."""

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""What a contract and a test must be called, as a whole: their evidence lies in folders of their names."""
FOLDER_NAMES = "letters, digits, '.', '_' and '-', 255 at most, and start with a letter or digit"


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
