from pathlib import Path

import pytest

from pv.validate import ACCEPT, DECLINE, REJECT, validate
from tests.pv.damage import Damage, damages

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "contracts").glob("*.yaml")), *sorted((ROOT / "tests/contracts/good").glob("*.yaml"))]
DAMAGES = damages(SOURCES, seed=1)
SLIPS = [damage for damage in DAMAGES if damage.lines]


def named(damage: Damage) -> str:
    return f"{damage.kind}: {damage.source.stem} {damage.what}"


def found(data: bytes, source: Path, folder: Path) -> list[tuple[int, str, str]]:
    file = folder / source.name
    file.write_bytes(data)
    return [(at.line, at.rule, at.message) for at in validate([file]).findings]


def test_there_are_two_hundred_damages_of_seven_kinds_and_all_differ_from_their_sources():
    assert len(DAMAGES) == 200
    assert {damage.kind for damage in DAMAGES} == {
        "renamed", "dropped", "duplicated", "retyped", "reused", "broken", "bytes",
    }  # fmt: skip
    assert all(damage.data != damage.source.read_bytes() for damage in SLIPS)
    assert damages(SOURCES, seed=1) == DAMAGES


@pytest.mark.parametrize("damage", DAMAGES, ids=named)
def test_a_damaged_contract_gets_a_verdict(damage, tmp_path):
    file = tmp_path / damage.source.name
    file.write_bytes(damage.data)
    verdict = validate([file], lint=True)
    assert verdict.code in (ACCEPT, REJECT, DECLINE)
    assert len(verdict.checked) + len(verdict.declined) == 1


@pytest.mark.parametrize("damage", SLIPS, ids=named)
def test_a_slip_is_found_in_its_line(damage, tmp_path):
    before = {(rule, message) for _, rule, message in found(damage.source.read_bytes(), damage.source, tmp_path)}
    new = [at for at in found(damage.data, damage.source, tmp_path) if at[1:] not in before]
    assert {line for line, *_ in new} & damage.lines, f"due in {sorted(damage.lines)}, found {new}"
    assert "PV-YAML-001" not in {rule for _, rule, _ in new}, "the damage is one of form, not the slip that is meant"
