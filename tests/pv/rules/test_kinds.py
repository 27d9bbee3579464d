from datetime import date
from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.facts import facts_of
from pv.findings import ERROR, WARNING
from pv.rules import check, check_together, kinds
from pv.yaml_loader import parse

HEAD = "metadata: {kind: %s, version: 1.0.0, description: d, references: [r]%s}\n"
BEAT = {
    "incumbent": "Ollama 0.12",
    "metric": "tokens_per_sec",
    "direction": "lower_is_better",
    "beat_threshold": "1.5",
    "ci_gate_name": "gate",
    "approved_compute": "gpu",
}


def errors(kind: str, text: str, metadata: str = "") -> list[tuple[str, int, str]]:
    found = check(make_contract(Path("x.yaml"), parse(HEAD % (kind, metadata) + text, "x.yaml")))
    return [(at.rule, at.line, at.message) for at in found if at.severity == ERROR]


def beat(**changed: str | None) -> str:
    return "beat:\n" + "".join(f"  {key}: {value}\n" for key, value in {**BEAT, **changed}.items() if value is not None)


def test_a_whole_benchmark_is_accepted():
    assert errors("beat-benchmark", beat()) == []


@pytest.mark.parametrize("text", ["", "beat:\n"])
def test_a_benchmark_without_its_block_is_told_once(text):
    assert [at[0] for at in errors("beat-benchmark", text)] == ["BEAT-001"]


@pytest.mark.parametrize(("number", "key"), [(2, "incumbent"), (3, "metric"), (4, "direction"), (5, "beat_threshold"),
                                             (6, "ci_gate_name"), (7, "approved_compute")])  # fmt: skip
def test_each_part_of_a_benchmark_is_asked_for(number, key):
    rule = f"BEAT-{number:03}"
    assert errors("beat-benchmark", beat(**{key: None})) == [(rule, 2, f"beat.{key} is missing")]
    wrong = errors("beat-benchmark", beat(**{key: "[x]"}))
    assert [at[0] for at in wrong] == ["PV-TYPE-001"]  # by one rule, not by two and not by none
    assert errors("kernel", "equations: {e: {formula: f}}\n" + beat(**{key: None})) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("incumbent", "vLLM", "beat.incumbent: 'vLLM' names no known incumbent"),
        ("incumbent", "' '", "beat.incumbent is empty"),
        ("direction", "Higher_is_better", "beat.direction: 'Higher_is_better' is not known"),
        ("beat_threshold", ".nan", "beat.beat_threshold must be finite, not nan"),
        ("beat_threshold", "-.inf", "beat.beat_threshold must be finite, not -inf"),
        ("approved_compute", "NPU", "beat.approved_compute: 'NPU' is not known"),
    ],
)
def test_a_wrong_part_of_a_benchmark_is_quoted(key, value, message):
    assert [at[2] for at in errors("beat-benchmark", beat(**{key: value}))] == [message]


@pytest.mark.parametrize("value", ["scikit-learn==1.7", "PyTorch", "llama.cpp b4589", "unsloth"])
def test_an_incumbent_may_be_written_with_its_version_and_in_any_case(value):
    assert errors("beat-benchmark", beat(incumbent=value)) == []


@pytest.mark.parametrize(("score", "ok"), [("0", False), ("1", True), ("5", True), ("6", False), ("-1", False)])
def test_a_demand_score_lies_between_1_and_5(score, ok):
    story = f"stories: [{{id: S, competitor: c, demand_score: {score}}}]"
    what = f"demand_score is {score}, not 1 to 5"
    assert errors("registry", story) == ([] if ok else [("CRUX-001", 2, f"stories[0].{what}")])
    mine = errors("registry", "", f", competitor: c, demand_score: {score}")
    assert mine == ([] if ok else [("CRUX-001", 1, f"metadata.{what}")])


def test_a_story_needs_score_and_competitor_and_metadata_needs_neither():
    assert errors("registry", "stories: [{id: S}]") == [
        ("CRUX-001", 2, "stories[0].demand_score is missing"),
        ("CRUX-002", 2, "stories[0].competitor is missing"),
    ]
    assert errors("registry", "") == []
    assert errors("registry", "", ", competitor: ''") == [("CRUX-002", 1, "metadata.competitor is empty")]


@pytest.mark.parametrize("stories", ["x", "{}", "[x]", "[{competitor: c, demand_score: '3'}]"])
def test_stories_that_cannot_be_read_are_an_error(stories):
    assert [at[0] for at in errors("registry", f"stories: {stories}")] == ["PV-TYPE-001"]


@pytest.mark.parametrize(
    ("direction", "threshold", "baseline", "side"),
    [
        ("higher_is_better", "0.92", "0.956", "below"),
        ("higher_is_better", "0.956", "0.956", None),
        ("higher_is_better", "0.96", "0.956", None),
        ("lower_is_better", "0.96", "0.956", "above"),
        ("lower_is_better", "0.956", "0.956", None),
        ("lower_is_better", "0.92", "0.956", None),
        ("higher_is_better", "9", "10.0", "below"),
        ("higher_is_better", "-2", "-1", "below"),
        ("sideways", "0.92", "0.956", None),
        ("higher_is_better", ".nan", "1", None),
        ("higher_is_better", "0.92", "[1]", None),
        ("higher_is_better", "'0.92'", "0.956", None),
        ("higher_is_better", "0", "true", None),
    ],
)
def test_a_threshold_that_lets_the_benchmark_lose_is_a_warning(direction, threshold, baseline, side):
    text = HEAD % ("beat-benchmark", "") + beat(direction=direction, beat_threshold=threshold, baseline_value=baseline)
    found = [at for at in check(make_contract(Path("x.yaml"), parse(text, "x.yaml"))) if at.rule == "PV-BEAT-001"]
    what = f"beat.beat_threshold: {threshold} is {side} the incumbent's {baseline}: the gate passes a loss"
    assert [(at.severity, at.line, at.message) for at in found] == ([(WARNING, 6, what)] if side else [])


@pytest.mark.parametrize(
    ("day", "written", "old"),
    [
        ("2026-08-29", "2026-03-02", False),
        ("2026-08-30", "2026-03-02", True),
        ("2026-08-30", "' 2026-03-02 '", True),
        ("2026-08-30", "2026-12-01", False),
        ("2026-08-30", "spring", False),
        ("2026-08-30", "[2020-01-01]", False),
        ("2026-08-30", None, False),
    ],
)
def test_a_baseline_is_old_after_180_days(monkeypatch, day, written, old):
    monkeypatch.setattr(kinds, "today", lambda: date.fromisoformat(day))
    text = HEAD % ("beat-benchmark", "") + beat(baseline_sourced_date=written)
    facts = facts_of(make_contract(Path("x.yaml"), parse(text, "x.yaml")))
    wanted = [("PV-BEAT-002", WARNING, 9, "the incumbent was measured on 2026-03-02, more than 180 days ago")]
    found = [(at.rule, at.severity, at.line, at.message) for at in check_together([facts])]
    assert found == (wanted if old else [])
    other = facts_of(make_contract(Path("x.yaml"), parse(text.replace("beat-benchmark", "pattern"), "x.yaml")))
    assert check_together([other]) == []
