"""Console script `pv`.

A command is a function from its arguments to an exit code (0 accept, 1 reject, 2 decline), entered in `build_parser`.
Commands import what they need when they run, so that `pv --version` starts at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from pv.errors import PvError


def validate(args: argparse.Namespace) -> int:
    """Check contracts and list what is wrong with them."""
    from pathlib import Path

    from pv import report
    from pv.validate import validate

    verdict = validate([Path(path) for path in args.paths])
    _show(report.as_json(verdict) if args.json else report.as_text(verdict), colour=not args.json)
    return verdict.code


def status(args: argparse.Namespace) -> int:
    """Show what every falsification test states, what it has earned, and why."""
    from pathlib import Path

    from pv import status as report

    paths = [Path(path) for path in args.paths]
    found = report.survey(report.project_of(paths, Path.cwd()), paths)
    if _is_terminal() and not args.json:
        from pv import terminal

        print(terminal.status(found), end="")
    else:
        print(report.as_json(found) if args.json else report.as_text(found))
    if not found.contracts:
        print("pv: nothing was measured: there is no contract", file=sys.stderr)
    code = report.exit_code(found, check=args.check)
    if args.check and not code:
        from pv.promote import overstated

        for why in overstated(found):
            print(f"pv: {why}", file=sys.stderr)
            code = 1
    return code


def promote(args: argparse.Namespace) -> int:
    """Compute the level of every falsification test, and with --write make the contracts state it."""
    from pathlib import Path

    from pv import promote as promotion
    from pv.status import project_of, survey

    paths = [Path(path) for path in args.paths]
    found = survey(project_of(paths, Path.cwd()), paths)
    due = promotion.promote(found)
    _show(promotion.as_text(found, due))
    if found.problems:
        print("pv: nothing is promoted while something cannot be read", file=sys.stderr)
        return 1
    if not found.contracts or not found.records:
        missing = "evidence: run `pytest --falsify --record`" if found.contracts else "contract"
        print(f"pv: nothing was measured: there is no {missing}", file=sys.stderr)
        return 2
    for contract, edits in due if args.write else ():
        promotion.write(contract, edits)
    return 1 if due and not args.write else 0


def _show(text: str, *, colour: bool = True) -> None:
    """Print a verdict, in colours if a person reads it at a terminal."""
    if colour and _is_terminal():
        from pv import terminal

        print(terminal.coloured(text), end="")
    else:
        print(text)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        from importlib.metadata import version

        print(f"pv {version('pv-contracts')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pv",
        description="Contracts, evidence, and the levels computed from it.",
        epilog="exit codes: 0 accept, 1 reject (measured, and wrong), 2 decline (nothing measured)",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("validate", help="check contracts", description=validate.__doc__)
    command.add_argument("paths", nargs="*", metavar="PATH", help="contracts, or folders of them (*.yaml, *.yml)")
    command.add_argument("--json", action="store_true", help="print the verdict as JSON (schema pv-validate/1)")
    command.set_defaults(command=validate)

    where = "contracts, or folders of them; by default the project's"
    command = commands.add_parser("status", help="show stated and earned levels", description=status.__doc__)
    command.add_argument("paths", nargs="*", metavar="PATH", help=where)
    command.add_argument("--json", action="store_true", help="print the table as JSON (schema pv-status/1)")
    command.add_argument(
        "--check",
        action="store_true",
        help="exit 1 if a contract states more than it has earned, or evidence is damaged",
    )
    command.set_defaults(command=status)

    command = commands.add_parser("promote", help="write earned levels into contracts", description=promote.__doc__)
    command.add_argument("paths", nargs="*", metavar="PATH", help=where)
    command.add_argument(
        "--write", action="store_true", help="edit the contracts; without it, exit 1 if an edit is due"
    )
    command.set_defaults(command=promote)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow encoding must not end in a traceback
    args = build_parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except PvError as error:
        print(f"pv: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, say `head`, has seen enough: no verdict of ours
        _discard_output()
        return 141
    except OSError as error:
        if error.filename is not None:
            raise  # not the output's: whoever opens a file names it in a PvError
        _discard_output()
        print(f"pv: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
