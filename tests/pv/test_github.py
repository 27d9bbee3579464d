import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from pv.findings import Finding
from pv.github import as_github
from pv.report import summary
from pv.validate import Verdict, validate
from tests.pv.verdicts import WARNING, every_kind, files

COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")


def test_every_finding_is_a_command_at_its_place(tmp_path):
    verdict = every_kind(tmp_path)
    lines = as_github(verdict, tmp_path).splitlines()
    assert lines == [
        "::error file=bad.yaml,line=2,col=17,endColumn=28,title=SCHEMA-004::equation 'e' has no formula",
        "::notice file=warned.yaml,line=4,col=3,title=SCHEMA-009::T-1 does not say what is broken if it fails"
        "%0Ahint: if_fails: what is broken then, and where to look",
        "::warning file=bad.yaml,line=2,col=3,title=SCHEMA-012::100%25: a, {b} [c](d)\\x1b%0Ahint: h%0A::x",
        f"::error file=missing.yaml,title=not measured::{tmp_path}/missing.yaml: cannot be read: "
        "No such file or directory",
        summary(verdict),
    ]


def test_nothing_from_a_contract_ends_a_command_or_begins_one(tmp_path):
    path = str(tmp_path / "a,b:c%\n::error::x.yaml")
    hostile = "50% of a,b:c\r\n::error file=x::boo\x1b[2J\u202e"
    verdict = Verdict(checked=(), findings=(Finding("R", "error", path, 1, 1, hostile, hostile),))
    first, *rest = as_github(verdict, tmp_path).splitlines()
    assert rest == [summary(verdict)]
    kind, properties, message = COMMAND.fullmatch(first).groups()
    assert kind == "error"
    assert [pair.partition("=")[0] for pair in properties.split(",")] == ["file", "line", "col", "title"]
    assert unquote(properties.split(",")[0]) == "file=a,b:c%\n::error::x.yaml"
    assert unquote(message).startswith("50% of a,b:c\r\n::error file=x::boo\\x1b[2J\\u202e\nhint: ")


def test_files_are_named_from_the_workspace_of_the_runner(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    files(tmp_path / "sub", x=WARNING)
    monkeypatch.chdir(tmp_path / "sub")
    verdict = validate([Path("x.yaml")])
    assert as_github(verdict).startswith("::warning file=x.yaml,")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert as_github(verdict).startswith("::warning file=sub/x.yaml,")


@pytest.mark.parametrize(("strict", "kind"), [(False, "warning"), (True, "error")])
def test_a_warning_that_rejects_is_an_error(tmp_path, strict, kind):
    assert as_github(validate(files(tmp_path, x=WARNING), strict=strict)).startswith(f"::{kind} ")
