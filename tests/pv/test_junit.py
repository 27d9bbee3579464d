from dataclasses import replace
from xml.etree import ElementTree

from pv.findings import Finding
from pv.junit import as_junit
from pv.report import summary
from pv.validate import Verdict, validate
from tests.pv.verdicts import ERROR, GOOD, WARNING, every_kind, files


def parsed(verdict):
    """The document, its counts checked against what it holds."""
    root = ElementTree.fromstring(as_junit(verdict).encode())
    for element in (root, *root):
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(name)) == len(list(element.iter(tag)))
    assert root.tag == "testsuites"
    assert all(suite.tag == "testsuite" and suite.get("name") for suite in root)
    for case in root.iter("testcase"):
        assert case.get("classname")
        assert case.get("name")
        assert len(case) <= 1
    return root


def cases(suite):
    return [(case.get("name"), case[0].tag if len(case) else "passed") for case in suite.iter("testcase")]


def test_every_file_is_a_suite_and_every_broken_rule_a_case(tmp_path):
    verdict = every_kind(tmp_path)
    bad, warned, good, missing = parsed(verdict)
    assert [suite.get("name").rpartition("/")[2] for suite in (bad, warned, good, missing)] == [
        "bad.yaml",
        "warned.yaml",
        "good.yaml",
        "missing.yaml",
    ]
    assert cases(bad) == [("SCHEMA-004", "failure"), ("SCHEMA-013", "skipped"), ("SCHEMA-006", "skipped")]
    assert bad.find("testcase/failure").get("message") == "equation 'e' has no formula"
    assert (
        bad.find("testcase/failure").text == f"{tmp_path}/bad.yaml:2:17: error SCHEMA-004: equation 'e' has no formula"
    )
    assert [skipped.get("message") for skipped in bad.iter("skipped")] == [
        "suppressed until 2999-01-01: later {0} [x](y)",
        "known from the baseline",
    ]
    assert bad.findtext("system-out").startswith(f"{tmp_path}/bad.yaml:2:3: warning SCHEMA-012: 100%: a, {{b}}")
    assert cases(warned) == cases(good) == [("contract", "passed")]
    assert ": note SCHEMA-009: " in warned.findtext("system-out")
    assert cases(missing) == [("contract", "error")]
    assert missing.find("testcase/error").get("message") == "cannot be read: No such file or directory"
    assert missing.findtext("system-err") == summary(verdict)


def test_two_findings_of_one_rule_are_one_failure_with_both_places(tmp_path):
    (suite,) = parsed(validate(files(tmp_path, x=GOOD.replace("}}\n", "}, g: {formula: ''}, h: {formula: ''}}\n"))))
    assert cases(suite) == [("SCHEMA-004", "failure")]
    assert suite.find("testcase/failure").text.count(": error SCHEMA-004: ") == 2


def test_an_empty_run_is_in_error(tmp_path):
    assert cases(parsed(validate([]))) == [("contract", "error")]
    assert cases(parsed(Verdict(checked=()))) == [("contract", "error")]


def test_a_finding_about_the_settings_has_a_suite_of_its_own(tmp_path):
    verdict = validate(files(tmp_path, x=GOOD))
    stale = Finding("PV-SUP-001", "warning", "pyproject.toml", 3, 1, "no finding is left")
    _, settings = parsed(replace(verdict, findings=(stale,)))
    assert (settings.get("name"), cases(settings)) == ("pyproject.toml", [("contract", "passed")])
    _, settings = parsed(replace(verdict, findings=(stale,), strict=True))
    assert cases(settings) == [("PV-SUP-001", "failure")]


def test_a_warning_that_rejects_is_a_failure(tmp_path):
    (suite,) = parsed(validate(files(tmp_path, x=WARNING), strict=True))
    assert cases(suite) == [("SCHEMA-009", "failure")]


def test_no_text_of_a_contract_breaks_the_document(tmp_path):
    hostile = "]]></failure> & \x00\x1b\ud800 \uffff"
    verdict = validate(files(tmp_path, x=ERROR))
    found = replace(verdict.findings[0], message=hostile, hint=hostile, path=f"{tmp_path}/\x01<.yaml")
    _, second = parsed(replace(verdict, findings=(found,)))
    assert second.find("testcase/failure").get("message") == "]]></failure> & \\x00\\x1b\\ud800 \\uffff"
