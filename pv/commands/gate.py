"""Reject what a branch would take away from the ledger, compared with where it left REF.

Rejected are: an overclaimed level, a broken promise, a demotion, a contract that changed without a sufficient step of
its version, evidence that does not verify or is gone, a test that lost mutants or a falsifier or is gone itself, a lost
contract, a loosened tolerance, fewer comparisons, a planted defect that is another under its old name, and settings or
goals of the project that ask for less. What is lost on purpose is accepted by a new entry of the contract's changelog,
or of the project's in pyproject.toml.
"""

import argparse
from pathlib import Path

from pv.commands.output import show

FORMATS = ("text", "json", "github", "markdown")


def arguments(parser: argparse.ArgumentParser) -> None:
    what = "the branch or commit that this one is to be merged into; compared is the merge base of both"
    parser.add_argument("--base", metavar="REV", required=True, help=what)
    form = parser.add_mutually_exclusive_group()
    what = "for people (text, the default), programs (json), annotations (github), or a comment (markdown)"
    form.add_argument("--format", choices=FORMATS, default="text", help=what)
    what = "short for --format json (pv-gate/1)"
    form.add_argument("--json", dest="format", action="store_const", const="json", help=what)


def run(args: argparse.Namespace) -> int:
    from pv import gate_report
    from pv.gate import gate

    verdict = gate(args.base, Path.cwd())
    says = {
        "text": gate_report.as_text,
        "json": gate_report.as_json,
        "github": gate_report.as_github,
        "markdown": gate_report.as_markdown,
    }[args.format]
    show(says(verdict), colour=args.format == "text")
    return verdict.code
