"""Compute the level of every falsification test, and with --write make the contracts state it."""

import argparse
import sys
from pathlib import Path

from pv.commands.output import show
from pv.commands.status import PATHS, named


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--write", action="store_true", help="edit the contracts; without it, exit 1 if an edit is due")


def run(args: argparse.Namespace) -> int:
    from pv import promote as promotion
    from pv.status import project_of, survey

    paths = named(args.paths)
    found = survey(project_of(paths, Path.cwd()), paths)
    due = promotion.promote(found)
    show(promotion.as_text(found, due))
    if found.problems:
        print("pv: nothing is promoted while something cannot be read", file=sys.stderr)
        return 1 if found.contracts else 2
    if not found.contracts or not found.records:
        missing = "evidence: run `pytest --falsify --record`" if found.contracts else "contract"
        print(f"pv: nothing was measured: there is no {missing}", file=sys.stderr)
        return 2
    for contract, edits in due if args.write else ():
        promotion.write(contract, edits)
    return 1 if due and not args.write else 0
