"""Time to read the header of a GGUF file with a large vocabulary: this engine's reader against gguf-py's GGUFReader.

The file is made on the spot: byte-level tokens of the lengths that a 152k vocabulary has, their types, and merges; no
tensors, since both readers only map those. Readers take turns in one process, so both see the same machine.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from engine.gguf import read_gguf
from engine.gguf_writer import I32, header, pair


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=152_064, help="size of the vocabulary (default: %(default)s)")
    parser.add_argument("--merges", type=int, default=151_387, help="number of merges (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each reader (default: %(default)s)")
    args = parser.parse_args()
    if min(args.tokens, args.merges, args.rounds) < 1:
        parser.error("each number must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        path.write_bytes(synthetic(args.tokens, args.merges))
        if not same(path):
            print("the two readers disagree: nothing was timed", file=sys.stderr)
            return 1
        readers: dict[str, Callable[[Path], Any]] = {"engine.gguf": read_gguf, "gguf-py": gguf.GGUFReader}
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(args.rounds):
            for name, read in readers.items():
                start = time.perf_counter()
                read(path)
                seconds[name].append(time.perf_counter() - start)
        size = path.stat().st_size
    print(f"{args.tokens} tokens, {args.merges} merges, {size} bytes; seconds over {args.rounds} rounds")
    ours = statistics.median(seconds["engine.gguf"])
    print(f"{'reader':<12} {'median':>8} {'best':>8} {'worst':>8} {'ratio':>7}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:<12} {median:8.3f} {min(taken):8.3f} {max(taken):8.3f} {median / ours:7.1f}")
    return 0


def synthetic(tokens: int, merges: int) -> bytes:
    """A GGUF file (version 3) with a vocabulary of this size."""
    rng = np.random.default_rng(152)
    letters = np.array([*"etaoinshrdlu", "Ġ", "é", "中"])
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(1, 12, 4096)]

    def texts(count: int, join: str) -> list[str]:
        return [f"{words[left]}{join}{words[right]}" for left, right in rng.integers(0, len(words), (count, 2))]

    pairs = [
        pair("general.architecture", "qwen2"),
        pair("tokenizer.ggml.tokens", texts(tokens, "")),
        pair("tokenizer.ggml.token_type", [1] * tokens, I32),
        pair("tokenizer.ggml.merges", texts(merges, " ")),
    ]
    return header(pairs, [])


def same(path: Path) -> bool:
    """Whether both readers find the same metadata: a fast reader that reads something else is no achievement."""
    ours = {key: list(value) if isinstance(value, tuple) else value for key, value in read_gguf(path).metadata.items()}
    fields = gguf.GGUFReader(path).fields
    return ours == {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


if __name__ == "__main__":
    raise SystemExit(main())
