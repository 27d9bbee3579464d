"""The verdict as JUnit XML, which CI servers read: a suite for each file, in it a case for each rule that is broken.

A file in which nothing rejects has a case that passes, `contract`. What does not reject is told in the output of the
suite. A rule whose findings are suppressed or known is a case that was skipped; a file that was not measured is in
error.
"""

from collections import defaultdict
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from pv.excerpt import printable
from pv.findings import Finding
from pv.report import summary
from pv.validate import Verdict


def as_junit(verdict: Verdict) -> str:
    """The document as text; it holds a failure or an error unless the verdict is to accept."""
    counting, quiet = defaultdict(list), defaultdict(list)
    for found in verdict.findings:
        counting[found.path].append(found)
    for found, entry in verdict.suppressed:
        quiet[found.path].append((found, f"suppressed until {entry.until}: {entry.reason}"))
    for found in verdict.known:
        quiet[found.path].append((found, "known from the baseline"))

    root = Element("testsuites", name="pv")
    for path in dict.fromkeys([*(str(file.path) for file in verdict.checked), *counting]):
        _suite(root, path, verdict, counting[path], quiet[path])
    for path, reason in verdict.declined or ([] if verdict.checked else [("", "nothing was measured")]):
        suite = SubElement(root, "testsuite", name=printable(path or "pv"))
        SubElement(_case(suite, "contract"), "error", type="not measured", message=printable(reason))
    for element in (*root, root):
        _count(element)
    SubElement(root[-1], "system-err").text = printable(summary(verdict))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}'


def _suite(
    root: Element, path: str, verdict: Verdict, counting: Sequence[Finding], quiet: Sequence[tuple[Finding, str]]
) -> None:
    suite = SubElement(root, "testsuite", name=printable(path))
    failing: dict[str, list[Finding]] = {}
    for found in filter(verdict.rejects, counting):
        failing.setdefault(found.rule, []).append(found)
    for rule, findings in failing.items():
        failure = SubElement(_case(suite, rule), "failure", type=findings[0].severity)
        failure.set("message", printable(findings[0].message))
        failure.text = _told(findings)
    if not failing:
        _case(suite, "contract")
    for rule, why in {found.rule: why for found, why in quiet if found.rule not in failing}.items():
        SubElement(_case(suite, rule), "skipped", message=printable(why))
    if told := _told([found for found in counting if not verdict.rejects(found)]):
        SubElement(suite, "system-out").text = told


def _case(suite: Element, name: str) -> Element:
    return SubElement(suite, "testcase", classname=suite.get("name", ""), name=name)


def _told(findings: Sequence[Finding]) -> str:
    lines = []
    for at in findings:
        lines.append(printable(f"{at.path}:{at.line}:{at.column}: {at.severity} {at.rule}: {at.message}"))
        if at.hint:
            lines.append(printable(f"  hint: {at.hint}"))
    return "\n".join(lines)


def _count(element: Element) -> None:
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(1 for _ in element.iter(tag))))
