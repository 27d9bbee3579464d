"""What a person sees at a terminal, in a pseudo terminal, and that a pipe sees nothing of it."""

import os
import pty
import re
import subprocess
import sys

import pytest

from pv import terminal
from pv.binding import bind
from pv.promote import as_text, promote
from pv.status import survey
from tests.pv.test_binding import CONTRACT, project, recorded

PV = str(sys.executable).rpartition("/")[0] + "/pv"
PLACE = "contracts/checksum-v1.yaml"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def at_terminal(folder, *args, **environment):
    """Exit code and output of `pv` at a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")}
    variables = {**kept, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **environment}
    with subprocess.Popen(
        [PV, *args], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        out = b""
        try:
            while part := os.read(ours, 65536):
                out += part
        except OSError:  # the other end is closed
            pass
        code = process.wait(60)
    os.close(ours)
    return code, out.decode().replace("\r\n", "\n")


def in_pipe(folder, *args, **environment):
    variables = {**os.environ, "TERM": "xterm-256color", **environment}
    done = subprocess.run([PV, *args], cwd=folder, capture_output=True, text=True, env=variables, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def proven(tmp_path):
    config, contract = project(tmp_path)
    recorded(bind(contract, contract.tests[0], config), config)
    return tmp_path


def test_status_at_a_terminal_is_a_table_in_colours_with_the_same_words(proven):
    code, out = at_terminal(proven, "status")
    assert code == 0
    assert "\x1b[32mDISCHARGED\x1b[0m" in out
    plain = ESCAPE.sub("", out)
    assert re.search(r"^ *test +stated +earned +survived +mutants +models +why", plain, re.MULTILINE)
    assert re.search(
        r"^ *T-1 +PARTIAL +DISCHARGED +5/5 +6/6 +smol, tiny +PARTIAL_ALGORITHM_LEVEL:", plain, re.MULTILINE
    )
    assert "━" in plain or "─" in plain
    assert max(map(len, plain.splitlines()[:-1])) <= 100
    assert plain.splitlines()[-1].strip() == in_pipe(proven, "status")[1].splitlines()[-1]


def test_promote_and_validate_at_a_terminal_colour_their_words_and_change_no_other(proven):
    code, out = at_terminal(proven, "promote")
    assert "-> \x1b[32mDISCHARGED\x1b[0m\n" in out
    assert (code, ESCAPE.sub("", out)) == in_pipe(proven, "promote")
    code, out = at_terminal(proven, "validate", PLACE)
    assert ": \x1b[31merror\x1b[0m SCHEMA-001: " in out
    assert "\n\x1b[31mreject\x1b[0m: 1 file: " in out
    assert (code, ESCAPE.sub("", out)) == in_pipe(proven, "validate", PLACE)


@pytest.mark.parametrize("args", [["status"], ["promote"], ["validate", PLACE]], ids=lambda args: args[0])
def test_nobody_who_asks_for_plain_text_gets_colours(proven, args):
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert coloured.search(at_terminal(proven, *args)[1])
    assert not coloured.search(at_terminal(proven, *args, NO_COLOR="1")[1])
    code, out = in_pipe(proven, *args, FORCE_COLOR="1")
    assert "\x1b" not in out
    assert at_terminal(proven, *args, TERM="dumb") == (code, out)


@pytest.mark.parametrize("args", [["status", "--json"], ["validate", "--json", PLACE]], ids=lambda args: args[0])
def test_json_is_the_same_at_a_terminal(proven, args):
    assert at_terminal(proven, *args) == in_pipe(proven, *args)


def test_markup_and_control_characters_in_a_contract_are_shown_as_text(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    hostile = CONTRACT.replace("- id: T-1", '- id: "[red]T[/red] :smile: \\e[2J"')
    config, _ = project(tmp_path, **{PLACE: hostile})
    found = survey(config)
    for out in (terminal.status(found), terminal.coloured(as_text(found, promote(found)))):
        assert "[red]T[/red] :smile: \\x1b[2J" in ESCAPE.sub("", out)
        assert "\x1b[2J" not in out


def test_a_line_longer_than_the_terminal_is_not_broken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    line = "a/long/path.yaml:1:1: error PV-YAML-001: " + "word " * 20 + "end"
    assert ESCAPE.sub("", terminal.coloured(line)) == line + "\n"


def test_words_elsewhere_keep_their_colour():
    assert terminal.coloured("    not FUNCTIONAL: live is in error or FALSIFIED") == (
        "    not FUNCTIONAL: live is in error or FALSIFIED\n"
    )


def test_source_text_keeps_its_colour_and_its_carets_are_red():
    shown = terminal.coloured("  7 |   status: DISCHARGED\n    |   ^^^^^^")
    assert ESCAPE.sub("", shown) == "  7 |   status: DISCHARGED\n    |   ^^^^^^\n"
    source, carets = shown.splitlines()
    assert "\x1b[32m" not in source
    assert "\x1b[31m  ^^^^^^" in carets


def test_rich_is_imported_only_for_a_terminal(proven):
    for args in (["status"], ["promote"], ["validate", PLACE], ["--version"]):
        code = (
            f"import sys\nfrom pv.cli import main\ntry: main({args!r})\nfinally: print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=proven, capture_output=True, text=True, check=False)
        assert "pv.cli" in done.stderr.split()
        assert "rich" not in {name.partition(".")[0] for name in done.stderr.split()}
