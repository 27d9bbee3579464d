import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from pv import ledger
from pv.binding import bind
from pv.cli import main
from pv.outcome import Outcome
from pv.status import survey
from tests.pv.test_binding import CONTRACT, project, recorded
from tests.pv.test_status import PLACE, proven

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("recorded", "days"),
    [
        ("2026-03-01T12:00:00Z", 9),
        ("2026-03-01T11:59:59Z", 10),
        ("2026-03-11T12:00:00Z", -1),
        ("2026-03-01T12:00:00", 9),
        (None, None),
        ("yesterday", None),
    ],
)
def test_the_age_counts_whole_days(recorded, days):
    assert ledger.age(recorded, datetime(2026, 3, 11, 11, 59, 59, tzinfo=UTC)) == days


def test_a_line_has_the_level_its_evidence_its_age_and_the_machines(tmp_path):
    entry, other = ledger.entries(survey(proven(tmp_path)), NOW + timedelta(days=3, hours=1))
    assert (entry.contract, entry.test, entry.level, entry.machines) == ("checksum-v1", "T-1", "DISCHARGED", 1)
    assert len(entry.evidence) == 11
    assert entry.age_days == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.recorded)
    assert (other.level, other.evidence, other.recorded, other.age_days, other.machines) == (
        "UNTESTED",
        (),
        None,
        None,
        0,
    )


def test_the_table_says_what_is_not_known_with_a_dash(tmp_path):
    found = survey(proven(tmp_path))
    lines = ledger.as_text(found, NOW + timedelta(days=3, hours=1)).splitlines()
    assert lines[0] == PLACE
    assert lines[1].split() == ["test", "level", "evidence", "recorded", "age", "machines", "why"]
    first = ledger.entries(found, NOW)[0]
    assert lines[2].startswith(
        f"  T-1   DISCHARGED  11 ({first.evidence[0][:7]}, ..)  {first.recorded[:10]}  3 d  1         "
    )
    assert re.fullmatch(r"  T-2   UNTESTED    -  +-           -    -         unbound: it names no falsifiers", lines[3])
    assert lines[-1].startswith("contracts 1; tests 2 declared, 1 bound, 1 with evidence of today, ")


def test_an_overclaim_and_what_a_stale_test_had_earned_are_shown(tmp_path):
    config = proven(tmp_path, "DISCHARGED")
    (tmp_path / "sums.py").write_text("changed = 1\n")
    text = ledger.as_text(survey(config), NOW)
    assert "  T-1   STALE (was DISCHARGED), states DISCHARGED  -  " in text


def test_the_json_has_the_documented_shape(tmp_path):
    found = survey(proven(tmp_path))
    content = json.loads(ledger.as_json(found, NOW))
    assert list(content) == ["schema", "date", "totals", "tests", "problems", "notes"]
    assert (content["schema"], content["date"]) == ("pv-ledger/1", NOW.date().isoformat())
    assert content["totals"]["declared"] == len(content["tests"]) == 2
    assert list(content["tests"][0]) == [
        "contract", "path", "line", "test", "stated", "level", "once", "evidence", "recorded", "age_days", "machines",
        "overclaimed", "broken", "reasons",
    ]  # fmt: skip
    assert content["tests"][1]["recorded"] is None


def test_a_broken_promise_is_told(tmp_path):
    def clean(plan):
        return plan.role == "algorithm" and plan.mutant is None

    entry = ledger.entries(survey(proven(tmp_path, only=clean, outcome=Outcome.FALSIFIED, message="seen")), NOW)[0]
    assert entry.broken == "FALSIFIED [algorithm]: seen"


def test_names_and_reasons_are_no_markup_in_markdown(tmp_path):
    config, contract = project(tmp_path, **{PLACE: CONTRACT.replace("T-2", '"T|2`<b>\\n@all"')})
    recorded(bind(contract, contract.tests[0], config), config)
    text = ledger.as_markdown(survey(config), NOW)
    assert r"| T\|2\`&lt;b&gt;\\n@<!-- -->all | UNTESTED |" in text
    assert text == ledger.as_markdown(survey(config), NOW)


def test_the_command_exits_with_2_where_not_all_could_be_read_and_never_with_1(tmp_path, monkeypatch, capsys):
    config = proven(tmp_path, "DISCHARGED", only=lambda plan: plan.role == "algorithm")
    monkeypatch.chdir(tmp_path)
    assert main(["ledger"]) == 0  # overclaimed, and that is for `pv status --check` and `pv gate` to judge
    assert "PARTIAL, states DISCHARGED" in capsys.readouterr().out
    (config.contracts / "broken.yaml").write_text("a: [\n")
    assert main(["ledger", "--format", "markdown"]) == 2
    assert "- unreadable: contracts/broken.yaml:1:4: " in capsys.readouterr().out
    for file in config.contracts.iterdir():
        file.unlink()
    assert main(["ledger", "--json"]) == 2
    assert capsys.readouterr().err == "pv: nothing was measured: there is no contract\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["dif"], "there is no `pv ledger dif`: did you mean `pv ledger diff dif`?"),
        (["diff"], "diff takes one or two versions: diff BASE [HEAD]"),
        (["diff", "a", "b", "c"], "diff takes one or two versions: diff BASE [HEAD]"),
        (["diff", "a", "--milestones"], "diff and --milestones answer different questions: ask one at a time"),
        (["--base", "a"], "--base is for --milestones; levels are compared by `pv ledger diff BASE`"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, why, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ledger", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {why}\n")
