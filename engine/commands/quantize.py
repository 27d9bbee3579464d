"""Write a model file anew in smaller formats, by a search for the scales that leave the smallest squared error."""

import argparse
from pathlib import Path

from engine.commands import note

EXAMPLE = "example: apr quantize model-f16.gguf model-q4_k_m.gguf --type q4_k_m"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument("model", metavar="IN", help="a GGUF file in F32, F16 or BF16, or a registered name")
    parser.add_argument("out", metavar="OUT", help="the GGUF file to write; nothing that exists is overwritten")
    parser.add_argument(
        "--type",
        required=True,
        metavar="MIX",
        help="formats of the weights, mixed as llama.cpp does: q4_0, q4_1, q5_0, q5_1, q8_0, q4_k_s, q4_k_m, q5_k_s, "
        "q5_k_m, q6_k, f16, bf16 or f32",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: all cores; the bytes do not depend on it")


def run(args: argparse.Namespace) -> int:
    from engine.errors import EngineError
    from engine.gguf import read_gguf
    from engine.mixes import mix_named
    from engine.opening import is_single
    from engine.quantise_file import quantise_file
    from engine.registry import locate

    mix = mix_named(args.type, "--type")
    place = locate(args.model)
    if not is_single(place):
        raise EngineError(
            "is no GGUF file, and only those can be quantised",
            where=str(place),
            hint="convert it first, with convert_hf_to_gguf.py of llama.cpp",
        )
    file = read_gguf(place)
    size = quantise_file(file, mix, Path(args.out), threads=args.threads, tell=note)
    print(f"{args.out}: {size:,} bytes, {mix.name}; {file.path} has {file.data.size:,}")
    return 0
