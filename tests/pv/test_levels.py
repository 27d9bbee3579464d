import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv import levels
from pv.binding import Binding, Planned, seed_of
from pv.canonical import canonical, sha256
from pv.evidence.folder import Kept
from pv.evidence.machine import Machine
from pv.evidence.run import Run
from pv.levels import is_of_today, stated
from pv.outcome import Outcome, supports
from pv.statement import ModelSubject, OracleSubject, Record, statement
from pv.words import Level

FALSIFIERS = {"algorithm": "f.x:algorithm", "live": "f.x:live", "oracle": "f.x:oracle"}
MODELS = {"tiny": ModelSubject(name="tiny", sha256="aa" * 32), "smol": ModelSubject(name="smol", sha256="bb" * 32)}
TORCH = OracleSubject(name="torch", version="2.13")


def bound(roles=("algorithm", "live", "oracle"), mutants=("off_by_one", "big_endian"), models=("tiny", "smol")):
    planned = []
    for role in roles:
        names = (None,) if role == "algorithm" else models
        planned += [Planned(role=role, falsifier=FALSIFIERS[role], model=name) for name in names]
        planned += [Planned(role=role, falsifier=FALSIFIERS[role], model=names[0], mutant=m) for m in mutants]
    return Binding(
        contract="c-v1",
        test="T-1",
        planned=tuple(planned),
        claim="01" * 32,
        code={FALSIFIERS[role]: "02" * 32 for role in roles},
        models=MODELS,
    )


def record(plan, **changed):
    base = Record(
        contract="c-v1",
        test="T-1",
        role=plan.role,
        falsifier=plan.falsifier,
        mutant=plan.mutant,
        model=MODELS.get(plan.model),
        oracle=TORCH if plan.role == "oracle" else None,
        outcome=Outcome.FALSIFIED if plan.mutant else Outcome.SURVIVED,
        seed=seed_of("c-v1", "T-1", plan.role, plan.model),
        comparisons=1,
        claim="01" * 32,
        code="02" * 32,
    )
    return replace(base, **changed)


ZEN = Machine(cores=("AuthenticAMD 25 17 1",), cpu="a cpu", architecture="x86_64", system="Linux")
ARM = Machine(cores=("0x41 8 0x3 0xd40 1",), cpu="another", architecture="aarch64", system="Linux")


def run_on(machine=ZEN, time="2026-01-02T03:04:05Z"):
    return Run(id="0" * 32, time=time, machine=machine, records={"c-v1/T-1/" + "00" * 32 + ".json": "T-1[algorithm]"})


def kept(records, *runs):
    return [Kept(record=r, digest=sha256(canonical(statement(r))), runs=runs or (run_on(),)) for r in records]


def earned(binding, records):
    return levels.earned(binding, kept(records))


FULL = bound()
SUPPORT = [record(plan) for plan in FULL.planned]


def of(records, binding=FULL):
    return earned(binding, records).level


def without(role, *, mutant=None):
    return [r for r in SUPPORT if not (r.role == role and r.mutant == mutant)]


def test_the_table_in_the_head_of_the_module_names_every_level_once_and_in_order():
    rows = re.findall(r"^\| ([A-Z_]+) ", levels.__doc__, re.MULTILINE)
    assert rows == [level.value for level in Level]


def test_each_rung_needs_all_below_it():
    assert of([]) is Level.UNTESTED
    assert of(SUPPORT) is Level.DISCHARGED
    assert of([r for r in SUPPORT if r.role == "algorithm"]) is Level.PARTIAL
    assert of([r for r in SUPPORT if r.role != "oracle"]) is Level.FUNCTIONAL
    assert of([r for r in SUPPORT if r.role != "live"]) is Level.PARTIAL
    assert of([r for r in SUPPORT if r.role != "algorithm"]) is Level.UNTESTED


@pytest.mark.parametrize(
    ("records", "level", "reason"),
    [
        (without("algorithm"), "UNTESTED", "not PARTIAL_ALGORITHM_LEVEL: algorithm has no SURVIVED record"),
        (
            without("algorithm", mutant="big_endian"),
            "UNTESTED",
            "mutant big_endian has no record of being caught by alg",
        ),
        (
            without("live"),
            "PARTIAL_ALGORITHM_LEVEL",
            "not FUNCTIONAL: live-tiny has no SURVIVED record for today's digests",
        ),
        (without("live", mutant="off_by_one"), "PARTIAL_ALGORITHM_LEVEL", "mutant off_by_one has no record of being"),
        (without("oracle"), "FUNCTIONAL", "not DISCHARGED: oracle-tiny has no SURVIVED record"),
        (without("oracle", mutant="off_by_one"), "FUNCTIONAL", "mutant off_by_one has no record of being caught by or"),
        ([replace(r, oracle=None) for r in SUPPORT], "FUNCTIONAL", "which implementation and version is not recorded"),
        (SUPPORT, "DISCHARGED", "PARTIAL_ALGORITHM_LEVEL: algorithm survived, and its mutants were caught"),
    ],
)
def test_the_first_reason_says_what_is_lacking(records, level, reason):
    result = earned(FULL, records)
    assert result.level.value == level
    assert reason in result.reasons[0]


def test_a_falsifier_without_mutants_was_never_seen_red():
    binding = bound(mutants=())
    result = earned(binding, [record(plan) for plan in binding.planned])
    assert result.level is Level.UNTESTED
    assert result.reasons == ("not PARTIAL_ALGORITHM_LEVEL: algorithm was never seen red: the test names no mutants",)


@pytest.mark.parametrize("index", range(len(SUPPORT)))
def test_every_planned_trial_is_needed_for_its_rung(index):
    role, gone = SUPPORT[index].role, SUPPORT[index]
    below = {"algorithm": Level.UNTESTED, "live": Level.PARTIAL, "oracle": Level.FUNCTIONAL}
    result = earned(FULL, [r for r in SUPPORT if r is not gone])
    assert result.level is below[role]
    assert (gone.mutant or f"{role}{f'-{gone.model.name}' if gone.model else ''} has no SURVIVED") in result.reasons[0]
    assert earned(FULL, SUPPORT).models == ("smol", "tiny")


def test_a_test_without_falsifiers_is_unbound():
    assert earned(None, SUPPORT).level is Level.UNTESTED
    assert earned(None, SUPPORT).reasons == ("unbound: it names no falsifiers",)


@pytest.mark.parametrize("index", range(len(SUPPORT)))
def test_a_falsified_promise_outranks_everything_and_a_blind_or_flaky_trial_blocks(index):
    chosen = SUPPORT[index]
    if chosen.mutant:
        blind = earned(FULL, [*SUPPORT, replace(chosen, outcome=Outcome.SURVIVED)])
        assert blind.level is Level.UNTESTED
        assert blind.reasons[0].startswith(f"mutant survived [{chosen.role}")
        assert blind.counts["blind"] == 1
    else:
        red = earned(FULL, [*SUPPORT, replace(chosen, outcome=Outcome.FALSIFIED, message="worst 3 at [1, 2]")])
        assert red.level is Level.FALSIFIED
        assert re.fullmatch(r"FALSIFIED \[\w+(-\w+)?\]: worst 3 at \[1, 2\]", red.reasons[0])
        assert red.counts["falsified"] == 1
    flaky = earned(FULL, [*SUPPORT, replace(chosen, outcome=Outcome.FLAKY, message="another outcome")])
    assert flaky.level is Level.UNTESTED
    assert flaky.reasons[0].startswith("FLAKY [")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"claim": "ff" * 32}, "claim changed"),
        ({"code": "ff" * 32}, "code changed"),
        ({"claim": "ff" * 32, "code": "ff" * 32}, "claim changed, code changed"),
    ],
)
def test_records_of_other_digests_are_stale_and_worth_nothing(change, reason):
    result = earned(FULL, [replace(r, **change) for r in SUPPORT])
    assert (result.level, result.once, result.level.worth) == (Level.STALE, Level.DISCHARGED, 0)
    assert result.reasons == (f"{len(SUPPORT)} records, all for other digests: {reason}",)
    assert result.counts["stale"] == len(SUPPORT)
    assert result.counts["recorded"] == 0


def test_a_model_with_other_bytes_makes_its_records_stale():
    changed = replace(FULL, models={**MODELS, "tiny": replace(MODELS["tiny"], sha256="cc" * 32)})
    assert earned(changed, SUPPORT).level is Level.PARTIAL
    assert of([r for r in SUPPORT if r.model == MODELS["tiny"]], changed) is Level.STALE


def test_an_old_falsification_does_not_falsify_today_and_what_it_once_earned_was_nothing():
    old = [replace(r, code="ff" * 32) for r in SUPPORT]
    old.append(replace(old[0], outcome=Outcome.FALSIFIED))
    result = earned(FULL, old)
    assert (result.level, result.once) == (Level.STALE, Level.UNTESTED)
    assert of([*SUPPORT, *old]) is Level.DISCHARGED


def test_what_two_claims_earned_in_part_does_not_add_up():
    old = [replace(r, claim=("0a" if r.role == "algorithm" else "0b") * 32) for r in SUPPORT]
    assert earned(FULL, old).once is Level.PARTIAL


def test_evidence_of_another_test_counts_for_nothing():
    assert of([replace(r, test="T-2") for r in SUPPORT]) is Level.UNTESTED
    assert of([replace(r, contract="other") for r in SUPPORT]) is Level.UNTESTED


def test_a_record_that_no_plan_asked_for_is_not_of_today():
    assert all(is_of_today(FULL, r) for r in SUPPORT)
    assert not is_of_today(FULL, replace(SUPPORT[0], mutant="unheard_of"))
    assert not is_of_today(FULL, replace(SUPPORT[0], role="oracle"))
    assert not is_of_today(FULL, replace(SUPPORT[0], falsifier="f.y:other"))


def test_a_record_of_a_seed_that_somebody_picked_counts_neither_today_nor_as_once():
    picked = [replace(r, seed=(r.seed + 1) % 2**32) for r in SUPPORT]
    assert not any(is_of_today(FULL, r) for r in picked)
    result = earned(FULL, picked)
    assert (result.level, result.once) == (Level.STALE, Level.UNTESTED)
    assert result.reasons == (f"{len(SUPPORT)} records, all for other digests: not the trial's own seed",)
    red = replace(picked[0], outcome=Outcome.FALSIFIED, message="seen")
    assert of([*SUPPORT, red]) is Level.DISCHARGED


def test_counts_have_their_denominators():
    counts = earned(FULL, [*SUPPORT[:-1], replace(SUPPORT[0], claim="ff" * 32)]).counts
    assert counts == {
        "planned": 11,
        "recorded": 10,
        "survived": 5,
        "falsified": 0,
        "mutants": 6,
        "killed": 5,
        "blind": 0,
        "flaky": 0,
        "stale": 1,
    }
    assert set(earned(None, []).counts) == set(counts)


def test_a_promise_and_its_defects_must_be_seen_under_the_same_variables():
    plans = bound(roles=("algorithm",))
    apart = [record(plan, variables={"CI": None if plan.mutant else "1"}) for plan in plans.planned]
    found = earned(plans, apart)
    assert found.level is Level.UNTESTED
    assert "algorithm has no SURVIVED record" in found.reasons[0]
    assert found.reasons[-1] == "records of f.x:algorithm were made under different variables: CI='1'; no CI"
    both = [*apart, *(record(plan, variables={"CI": "1"}) for plan in plans.planned)]
    found = earned(plans, both)
    assert found.level is Level.PARTIAL
    assert found.reasons[-1].startswith("records of f.x:algorithm were made under different variables: ")
    assert not any("variables" in reason for reason in earned(plans, both[-3:]).reasons)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (None, Level.UNTESTED),
        ("PARTIAL", Level.PARTIAL),
        ("PARTIAL_ALGORITHM_LEVEL", Level.PARTIAL),
        ("functional", Level.FUNCTIONAL),
        ("STALE", Level.STALE),
        ("FALSIFIED", Level.FALSIFIED),
        ("PROVEN", None),
        ("3", None),
    ],
)
def test_a_status_is_a_level_or_no_level(text, level):
    assert stated(text) is level


def test_levels_are_ordered_by_worth():
    order = ["FALSIFIED", "UNTESTED", "PARTIAL_ALGORITHM_LEVEL", "FUNCTIONAL", "DISCHARGED"]
    assert sorted(order, key=lambda name: Level(name).worth) == order
    assert Level.STALE.worth == Level.UNTESTED.worth


ANY = st.builds(
    lambda plan, picked, **changed: record(plan, **changed, **({"seed": 1} if picked else {})),
    st.sampled_from(FULL.planned),
    st.booleans(),
    outcome=st.sampled_from([Outcome.SURVIVED, Outcome.FALSIFIED, Outcome.FLAKY]),
    claim=st.sampled_from(["01" * 32, "01" * 32, "0a" * 32]),
    code=st.sampled_from(["02" * 32, "02" * 32, "0b" * 32]),
    oracle=st.sampled_from([None, TORCH]),
    variables=st.sampled_from([{}, {}, {"CI": None}, {"CI": "1"}]),
)
GOOD = st.sampled_from(SUPPORT)
BINDINGS = st.builds(
    bound,
    roles=st.sampled_from([("algorithm",), ("algorithm", "live"), ("live", "oracle"), ("algorithm", "live", "oracle")]),
    mutants=st.sampled_from([(), ("off_by_one",), ("off_by_one", "big_endian")]),
    models=st.sampled_from([("tiny",), ("tiny", "smol"), ("smol", "tiny")]),
)
MIXED = st.tuples(st.lists(GOOD | ANY, max_size=14), st.booleans()).map(lambda t: t[0] + (SUPPORT if t[1] else []))


@given(BINDINGS, MIXED, st.data())
def test_taking_a_supporting_record_away_never_raises_a_level(binding, records, data):
    supporting = [index for index, r in enumerate(records) if supports(r.outcome, r.mutant)]
    if not supporting:
        return
    gone = data.draw(st.sets(st.sampled_from(supporting), min_size=1))
    rest = [r for index, r in enumerate(records) if index not in gone]
    assert of(rest, binding).worth <= of(records, binding).worth


@given(BINDINGS, MIXED, st.data())
def test_order_and_copies_do_not_matter(binding, records, data):
    shuffled = data.draw(st.permutations(records))
    assert of(shuffled, binding) is of(records, binding)
    assert of([*records, *records], binding) is of(records, binding)


@given(BINDINGS, MIXED, st.data())
def test_adding_a_falsified_record_of_today_falsifies(binding, records, data):
    plan = data.draw(st.sampled_from([plan for plan in binding.planned if not plan.mutant]))
    red = record(plan, outcome=Outcome.FALSIFIED)
    assert of([*records, red], binding) is Level.FALSIFIED


@given(BINDINGS, MIXED, ANY)
def test_adding_a_record_that_speaks_against_a_test_never_raises_its_level(binding, records, more):
    if not supports(more.outcome, more.mutant):
        assert of([*records, more], binding).worth <= of(records, binding).worth


@given(BINDINGS, MIXED)
def test_records_of_another_claim_may_be_left_out_beside_one_of_today(binding, records):
    own = [r for r in records if r.claim == binding.claim]
    if any(is_of_today(binding, r) for r in own):
        short = levels.earned(binding, kept(own), left_out=len(records) - len(own))
        assert short == earned(binding, records)


@given(BINDINGS, MIXED)
def test_a_level_always_has_a_reason_and_its_counts_stay_within_the_plan(binding, records):
    result = earned(binding, records)
    assert result.reasons
    assert all(result.reasons)
    counts = result.counts
    assert counts["survived"] + counts["killed"] <= counts["recorded"] <= counts["planned"] == len(binding.planned)


def test_the_rules_touch_neither_files_nor_clocks():
    source = Path(levels.__file__).read_text()
    assert not re.findall(r"(?<!\.)\b(open|Path|os|time|datetime|random)\b\.?\(?", source.split('"""', 2)[2])
