"""The verdict as SARIF 2.1.0, which code scanning services read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

Files are named from the root of the project, %SRCROOT%, so that the log is the same on every machine. Columns count
characters. What the baseline holds and what is suppressed is a result with a suppression.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pv.baseline import key_of
from pv.errors import PvError
from pv.excerpt import printable
from pv.explain import explanation
from pv.findings import ERROR, RULES, Finding, Rule
from pv.places import STDIN, place_of
from pv.report import summary, word
from pv.settings import OFF
from pv.validate import Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"


def as_sarif(verdict: Verdict) -> str:
    """The log as JSON; it tells of a success unless something could not be measured, and holds the exit code."""
    rules = [rule for rule in RULES.values() if verdict.lint or not rule.lint]
    index = {rule.id: at for at, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {"name": "pv", "version": version("pv-contracts"), "rules": [_rule(rule) for rule in rules]}
        },
        "invocations": [_invocation(verdict, index)],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the project."}}},
        "artifacts": [
            {"location": _location(str(file.path), verdict.settings.root), "roles": ["analysisTarget"]}
            for file in verdict.checked
        ],
        "columnKind": "unicodeCodePoints",
        "results": list(_results(verdict, index)),
        "properties": {"verdict": word(verdict), "summary": printable(summary(verdict))},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": rule.id,
        "shortDescription": {"text": f"{rule.what}."},
        "defaultConfiguration": {"level": rule.severity},
    }
    with contextlib.suppress(PvError):  # a rule without an explanation is still a rule
        found["help"] = {"text": explanation(rule.id).why}
    return found


def _invocation(verdict: Verdict, index: dict[str, int]) -> dict[str, Any]:
    declined = [*verdict.declined] or ([] if verdict.checked else [("", "nothing was measured")])
    overrides = [
        {
            "descriptor": {"id": rule, "index": index[rule]},
            "configuration": {"enabled": False} if level == OFF else {"level": level},
        }
        for rule, level in verdict.settings.changed(lint=verdict.lint).items()
    ]
    return {
        "executionSuccessful": not declined,
        "exitCode": verdict.code,
        "ruleConfigurationOverrides": overrides,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "message": _message(f"{path}: not measured: {reason}".removeprefix(": ")),
                "locations": [{"physicalLocation": {"artifactLocation": _location(path, verdict.settings.root)}}]
                if path
                else [],
            }
            for path, reason in declined
        ],
    }


def _results(verdict: Verdict, index: dict[str, int]) -> Iterable[dict[str, Any]]:
    again: Counter[str] = Counter()
    for found, why in (
        *((found, "") for found in verdict.findings),
        *((found, f"{entry.reason} (until {entry.until})") for found, entry in verdict.suppressed),
        *((found, "known from the baseline") for found in verdict.known),
    ):
        result = _result(found, verdict.settings.root, index, again)
        if why:
            result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": printable(why)}]
        elif verdict.rejects(found):
            result["level"] = ERROR
        yield result


def _result(found: Finding, root: Path, index: dict[str, int], again: Counter[str]) -> dict[str, Any]:
    region = {"startLine": found.line, "startColumn": found.column}
    if found.end_column:
        region["endColumn"] = found.end_column
    key = hashlib.sha256("\0".join(key_of(found, root)).encode("utf-8", "surrogateescape")).hexdigest()
    again[key] += 1  # two findings of one message are two results
    return {
        "ruleId": found.rule,
        "ruleIndex": index[found.rule],
        "level": found.severity,
        "message": _message(found.message, *([f"hint: {found.hint}"] if found.hint else [])),
        "locations": [
            {"physicalLocation": {"artifactLocation": _location(found.path, root), "region": region}},
        ],
        "partialFingerprints": {"pvFinding/v1": f"{key}:{again[key]}"},
    }


def _message(*lines: str) -> dict[str, str]:
    """Text in which nothing is a placeholder or a link: 3.11.5 and 3.11.6 of the specification."""
    text = "\n".join(printable(line) for line in lines)
    return {"text": text.replace("{", "{{").replace("}", "}}").replace("](", "] (")}


def _location(path: str, root: Path) -> dict[str, str]:
    """Relative to the root; absolute for what lies outside of it, since a relative reference may not go up."""
    place = place_of(path, root)
    if place.startswith("../"):
        return {"uri": Path(os.path.abspath(path)).as_uri()}
    uri = quote(os.fsencode(place))
    return {"uri": uri} if place == STDIN else {"uri": uri, "uriBaseId": ROOT}
