"""Ids of lint rules in the public tool's catalog that no rule here has: what asks the same, or why nothing does."""

from collections.abc import Mapping
from types import MappingProxyType

ASKED_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PV-VAL-001": ("PV-TYPE-001", "PV-TYPE-002", "PV-TYPE-003"),
        "PV-VAL-002": ("SCHEMA-002",),
        "PV-VAL-004": ("SCHEMA-004",),
        "PV-VAL-005": ("SCHEMA-005",),
        "PV-VAL-006": ("SCHEMA-006",),
        "PV-AUD-002": ("SCHEMA-001",),
        "PV-SCR-002": ("BIND-001",),
        "PV-PRV-001": ("PROVABILITY-001",),
        "PV-PRV-002": ("PROVABILITY-001", "AUDIT-001"),
    }
)
"""Ids by the rules that ask the same under another id: nothing is reported twice."""

SCORE = "a score made of counts of entries says nothing about what holds"
TREND = "the trend of a score is left out with the score; a baseline shows which findings are new"
SOURCE = "it takes the sources of a Rust crate; falsifiers are looked up by PV-RUN-007 to PV-RUN-009"
LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "PV-SCR-001": SCORE,
        "PV-SCR-003": SCORE,
        "PV-SCR-004": SCORE,
        "PV-PRV-004": "most contracts need no Lean proof; one that states a grade which does is asked by PV-ENF-002",
        "PV-TRD-001": TREND,
        "PV-TRD-002": TREND,
        "PV-VER-001": SOURCE,
        "PV-VER-002": SOURCE,
    }
)
"""Ids that nothing asks, with the reason."""


def gone_to(name: str) -> str:
    """Where an id of the catalog that no rule here has went, to be said after the id; empty for any other."""
    if name in LEFT_OUT:
        return f"of the public tool is left out: {LEFT_OUT[name]}"
    return f"of the public tool is asked by {', '.join(ASKED_BY[name])}" if name in ASKED_BY else ""
