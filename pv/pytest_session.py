"""A run of `pytest --falsify`: what is collected, what came of it, what of that becomes evidence, and the summary.

Under xdist the workers make the trials and send what they saw with their reports; the controller judges and writes.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pv.binding import Binding, bind
from pv.config import Config, find, locate, registered
from pv.contract import read_contract
from pv.errors import PvError
from pv.evidence.artifacts import keep_artifacts
from pv.evidence.recording import keep
from pv.evidence.store import open_store
from pv.git import state
from pv.outcome import OBSERVED, Outcome, supports
from pv.pytest_items import KEEPING, ContractFile, TrialItem, shorter, united, verdict
from pv.pytest_planned import LeftOut, Plan
from pv.pytest_plugin import chosen
from pv.pytest_seal import is_sealed, opened_mapping, record_of, seal, sealed_mapping, texts_of
from pv.statement import Record, statement_bytes
from pv.walk import SUFFIXES, is_contract, is_yaml

ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass(slots=True)
class Seen:
    """What the reports said of one node."""

    path: Path
    planted: str
    records: list[Record] = field(default_factory=list)


class Falsification:
    """The plugin of one run with --falsify."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.project = find(config.invocation_params.dir)
        self.is_worker = hasattr(config, "workerinput")
        self.options = chosen(config)
        sent = config.workerinput.pop("pv_key") if self.is_worker else secrets.token_hex()  # type: ignore[attr-defined]
        self.key = bytes.fromhex(sent)
        self.made: dict[str, str] = {}  # by node, the seal of what its newest trial came to
        self.told: set[str] = set()  # seals that arrived
        self.forged: set[str] = set()  # nodes, and workers, of which something else arrived than was sent
        self.started = False
        self.exitstatus: int | None = None  # what the run comes to, once it has ended
        self.collected: dict[str, tuple[int, int]] = {}  # by contract: tests declared, tests bound
        self.stems: dict[str, Path] = {}
        self.files: list[ContractFile] = []
        self.seen: dict[str, Seen] = {}
        self.broken: dict[str, str] = {}  # nodes that failed without a record, and the first line of why
        self.unmade: set[str] = set()  # nodes that somebody else skipped before their trial was made
        self.recorded: list[str] = []  # lines of the summary
        self.left_out: tuple[LeftOut, ...] = ()
        self.plan = Plan(config, self.files)
        config.pluginmanager.register(self.plan, "pv-planned")
        if self.options.record:
            self._prepare_keeping()
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            if not self.project.contracts.is_dir():
                raise PvError(
                    "there is no such folder of contracts",
                    where=shorter(self.project.contracts, config),
                    hint="name the contracts, or their folder: [tool.pv] contracts = .. in pyproject.toml",
                )
            config.args = [str(self.project.contracts)]

    def _prepare_keeping(self) -> None:
        """Make the folder for artifacts. PvError, before anything is tried, where the store cannot be used at all."""
        if self.is_worker:
            self.config.stash[KEEPING] = Path(self.config.workerinput["pv_keeping"])  # type: ignore[attr-defined]
            return
        if self.project.store:
            open_store(self.project.store)
        folder = tempfile.mkdtemp(prefix="pv-artifacts-")
        self.config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        self.config.stash[KEEPING] = Path(folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["pv_key"] = self.key.hex()
        node.workerinput["pv_options"] = [*self.options]
        node.workerinput["pv_keeping"] = str(self.config.stash.get(KEEPING, ""))

    # collection

    def pytest_sessionstart(self) -> None:
        self.started = True

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if not is_yaml(file_path.name):
            return None
        project = self._project(file_path)
        models = project.models.resolve() if project.models else None
        inside = file_path.resolve().is_relative_to(project.contracts) and is_contract(file_path, models)
        if not (inside or parent.session.isinitpath(file_path)):
            return None
        file: ContractFile = ContractFile.from_parent(parent, path=file_path)
        file.project = project
        file.twin = self.stems.setdefault(file_path.stem, file_path)
        self.files.append(file)
        return file

    def _project(self, contract: Path) -> Config:
        """The project that a contract belongs to: the one pytest was started in, unless the contract lies outside.

        A project below that one, with a pyproject.toml or a .git of its own, counts when an argument leads into it.
        """
        contract, root = contract.resolve(), self.project.root
        start = self.config.invocation_params.dir
        named = [(start / argument.partition("::")[0]).resolve() for argument in self.config.args]
        try:
            if not contract.is_relative_to(root):
                return find(contract)
            if any(path != root and contract.is_relative_to(path) for path in named):
                nested = find(contract)
                marked = any((nested.root / mark).exists() for mark in ("pyproject.toml", ".git"))
                if marked and any(path.is_relative_to(nested.root) for path in named):
                    return nested
        except PvError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        return self.project

    # reports

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if isinstance(item, TrialItem) and call.when == "call" and (texts := texts_of(item)):
            report.pv_trial = texts[-1]
            report.pv_seal = self.made[item.nodeid] = seal(self.key, item.nodeid, texts[-1])
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.is_worker:
            return
        if sent := getattr(report, "pv_trial", None):
            given = getattr(report, "pv_seal", None)
            if not is_sealed(self.key, report.nodeid, sent, given):
                self.forged.add(report.nodeid)
                return
            self.told.add(str(given))
            content = json.loads(sent)
            seen = self.seen.setdefault(report.nodeid, Seen(Path(content["path"]), content["planted"]))
            seen.records.append(record_of(sent))
        elif report.skipped and "falsify" in report.keywords:
            self.unmade.add(report.nodeid)
        elif report.failed and (
            "falsify" in report.keywords or any(f"{suffix}::" in report.nodeid.lower() for suffix in SUFFIXES)
        ):
            lines = str(report.longrepr).strip().splitlines() or ["no reason given"]
            told = [line.strip() for line in lines if not line.startswith("ERRORED")]
            self.broken[report.nodeid] = (told or lines)[0]

    # the end

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        for path, declared, bound in getattr(node, "workeroutput", {}).get("pv_collected", ()):
            self.collected[path] = (declared, bound)
        if not error and hasattr(node, "workeroutput"):
            made = opened_mapping(self.key, node.workeroutput.get("pv_made"))
            if made is None:
                self.forged.add(f"what {node.gateway.id} made")
            self.made |= made or {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self.collected |= {str(file.path): (file.declared, file.bound) for file in self.files}
        if self.is_worker:
            sent = [[path, *counts] for path, counts in self.collected.items()]
            self.config.workeroutput["pv_collected"] = sent  # type: ignore[attr-defined]
            self.config.workeroutput["pv_made"] = sealed_mapping(self.key, self.made)  # type: ignore[attr-defined]
            return
        if not self.options.idle:
            self._judge(session, exitstatus)
        self.exitstatus = session.exitstatus

    def _judge(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus in ENDED:
            self.forged |= {node for node, made in self.made.items() if made not in self.told}
        self.recorded = list(self._kept(exitstatus))
        strict = self.options.strict
        if exitstatus in ENDED:
            told = {*self.seen, *self.broken, *self.unmade}
            self.left_out = tuple(self.plan.left_out(told, self.project))
            if strict and self.left_out:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if session.exitstatus == pytest.ExitCode.OK:
            bad = any(_failed(record) for record in self._united().values())
            if bad or self.unwritten or self.forged or (strict and self.unmade):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED  # a rerun may have told pytest that all is well
            elif not self._executed():
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    unwritten = 0

    def _united(self) -> dict[str, Record]:
        return {node: united(seen.records) for node, seen in sorted(self.seen.items())}

    def _executed(self) -> list[Record]:
        return [record for record in self._united().values() if record.outcome is not Outcome.SKIPPED]

    def _kept(self, exitstatus: int) -> Iterator[str]:
        """Write what was observed, and say what was written and what was not."""
        if not self.options.record:
            yield "evidence: not recorded (use --record)"
            return
        if exitstatus not in ENDED:
            yield "evidence: not recorded (the run was interrupted)"
            return
        if self.forged:
            yield "evidence: not recorded, for the reports of this run were changed"
            return
        today: dict[tuple[Path, str], Binding | None] = {}
        folders: dict[Path, tuple[Config, list[Record]]] = {}
        for node, record in self._united().items():
            if record.outcome not in OBSERVED or node in self.broken:
                continue
            path = self.seen[node].path
            project = self._project(path)
            try:
                if (path, record.test) not in today:
                    today[path, record.test] = _binding(path, record.test, project)
                if changed := _changed(record, today[path, record.test], project):
                    raise PvError(f"{changed} changed while the trials ran")
                statement_bytes(record)
                if record.artifacts and project.store:
                    keep_artifacts(record, project.store, self.config.stash[KEEPING])
            except PvError as error:
                self.unwritten += 1
                yield f"{node}: not recorded: {self._relative(error)}"
                continue
            folders.setdefault(self._folder(project), (project, []))[1].append(record)
        for folder, (project, records) in folders.items():
            try:
                commit, dirty = state(project.root, apart=folder)
                written = keep(folder, records, commit=commit, dirty=dirty)
            except PvError as error:
                self.unwritten += len(records)
                yield f"evidence: not recorded: {self._relative(error)}"
                continue
            if (seed := os.environ.get("PYTHONHASHSEED", "random")) != "random":
                yield f"PYTHONHASHSEED is {seed}: what hangs on the order of hashes comes out in one way alone"
            yield f"evidence: {written.records} recorded in {shorter(folder, self.config)} ({written.new} new)"
        if not folders and not self.unwritten:
            yield "evidence: nothing recorded, for nothing was observed"

    def _relative(self, error: PvError) -> str:
        return str(error).replace(f"{self.config.invocation_params.dir}{os.sep}", "")

    def _folder(self, project: Config) -> Path:
        folder = self.options.evidence
        return self.config.invocation_params.dir / folder if folder else project.evidence

    # summary

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        quiet = self.config.option.verbose
        if quiet < -1:
            return
        if quiet >= 0:
            terminalreporter.write_sep("=", "falsification")
        for line in self._summary(brief=quiet < 0):
            terminalreporter.write_line(line)

    def _summary(self, *, brief: bool) -> Iterator[str]:
        declared = sum(counts[0] for counts in self.collected.values())
        bound = sum(counts[1] for counts in self.collected.values())
        united = self._united()
        executed = {(record.contract, record.test) for record in self._executed()}
        head = f"contracts {len(self.collected)}; tests {declared} declared, {bound} bound"
        if self.options.idle:
            yield f"{head}, none executed ({self.options.idle})"
            return
        trials = [record for record in united.values() if record.mutant is None]
        mutants = [record for record in united.values() if record.mutant is not None]
        yield f"{head}, {len(executed)} executed"
        errors = [node for node in self.broken if node not in united]
        yield f"trials    {_counts(trials, Outcome.SURVIVED, 'survived', Outcome.FALSIFIED, 'falsified')}"
        failed = {_trial(record) for record in trials if _failed(record)}
        idle = sum(record.outcome is Outcome.FALSIFIED and _trial(record) in failed for record in mutants)
        told = _counts(mutants, Outcome.FALSIFIED, "killed", Outcome.SURVIVED, "survived", uncounted=idle)
        yield f"mutants   {told}"
        if errors:
            yield f"broken    {len(errors)} that could not be tried"
        if not brief:
            for node, record in united.items():
                if _failed(record):
                    yield f"{record.outcome:<9} {node}: {_first(verdict(record, self.seen[node].planted))}"
            for node in errors:
                yield f"{'BROKEN':<9} {node}: {self.broken[node]}"
        if self.unmade:
            yield f"{len(self.unmade)} skipped before they were tried, by a marker or a hook: {min(self.unmade)}"
        for node in sorted(self.forged):
            yield f"ERRORED   {node}: its report was changed or taken away by a hook of a plugin or a conftest.py"
        for left_out in self.left_out:
            yield str(left_out)
        if self.left_out and self.options.strict:
            yield (
                "FAILED: --falsify-strict demands all trials that the contracts call for: take what keeps them out of "
                "the run from addopts, the arguments or conftest.py, or leave --falsify-strict out"
            )
        reasons = Counter(record.message for record in united.values() if record.outcome is Outcome.SKIPPED)
        for reason, number in sorted(reasons.items()):
            yield f"{number} skipped: {_first(reason)}"
        yield from self.recorded
        if not executed:
            yield "nothing was executed, so nothing is shown"
            if not self.collected:
                own = shorter(self.project.contracts, self.config)
                yield (
                    f"hint: this project's contracts lie in {own}; to run those of another, start pytest in its "
                    "folder, or name their files and mark its folder with a pyproject.toml"
                )


def _counts(
    records: list[Record], good: Outcome, good_word: str, bad: Outcome, bad_word: str, *, uncounted: int = 0
) -> str:
    """The sums of a line. uncounted: of the good ones, those that show nothing."""
    count = {outcome: sum(record.outcome is outcome for record in records) for outcome in Outcome}
    executed = len(records) - count[Outcome.SKIPPED]
    told = (
        f"{executed} executed: {count[good] - uncounted} {good_word}, {count[bad]} {bad_word}, "
        f"{count[Outcome.ERRORED]} errored, {count[Outcome.FLAKY]} flaky; {count[Outcome.SKIPPED]} skipped"
    )
    return told + (f"; {uncounted} red where the promise itself did not survive" if uncounted else "")


def _trial(record: Record) -> tuple[str, str, str, str]:
    """What a mutant's trial shares with the trial of its promise."""
    return record.contract, record.test, record.role, record.model.name if record.model else ""


def _first(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= 200 else line[:200] + " .."


def _failed(record: Record) -> bool:
    return record.outcome is not Outcome.SKIPPED and not supports(record.outcome, record.mutant)


def _binding(path: Path, test: str, project: Config) -> Binding | None:
    """What a test of the contract binds as it stands now; None where there is no such test, or it names nothing."""
    contract = read_contract(path)
    found = next((candidate for candidate in contract.tests if candidate.id == test), None)
    return bind(contract, found, project) if found else None


def _changed(record: Record, binding: Binding | None, project: Config) -> str:
    """What is no longer as it was when the trial was planned: '' if nothing."""
    if binding is None or record.claim != binding.claim:
        return "the contract"
    if record.code != binding.code.get(record.falsifier):
        return "the falsifier or the code that it reaches"
    if record.model and record.model != binding.models.get(record.model.name):
        return "the registry of models"
    if record.model and locate(registered(project, record.model.name)) is None:
        return f"model {record.model.name}"
    return ""
