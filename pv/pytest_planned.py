"""Which trials the collected contracts call for, and which of these a run did not make, and why, as far as is known.

Options in addopts and hooks of a conftest.py can take single trials out of a run that stays green. What a contract
calls for is known before they are asked, and what was made is known from the reports: the rest was taken out.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pv.config import Config
from pv.pytest_items import ContractFile, shorter
from pv.walk import contracts_below

SHOWN = 3
"""How many of them a line names."""


class LeftOut(NamedTuple):
    """Trials, by their nodes, or contracts, by their paths, that were not made. how: what is known of the reason."""

    what: str
    names: tuple[str, ...]
    how: str

    def __str__(self) -> str:
        more = ", .." if len(self.names) > SHOWN else ""
        return f"{len(self.names)} {self.what} {self.how}: {', '.join(self.names[:SHOWN])}{more}"


class Plan:
    """A plugin that keeps account of it. Under xdist the workers collect, and the controller unites what they send."""

    def __init__(self, config: pytest.Config, files: list[ContractFile]) -> None:
        self.config, self.files = config, files
        self.planned: dict[str, list[str]] = {}  # by contract
        self.deselected: set[str] = set()
        self.chosen: set[str] = set()
        named = config.args_source is pytest.Config.ArgsSource.ARGS
        self.whole = not named or not {*config.args} & {*config.invocation_params.args}  # addopts may name paths too

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.deselected |= {item.nodeid for item in items}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.chosen |= {item.nodeid for item in session.items}
        self.planned |= {str(file.path): file.planned for file in self.files if file.planned is not None}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        planned, deselected, chosen = getattr(node, "workeroutput", {}).get("pv_planned", ({}, (), ()))
        self.planned |= planned
        self.deselected |= {*deselected}
        self.chosen |= {*chosen}

    def pytest_sessionfinish(self) -> None:
        if hasattr(self.config, "workeroutput"):
            sent = self.planned, sorted(self.deselected), sorted(self.chosen)
            self.config.workeroutput["pv_planned"] = sent

    def left_out(self, told: Collection[str], project: Config) -> Iterator[LeftOut]:
        """What was not made; told: the nodes of which a report said what came of them."""
        total = sum(map(len, self.planned.values()))
        nodes = [node for nodes in self.planned.values() for node in nodes if node not in told]
        ways: dict[str, list[str]] = {}
        for node in nodes:
            ways.setdefault(self._way(node), []).append(node)
        for how, names in ways.items():
            yield LeftOut(f"of {total} trials", tuple(names), how)
        if self.whole and project.contracts.is_dir():
            below = contracts_below(project.contracts)
            files = [file for file in below.files if str(file) not in self.planned]
            if below.declined:
                unread = tuple(shorter(Path(path), self.config) for path, _ in below.declined)
                yield LeftOut("among the contracts", unread, "not read (no regular file, or it cannot be searched)")
            if files:
                how = "not collected (by --ignore, collect_ignore, --lf, a hook, or paths in addopts)"
                yield LeftOut(
                    f"contract{'s' * (len(files) > 1)}", tuple(shorter(Path(file), self.config) for file in files), how
                )

    def _way(self, node: str) -> str:
        if node in self.deselected:
            option = self.config.option
            by = [f"{name} {value!r}" for name, value in (("-k", option.keyword), ("-m", option.markexpr)) if value]
            by += [f"--deselect {prefix}" for prefix in option.deselect or () if node.startswith(prefix)]
            return f"deselected (by {', '.join(by) or 'a plugin or a conftest.py'})"
        if node in self.chosen:
            return "never tried (the run ended before, or a hook kept them from it)"
        if any("::" in argument for argument in self.config.args):
            return "not named by the arguments"
        return "taken out by a hook of a plugin or a conftest.py"
