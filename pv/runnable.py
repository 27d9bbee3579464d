"""Which tests of a contract nothing runs, although they name falsifiers: what they name is missing or not written.

Falsifiers are read as text, as the rules do that ask for them.
"""

from dataclasses import dataclass

from pv.contract import Contract, FalsificationTest
from pv.findings import RULES, Finding, finding
from pv.project import Project, project_around

UNRUNNABLE = (
    "PV-RUN-001",
    "PV-RUN-002",
    "PV-RUN-004",
    "PV-RUN-006",
    "PV-RUN-007",
    "PV-RUN-011",
    "PV-MODEL-001",
    "PV-MODEL-002",
)
"""Rules of which a test that breaks one is not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The tests of a contract, by their indices, that are not run.

    broken     what they name does not exist
    unwritten  it exists, and none of their falsifiers is written yet
    problems   what is wrong with those that are broken
    """

    broken: frozenset[int] = frozenset()
    unwritten: frozenset[int] = frozenset()
    problems: tuple[Finding, ...] = ()

    def binds(self, test: FalsificationTest) -> bool:
        """Whether all that a test names in order to be run is there."""
        return test.bound and test.index not in self.broken

    def runs(self, test: FalsificationTest) -> bool:
        return self.binds(test) and test.index not in self.unwritten


def standing_of(contract: Contract) -> Standing:
    """As `standing`, in the project around the contract; without looking for one where no test names falsifiers."""
    if not any(test.falsifiers for test in contract.tests):
        return Standing()
    return standing(contract, project_around(contract.path.parent))


def standing(contract: Contract, project: Project) -> Standing:
    """Which tests of the contract are not run in its project. PvError where that cannot be read."""
    import pv.rules  # its import fills the table

    assert pv.rules.RULE_MODULES
    broken: set[int] = set()
    problems = []
    for rule in (RULES[name] for name in UNRUNNABLE):
        hits = list(rule.check(contract) if rule.check else rule.within(contract, project) if rule.within else ())
        for hit in hits:
            problems.append(finding(rule, contract, hit))
            if isinstance(hit.at, tuple) and isinstance(index := hit.at[1], int):
                broken.add(index)
        if hits and rule.id == "PV-MODEL-002":  # it is told once, and no model of the registry can be used
            broken.update(test.index for test in contract.tests if test.models)
    unwritten = frozenset(test.index for test in contract.tests if test.bound and not _written(test, project))
    return Standing(broken=frozenset(broken), unwritten=unwritten - broken, problems=tuple(problems))


def _written(test: FalsificationTest, project: Project) -> bool:
    """Whether a falsifier of the test has a body; what cannot be told is believed."""
    named = (target.partition(":") for target in test.falsifiers.values())
    return not all(project.sources.unwritten(module, name) for module, _, name in named)
