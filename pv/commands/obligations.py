"""List proof obligations: what each says, which tests name it by its id, and what these state.

An obligation is uncovered unless a test that names its id has falsifiers. Exit 2 where there is none, or something
could not be read.
"""

import argparse

from pv.commands.given import PATHS, given_by
from pv.commands.output import decline


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--json", action="store_true", help="print them as JSON (schema pv-obligations/1)")


def run(args: argparse.Namespace) -> int:
    from pv import obligations
    from pv.collection import collect

    collected = collect(*given_by(args.paths))
    print(obligations.as_json(collected) if args.json else obligations.as_text(collected))
    decline(collected.declined)
    return obligations.exit_code(collected, obligations.of_all(collected))
