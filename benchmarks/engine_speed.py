"""Speed of the fast path on a model: load, prefill and decode, beside llama.cpp where it is installed.

Each engine runs in a process of its own, one after the other, with the same threads on the same tokens; medians
are taken over rounds that each start from an empty cache. The first round, in which kernels are compiled and pages are
read, is not counted.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ENGINES = ("pv", "llama.cpp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny-qwen2", help="file or registered name (default: %(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that are decoded (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: %(default)s")
    parser.add_argument("--only", choices=ENGINES, help="measure one engine, in this process, and print JSON")
    args = parser.parse_args()
    if min(args.prompt, args.tokens, args.rounds, args.threads) < 1:
        parser.error("each number must be at least 1")
    if args.only:
        measured = measure(pv_engine if args.only == "pv" else llama_cpp_engine, args)
        print(json.dumps(measured))
        return 0
    engines = [name for name in ENGINES if name == "pv" or importlib.util.find_spec("llama_cpp")]
    results = {}
    for name in engines:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name], stdout=subprocess.PIPE)
        if done.returncode:
            return done.returncode
        results[name] = json.loads(done.stdout)
    print(f"{args.model}: prompt {args.prompt}, decoded {args.tokens}, {args.threads} threads, {args.rounds} rounds")
    print(f"{'engine':<12} {'load s':>9} {'prefill tok/s':>14} {'decode tok/s':>13}")
    for name, row in results.items():
        print(f"{name:<12} {row['load']:9.3f} {row['prefill']:14.1f} {row['decode']:13.1f}")
    if len(results) == 2:
        ours, theirs = results["pv"], results["llama.cpp"]
        ratios = ours["load"] / theirs["load"], ours["prefill"] / theirs["prefill"], ours["decode"] / theirs["decode"]
        print(f"{'pv / llama':<12} {ratios[0]:9.2f} {ratios[1]:14.2f} {ratios[2]:13.2f}")
    else:
        print("llama.cpp is not installed: install the extra `oracles` to see it beside")
    return 0


Runner = tuple[Callable[[], None], Callable[[Sequence[int]], Any], int]
"""Empties the cache; runs tokens; size of the vocabulary."""


def measure(load: Callable[[argparse.Namespace], Runner], args: argparse.Namespace) -> dict[str, float]:
    """Medians: load in seconds, prefill and decode in tokens per second."""
    seconds: dict[str, list[float]] = {"load": [], "prefill": [], "decode": []}
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        empty, run, vocabulary = load(args)
        empty()
        loaded = time.perf_counter()
        prompt = [(37 * i + 11) % vocabulary for i in range(args.prompt)]
        run(prompt)
        prefilled = time.perf_counter()
        for i in range(args.tokens):
            run([(53 * i + 7) % vocabulary])
        decoded = time.perf_counter()
        seconds["load"].append(loaded - start)
        seconds["prefill"].append(prefilled - loaded)
        seconds["decode"].append(decoded - prefilled)
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    return {
        "load": median["load"],
        "prefill": args.prompt / median["prefill"],
        "decode": args.tokens / median["decode"],
    }


def pv_engine(args: argparse.Namespace) -> Runner:
    from engine.cli import open_with_tokenizer
    from engine.paths import open_path

    model, _ = open_with_tokenizer(args.model)
    path = open_path(model, "fast", capacity=args.prompt + args.tokens, threads=args.threads)
    return lambda: None, path.forward, model.config.vocab


def llama_cpp_engine(args: argparse.Namespace) -> Runner:
    from llama_cpp import Llama

    from engine.registry import locate

    llama = Llama(
        str(locate(args.model)),
        n_ctx=args.prompt + args.tokens,
        n_threads=args.threads,
        n_threads_batch=args.threads,
        verbose=False,
    )
    return llama.reset, llama.eval, llama.n_vocab()


if __name__ == "__main__":
    raise SystemExit(main())
