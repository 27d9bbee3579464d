"""Check contracts as `pv validate` does, and ask more of them: what is claimed is linked to what tries to break it,
what is stated is supported, and each test can be found and run. `pv explain` marks these rules with "lint".

A binding registry (binding.yaml, which function implements which equation) is read where one lies among the contracts.
"""

import argparse
from pathlib import Path

from pv.commands import validate


def arguments(parser: argparse.ArgumentParser) -> None:
    validate.arguments(parser)
    parser.add_argument(
        "--binding",
        metavar="FILE",
        type=Path,
        help="take this binding registry, and none that lies among the contracts",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="store_true",
        help="import the falsifiers too, each module in a process of its own: this runs code that the contracts name",
    )


def run(args: argparse.Namespace) -> int:
    return validate.run(args, lint=True, bindings=args.binding, imports=args.imports)
