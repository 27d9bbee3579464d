"""The engine's bars: its speed and memory beside llama.cpp and Transformers, and how they grow with the context.

    python -m benchmarks.engine [--models DIR] [--rounds 3] [--skip-7b] [--plot FILE.svg]

Needs `apr pull smollm2-135m` and the extra `oracles`. The file in the shapes of Qwen2-7B is written to DIR by
`apr synth` unless it lies there (4.7 GB). Engines run one after the other in processes of their own; a row's ratio is
of one run. Nothing here fails because it was slow.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BIG = "qwen2-7b-q4_k_m.gguf"
SMALL = "smollm2-135m"
PROMPT = "What is 2+2?"
CONTEXTS = (32, 128, 512, 1024, 2048, 4096)

FIRST_TOKEN = """\
import sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=64, n_threads=int(sys.argv[2]), n_threads_batch=int(sys.argv[2]), verbose=False)
llama.eval(llama.tokenize(sys.argv[3].encode(), add_bos=False))
"""

TRANSFORMERS = """\
import sys, time, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(int(sys.argv[2]))
folder, file = sys.argv[1].rsplit("/", 1)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
tokens = torch.arange(100, 228)[None]
with torch.no_grad():
    model(tokens)
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        model(tokens)
        print(128 / (time.perf_counter() - start))
"""

TRACED_FORWARD = """\
import shutil, sys, time
from pathlib import Path
from engine import stages
from engine.commands import open_with_tokenizer
from engine.paths import open_path
from engine.trace_folder import TraceWriter
model, tokenizer = open_with_tokenizer(sys.argv[1])
tokens, folder = tokenizer.encode(sys.argv[2]), Path(sys.argv[3])
for _ in range(int(sys.argv[4]) + 1):
    for traced in (False, True):
        path = open_path(model, "fast", capacity=len(tokens))
        shutil.rmtree(folder, ignore_errors=True)
        writer = TraceWriter(folder, stages=stages.NAMES, layers=range(model.config.n_layers))
        start = time.perf_counter()
        path.forward(tokens, tap=writer.tap if traced else None)
        print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-7b", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw speed against the context's length")
    args = parser.parse_args()
    rows = small(args.rounds)
    if not args.skip_7b:
        rows += big(args.models / BIG, args.rounds)
    print(f"{'work':<44}{'apr':>10}{'peer':>10}{'ratio':>8}  first bar")
    for work, ours, theirs, bar in rows:
        ratio = f"{ours / theirs:.2f}" if theirs else "-"
        print(f"{work:<44}{ours:>10.4g}{theirs or float('nan'):>10.4g}{ratio:>8}  {bar}")
    points = growth()
    print(f"\n{SMALL}, tokens per second by length of the context")
    for length, prefill, decode in points:
        print(f"{length:>6} tokens  prefill {prefill:8.1f}  decode {decode:7.1f}")
    if args.plot:
        args.plot.write_text(plot(points), encoding="utf-8")


Row = tuple[str, float, float, str]


def small(rounds: int) -> list[Row]:
    ours, theirs = bench(SMALL, 128, 64, rounds)
    found: list[Row] = [
        ("decode, SmolLM2 Q4_1, tok/s", ours["decode_tok_s"], theirs["decode_tok_s"], "1.5 x llama.cpp"),
        ("prefill 128, SmolLM2, tok/s", ours["prefill_tok_s"], theirs["prefill_tok_s"], "1.0 x the better of two"),
    ]
    file = output([*apr(), "inspect", SMALL, "--json"])
    lines = output([sys.executable, "-c", TRANSFORMERS, json.loads(file)["file"], str(threads()), str(rounds)])
    peer = statistics.median(map(float, lines.split()))
    return [*found, ("  beside Transformers, float32", ours["prefill_tok_s"], peer, "1.0 x the better of two")]


def big(file: Path, rounds: int) -> list[Row]:
    if not file.exists():
        subprocess.run([*apr(), "synth", "--like", "qwen2-7b", "--quant", "q4_k_m", str(file)], check=True)
    few_ours, few = bench(str(file), 32, 16, rounds)
    many_ours, many = bench(str(file), 128, 4, rounds)
    first = [*apr(), "run", str(file), "--prompt", PROMPT, "--max-tokens", "1"]
    peer = [sys.executable, "-c", FIRST_TOKEN, str(file), str(threads()), PROMPT]
    return [
        ("decode, 7B shape Q4_K_M, tok/s", few_ours["decode_tok_s"], few["decode_tok_s"], "1.3 x llama.cpp"),
        ("  GB/s, beside reading alone", few_ours["decode_gb_s"], few_ours["read_gb_s"], "(goal: 0.85)"),
        ("prefill 32, 7B shape, tok/s", few_ours["prefill_tok_s"], few["prefill_tok_s"], "1.2 x llama.cpp"),
        ("prefill 128, 7B shape, tok/s", many_ours["prefill_tok_s"], many["prefill_tok_s"], "1.2 x llama.cpp"),
        ("7B: process start to first token, s", taken(first, rounds), taken(peer, rounds), "0.5 x llama.cpp"),
        ("7B: peak memory beside the file's size, MB", few_ours["peak_bytes"] / 1e6, file.stat().st_size / 1e6, "1.15"),
        *traced(str(file), rounds),
    ]


def traced(model: str, rounds: int) -> list[Row]:
    """All stages and layers of 7 tokens; the forward alone beside the untraced one and copying the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        trace = [*apr(), "trace", model, "--prompt", PROMPT, "--save-tensor", "all", "--output", f"{folder}/t"]
        whole = taken(trace, rounds)
        copy = taken(["sh", "-c", f"find {folder}/t -name '*.bin' -print0 | xargs -0 cat > {folder}/copy"], rounds)
        command = [sys.executable, "-c", TRACED_FORWARD, model, PROMPT, f"{folder}/t", str(rounds)]
        seconds = [float(line) for line in output(command).split()][2:]  # the first of each is not counted
    plain, forward = statistics.median(seconds[::2]), statistics.median(seconds[1::2])
    return [
        ("trace, 20 stages, all layers, with load, s", whole, 0.0, "10 s"),
        ("  forward alone, beside 1.5 x untraced + cat", forward, 1.5 * plain + copy, "1.0"),
    ]


def growth() -> list[tuple[int, float, float]]:
    points = []
    for length in CONTEXTS:
        found = json.loads(output([*apr(), "bench", SMALL, "--prompt", str(length), "--rounds", "1", "--json"]))
        ours = found["engines"]["apr"]
        points.append((length, ours["prefill_tok_s"]["median"], ours["decode_tok_s"]["median"]))
    return points


def bench(model: str, prompt: int, tokens: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of `apr bench`: ours and llama.cpp's."""
    numbers = ["--prompt", str(prompt), "--tokens", str(tokens), "--rounds", str(rounds)]
    found: dict[str, Any] = json.loads(output([*apr(), "bench", model, *numbers, "--vs-llama-cpp", "--json"]))
    ours, theirs = ({name: each["median"] for name, each in found["engines"][e].items()} for e in ("apr", "llama.cpp"))
    return ours, theirs


def apr() -> list[str]:
    return [shutil.which("apr", path=str(Path(sys.executable).parent)) or "apr"]


def threads() -> int:
    return len(os.sched_getaffinity(0))


def output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def taken(command: list[str], rounds: int) -> float:
    """Median seconds of whole processes, after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


WIDTH, HEIGHT, MARGIN = 560, 320, 50


def plot(points: list[tuple[int, float, float]]) -> str:
    """An SVG of both speeds, each relative to its own fastest, over the length of the context (logarithmic)."""
    first, last = points[0][0], points[-1][0]
    bottom = HEIGHT - MARGIN

    def place(length: int, share: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * math.log2(length / first) / math.log2(last / first)
        return x, bottom - (bottom - MARGIN) * share

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x0, y), (x1, _) = (place(length, share) for length in (first, last))
        parts.append(f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>')
        parts.append(f'<text x="8" y="{y + 4:.1f}" font-size="12">{share:.0%}</text>')
    for length, *_ in points:
        x, y = place(length, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" font-size="12" text-anchor="middle">{length}</text>')
    for column, (name, colour) in enumerate((("prefill", "#1f77b4"), ("decode", "#d62728")), start=1):
        best = max(point[column] for point in points)
        at = [place(int(point[0]), point[column] / best) for point in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = f"{name}: 100% are {best:.0f} tok/s"
        parts.append(f'<text x="{MARGIN}" y="{16 * column}" font-size="13" fill="{colour}">{legend}</text>')
    label = "tokens of context"
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" font-size="12" text-anchor="middle">{label}</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
