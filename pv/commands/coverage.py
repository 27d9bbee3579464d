"""Show which proof obligations are covered: those that a test names by its id, and that something runs.

A test whose rule only repeats an obligation's text is shown apart, and an obligation that is not applicable, with a
reason, is in no percentage. Exit 1 below --min; 2 where there is nothing to cover, or something could not be read.
"""

import argparse
from fractions import Fraction

from pv.commands.given import PATHS, given_by
from pv.commands.output import decline


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--json", action="store_true", help="print it as JSON (schema pv-coverage/1)")
    parser.add_argument(
        "--min", type=percentage, metavar="PERCENT", help="exit 1 if less of all obligations together is covered"
    )


def percentage(text: str) -> Fraction:
    """A decimal number from 0 to 100, kept exactly."""
    try:
        number = Fraction(text) if text.replace(".", "", 1).isdecimal() else None
    except ValueError:
        number = None
    if number is None or number > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 100")
    return number


def run(args: argparse.Namespace) -> int:
    from pv import coverage
    from pv.collection import collect

    found = coverage.coverage(collect(*given_by(args.paths)), args.min)
    print(coverage.as_json(found) if args.json else coverage.as_text(found))
    decline(found.declined)
    return found.code
