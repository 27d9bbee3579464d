"""Verdicts on small contracts, for the tests of what is made of them."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from pv.findings import Finding
from pv.settings import Settings, Suppression
from pv.validate import Verdict, validate

GOOD = """\
metadata: {kind: schema, version: 1.0.0, description: d, references: [r]}
equations: {e: {formula: f, domain: d}}
"""
ERROR = GOOD.replace("formula: f", "formula: ''")
WARNING = GOOD + "falsification_tests:\n- {id: T-1, rule: r, prediction: p}\n"


def files(folder: Path, **texts: str) -> list[Path]:
    """Contracts in a folder, by their stems."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return [folder / f"{name}.yaml" for name in texts]


def every_kind(folder: Path) -> Verdict:
    """One finding of each severity, one suppressed, one known, a declined and a skipped file."""
    paths = [*files(folder, bad=ERROR, warned=WARNING, good=GOOD), folder / "missing.yaml"]
    verdict = validate(paths, settings=Settings(root=folder, severity={"SCHEMA-009": "note", "SCHEMA-006": "error"}))
    bad = str(folder / "bad.yaml")
    entry = Suppression(rule="SCHEMA-013", path="*.yaml", reason="later {0} [x](y)", until=date(2999, 1, 1))
    return replace(
        verdict,
        findings=(
            *verdict.findings,
            Finding("SCHEMA-012", "warning", bad, 2, 3, "100%: a, {b} [c](d)\x1b", "h\n::x", 0),
        ),
        suppressed=((Finding("SCHEMA-013", "warning", bad, 1, 1, "no gate"), entry),),
        known=(Finding("SCHEMA-006", "error", bad, 1, 1, "twice"),),
        skipped=(folder / "binding.yaml",),
    )
