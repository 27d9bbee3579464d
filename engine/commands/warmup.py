"""Compile the kernels of the fast path now, for images and CI, and remove old ones of other versions."""

import argparse
import time
from pathlib import Path

from engine.commands import note, variant_argument
from engine.variants import KV_CACHES


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="compile what these need (default: all formats)")
    variant_argument(parser)


def run(args: argparse.Namespace) -> int:
    from engine import variants
    from engine.model import read_model
    from engine.opening import open_file
    from engine.registry import locate

    models = [read_model(open_file(locate(name))) for name in args.models]
    variants.choose(args.variant)
    from engine.formats import FORMATS
    from engine.kernel_folders import prune
    from engine.kernels import prepared
    from engine.warmup import compile_kernels, formats_of

    start = time.perf_counter()
    names = {name for model in models for name in formats_of(model)} or {fmt.name for fmt in FORMATS.values()}
    compiled = compile_kernels(names, note, KV_CACHES)
    print(f"{compiled} kernels compiled in {time.perf_counter() - start:.1f} s, kept in {prepared.FOLDER}")
    current = Path(prepared.FOLDER)
    folders, nbytes = prune(current)
    if folders:
        print(f"{folders} folders of other versions' kernels removed from {current.parent}: {nbytes:,} bytes")
    return 0
