"""What quantising costs in error and in time: this engine against gguf-py and, where it is installed, llama.cpp.

First the squared error of weights, relative to their squares. Then the packaged model in F16, quantised to whole files:
the Kullback-Leibler divergence of the next token's distribution from that of the F16 file, at each position of the
source of argparse, and how often the likeliest token is the same.
"""

import argparse
import ctypes
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from engine.formats import FORMATS, Format, dequantise
from engine.gguf import read_gguf
from engine.mixes import MIXES, NAMED
from engine.model import read_model
from engine.quantise import compile_kernels, quantise
from engine.quantise_file import quantise_file
from engine.reference import ReferencePath
from engine.registry import locate
from engine.tokenizer import Tokenizer

Weights = NDArray[np.float32]
F64 = NDArray[np.float64]
SEARCHED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
WHOLE = ("q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
TEXT = Path(argparse.__file__)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256, help="of 4096 weights, of each kind (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=1500, help="of the text, in pieces of 500 (default: %(default)s)")
    args = parser.parse_args()
    if min(args.rows, args.tokens) < 1:
        parser.error("each number must be at least 1")
    compile_kernels(FORMATS.values(), print)
    try:
        import llama_cpp
    except ImportError:
        llama_cpp = None
        print("llama.cpp is not installed: its columns are left out")
    errors(args.rows, llama_cpp)
    divergences(args.tokens, llama_cpp)
    return 0


def kinds(rows: int) -> Iterator[tuple[str, Weights]]:
    """Weights by their kind, (rows, 4096) or as in the packaged model."""
    rng = np.random.default_rng(0)
    yield "Gaussian", (rng.standard_normal((rows, 4096)) * 0.02).astype(np.float32)
    yield "Laplace", (rng.laplace(size=(rows, 4096)) * 0.02).astype(np.float32)
    yield "Student t, 3", (rng.standard_t(3, (rows, 4096)) * 0.02).astype(np.float32)
    yield "trained", read_gguf(locate("tiny-qwen2-f16")).dequantised("blk.1.ffn_down.weight")


def errors(rows: int, llama_cpp: Any) -> None:
    """Print the table of errors, with million weights per second of one thread."""
    writers: dict[str, Callable[[Weights, Format], NDArray[np.uint8]]] = {"here": quantise, "gguf-py": by_gguf_py}
    if llama_cpp:
        writers["ggml"] = by_ggml(llama_cpp)
    print(f"{'weights':<14} {'format':<6}" + "".join(f" {name:>10} {'M/s':>6}" for name in writers))
    for kind, weights in kinds(rows):
        for name in SEARCHED:
            line = f"{kind:<14} {name:<6}"
            for write in writers.values():
                start = time.process_time()
                try:
                    raw = write(weights, NAMED[name])
                except NotImplementedError:
                    line += f" {'-':>10} {'-':>6}"
                    continue
                taken = time.process_time() - start
                error = np.sum((dequantise(raw, NAMED[name]).astype(np.float64) - weights) ** 2)
                line += f" {error / np.sum(weights.astype(np.float64) ** 2):10.3e} {weights.size / taken / 1e6:6.0f}"
            print(line, flush=True)


def by_gguf_py(weights: Weights, fmt: Format) -> NDArray[np.uint8]:
    raw: NDArray[np.uint8] = gguf.quants.quantize(weights, gguf.GGMLQuantizationType(fmt.ggml_id))
    return raw


def by_ggml(llama_cpp: Any) -> Callable[[Weights, Format], NDArray[np.uint8]]:
    folder = Path(llama_cpp.__file__).parent / "lib"
    function = ctypes.CDLL(str(next(iter(sorted(folder.glob("*ggml-base*")))))).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]

    def write(weights: Weights, fmt: Format) -> NDArray[np.uint8]:
        rows, columns = weights.shape
        out = np.zeros((rows, columns // fmt.block * fmt.nbytes), np.uint8)
        function(fmt.ggml_id, weights.ctypes.data, out.ctypes.data, 0, rows, columns, None)
        return out

    return write


def divergences(count: int, llama_cpp: Any) -> None:
    """Print the table of divergences from the F16 file."""
    source = locate("tiny-qwen2-f16")
    file = read_gguf(source)
    tokens = Tokenizer.from_gguf(file).encode(TEXT.read_text(encoding="utf-8"))[:count]
    want = log_probabilities(source, tokens)
    print(f"\n{len(tokens)} tokens of {TEXT.name}: divergence from F16 in nats, share of equal likeliest tokens")
    print(f"{'mix':<8} {'here':>9} {'equal':>7}" + (f" {'llama.cpp':>10} {'equal':>7}" if llama_cpp else ""))
    with tempfile.TemporaryDirectory() as folder:
        for name in WHOLE:
            path = Path(folder) / f"{name}.gguf"
            quantise_file(file, MIXES[name], path)
            line = f"{name:<8} " + "{:9.5f} {:7.4f}".format(*divergence(want, log_probabilities(path, tokens)))
            if llama_cpp:
                theirs = Path(folder) / f"{name}-llama.gguf"
                settings = llama_cpp.llama_model_quantize_default_params()
                settings.ftype = MIXES[name].file_type
                llama_cpp.llama_model_quantize(bytes(source), bytes(theirs), ctypes.byref(settings))
                line += " {:10.5f} {:7.4f}".format(*divergence(want, log_probabilities(theirs, tokens)))
            print(line, flush=True)


def log_probabilities(path: Path, tokens: list[int]) -> F64:
    """(tokens, vocab) of the next token at each position, on the reference path."""
    model = read_model(read_gguf(path))
    output = model.output.dequantised().astype(np.float64)
    found: list[F64] = []

    def tap(stage: str, layer: int | None, array: Weights) -> None:
        if stage == "final_norm":
            logits = array.astype(np.float64) @ output.T
            logits -= logits.max(axis=1, keepdims=True)
            found.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))

    for start in range(0, len(tokens), 500):
        ReferencePath(model).forward(tokens[start : start + 500], tap)
    return np.concatenate(found)


def divergence(want: F64, got: F64) -> tuple[float, float]:
    """Mean Kullback-Leibler divergence, and the share of positions whose likeliest token is the same."""
    nats = (np.exp(want) * (want - got)).sum(axis=1).mean()
    return float(nats), float((want.argmax(axis=1) == got.argmax(axis=1)).mean())


if __name__ == "__main__":
    raise SystemExit(main())
