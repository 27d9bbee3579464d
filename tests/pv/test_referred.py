"""What the modules of a closure refer to, whoever loaded it."""

import sys
from pathlib import Path

import pytest

from pv.outcome import Outcome
from tests.pv.trying import Try

CHECK = "    trial.at_most(limit, 3, 'limit')\n"


@pytest.fixture
def package(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A first-party package whose module `mod` another has loaded, and no falsifier imports."""
    monkeypatch.syspath_prepend(project)
    folder = project / "helper"
    folder.mkdir()
    (folder / "__init__.py").write_text("def step():\n    return 3\n", encoding="utf-8")
    (folder / "mod.py").write_text("class Kind:\n    pass\n\n\ndef step():\n    return 3\n", encoding="utf-8")
    __import__("helper.mod")
    return folder


@pytest.mark.parametrize(
    "body",
    [
        "import helper\ndef f(trial):\n    helper.mod.step()\n",
        "import helper as h\ndef f(trial):\n    h.mod.step()\n",
        "def f(trial):\n    import helper\n    helper.mod.step()\n",
        "def f(trial):\n    import helper as h\n    h.mod.step()\n",
        "import helper\nfrom sys import modules\nkept = modules['helper.' + 'mod']\ndef f(trial):\n",
        "import helper\nfrom sys import modules\nkept = modules['helper.' + 'mod'].step\ndef f(trial):\n",
        "import helper\nfrom sys import modules\nkept = modules['helper.' + 'mod'].Kind\ndef f(trial):\n",
        "import helper\nfrom sys import modules\nkept = modules['helper.' + 'mod'].Kind()\ndef f(trial):\n",
        "import functools, helper\nfrom sys import modules\n"
        "kept = functools.partial(modules['helper.' + 'mod'].step)\ndef f(trial):\n",
    ],
)
def test_a_module_that_another_loaded_and_this_one_leads_to_is_errored(try_: Try, package: Path, body: str) -> None:
    record = try_(f"{body}{CHECK}").record
    assert (record.outcome, record.message.partition("FALSIFY-L-001: ")[2]) == (
        Outcome.ERRORED,
        "helper/mod.py is used, and the digest of subject does not cover it",
    )


@pytest.mark.parametrize(
    "body",
    [
        "import helper\ndef f(trial):\n    helper.step()\n",
        "import helper.mod\ndef f(trial):\n    helper.mod.step()\n",
        "from helper import mod\ndef f(trial):\n    mod.step()\n",
        "import json\ndef f(trial):\n    json.decoder.JSONDecoder()\n",
    ],
)
def test_a_module_that_another_loaded_and_this_one_does_not_use_blames_nobody(
    try_: Try, package: Path, body: str
) -> None:
    assert try_(f"{body}{CHECK}").record.outcome is Outcome.SURVIVED


def test_hypothesis_may_be_used_in_a_falsifier(try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hypothesis")
    monkeypatch.chdir(project)
    body = """
    from hypothesis import given, settings, strategies
    def f(trial):
        @settings(derandomize=True, database=None)
        @given(strategies.integers(-5, 3))
        def holds(number):
            trial.at_most(number, limit, "number")
        holds()
    """
    for _ in range(2):
        result = try_(body)
        assert (result.record.outcome, result.record.message) == (Outcome.SURVIVED, ""), result
    assert sys.modules["hypothesis"]
