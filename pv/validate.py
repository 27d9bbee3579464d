"""`pv validate` and `pv lint`: which files are measured, and the verdict on all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pv.bindings import attached, registries
from pv.facts import Facts
from pv.findings import ERROR, WARNING, Finding
from pv.judging import Run, judge
from pv.measure import measure
from pv.project import forget
from pv.rules import Checked, check_together
from pv.settings import Settings, Suppression
from pv.walk import find

if TYPE_CHECKING:
    from pv.cache import Cache

ACCEPT, REJECT, DECLINE = 0, 1, 2
"""Exit codes: measured and right; measured and wrong; not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run over files.

    checked     the files that were measured
    findings    what is wrong with them and counts: file by file in the order of the run, and by place within each;
                what is wrong with the settings comes last
    declined    (path, reason) of what could not be measured
    skipped     what folders hold and is known to be no contract, or hidden, or a link to a folder
    suppressed  findings that do not count, each with the reason in the settings
    known       findings that do not count since the baseline holds them
    lint        the rules of `pv lint` were asked too
    imports     and falsifiers were imported
    strict      warnings reject as errors do
    given       the bytes of paths that are no files
    broken      how many tests name falsifiers that cannot be run: they, a role or a model are not there
    """

    checked: tuple[Checked, ...]
    findings: tuple[Finding, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()
    skipped: tuple[Path, ...] = ()
    suppressed: tuple[tuple[Finding, Suppression], ...] = ()
    known: tuple[Finding, ...] = ()
    settings: Settings = field(default_factory=Settings)
    lint: bool = False
    imports: bool = False
    strict: bool = False
    given: Mapping[Path, bytes] = field(default_factory=dict)
    broken: int = 0

    def rejects(self, finding: Finding) -> bool:
        return finding.severity == ERROR or (self.strict and finding.severity == WARNING)

    @property
    def rejected(self) -> int:
        """How many of the measured files have a finding that rejects."""
        paths = {finding.path for finding in self.findings if self.rejects(finding)}
        return sum(str(file.path) in paths for file in self.checked)

    @property
    def accepted(self) -> int:
        return len(self.checked) - self.rejected

    @property
    def declared(self) -> int:
        """How many falsification tests the contracts declare."""
        return sum(len(file.facts.tests) for file in self.checked if file.facts)

    @property
    def bound(self) -> int:
        """How many of these name falsifiers, all of which are there."""
        return sum(file.facts.bound for file in self.checked if file.facts) - self.broken

    @property
    def code(self) -> int:
        if any(map(self.rejects, self.findings)):
            return REJECT
        return DECLINE if self.declined or not self.checked else ACCEPT


def validate(
    paths: Sequence[Path],
    *,
    lint: bool = False,
    strict: bool = False,
    settings: Settings | None = None,
    step: Callable[[], None] = lambda: None,
    bindings: Path | None = None,
    given: Mapping[Path, bytes] = MappingProxyType({}),
    jobs: int = 1,
    cache: "Cache | None" = None,
    imports: bool = False,
) -> Verdict:
    """Measure the files and all contracts in the folders at `paths`, each once. Bad input raises nothing.

    lint      ask the rules of `pv lint` too
    strict    warnings reject too
    settings  by default none: every finding counts
    step      called after each file
    bindings  a registry for `pv lint`; by default those that lie among the contracts
    given     the bytes of paths that are no files, such as standard input
    jobs      how many processes may work
    cache     what is known of contracts that were checked before
    imports   for `pv lint`: import the falsifiers, each module in a process of its own
    """
    forget()
    settings = settings or Settings()
    found = find(paths, given)
    checked: list[Checked] = []
    declined, skipped = found.declined, found.skipped
    within: list[Finding] = []
    broken = 0
    for measured in measure(found.files, given, lint=lint, jobs=jobs, cache=cache, imports=imports):
        if measured.checked is None:
            declined.append((str(measured.path), measured.declined))
        else:
            checked.append(measured.checked)
            within += measured.within
            broken += measured.broken
        step()
    if lint:
        known, unread = registries([file.path for file in checked if file.path not in given], skipped, bindings)
        contracts = attached([file.facts for file in checked if file.facts], known, chosen=bindings is not None)
        declined += unread
        skipped = [file for file in skipped if file not in {registry.path for registry in known}]
        checked += [Checked(registry.path, None, ()) for registry in known]
    else:
        contracts = [file.facts for file in checked if file.facts]
    run = Run([str(file.path) for file in checked], lint, imports)
    judged = judge(_findings(checked, contracts, within, lint=lint), settings, run, date.today())
    return Verdict(
        checked=tuple(checked),
        findings=judged.counts,
        declined=tuple(declined),
        skipped=(*skipped, *found.hidden),
        suppressed=judged.suppressed,
        known=judged.known,
        settings=settings,
        lint=lint,
        imports=imports,
        strict=strict,
        given=given,
        broken=broken,
    )


def _findings(
    checked: Sequence[Checked], contracts: Sequence[Facts], within: Sequence[Finding], *, lint: bool
) -> list[Finding]:
    order = {str(file.path): index for index, file in enumerate(checked)}
    found = [finding for file in checked for finding in file.findings]
    found += check_together(contracts, lint=lint)
    found += within
    return sorted(found, key=lambda finding: (order[finding.path], finding.line, finding.column, finding.rule))
