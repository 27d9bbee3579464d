from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.findings import ERROR
from pv.rules import check
from pv.yaml_loader import load

HEAD = "metadata: {kind: pattern, version: 1.0.0, description: d, references: [r]}\n"
SHA = "3f1d0c5b7a9e2468ace013579bdf02468ace1357"
RECORD = f"""\
evidence:
  level: L2
  mark: V
  provenance:
    wasGeneratedBy:
      command: cargo test
      git_sha: {SHA}
    wasAttributedTo: somebody
    generatedAtTime: 2026-01-31T10:00:00Z
"""


def found(text: str) -> list[tuple[str, int, str]]:
    """(rule, line, message) of what breaks a rule about the record."""
    contract = make_contract(Path("x.yaml"), load(HEAD + text, "x.yaml"))
    findings = [at for at in check(contract, lint=True) if at.rule.startswith("PV-ONT")]
    assert {at.severity for at in findings} <= {ERROR}
    return [(at.rule, at.line, at.message) for at in findings]


def test_a_full_record_keeps_all_rules_and_so_does_a_contract_without_one():
    assert found(RECORD) == []
    assert found("") == []
    assert found("evidence:\n") == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("  mark", "  marks", ("PV-ONT-017", 4, "evidence has no key 'marks'")),
        ("wasAttributedTo", "attributedTo", ("PV-ONT-017", 9, "evidence.provenance has no key 'attributedTo'")),
        ("command", "cmd", ("PV-ONT-017", 7, "evidence.provenance.wasGeneratedBy has no key 'cmd'")),
        ("L2", "L6", ("PV-ONT-018", 3, "evidence.level 'L6' is none of L1, L2, L3, L4, L5")),
        ("L2", "l2", ("PV-ONT-018", 3, "evidence.level 'l2' is none of L1, L2, L3, L4, L5")),
        ("L2", "", ("PV-ONT-018", 3, "evidence has no level")),
        ("mark: V", "mark: W", ("PV-ONT-019", 4, "evidence.mark 'W' is none of V, C, A, U")),
        ("mark: V", "mark: ~", ("PV-ONT-019", 4, "evidence has no mark")),
        ("cargo test", "' '", ("PV-ONT-019", 4, "evidence is marked V, verified, by no command")),
        (f"git_sha: {SHA}", "{}", ("PV-ONT-020", 4, "evidence is marked V without a git_sha")),
        ("somebody", "''", ("PV-ONT-021", 9, "evidence is attributed to nobody")),
    ],
)
def test_each_part_of_a_record_is_asked_for(old, new, finding):
    changed = RECORD.replace(f"      {old}\n", "") if new == "{}" else RECORD.replace(old, new)
    assert changed != RECORD
    assert finding in found(changed)


@pytest.mark.parametrize("sha", [SHA[:-1], SHA + "0", SHA.upper(), "HEAD", "g" * 40, f"'{SHA} x'"])
def test_what_is_verified_names_a_whole_commit(sha):
    what = f"evidence is marked V by a git_sha that is not 40 hexadecimal digits: {sha.strip(chr(39))!r}"
    assert found(RECORD.replace(SHA, sha)) == [("PV-ONT-020", 8, what)]


@pytest.mark.parametrize("mark", ["C", "A", "U"])
def test_what_is_not_verified_needs_neither_command_nor_commit(mark):
    text = RECORD.replace("mark: V", f"mark: {mark}").replace(SHA, "''").replace("cargo test", "''")
    assert found(text) == []


def test_a_bare_mark_is_found_wanting_in_every_part():
    assert found("evidence: {mark: V}\n") == [
        ("PV-ONT-018", 2, "evidence has no level"),
        ("PV-ONT-021", 2, "evidence is attributed to nobody"),
        ("PV-ONT-019", 2, "evidence is marked V, verified, by no command"),
        ("PV-ONT-020", 2, "evidence is marked V without a git_sha"),
    ]


@pytest.mark.parametrize("value", ["x", "1", "[a]", "true"])
def test_a_record_that_is_no_mapping_is_an_error(value):
    rules = [(rule, line) for rule, line, _ in found(f"evidence: {value}\n")]
    assert rules == [("PV-ONT-017", 2)]
    inner = found(RECORD.split("  provenance")[0].replace("V", "U") + f"  provenance: {value}\n")
    assert [rule for rule, *_ in inner] == ["PV-ONT-017", "PV-ONT-021"]
