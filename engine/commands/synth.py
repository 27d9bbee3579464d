"""Write a model file in the shapes of a well-known model, with random weights, to measure speed and memory with."""

import argparse
from pathlib import Path

from engine.commands import note

EXAMPLE = "example: apr synth --like qwen2-7b --quant q4_k_m /tmp/qwen2-7b.gguf"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "--like",
        required=True,
        metavar="NAME",
        help="whose shapes: qwen2-7b, qwen2.5-0.5b, llama-3.2-1b or smollm2-135m",
    )
    parser.add_argument(
        "--quant",
        required=True,
        metavar="MIX",
        help="formats of the weights, mixed as llama.cpp does: q4_0, q4_1, q5_0, q5_1, q8_0, q4_k_s, q4_k_m, q5_k_s, "
        "q5_k_m, q6_k, f16, bf16 or f32",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same gives the same bytes (default: 0)")
    parser.add_argument("out", metavar="OUT", help="the GGUF file to write; nothing that exists is overwritten")


def run(args: argparse.Namespace) -> int:
    from engine.mixes import mix_named
    from engine.synth import synthesise

    mix = mix_named(args.quant, "--quant")
    size = synthesise(args.like, mix, Path(args.out), seed=args.seed, tell=note)
    print(f"{args.out}: {size:,} bytes, random weights in the shapes of {args.like}, {mix.name}")
    return 0
