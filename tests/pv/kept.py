"""What lies in an evidence folder, for tests that ask no more than that."""

from pathlib import Path

from pv.evidence.folder import read
from pv.statement import Problem, Record


def read_all(folder: Path) -> tuple[list[Record], list[Problem]]:
    """The records in order of their paths, and what cannot be believed."""
    found = read(folder)
    return list(found.records.values()), list(found.problems)
