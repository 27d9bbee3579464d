"""Measure load, prefill, decode, bandwidth and memory of the fast path on a model."""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from engine.commands import MODEL, fast_path_arguments, note, open_with_tokenizer

if TYPE_CHECKING:
    from engine.model import Model

EXAMPLE = "example: apr bench smollm2-135m --prompt 128 --tokens 64 --vs-llama-cpp"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--prompt", type=int, default=128, metavar="N", help="tokens of the prompt (default: 128)")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="tokens decoded after it (default: 32)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds that count (default: 3)")
    fast_path_arguments(parser)
    parser.add_argument("--vs-llama-cpp", action="store_true", help="measure llama.cpp beside it (extra `oracles`)")
    parser.add_argument("--json", action="store_true", help="one JSON object (schema apr-bench/1)")


def run(args: argparse.Namespace) -> int:
    from engine import bench
    from engine.errors import EngineError
    from engine.opening import is_single, open_file, weights_nbytes
    from engine.paths import open_path
    from engine.registry import locate

    for flag in ("prompt", "tokens", "rounds"):
        if getattr(args, flag) < 1:
            raise EngineError(f"{getattr(args, flag)} measures nothing", where=f"--{flag}", hint="1 or more")
    place = locate(args.model)
    if args.vs_llama_cpp:
        if not is_single(place):
            raise EngineError("llama.cpp reads GGUF files alone", where="--vs-llama-cpp", hint="leave it out")
        bench.require_llama_cpp()
    threads = len(os.sched_getaffinity(0)) if args.threads is None else args.threads
    plan = bench.Plan(prompt=args.prompt, decoded=args.tokens, rounds=args.rounds, threads=threads)

    def opened() -> "tuple[Model, Any]":
        model, _ = open_with_tokenizer(args.model)
        room = model.config.context
        if plan.prompt + plan.decoded > room:
            raise EngineError(
                f"{plan.prompt} + {plan.decoded} tokens, the model's context is {room}",
                where="--prompt",
                hint="fewer tokens",
            )
        capacity = plan.prompt + plan.decoded
        path = open_path(
            model, "fast", capacity=capacity, threads=threads, variant=args.variant, kv_cache=args.kv_cache, tell=note
        )
        served.add((path.variant, path.kv_cache))
        return model, path

    served = set[tuple[str, str | None]]()
    engines = {"apr": bench.summary(bench.measure(opened, plan))}
    if args.vs_llama_cpp:
        engines["llama.cpp"] = bench.summary(bench.beside(place, plan))
    ((variant, kv_cache),) = served
    report = {
        "schema": "apr-bench/1",
        "model": args.model,
        "file": str(place),
        "file_bytes": place.stat().st_size if is_single(place) else weights_nbytes(open_file(place)),
        "variant": variant,
        "kv_cache": kv_cache,
        "threads": threads,
        "rounds": args.rounds,
        "prompt_tokens": args.prompt,
        "decoded_tokens": args.tokens,
        "engines": engines,
    }
    print(json.dumps(report) if args.json else bench.as_text(report))
    return 0
