import json
import os
import re
import subprocess
import sys

import pytest

from pv import promote
from pv.binding import bind
from pv.cli import main
from pv.contract import read_contract
from pv.errors import PvError
from pv.outcome import Outcome
from pv.status import contract_files, exit_code, project_of, survey, totals
from pv.status_report import as_json, as_text
from pv.words import Level
from tests.pv.test_binding import CONTRACT, FILES, project, recorded

PLACE = "contracts/checksum-v1.yaml"


def stating(status):
    return {PLACE: CONTRACT.replace("status: PARTIAL", f"status: {status}")}


def proven(folder, status="PARTIAL", **how):
    """A project whose first test has the evidence of everything that it plans."""
    config, contract = project(folder, **stating(status))
    recorded(bind(contract, contract.tests[0], config), config, **how)
    return config


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ("UNTESTED", False),
        ("PARTIAL", False),
        ("FUNCTIONAL", False),
        ("STALE", False),
        ("FALSIFIED", False),
        ("DISCHARGED", True),
        ("PROVEN", True),
    ],
)
def test_a_contract_may_state_what_was_earned_or_less(tmp_path, status, over):
    config = proven(tmp_path, status, only=lambda plan: plan.role != "oracle")
    found = survey(config)
    assert found.rows[0].earned.level is Level.FUNCTIONAL
    assert found.rows[0].overclaimed is over
    assert exit_code(found, check=True) == int(over)
    assert exit_code(found, check=False) == 0


@pytest.mark.parametrize("written", ['"DISCHARGED "', '" discharged"', '"DISCHARGED\\n"', '"\\tDischarged\\u00a0"'])
def test_blanks_and_case_make_no_other_level_in_any_command(tmp_path, monkeypatch, capsys, written):
    proven(tmp_path, written, only=lambda plan: plan.role != "oracle")
    monkeypatch.chdir(tmp_path)
    word = re.search(r"discharged", written, re.IGNORECASE)[0]
    assert main(["status", "--check"]) == 1
    assert f"T-1 states {word}, earned FUNCTIONAL\n" in capsys.readouterr().out
    main(["status", "--json"])
    row = json.loads(capsys.readouterr().out)["tests"][0]
    assert (row["stated"], row["overclaimed"]) == (word, True)
    main(["ledger"])
    assert f"FUNCTIONAL, states {word}  " in capsys.readouterr().out
    assert main(["promote", "--write"]) == 0
    assert "T-1: DISCHARGED -> FUNCTIONAL\n" in capsys.readouterr().out
    assert read_contract(tmp_path / PLACE).tests[0].status == "FUNCTIONAL"


def test_untested_is_more_than_falsified(tmp_path):
    found = survey(proven(tmp_path, "UNTESTED", outcome=Outcome.FALSIFIED, message="seen"))
    assert found.rows[0].earned.level is Level.FALSIFIED
    assert found.rows[0].overclaimed


def test_of_an_unbound_test_only_a_level_is_an_overclaim(tmp_path):
    config, _ = project(tmp_path)
    assert not survey(config).rows[1].overclaimed
    config, _ = project(tmp_path, **{PLACE: CONTRACT.replace("status: verified", "status: PARTIAL")})
    assert survey(config).rows[1].overclaimed


def test_a_changed_module_makes_the_evidence_stale_and_an_unrelated_one_does_not(tmp_path):
    config = proven(tmp_path, "DISCHARGED")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert exit_code(survey(config), check=True) == 0
    (tmp_path / "sums.py").write_text(FILES["sums.py"] + "# related\n")
    row = survey(config).rows[0]
    assert (row.earned.level, row.earned.once, row.overclaimed) == (Level.STALE, Level.DISCHARGED, True)
    assert "T-1   DISCHARGED  STALE (was DISCHARGED)" in as_text(survey(config))


def test_records_of_an_older_claim_are_counted_and_decide_nothing_beside_those_of_today(tmp_path):
    config = proven(tmp_path, "DISCHARGED")
    before = survey(config).rows[0]
    config, contract = project(tmp_path, **{PLACE: CONTRACT.replace("prediction: ", "prediction: now ", 1)})
    row = survey(config).rows[0]
    assert (row.earned.level, row.earned.counts["stale"]) == (Level.STALE, before.earned.counts["recorded"])
    recorded(bind(contract, contract.tests[0], config), config)
    after = survey(config).rows[0].earned
    assert (after.level, after.counts["stale"]) == (Level.DISCHARGED, before.earned.counts["recorded"])


def test_the_totals_have_their_denominators(tmp_path):
    found = survey(proven(tmp_path))
    assert totals(found) == {
        "contracts": 1,
        "declared": 2,
        "bound": 1,
        "with_evidence": 1,
        "survived": 1,
        "stale": 0,
        "falsified": 0,
        "records": 11,
        "unreadable": 0,
    }
    assert as_text(found).splitlines()[-1] == (
        "contracts 1; tests 2 declared, 1 bound, 1 with evidence of today, 1 survived, 0 falsified, 0 stale; "
        "records 11 read, 0 files unreadable"
    )


def test_a_surviving_mutant_keeps_a_test_from_counting_as_survived(tmp_path):
    config = proven(tmp_path)
    binding = survey(config).rows[0].binding
    recorded(binding, config, only=lambda plan: plan.suffix == "algorithm!off_by_one", outcome=Outcome.SURVIVED)
    found = survey(config)
    assert totals(found)["survived"] == 0
    assert found.rows[0].earned.reasons[0].startswith("mutant survived [algorithm!off_by_one]")


def test_the_table_is_aligned_and_says_why(tmp_path):
    text = as_text(survey(proven(tmp_path, only=lambda plan: plan.role != "oracle")))
    assert text.splitlines()[:4] == [
        "contracts/checksum-v1.yaml",
        "  test  stated    earned      survived  mutants  models      why",
        "  T-1   PARTIAL   FUNCTIONAL  3/5       4/6      smol, tiny  not DISCHARGED: oracle-tiny has no SURVIVED "
        "record for today's digests",
        "  T-2   verified  UNTESTED    -         -        -           unbound: it names no falsifiers",
    ]


def test_an_overclaim_is_named_with_its_line(tmp_path):
    config, _ = project(tmp_path, **stating("DISCHARGED"))
    line = as_text(survey(config)).splitlines()[-2]
    assert line == "overclaimed: contracts/checksum-v1.yaml:15: T-1 states DISCHARGED, earned UNTESTED"


def test_the_json_has_the_documented_shape(tmp_path):
    content = json.loads(as_json(survey(proven(tmp_path))))
    assert list(content) == ["schema", "totals", "tests", "problems"]
    assert content["schema"] == "pv-status/1"
    assert content["totals"]["survived"] == 1
    assert content["tests"][0] == {
        "contract": "checksum-v1",
        "path": "contracts/checksum-v1.yaml",
        "line": 15,
        "test": "T-1",
        "bound": True,
        "stated": "PARTIAL",
        "earned": "DISCHARGED",
        "once": "UNTESTED",
        "overclaimed": False,
        "models": ["smol", "tiny"],
        "counts": {
            "planned": 11,
            "recorded": 11,
            "survived": 5,
            "falsified": 0,
            "mutants": 6,
            "killed": 6,
            "blind": 0,
            "flaky": 0,
            "stale": 0,
        },
        "reasons": [
            "PARTIAL_ALGORITHM_LEVEL: algorithm survived, and its mutants were caught",
            "FUNCTIONAL: live survived, and its mutants were caught",
            "DISCHARGED: oracle survived, and its mutants were caught",
        ],
    }


def test_damaged_evidence_never_raises_a_level_and_fails_the_check(tmp_path):
    config = proven(tmp_path, "UNTESTED")
    binding = survey(config).rows[0].binding
    recorded(binding, config, only=lambda plan: plan.suffix == "algorithm", outcome=Outcome.FALSIFIED, message="red")
    assert survey(config).rows[0].earned.level is Level.FALSIFIED
    for file in (config.evidence / "checksum-v1" / "T-1").iterdir():
        if b'"outcome":"FALSIFIED"' in file.read_bytes() and b'"mutant":null' in file.read_bytes():
            file.write_bytes(file.read_bytes() + b"\n")
    found = survey(config)
    assert found.rows[0].earned.level is Level.UNTESTED
    assert found.rows[0].earned.reasons[0].startswith("its evidence cannot be believed: evidence/checksum-v1/T-1/")
    assert totals(found)["unreadable"] == 1
    assert exit_code(found, check=True) == 1
    assert "unreadable: evidence/checksum-v1/T-1/" in as_text(found)
    assert json.loads(as_json(found))["problems"][0]["why"].startswith("was changed after it was written")


def test_a_test_that_cannot_be_bound_earns_nothing_and_says_why(tmp_path):
    config = proven(tmp_path, "PARTIAL")
    (tmp_path / "checks" / "sums.py").unlink()
    row = survey(config).rows[0]
    assert row.bound
    assert row.overclaimed
    assert row.earned.level is Level.UNTESTED
    assert "checksum-v1.yaml:15: no module 'checks.sums' below" in row.earned.reasons[0]


def test_a_contract_that_cannot_be_read_hides_no_other(tmp_path):
    config = proven(tmp_path)
    (config.contracts / "broken.yaml").write_text("a: [\n")
    found = survey(config)
    assert len(found.rows) == 2
    assert len(found.problems) == 1
    assert "unreadable: contracts/broken.yaml:" in as_text(found)
    assert exit_code(found, check=True) == 1
    assert exit_code(found, check=False) == 2


def test_two_contracts_of_one_name_are_a_problem(tmp_path):
    config = proven(tmp_path)
    (config.contracts / "deeper").mkdir()
    (config.contracts / "deeper" / "checksum-v1.yaml").write_text(CONTRACT)
    (problem,) = survey(config).problems
    assert "has the same name as" in problem.why


def test_no_contract_is_no_verdict(tmp_path):
    config, contract = project(tmp_path)
    contract.path.unlink()
    assert exit_code(survey(config), check=False) == 2
    assert exit_code(survey(config), check=True) == 2
    contract.path.parent.rmdir()
    assert exit_code(survey(config), check=True) == 2


def test_paths_choose_contracts_and_a_missing_one_is_an_error(tmp_path):
    config, contract = project(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.yml").write_text(CONTRACT)
    (tmp_path / "more" / "notes.txt").write_text("")
    more = [tmp_path / "more", contract.path, contract.path]
    assert contract_files(config, more)[0] == [tmp_path / "more" / "other.yml", contract.path]
    assert [row.contract.stem for row in survey(config, [tmp_path / "more"]).rows] == ["other", "other"]
    with pytest.raises(PvError, match=r"gone\.yaml: no such file or folder$"):
        survey(config, [tmp_path / "gone.yaml"])


def test_status_starts_without_the_heavy_packages(tmp_path):
    proven(tmp_path)
    code = (
        "import sys; from pathlib import Path; from pv.config import find; from pv.status import survey;"
        "from pv.status_report import as_text;"
        "import pv.promote; as_text(survey(find(Path('.'))));"
        "print([m for m in ('numpy', 'numba', 'pytest', 'engine', 'falsifiers', 'rich', 'checks') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_contracts_elsewhere_are_judged_by_the_evidence_of_their_own_project(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        proven(tmp_path / name)
    here, there = tmp_path / "here", tmp_path / "there"
    assert project_of([], here).root == here
    assert project_of([here / PLACE], here / "checks").root == here
    assert project_of([there / PLACE], here).root == there
    with pytest.raises(
        PvError, match=r"^the contracts belong to several projects: .*here, .*there\n  hint: name those of"
    ):
        project_of([here / PLACE, there / PLACE], here)


def test_the_command_prints_the_table_or_its_json_and_checks_on_demand(tmp_path, monkeypatch, capsys):
    proven(tmp_path, "DISCHARGED", only=lambda plan: plan.role == "algorithm")
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("contracts 1; tests 2 declared, 1 bound, ")
    assert main(["status", "--json", "--check", PLACE]) == 1
    assert json.loads(capsys.readouterr().out)["tests"][0]["overclaimed"] is True
    (tmp_path / PLACE).unlink()
    assert main(["status", "--check"]) == 2
    assert capsys.readouterr().err == "pv: nothing was measured: there is no contract\n"


def test_a_check_of_tests_without_evidence_of_today_declines(tmp_path, monkeypatch, capsys):
    config = proven(tmp_path, "UNTESTED")
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--check"]) == 0
    (tmp_path / "sums.py").write_text(FILES["sums.py"] + "# another\n")
    assert exit_code(survey(config), check=False) == 0
    capsys.readouterr()
    assert main(["status", "--check"]) == 2
    told = "pv: nothing was measured: no test has evidence of today; `pytest --falsify --record` makes it\n"
    assert capsys.readouterr().err == told
    config.evidence.rename(tmp_path / "elsewhere")
    assert main(["status", "--check"]) == 2
    told = "pv: there is no evidence: no folder evidence; `pytest --falsify --record` makes it\n"
    assert capsys.readouterr().err == told


def test_what_lies_among_contracts_and_is_none_is_passed_over(tmp_path):
    config, contract = project(tmp_path)
    for name in ("binding.yaml", "playbook-x.yaml", ".hidden.yaml", ".cache/copy.yaml"):
        (config.contracts / name).parent.mkdir(exist_ok=True)
        (config.contracts / name).write_text(CONTRACT)
    assert contract_files(config) == ([contract.path], [])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"outcome": Outcome.FALSIFIED, "message": "seen"}, "FALSIFIED [algorithm]: seen"),
        ({"outcome": Outcome.FLAKY, "message": "twice"}, "FLAKY [algorithm]: twice"),
    ],
)
def test_a_broken_promise_fails_the_check_even_where_the_contract_states_it(tmp_path, how, why):
    def clean(plan):
        return plan.role == "algorithm" and plan.mutant is None

    found = survey(proven(tmp_path, "FALSIFIED", only=clean, **how))
    assert not found.rows[0].overclaimed
    assert exit_code(found, check=True) == 1
    assert exit_code(found, check=False) == 0
    assert f"broken: contracts/checksum-v1.yaml:15: T-1: {why}" in as_text(found)


def test_a_test_that_cannot_be_bound_is_not_counted_as_bound_and_fails_the_check(tmp_path):
    config = proven(tmp_path, "UNTESTED")
    (tmp_path / "checks" / "sums.py").unlink()
    found = survey(config)
    assert totals(found)["bound"] == 0
    assert not found.rows[0].overclaimed
    assert exit_code(found, check=True) == 1


def test_a_model_file_of_the_project_that_is_not_the_registered_one_is_a_problem(tmp_path):
    config = proven(tmp_path)
    (tmp_path / "tiny.gguf").write_bytes(b"tiny")
    assert survey(config).problems == ()
    (tmp_path / "tiny.gguf").write_bytes(b"tinx")
    found = survey(config)
    assert "unreadable: tiny.gguf: is not the registered tiny: sha256 " in as_text(found)
    assert exit_code(found, check=True) == 1


def test_only_what_cannot_be_read_is_no_verdict(tmp_path):
    config, contract = project(tmp_path)
    contract.path.write_text("a: [\n")
    assert exit_code(survey(config), check=False) == 2
    assert exit_code(survey(config), check=True) == 1


def test_a_summary_that_counts_more_than_was_earned_fails_the_check(tmp_path, monkeypatch, capsys):
    def summary(functional):
        return {PLACE: CONTRACT + f"verification_summary:\n  total_obligations: 2\n  functional: {functional}\n"}

    monkeypatch.chdir(tmp_path)
    for functional, code in ((1, 0), (9, 1)):
        config, contract = project(tmp_path, **summary(functional))
        recorded(bind(contract, contract.tests[0], config), config, only=lambda plan: plan.role != "oracle")
        capsys.readouterr()
        assert main(["status", "--check"]) == code
    assert capsys.readouterr().err.endswith("its summary counts 9 tests of functional or above, 1 earned it\n")


def test_the_registry_of_models_among_the_contracts_is_none(tmp_path):
    config, contract = project(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.pv]\nmodels = 'contracts/models.yaml'\n")
    (config.contracts / "models.yaml").write_text("tiny: {}")
    assert contract_files(config) == ([contract.path], [])


def test_a_pipe_among_the_contracts_is_a_problem_and_hides_no_other(tmp_path):
    config, _ = project(tmp_path)
    os.mkfifo(config.contracts / "p.yaml")
    found = survey(config)
    assert totals(found)["contracts"] == 1
    problem = "unreadable: contracts/p.yaml: is no regular file: it is read only if it is named itself"
    assert problem in as_text(found).splitlines()
    assert exit_code(found, check=True) == 1


def test_a_contract_cannot_steer_the_terminal(tmp_path):
    text = CONTRACT.replace("T-1", '"\\x1b[2J\\u202e"').replace("status: PARTIAL", 'status: "DISCHARGED\\x1b]0;x"')
    config, _ = project(tmp_path, **{PLACE: text})
    found = survey(config)
    shown = as_text(found)
    assert r"\x1b[2J\u202e" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert promote.as_text(found, []).replace("\n", "").isprintable()
    assert as_json(found).isascii()
    assert json.loads(as_json(found))["tests"][0]["test"] == "\x1b[2J\u202e"
