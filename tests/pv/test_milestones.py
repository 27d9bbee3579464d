import json

import pytest

from pv import milestones_report
from pv.cli import main
from pv.config import find
from pv.errors import PvError
from pv.milestones import read
from pv.milestones_report import as_markdown, as_text, report
from pv.status import contract_files
from tests.pv.test_gate import CODE, edit, record, repository, write
from tests.pv.test_git import commit, run

assert repository

GOALS = """\
- id: MODEL-1
  title: the first model
  tests:
  - {contract: checksum-v1, test: T-1, level: FUNCTIONAL, weight: 2}
  - {contract: checksum-v1, test: T-2, level: PARTIAL}
- id: MODEL-2
  title: the second model
  tests:
  - {contract: checksum-v1, test: T-1, level: DISCHARGED, weight: 0.1}
"""


TITLE = "  title: the first model\n"
LAST = GOALS[GOALS.rindex("  tests:") :]


@pytest.fixture
def goals(repository):
    """The repository of the gate with goals in its base."""
    settle(repository, GOALS)
    return repository


def settle(folder, text):
    settings = (folder / "pyproject.toml").read_text()
    more = "" if "milestones" in settings else 'milestones = "contracts/goals.yaml"\n'
    write(folder, {"pyproject.toml": settings + more, "contracts/goals.yaml": text})
    commit(folder)
    run(folder, "branch", "-f", "main", "work")


def lines(folder, base=None):
    return as_text(report(find(folder), base)).splitlines()


def test_a_percentage_is_the_weight_of_what_was_earned_rounded_down(goals):
    assert lines(goals) == [
        "MODEL-1: 66%  the first model",
        "    T-2 needs PARTIAL, earned UNTESTED: unbound: it names no falsifiers",
        "MODEL-2: 100%  the second model",
        "2 goals, 1 reached; 2 of 3 tests have earned what they need",
    ]


def test_all_but_a_hair_is_not_all_and_equal_parts_are(repository):
    text = GOALS.replace("weight: 2}", "weight: 1000000}")
    settle(repository, text)
    assert lines(repository)[0] == "MODEL-1: 99%  the first model"
    thirds = "".join(
        f"  - {{contract: {stem}, test: {test}, level: PARTIAL, weight: 0.1}}\n"
        for stem, test in (("checksum-v1", "T-2"), ("other-v1", "O-1"), ("other-v1", "O-2"))
    )
    settle(
        repository,
        "- id: M\n  title: t\n  tests:\n  - {contract: checksum-v1, test: T-1, level: PARTIAL, weight: 0.7}\n" + thirds,
    )
    assert lines(repository)[0] == "M: 70%  t"  # 0.7 / 1.0: what binary fractions make of it is less


def test_what_moved_a_goal_is_told(goals):
    base = run(goals, "rev-parse", "--short=7", "main")
    assert lines(goals, "main")[0] == f"MODEL-1: 66%, unchanged since main ({base})"
    write(goals, {"sums.py": "x = 1\n"})
    assert lines(goals, "main")[0] == (
        f"MODEL-1: 66% -> 0% since main ({base}), because T-1 fell from DISCHARGED to STALE "
        "(11 records, all for other digests: code changed)"
    )
    record(goals, only=lambda plan: plan.role == "algorithm")
    commit(goals)
    record(goals)
    short = run(goals, "rev-parse", "--short=7", "work")
    assert lines(goals, "work")[0] == (
        f"MODEL-1: 0% -> 66% since work ({short}), because T-1 rose from PARTIAL to DISCHARGED"
    )


def test_a_test_that_fell_and_still_has_what_the_goal_needs_is_told_though_nothing_changed(goals):
    write(goals, {"checks/sums.py": CODE + "# again\n"})
    record(goals, only=lambda plan: plan.role != "oracle")
    first = lines(goals, "main")[0]
    assert first.startswith("MODEL-1: 66%, unchanged since main (")
    assert ", though T-1 fell from DISCHARGED to FUNCTIONAL (not DISCHARGED: " in first


@pytest.mark.parametrize(
    ("old", "new", "step", "why"),
    [
        (
            "  - {contract: checksum-v1, test: T-2, level: PARTIAL}\n",
            "",
            "66% -> 100%",
            "T-2 is not asked for any more, weight 1",
        ),
        (
            "weight: 2}",
            "weight: 3}",
            "66% -> 75%",
            "of T-1 the goal asked FUNCTIONAL, weight 2 and asks FUNCTIONAL, weight 3",
        ),
        (
            "- id: MODEL-2",
            "  - {contract: other-v1, test: O-1, level: PARTIAL}\n- id: MODEL-2",
            "66% -> 50%",
            "O-1 is asked for in addition, weight 1, not earned",
        ),
    ],
)
def test_a_goal_that_asks_for_something_else_says_so(goals, old, new, step, why):
    assert GOALS.count(old) == 1
    write(goals, {"contracts/goals.yaml": GOALS.replace(old, new)})
    assert lines(goals, "main")[0].startswith(f"MODEL-1: {step} since main (")
    assert lines(goals, "main")[0].endswith(f", because {why}")


def test_a_goal_that_is_new_and_one_that_is_gone_are_told(goals):
    write(goals, {"contracts/goals.yaml": GOALS.replace("MODEL-2", "MODEL-3")})
    text = lines(goals, "main")
    assert text[2].startswith("MODEL-3: 100%, new since main (")
    assert text[3].startswith("MODEL-2: 100% in main (")
    assert text[3].endswith("), no goal any more")


def test_a_base_without_goals_has_none(repository):
    settings = (repository / "pyproject.toml").read_text()
    write(repository, {"pyproject.toml": settings + 'milestones = "goals.yaml"\n', "goals.yaml": GOALS})
    assert lines(repository, "main")[0].startswith("MODEL-1: 66%, new since main (")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (GOALS, "{}", r":1: milestones are a list of goals, not a mapping"),
        (GOALS, "[]", r":1: milestones are a list of goals, not a list"),
        (GOALS, "- text", r":1: must be a mapping with id, title, tests, not 'text'"),
        (TITLE, TITLE + "  percent: 68\n", r":3: 'percent' types how far a goal is\n  hint: percentages are computed"),
        (TITLE, TITLE + "  shipped_pct: 68\n", r":3: 'shipped_pct' types how far"),
        ("weight: 2}", "weight: 2, done: true}", r":4: 'done' types how far"),
        (TITLE, "  titel: the first model\n", r":2: there is no key 'titel'\n  hint: did you mean 'title'"),
        (TITLE, "", r":1: title is missing"),
        (TITLE, "  title: ' '\n", r":2: title must be text"),
        (TITLE, "  title: [a]\n", r":2: title must be text, not a list"),
        ("MODEL-2", "MODEL-1", r":6: the goal 'MODEL-1' stands in line 1 already"),
        ("T-2, level: PARTIAL", "T-1, level: PARTIAL", r":5: T-1 of checksum-v1 stands in line 4 already"),
        ("level: PARTIAL", "level: UNTESTED", r":5: 'UNTESTED' is no level that can be earned"),
        ("level: PARTIAL", "level: STALE", r":5: 'STALE' is no level that can be earned"),
        ("level: PARTIAL", "level: GREAT", r":5: 'GREAT' is no level that can be earned"),
        ("weight: 2}", "weight: 0}", r":4: a weight is a number above 0, not 0"),
        ("weight: 2}", "weight: -1}", r":4: a weight is a number above 0, not -1"),
        ("weight: 2}", "weight: .nan}", r":4: a weight is a number above 0, not nan"),
        ("weight: 2}", "weight: .inf}", r":4: a weight is a number above 0, not inf"),
        ("weight: 2}", "weight: true}", r":4: a weight is a number above 0, not true"),
        ("weight: 2}", "weight: '2'}", r":4: a weight is a number above 0, not '2'"),
        ("test: T-2, ", "", r":5: test is missing"),
        ("test: T-2", "test: T-9", r":5: MODEL-1: checksum-v1 has no test 'T-9'"),
        (
            "contract: checksum-v1, test: T-2",
            "contract: checksum, test: T-2",
            r":5: MODEL-1: there is no contract 'checksum'",
        ),
        (LAST, "  tests: []\n", r":8: the goal 'MODEL-2' asks for no test"),
        ("- id: MODEL-2", "- id: MODEL-2\n  id: MODEL-3", r":7:3: the key 'id' occurs twice"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_error_with_its_line(goals, old, new, why, capsys):
    assert GOALS.count(old) == 1
    write(goals, {"contracts/goals.yaml": GOALS.replace(old, new)})
    with pytest.raises(PvError, match=r"^\S+/contracts/goals\.yaml" + why):
        report(find(goals), None)
    assert main(["ledger", "--milestones"]) == 2
    assert capsys.readouterr().out == ""


def test_what_is_wrong_in_the_file_of_the_base_names_the_base(goals):
    settle(goals, GOALS.replace("T-2", "T-9"))
    write(goals, {"contracts/goals.yaml": GOALS})
    with pytest.raises(
        PvError, match=r"^main \(.{7}\): contracts/goals\.yaml:5: MODEL-1: checksum-v1 has no test 'T-9'"
    ):
        report(find(goals), "main")


def test_a_project_without_milestones_is_told_how_to_name_them(repository, capsys):
    assert main(["ledger", "--milestones"]) == 2
    assert "the project names no milestones\n  hint: write milestones = " in capsys.readouterr().err


def test_a_milestones_file_is_no_contract_wherever_it_lies(goals):
    assert [file.name for file in contract_files(find(goals))[0]] == ["checksum-v1.yaml", "other-v1.yaml"]
    assert main(["diff", "main~1", "contracts"]) == 0


def test_a_part_of_the_ledger_that_cannot_be_read_is_no_green(goals, capsys):
    write(goals, {"contracts/broken-v1.yaml": "a: [\n"})
    assert main(["ledger", "--milestones"]) == 2
    assert "not read: contracts/broken-v1.yaml:1:4: " in capsys.readouterr().out


def test_the_json_has_the_documented_shape(goals, capsys):
    edit(goals, ("status: FUNCTIONAL", "status: PARTIAL"))
    assert main(["ledger", "--milestones", "--base", "main", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content) == ["schema", "base", "goals", "removed", "declined"]
    assert (content["schema"], content["base"]["name"]) == ("pv-milestones/1", "main")
    goal = content["goals"][0]
    assert list(goal) == ["id", "title", "line", "percent", "base_percent", "reached", "total", "because", "tests"]
    assert (goal["percent"], goal["base_percent"], goal["reached"], goal["total"]) == (66, 66, 2.0, 3.0)
    assert goal["tests"][1] == {
        "contract": "checksum-v1",
        "test": "T-2",
        "needs": "PARTIAL_ALGORITHM_LEVEL",
        "earned": "UNTESTED",
        "weight": 1.0,
        "counts": False,
    }


def test_the_markdown_is_no_markup(goals):
    write(goals, {"contracts/goals.yaml": GOALS.replace("the first model", "'<b> | `x` @all'")})
    text = as_markdown(report(find(goals), None))
    assert r"- **MODEL-1: 66%** &lt;b&gt; \| \`x\` @<!-- -->all" in text
    assert text == as_markdown(report(find(goals), None))


def test_the_goals_of_this_repository_name_tests_that_exist():
    from pathlib import Path

    config = find(Path(__file__))
    assert config.milestones is not None
    assert [goal.id for goal in read(config.milestones, "milestones.yaml")] == [
        "TRACE-1",
        "PARITY-1",
        "DETERMINISM-1",
        "BISECT-1",
    ]
    assert milestones_report.report(config, None).lines
