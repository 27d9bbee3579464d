"""Make tiny-qwen2, the model that travels with the package.

    python -m tools.make_tiny_qwen2 train --work /tmp/tiny
    python -m tools.make_tiny_qwen2 export --work /tmp/tiny
    python -m tools.make_tiny_qwen2 describe --work /tmp/tiny

`train` reads the standard library of the interpreter that runs it, trains a vocabulary and a model, and leaves both in
the work folder. `export` writes the two GGUF files. `describe` measures them and writes the page that says where they
come from. Needs the extras `oracles` and `test`; one thread, so that a seed gives the same weights on the same machine.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tools.tiny_corpus import documents
from tools.tiny_gguf import gguf_weights, write_gguf
from tools.tiny_page import FILES, Q4_K_M, provenance
from tools.tiny_train import CHECKPOINT, config, finished, token_streams, train_model, train_tokenizer

MODELS = Path(__file__).resolve().parent.parent / "engine" / "models"


def train(args: argparse.Namespace) -> int:
    """Train the vocabulary and the model, or go on where an interrupted training stopped."""
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    texts = documents()
    tokenizer = train_tokenizer(texts)
    tokenizer.save(str(args.work / "tokenizer.json"))
    streams = token_streams(tokenizer, texts)
    print(
        f"{len(texts)} documents; tokens: {len(streams.train)} to train on, {len(streams.held_out)} held out",
        flush=True,
    )

    def say(line: str) -> None:
        print(line, flush=True)

    train_model(streams, args.steps, args.seed, args.work / CHECKPOINT, say)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write the two GGUF files of a finished training."""
    state = finished(args.work / CHECKPOINT)
    weights = gguf_weights({name: values.numpy() for name, values in state["model"].items()})
    tokenizer = json.loads((args.work / "tokenizer.json").read_text("utf-8"))
    args.out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        path = args.out / name
        write_gguf(path, weights, config().to_dict(), tokenizer, k_quants=name == Q4_K_M)
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


def describe(args: argparse.Namespace) -> int:
    """Measure the two files and write README.md beside them."""
    torch.set_num_threads(1)
    texts = documents()
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    streams = token_streams(tokenizer, texts)
    state = finished(args.work / CHECKPOINT)
    page = provenance(args.out, texts, tokenizer, streams, state["steps"], state["seed"])
    (args.out / "README.md").write_text(page, "utf-8")
    print(page, end="")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The commands of this maker."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_tiny_qwen2", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("train", help=train.__doc__, description=train.__doc__)
    command.add_argument("--work", type=Path, required=True, help="folder for the vocabulary and the checkpoint")
    command.add_argument("--steps", type=int, default=4500, help="steps of 2048 tokens (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of weights and windows (default: %(default)s)")
    command.set_defaults(command=train)
    for name, function in (("export", export), ("describe", describe)):
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.add_argument("--work", type=Path, required=True, help="folder that `train` wrote")
        command.add_argument("--out", type=Path, default=MODELS, help="folder of the files (default: engine/models)")
        command.set_defaults(command=function)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.command(args)
    except (FileNotFoundError, ValueError) as error:
        print(f"make_tiny_qwen2: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
