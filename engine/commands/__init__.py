"""Commands of `apr` in modules of their own: each has `arguments` and `run`, and loads what it needs when it runs."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from engine.variants import KV_CACHES, VARIABLE, VARIANTS

if TYPE_CHECKING:
    from engine.model import Model
    from engine.opening import AnyTokenizer

MODEL = (
    "a GGUF file, a folder of the Hugging Face layout (safetensors), a registered name, or a pulled OWNER/NAME[:FILE]"
)
"""What a command that takes any model says about it."""
DEFAULT_MODEL = "tiny-qwen2"
MODEL_OR_DEFAULT = f"{MODEL} (default: {DEFAULT_MODEL}, which is part of the package)"
DEFAULT_PROMPT = "What is 2+2?"


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


def model_argument(parser: argparse.ArgumentParser) -> None:
    """The model of a command that has a default for it."""
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help=MODEL_OR_DEFAULT)


def variant_argument(parser: argparse.ArgumentParser) -> None:
    """Which kernels the fast path runs."""
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help=f"kernels of the fast path: {', '.join(VARIANTS)} (default: ${VARIABLE}, or else the fastest that the CPU "
        "has)",
    )


def fast_path_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that can run the fast path."""
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the fast path (default: all cores)")
    variant_argument(parser)
    kv_cache_argument(parser)


def execution_arguments(parser: argparse.ArgumentParser) -> None:
    """A prompt, and the path that runs it."""
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, metavar="TEXT", help="default: %(default)r")
    parser.add_argument("--path", default="fast", choices=("fast", "reference"), help="execution path (default: fast)")
    fast_path_arguments(parser)


def open_with_tokenizer(name: str) -> "tuple[Model, AnyTokenizer]":
    """The model of that name or path, and its tokenizer."""
    from engine.opening import open_model
    from engine.registry import locate

    opened = open_model(locate(name))
    return opened.model, opened.tokenizer


def encode(tokenizer: "AnyTokenizer", prompt: str, *, chat: bool) -> list[int]:
    """Token ids of a prompt; in a chat, of the model's template around it."""
    return tokenizer.encode_chat([{"role": "user", "content": prompt}]) if chat else tokenizer.encode(prompt)


def served_by(path: Any) -> str:
    """Which path and variant ran, for the line that every command prints."""
    threads = ""
    if path.name == "fast":
        slow = "" if path.threading == "omp" else f" by {path.threading}, slower than OpenMP, which is missing"
        threads = f", {path.kv_cache} cache, {path.threads} threads{slow}"
    return f"path {path.name}, variant {path.variant}{threads}"
