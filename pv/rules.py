"""Checking contracts: every rule of the table, in the order of the findings' places."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pv import own_rules, schema_rules, yaml_loader
from pv.contract import Contract, ContractError, UnreadableError, make_contract, read_bytes
from pv.errors import PvError
from pv.findings import ERROR, RULES, WARNING, Finding, Rule, finding, in_order, reader_rule
from pv.yaml_loader import Position, YamlError

__all__ = ["ERROR", "RULES", "WARNING", "Finding", "Rule", "check", "check_file", "check_together"]

RULE_MODULES = (schema_rules, own_rules)
"""Their import fills the table."""

NO_YAML = reader_rule("PV-YAML-001", ERROR, "the file is one document of strict YAML 1.2 in UTF-8")
NO_MAPPING = reader_rule("PV-YAML-002", ERROR, "a contract is a mapping")


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was measured. `contract` is None where it holds none, and the findings say why."""

    path: Path
    contract: Contract | None
    findings: tuple[Finding, ...]

    @property
    def accepted(self) -> bool:
        return not any(found.severity == ERROR for found in self.findings)


def check(contract: Contract) -> list[Finding]:
    """What breaks a rule in one contract."""
    checks = [(rule, rule.check) for rule in RULES.values() if rule.check is not None]
    return in_order(finding(rule, contract, hit) for rule, check in checks for hit in check(contract))


def check_together(contracts: Sequence[Contract]) -> list[Finding]:
    """What breaks a rule between the contracts of one run."""
    checks = [(rule, rule.across) for rule in RULES.values() if rule.across is not None]
    return in_order(finding(rule, contract, hit) for rule, across in checks for contract, hit in across(contracts))


def check_file(path: Path) -> Checked:
    """The contract in a file and all that is wrong with it. UnreadableError where there is nothing to measure."""
    data = read_bytes(path)
    try:
        document = yaml_loader.parse(data, str(path))
    except YamlError as error:
        return _no_contract(NO_YAML, path, error.at, error)
    try:
        contract = make_contract(path, document)
    except UnreadableError:
        raise
    except ContractError as error:
        return _no_contract(NO_MAPPING, path, document.position(()), error)
    return Checked(path, contract, tuple(check(contract)))


def _no_contract(rule: Rule, path: Path, at: Position, error: PvError) -> Checked:
    what = Finding(rule.id, rule.severity, str(path), at.line, at.column, str(error.args[0]), error.hint)
    return Checked(path, None, (what,))
