"""Checking contracts: every rule of the table, in the order of the findings' places."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pv import yaml_loader
from pv.contract import Contract, ContractError, UnreadableError, make_contract, misread, read_bytes
from pv.errors import PvError
from pv.facts import Facts, facts_of
from pv.findings import ERROR, RULES, Finding, Rule, finding, finding_between, in_order, reader_rule
from pv.rules import (
    audit,
    between,
    bindings,
    evidence,
    kaizen,
    keys,
    kinds,
    own,
    parity,
    project,
    proof,
    scalars,
    schema,
    style,
    tolerances,
)
from pv.yaml_loader import Position, YamlError

if TYPE_CHECKING:
    from pv.project import Project

RULE_MODULES = (
    schema,
    kinds,
    kaizen,
    parity,
    own,
    tolerances,
    keys,
    between,
    project,
    audit,
    proof,
    evidence,
    style,
    bindings,
    scalars,
)
"""Their import fills the table."""

NO_YAML = reader_rule("PV-YAML-001", ERROR, "the file is one document of strict YAML 1.2 in UTF-8")
NO_MAPPING = reader_rule("PV-YAML-002", ERROR, "a contract is a mapping")


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was measured by the rules about one contract.

    facts is None where it holds no contract, and the findings say why.
    """

    path: Path
    facts: Facts | None
    findings: tuple[Finding, ...]


def check(contract: Contract, *, lint: bool = False) -> list[Finding]:
    """What breaks a rule in one contract by itself; without `lint`, of the rules of `pv validate` alone."""
    checks = [(rule, rule.check) for rule in RULES.values() if rule.check is not None and (lint or not rule.lint)]
    return in_order(finding(rule, contract, hit) for rule, check in checks for hit in check(contract))


def check_together(contracts: Sequence[Facts], *, lint: bool = False) -> list[Finding]:
    """What breaks a rule between the contracts of one run; without `lint`, of the rules of `pv validate` alone."""
    checks = [(rule, rule.across) for rule in RULES.values() if rule.across is not None and (lint or not rule.lint)]
    return in_order(finding_between(rule, facts, hit) for rule, across in checks for facts, hit in across(contracts))


def check_within(contract: Contract, project: "Project", *, lint: bool = False) -> list[Finding]:
    """What breaks a rule about a contract and its project; without `lint`, of the rules of `pv validate` alone."""
    checks = [(rule, rule.within) for rule in RULES.values() if rule.within is not None and (lint or not rule.lint)]
    return in_order(finding(rule, contract, hit) for rule, within in checks for hit in within(contract, project))


def check_file(path: Path) -> Checked:
    """The contract in a file and what rules find in it by itself. UnreadableError where there is nothing to measure."""
    return check_bytes(path, read_bytes(path))[0]


def check_bytes(path: Path, data: bytes, *, lint: bool = False) -> tuple[Checked, Contract | None]:
    """As `check_file` for the bytes of a file; the contract too, if there is one.

    Rules about one contract see the name of its file and not where that lies: what they find may be remembered by name
    and bytes.
    """
    try:
        document = yaml_loader.parse(data, str(path))
    except YamlError as error:
        return _no_contract(NO_YAML, path, error.at, error), None
    try:
        contract = make_contract(path, document)
    except UnreadableError:
        raise
    except ContractError as error:
        return _no_contract(NO_MAPPING, path, document.position(()), error), None
    if odd := misread(contract):
        return _no_contract(NO_YAML, path, odd.at, ContractError(odd.message, hint=odd.hint)), None
    found = check(replace(contract, path=Path(path.name)), lint=lint)
    return Checked(path, facts_of(contract), tuple(replace(each, path=str(path)) for each in found)), contract


def _no_contract(rule: Rule, path: Path, at: Position, error: PvError) -> Checked:
    what = Finding(rule.id, rule.severity, str(path), at.line, at.column, str(error.args[0]), error.hint)
    return Checked(path, None, (what,))
