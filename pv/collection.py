"""The contracts that a command is asked about, and what of these could not be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pv import config, walk
from pv.contract import Contract, read_contract
from pv.errors import PvError
from pv.findings import ERROR
from pv.places import shown
from pv.rules import check

DROPPED = ("PV-TYPE-001", "SCHEMA-019")
"""Rules whose findings mean that a part of the contract reads as if it were missing."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Contracts in the order of the run, each file once; declined: (place, reason) of what was not read."""

    contracts: tuple[Contract, ...]
    declined: tuple[tuple[str, str], ...]


def collect(paths: Sequence[Path], given: Mapping[Path, bytes] = MappingProxyType({})) -> Collection:
    """The contracts at `paths`: files, folders in depth, patterns; without any, those of the project around us.

    given: the bytes of paths that are no files, such as standard input. Bad input raises nothing but PvError for a
    project file that cannot be read.
    """
    found = walk.find(paths or [Path(shown(config.find(Path.cwd()).contracts))], given)
    contracts: list[Contract] = []
    declined = found.declined
    for file in found.files:
        try:
            contract = read_contract(file, given.get(file))
        except PvError as error:
            declined.append((error.where or str(file), str(error.args[0])))
            continue
        contracts.append(contract)
        declined += [
            (f"{finding.path}:{finding.line}:{finding.column}", f"is not read: {finding.message}")
            for finding in check(contract)
            if finding.rule in DROPPED and finding.severity == ERROR
        ]
    return Collection(tuple(contracts), tuple(declined))
