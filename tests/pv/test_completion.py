import shutil
import subprocess

import pytest

from pv.cli import COMMANDS, main
from pv.findings import RULES

ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_pv
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    return tmp_path_factory.mktemp("scripts")


def script(shell, scripts, capsys):
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (scripts / shell).write_text(out)
    return scripts / shell


def bash(script, *words):
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", script, *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands_flags_choices_files_and_rules(scripts, capsys, tmp_path, monkeypatch):
    made = script("bash", scripts, capsys)
    assert bash(made, "pv", "") == list(COMMANDS)
    assert bash(made, "pv", "co") == ["coverage", "completion"]
    assert bash(made, "pv", "graph", "--") == ["--help", "--format"]
    assert bash(made, "pv", "graph", "--format", "") == ["text", "dot", "json", "mermaid"]
    assert bash(made, "pv", "completion", "") == ["bash", "zsh", "fish"]
    assert bash(made, "pv", "explain", "SCHEMA-") == sorted(rule for rule in RULES if rule.startswith("SCHEMA-"))
    for typed in ("pv-key-", "Pv-Key-"):
        assert bash(made, "pv", "explain", typed) == ["PV-KEY-001", "PV-KEY-002", "PV-KEY-003"]
    (tmp_path / "one.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert bash(made, "pv", "validate", "on") == ["one.yaml"]


def test_bash_knows_every_flag_of_every_command(scripts, capsys):
    made = script("bash", scripts, capsys)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        flags = bash(made, "pv", command, "--")
        assert "--help" in flags
        assert [flag for flag in flags if flag not in shown] == []


def test_fish_completes_commands_choices_and_rules(scripts, capsys):
    made = script("fish", scripts, capsys)
    if not shutil.which("fish"):
        pytest.skip("fish is not on this machine")

    def fish(line):
        command = ["fish", "--no-config", "-c", f"source {made}; complete -C '{line}'"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [answer.split("\t")[0] for answer in done.stdout.splitlines()]

    assert sorted(fish("pv ")) == sorted(COMMANDS)
    assert sorted(fish("pv graph --format ")) == ["dot", "json", "mermaid", "text"]
    assert sorted(fish("pv explain pv-key-")) == ["PV-KEY-001", "PV-KEY-002", "PV-KEY-003"]
    assert sorted(fish("pv explain SCHEMA-")) == sorted(rule for rule in RULES if rule.startswith("SCHEMA-"))


def test_zsh_finds_the_script_in_its_path_and_can_read_it(scripts, capsys):
    made = script("zsh", scripts, capsys).rename(scripts / "_pv")
    if not shutil.which("zsh"):
        pytest.skip("zsh is not on this machine")
    program = "fpath=($1 $fpath); autoload -Uz compinit; compinit -u -d $1/dump; print $_comps[pv]; zsh -n $1/_pv"
    done = subprocess.run(["zsh", "-f", "-c", program, "zsh", scripts], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_pv\n", "")
    assert [name for name in COMMANDS if f"{name})" not in made.read_text()] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_same_each_time(shell, scripts, capsys):
    assert script(shell, scripts, capsys).read_text() == script(shell, scripts, capsys).read_text()


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["completion", "csh"])
    assert stopped.value.code == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
