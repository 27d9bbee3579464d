from dataclasses import replace

from pv.evidence.collecting import idle, release, size
from pv.evidence.folder import read
from pv.evidence.recording import keep
from pv.outcome import Outcome
from tests.pv.evidence.test_folder import BASE

OLD = [replace(BASE, seed=seed) for seed in range(3)]
RED = replace(BASE, seed=9, outcome=Outcome.FALSIFIED, message="worst 3")
BLIND = replace(BASE, seed=9, mutant="off_by_one")


def digest(folder, record):
    (found,) = [kept.digest for kept in read(folder).of(record.contract, record.test)[0] if kept.record == record]
    return found


def test_what_supports_todays_level_and_what_speaks_against_a_test_stays(tmp_path):
    keep(tmp_path, [*OLD, RED, BLIND])
    evidence = read(tmp_path)
    places = idle(evidence, {digest(tmp_path, OLD[0])})
    assert size(tmp_path, places) == sum((tmp_path / place).stat().st_size for place in places)
    release(evidence, places)
    after = read(tmp_path)
    assert after.problems == ()
    assert sorted(after.records.values(), key=str) == sorted([OLD[0], RED, BLIND], key=str)
    assert len(after.chain.runs) == 2
    assert len(after.chain.heads) == 1


def test_an_empty_folder_goes_with_its_last_record(tmp_path):
    keep(tmp_path, [BASE])
    keep(tmp_path, [replace(BASE, test="FALSIFY-BF-002")])
    evidence = read(tmp_path)
    release(evidence, idle(evidence, {digest(tmp_path, BASE)}))
    assert sorted(path.name for path in (tmp_path / BASE.contract).iterdir()) == ["FALSIFY-BF-001"]


def test_what_was_released_can_be_observed_again(tmp_path):
    keep(tmp_path, OLD)
    evidence = read(tmp_path)
    release(evidence, idle(evidence, ()))
    assert read(tmp_path).records == {}
    keep(tmp_path, OLD)
    assert (len(read(tmp_path).records), read(tmp_path).problems) == (3, ())


def test_nothing_to_release_leaves_no_statement(tmp_path):
    keep(tmp_path, [RED])
    evidence = read(tmp_path)
    release(evidence, idle(evidence, ()))
    assert read(tmp_path).chain == evidence.chain


def test_a_release_that_was_killed_after_its_statement_leaves_a_chain_that_holds(tmp_path, monkeypatch):
    keep(tmp_path, OLD)
    evidence = read(tmp_path)
    monkeypatch.setattr("pathlib.Path.unlink", lambda self, missing_ok=False: None)
    release(evidence, idle(evidence, ()))
    monkeypatch.undo()
    found = read(tmp_path)
    assert (len(found.records), found.problems) == (3, ())
