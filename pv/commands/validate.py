"""Check contracts and list what is wrong with them.

Settings (severities, suppressions, a baseline) are read from [tool.pv] of the pyproject.toml around the current folder.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pv.commands.given import PATHS, given_by
from pv.commands.output import show
from pv.processes import available

if TYPE_CHECKING:
    from pv.validate import Verdict

FORMATS = ("text", "json", "sarif", "github", "junit")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=PATHS,
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="for people (text, the default), programs (json), or a CI service",
    )
    form.add_argument(
        "--json", dest="format", action="store_const", const="json", help="short for --format json (pv-validate/1)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--notes", action="store_true", help="show notes in text too, which only counts them")
    length.add_argument("-q", "--quiet", action="store_true", help="of the text, print the last line alone")
    parser.add_argument("--strict", action="store_true", help="warnings reject as errors do")
    parser.add_argument(
        "--write-baseline",
        action="store_true",
        help="write what is found to the baseline of the settings; one that is there already only shrinks",
    )
    parser.add_argument(
        "--accept-new", action="store_true", help="with --write-baseline: new findings are taken into it too"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=available(),
        help="how many processes share many files; by default one for each core",
    )
    parser.add_argument("--no-cache", action="store_true", help="measure again what was measured before, keep nothing")


def run(args: argparse.Namespace, *, lint: bool = False, bindings: Path | None = None, imports: bool = False) -> int:
    """Exit code of `pv validate` and, with `lint`, of `pv lint`; the rest as of pv.validate.validate."""
    from pv.cache import open_cache  # before all the rest: it digests what will be run

    cache = None if args.no_cache else open_cache()

    import gc

    from pv.errors import PvError
    from pv.excerpt import printable
    from pv.places import shown
    from pv.progress import Progress
    from pv.settings import settings_around
    from pv.validate import validate

    def measured() -> "Verdict":
        settings = settings_around(Path.cwd(), renewing=args.write_baseline)
        there = [Path(shown(settings.contracts))] if os.path.exists(settings.contracts) else []
        with Progress() as progress:
            return validate(
                paths or there,
                lint=lint,
                strict=args.strict,
                settings=settings,
                step=progress.step,
                bindings=bindings,
                given=given,
                jobs=args.jobs,
                cache=cache,
                imports=imports,
            )

    gc.freeze()  # what is loaded by now stays: the collector need not look at it again for each file
    if args.jobs < 1:
        raise PvError(f"--jobs must be at least 1, not {args.jobs}")
    if args.accept_new and not args.write_baseline:
        raise PvError("--accept-new means nothing without --write-baseline")
    if args.format != "text" and (args.notes or args.quiet):
        raise PvError(f"--notes and --quiet are about text: {args.format} always holds all findings")
    paths, given = given_by(args.paths)
    verdict = measured()
    if args.write_baseline:
        from pv.renew import renew

        print(f"pv: {printable(renew(verdict, accept_new=args.accept_new))}", file=sys.stderr)
        verdict = measured()  # by what was written: what is printed is what the next run says
    show(_rendered(verdict, args), colour=args.format == "text")
    return verdict.code


def _rendered(verdict: "Verdict", args: argparse.Namespace) -> str:
    from pv import report

    match args.format:
        case "json":
            return report.as_json(verdict)
        case "sarif":
            from pv.sarif import as_sarif

            return as_sarif(verdict)
        case "github":
            from pv.github import as_github

            return as_github(verdict)
        case "junit":
            from pv.junit import as_junit

            return as_junit(verdict)
    return report.as_text(verdict, notes=args.notes, quiet=args.quiet)
