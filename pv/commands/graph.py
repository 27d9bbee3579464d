"""Show which contract depends on which, dependencies first; a name that no contract of the run has is dashed.

Exit 1 where there is a cycle; 2 where there is no contract, or something could not be read.
"""

import argparse

from pv.commands.given import PATHS, given_by
from pv.commands.output import decline

FORMATS = ("text", "dot", "json", "mermaid")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--format", choices=FORMATS, default="text", help="what to print; by default text")


def run(args: argparse.Namespace) -> int:
    from pv import graph
    from pv.collection import collect

    found = graph.graph(collect(*given_by(args.paths)))
    printers = {"text": graph.as_text, "dot": graph.as_dot, "json": graph.as_json, "mermaid": graph.as_mermaid}
    print(printers[args.format](found))
    decline(found.declined)
    return found.code
