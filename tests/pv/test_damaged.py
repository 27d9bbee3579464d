from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pv.findings import RULES
from pv.shapes import Key, ListOf, MapOf, Named, Record, Shape, inner
from pv.validate import ACCEPT, DECLINE, REJECT, validate
from pv.vocabulary import CONTRACT
from pv.yaml_loader import load
from tests.pv.damage import Damage, damages, dropped, due, readable, spots

ROOT = Path(__file__).parents[2]
FOLDERS = ("contracts", "examples/checksum/contracts", "tests/contracts/good")
SOURCES = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.yaml"))]
DOCUMENTS = {source: load(source.read_text(encoding="utf-8"), str(source)) for source in SOURCES}
DAMAGES = damages(SOURCES, seed=1)
SLIPS = [damage for damage in DAMAGES if damage.lines]
DROPS = [
    damage
    for source, document in DOCUMENTS.items()
    for damage in dropped(source, document, Random(1))
    if readable(damage)
]


def named(damage: Damage) -> str:
    return f"{damage.kind}: {damage.source.stem} {damage.what}"


def found(data: bytes, source: Path, folder: Path) -> list[tuple[int, str, str]]:
    file = folder / source.name
    file.write_bytes(data)
    return [(at.line, at.rule, at.message) for at in validate([file], lint=True).findings]


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


@pytest.mark.parametrize("damage", DROPS, ids=named)
def test_each_key_that_is_required_or_asked_for_is_missed_in_each_contract(damage, tmp_path):
    missed(damage, tmp_path)


def test_each_key_that_is_required_or_asked_for_is_dropped_somewhere():
    tried = {id(spot.key) for document in DOCUMENTS.values() for spot in spots(document) if due(document, spot)}
    asked = [(name, key) for name, key in keys_of(CONTRACT, "") if key.required or key.asked]
    assert len(asked) > 60
    assert [name for name, key in asked if id(key) not in tried] == []
    assert {key.asked for _, key in asked} - {""} <= set(RULES)


def keys_of(shape: Shape, place: str) -> Iterator[tuple[str, Key]]:
    if isinstance(shape, Record):
        for name, key in shape.keys.items():
            yield f"{place}.{name}", key
            yield from keys_of(key.shape, f"{place}.{name}")
    elif isinstance(shape, ListOf | MapOf | Named):
        yield from keys_of(inner(shape), place)


@pytest.mark.parametrize("damage", SLIPS, ids=named)
def test_a_slip_is_found_in_its_line(damage, tmp_path):
    missed(damage, tmp_path)


def missed(damage: Damage, tmp_path: Path) -> None:
    before = {(rule, message) for _, rule, message in found(damage.source.read_bytes(), damage.source, tmp_path)}
    new = [at for at in found(damage.data, damage.source, tmp_path) if at[1:] not in before]
    assert {line for line, *_ in new} & damage.lines, f"due in {sorted(damage.lines)}, found {new}"
    assert "PV-YAML-001" not in {rule for _, rule, _ in new}, "the damage is one of form, not the slip that is meant"
