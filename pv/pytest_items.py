"""Contracts as pytest collects them: a file per contract, an item per planned trial."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pv.binding import Binding, Planned, bind
from pv.canonical import canonical, sha256
from pv.config import Config
from pv.contract import Contract, FalsificationTest, read_contract
from pv.errors import PvError
from pv.findings import ERROR, Finding
from pv.levels import stated
from pv.outcome import OBSERVED, Outcome, supports
from pv.project import Project
from pv.pytest_asserts import explain_asserts
from pv.pytest_plugin import chosen
from pv.pytest_seal import put, record_of, texts_of
from pv.rules import check
from pv.runnable import standing
from pv.runner import Result, run
from pv.statement import Record, statement

KEEPING = pytest.StashKey[Path]()
"""Of a run that records: the folder in which trials leave the outputs that the project's store is to keep."""


class NotSupported(Exception):  # noqa: N818  (how an item tells pytest that it failed)
    """The trial does not speak for its test. The item's result says why."""


class ContractFile(pytest.File):
    """A contract. Once it is collected, `declared` counts its tests, `bound` those whose falsifiers are there.

    planned  nodes of the trials that it calls for, whichever of them are chosen; None until it is collected
    """

    project: Config
    twin: Path  # the first contract of this name in the run: this one, or evidence of two would be mixed
    declared = 0
    bound = 0
    planned: list[str] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        shown = shorter(self.path, self.config)
        if self.twin != self.path:
            twin = shorter(self.twin, self.config)
            raise self.CollectError(f"{shown}: has the same name as {twin}: their evidence would be mixed")
        try:
            contract = read_contract(Path(shown))
        except PvError as error:
            raise self.CollectError(str(error)) from None
        wrong = [finding for finding in check(contract) if finding.severity == ERROR]
        if wrong:
            raise self.CollectError("\n".join(_told(finding) for finding in wrong))
        found = standing(contract, Project(self.project))
        self.declared, self.bound = len(contract.tests), sum(map(found.binds, contract.tests))
        self.planned = []
        for test in contract.tests:
            for item in self._items(contract, test) if test.falsifiers else ():
                self.planned.append(item.nodeid)
                yield item

    def _items(self, contract: Contract, test: FalsificationTest) -> Iterator[pytest.Item]:
        where = f"{contract.path}:{test.line}"
        try:
            binding = bind(contract, test, self.project)
            for falsifier in test.falsifiers.values():
                explain_asserts(falsifier, self.project)
        except PvError as error:
            yield Unbindable.from_parent(self, name=f"{test.id}[binding]", test=test, where=where, error=error)
            return
        assert binding is not None
        for planned in binding.planned:
            name = f"{test.id}[{planned.suffix}]"
            yield TrialItem.from_parent(self, name=name, test=test, where=where, binding=binding, planned=planned)


class ContractItem(pytest.Item):
    """Something of one falsification test. where is 'contract.yaml:line'."""

    parent: ContractFile

    def __init__(
        self, *, name: str, parent: ContractFile, test: FalsificationTest, where: str, **keywords: Any
    ) -> None:
        # the node id as text: only then does pytest read the brackets as parameters, as it does on the command line
        super().__init__(name=name, parent=parent, nodeid=f"{parent.nodeid}::{name}", **keywords)
        self.test, self.where = test, where
        self.add_marker("falsify")
        # what every case has in JUnit, whether or not it comes to a trial
        level = stated(test.status)
        said = [("contract", self.path.stem), ("test", test.id), ("level", level.value if level else str(test.status))]
        self.user_properties[:] = self.named = said

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        return self.path, self.test.line - 1, f"{self.path.stem}::{self.name}"


class Unbindable(ContractItem):
    """A test whose falsifiers cannot be found: it errs when it runs, so that the others still run."""

    def __init__(self, *, error: PvError, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.error = error

    def runtest(self) -> None:
        raise self.error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        return f"ERRORED  {self.where}  {self.test.id}\n  {self.error}"


class TrialItem(ContractItem):
    """One planned trial. It passes iff its outcome speaks for the test; a planted defect has to be noticed."""

    def __init__(self, *, binding: Binding, planned: Planned, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.binding, self.planned = binding, planned
        self.result: Result | None = None
        for marker, wanted in (("mutant", planned.mutant), ("needs_model", planned.model)):
            if wanted:
                self.add_marker(marker)
        if planned.role == "oracle":
            self.add_marker("oracle")

    def runtest(self) -> None:
        self.result, options = None, chosen(self.config)
        result = run(
            self.binding,
            self.planned,
            self.parent.project,
            where=self.where,
            seed=options.seed,
            skips=(pytest.skip.Exception,),
            passing=(KeyboardInterrupt, pytest.fail.Exception),  # the latter is how a timeout ends a test
            twice=options.record,
            keeping=self.config.stash.get(KEEPING, None) if self.parent.project.store else None,
        )
        # a rerun in the same process must not forget what was seen before it
        record = united([*map(record_of, texts_of(self)), result.record])
        put(self, record, result.planted)
        self.result = Result(record=record, planted=result.planted, details=result.details)
        self.user_properties[:] = [*self.named, *_properties(record)]
        if record.outcome is Outcome.SKIPPED and not options.strict:
            raise pytest.skip.Exception(record.message, _use_item_location=True)
        if not supports(record.outcome, record.mutant):
            raise NotSupported

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NotSupported) and self.result:
            return "\n".join(self._told(self.result))
        if isinstance(excinfo.value, pytest.fail.Exception):  # a timeout, or the author's own pytest.fail
            return f"ERRORED  {self.where}  {self.name}\n  {excinfo.value}\n  replay       {self.replay()}"
        return super().repr_failure(excinfo, style)

    def replay(self) -> str:
        """The command that makes this trial again, from where pytest was started."""
        seed = chosen(self.config).seed
        target = f"{shorter(self.path, self.config)}::{self.name}"
        return f"pytest --falsify {shlex.quote(target)}" + ("" if seed is None else f" --falsify-seed {seed}")

    def _told(self, result: Result) -> Iterator[str]:
        record, test = result.record, self.test
        yield f"{'MUTANT ' if record.mutant else ''}{record.outcome}  {self.where}  {self.name}"
        yield from _field("rule", test.rule)
        yield from _field("prediction", test.prediction)
        yield from _field("observed", verdict(record, result.planted))
        for name, value in sorted(record.observations.items()):
            yield f"    {name} = {canonical(value).decode()}"
        if record.outcome in (Outcome.FALSIFIED, Outcome.FLAKY):
            yield from _field("if it fails", test.if_fails)
        if result.details:
            yield from (f"    {line}" for line in result.details.splitlines())
        yield from _field("falsifier", f"{record.falsifier}, seed {record.seed}, {record.comparisons} comparisons")
        yield from _field("replay", self.replay())


def verdict(record: Record, planted: str = "") -> str:
    """What was seen, in one sentence."""
    if record.mutant and record.outcome is Outcome.SURVIVED:
        return f"the falsifier did not notice the planted defect {record.mutant}" + (f" ({planted})" if planted else "")
    return record.message or "the promise held"


def united(records: list[Record]) -> Record:
    """The one record of a trial that was made more than once: FLAKY if it did not come out the same each time."""
    tried = [record for record in records if record.outcome is not Outcome.SKIPPED]
    if not tried:
        return records[-1]
    flaky = next((record for record in tried if record.outcome is Outcome.FLAKY), None)
    if flaky:
        return flaky
    seen = dict.fromkeys((record.outcome, record.message) for record in tried)
    if len(seen) == 1:
        return tried[-1]
    told = ", then ".join(f"{outcome}" + (f" ({message})" if message else "") for outcome, message in seen)
    fields = {name: getattr(tried[0], name) for name in Record.__slots__}
    return Record(**{**fields, "outcome": Outcome.FLAKY, "message": f"seed {tried[0].seed} gave {told}"})


def shorter(path: Path, config: pytest.Config) -> str:
    """The path from where pytest was started, if it lies below."""
    start = config.invocation_params.dir
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def evidence_digest(record: Record) -> str:
    """The name that the record's statement has as evidence; '' where nothing was observed."""
    return sha256(canonical(statement(record))) if record.outcome in OBSERVED else ""


def _properties(record: Record) -> Iterator[tuple[str, str]]:
    yield "role", record.role
    yield "model", record.model.name if record.model else ""
    yield "mutant", record.mutant or ""
    yield "outcome", record.outcome.value
    # the first comparison that failed begins with what was compared: a stage of the engine, a file, a number
    yield "stage", record.message.partition(": ")[0] if record.outcome is Outcome.FALSIFIED else ""
    yield "digest", evidence_digest(record)


def _told(finding: Finding) -> str:
    told = f"{finding.path}:{finding.line}:{finding.column}: {finding.rule}: {finding.message}"
    return f"{told}\n  hint: {finding.hint}" if finding.hint else told


def _field(name: str, text: str) -> Iterator[str]:
    if text:
        yield f"  {name:<12} {' '.join(text.split())}"
