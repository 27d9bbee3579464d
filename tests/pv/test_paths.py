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
