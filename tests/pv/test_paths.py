import datetime
import tomllib

import pytest

from pv.cli import main
from pv.errors import PvError
from pv.paths import as_written, path_of, require
from tests.pv.test_binding import project

TABLE = '[tool.pv]\nfirst-party = ["checks", "sums"]\nmodels = "models.yaml"\n'


@pytest.mark.parametrize("text", ["2027-03-31", "2027-03-31T08:30:00", "2027-03-31T08:30:00+02:00", "08:30:00", "'x'"])
def test_a_value_stands_in_a_message_as_it_stands_in_the_file(text):
    assert as_written(tomllib.loads(f"key = {text}")["key"]) == text


@pytest.mark.parametrize("value", ["", " ", "b\0l", 3, datetime.date(2027, 3, 31)])
def test_what_can_be_no_path_is_refused(tmp_path, value):
    with pytest.raises(PvError) as refused:
        path_of("evidence", value, tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/pyproject.toml: [tool.pv] evidence must be a path, not {as_written(value)}"
    )


def test_a_name_may_be_as_long_as_file_systems_allow_and_no_longer(tmp_path):
    assert path_of("evidence", "é" * 127 + "/x", tmp_path) == tmp_path / ("é" * 127) / "x"
    for value in ("x" * 256, "a/" + "é" * 128, "x/" * 2048):
        with pytest.raises(PvError) as refused:
            path_of("evidence", value, tmp_path)
        what = "[tool.pv] evidence must be a path, and a name in it is longer than file systems allow"
        hint = f"it begins with {value[:40]!r}: write a shorter one"
        assert str(refused.value) == f"{tmp_path}/pyproject.toml: {what}\n  hint: {hint}"


@pytest.mark.parametrize("key", ["contracts", "evidence", "models", "baseline"])
@pytest.mark.parametrize(
    "command", ["validate contracts", "status", "promote", "coverage", "graph", "new x", "validate --write-baseline x"]
)
def test_a_path_of_the_settings_that_is_too_long_is_one_error_of_every_command(
    tmp_path, monkeypatch, capsys, key, command
):
    project(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f"[tool.pv]\n{key} = '{'x' * 256}'\n")
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 2)
    assert err.startswith(f"pv: {tmp_path}/pyproject.toml: [tool.pv] {key} must be a path, and a name in it is longer ")


@pytest.mark.parametrize("command", ["validate", "lint", "status", "promote", "coverage", "graph", "migrate"])
@pytest.mark.parametrize("name", ["x" * 256, "x" * 256 + ".yaml", "contracts/" + "x" * 256, "loop"])
def test_a_path_that_no_file_can_have_is_not_measured(tmp_path, monkeypatch, capsys, command, name):
    project(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert main([command, name]) == 2
    out, err = capsys.readouterr()
    assert [line for line in (out + err).splitlines() if line.removeprefix("pv: ").startswith(f"{name}: ")] != []


def test_a_path_that_is_too_long_is_an_error_of_diff(tmp_path, monkeypatch, capsys):
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for args in (["contracts", "x" * 256], ["./" + "x" * 256, "contracts"]):
        assert main(["diff", *args]) == 2
        assert capsys.readouterr().err.endswith(f"{'x' * 256}: there is no such file or folder\n")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("contracts", "contrakts", "did you mean 'contracts'?"),
        ("models", "engine/registri.yaml", "did you mean 'engine/registry.yaml'?"),
        ("models", "x/y.yaml", "it is looked for from the folder of pyproject.toml: mend the path, or make what"),
    ],
)
def test_a_path_that_is_written_and_leads_to_nothing_is_an_error_with_the_nearest_name(tmp_path, key, value, hint):
    (tmp_path / "contracts").mkdir()
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "registry.yaml").touch()
    with pytest.raises(PvError) as refused:
        require(tmp_path, {"tool": {"pv": {key: value}}})
    told = f"{tmp_path}/pyproject.toml: [tool.pv] {key}: there is no {value!r}\n  hint: {hint}"
    assert str(refused.value).startswith(told)


def test_a_default_and_what_is_made_later_may_be_missing(tmp_path):
    require(tmp_path, {})
    require(tmp_path, {"tool": {"pv": {"evidence": "e", "baseline": "b.json"}}})


@pytest.mark.parametrize("command", ["validate", "lint", "status"])
@pytest.mark.parametrize(("key", "value"), [("contracts", "promises"), ("models", "gone.yaml")])
def test_commands_name_a_path_of_the_settings_that_leads_to_nothing(tmp_path, monkeypatch, capsys, command, key, value):
    project(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f"[tool.pv]\n{key} = '{value}'\n")
    monkeypatch.chdir(tmp_path)
    assert main([command, "contracts"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pv: {tmp_path}/pyproject.toml: [tool.pv] {key}: there is no '{value}'\n  hint: ")


def test_evidence_that_is_not_there_yet_is_told_where_levels_are(tmp_path, monkeypatch, capsys):
    project(tmp_path)
    (tmp_path / "pyproject.toml").write_text(TABLE + "evidence = 'evidnce'\n")
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 0
    told = "pv: there is no evidence: no folder evidnce; `pytest --falsify --record` makes it\n"
    assert capsys.readouterr().err == told
    main(["validate", "contracts"])
    assert "evidnce" not in capsys.readouterr().out
    main(["lint", "contracts"])
    assert "  hint: there is no folder evidnce: record evidence (" in capsys.readouterr().out
    (tmp_path / "evidnce").mkdir()
    assert main(["status"]) == 0
    assert capsys.readouterr().err == ""
