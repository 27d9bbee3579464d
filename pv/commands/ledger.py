"""Show the ledger: every test with its level, the evidence for it, its age, and on how many machines it was seen.

pv ledger                              the ledger of the project
pv ledger diff main                    what rose, fell or went stale between main and the working tree
pv ledger diff v1 v2                   between two revisions, or folders of projects
pv ledger --milestones --base main     how much of each goal is earned, and what changed it
"""

import argparse
import sys
from pathlib import Path

from pv.commands.output import show

FORMATS = ("text", "json", "markdown")


def arguments(parser: argparse.ArgumentParser) -> None:
    what = "`diff BASE [HEAD]`: compare revisions of git or folders; HEAD is the working tree if it is left out"
    parser.add_argument("words", nargs="*", metavar="diff REV", help=what)
    form = parser.add_mutually_exclusive_group()
    what = "for people (text, the default), programs (json), or a pull request's comment (markdown)"
    form.add_argument("--format", choices=FORMATS, default="text", help=what)
    what = "short for --format json (pv-ledger/1, pv-ledger-diff/1, pv-milestones/1)"
    form.add_argument("--json", dest="format", action="store_const", const="json", help=what)
    parser.add_argument("--milestones", action="store_true", help="show how much of each goal of the project is earned")
    parser.add_argument("--base", metavar="REV", help="with --milestones: a revision or folder to compare with")


def run(args: argparse.Namespace) -> int:
    words: list[str] = args.words
    if words and words[0] != "diff":
        args.refuse(f"there is no `pv ledger {words[0]}`: did you mean `pv ledger diff {words[0]}`?")
    if words and not 2 <= len(words) <= 3:
        args.refuse("diff takes one or two versions: diff BASE [HEAD]")
    if words and (args.milestones or args.base):
        args.refuse("diff and --milestones answer different questions: ask one at a time")
    if args.base and not args.milestones:
        args.refuse("--base is for --milestones; levels are compared by `pv ledger diff BASE`")
    text, code = (
        _compared(words[1:], args.format) if words else _goals(args) if args.milestones else _ledger(args.format)
    )
    show(text, colour=args.format == "text")
    return code


def _ledger(form: str) -> tuple[str, int]:
    from datetime import UTC, datetime

    from pv import ledger
    from pv.config import find
    from pv.status import survey

    found = survey(find(Path.cwd()), remember=True)
    if not found.contracts:
        print("pv: nothing was measured: there is no contract", file=sys.stderr)
    says = {"text": ledger.as_text, "json": ledger.as_json, "markdown": ledger.as_markdown}[form]
    return says(found, datetime.now(UTC)), ledger.exit_code(found)


def _compared(names: list[str], form: str) -> tuple[str, int]:
    from pv import ledger_diff
    from pv.at_revision import version_at
    from pv.status import survey

    here = Path.cwd()
    with version_at(names[0], here) as base, version_at(names[1] if len(names) > 1 else None, here) as head:
        found = ledger_diff.moves((base, survey(base.config)), (head, survey(head.config)))
    if not found.contracts:
        print("pv: nothing was compared: neither version has a contract", file=sys.stderr)
    says = {"text": ledger_diff.as_text, "json": ledger_diff.as_json, "markdown": ledger_diff.as_markdown}[form]
    return says(found), found.code


def _goals(args: argparse.Namespace) -> tuple[str, int]:
    from pv import milestones_report
    from pv.config import find

    found = milestones_report.report(find(Path.cwd()), args.base)
    says = {
        "text": milestones_report.as_text,
        "json": milestones_report.as_json,
        "markdown": milestones_report.as_markdown,
    }[args.format]
    return says(found), found.code
