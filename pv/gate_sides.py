"""What the checks of `pv gate` look at, and what they find: two versions of a project, and findings with stable ids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pv.contract import Contract
from pv.ledger_diff import Key, by_key
from pv.status import Row, Survey, shown

OVERCLAIM, BROKEN, DEMOTION, VERSION = "GATE-OVERCLAIM", "GATE-BROKEN", "GATE-DEMOTION", "GATE-VERSION"
EVIDENCE, UNREADABLE, TOLERANCE = "GATE-EVIDENCE", "GATE-UNREADABLE", "GATE-TOLERANCE"
LOST_MUTANT, LOST_FALSIFIER, LOST_MODEL = "GATE-LOST-MUTANT", "GATE-LOST-FALSIFIER", "GATE-LOST-MODEL"
LOST_TEST, LOST_CONTRACT, RETIRED = "GATE-LOST-TEST", "GATE-LOST-CONTRACT", "GATE-RETIRED"
SETTING, GOAL = "GATE-SETTING", "GATE-GOAL"
FEWER, CHANGED_MUTANT, LOST_CODE = "GATE-FEWER-COMPARISONS", "GATE-CHANGED-MUTANT", "GATE-LOST-CODE"

ACCEPTED_AS: Mapping[str, str] = MappingProxyType(
    {
        DEMOTION: "demotion",
        TOLERANCE: "tolerance",
        LOST_MUTANT: "mutant",
        LOST_FALSIFIER: "falsifier",
        LOST_MODEL: "model",
        LOST_TEST: "test",
        RETIRED: "retirement",
        FEWER: "comparisons",
        CHANGED_MUTANT: "defect",
        LOST_CODE: "code",
    }
)
"""What a contract's changelog may accept, by the word that it uses for it. SETTING and GOAL are accepted by that of the
project, by name; nothing else can be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a branch takes away, or claims without having it. test: what is weakened, a test or a setting.

    package  of LOST_CODE, the one that left the digests
    """

    id: str
    path: str
    line: int
    message: str
    hint: str
    contract: str = ""
    test: str = ""
    package: str = ""

    def because(self, reason: str) -> "Finding":
        """With why a changelog does not accept it."""
        return replace(self, message=f"{self.message}; {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two versions of a project. renamed: new stems of contracts by their old ones; plain: base texts for a reader."""

    base: Survey
    head: Survey
    renamed: Mapping[str, str] = field(default_factory=dict)
    plain: Callable[[str], str] = str

    def stem(self, old: str) -> str:
        return self.renamed.get(old, old)

    def contract(self, stem: str) -> Contract | None:
        return next((contract for contract in self.head.contracts if contract.stem == stem), None)

    @property
    def pairs(self) -> list[tuple[Key, Row, Row]]:
        """The tests that both versions have."""
        new = by_key(self.head.rows)
        return [(key, row, new[key]) for key, row in by_key(self.base.rows, self.renamed).items() if key in new]

    def at(self, contract: Contract, line: int, id: str, test: str, message: str, hint: str) -> Finding:
        """A finding at a line of a contract of the new version."""
        path = shown(contract.path, self.head.root)
        return Finding(id=id, path=path, line=line, message=message, hint=hint, contract=contract.stem, test=test)


def accepting(contract: Contract, name: str, id: str) -> str:
    """How a changelog accepts a loss."""
    entry = f"accepts: {{{name}: [{ACCEPTED_AS[id]}]}}"
    return f"an entry of {contract.stem}'s changelog with its new version, a reason, and {entry}"
