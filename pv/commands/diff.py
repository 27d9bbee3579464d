"""Compare two versions of contracts: say what each change means, and whether the version numbers announce it.

  pv diff old.yaml new.yaml              two files
  pv diff old/ new/                      two folders
  pv diff old.yaml -                     a file and standard input, on either side
  pv diff main contracts/                a revision of git and the working tree
  pv diff main..HEAD contracts/          two revisions
  pv diff main...HEAD contracts/         what HEAD changed since it left main

Where only a revision or a range is given, the project's contracts are compared.
"""

import argparse
from pathlib import Path

from pv.commands.output import show


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "old", metavar="OLD", help="a file, a folder, - for standard input, a revision, REV..REV or REV...REV"
    )
    parser.add_argument(
        "new", nargs="*", metavar="NEW", help="a file, a folder or -; behind a revision, any number of them"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON (schema pv-diff/1)")


def run(args: argparse.Namespace) -> int:
    from pv.commands.given import standard_input
    from pv.diff import diff
    from pv.diff_report import as_json, as_text

    piped = standard_input() if "-" in (args.old, *args.new) else None
    verdict = diff(args.old, args.new, Path.cwd(), piped)
    show(as_json(verdict) if args.json else as_text(verdict), colour=not args.json)
    return verdict.code
