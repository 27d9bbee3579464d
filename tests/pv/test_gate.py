"""Each id of `pv gate`, rejected and accepted: a base that has earned what it states, and a change of it."""

import json
import os
import re
from pathlib import Path

import pytest

from pv.binding import bind
from pv.cli import main
from pv.config import find
from pv.contract import read_contract
from pv.evidence.collecting import release
from pv.evidence.folder import read
from pv.gate import gate
from pv.outcome import Outcome
from pv.statement import record_of
from pv.validate import ACCEPT, DECLINE, REJECT
from tests.pv.test_binding import CONTRACT, FILES, recorded
from tests.pv.test_git import commit, run

PLACE = "contracts/checksum-v1.yaml"
OTHER = "contracts/other-v1.yaml"
PROMISE = (
    CONTRACT.replace("metadata:\n", "metadata:\n  kind: schema\n  references: [RFC 1952]\n")
    .replace("status: PARTIAL", "tolerance: {metric: nmse, limit: 1.0e-4, because: measured}\n  status: FUNCTIONAL")
    .replace("  status: verified\n", "  prediction: it passes\n  if_fails: it is wrong\n")
    .replace("  rule: somebody", "  binds_to: other\n  rule: somebody")
    .replace("- id: OBL-1\n", "- id: OBL-1\n  type: bound\n  tolerance: 1.0e-6\n")
)
CODE = """\
import sums
from checks import helpers
from pv.trial import mutant


def order(trial): helpers.compare(trial, sums)
def files(trial): ...
def same_as_zlib(trial): ...
@mutant
def off_by_one(): yield from helpers.plant(1)
@mutant
def forgets_last():
    "Forgets the last."
    yield
"""
HELPERS = "def compare(trial, sums): ...\ndef plant(number): yield number\n"
PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Branch main: a contract that has earned DISCHARGED and states FUNCTIONAL, and one that nothing runs."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    here = tmp_path / "here"
    here.mkdir()
    run(here, "init", "-q", "-b", "main")
    other = PROMISE.replace("T-", "O-").replace("  status: FUNCTIONAL\n", "")
    other = re.sub(r"  falsifiers:\n(    .*\n)+", "", other).replace("  mutants: [off_by_one, forgets_last]\n", "")
    other = other.replace("  models: [tiny, smol]\n", "")
    write(here, {**FILES, "checks/sums.py": CODE, "checks/helpers.py": HELPERS, PLACE: PROMISE, OTHER: other})
    record(here)
    commit(here)
    run(here, "checkout", "-q", "-b", "work")
    monkeypatch.chdir(here)
    return here


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def record(folder, **how):
    """Evidence for the first test of the first contract, as its files are now."""
    config, contract = find(folder), read_contract(folder / PLACE)
    return recorded(bind(contract, contract.tests[0], config), config, **how)


def edit(folder, *changes, place=PLACE, version="2.0.0", changelog=""):
    """Change the contract: (old, new) texts, its version, and entries of its changelog."""
    text = (folder / place).read_text(encoding="utf-8")
    for old, new in (('version: "1.2.3"', f'version: "{version}"'), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    write(folder, {place: text + (f"changelog:\n{changelog}" if changelog else "")})


def entry(kind, *, name="T-1", version="2.0.0", reason="the vendor's kernel rounds differently"):
    return f"- version: {version}\n  reason: {json.dumps(reason)}\n  accepts: {{{name}: [{kind}]}}\n"


def judged(folder, code=REJECT):
    """What the gate says: (id, contract, test) of its findings, and of what it accepts."""
    verdict = gate("main", folder)
    assert verdict.code == code, [*verdict.findings, *verdict.declined]
    return (
        [(found.id, found.contract, found.test) for found in verdict.findings],
        [(found.id, found.contract, found.test) for found, _ in verdict.accepted],
    )


def test_an_unchanged_tree_is_accepted_with_its_denominators(repository, capsys):
    assert main(["gate", "--base", "main"]) == ACCEPT
    base = run(repository, "rev-parse", "--short=7", "main")
    assert capsys.readouterr().out == (
        f"accept: since main (merge base {base}): 0 findings, 0 accepted by a changelog; contracts 2 -> 2, 0 changed; "
        "tests 4 -> 4, 4 compared; evidence 12 of 12 files kept\n"
    )


# -- what can be accepted ---------------------------------------------------------------------------------------------


def lowered(folder, **how):
    edit(folder, ("status: FUNCTIONAL", "status: PARTIAL"), **how)


def loosened(folder, **how):
    edit(folder, ("limit: 1.0e-4", "limit: 1.0e-3"), **how)
    record(folder)


def less_caught(folder, **how):
    edit(folder, ("[off_by_one, forgets_last]", "[off_by_one]"), **how)
    record(folder)


def tried_on_less(folder, **how):
    edit(folder, ("[tiny, smol]", "[tiny]"), **how)
    record(folder)


def less_promised(folder, **how):
    edit(folder, ("- id: T-2\n", "- id: T-3\n"), **how)


def less_compared(folder, **how):
    edit(folder, **how)
    write(folder, {"sums.py": "def total(x): return sum(sorted(x))\n"})
    record(folder, comparisons=1)


def planted_otherwise(folder, **how):
    edit(folder, **how)
    write(folder, {"checks/helpers.py": HELPERS.replace("yield number", "yield 9")})
    record(folder)


def less_digested(folder, **how):
    edit(folder, **how)
    write(folder, {"checks/sums.py": CODE.replace("import sums\n", "import elsewhere as sums\n")})
    record(folder)


LOSSES = {
    "GATE-FEWER-COMPARISONS": (less_compared, "comparisons", "T-1"),
    "GATE-CHANGED-MUTANT": (planted_otherwise, "defect", "T-1"),
    "GATE-LOST-CODE": (less_digested, "code", "T-1"),
    "GATE-DEMOTION": (lowered, "demotion", "T-1"),
    "GATE-TOLERANCE": (loosened, "tolerance", "T-1"),
    "GATE-LOST-MUTANT": (less_caught, "mutant", "T-1"),
    "GATE-LOST-MODEL": (tried_on_less, "model", "T-1"),
    "GATE-LOST-TEST": (less_promised, "test", "T-2"),
}


@pytest.mark.parametrize("id", LOSSES)
def test_a_loss_is_rejected_without_a_reason_and_accepted_with_one(repository, id, capsys):
    lose, kind, name = LOSSES[id]
    lose(repository)
    assert judged(repository) == ([(id, "checksum-v1", name)], [])
    write(repository, {PLACE: (repository / PLACE).read_text() + "changelog:\n" + entry(kind, name=name)})
    assert judged(repository, ACCEPT) == ([], [(id, "checksum-v1", name)])
    assert main(["gate", "--base", "main"]) == ACCEPT
    lines = capsys.readouterr().out.splitlines()
    assert re.match(rf"accepted: contracts/checksum-v1\.yaml:\d+: {id}: .*{name}", lines[0])
    assert re.fullmatch(r"  reason: the vendor's kernel rounds differently \(changelog 2\.0\.0, line \d+\)", lines[1])
    assert "0 findings, 1 accepted by a changelog" in lines[2]


def test_a_lost_falsifier_is_a_demotion_too_and_each_has_to_be_accepted(repository):
    edit(repository, ("    live: checks.sums:files\n", ""), ("status: FUNCTIONAL", "status: PARTIAL"))
    record(repository)
    demotion, lost = (("GATE-DEMOTION", "checksum-v1", "T-1"), ("GATE-LOST-FALSIFIER", "checksum-v1", "T-1"))
    assert judged(repository) == ([demotion, lost], [])
    text = (repository / PLACE).read_text()
    write(repository, {PLACE: text + "changelog:\n" + entry("falsifier")})
    assert judged(repository) == ([demotion], [lost])
    write(repository, {PLACE: text + "changelog:\n" + entry("falsifier, demotion")})
    assert judged(repository, ACCEPT) == ([], [demotion, lost])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"version": "1.9.0"}, "is about 1.9.0, the contract's version is 2.0.0"),
        ({"reason": " "}, "gives no reason"),
        ({"name": "T-2"}, ""),
        ({"kind": "mutant"}, ""),
    ],
)
def test_an_entry_that_is_about_something_else_accepts_nothing(repository, how, why):
    lowered(repository, changelog=entry(how.pop("kind", "demotion"), **how))
    verdict = gate("main", repository)
    assert [found.id for found in verdict.findings] == ["GATE-DEMOTION"]
    assert why in verdict.findings[0].message
    assert verdict.accepted == ()


def test_an_entry_of_the_base_accepts_nothing_more(repository):
    run(repository, "checkout", "-q", "main")
    edit(repository, changelog=entry("demotion"))
    commit(repository)
    run(repository, "checkout", "-q", "-B", "work")
    text = (repository / PLACE).read_text()
    write(repository, {PLACE: text.replace("status: FUNCTIONAL", "status: PARTIAL")})
    verdict = gate("main", repository)
    assert [found.id for found in verdict.findings] == ["GATE-DEMOTION", "GATE-VERSION"]
    assert "is an old one: it accepted an earlier loss" in verdict.findings[0].message


# -- trials that are weakened under their old names -------------------------------------------------------------------


def test_fewer_comparisons_are_told_by_trial(repository):
    less_compared(repository)
    (found,) = gate("main", repository).findings
    assert found.message == (
        "T-1 makes fewer comparisons than it did: algorithm 2 -> 1, algorithm!off_by_one 2 -> 1, "
        "algorithm!forgets_last 2 -> 1, live-tiny 2 -> 1 and 7 more"
    )


def test_a_planted_defect_that_changed_is_told_with_its_place(repository):
    planted_otherwise(repository)
    verdict = gate("main", repository)
    assert [found.message for found in verdict.findings] == [
        "T-1: the planted defect off_by_one (checks/sums.py:10) was changed"
    ]
    assert verdict.notes == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    "Forgets the last."\n    yield\n', '\n    "Another docstring."\n    yield  # and a comment\n'),
        ("def files(trial): ...\n", "def files(trial): ...\n\n\ndef unrelated(): ...\n"),
        ("from checks import helpers\n", "import checks.helpers as helpers\n"),
    ],
)
def test_a_defect_is_the_same_under_another_docstring_place_or_import(repository, old, new):
    assert old in CODE
    write(repository, {"checks/sums.py": CODE.replace(old, new)})
    record(repository)
    assert judged(repository, ACCEPT) == ([], [])


def test_a_defect_that_the_text_does_not_show_counts_as_changed_with_the_code(repository):
    write(repository, {"checks/more.py": CODE, "checks/sums.py": "from checks.more import *\n"})
    record(repository)
    verdict = gate("main", repository)
    assert [found.message for found in verdict.findings] == [
        "T-1: the planted defects off_by_one (checks.sums), forgets_last (checks.sums) were changed"
    ]


def test_code_that_left_the_digests_is_told_by_role_and_the_project_may_accept_it(repository):
    less_digested(repository)
    (found,) = gate("main", repository).findings
    assert found.message == (
        "T-1: the evidence of algorithm, live, oracle no longer names the code of sums: a change of it would not be "
        "noticed"
    )
    assert 'accepts = ["first-party sums"]' in found.hint
    settings = (repository / "pyproject.toml").read_text()
    for name, code in (("checks", REJECT), ("sums", ACCEPT)):
        accepted = f'\n[[tool.pv.changelog]]\nreason = "it is meant"\naccepts = ["first-party {name}"]\n'
        write(repository, {"pyproject.toml": settings + accepted})
        assert gate("main", repository).code == code


def test_a_falsifier_whose_code_changed_is_a_note_and_no_finding(repository, capsys):
    write(repository, {"checks/helpers.py": HELPERS.replace("sums): ...", "sums): return")})
    record(repository, comparisons=3)
    assert judged(repository, ACCEPT) == ([], [])
    told = "T-1: the code of the algorithm falsifier checks.sums:order changed; comparisons 2 -> 3"
    assert main(["gate", "--base", "main"]) == ACCEPT
    assert capsys.readouterr().out.splitlines()[0] == f"note: {PLACE}:19: {told}"
    assert main(["gate", "--base", "main", "--format", "markdown"]) == ACCEPT
    assert "For the reviewer:" in capsys.readouterr().out
    assert main(["gate", "--base", "main", "--json"]) == ACCEPT
    assert json.loads(capsys.readouterr().out)["notes"] == [
        {
            "path": PLACE,
            "line": 19,
            "contract": "checksum-v1",
            "test": "T-1",
            "role": "algorithm",
            "base": "checks.sums:order",
            "head": "checks.sums:order",
            "comparisons_base": 2,
            "comparisons_head": 3,
        }
    ]
    assert main(["ledger", "diff", "main", "--format", "markdown"]) == ACCEPT
    assert "the code of the algorithm falsifier checks.sums:order changed; comparisons 2 -" in capsys.readouterr().out


def test_another_function_of_the_same_module_is_another_falsifier(repository):
    edit(repository, ("algorithm: checks.sums:order", "algorithm: checks.sums:files"))
    record(repository)
    (note,) = gate("main", repository).notes
    assert "falsifier checks.sums:order -> checks.sums:files changed; comparisons 2 -> 2" in note.words


# -- what is earned ---------------------------------------------------------------------------------------------------


def test_evidence_that_went_stale_is_a_demotion_although_no_contract_changed(repository):
    write(repository, {"sums.py": "def total(x): return 0\n"})
    verdict = gate("main", repository)
    assert [(found.id, found.line) for found in verdict.findings] == [("GATE-OVERCLAIM", 19), ("GATE-DEMOTION", 19)]
    assert verdict.findings[1].message == (
        "T-1 had earned DISCHARGED, has earned STALE: 11 records, all for other digests: code changed"
    )
    record(repository)
    assert judged(repository, ACCEPT) == ([], [])


def test_a_level_above_what_was_earned_is_an_overclaim_that_no_changelog_accepts(repository):
    write(repository, {"checks/sums.py": CODE + "# changed\n"})
    record(repository, only=lambda plan: plan.role != "oracle")
    changelog = entry("demotion")
    edit(repository, ("status: FUNCTIONAL", "status: DISCHARGED"), changelog=changelog)
    record(repository, only=lambda plan: plan.role != "oracle")
    assert judged(repository) == ([("GATE-OVERCLAIM", "checksum-v1", "T-1")], [("GATE-DEMOTION", "checksum-v1", "T-1")])
    record(repository)
    assert judged(repository, ACCEPT) == ([], [])


def test_a_summary_above_what_was_earned_is_an_overclaim(repository):
    text = (repository / PLACE).read_text()
    for count, code in ((1, ACCEPT), (2, REJECT)):
        write(
            repository,
            {
                PLACE: text.replace("1.2.3", "2.0.0")
                + f"verification_summary: {{total_obligations: 2, discharged: {count}}}\n"
            },
        )
        assert judged(repository, code)[0] == [("GATE-OVERCLAIM", "checksum-v1", "")] * code


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("total_obligations: 2", "total_obligations: 1"),
        ("total_obligations: 3", "total_obligations: 2, l2_property_tested: 2"),
        ("total_obligations: 2, falsification_tests: 2", "total_obligations: 2, falsification_tests: 1"),
        ("total_obligations: 2, bound: 1", "total_obligations: 2, bound: 2"),
        ("total_obligations: 2, bound: 0", "total_obligations: 2, discharged: -5, functional: 6"),
    ],
)
def test_a_summary_that_flatters_by_another_count_is_an_overclaim(repository, right, wrong):
    text = (repository / PLACE).read_text().replace("1.2.3", "2.0.0") + "verification_summary:\n  "
    for typed, code in ((right, ACCEPT), (wrong, REJECT)):
        write(repository, {PLACE: text + "\n  ".join(typed.split(", ")) + "\n"})
        assert judged(repository, code)[0] == [("GATE-OVERCLAIM", "checksum-v1", "")] * code
    assert main(["status", "--check"]) == REJECT
    assert main(["promote", "--write"]) == ACCEPT
    assert main(["status", "--check"]) == ACCEPT


def test_of_a_contract_that_nothing_runs_only_levels_are_counted(repository):
    summary = "verification_summary: {total_obligations: 1, l2_property_tested: 9, discharged: 0}\n"
    edit(repository, place=OTHER)
    write(repository, {OTHER: (repository / OTHER).read_text() + summary})
    assert judged(repository, ACCEPT) == ([], [])


def test_a_broken_promise_is_rejected_whatever_the_contract_states_and_accepts(repository):
    edit(repository, ("status: FUNCTIONAL", "status: FALSIFIED"), changelog=entry("demotion"))
    record(repository)
    record(repository, only=lambda plan: plan.suffix == "algorithm", outcome=Outcome.FALSIFIED, message="seen")
    assert judged(repository) == ([("GATE-BROKEN", "checksum-v1", "T-1")], [("GATE-DEMOTION", "checksum-v1", "T-1")])


# -- tolerances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("limit: 1.0e-4", "limit: 2.0e-4", "T-1: the tolerance went from 0.0001 to 0.0002"),
        ("limit: 1.0e-4", "limit: .nan", "T-1: the tolerance went from 0.0001 to nan"),
        (
            "metric: nmse",
            "metric: rms",
            "T-1: the tolerance is one of rms and was one of nmse: the limits cannot be compared",
        ),
        ("tolerance: {metric", "note: {metric", "T-1: the tolerance 0.0001 is gone, and nothing says how far it holds"),
        ("tolerance: 1.0e-6", "tolerance: 2.0e-6", "OBL-1: the tolerance went from 1e-06 to 2e-06"),
        (
            "formula: t = 1",
            "formula: t = 1\n    float_tolerance: 0.1",
            "other: has a tolerance of 0.1 where none stood: equal meant equal",
        ),
        ("limit: 1.0e-4", "limit: 1.0e-5", ""),
        ("limit: 1.0e-4", "limit: 0", ""),
        ("formula: t = 1", "formula: t = 1\n    float_tolerance: 0", ""),
    ],
)
def test_a_tolerance_may_be_tightened_and_not_loosened(repository, old, new, words):
    edit(repository, (old, new))
    record(repository)
    verdict = gate("main", repository)
    found = [each.message for each in verdict.findings if each.id == "GATE-TOLERANCE"]
    assert found == [words] * bool(words)


def test_a_tolerance_of_an_obligation_is_accepted_by_its_id(repository):
    edit(repository, ("tolerance: 1.0e-6", "tolerance: 2.0e-6"), changelog=entry("tolerance", name="OBL-1"))
    record(repository)
    assert judged(repository, ACCEPT) == ([], [("GATE-TOLERANCE", "checksum-v1", "OBL-1")])


# -- contracts and versions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "code"), [("1.2.3", REJECT), ("1.2.4", REJECT), ("2.0.0", ACCEPT)])
def test_a_change_needs_a_version_that_announces_it(repository, version, code):
    edit(repository, ("rule: somebody looks at it", "rule: nobody looks"), version=version)
    assert judged(repository, code)[0] == [("GATE-VERSION", "checksum-v1", "")] * code


def test_a_finding_about_a_version_names_its_line_and_the_version_that_would_do(repository):
    edit(repository, ("rule: somebody looks at it", "rule: nobody looks"), version="1.3.0")
    (found,) = gate("main", repository).findings
    assert (found.path, found.line) == (PLACE, 4)
    assert found.message.startswith("1.2.3 -> 1.3.0: the version announces a minor change, needed is a major step, as ")
    assert found.hint == "version: 2.0.0 or later; `pv diff` lists the changes"


def test_a_contract_that_is_gone_is_lost_unless_it_was_retired(repository):
    (repository / OTHER).unlink()
    assert judged(repository) == ([("GATE-LOST-CONTRACT", "other-v1", "")], [])
    run(repository, "checkout", "-q", "main", "--", OTHER)
    edit(repository, ("metadata:\n", "metadata:\n  status: RETIRED\n"), place=OTHER)
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    (repository / OTHER).unlink()
    assert judged(repository, ACCEPT) == ([], [])


def retired(folder, **how):
    edit(folder, ("metadata:\n", "metadata:\n  status: Retired\n"), **how)


def test_a_contract_with_levels_is_retired_for_a_reason_and_may_go_after_that(repository):
    found = ("GATE-RETIRED", "checksum-v1", "")
    retired(repository)
    assert judged(repository) == ([found], [])
    (told,) = gate("main", repository).findings
    assert told.message == "checksum-v1 is retired, and 1 of its 2 tests had a level: T-1 DISCHARGED"
    assert (told.path, told.line) == (PLACE, 2)
    assert told.hint.endswith("a reason, and accepts: {checksum-v1: [retirement]}")
    text = (repository / PLACE).read_text()
    for name, kind in (("T-1", "retirement"), ("checksum-v1", "demotion"), ("other-v1", "retirement")):
        write(repository, {PLACE: text + "changelog:\n" + entry(kind, name=name)})
        assert judged(repository) == ([found], [])
    write(repository, {PLACE: text + "changelog:\n" + entry("retirement", name="checksum-v1", reason=" ")})
    assert "gives no reason" in gate("main", repository).findings[0].message
    write(repository, {PLACE: text + "changelog:\n" + entry("retirement", name="checksum-v1")})
    assert judged(repository, ACCEPT) == ([], [found])
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    assert judged(repository, ACCEPT) == ([], [])
    (repository / PLACE).unlink()
    assert judged(repository, ACCEPT) == ([], [])


def test_what_a_retired_contract_stated_counts_where_its_evidence_is_stale(repository):
    run(repository, "checkout", "-q", "main")
    write(repository, {"checks/sums.py": CODE + "# changed\n"})
    commit(repository)
    run(repository, "checkout", "-q", "-B", "work")
    retired(repository)
    found = [(one.id, one.message) for one in gate("main", repository).findings if one.id == "GATE-RETIRED"]
    assert found == [("GATE-RETIRED", "checksum-v1 is retired, and 1 of its 2 tests had a level: T-1 FUNCTIONAL")]


@pytest.mark.parametrize(
    "setting",
    ['contracts = "contracts/none"', 'models = "contracts/other-v1.yaml"', 'milestones = "contracts/other-v1.yaml"'],
)
def test_a_setting_that_takes_a_contract_out_loses_it(repository, setting):
    text = FILES["pyproject.toml"]
    if setting.startswith("models"):
        text = text.replace('models = "models.yaml"\n', "")
    write(repository, {"pyproject.toml": text + setting + "\n"})
    assert ("GATE-LOST-CONTRACT", "other-v1", "") in judged(repository)[0]


def test_a_renamed_contract_is_compared_with_what_it_was(repository):
    run(repository, "mv", PLACE, "contracts/crc-v1.yaml")
    edit(repository, place="contracts/crc-v1.yaml", version="1.2.4")
    found, accepted = judged(repository)
    assert (("GATE-LOST-CONTRACT", "checksum-v1", "") in found, accepted) == (False, [])
    assert ("GATE-VERSION", "crc-v1", "") in found
    assert ("GATE-DEMOTION", "crc-v1", "T-1") in found


# -- the settings and goals of the project ----------------------------------------------------------------------------

SETTINGS = """\
[project.scripts]
sums = "sums:main"

[tool.pv]
first-party = ["checks", "sums"]
models = "models.yaml"
milestones = "milestones.yaml"
baseline = "baseline.json"

[tool.pv.severity]
SCHEMA-009 = "error"

[[tool.pv.suppress]]
rule = "SCHEMA-013"
path = "contracts/other-v1.yaml"
reason = "later"
until = 2027-03-31
"""
GOALS = """\
- id: ONE
  title: the first
  tests:
  - {contract: checksum-v1, test: T-1, level: FUNCTIONAL, weight: 3}
  - {contract: other-v1, test: O-1, level: PARTIAL}
"""
KNOWN = '{"schema": "pv-baseline/1", "findings": [\n%s\n]}\n'
FIRST = '{"rule": "SCHEMA-009", "path": "contracts/x.yaml", "message": "m", "count": 1}'
MORE = FIRST.replace("x.yaml", "y.yaml")


@pytest.fixture
def settled(repository):
    """Settings and goals on main."""
    files = {"pyproject.toml": SETTINGS, "milestones.yaml": GOALS, "baseline.json": KNOWN % FIRST}
    write(repository, files)
    record(repository)
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    assert judged(repository, ACCEPT) == ([], [])
    return repository


LOOSER = [
    ("pyproject.toml", '"checks", "sums"', '"checks"', "GATE-SETTING", "first-party sums", 5),
    ("pyproject.toml", 'sums = "sums:main"', "", "GATE-SETTING", "script sums", 1),
    ("pyproject.toml", '"sums:main"', '"other:main"', "GATE-SETTING", "script sums", 1),
    ("pyproject.toml", '"error"', '"off"', "GATE-SETTING", "severity SCHEMA-009", 11),
    ("pyproject.toml", 'SCHEMA-009 = "error"', "", "GATE-SETTING", "severity SCHEMA-009", 4),
    ("pyproject.toml", "2027-03-31", "2028-03-31", "GATE-SETTING", "suppress SCHEMA-013", 13),
    ("pyproject.toml", "other-v1", "*", "GATE-SETTING", "suppress SCHEMA-013", 13),
    ("pyproject.toml", 'milestones = "milestones.yaml"', "", "GATE-GOAL", "goal ONE", 1),
    ("baseline.json", FIRST, f"{FIRST},\n{MORE}", "GATE-SETTING", "baseline", 3),
    ("baseline.json", '"count": 1', '"count": 2', "GATE-SETTING", "baseline", 2),
    ("milestones.yaml", "id: ONE", "id: TWO", "GATE-GOAL", "goal ONE", 1),
    ("milestones.yaml", "level: FUNCTIONAL", "level: PARTIAL", "GATE-GOAL", "goal ONE", 1),
    ("milestones.yaml", "weight: 3", "weight: 4", "GATE-GOAL", "goal ONE", 1),
    ("milestones.yaml", "  - {contract: other-v1, test: O-1, level: PARTIAL}\n", "", "GATE-GOAL", "goal ONE", 1),
]


@pytest.mark.parametrize(("file", "old", "new", "id", "name", "line"), LOOSER)
def test_what_loosens_the_project_is_rejected_with_its_line_and_accepted_once(settled, file, old, new, id, name, line):
    text = (settled / file).read_text()
    assert text.count(old) == 1
    write(settled, {file: text.replace(old, new)})
    record(settled)
    (found,) = [one for one in gate("main", settled).findings if one.id in ("GATE-SETTING", "GATE-GOAL")]
    assert (found.id, found.test, found.line) == (id, name, line)
    assert found.path == file
    entry = f'\n[[tool.pv.changelog]]\nreason = "it is meant"\naccepts = ["{name}"]\n'
    write(settled, {"pyproject.toml": (settled / "pyproject.toml").read_text() + entry})
    lost = [("GATE-LOST-CODE", "checksum-v1", "T-1")] if name == "first-party sums" else []
    assert judged(settled, ACCEPT) == ([], [*lost, (id, "", name)])
    commit(settled)
    run(settled, "branch", "-f", "main", "work")
    assert judged(settled, ACCEPT) == ([], [])
    run(settled, "checkout", "-q", "HEAD~1", "--", file)
    write(settled, {"pyproject.toml": SETTINGS + entry})
    commit(settled)
    run(settled, "branch", "-f", "main", "work")
    write(settled, {file: (settled / file).read_text().replace(old, new)})
    record(settled)
    (again,) = [one for one in gate("main", settled).findings if one.id == id]
    assert "is an old one: it accepted an earlier loss" in again.message


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", '"checks", "sums"', '"checks", "sums", "more"'),
        ("pyproject.toml", 'SCHEMA-009 = "error"', 'SCHEMA-009 = "error"\nSCHEMA-013 = "error"'),
        ("pyproject.toml", "2027-03-31", "2027-01-31"),
        ("pyproject.toml", 'baseline = "baseline.json"', ""),
        ("milestones.yaml", "level: PARTIAL", "level: FUNCTIONAL"),
        ("milestones.yaml", "title: the first", "title: another"),
    ],
)
def test_what_asks_for_more_is_no_finding(settled, file, old, new):
    write(settled, {file: (settled / file).read_text().replace(old, new)})
    record(settled)
    assert judged(settled, ACCEPT) == ([], [])


def test_a_goal_that_rises_by_what_is_added_to_it_is_told(settled):
    wanted = "  - {contract: checksum-v1, test: T-1, level: FUNCTIONAL, weight: 3}\n"
    write(settled, {"milestones.yaml": GOALS.replace(wanted, "")})
    commit(settled)
    run(settled, "branch", "-f", "main", "work")
    write(settled, {"milestones.yaml": GOALS})
    (found,) = gate("main", settled).findings
    assert found.message == "ONE is at 75% by the goal as it is written now, and at 0% as it was"


def test_what_is_wrong_in_a_changelog_of_the_project_is_told(settled):
    write(settled, {"pyproject.toml": SETTINGS + "\n[[tool.pv.changelog]]\naccepts = [1]\n"})
    (found,) = gate("main", settled).findings
    assert (found.id, found.path) == ("GATE-UNREADABLE", "pyproject.toml")
    assert found.message.startswith("[[tool.pv.changelog]] must be a list of tables, each with a reason")


def test_settings_of_the_base_that_cannot_be_read_are_not_compared(settled, capsys):
    write(settled, {"pyproject.toml": SETTINGS.replace("SCHEMA-013", "SCHEMA-999")})
    commit(settled)
    run(settled, "branch", "-f", "main", "work")
    write(settled, {"pyproject.toml": SETTINGS})
    assert main(["gate", "--base", "main"]) == DECLINE
    assert "pyproject.toml:13: [[tool.pv.suppress]]: there is no rule" in capsys.readouterr().out


# -- evidence ---------------------------------------------------------------------------------------------------------


def evidence_files(folder):
    return sorted((folder / "evidence" / "checksum-v1" / "T-1").iterdir())


def test_a_newest_run_that_is_gone_without_a_trace_is_found_although_the_level_stays(repository):
    first = set(runs(repository))
    record(repository)
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    (newest,) = set(runs(repository)) - first
    newest.unlink()
    verdict = gate("main", repository)
    assert [(found.id, found.path) for found in verdict.findings] == [("GATE-EVIDENCE", "evidence/_runs")]
    assert verdict.findings[0].message == f"1 of 2 files of evidence is gone: {newest.name}"
    run(repository, "checkout", "-q", "--", "evidence")
    assert judged(repository, ACCEPT) == ([], [])


def runs(folder):
    return sorted((folder / "evidence" / "_runs").iterdir())


def test_a_run_that_dates_itself_ahead_is_rejected_and_those_after_it_are_not(repository, monkeypatch, capsys):
    with monkeypatch.context() as clock:
        clock.setattr("pv.evidence.recording.now", lambda: "2099-01-01T00:00:00Z")
        record(repository)
    assert main(["evidence", "verify"]) == ACCEPT, "it may be this machine's clock that is wrong"
    assert "is dated 2099-01-01T00:00:00Z, ahead of this machine's clock" in capsys.readouterr().out
    (found,) = gate("main", repository).findings
    assert (found.id, Path(found.path).parent.as_posix()) == ("GATE-EVIDENCE", "evidence/_runs")
    assert "record again from the base's evidence" in found.hint
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    record(repository)
    assert judged(repository, ACCEPT) == ([], [])


def test_a_record_may_go_that_a_release_names_and_no_other(repository):
    write(repository, {"sums.py": "x = 1\n"})
    record(repository)
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    old, other = [file for file in evidence_files(repository) if is_stale(file, repository)][:2]
    place = old.relative_to(repository / "evidence").as_posix()
    old.unlink()
    assert ("GATE-EVIDENCE", "", "") in judged(repository)[0]
    run(repository, "checkout", "-q", "--", "evidence")
    release(read(repository / "evidence"), [place])
    assert not old.exists()
    assert judged(repository, ACCEPT) == ([], [])
    other.unlink()
    assert ("GATE-EVIDENCE", "", "") in judged(repository)[0]


def is_stale(file, folder):
    """Whether a record is about code that is no more, and supports its test."""
    config, contract = find(folder), read_contract(folder / PLACE)
    record = record_of(file.read_bytes())
    return record.code != bind(contract, contract.tests[0], config).code[record.falsifier]


def test_evidence_that_was_changed_does_not_verify(repository):
    file = evidence_files(repository)[0]
    file.write_bytes(file.read_bytes() + b"\n")
    verdict = gate("main", repository)
    assert ("GATE-EVIDENCE", f"evidence/checksum-v1/T-1/{file.name}") in [
        (found.id, found.path) for found in verdict.findings
    ]
    assert any(found.message.startswith("was changed after it was written") for found in verdict.findings)
    assert any(found.message.startswith("1 of 11 files of evidence is changed") for found in verdict.findings)


def test_a_contract_that_cannot_be_read_is_told_with_its_line_and_is_not_lost(repository):
    write(repository, {OTHER: "a: [\n"})
    verdict = gate("main", repository)
    assert [(found.id, found.path) for found in verdict.findings] == [("GATE-UNREADABLE", OTHER)]
    assert verdict.declined


# -- what cannot be compared ------------------------------------------------------------------------------------------


def test_without_a_contract_in_the_base_nothing_was_compared(repository, capsys):
    run(repository, "checkout", "-q", "--orphan", "empty")
    run(repository, "rm", "-q", "-r", "--cached", "contracts", "evidence")
    run(repository, "commit", "-q", "-m", "x")
    assert main(["gate", "--base", "empty"]) == DECLINE
    assert "nothing was compared: the base has no contract" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("base", "why"), [("nowhere", "git knows no revision 'nowhere'"), ("other", "have no common ancestor")]
)
def test_a_base_that_cannot_be_read_is_no_verdict(repository, capsys, base, why):
    run(repository, "checkout", "-q", "--orphan", "other")
    run(repository, "commit", "-q", "-m", "another beginning")
    run(repository, "checkout", "-q", "work")
    assert main(["gate", "--base", base]) == DECLINE
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


def test_a_contract_of_the_base_that_breaks_a_rule_is_not_compared_and_that_is_no_accept(repository):
    write(repository, {OTHER: "a: [\n"})
    commit(repository)
    run(repository, "branch", "-f", "main", "work")
    run(repository, "checkout", "-q", "HEAD~1", "--", OTHER)
    verdict = gate("main", repository)
    assert (verdict.code, verdict.findings) == (DECLINE, ())
    assert any(path.endswith(f"{OTHER}:2:1") or OTHER in path for path, _ in verdict.declined)


def test_what_main_did_since_is_not_held_against_a_branch(repository):
    run(repository, "checkout", "-q", "main")
    edit(repository, ("- id: T-2\n", "- id: T-4\n"))
    commit(repository)
    run(repository, "checkout", "-q", "work")
    assert judged(repository, ACCEPT) == ([], [])


# -- output -----------------------------------------------------------------------------------------------------------


def test_the_json_has_the_documented_shape(repository, capsys):
    lowered(repository, changelog=entry("demotion"))
    edit(repository, ("  binds_to: other\n", ""), version="2.0.0", place=OTHER)
    write(repository, {"contracts/more-v1.yaml": (repository / OTHER).read_text().replace("O-", "M-")})
    (repository / OTHER).unlink()
    assert main(["gate", "--base", "main", "--json"]) == REJECT
    content = json.loads(capsys.readouterr().out)
    assert list(content) == ["schema", "verdict", "base", "totals", "findings", "accepted", "declined", "notes"]
    assert (content["schema"], content["verdict"], content["base"]["name"]) == ("pv-gate/1", "reject", "main")
    assert content["base"]["commit"] == run(repository, "rev-parse", "main")
    assert content["totals"]["accepted"] == 1
    assert list(content["findings"][0]) == ["id", "path", "line", "contract", "test", "message", "hint"]
    assert content["accepted"][0]["reason"] == "the vendor's kernel rounds differently"


def test_github_shows_findings_as_errors_and_what_is_accepted_as_notices(repository, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(repository.parent))
    lowered(repository, changelog=entry("demotion"))
    (repository / OTHER).unlink()
    assert main(["gate", "--base", "main", "--format", "github"]) == REJECT
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::error file=here/contracts/other-v1.yaml,line=1,title=GATE-LOST-CONTRACT::")
    assert lines[1].startswith("::notice file=here/contracts/checksum-v1.yaml,line=19,title=GATE-DEMOTION::accepted")


def test_a_contract_cannot_write_markup_into_a_comment(repository, capsys):
    lowered(repository, changelog=entry("demotion", reason="a | b <img src=x>\n\n# `c` @all"))
    assert main(["gate", "--base", "main", "--format", "markdown"]) == ACCEPT
    out = capsys.readouterr().out
    assert r"a \| b &lt;img src=x&gt;\\n\\n#<!-- --> \`c\` @<!-- -->all" in out
    assert out.startswith("### Gate: accept\n")


def test_every_id_is_documented_and_tested():
    from pv import gate_sides

    ids = {value for value in vars(gate_sides).values() if isinstance(value, str) and value.startswith("GATE-")}
    assert ids == set(re.findall(r"^\| `(GATE-[A-Z-]+)` \|", PAGE, re.MULTILINE))
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{id}"' in source for id in ids)
