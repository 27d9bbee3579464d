"""Run a prompt in every way that must give the same bits, and compare them."""

import argparse
import json

from engine.commands import MODEL, kv_cache_argument, note
from engine.errors import EngineError
from engine.variants import VARIANTS

PROMPT = "Return a list of the keys, in the order in which they were added to the dictionary."
EXAMPLE = "example: apr determinism tiny-qwen2 --json; exit codes: 0 equal, 1 different, 2 not measured"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "model",
        nargs="?",
        default="tiny-qwen2",
        metavar="MODEL",
        help=f"{MODEL} (default: %(default)s)",
    )
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default=PROMPT, metavar="TEXT", help="default: %(default)r")
    prompt.add_argument("--tokens", metavar="IDS", help="the ids of the prompt in place of its text, such as 5,17,99")
    parser.add_argument("--variant", metavar="NAME", help=f"cells of this one alone, of {', '.join(VARIANTS)}")
    kv_cache_argument(parser)
    parser.add_argument("--first", action="store_true", help="measure no more once two cells differ")
    parser.add_argument("--json", action="store_true", help="one JSON object (schema apr-determinism/1)")


def run(args: argparse.Namespace) -> int:
    from engine import determinism
    from engine.determinism_report import Report
    from engine.generate import check_prompt
    from engine.opening import open_model, sha256_of
    from engine.paths import kv_cache_named
    from engine.registry import locate

    kv_cache = kv_cache_named(args.kv_cache)
    opened = open_model(locate(args.model))
    model, config = opened.model, opened.model.config
    tokens = opened.tokenizer.encode(args.prompt) if args.tokens is None else token_ids(args.tokens, config.vocab)
    check_prompt(tokens, config.context, where="--prompt" if args.tokens is None else "--tokens")
    outcome = determinism.run(model.path, tokens, config.n_layers, args.variant, note, kv_cache, first=args.first)
    spots = outcome.differing()
    values = determinism.tensors_again(model.path, tokens, outcome, spots, kv_cache) if spots else None
    facts = {
        "name": config.name,
        "architecture": config.architecture,
        "file": str(model.path),
        "sha256": sha256_of(model.path),
    }
    report = Report(facts, tuple(tokens), outcome, spots, values, kv_cache)
    print(json.dumps(report.as_json()) if args.json else report.as_text())
    return outcome.exit_code


def token_ids(text: str, vocab: int) -> list[int]:
    """Ids from a list such as 5,17,99; raises EngineError for anything else."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word) < vocab):
            raise EngineError(
                f"{word!r} is no token of the model", where="--tokens", hint=f"write ids below {vocab}: 5,17,99"
            )
    return [int(word) for word in words]
