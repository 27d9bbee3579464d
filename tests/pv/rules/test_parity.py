from datetime import date
from pathlib import Path

import pytest

from pv.contract import make_contract
from pv.facts import facts_of, iso_date
from pv.findings import ERROR
from pv.rules import check, check_together, kinds
from pv.yaml_loader import parse

HEAD = "metadata: {kind: competitive-parity, version: 1.0.0, description: d, references: [r]%s}\n"
ROW = {
    "entry_point": "apr run",
    "competitor": "ollama",
    "competitor_version": "0.12.4",
    "invocation_apr": "apr run m",
    "invocation_competitor": "ollama run m",
    "dimension": "decode_tok_s",
    "verdict": "WORSE",
    "measured_on": "2026-03-02",
    "valid_until": "2026-08-29",
    "owner": "o",
    "evidence": "e.json",
}
DOWNGRADE = {
    "entry_point": "apr run",
    "reason": "HOST_UNAVAILABLE",
    "owner": "o",
    "recorded_on": "2026-03-02",
    "recheck_by": "2026-08-29",
}


def item(values: dict[str, str | None]) -> str:
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in values.items() if value is not None) + "}\n"


def ledger(*rows: str, downgrades: str = "", metadata: str = "", more: str = "") -> str:
    listed = f"  downgrades:\n{downgrades}" if downgrades else ""
    return HEAD % metadata + "parity:\n  rows:\n" + "".join(rows or (item(ROW),)) + listed + more


def errors(text: str) -> list[tuple[str, str]]:
    found = check(make_contract(Path("x.yaml"), parse(text, "x.yaml")))
    return [(at.rule, at.message) for at in found if at.severity == ERROR]


def of_row(**changed: str | None) -> list[tuple[str, str]]:
    return errors(ledger(item({**ROW, **changed})))


def downgraded(**changed: str | None) -> list[tuple[str, str]]:
    return errors(ledger(item({**ROW, "verdict": "UNMEASURED"}), downgrades=item({**DOWNGRADE, **changed})))


def test_a_whole_ledger_is_accepted_with_every_verdict():
    for verdict in ("BETTER", "PARITY", "WORSE", "NOT_COMPARABLE", "UNMEASURED"):
        assert of_row(verdict=verdict) == []
    assert downgraded() == []


def test_a_ledger_is_no_registry():
    assert errors(ledger(metadata=", registry: true")) == [
        ("PARITY-000", "a ledger of comparisons is called a registry")
    ]


@pytest.mark.parametrize("text", ["", "parity:\n"])
def test_a_contract_of_comparisons_has_a_ledger(text):
    assert errors(HEAD % "" + text) == [("PARITY-001", "the contract has no parity, so no ledger of comparisons")]


@pytest.mark.parametrize("text", ["parity: {}\n", "parity: {rows: []}\n", "parity: {rows: ~}\n"])
def test_a_ledger_has_rows(text):
    assert errors(HEAD % "" + text) == [("PARITY-001", "the ledger has no rows")]


@pytest.mark.parametrize("text", ["parity: []\n", "parity: {rows: {}}\n", "parity: {rows: [x]}\n"])
def test_a_ledger_that_cannot_be_read_is_told_once(text):
    assert [rule for rule, _ in errors(HEAD % "" + text)] == ["PV-TYPE-001"]


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("entry_point", "PARITY-002"),
        ("competitor", "PARITY-003"),
        ("competitor_version", "PARITY-004"),
        ("invocation_apr", "PARITY-005"),
        ("invocation_competitor", "PARITY-005"),
        ("verdict", "PARITY-006"),
        ("measured_on", "PARITY-007"),
        ("valid_until", "PARITY-007"),
        ("owner", "PARITY-008"),
        ("evidence", "PARITY-009"),
        ("dimension", "PARITY-010"),
    ],
)
def test_every_part_of_a_row_is_asked_for(key, rule):
    assert of_row(**{key: None}) == [(rule, f"parity.rows[0].{key} is missing")]
    assert (rule, f"parity.rows[0].{key} is empty") in of_row(**{key: "' '"})
    assert [found for found, _ in of_row(**{key: "[x]"})] == ["PV-TYPE-001"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ('"apr qa\\napr run"', "parity.rows[0].entry_point: the character U+000A is not printable ASCII"),
        ('"apr caf\\u00e9"', "parity.rows[0].entry_point: the character U+00E9 is not printable ASCII"),
        ('"apr "', "parity.rows[0].entry_point: 'apr ' begins or ends with a blank"),
    ],
)
def test_a_row_has_a_name_that_cannot_pass_for_another(name, message):
    assert of_row(entry_point=name) == [("PARITY-002", message)]


def test_two_rows_of_one_name_are_refused():
    assert errors(ledger(item(ROW), item(ROW))) == [("PARITY-002", "the row in line 4 is about 'apr run' too")]


@pytest.mark.parametrize("version", ["latest", "llama.cpp@main", "HEAD", "1.2 or whatever", "scikit-learn", "TBD"])
def test_a_version_that_moves_pins_nothing(version):
    assert [rule for rule, _ in of_row(competitor_version=version)] == ["PARITY-004"]


@pytest.mark.parametrize("version", ["0.12.4", "bitsandbytes==0.49.2", "b4589 (0f1d51b2c9e4)", "domain-7", "7"])
def test_a_version_that_names_a_build_is_a_pin(version):
    assert of_row(competitor_version=version) == []


@pytest.mark.parametrize("day", ["soon", "2026-13-01", "2026-02-30", "26-08-20", "2026-8-20", "20260820", "2026-W10-1"])
def test_what_is_no_day_of_the_calendar_is_refused(day):
    assert of_row(valid_until=day) == [("PARITY-007", f"parity.rows[0].valid_until: {day!r} is no day of the calendar")]


def test_a_verdict_holds_for_1_to_180_days():
    assert of_row(valid_until="2026-03-02") == [("PARITY-007", "valid_until is not later than measured_on")]
    assert of_row(valid_until="2026-03-03") == []
    assert of_row(valid_until="2026-08-29") == []
    assert of_row(valid_until="2026-08-30") == [
        ("PARITY-011", "valid_until is 181 days after measured_on, more than 180")
    ]


@pytest.mark.parametrize(
    ("key", "value", "rule", "message"),
    [
        ("entry_point", "apr serve", "PARITY-012", "no row is about 'apr serve'"),
        ("entry_point", None, "PARITY-012", "parity.downgrades[0].entry_point is missing"),
        ("reason", None, "PARITY-013", "parity.downgrades[0].reason is missing"),
        ("reason", "busy", "PARITY-013", "parity.downgrades[0].reason: 'busy' is not known"),
        ("owner", None, "PARITY-013", "parity.downgrades[0].owner is missing"),
        ("recorded_on", "once", "PARITY-013", "parity.downgrades[0].recorded_on: 'once' is no day of the calendar"),
        ("recheck_by", "2026-03-01", "PARITY-013", "recheck_by is not later than recorded_on"),
        ("recheck_by", "2026-08-30", "PARITY-013", "recheck_by is 181 days after recorded_on, more than 180"),
    ],
)
def test_a_downgrade_is_about_a_row_and_has_to_be_paid(key, value, rule, message):
    assert downgraded(**{key: value}) == [(rule, message)]


def test_a_row_is_downgraded_once_and_says_so():
    twice = ledger(item({**ROW, "verdict": "UNMEASURED"}), downgrades=item(DOWNGRADE) * 2)
    assert errors(twice) == [("PARITY-012", "'apr run' is downgraded in line 6 already")]
    still = errors(ledger(downgrades=item(DOWNGRADE)))
    assert still == [("PARITY-014", "'apr run' is downgraded, and its row still says WORSE")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("test: cargo test parity", None),
        ("test: ./check.sh", None),
        ("command: pytest -k parity", None),
        ("test_harness: bash check.sh", None),
        ("falsifiers: {algorithm: 'a:b'}, mutants: [m]", None),
        ("test: see the wiki", "A is no command: 'see the wiki'"),
        ("test: cargotest", "A is no command: 'cargotest'"),
        ("test: '  '", "A names nothing that can be run"),
        ("rule: r", "A names nothing that can be run"),
    ],
)
def test_a_test_in_a_ledger_can_be_run(keys, message):
    text = ledger(more=f"falsification_tests: [{{id: A, prediction: p, if_fails: f, {keys}}}]\n")
    assert [at for at in errors(text) if at[0] == "PARITY-015"] == ([("PARITY-015", message)] if message else [])


def on(day: str, text: str, monkeypatch) -> list[tuple[str, int, str]]:
    monkeypatch.setattr(kinds, "today", lambda: date.fromisoformat(day))
    facts = facts_of(make_contract(Path("x.yaml"), parse(text, "x.yaml")))
    return [(at.rule, at.line, at.message) for at in check_together([facts])]


def test_a_measurement_may_be_of_today_and_not_of_tomorrow(monkeypatch):
    assert on("2026-03-02", ledger(), monkeypatch) == []
    text = ledger(item({**ROW, "valid_until": "2026-03-09"}))
    what = "this cannot have happened on 2026-03-02: today is 2026-03-01"
    assert on("2026-03-01", text, monkeypatch) == [("PARITY-017", 4, what)]


def test_a_downgrade_of_tomorrow_was_not_recorded(monkeypatch):
    text = ledger(downgrades=item({**DOWNGRADE, "recorded_on": "2026-03-03"}))
    assert [at[:2] for at in on("2026-03-02", text, monkeypatch)] == [("PARITY-017", 6)]


def test_no_date_under_any_key_lies_more_than_180_days_ahead(monkeypatch):
    text = ledger(more="notes:\n- {looked_at: [2026-08-29]}\n- in prose 2099-01-01 is no date\n")
    assert on("2026-03-02", text, monkeypatch) == []
    text = text.replace("2026-08-29]", "2026-08-30]")
    what = "2026-08-30 lies 181 days ahead of today, 2026-03-02"
    assert on("2026-03-02", text, monkeypatch) == [("PARITY-016", 6, what)]
    assert on("2026-03-03", text, monkeypatch) == []  # time alone turns no ledger red


def test_a_win_is_one_up_to_its_last_day(monkeypatch):
    better = ledger(item({**ROW, "verdict": "BETTER"}), item({**ROW, "entry_point": "apr serve"}))
    assert on("2026-08-29", better, monkeypatch) == []
    what = "the row says BETTER, which was valid until 2026-08-29"
    assert on("2026-08-30", better, monkeypatch) == [("PV-PARITY-001", 4, what)]
    assert on("2026-08-30", ledger(item({**ROW, "verdict": "UNMEASURED"})), monkeypatch) == []
    assert on("2026-08-30", better.replace("2026-08-29", "never"), monkeypatch) == []


def test_dates_of_other_kinds_are_their_own_business(monkeypatch):
    text = ledger(metadata=", created: 2099-01-01")
    assert [at[0] for at in on("2026-03-02", text, monkeypatch)] == ["PARITY-016"]
    assert on("2026-03-02", text.replace("competitive-parity", "pattern"), monkeypatch) == []


def test_today_is_a_day_in_utc():
    assert isinstance(kinds.today(), date)
    assert iso_date(str(kinds.today())) == kinds.today()
