"""`pv explain`: what a rule asks, why, a contract that breaks it and one that keeps it.

What a rule asks stands with its code; the rest is data, pv/explanations/<RULE>.yaml:

    why: one or two sentences
    fires: |
      # 7: error SCHEMA-004
      metadata: ..
    holds: |
      metadata: ..

`fires` begins with comments that state every finding in it, "# LINE: SEVERITY RULE", or "# FILE:LINE: SEVERITY RULE"
for a file that can hold no comment; `holds` breaks no rule as far as `pv validate` goes, and not this one. Where a rule
is about several files, both are mappings from file names to texts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pv import yaml_loader
from pv.errors import PvError
from pv.findings import Rule

FOLDER = Path(__file__).parent / "explanations"
CONTRACT = "contract.yaml"
"""The name of an example that is one file."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rule is asked; `fires` and `holds` are texts of files by their names, contracts among them."""

    why: str
    fires: Mapping[str, str]
    holds: Mapping[str, str]


def explanation(rule: str) -> Explanation:
    """What stands in the data file of a rule. PvError where there is none or a part of it is missing."""
    file = FOLDER / f"{rule}.yaml"
    try:
        value = yaml_loader.load(file.read_bytes(), str(file)).value
    except OSError:
        raise PvError(f"the rule {rule} has no explanation", where=str(file)) from None
    if not isinstance(value, dict) or value.keys() != {"why", "fires", "holds"}:
        raise PvError("an explanation has why, fires and holds", where=str(file))
    return Explanation(str(value["why"]).strip(), _files(value["fires"]), _files(value["holds"]))


def suggested(wrong: str, known: Iterable[str]) -> str:
    """The id that may have been meant, with a number of three digits if that is all that is wrong; empty for none."""
    padded = re.sub(r"[0-9]+$", lambda number: f"{int(number[0]):03}", wrong[:40])
    return next(iter(get_close_matches(padded, known, n=1)), "")


def _files(example: str | dict[str, str]) -> dict[str, str]:
    return {CONTRACT: example} if isinstance(example, str) else example


def as_text(rule: Rule) -> str:
    """What a person reads."""
    told = explanation(rule.id)
    lines = [f"{rule.id} ({rule.severity}{', asked by pv lint' if rule.lint else ''})", f"  {rule.what}", ""]
    lines += [f"  {line}" for line in told.why.splitlines()]
    for title, files in (("fires on", told.fires), ("holds for", told.holds)):
        for name, text in files.items():
            lines += ["", f"{title}{'' if name == CONTRACT else f' {name}'}:"]
            lines += [f"    {line}".rstrip() for line in text.splitlines()]
    return "\n".join(lines)
