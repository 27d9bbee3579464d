"""Say what a model consists of."""

import argparse
import json

from engine.commands import model_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object (schema apr-inspect/1)")


def run(args: argparse.Namespace) -> int:
    from engine.inspection import describe, render
    from engine.registry import locate

    facts = describe(locate(args.model))
    print(json.dumps(facts) if args.json else render(facts))
    return 0
