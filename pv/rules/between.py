"""Rules between the contracts of one run: PV-DUP what two of them share, PV-DEP what one says that it depends on.

A name in depends_on is a contract's stem; with `.yaml` behind it or folders before it, it names the same one. Where
such a contract is not given, it is looked for beside the one that names it, and in the project's folder of contracts.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from pv.contract import read_contract
from pv.cycles import cycles
from pv.errors import PvError
from pv.facts import Facts, Mention, facts_of, stem_of
from pv.findings import ERROR, WARNING, Hit, run_rule
from pv.project import project_around
from pv.walk import SUFFIXES, is_contract, no_contracts
from pv.yaml_loader import Position


@run_rule("PV-DUP-001", ERROR, "no two contracts of a run have the same file name")
def same_stem(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    first: dict[str, Facts] = {}
    for contract in contracts:
        other = first.setdefault(contract.stem, contract)
        if other is not contract:
            hint = "evidence is kept under the file's name: rename one"
            foreign = not (contract.ours or other.ours)
            yield contract, Hit(Position(1, 1), f"{other.path} has the same name", hint, foreign)


@run_rule("PV-DUP-002", WARNING, "no falsification test of a run has the id of one in another contract")
def same_id_elsewhere(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    first: dict[str, tuple[Facts, Mention]] = {}
    for contract in contracts:
        for test in contract.tests:
            other, its = first.setdefault(test.name, (contract, test))
            if test.name and other is not contract:
                yield contract, Hit(test.at, f"the id {test.name} is taken in {other.path}:{its.at.line}")


@run_rule("PV-DEP-001", ERROR, "a contract depends on contracts that exist")
def depends_on_nothing(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    given = {contract.stem: contract for contract in contracts}
    alike: dict[str, list[str]] = {}
    for stem in given:
        alike.setdefault(stem[:2], []).append(stem)
    beside = functools.cache(_beside)  # many contracts name the same one: it is looked for once

    @functools.cache
    def close(name: str) -> list[str]:
        from difflib import get_close_matches

        return get_close_matches(name[:100], alike.get(name[:2], ())[:64], n=2)

    for contract in contracts:
        for mention in contract.depends_on:
            name = stem_of(mention.name)
            if name not in given and beside(contract.path.parent, mention.name) is None:
                near = next((stem for stem in close(name) if stem != contract.stem), None)
                hint = f"did you mean {near!r}?" if near else "give its folder too, where it has another one"
                what = f"there is no contract {name!r}, neither in this run nor beside this one nor in the project"
                yield contract, Hit(mention.at, what, hint, not contract.ours)


@run_rule("PV-DEP-002", ERROR, "no contract depends on itself, through others neither")
def cycle(contracts: Sequence[Facts]) -> Iterator[tuple[Facts, Hit]]:
    given = {contract.stem: contract for contract in reversed(contracts)}
    known = dict(given)
    beside = functools.cache(_beside)
    pending = list(contracts)
    while pending:
        contract = pending.pop()
        for mention in contract.depends_on:
            name = stem_of(mention.name)
            if (
                name not in known
                and (path := beside(contract.path.parent, mention.name))
                and (found := _facts_in(path))
            ):
                known[name] = found
                pending.append(found)
    edges = {stem: [stem_of(mention.name) for mention in facts.depends_on] for stem, facts in known.items()}
    for way in cycles(edges, [contract.stem for contract in contracts]):
        contract = given[way[0]]
        at = next(mention.at for mention in contract.depends_on if stem_of(mention.name) == way[1])
        what = f"depends on itself: {' -> '.join(way)}"
        foreign = not any(known[stem].ours for stem in way)  # the public tool asks its command `graph` alone
        yield contract, Hit(at, what, "move what they share into a contract of its own", foreign)


def _beside(home: Path, name: str) -> Path | None:
    """The file that a text in depends_on of a contract in `home` names, outside of the run."""
    stem = stem_of(name)
    if not stem:
        return None
    for folder in (home, (home / name.strip()).parent):
        for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES)):
            file = folder / (stem + suffix)
            if _is_file(file) and is_contract(file, no_contracts(folder)):
                return file
    try:
        return project_around(home).contracts.get(stem)
    except PvError:
        return None  # the rules about projects report it


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _facts_in(path: Path) -> Facts | None:
    """The facts of a contract outside of the run; None where the file holds none."""
    try:
        return facts_of(read_contract(path))
    except PvError:
        return None
