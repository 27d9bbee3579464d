"""Start a contract, and the module of its falsifiers, in the project around the current folder.

The contract is valid at once; `pytest --falsify` is red until the falsifier and its mutant are written. Nothing that
exists is overwritten.
"""

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="such as rmsnorm-kernel; makes rmsnorm-kernel-v1.yaml")
    parser.add_argument(
        "--falsifiers",
        default="falsifiers",
        metavar="PACKAGE",
        help="first-party package for the module; by default falsifiers",
    )


def run(args: argparse.Namespace) -> int:
    from pv.excerpt import printable
    from pv.new import start
    from pv.places import shown

    made = start(args.name, args.falsifiers, Path.cwd())
    lines = [f"wrote {shown(file)}" for file in made.files]
    if made.missing:
        lines += ["add to pyproject.toml:", *(f"    {line}" for line in made.missing)]
    lines += [
        "then say what is promised, write the falsifier and its mutant, and try them:",
        f"    pv validate {shown(made.contract)}",
        f"    pytest --falsify {shown(made.contract)}",
    ]
    print("\n".join(map(printable, lines)))
    return 0
