from dataclasses import replace

from hypothesis import given

from pv.evidence.recording import keep
from pv.evidence.shelf import fact_of, facts_on, fill, pack_runs, records_on, unpack_runs
from pv.outcome import Outcome
from pv.statement import ModelSubject, OracleSubject
from tests.pv.evidence.test_folder import BASE
from tests.pv.evidence.test_run import runs

LIVE = replace(
    BASE,
    role="oracle",
    model=ModelSubject(name="tiny", sha256="ab" * 32),
    oracle=OracleSubject(name="zlib", version="1.3"),
    mutant="big_endian",
    outcome=Outcome.FALSIFIED,
    message="worst 3",
    outputs={"logits": "cd" * 32},
    packages={"engine": "ef" * 32},
)


def test_records_come_off_a_shelf_as_they_were_put_on(tmp_path):
    keep(tmp_path, [BASE, LIVE])
    home = tmp_path / BASE.contract / BASE.test
    shelf = fill(tmp_path, f"{BASE.contract}/{BASE.test}", sorted(path.name for path in home.iterdir()))
    assert shelf.problems == ()
    found, left_out = records_on(shelf)
    assert left_out == 0
    assert sorted((record for _, record in found), key=lambda record: record.role) == [BASE, LIVE]
    assert facts_on(shelf) == [(digest, fact_of(record)) for digest, record in found]


def test_the_records_of_a_claim_come_alone(tmp_path):
    old = replace(BASE, claim="0" * 64)
    keep(tmp_path, [BASE, LIVE, old])
    home = tmp_path / BASE.contract / BASE.test
    shelf = fill(tmp_path, f"{BASE.contract}/{BASE.test}", sorted(path.name for path in home.iterdir()))
    found, left_out = records_on(shelf, BASE.claim)
    assert ({record.role for _, record in found}, left_out) == ({"algorithm", "oracle"}, 1)
    assert [record for _, record in records_on(shelf, old.claim)[0]] == [old]
    assert records_on(shelf, "1" * 64) == ([], 3)


@given(runs())
def test_a_run_is_unpacked_as_it_was_packed(run):
    assert unpack_runs(pack_runs({"ab" * 32: run})) == {"ab" * 32: run}


def test_the_fact_of_a_record_is_what_the_chain_asks():
    fact = fact_of(LIVE)
    assert (fact.trial, fact.failed) == ("FALSIFY-BF-001[oracle-tiny!big_endian]", False)
    assert fact_of(replace(BASE, outcome=Outcome.FLAKY)).failed
    assert fact[2:] == tuple(BASE.environment[name] for name in ("cpu", "machine", "system", "cores"))
