import json
import os
import shutil
import sys

import pytest

from pv.cli import main
from tests.pv.stranger import Stranger


@pytest.fixture
def recorded(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """A stranger's repository with the evidence of one run; its modules are imported anew."""
    monkeypatch.chdir(stranger.path)
    luck = "import os\n    trial.observe('luck', os.environ.get('LUCK', 'none'))\n"
    luck += "    trial.check('BROKEN' not in os.environ, 'broken')\n    1 // int('CRASH' not in os.environ)\n    "
    stranger.change("attacks.py", "data = bytes(", luck + "data = bytes(")
    stranger.change("attacks.py", "import subject\n", "import subject\nPV_ENVIRONMENT = 'LUCK', 'BROKEN', 'CRASH'\n")
    stranger.run("--falsify", "--record").assert_outcomes(passed=3)
    return stranger


def record(stranger: Stranger, trial: str) -> str:
    """The place of the record of a trial."""
    for place, data in stranger.records().items():
        if f'"FALSIFY-SUM-001[{trial}]"'.encode() in data:
            return f"evidence/{place}"
    raise AssertionError(trial)


def replay(capsys, *arguments: str) -> tuple[int, str, str]:
    for name in ("attacks", "subject"):
        sys.modules.pop(name, None)
    code = main(["replay", *arguments])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("trial", ["algorithm", "algorithm!no_modulus"])
def test_a_trial_that_is_made_again_is_reproduced(recorded, capsys, trial):
    place = record(recorded, trial)
    code, out, err = replay(capsys, place)
    outcome = "FALSIFIED" if "!" in trial else "SURVIVED"
    head, last = out.splitlines()
    assert (code, err) == (0, "")
    assert head.startswith(f"sum::FALSIFY-SUM-001[{trial}]: {outcome}, seed ")
    assert last.startswith("reproduced: ")
    assert replay(capsys, os.path.basename(place)[:12])[0] == 0
    assert "NUMBA_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("elsewhere", ["matrix", "../matrix"])
def test_a_record_in_a_folder_that_was_brought_from_elsewhere_is_of_this_project(recorded, capsys, elsewhere):
    place = record(recorded, "algorithm")
    folder = recorded.path / elsewhere
    (recorded.path / "evidence").rename(folder)
    code, out, err = replay(capsys, place.replace("evidence", elsewhere, 1))
    assert (code, out.splitlines()[-1][:11], err) == (0, "reproduced:", "")
    code, _, err = replay(capsys, str(next((folder / "_runs").iterdir())))
    assert (code, "no record is called" in err) == (2, True)
    shutil.rmtree(folder / "_runs")
    code, _, err = replay(capsys, place.replace("evidence", elsewhere, 1))
    assert (code, "is a record that no run lists" in err) == (2, True)


def test_an_observation_that_comes_out_differently_is_not_reproduced(recorded, capsys, monkeypatch):
    place = record(recorded, "algorithm")
    monkeypatch.setenv("LUCK", "good")
    code, out, _ = replay(capsys, place)
    assert code == 1
    assert '  observation luck: recorded "none", now "good"' in out
    assert '  environment variable LUCK: recorded nothing, now "good"' in out
    assert out.splitlines()[-1] == "not reproduced: 1 differences"


def test_a_promise_that_breaks_now_is_not_reproduced(recorded, capsys, monkeypatch):
    place = record(recorded, "algorithm")
    monkeypatch.setenv("BROKEN", "1")
    code, out, _ = replay(capsys, place)
    assert code == 1
    assert "  outcome: recorded SURVIVED, now FALSIFIED" in out
    assert "  message: recorded , now broken" in out


def test_a_record_of_other_code_is_not_replayed_and_its_commit_is_named(recorded, capsys):
    place = record(recorded, "algorithm")
    recorded.change("subject.py", "MODULUS = 251", "MODULUS = 251  # prime")
    code, _, err = replay(capsys, place)
    assert code == 2
    assert err.startswith(
        f"pv: {place.removeprefix('evidence/')}: the falsifier or the code that it reaches changed since"
    )


def test_a_changed_claim_and_a_trial_that_is_planned_no_more_are_not_replayed(recorded, capsys):
    place = record(recorded, "algorithm!no_modulus")
    recorded.change("contracts/sum.yaml", "[no_modulus, wrong_modulus]", "[wrong_modulus]")
    assert "plans no trial FALSIFY-SUM-001[algorithm!no_modulus] today" in replay(capsys, place)[2]
    assert "the claim changed since it was recorded" in replay(capsys, record(recorded, "algorithm"))[2]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("abcdef0", "no record is called 'abcdef0'"),
        ("ab", "no record is called 'ab'"),
        ("evidence/none.json", "no record is called 'evidence/none.json'"),
        ("subject.py", "no record is called 'subject.py'"),
    ],
)
def test_what_is_no_record_is_named_with_a_way_on(recorded, capsys, name, why):
    code, out, err = replay(capsys, name)
    assert (code, out) == (2, "")
    assert why in err
    assert "hint: name the file of a record, or at least 6 digits of its digest" in err


def test_an_edited_record_is_not_replayed(recorded, capsys):
    place = record(recorded, "algorithm")
    (recorded.path / place).write_text("{}")
    code, _, err = replay(capsys, place)
    assert code == 2
    assert "cannot be replayed: was changed after it was written" in err


def test_a_trial_that_cannot_be_made_is_no_verdict(recorded, capsys, monkeypatch):
    place = record(recorded, "algorithm")
    monkeypatch.setenv("CRASH", "1")
    code, _, err = replay(capsys, place)
    assert code == 2
    assert err.startswith("pv: not replayed: ERRORED: ZeroDivisionError: integer division or modulo by zero")


def test_another_machine_is_told_and_is_no_difference(recorded, capsys, monkeypatch):
    place = record(recorded, "algorithm")
    now = {**json.loads((recorded.path / place).read_bytes())["predicate"]["pv_trial"]["environment"], "numpy": "9"}
    monkeypatch.setattr("pv.runner._environment", lambda: now)
    code, out, _ = replay(capsys, place)
    assert code == 0
    assert "  environment numpy: recorded " in out
