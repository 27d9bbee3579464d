"""Compare two tensor files, or two trace folders, value by value."""

import argparse
import json
from pathlib import Path

from engine.errors import EngineError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="tensor file or trace folder")
    parser.add_argument(
        "b", type=Path, metavar="B", help="the same kind of thing; relative measures are relative to it"
    )
    parser.add_argument(
        "--values", action="store_true", required=True, help="compare values (the one kind of diff there is)"
    )
    parser.add_argument(
        "--limit", type=int, default=5, metavar="N", help="list the first N and the N largest differences (default: 5)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object (schema apr-diff/1)")


def run(args: argparse.Namespace) -> int:
    from engine.diff import diff as compare

    if args.limit < 0:
        raise EngineError(f"{args.limit} differences cannot be listed", where="--limit", hint="0 or more")
    report = compare(args.a, args.b, limit=args.limit)
    print(json.dumps(report.as_json()) if args.json else report.as_text())
    return report.exit_code
