"""From the names in a contract to what they mean, and the files that are used on the way."""

import importlib.util
import linecache
import sys
import tempfile
from pathlib import Path

import pytest

from pv.outcome import Outcome
from pv.statement import ModelSubject
from tests.pv.trying import LIVE, MODEL, SHA256, Try


@pytest.mark.parametrize(
    ("options", "message", "details"),
    [
        ({"falsifier": "subject:g"}, "no function 'g' in subject", ""),
        ({"falsifier": "subject:fals"}, "no function 'fals' in subject", "hint: did you mean 'false'?"),
        ({"falsifier": "subject:raised_limit"}, "no function 'raised_limit' in subject", ""),
        ({"falsifier": "subject:limit"}, "no function 'limit' in subject", ""),
        ({"mutant": "raise_limit"}, "no mutant 'raise_limit' in subject", "hint: did you mean 'raised_limit'?"),
        ({"mutant": "f"}, "subject.f is no mutant", "hint: decorate it with @mutant"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_errored_at_the_contracts_line(
    try_: Try, options: dict[str, str], message: str, details: str
) -> None:
    result = try_("def f(trial): trial.check(True, 'm')\ndef false(trial): pass", **options)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == f"contracts/limits.yaml:7: FALSIFY-L-001: {message}"
    assert result.details == details


@pytest.mark.parametrize("failure", ["raise OSError('no disk')", "raise SystemExit(3)", "import no_such_module"])
def test_a_module_that_cannot_be_imported_is_errored(try_: Try, failure: str) -> None:
    result = try_(failure, header="")
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message.startswith("contracts/limits.yaml:7: FALSIFY-L-001: subject cannot be imported: ")
    assert '  File "subject.py", line 1, in <module>' in result.details


def foreign(project: Path, folder: Path) -> Path:
    """A copy of the project's module `helper` in a folder where Python looks first."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, limit in ((project, 3), (folder, 4)):
        (place / "helper.py").write_text(f"limit = {limit}\n", encoding="utf-8")
    sys.path[:0] = [str(folder), str(project)]
    return folder / "helper.py"


USES_HELPER = {
    "import helper\ndef f(trial): trial.equal(helper.limit, 4, 'limit')": "imported with the falsifier",
    "def f(trial):\n    import helper\n    trial.equal(helper.limit, 4, 'limit')": "imported by the call",
    "import helper\nhelper.gone\ndef f(trial): trial.check(True, 'm')": "imported in vain",
}


@pytest.mark.parametrize("body", USES_HELPER, ids=list(USES_HELPER.values()))
@pytest.mark.parametrize("inside", [False, True], ids=["elsewhere", "in a .venv of the project"])
def test_code_of_another_file_than_the_digested_one_is_not_evidence(
    try_: Try, project: Path, tmp_path_factory: pytest.TempPathFactory, body: str, inside: bool
) -> None:
    packages = project / ".venv/lib/site-packages" if inside else tmp_path_factory.mktemp("other")
    copy = foreign(project, packages)
    result = try_(body)
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message == (
        f"contracts/limits.yaml:7: FALSIFY-L-001: helper was imported from {copy}, and the project's is "
        f"{project / 'helper.py'}: what it does would be recorded under the digest of other code"
    )
    assert result.details == "hint: install the project in place: pip install -e ."


def test_a_module_that_reaches_the_digested_file_through_a_link_is_the_same_code(
    try_: Try, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(project)
    foreign(project, project)
    sys.path.insert(0, str(link))
    body = "import helper\ndef f(trial): trial.equal(helper.limit, 4, 'limit')"
    assert try_(body).record.outcome is Outcome.SURVIVED
    assert sys.modules["helper"].__file__ == str(link / "helper.py")


def test_a_module_that_comes_from_no_file_is_not_evidence(try_: Try, project: Path) -> None:
    foreign(project, project)
    sys.modules["helper"] = type(sys)("helper")
    record = try_("def f(trial):\n    import helper\n    trial.check(True, 'm')").record
    assert record.outcome is Outcome.ERRORED
    assert "helper was imported from no file, and the project's is " in record.message


def test_a_live_trial_meets_the_registered_model(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    record = try_(LIVE, role="live", model="tiny").record
    assert record.outcome is Outcome.SURVIVED
    assert record.model == ModelSubject(name="tiny", sha256=SHA256)


def test_an_absent_model_skips_the_trial_and_says_how_to_obtain_it(try_: Try, registry: Path) -> None:
    record = try_(LIVE, role="live", model="tiny").record
    assert record.outcome is Outcome.SKIPPED
    assert record.message == "model tiny is not on this machine; obtain it with `apr pull tiny`"


def test_a_model_with_other_bytes_is_errored(try_: Try, registry: Path) -> None:
    registry.write_bytes(b"weightz")
    result = try_(LIVE, role="live", model="tiny")
    assert result.record.outcome is Outcome.ERRORED
    assert result.record.message.startswith(f"{registry}: is not the registered tiny: sha256 ")
    assert result.details.startswith("hint: remove it and obtain it again")


COMPUTED = "import importlib\nhelper = importlib.import_module('help' + 'er')\n"


@pytest.mark.parametrize(
    ("top", "inner"),
    [
        (COMPUTED, "pass"),
        ("import importlib", "importlib.import_module('help' + 'er')"),
        ("import runpy", "runpy.run_path('help' + 'er.py')"),
        ("import runpy", "runpy.run_module('help' + 'er')"),
    ],
)
def test_a_file_that_runs_and_is_not_digested_is_errored(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch, top: str, inner: str
) -> None:
    monkeypatch.chdir(project)
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    body = f"{top}\ndef f(trial):\n    {inner}\n    trial.at_most(limit, 3, 'limit')"
    for mutant in (None, "raised_limit"):
        result = try_(body, mutant=mutant)
        assert result.record.outcome is Outcome.ERRORED
        assert result.record.message == (
            "contracts/limits.yaml:7: FALSIFY-L-001: helper.py was executed, "
            "and the digest of subject does not cover it"
        )
        assert result.details == (
            "hint: import it by a literal name, and let [tool.pv] first-party name it, so that a change is noticed"
        )
    literal = f"{body}\ndef unused(): import helper"
    assert try_(literal).record.outcome is Outcome.SURVIVED


def test_what_a_module_loaded_is_remembered_for_its_later_trials(try_: Try, project: Path) -> None:
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    body = "import importlib\ndef f(trial):\n    importlib.import_module('help' + 'er')\n    trial.check(True, 'm')"
    body += "\ndef g(trial): trial.check(True, 'm')"
    for falsifier in ("subject:f", "subject:f", "subject:g"):  # helper is loaded in the first trial only
        assert try_(body, falsifier=falsifier).record.outcome is Outcome.ERRORED


def test_what_others_loaded_and_what_is_not_first_party_is_nobodys_fault(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "helper.py").write_text("limit = 3\n", encoding="utf-8")
    installed = project / "venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(project / "venv"))
    (installed / "foreign_package.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(installed)
    monkeypatch.syspath_prepend(project)
    __import__("helper")
    body = "import foreign_package, json, colorsys\ndef f(trial): trial.check(True, 'm')"
    assert try_(body).record.outcome is Outcome.SURVIVED
    del sys.modules["foreign_package"]


@pytest.mark.parametrize(
    ("top", "inner"),
    [
        ("", "data.read_text()"),
        ("TABLE = data.read_text()", "pass"),
        ("", "import numpy; numpy.fromfile(data)"),
        ("PV_DATA = ('other.txt',)", "data.read_text()"),
    ],
)
def test_data_that_is_read_and_not_declared_is_errored(try_: Try, project: Path, top: str, inner: str) -> None:
    for name in ("table.txt", "other.txt"):
        (project / name).write_text("3", encoding="utf-8")
    body = f"import pathlib\ndata = pathlib.Path(__file__).with_name('table.txt')\n{top}\ndef f(trial):\n    {inner}\n"
    body += "    trial.at_most(limit, 3, 'limit')\n"
    for mutant in (None, "raised_limit"):
        result = try_(body, mutant=mutant)
        assert result.record.outcome is Outcome.ERRORED
        assert result.record.message == (
            "contracts/limits.yaml:7: FALSIFY-L-001: table.txt was read, and the digest of subject does not cover it"
        )
        assert result.details == (
            "hint: declare it in a module that the falsifier reaches, by the path from there: "
            'PV_DATA = ("table.txt",); or, if the trial made it, make it in trial.folder'
        )
    declared = body.replace("PV_DATA = ('other.txt',)", "")
    assert try_(f"PV_DATA = '*.txt'\n{declared}").record.outcome is Outcome.SURVIVED


def test_what_a_trial_wrote_into_its_folder_is_its_own_even_if_that_lies_in_the_project(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(project))
    body = """
    def f(trial):
        (trial.folder / "file").write_text("")
        (trial.folder / "file").read_text()
        trial.at_most(limit, 3, "limit")
    """
    assert try_(body).record.outcome is Outcome.SURVIVED


def test_a_traceback_reads_the_source_of_what_is_loaded_and_blames_nobody(try_: Try, project: Path) -> None:
    (project / "conftest.py").write_text("def call(f):\n    f()\n", encoding="utf-8")
    body = """
    import sys, traceback
    def f(trial):
        try:
            sys.modules["conftest_of_this"].call(lambda: 1 / 0)
        except ZeroDivisionError:
            trial.check("f()" in traceback.format_exc(), "no source")
    """
    spec = importlib.util.spec_from_file_location("conftest_of_this", project / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["conftest_of_this"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    linecache.clearcache()
    assert try_(body).record.outcome is Outcome.SURVIVED
    del sys.modules["conftest_of_this"]


def test_the_model_of_a_trial_is_digested_with_it_and_that_of_another_is_data(try_: Try, registry: Path) -> None:
    registry.write_bytes(MODEL)
    body = f"import pathlib\n{LIVE}    trial.model.path.read_bytes()\n"
    body += f"def g(trial):\n    trial.check(len(pathlib.Path({str(registry)!r}).read_bytes()) > 0, 'm')"
    assert try_(body, role="live", model="tiny").record.outcome is Outcome.SURVIVED
    record = try_(body, falsifier="subject:g").record
    assert record.outcome is Outcome.ERRORED
    assert "tiny.gguf was read, and the digest of subject does not cover it" in record.message


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ("open(__file__[:-9] + 'table.txt').close()", "table.txt was read, and the digest of other does not cover it"),
        ("import os; os.getenv('CI')", "helper.py asks for the environment variable CI, which no module that other re"),
    ],
)
def test_what_a_module_used_when_it_was_imported_for_another_is_held_against_all_that_reach_it(
    try_: Try, project: Path, monkeypatch: pytest.MonkeyPatch, read: str, told: str
) -> None:
    (project / "helper.py").write_text(f"{read}\n", encoding="utf-8")
    (project / "table.txt").write_text("", encoding="utf-8")
    other = "def f(trial): trial.check(True, 'm')\n"
    (project / "other.py").write_text(f"import helper\n{other}", encoding="utf-8")
    declared = "PV_DATA = 'table.txt'\nPV_ENVIRONMENT = 'CI'\nimport helper\ndef f(trial): trial.check(True, 'm')"
    assert try_(declared).record.outcome is Outcome.SURVIVED  # it declares what helper uses, for itself
    record = try_(declared, falsifier="other:f").record
    assert record.outcome is Outcome.ERRORED
    assert told in record.message
    (project / "other.py").write_text(other, encoding="utf-8")
    del sys.modules["other"]
    assert try_(declared, falsifier="other:f").record.outcome is Outcome.SURVIVED
    del sys.modules["other"]
