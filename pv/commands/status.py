"""Show what every falsification test states, what it has earned, and why."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pv.commands.output import is_terminal

PATHS = "contracts, folders of them, or patterns; by default the project's"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--json", action="store_true", help="print the table as JSON (schema pv-status/1)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit 1 if a contract states more than it has earned, or evidence is damaged, 2 if no test has evidence "
        "of today; reads every file of "
        "evidence, where the table alone believes the index in the user's cache",
    )


def named(arguments: Sequence[str]) -> list[Path]:
    """The paths of the command line, with what matches a pattern in its place.

    PvError for a link that leads to itself, which has no place in any project, for a pattern that matches no contract
    or what cannot be read, and for standard input.
    """
    from pv.errors import PvError
    from pv.walk import find, is_pattern

    found: list[Path] = []
    for path in arguments:
        if path == "-":
            hint = "name the contract's file; a file of the name - is ./-"
            raise PvError("is standard input, and evidence is about files", where=path, hint=hint)
        if os.path.islink(os.path.realpath(path)):
            raise PvError("cannot be read: the link leads to itself", where=path)
        matched = find([Path(path)]) if is_pattern(Path(path)) else None
        for place, why in matched.declined if matched else ():
            raise PvError(why, where=place)
        found += matched.files if matched else [Path(path)]
    return found


def run(args: argparse.Namespace) -> int:
    from pv.config import content_around
    from pv.excerpt import printable
    from pv.paths import require
    from pv.places import shown
    from pv.status import exit_code, project_of, survey
    from pv.status_report import as_json, as_text

    paths = named(args.paths)
    project = project_of(paths, Path.cwd())
    require(*content_around(project.root))
    found = survey(project, paths, remember=not args.check)
    if is_terminal() and not args.json:
        from pv import terminal

        print(terminal.status(found), end="")
    else:
        print(as_json(found) if args.json else as_text(found))
    if not found.contracts:
        print("pv: nothing was measured: there is no contract", file=sys.stderr)
    missing = not os.path.lexists(project.evidence) and any(row.bound for row in found.rows)
    if missing:
        hint = "`pytest --falsify --record` makes it"
        print(printable(f"pv: there is no evidence: no folder {shown(project.evidence)}; {hint}"), file=sys.stderr)
    code = exit_code(found, check=args.check)
    if args.check and code == 2 and found.contracts and not missing:
        hint = "`pytest --falsify --record` makes it"
        print(f"pv: nothing was measured: no test has evidence of today; {hint}", file=sys.stderr)
    if args.check and code != 1:
        from pv.promote import overstated

        for why in overstated(found):
            print(printable(f"pv: {why}"), file=sys.stderr)
            code = 1
    return code
