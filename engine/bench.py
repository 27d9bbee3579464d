"""How fast the fast path is on a model: load, prefill, decode, memory, and how fast memory can be read at all.

A round opens the model anew, reads all of its weights as fast as the threads can (the probe), runs a prompt and then
single tokens. A first round, in which pages are read and kernels compiled, is not counted. What a token must read are
the bytes of all weights but the embedding's other rows; the rate at which it reads them stands beside the probe's.

JSON (`apr bench --json`), schema apr-bench/1; each measure is {"median", "low", "high"} over its samples:

    {"schema": "apr-bench/1", "model", "file", "file_bytes", "variant", "kv_cache", "threads", "rounds",
     "prompt_tokens", "decoded_tokens", "engines": {"apr": {"load_s", "prefill_tok_s", "decode_tok_s", "decode_gb_s",
     "read_gb_s", "peak_bytes"}, "llama.cpp": {"load_s", "prefill_tok_s", "decode_tok_s", "peak_bytes"}}}
"""

import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.model import Model

Samples = dict[str, list[float]]
PART = 1 << 18
"""Bytes that a thread of the probe reads at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: tokens of the prompt, tokens that are decoded one by one, rounds that count."""

    prompt: int
    decoded: int
    rounds: int
    threads: int

    def tokens(self, vocab: int) -> tuple[list[int], list[int]]:
        """The prompt and the tokens after it: any, since speed does not hang on them."""
        return [(37 * i + 11) % vocab for i in range(self.prompt)], [(53 * i + 7) % vocab for i in range(self.decoded)]


def measure(opened: Callable[[], tuple[Model, Any]], plan: Plan) -> Samples:
    """Samples of a model that `opened` opens, with a path of the plan's threads and an empty cache."""
    found: Samples = {name: [] for name in ("load_s", "prefill_tok_s", "decode_tok_s", "decode_gb_s", "read_gb_s")}
    for round_ in range(plan.rounds + 1):
        gc.collect()  # the last round's model: its pages must not be counted twice
        start = time.perf_counter()
        model, path = opened()
        loaded = time.perf_counter()
        read = weights_read(model)
        reading = probed(read, plan.threads)
        prompt, single = plan.tokens(model.config.vocab)
        prefill = _timed(path.forward, prompt)
        seconds = [_timed(path.forward, [token]) for token in single]
        if round_:
            size = sum(part.nbytes for part in read)
            found["load_s"].append(loaded - start)
            found["read_gb_s"].append(size / reading / 1e9)
            found["prefill_tok_s"].append(plan.prompt / prefill)
            found["decode_tok_s"] += [1 / taken for taken in seconds]
            found["decode_gb_s"] += [size / taken / 1e9 for taken in seconds]
        del model, path, read
    return found | {"peak_bytes": [float(peak_bytes())]}


def _timed(run: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def weights_read(model: Model) -> list[NDArray[np.uint8]]:
    """The bytes that a token reads: of every layer and of the output matrix, as they lie in the file."""
    weights = [weight for layer in model.layers for weight in (layer.q, layer.k, layer.v, layer.attn_out)]
    weights += [weight for layer in model.layers for weight in (layer.gate, layer.up, layer.down)]
    return [weight.raw.reshape(-1) for weight in (*weights, model.output)]


def probed(read: Sequence[NDArray[np.uint8]], threads: int) -> float:
    """Seconds for reading every byte once, by several threads."""
    import numba

    from engine.kernels import probe

    parts = probe.parts_of(read, PART)
    sums = np.zeros((len(parts), 16), np.int32)
    numba.set_num_threads(threads)
    probe.read(parts, sums)  # compiled, or found in the cache; and every page is mapped
    return _timed(lambda: probe.read(parts, sums))


def peak_bytes() -> int:
    """The largest resident memory that this process had, mapped pages of the file counted once. Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024


def require_llama_cpp() -> None:
    """EngineError where llama.cpp is not installed: before anything is measured."""
    if importlib.util.find_spec("llama_cpp") is None:
        hint = "pip install 'pv-contracts[oracles]'"
        raise EngineError("llama.cpp is not installed", where="--vs-llama-cpp", hint=hint)


def beside(file: Path, plan: Plan) -> Samples:
    """The same of llama.cpp, in a process of its own. EngineError where it fails."""
    numbers = [str(number) for number in (plan.prompt, plan.decoded, plan.rounds, plan.threads)]
    command = [sys.executable, "-m", "engine.bench_llama_cpp", str(file.absolute()), *numbers]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise EngineError(f"llama.cpp could not be measured: {why[0]}", where="--vs-llama-cpp")
    samples: Samples = json.loads(done.stdout)
    return samples


def summary(samples: Samples) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each measure."""
    return {
        name: {"median": statistics.median(taken), "low": min(taken), "high": max(taken)}
        for name, taken in samples.items()
    }


ROWS = {
    "load_s": ("load", "s", 1.0),
    "prefill_tok_s": ("prefill", "tok/s", 1.0),
    "decode_tok_s": ("decode", "tok/s", 1.0),
    "decode_gb_s": ("weights read in decoding", "GB/s", 1.0),
    "read_gb_s": ("reading alone", "GB/s", 1.0),
    "peak_bytes": ("peak memory", "MB", 1e-6),
}


def as_text(report: dict[str, Any]) -> str:
    """A table: a line for each measure, engines side by side, and the ratio where there are two."""
    engines = report["engines"]
    lines = [
        f"{report['model']}: {report['file_bytes'] / 1e6:.1f} MB, variant {report['variant']}, "
        f"{report['kv_cache']} cache, "
        f"{report['threads']} threads; prompt {report['prompt_tokens']}, decoded {report['decoded_tokens']}, "
        f"{report['rounds']} rounds; median (lowest to highest)"
    ]
    lines.append("  " + " " * 32 + "".join(f"{name:<34}" for name in engines).rstrip())
    for measure_, (title, unit, factor) in ROWS.items():
        cells = []
        for found in engines.values():
            spread = found.get(measure_)
            cells.append(
                f"{spread['median'] * factor:.4g} ({spread['low'] * factor:.4g} to {spread['high'] * factor:.4g})"
                if spread
                else "-"
            )
        line = f"  {title + ', ' + unit:<32}" + "".join(f"{cell:<34}" for cell in cells)
        both = [found[measure_]["median"] for found in engines.values() if measure_ in found]
        lines.append(line.rstrip() if len(both) < 2 else f"{line}{both[0] / both[1]:.2f}")
    ours = engines["apr"]
    share = ours["decode_gb_s"]["median"] / ours["read_gb_s"]["median"]
    over = ours["peak_bytes"]["median"] / report["file_bytes"] - 1
    lines.append(f"  decoding reads at {share:.0%} of reading alone; peak memory is {over:+.0%} of the file's size")
    return "\n".join(lines)
