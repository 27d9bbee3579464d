"""Which environment variables are asked for, by whom, and what they were before a trial changed them."""

import collections
import copy
import json
import os
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pv.cli import main
from pv.environment import ALL, Used, hearing, value_of
from pv.outcome import Outcome
from tests.pv.stranger import Stranger
from tests.pv.trying import Try, outcome

NAME = "PV_TEST_VARIABLE"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NAME, "CI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def heard(ask: Callable[[], object]) -> set[tuple[str, str]]:
    asked: set[Used] = set()
    with hearing(asked):
        ask()
    return {(name, file) for name, file, _ in asked}


def deleted() -> None:
    with pytest.raises(KeyError):
        del os.environ[NAME]


ONE: dict[str, Callable[[], object]] = {
    "get": lambda: os.environ.get(NAME),
    "getenv": lambda: os.getenv(NAME),
    "getenvb": lambda: os.getenvb(NAME.encode()),
    "in": lambda: NAME in os.environ,
    "in keys": lambda: NAME in os.environ.keys(),  # noqa: SIM118
    "pop": lambda: os.environ.pop(NAME, None),
    "delete": deleted,
    "expandvars": lambda: os.path.expandvars(f"${NAME}"),
    "a chain": lambda: collections.ChainMap(os.environ).get(NAME),  # type: ignore[arg-type]
    "a template": lambda: string.Template(f"${NAME}").safe_substitute(os.environ),
    "map": lambda: list(map(os.environ.get, [NAME])),
    "a copy of the object": lambda: copy.copy(os.environ).get(NAME),
    "eval": lambda: eval(f"os.environ.get({NAME!r})"),
}
EVERY: dict[str, Callable[[], object]] = {
    "list": lambda: list(os.environ),
    "dict": lambda: dict(os.environ),
    "unpacked": lambda: {**os.environ},
    "copy": lambda: os.environ.copy(),
    "items": lambda: list(os.environ.items()),
    "or": lambda: os.environ | {},
    "text": lambda: str(os.environ),
    "length": lambda: len(os.environ),
    "equal": lambda: os.environ == {},
}


@pytest.mark.parametrize("ask", ONE.values(), ids=ONE)
def test_who_asks_for_a_variable_is_told_however_it_is_done(ask: Callable[[], object]) -> None:
    assert heard(ask) == {(NAME, __file__)}


@pytest.mark.parametrize("ask", EVERY.values(), ids=EVERY)
def test_who_asks_for_all_variables_is_told(ask: Callable[[], object]) -> None:
    assert (ALL, __file__) in heard(ask)


def test_what_libraries_ask_for_is_told_as_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)

    def use() -> None:
        tempfile.gettempdir()
        Path.home()
        os.path.expanduser("~")
        subprocess.run([sys.executable, "--version"], check=True, capture_output=True)

    assert __file__ not in {file for _, file in heard(use)}


def test_nothing_is_heard_outside_and_os_environ_is_what_it_was() -> None:
    asked: set[Used] = set()
    with hearing(asked), hearing(inner := set[Used]()):
        os.environ[NAME] = "a"
    assert (asked, inner, os.environ[NAME], os.environb[NAME.encode()]) == (set(), set(), "a", b"a")
    assert dict(os.environ)[NAME] == "a"
    del os.environ[NAME]
    assert NAME not in os.environ


def test_what_a_trial_changes_is_remembered_as_it_was_until_it_is_changed_outside() -> None:
    assert value_of(NAME) is None
    with hearing(set()):
        os.environ[NAME] = "by a trial"
        assert value_of(NAME) is None
    assert value_of(NAME) is None
    os.environ[NAME] = "from outside"
    assert value_of(NAME) == "from outside"
    with hearing(set()):
        del os.environ[NAME]
    assert value_of(NAME) == "from outside"
    os.environb[NAME.encode()] = b"\xff"
    assert value_of(NAME) == "\\udcff"


@pytest.mark.parametrize(
    ("top", "inner"),
    [("", "os.getenv('CI')"), ("top = 'CI' in os.environ", "pass"), ("os.environ.setdefault('CI', '')", "pass")],
)
def test_a_variable_that_decides_and_is_not_declared_is_errored(try_: Try, top: str, inner: str) -> None:
    body = f"import os\n{top}\ndef f(trial):\n    {inner}\n    trial.at_most(limit, 3, 'limit')\n"
    for mutant in (None, "raised_limit"):
        result = try_(body, mutant=mutant)
        assert (result.record.outcome, result.record.message) == (
            Outcome.ERRORED,
            "contracts/limits.yaml:7: FALSIFY-L-001: subject.py asks for the environment variable CI, "
            "which no module that subject reaches declares",
        )
        assert result.details == 'hint: declare it there: PV_ENVIRONMENT = ("CI",), and records will hold its value'
    assert outcome(try_, f"PV_ENVIRONMENT = ('CI',)\n{body}") == (Outcome.SURVIVED, "")


def test_all_variables_cannot_be_declared(try_: Try) -> None:
    body = "import os\ndef f(trial):\n    dict(os.environ)\n    trial.at_most(limit, 3, 'limit')\n"
    result = try_(body)
    assert result.record.message.endswith(
        "subject.py asks for all environment variables, and a record cannot hold them"
    )
    assert result.details.startswith("hint: ask for those that it needs by name")


def test_a_command_inherits_the_environment_and_blames_nobody(try_: Try) -> None:
    body = """
    import subprocess, sys
    def f(trial):
        subprocess.run([sys.executable, "--version"], capture_output=True)
        trial.at_most(limit, 3, "limit")
    """
    assert outcome(try_, body) == (Outcome.SURVIVED, "")


def test_evidence_holds_the_values_of_what_is_declared_and_shows_where_they_differ(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stranger.path)
    read = f'PV_ENVIRONMENT = ("{NAME}",)\nimport os\nos.environ.setdefault("{NAME}", "by the import")\n'
    stranger.change("attacks.py", "import subject\n", f"import subject\n{read}")
    stranger.run("--falsify", "--record", "-n1").assert_outcomes(passed=3)
    stranger.run("--falsify", "--record").assert_outcomes(passed=3)
    trials = [json.loads(data)["predicate"]["pv_trial"] for data in stranger.records().values()]
    assert [trial["variables"] for trial in trials] == [{NAME: None}] * 3
    monkeypatch.setenv(NAME, "set")
    stranger.run("--falsify", "--record").assert_outcomes(passed=3)
    assert len(stranger.records()) == 6
    assert main(["status"]) == 0
    told = f"records of attacks:below_modulus were made under different variables: {NAME}='set'; no {NAME}"
    assert told in " ".join(capsys.readouterr().out.split())
    assert main(["ledger", "--json"]) == 0
    assert told in capsys.readouterr().out
