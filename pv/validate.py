"""`pv validate`: which files are measured, and the verdict on all of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pv.contract import UnreadableError
from pv.rules import ERROR, Checked, Finding, check_file, check_together
from pv.walk import is_contract, yaml_files

ACCEPT, REJECT, DECLINE = 0, 1, 2
"""Exit codes: measured and right; measured and wrong; not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run over files.

    checked   the files that were measured, each with what is wrong with it
    between   what is wrong between them
    declined  (path, reason) of what could not be measured
    skipped   files of a folder that are known to be no contracts
    """

    checked: tuple[Checked, ...]
    between: tuple[Finding, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()
    skipped: tuple[Path, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """File by file in the order of the run, and by place within each."""
        order = {str(file.path): index for index, file in enumerate(self.checked)}
        found = [finding for file in self.checked for finding in file.findings] + list(self.between)
        return sorted(found, key=lambda finding: (order[finding.path], finding.line, finding.column, finding.rule))

    @property
    def rejected(self) -> int:
        """How many files have an error."""
        return len({finding.path for finding in self.findings if finding.severity == ERROR})

    @property
    def accepted(self) -> int:
        return len(self.checked) - self.rejected

    @property
    def declared(self) -> int:
        """How many falsification tests the contracts declare."""
        return sum(len(file.contract.tests) for file in self.checked if file.contract)

    @property
    def bound(self) -> int:
        """How many of these name a falsifier, so that something runs them."""
        return sum(test.bound for file in self.checked if file.contract for test in file.contract.tests)

    @property
    def code(self) -> int:
        if self.rejected:
            return REJECT
        return DECLINE if self.declined or not self.checked else ACCEPT


def validate(paths: Sequence[Path]) -> Verdict:
    """Measure the files and all contracts in the folders at `paths`, each once. Bad input raises nothing."""
    checked: list[Checked] = []
    declined: list[tuple[str, str]] = []
    skipped: list[Path] = []
    seen: set[Path] = set()

    def unreadable(error: OSError) -> None:
        declined.append((str(error.filename), f"cannot be read: {error.strerror}"))

    for path in paths:
        if os.path.isdir(path):  # unlike Path.is_dir, false for a path that cannot be looked at
            inside = list(yaml_files(path, unreadable))
            skipped += [file for file in inside if not is_contract(file)]
            files = [file for file in inside if is_contract(file)]
            if not files:
                declined.append((str(path), "holds no contracts: no *.yaml or *.yml"))
        else:
            files = [path]
        for file in files:
            real = Path(os.path.realpath(file))
            if real in seen:
                continue
            seen.add(real)
            try:
                checked.append(check_file(file))
            except UnreadableError as error:
                declined.append((str(file), str(error.args[0])))
    if not paths:
        declined.append(("", "no file or folder is given"))
    between = check_together([file.contract for file in checked if file.contract])
    return Verdict(checked=tuple(checked), between=tuple(between), declined=tuple(declined), skipped=tuple(skipped))
