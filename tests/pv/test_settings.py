from collections import Counter
from datetime import date

import pytest

from pv.baseline import Key, write
from pv.errors import PvError
from pv.findings import RULES
from pv.settings import Settings, Suppression, fixed, settings_around

ENTRY = """
[[tool.pv.suppress]]
rule = "SCHEMA-013"
path = "contracts/**"
reason = "the gates move with the next release"
until = 2027-03-31
"""


def project(folder, table: str, *, renewing: bool = False) -> Settings:
    (folder / "pyproject.toml").write_text(table)
    return settings_around(folder, renewing=renewing)


def test_a_project_without_settings_changes_nothing(tmp_path):
    (tmp_path / "c").mkdir()
    for table in ("", '[project]\nname = "x"\n', '[tool.pv]\ncontracts = "c"\n'):
        found = project(tmp_path, table)
        assert (found.severity, found.suppressions, found.baseline, found.known) == ({}, (), None, {})
        assert (found.changed(lint=True), found.root) == ({}, tmp_path)


def test_settings_are_read_from_any_folder_below_the_project(tmp_path):
    key = Key("SCHEMA-006", "x.yaml", "m")
    write(tmp_path / "known.json", Counter({key: 2}))
    table = '[tool.pv]\nbaseline = "known.json"\n[tool.pv.severity]\n'
    table += 'SCHEMA-009 = "error"\nSCHEMA-001 = "error"\nAUDIT-001 = "off"\n'
    project(tmp_path, table + ENTRY)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    found = settings_around(tmp_path / "deep" / "er")
    assert found.severity == {"SCHEMA-009": "error", "SCHEMA-001": "error", "AUDIT-001": "off"}
    assert found.changed(lint=False) == {"SCHEMA-009": "error"}  # SCHEMA-001 is an error anyway
    assert found.changed(lint=True) == {"SCHEMA-009": "error", "AUDIT-001": "off"}
    assert found.known == {key: 2}
    assert found.suppressions == (
        Suppression(
            rule="SCHEMA-013",
            path="contracts/**",
            reason="the gates move with the next release",
            until=date(2027, 3, 31),
            line=8,
        ),
    )


def test_each_suppression_knows_its_line(tmp_path):
    found = project(
        tmp_path, "# a comment\n" + ENTRY + "\n" + ENTRY.replace("[[tool.pv.suppress]]", "[[ tool.pv . suppress ]]")
    )
    assert [entry.line for entry in found.suppressions] == [3, 10]


def test_suppressions_in_another_form_of_toml_stand_in_the_first_line(tmp_path):
    entry = '{rule = "SCHEMA-013", path = "x", reason = "r", until = 2027-03-31}'
    found = project(tmp_path, f"\n[tool.pv]\nsuppress = [{entry}, {entry}]\n")
    assert [entry.line for entry in found.suppressions] == [1, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "[tool.pv.severity]\nSCHEMA-09 = 'error'",
            r"\[tool\.pv\.severity\]: there is no rule 'SCHEMA-09'\n  hint: did you",
        ),
        (
            "[tool.pv.severity]\nPV-AUD-002 = 'off'",
            r"no rule 'PV-AUD-002'\n  hint: PV-AUD-002 of the public tool is asked by SCHEMA-001$",
        ),
        (
            "[tool.pv.severity]\npv-trd-001 = 'off'",
            r"no rule 'pv-trd-001'\n  hint: PV-TRD-001 of the public tool is left out: the trend of a score ",
        ),
        (
            "[tool.pv.severity]\nPV-VAL-2 = 'off'",
            r"hint: did you mean 'PV-VAL-002'\? PV-VAL-002 of the public tool is asked by SCHEMA-002$",
        ),
        (
            ENTRY.replace("SCHEMA-013", "PV-SCR-002"),
            r"toml:2: .*\n  hint: PV-SCR-002 of the public tool is asked by BIND",
        ),
        ("[tool.pv.severity]\nzzz = 'error'", r"there is no rule 'zzz'\n  hint: `pv explain` lists them$"),
        ("[tool.pv.severity]\nschema-009 = 'off'", r"no rule 'schema-009'\n  hint: did you mean 'SCHEMA-009'\?$"),
        (
            "[tool.pv.severity]\nSCHEMA-009 = 'fatal'",
            r"SCHEMA-009 must be one of error, warning, note, off, not 'fatal'$",
        ),
        ("[tool.pv.severity]\nSCHEMA-009 = false", r"SCHEMA-009 must be one of error, warning, note, off, not False$"),
        ("[tool.pv.severity]\nSCHEMA-009 = ['off']", r"SCHEMA-009 must be one of .*, not \['off'\]$"),
        (
            "[tool.pv.severity]\nPV-YAML-001 = 'off'",
            r"PV-YAML-001 cannot be changed\n  hint: a file that breaks it holds",
        ),
        (
            "[tool.pv]\nseverity = 3",
            r"pyproject\.toml: \[tool\.pv\.severity\] must be a table from rules to severities$",
        ),
        ("[tool.pv]\nsuppress = 3", r"pyproject\.toml: suppress must be a list of tables\n  hint: write \[\["),
        ("[tool.pv]\nsuppress = ['x']", r"suppress must be a list of tables"),
        ("[tool.pv.suppress]\nrule = 'x'", r"suppress must be a list of tables"),
        ("[tool.pv]\nbaseline = 3", r"\[tool\.pv\] baseline must be a path, not 3$"),
        ("[tool.pv]\nbaseline = ''", r"\[tool\.pv\] baseline must be a path, not ''$"),
        ("[tool.pv]\nbaseline = 'gone.json'", r"gone\.json: there is no such baseline\n"),
        ("[tool.pv]\nsupress = []", r"\[tool\.pv\] has no key 'supress'\n  hint: did you mean 'suppress'\?$"),
        (ENTRY + "because = 'x'", r"pyproject\.toml:2: \[\[tool\.pv\.suppress\]\]: there is no key 'because'\n"),
        (ENTRY.replace("SCHEMA-013", "SCHEMA-13"), r"toml:2: .* there is no rule 'SCHEMA-13'\n  hint: did you mean"),
        (ENTRY.replace("SCHEMA-013", "PV-YAML-002"), r"toml:2: .* PV-YAML-002 cannot be changed\n"),
        (ENTRY.replace("SCHEMA-013", "PV-SUP-002"), r"toml:2: .* PV-SUP-002 cannot be suppressed\n"),
        (ENTRY.replace("reason", "#"), r"toml:2: .* reason is missing\n  hint: a suppression says"),
        (ENTRY.replace("until", "#"), r"toml:2: .* until is missing\n"),
        (ENTRY.replace("path", "#"), r"toml:2: .* path is missing\n"),
        (ENTRY.replace("rule", "#"), r"toml:2: .* rule is missing\n"),
        (ENTRY.replace("2027-03-31", "'2027-03-31'"), r"until must be a date, not '2027-03-31'\n  hint: write until ="),
        (
            ENTRY.replace("2027-03-31", "2027-04-30T08:00:00Z"),
            r"until must be a date, not 2027-04-30T08:00:00\+00:00\n  hint: write until = 2027-04-30$",
        ),
        (ENTRY.replace("2027-03-31", "08:00:00"), r"until must be a date, not 08:00:00\n  hint: write until = 2027-03"),
        (
            "[tool.pv]\ncontracts = 'gone'",
            r"pyproject\.toml: \[tool\.pv\] contracts: there is no 'gone'\n  hint: it is",
        ),
        (ENTRY.replace('"the gates move with the next release"', "' '"), r"reason must be text, not ' '$"),
        (ENTRY.replace('"contracts/**"', "['a']"), r"path must be text, not \['a'\]$"),
        (ENTRY + "contains = 3", r"contains must be text, not 3$"),
    ],
)
def test_wrong_settings_are_an_error_that_says_where(tmp_path, table, message):
    with pytest.raises(PvError, match=message):
        project(tmp_path, table)


def test_a_baseline_that_is_about_to_be_written_must_have_a_name_and_may_be_missing(tmp_path):
    with pytest.raises(PvError, match=r"pyproject\.toml: the project names no baseline\n  hint: write baseline = "):
        project(tmp_path, "", renewing=True)
    found = project(tmp_path, "[tool.pv]\nbaseline = 'known.json'", renewing=True)
    assert (found.baseline, found.known) == (tmp_path / "known.json", {})
    (tmp_path / "known.json").write_text("damaged")
    with pytest.raises(PvError, match=r"is no JSON"):
        settings_around(tmp_path, renewing=True)


def test_only_what_makes_a_file_no_contract_is_fixed():
    assert {name for name, rule in RULES.items() if fixed(rule)} == {"PV-YAML-001", "PV-YAML-002"}
