"""What a contract names outside of itself: the project around it, with its falsifiers, models and evidence."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pv.config import Config, RegisteredModel, find, registry
from pv.contract import Contract
from pv.errors import PvError
from pv.walk import contracts_below

if TYPE_CHECKING:
    from pv.evidence.folder import Evidence
    from pv.importing import Imported
    from pv.resolve import Sources
    from pv.status import Row


@dataclass(frozen=True)
class Project:
    """A project whose parts are read when a rule asks for them, each once.

    imports  whether falsifiers may be imported to find out what they are
    """

    config: Config
    imports: bool = False

    def imported(self, module: str, names: frozenset[str]) -> "Imported":
        """What the names are in a module that is imported: in another process, and only where `imports` is set."""
        from pv.importing import imported

        assert self.imports
        if (module, names) not in self._imported:
            self._imported[module, names] = imported(module, sorted(names), self.config)
        return self._imported[module, names]

    @functools.cached_property
    def _imported(self) -> "dict[tuple[str, frozenset[str]], Imported]":
        return {}

    @functools.cached_property
    def marked(self) -> bool:
        """Whether anything marks the folder as that of a project; else a contract merely lies in it."""
        return any((self.config.root / name).exists() for name in ("pyproject.toml", ".git"))

    @functools.cached_property
    def sources(self) -> "Sources":
        """Its first-party modules, as text."""
        from pv.resolve import Sources

        return Sources(self.config)

    @functools.cached_property
    def contracts(self) -> dict[str, Path]:
        """The contracts in its folder of them by their stems; what cannot be searched holds none."""
        return {file.stem: file for file in contracts_below(self.config.contracts).files}

    @functools.cached_property
    def models(self) -> dict[str, RegisteredModel] | PvError:
        """The registered models by name, or what is wrong with the registry."""
        try:
            return registry(self.config)
        except PvError as error:
            return error

    def rows(self, contract: Contract) -> "list[Row]":
        """What each test of the contract has earned by the evidence of today, as `pv status` shows it."""
        from pv.status import row_of

        if not any(judged is contract for judged, _ in self._judged):
            rows = [row_of(contract, test, self.config, self._evidence) for test in contract.tests]
            self._judged[:] = [(contract, rows)]
        return self._judged[0][1]

    @functools.cached_property
    def _judged(self) -> "list[tuple[Contract, list[Row]]]":
        """The contract that was judged last: one rule after the other asks about it."""
        return []

    @functools.cached_property
    def _evidence(self) -> "Evidence":
        from pv.evidence.folder import read

        return read(self.config.evidence, trusted=self.config.trusted_keys)


def project_around(folder: Path, *, imports: bool = False) -> Project:
    """The project of the contracts in a folder. PvError as pv.config.find."""
    return _project_of(folder.absolute(), imports)


def forget() -> None:
    """Read every project anew from here on: what was read before a run may have changed."""
    _project_of.cache_clear()
    _project.cache_clear()


@functools.cache
def _project_of(folder: Path, imports: bool) -> Project:
    return _project(find(folder), imports)


@functools.cache
def _project(config: Config, imports: bool) -> Project:
    return Project(config, imports)
