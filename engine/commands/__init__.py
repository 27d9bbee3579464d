"""Commands of `apr` in modules of their own: each has `arguments` and `run`, and loads what it needs when it runs."""

import argparse
import sys

from engine.variants import KV_CACHES

MODEL = (
    "a GGUF file, a folder of the Hugging Face layout (safetensors), a registered name, or a pulled OWNER/NAME[:FILE]"
)
"""What a command that takes any model says about it."""


def note(text: str) -> None:
    """A line beside the result: standard error, so that the result can be piped."""
    print(f"apr: {text}", file=sys.stderr)


def kv_cache_argument(parser: argparse.ArgumentParser) -> None:
    """The flag of every command that runs the fast path."""
    parser.add_argument(
        "--kv-cache",
        metavar="KIND",
        help=f"keys and values in the fast path's cache: {' or '.join(KV_CACHES)} (default: {KV_CACHES[0]}). float16 "
        "takes half the memory, and long contexts decode faster; each key and value is rounded once, to the nearest, "
        "and becomes infinity from 65520 on",
    )
