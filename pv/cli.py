"""Console script `pv`.

A command is a module of pv.commands, imported when it is called: `pv --version` and every command start at once.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pv.errors import PvError

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "validate": ("pv.commands.validate", "check contracts"),
        "lint": ("pv.commands.lint", "check contracts, audit and style on top"),
        "explain": ("pv.commands.explain", "tell what a rule asks, and why"),
        "status": ("pv.commands.status", "show stated and earned levels"),
        "ledger": ("pv.commands.ledger", "show levels with their evidence, what moved them, and milestones"),
        "gate": ("pv.commands.gate", "reject what a branch would take away from the ledger"),
        "promote": ("pv.commands.promote", "write earned levels into contracts"),
        "evidence": ("pv.commands.evidence", "verify, unite, tidy and sign recorded evidence"),
        "replay": ("pv.commands.replay", "make the trial of a record again"),
        "coverage": ("pv.commands.coverage", "show which obligations are tested, by id"),
        "obligations": ("pv.commands.obligations", "list proof obligations and what tries to break them"),
        "equations": ("pv.commands.equations", "print equations as text or LaTeX"),
        "graph": ("pv.commands.graph", "show which contract depends on which"),
        "diff": ("pv.commands.diff", "compare two versions of contracts and judge their version numbers"),
        "schema": ("pv.commands.schema", "print the JSON Schema of contracts"),
        "new": ("pv.commands.new", "start a contract and its falsifier"),
        "migrate": ("pv.commands.migrate", "rewrite old spellings of contracts"),
        "completion": ("pv.commands.completion", "print a script that completes commands in a shell"),
    }
)
"""By name: the module, and what it does in a few words."""


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        from importlib.metadata import version

        print(f"pv {version('pv-contracts')}")
        parser.exit()


def build_parser(names: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser with all commands, of which only those in `names` know their flags."""
    parser = argparse.ArgumentParser(
        prog="pv",
        description="Contracts, evidence, and the levels computed from it.",
        epilog="exit codes: 0 accept, 1 reject (measured, and wrong), 2 decline (nothing measured)",
        allow_abbrev=False,  # --str would be --strict today, and another flag when one of that beginning comes
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, words) in COMMANDS.items():
        if name in names:
            found = importlib.import_module(module)
            command = commands.add_parser(
                name,
                help=words,
                description=found.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
            found.arguments(command)
            command.set_defaults(run=found.run, refuse=command.error)
        else:
            commands.add_parser(name, help=words, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    if sys.stderr is None:  # closed: what is printed there would end up among the output
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if sys.stdout is None:
        print("pv: the output cannot be written: it is closed", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow encoding must not end in a traceback
    arguments = sys.argv[1:] if argv is None else list(argv)
    args, unknown = build_parser(arguments[:1]).parse_known_args(arguments)
    if unknown:  # told by the command's own parser, which shows the flags that it has
        args.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    if "" in arguments:  # as a path it would mean the current folder
        args.refuse("an argument is empty: a variable that is not set?")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except PvError as error:
        print(f"pv: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, say `head`, has seen enough: no verdict of ours
        _discard_output()
        return 141
    except OSError as error:
        if error.filename is not None and error.errno == errno.ENAMETOOLONG:  # told by a mere look at a path
            from pv.excerpt import printable

            print(printable(f"pv: {error.filename}: cannot be read: {error.strerror}"), file=sys.stderr)
            return 2
        if error.filename is not None:
            raise  # not the output's: whoever opens a file names it in a PvError
        if isinstance(error, FileNotFoundError):  # without a name: from asking where we are
            print("pv: the current folder is gone", file=sys.stderr)
            return 2
        _discard_output()
        print(f"pv: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
