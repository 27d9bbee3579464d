"""Falsifiers that reach for the account of their trial, by each form that a source shows."""

from pathlib import Path

import pytest

import pv.trial
from pv.outcome import Outcome
from pv.reaching import reaching
from tests.pv.trying import HONEST, Try

FORMS = {
    "import pv.account": "pv.account",
    "import pv.account as other": "pv.account",
    "from pv import account": "pv.account",
    "from pv import account as other": "pv.account",
    "from pv.account import account_of": "pv.account.account_of",
    "from pv.attempt import Task": "pv.attempt.Task",
    "from pv.guards import Account": "pv.guards.Account",
    "from pv.runner import run": "pv.runner.run",
    "from pv.trial import account_of as other": "pv.trial.account_of",
    "from pv.trial import open_account": "pv.trial.open_account",
    "def f(trial):\n    import importlib\n    importlib.import_module('pv.account')": "pv.account",
    "NAME = 'pv.account:account_of'": "pv.account",
    "import pv.trial\npv.trial.account_of(1)": "account_of",
    "import pv.trial\ngetattr(pv.trial, 'account_of')": "account_of",
}


@pytest.mark.parametrize("text", FORMS)
def test_each_form_is_seen_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "honest.py").write_text("from pv.trial import Trial, mutant, patched\n", encoding="utf-8")
    file = tmp_path / "reaches.py"
    file.write_text(f"import os\n{text}\n", encoding="utf-8")
    closure = {tmp_path / "honest.py": "honest", file: "reaches"}
    line = 2 + text.count("\n")
    assert reaching(closure) == (file, line, FORMS[text])


@pytest.mark.parametrize(
    "text",
    [
        "from pv.trial import Trial",
        "import pv.trial",
        "from pv.canonical import canonical",
        "import account",
        "from . import account",
        "NAME = 'pv.accounting'",
    ],
)
def test_what_a_falsifier_may_name_is_no_reaching(tmp_path: Path, text: str) -> None:
    file = tmp_path / "honest.py"
    file.write_text(f"{text}\n", encoding="utf-8")
    assert reaching({file: "folder.honest"}) is None


def test_the_modules_of_pv_may() -> None:
    assert reaching({Path(pv.trial.__file__): "pv.trial"}) is None


@pytest.mark.parametrize("mutant", [None, "raised_limit"])
def test_a_falsifier_that_reaches_there_through_another_module_is_errored(
    try_: Try, project: Path, mutant: str | None
) -> None:
    (project / "helper.py").write_text("ran = []\n\n\ndef peek(trial):\n    import pv.account\n", encoding="utf-8")
    result = try_(f"import helper\ndef f(trial): {HONEST}", mutant=mutant)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == (
        "contracts/limits.yaml:7: FALSIFY-L-001: helper.py:5 names pv.account: it reaches into the account "
        "of its own trial"
    )
    assert result.details.startswith("hint: a falsifier says what it saw by the methods of its trial")
