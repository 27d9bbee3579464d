from collections import Counter
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.baseline import Key, write
from pv.findings import Finding
from pv.judging import Judged, Run, judge, renewed
from pv.settings import Settings, Suppression

TODAY = date(2026, 6, 15)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("c/a.yaml", "c/b.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def at(rule="SCHEMA-006", path="c/a.yaml", message="m", severity="warning", line=1):
    return Finding(rule, severity, path, line, 1, message)


def suppression(rule="SCHEMA-006", path="c/a.yaml", until=TODAY, **more):
    return Suppression(rule=rule, path=path, reason="r", until=until, **more)


def settings(folder, *suppressions, **more):
    return Settings(
        root=folder, file=folder / "pyproject.toml", suppressions=suppressions, contracts=folder / "c", **more
    )


def known(folder, *keys):
    counts = Counter(Key(*key) for key in keys)
    write(folder / "known.json", counts)
    return settings(folder, baseline=folder / "known.json", known=counts)


BOTH = Run(["c/a.yaml", "c/b.yaml"])


def told(judged):
    return [(found.rule, found.severity, found.path, found.line, found.message) for found in judged.counts]


# -- severities -------------------------------------------------------------------------------------------------------


def test_without_settings_every_finding_counts(folder):
    findings = [at(), at("SCHEMA-001", severity="error")]
    assert judge(findings, Settings(), BOTH, TODAY) == Judged(tuple(findings))


def test_a_rule_has_the_severity_of_the_settings_or_is_off(folder):
    findings = [at(), at("SCHEMA-001", severity="error"), at("SCHEMA-009"), at("SCHEMA-013")]
    levels = {"SCHEMA-006": "error", "SCHEMA-001": "note", "SCHEMA-009": "off"}
    judged = judge(findings, settings(folder, severity=levels), BOTH, TODAY)
    assert [(found.rule, found.severity) for found in judged.counts] == [
        ("SCHEMA-006", "error"),
        ("SCHEMA-001", "note"),
        ("SCHEMA-013", "warning"),
    ]


# -- suppressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "suppresses"),
    [
        (suppression(), True),
        (suppression(until=date(9999, 1, 1)), True),
        (suppression(path="c/*"), True),
        (suppression(contains="m"), True),
        (suppression(contains="M"), False),
        (suppression(rule="SCHEMA-009"), False),
        (suppression(path="c/b.yaml"), False),
        (suppression(path="a.yaml"), False),
        (suppression(until=date(2026, 6, 14)), False),
    ],
)
def test_a_suppression_takes_out_what_it_names_up_to_its_day(folder, entry, suppresses):
    judged = judge([at()], settings(folder, entry), Run(["c/a.yaml"]), TODAY)
    assert judged.suppressed == (((at(), entry),) if suppresses else ())
    assert (at() in judged.counts) is not suppresses


def test_an_expired_suppression_does_not_count_and_is_a_finding(folder):
    entry = suppression(until=date(2026, 6, 14), line=7)
    judged = judge([at()], settings(folder, entry), BOTH, TODAY)
    assert told(judged)[1:] == [
        (
            "PV-SUP-002",
            "warning",
            "pyproject.toml",
            7,
            "the suppression of SCHEMA-006 in c/a.yaml ended with 2026-06-14",
        )
    ]


def test_an_expired_suppression_that_nothing_needs_is_stale_and_not_expired(folder):
    judged = judge([], settings(folder, suppression(until=date(2026, 6, 14))), BOTH, TODAY)
    assert [found.rule for found in judged.counts] == ["PV-SUP-001"]


def test_of_two_suppressions_the_valid_one_counts_and_the_other_is_a_finding(folder):
    old, new = suppression(until=date(2026, 1, 1), line=1), suppression(line=9)
    judged = judge([at()], settings(folder, old, new), BOTH, TODAY)
    assert judged.suppressed == ((at(), new),)
    assert [(found.rule, found.line) for found in judged.counts] == [("PV-SUP-002", 1)]


def test_a_stale_suppression_is_a_finding_with_the_severity_of_the_settings(folder):
    entry = suppression(line=7)
    told_off = settings(folder, entry, severity={"PV-SUP-001": "error"})
    assert told(judge([], told_off, BOTH, TODAY)) == [
        ("PV-SUP-001", "error", "pyproject.toml", 7, "no finding of SCHEMA-006 in c/a.yaml is left to suppress")
    ]


@pytest.mark.parametrize(
    ("entry", "run", "stale"),
    [
        (suppression(), Run(["c/a.yaml"]), True),
        (suppression(), Run(["c/b.yaml"]), False),
        (suppression(path="c/*.yaml"), Run(["c/a.yaml"]), False),
        (suppression(path="c/*.yaml"), BOTH, True),
        (suppression(path="**"), BOTH, True),
        (suppression(path="c/gone.yaml"), Run(["c/a.yaml"]), True),
        (suppression(rule="AUDIT-001"), BOTH, False),
        (suppression(rule="AUDIT-001"), replace(BOTH, lint=True), True),
        (suppression(rule="PV-DUP-001"), Run(["c/a.yaml"]), False),
        (suppression(rule="PV-DUP-001"), BOTH, True),
        (suppression(), Run([]), False),
    ],
)
def test_a_suppression_is_stale_only_in_a_run_that_would_have_found_what_it_names(folder, entry, run, stale):
    assert [found.rule for found in judge([], settings(folder, entry), run, TODAY).counts] == ["PV-SUP-001"] * stale


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("c/aa.yaml", "did you mean 'c/a.yaml'? Mend the path, or take it out"),
        ("./c/a.yaml", "did you mean 'c/a.yaml'? Mend the path, or take it out"),
        ("c\\*.yaml", "did you mean 'c/*.yaml'? Mend the path, or take it out"),
        ("a.yaml", "did you mean 'c/a.yaml'? Mend the path, or take it out"),
        ("*.yaml", "did you mean 'c/*.yaml'? Mend the path, or take it out"),
        ("c", "did you mean 'c/**'? Mend the path, or take it out"),
        ("c/", "did you mean 'c/**'? Mend the path, or take it out"),
        ("d/*.yaml", "did you mean 'c/b.yaml'? Mend the path, or take it out"),
        ("elsewhere/**", "mend the path, from the folder of pyproject.toml, or take it out"),
        ("a\0b/**", "mend the path, from the folder of pyproject.toml, or take it out"),
    ],
)
def test_a_suppression_whose_path_matches_no_file_says_so_and_what_may_be_meant(folder, path, hint):
    (found,) = judge([], settings(folder, suppression(path=path)), BOTH, TODAY).counts
    assert found.message == f"no file matches the path {path!r}, so SCHEMA-006 is suppressed in none"
    assert (found.rule, found.hint) == ("PV-SUP-001", hint)


def test_a_suppression_in_a_file_that_is_no_contract_has_a_file(folder):
    (folder / "c" / "binding.yaml").write_text("")
    (found,) = judge([], settings(folder, suppression(path="c/bind*.yaml")), BOTH, TODAY).counts
    assert found.message == "no finding of SCHEMA-006 in c/bind*.yaml is left to suppress"


# -- baseline ---------------------------------------------------------------------------------------------------------


def test_known_findings_do_not_count_and_of_more_the_last_ones_are_new(folder):
    findings = [at(line=line) for line in (3, 5, 9)]
    judged = judge(findings, known(folder, *[("SCHEMA-006", "c/a.yaml", "m")] * 2), BOTH, TODAY)
    assert judged.known == tuple(findings[:2])
    assert judged.counts == tuple(findings[2:])


def test_a_known_finding_elsewhere_or_with_another_message_counts(folder):
    findings = [at(path="c/b.yaml"), at(message="n"), at("SCHEMA-009")]
    judged = judge(findings, known(folder, ("SCHEMA-006", "c/a.yaml", "m")), Run(["c/b.yaml"]), TODAY)
    assert judged.counts == tuple(findings)


def test_what_is_known_and_gone_is_a_finding_at_its_line(folder):
    keys = [("SCHEMA-006", "c/a.yaml", "m")] * 2 + [("SCHEMA-009", "c/a.yaml", "n"), ("OLD-001", "c/a.yaml", "o")]
    judged = judge([at()], known(folder, *keys), BOTH, TODAY)
    assert told(judged) == [
        ("PV-SUP-003", "warning", "known.json", 2, "OLD-001 does not occur any more in c/a.yaml: o"),
        ("PV-SUP-003", "warning", "known.json", 3, "SCHEMA-006 does not occur 1 of 2 times in c/a.yaml: m"),
        ("PV-SUP-003", "warning", "known.json", 4, "SCHEMA-009 does not occur any more in c/a.yaml: n"),
    ]


def test_what_a_run_did_not_see_is_not_gone(folder):
    keys = [("SCHEMA-006", "c/a.yaml", "m"), ("AUDIT-001", "c/b.yaml", "m"), ("PV-DUP-001", "c/b.yaml", "m")]
    assert judge([], known(folder, *keys), Run(["c/b.yaml"]), TODAY).counts == ()


def test_in_a_file_that_holds_no_contract_nothing_is_gone_or_stale(folder):
    broken = at("PV-YAML-001", severity="error")
    keys = [("SCHEMA-006", "c/a.yaml", "m"), ("SCHEMA-006", "c/b.yaml", "m")]
    judged = judge([broken], replace(known(folder, *keys), suppressions=(suppression(),)), BOTH, TODAY)
    assert [(found.rule, found.line) for found in judged.counts] == [("PV-YAML-001", 1), ("PV-SUP-003", 3)]
    assert renewed(judged, known(folder, *keys), BOTH, accept_new=False) == {keys[0]: 1}


def test_nobody_can_know_that_a_file_is_no_contract(folder):
    broken = at("PV-YAML-001", severity="error")
    judged = judge([broken], known(folder, ("PV-YAML-001", "c/a.yaml", "m")), BOTH, TODAY)
    assert (judged.known, judged.counts[0]) == ((), broken)


def test_a_first_baseline_holds_all_but_notes_and_what_is_no_contract(folder):
    findings = (at(), at(), at("SCHEMA-001", severity="error"), at("PV-RUN-009", severity="note"))
    findings += (at("PV-YAML-001", severity="error"), at("PV-SUP-001", path="pyproject.toml"))
    assert renewed(Judged(findings), settings(folder), BOTH, accept_new=True) == {
        ("SCHEMA-006", "c/a.yaml", "m"): 2,
        ("SCHEMA-001", "c/a.yaml", "m"): 1,
    }


def test_a_baseline_only_shrinks_and_keeps_what_the_run_did_not_see(folder):
    mended, left, unseen, new = (
        ("SCHEMA-009", "c/a.yaml", "m"),
        ("SCHEMA-006", "c/a.yaml", "m"),
        ("SCHEMA-006", "c/b.yaml", "m"),
        ("SCHEMA-013", "c/a.yaml", "m"),
    )
    known_before = known(folder, mended, left, left, unseen)
    judged = judge([at(), at("SCHEMA-013")], known_before, Run(["c/a.yaml"]), TODAY)
    run = Run(["c/a.yaml"])
    assert renewed(judged, known_before, run, accept_new=False) == {left: 1, unseen: 1}
    assert renewed(judged, known_before, run, accept_new=True) == {left: 1, unseen: 1, new: 1}


FINDINGS = st.lists(
    st.builds(
        at,
        st.sampled_from(["SCHEMA-006", "SCHEMA-009", "SCHEMA-001"]),
        st.sampled_from(["c/a.yaml", "c/b.yaml"]),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["error", "warning"]),
    ),
    max_size=12,
)


@given(FINDINGS, FINDINGS)
def test_a_baseline_of_today_knows_all_of_today_and_no_finding_is_lost(tmp_path_factory, today, tomorrow):
    folder = tmp_path_factory.getbasetemp()
    empty = settings(folder)
    baseline = folder / "known.json"

    def holding(counts):
        write(baseline, counts)
        return replace(empty, baseline=baseline, known=counts)

    files = [str(folder / "c/a.yaml"), str(folder / "c/b.yaml")]
    place = [replace(found, path=str(folder / found.path)) for found in today]
    later = [replace(found, path=str(folder / found.path)) for found in tomorrow]
    first = renewed(judge(place, empty, Run(files), TODAY), empty, Run(files), accept_new=True)
    assert judge(place, holding(first), Run(files), TODAY) == Judged((), (), tuple(place))

    judged = judge(later, holding(first), Run(files), TODAY)
    kept = Counter(judged.known) + Counter(found for found in judged.counts if not found.rule.startswith("PV-SUP"))
    assert kept == Counter(later)
    second = renewed(judged, holding(first), Run(files), accept_new=False)
    assert second <= first
    assert [
        found for found in judge(later, holding(second), Run(files), TODAY).counts if found.rule == "PV-SUP-003"
    ] == []
