"""Print the equations of contracts, as text or as a LaTeX document that compiles with amsmath and amssymb.

Formulas are free text: what is common is translated, and the rest stays text. Exit 2 where there is no equation, or
something could not be read.
"""

import argparse

from pv.commands.given import PATHS, given_by
from pv.commands.output import decline


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--format", choices=("text", "latex"), default="text", help="what to print; by default text")


def run(args: argparse.Namespace) -> int:
    from pv import equations
    from pv.collection import collect

    collected = collect(*given_by(args.paths))
    print(equations.as_latex(collected) if args.format == "latex" else equations.as_text(collected))
    decline(collected.declined)
    return 0 if equations.count(collected) and not collected.declined else 2
