"""Every falsification test of a project: what it states, what it has earned, and why."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pv.binding import Binding, bind
from pv.burst import burst
from pv.config import Config, find, locate, registered
from pv.contract import Contract, FalsificationTest, read_contract
from pv.errors import PvError
from pv.evidence.folder import Evidence, Kept, read
from pv.levels import Earned, earned, is_of_today, stated
from pv.statement import Problem
from pv.walk import contracts_below
from pv.words import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One falsification test: what stands in the contract, and what the evidence is worth today."""

    contract: Contract
    test: FalsificationTest
    binding: Binding | None
    earned: Earned

    @property
    def bound(self) -> bool:
        """Whether the test names falsifiers at all."""
        return bool(self.test.falsifiers)

    @property
    def stated(self) -> Level | None:
        """The level that the contract states; None for a word that is no level."""
        return stated(self.test.status)

    @property
    def overclaimed(self) -> bool:
        """Whether the contract states more than was earned.

        A word that is no level states nothing if unbound, unless a reader would take it for one: `DISCHARGED (twice)`.
        """
        if self.stated is None:
            word = unicodedata.normalize("NFKC", self.test.status or "").upper()
            return self.bound or any(level in word for level in ("PARTIAL", "FUNCTIONAL", "DISCHARGED"))
        return self.stated.worth > self.earned.level.worth

    @property
    def broken(self) -> str:
        """Why this test is an alarm whatever its contract states; empty where it is none."""
        counts = self.earned.counts
        if self.bound and self.binding is None:
            return self.earned.reasons[0]
        if self.earned.level is Level.FALSIFIED or counts["flaky"] or counts["blind"]:
            return self.earned.reasons[0]
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Every test of the contracts that were read, and everything that could not be read."""

    root: Path
    contracts: tuple[Contract, ...]
    rows: tuple[Row, ...]
    records: int
    problems: tuple[Problem, ...]
    evidence: Evidence


def survey(config: Config, paths: Sequence[Path] = (), *, remember: bool = False) -> Survey:
    """Judge the contracts at `paths`, files and folders; by default all of the project. PvError for a missing path.

    remember  believe the index of evidence that was read before: for tables that somebody looks at, never for a verdict
              or a level that gets written, since whoever can write into the user's cache can forge it
    """
    files, unsearched = contract_files(config, paths)
    contracts, problems = _contracts(files)
    problems += _leading_out(files, config)
    with burst():
        evidence = read(config.evidence, remember=remember, trusted=config.trusted_keys)
        rows = [row_of(contract, test, config, evidence) for contract in contracts for test in contract.tests]
    return Survey(
        root=config.root,
        contracts=tuple(contracts),
        rows=tuple(rows),
        records=len(evidence.facts),
        problems=(*unsearched, *problems, *evidence.problems, *_changed_models(config, rows)),
        evidence=evidence,
    )


def _leading_out(files: Sequence[Path], config: Config) -> Iterable[Problem]:
    """Contracts of the project that are links out of it: whoever changes what they say changes no commit."""
    for file in files:
        inside, real = Path(os.path.abspath(file)), Path(os.path.realpath(file))
        if not inside.is_relative_to(config.root) or real.is_relative_to(config.root):
            continue
        around = (folder for folder in (config.root, *config.root.parents) if (folder / ".git").exists())
        top = next(around, config.root)
        if not real.is_relative_to(top):
            yield Problem(path=str(file), why="is a link that leads out of the project: no commit holds what it says")


def _changed_models(config: Config, rows: Sequence[Row]) -> Iterable[Problem]:
    """Model files of the project whose bytes are not the registered ones: what was recorded was about others.

    A model outside of the project, which may have gigabytes, is hashed when a trial uses it.
    """
    for name in sorted({name for row in rows if row.binding for name in row.binding.models}):
        model = registered(config, name)
        if model.path.is_relative_to(config.root):
            try:
                locate(model)
            except PvError as error:
                yield Problem(path=str(model.path), why=str(error.args[0]))


def project_of(paths: Sequence[Path], start: Path) -> Config:
    """The project that the contracts belong to: the one around `start`, or theirs where they lie outside of it.

    PvError where they belong to several: each has evidence of its own.
    """
    here = find(start)
    outside = [path for path in paths if not path.resolve().is_relative_to(here.root)]
    projects = {config.root: config for config in map(find, outside)}
    if len(outside) < len(paths) or not paths:
        projects[here.root] = here
    if len(projects) > 1:
        roots = ", ".join(sorted(map(str, projects)))
        raise PvError(f"the contracts belong to several projects: {roots}", hint="name those of one project at a time")
    return next(iter(projects.values()))


def contract_files(config: Config, paths: Sequence[Path] = ()) -> tuple[list[Path], list[Problem]]:
    """The files at `paths`, folders searched as `pv validate` does it, each file once; and what cannot be read there.

    PvError for a path that does not exist.
    """
    found: dict[Path, None] = {}
    problems = []
    for path in paths or [config.contracts]:
        if path.is_dir():
            inside = contracts_below(path)
            found |= dict.fromkeys(inside.files)
            problems += [Problem(path=place, why=why) for place, why in inside.declined]
        elif path.exists():
            found[path] = None
        elif paths:
            raise PvError("no such file or folder", where=str(path))
    return list(found), problems


def _contracts(files: list[Path]) -> tuple[list[Contract], list[Problem]]:
    contracts: dict[str, Contract] = {}
    problems = []
    for file in files:
        try:
            contract = read_contract(file)
        except PvError as error:
            problems.append(Problem(path=error.where or str(file), why=str(error.args[0])))
            continue
        ids = [test.id for test in contract.tests]
        if twice := next((name for name in ids if name and ids.count(name) > 1), None):
            why = f"has two tests of the id {twice}: their evidence would be mixed"
            problems.append(Problem(path=str(file), why=why))
        if contract.stem in contracts:
            other = contracts[contract.stem].path
            problems.append(Problem(path=str(file), why=f"has the same name as {other}: their evidence would be mixed"))
            continue
        contracts[contract.stem] = contract
    return list(contracts.values()), problems


def row_of(contract: Contract, test: FalsificationTest, config: Config, evidence: Evidence) -> Row:
    """What a test earned by its records."""
    lost = evidence.lost(contract.stem, test.id)
    try:
        binding = bind(contract, test, config)
        result = earned(binding, *_records(binding, evidence))
    except PvError as error:
        binding = None
        result = replace(earned(None, ()), reasons=(f"cannot be bound: {str(error).splitlines()[0]}",))
    if lost and result.level is not Level.FALSIFIED:
        # what cannot be read may have been a FALSIFIED record: damage must never raise a level
        reason = f"its evidence cannot be believed: {shown(lost[0].path, config.root)}: {lost[0].why}"
        result = replace(result, level=Level.UNTESTED, once=Level.UNTESTED, reasons=(reason, *result.reasons))
    return Row(contract=contract, test=test, binding=binding, earned=result)


def _records(binding: Binding | None, evidence: Evidence) -> tuple[list[Kept], int]:
    """What the level of a test rests on: the records of its claim, or all where none of them is of today; and how many
    are left out.
    """
    if binding is None:
        return [], 0
    kept, left_out = evidence.of(binding.contract, binding.test, binding.claim)
    if any(is_of_today(binding, one.record) for one in kept):
        return kept, left_out
    return evidence.of(binding.contract, binding.test)


def totals(found: Survey) -> dict[str, int]:
    """The denominators of a verdict: of declared tests, how many are bound, have evidence of today, and so on.

    survived counts tests all of whose records of today support them; stale, tests that have nothing but old records.
    """
    counts = [row.earned.counts for row in found.rows]
    levels = [row.earned.level for row in found.rows]
    return {
        "contracts": len(found.contracts),
        "declared": len(found.rows),
        "bound": sum(row.binding is not None for row in found.rows),
        "with_evidence": sum(count["recorded"] > 0 for count in counts),
        "survived": sum(
            count["recorded"] > 0 and count["survived"] + count["killed"] == count["recorded"] for count in counts
        ),
        "stale": levels.count(Level.STALE),
        "falsified": levels.count(Level.FALSIFIED),
        "records": found.records,
        "unreadable": len(found.problems),
    }


def exit_code(found: Survey, *, check: bool) -> int:
    """2 where no contract was read, or not all that was asked for. With `check`, 1 for what is unreadable, overclaimed
    or broken, and 2 where no test has evidence of today; else 0.
    """
    if check and (found.problems or any(row.overclaimed or row.broken for row in found.rows)):
        return 1
    measured = not check or any(row.earned.counts["recorded"] for row in found.rows)
    return 0 if found.contracts and measured and not found.problems else 2


def shown(path: Path | str, root: Path) -> str:
    """The path relative to the project where it lies inside, which is how a reader knows it."""
    path = Path(path)
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
