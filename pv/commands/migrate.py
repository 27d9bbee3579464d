"""Rewrite old spellings of contracts to today's: keys of obligations and tests, and a `kind` outside of metadata.

Comments, quotes, order and every other byte stay; evidence about a rewritten test has to be recorded again.

Without --write, print a unified diff and exit 1 if something is due. Exit 2 where something could not be read, or has
to be decided by a person: two spellings of one key at once.
"""

import argparse

from pv.commands.given import PATHS, given_by
from pv.commands.output import decline


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=PATHS)
    parser.add_argument("--write", action="store_true", help="edit the contracts; without it, exit 1 if an edit is due")


def run(args: argparse.Namespace) -> int:
    from pv import migrate
    from pv.collection import collect
    from pv.errors import PvError

    if args.write and "-" in args.paths:
        hint = "name the file, or leave out --write: that prints what would change"
        raise PvError("is standard input: --write has no file to edit", where="-", hint=hint)
    found = migrate.migrations(collect(*given_by(args.paths)))
    for one in found.due:
        if args.write:
            migrate.write(one)
        else:
            print("\n".join(one.diff()))
    print(migrate.summary(found, written=args.write))
    decline(found.declined)
    return found.code_written if args.write else found.code
