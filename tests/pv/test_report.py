import json
from dataclasses import replace
from pathlib import Path

import pytest

from pv.cli import main
from pv.places import STDIN
from pv.report import as_json, as_text, summary, word
from pv.settings import Settings
from pv.validate import validate
from tests.pv.verdicts import ERROR, GOOD, WARNING, every_kind, files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_text_shows_the_line_the_carets_and_the_hint(folder):
    files(folder, bad=ERROR)
    assert as_text(validate([Path("bad.yaml")])).splitlines() == [
        "bad.yaml:2:17: error SCHEMA-004: equation 'e' has no formula",
        "  2 | equations: {e: {formula: '', domain: d}}",
        "    |                 ^^^^^^^^^^^",
        "reject: 1 file: 0 accepted, 1 rejected; 1 error, 0 warnings; 0 tests declared, 0 bound",
    ]


def test_notes_are_counted_and_shown_only_when_asked_for(folder):
    files(folder, x=WARNING)
    verdict = validate([Path("x.yaml")], settings=Settings(root=folder, severity={"SCHEMA-009": "note"}))
    plain, full = as_text(verdict).splitlines(), as_text(verdict, notes=True).splitlines()
    assert len(plain) == 1
    assert "; 0 errors, 0 warnings, 1 note (shown with --notes); " in plain[0]
    assert full[0] == "x.yaml:4:3: note SCHEMA-009: T-1 does not say what is broken if it fails"
    assert "; 0 errors, 0 warnings, 1 note; " in full[-1]


def test_quiet_text_is_the_last_line(folder):
    verdict = every_kind(folder)
    assert as_text(verdict, quiet=True) == as_text(verdict).splitlines()[-1]


def test_the_last_line_says_all_that_was_taken_out_of_the_verdict(folder):
    assert summary(every_kind(folder)) == (
        "reject: 3 files: 2 accepted, 1 rejected; 1 error, 1 warning, 1 note; "
        "1 test declared, 0 bound, 1 unbound (nothing runs them); 1 not measured; "
        "1 skipped (no contract, hidden or linked); 1 finding suppressed; 1 finding known from the baseline; "
        "2 rules changed by settings (SCHEMA-006 error, SCHEMA-009 note)"
    )


def test_json_holds_what_counts_and_what_does_not(folder):
    content = json.loads(as_json(every_kind(folder)))
    assert [found["severity"] for found in content["findings"]] == ["error", "note", "warning"]
    (suppressed,) = content["suppressed"]
    assert (suppressed["rule"], suppressed["reason"], suppressed["until"]) == (
        "SCHEMA-013",
        "later {0} [x](y)",
        "2999-01-01",
    )
    assert [found["rule"] for found in content["known"]] == ["SCHEMA-006"]
    assert (content["errors"], content["warnings"], content["notes"]) == (1, 1, 1)
    assert content["settings"] == {"SCHEMA-006": "error", "SCHEMA-009": "note"}


def test_strict_rejects_for_warnings_and_says_so(folder):
    paths = files(folder, x=WARNING)
    assert word(validate(paths)) == "accept"
    strict = validate(paths, strict=True)
    assert summary(strict).startswith("reject: 1 file: 0 accepted, 1 rejected; 0 errors, 1 warning, warnings reject; ")
    assert json.loads(as_json(strict))["strict"] is True
    assert word(validate(files(folder, y=GOOD), strict=True)) == "accept"


def test_an_error_in_the_settings_rejects_no_file_but_the_run(folder):
    verdict = validate(files(folder, x=GOOD))
    finding = replace(validate(files(folder, b=ERROR)).findings[0], path="pyproject.toml")
    assert (replace(verdict, findings=(finding,)).code, replace(verdict, findings=(finding,)).rejected) == (1, 0)


def test_standard_input_is_shown_though_it_is_no_file(folder):
    verdict = validate([Path(STDIN)], given={Path(STDIN): ERROR.encode()})
    assert as_text(verdict).splitlines()[:2] == [
        "<stdin>:2:17: error SCHEMA-004: equation 'e' has no formula",
        "  2 | equations: {e: {formula: '', domain: d}}",
    ]


FORMATS = ("text", "json", "sarif", "github", "junit")


def told(text: str, form: str) -> tuple[str, bool]:
    """The verdict's word in an output, and whether a consumer of the format takes the run for a success."""
    match form:
        case "json":
            content = json.loads(text)
            return content["verdict"], content["verdict"] == "accept"
        case "sarif":
            (run,) = json.loads(text)["runs"]
            failing = [found for found in run["results"] if found["level"] == "error" and not found.get("suppressions")]
            (invocation,) = run["invocations"]
            assert invocation["exitCode"] == {"accept": 0, "reject": 1, "decline": 2}[run["properties"]["verdict"]]
            return run["properties"]["verdict"], invocation["executionSuccessful"] and not failing
        case "junit":
            from xml.etree import ElementTree

            root = ElementTree.fromstring(text)
            (said,) = [element.text for element in root.iter("system-err")]
            return said.partition(":")[0], root.get("failures") == root.get("errors") == "0" != root.get("tests")
    last = text.splitlines()[-1]
    failing = [line for line in text.splitlines() if line.startswith("::error ")] if form == "github" else []
    return last.partition(":")[0], last.startswith("accept: ") and not failing


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (["good.yaml"], [], 0),
        (["warned.yaml"], [], 0),
        (["warned.yaml"], ["--strict"], 1),
        (["bad.yaml", "good.yaml"], [], 1),
        (["good.yaml", "gone.yaml"], [], 2),
        (["bad.yaml", "gone.yaml"], [], 1),
        (["gone.yaml"], [], 2),
        (["empty"], [], 2),
        ([], [], 2),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else str(value),
)
def test_every_format_says_the_same_verdict_and_nothing_measured_is_never_green(
    folder, capsys, form, names, options, code
):
    files(folder, good=GOOD, bad=ERROR, warned=WARNING)
    (folder / "empty").mkdir()
    assert main(["validate", *names, *options, "--format", form]) == code
    assert told(capsys.readouterr().out, form) == (("accept", "reject", "decline")[code], code == 0)
