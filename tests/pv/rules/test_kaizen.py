from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.contract import make_contract
from pv.findings import ERROR
from pv.rules import check
from pv.yaml_loader import parse

HEAD = "metadata: {kind: kaizen, version: 1.0.0, description: d, references: [r]}\n"
NAMED = "contract: C-1\nstatus: draft\n"


def errors(text: str) -> list[tuple[str, str]]:
    found = check(make_contract(Path("x.yaml"), parse(HEAD + text, "x.yaml")))
    return [(at.rule, at.message) for at in found if at.severity == ERROR]


def delta(before: str, after: str) -> list[str]:
    return [rule for rule, _ in errors(f"{NAMED}baseline: {before}\ntarget: {after}\n")]


@pytest.mark.parametrize("status", ["draft", "implemented", "implementing", "pending", "planned"])
def test_a_record_that_moves_a_metric_is_accepted(status):
    text = f"contract: C-1\nstatus: {status}\nbaseline: {{allocs: 3}}\ntarget: {{allocs: 0}}\n"
    assert errors(text) == []


def test_a_record_needs_an_id_a_known_status_and_a_claim():
    assert errors("") == [
        ("KAIZEN-001", "the record has no id: contract is missing"),
        ("KAIZEN-002", "the record's status is missing"),
        ("KAIZEN-003", "the record states nothing that a measurement could contradict"),
    ]
    assert errors("contract: [C]\nstatus: Done\ninvariants: [i]\n") == [
        ("KAIZEN-001", "the record has no id: contract is a list"),
        ("KAIZEN-002", "the record's status is 'Done'"),
    ]


@pytest.mark.parametrize("empty", ["", "invariants: []", "baseline: {a: 1}", "proof_obligations: []"])
def test_an_empty_claim_is_none(empty):
    assert [rule for rule, _ in errors(NAMED + empty)] == ["KAIZEN-003"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target: {a: 1}", "the target has no baseline to be compared with"),
        ("target: fast", "target must be a mapping, not 'fast'"),
        ("baseline: {a: 1}\ntarget: {b: 1}", "baseline and target have no metric in common"),
    ],
)
def test_a_target_is_compared_with_a_baseline(text, message):
    assert errors(f"{NAMED}invariants: [i]\n{text}") == [("KAIZEN-004", message)]


@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        ("{a: 3}", "{a: 3}", ["KAIZEN-005"]),
        ("{a: slow}", "{a: fast}", ["KAIZEN-005"]),
        ("{a: 2026-03-04}", "{a: 2026-03-05}", ["KAIZEN-005"]),
        ("{a: fp32}", "{a: fp16}", ["KAIZEN-005"]),
        ("{on: false}", "{on: true}", ["KAIZEN-005"]),
        ("{a: 6 ms}", "{a: 6000 us}", ["KAIZEN-005"]),
        ("{a: 0.1}", "{a: '0.1'}", ["KAIZEN-005"]),
        ("{a: 6 ms}", "{a: 6 MB}", ["KAIZEN-005"]),
        ("{a: 1000000000000000000}", "{a: 1000000000000000001}", []),
        ("{a: '<5'}", "{a: 1_000+}", []),
        ("{a: .nan}", "{a: 1}", ["KAIZEN-005"]),
    ],
)
def test_a_move_is_a_change_of_a_number(before, after, rules):
    assert delta(before, after) == rules


@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        ("{heap_bytes: 0}", "{heap_bytes: 9}", ["KAIZEN-006"]),
        ("{heap_bytes: 9}", "{heap_bytes: 0}", []),
        ("{step_us: 1, syncs: 3}", "{step_us: 2, syncs: 2}", []),  # one cost buys another
        ("{step_us: 1, syncs: 3}", "{step_us: 2, syncs: 3}", ["KAIZEN-006"]),
        ("{d2h_per_block: 0, batch_size: 1}", "{d2h_per_block: 9, batch_size: 4}", []),  # no cost by name
        ("{launch: 6 ms}", "{launch: 900 us}", []),  # units are minded
        ("{launch: 900 us}", "{launch: 6 ms}", ["KAIZEN-006"]),
    ],
)
def test_costs_that_all_rise_are_a_record_turned_round(before, after, rules):
    assert delta(before, after) == rules


def test_a_baseline_may_hold_both_sides():
    assert errors(f"{NAMED}baseline: {{before: {{bytes: 9}}, after: {{bytes: 1}}}}") == []
    turned = errors(f"{NAMED}baseline: {{before: {{bytes: 1}}, after: {{bytes: 9}}}}")
    assert turned == [("KAIZEN-006", "costs rise and none falls: bytes 1 -> 9")]


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_for_a_metric_is_compared_or_not_but_raises_nothing(before, after):
    document = parse(HEAD + NAMED + "baseline: {a_us: x}\ntarget: {a_us: x}\n", "x.yaml")
    document.value["baseline"]["a_us"], document.value["target"]["a_us"] = before, after
    check(make_contract(Path("x.yaml"), document))
