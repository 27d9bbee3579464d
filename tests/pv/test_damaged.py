from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pv.contract import make_contract
from pv.diff_walk import changes
from pv.findings import NOTE, RULES
from pv.shapes import Key, ListOf, MapOf, Named, Record, Shape, inner
from pv.validate import ACCEPT, DECLINE, REJECT, validate
from pv.vocabulary import CONTRACT
from pv.yaml_loader import load
from tests.pv.damage import (
    Damage,
    damages,
    dropped,
    due,
    lost_sections,
    misnamed_sections,
    readable,
    spots,
)

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


WITHOUT_TRACE = {
    *("kernel_structure", "simd_dispatch", "enforcement", "type_invariants", "coq_spec", "stories", "evidence"),
    *("changelog", "verification_summary"),
}
"""Sections that contracts of any kind do without, and nothing else of a contract has to be about."""
CLAIMS = ("equations", "proof_obligations", "falsification_tests")
LOST = [(source, section, damage) for source, document in DOCUMENTS.items()
        for section, damage in lost_sections(source, document) if readable(damage)]  # fmt: skip


@pytest.mark.parametrize(("source", "section", "damage"), LOST, ids=[named(damage) for *_, damage in LOST])
def test_a_section_that_is_gone_is_named(source, section, damage, tmp_path):
    before = {(rule, message) for _, rule, message in found(source.read_bytes(), source, tmp_path)}
    new = [message for _, rule, message in found(damage.data, source, tmp_path) if (rule, message) not in before]
    words = (section, section.replace("_", " ").removesuffix("s"))
    if not any(word in message for word in words for message in new):
        kernel = make_contract(source, DOCUMENTS[source]).kind == "kernel"
        claims = [word for word in CLAIMS if DOCUMENTS[source].value.get(word)]
        free = WITHOUT_TRACE if kernel else WITHOUT_TRACE | {"qa_gate", "kani_harnesses"}
        empty = not DOCUMENTS[source].value[section]
        assert empty or section in free or claims == [section], "nothing else of the contract is about it"
    if DOCUMENTS[source].value[section] not in (None, [], {}):  # by who knows what was there before
        old, now = (make_contract(source, load(data, "x.yaml")) for data in (source.read_bytes(), damage.data))
        assert any(change.place.startswith(section) for change in changes(old, now))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_section_under_another_name_is_found_in_its_line_and_not_only_noted(source, tmp_path):
    document = DOCUMENTS[source]
    damages = [damage for damage in misnamed_sections(source, document) if readable(damage)]
    assert damages
    free = {"evidence"}  # of any form: what a word of it stands in may be anything
    if not make_contract(source, document).ours:
        free.add("changelog")  # which nobody reads there
    file = tmp_path / source.name
    for damage in damages:
        section = damage.what.partition(" ")[0]
        file.write_bytes(damage.data)
        told = {at.severity for at in validate([file]).findings if at.line in damage.lines}
        assert told, damage.what
        if document.value[section] and section not in free:
            assert told - {NOTE}, damage.what


def missed(damage: Damage, tmp_path: Path) -> None:
    before = {(rule, message) for _, rule, message in found(damage.source.read_bytes(), damage.source, tmp_path)}
    new = [at for at in found(damage.data, damage.source, tmp_path) if at[1:] not in before]
    assert {line for line, *_ in new} & damage.lines, f"due in {sorted(damage.lines)}, found {new}"
    assert "PV-YAML-001" not in {rule for _, rule, _ in new}, "the damage is one of form, not the slip that is meant"
