"""Writes small model files with gguf-py, so that a test can change any single key or tensor of one."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from engine.gguf import read_gguf
from engine.model import Model, read_model
from engine.tokenizer import CHARACTER_OF
from tests.engine.vocabularies import metadata as vocabulary

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 96, 4, 2, 16, 2
END = "<|im_end|>"
TOKENS = (*(CHARACTER_OF[byte] for byte in range(256)), "hi", END)
"""Token i is byte i; then one merge, since gguf-py writes no empty array, and one control token."""
VOCAB = len(TOKENS)


def keys(arch: str, **changes: Any) -> dict[str, Any]:
    """Metadata of a model; `changes` name keys without the architecture, dots as `__`; None takes a key out."""
    found: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": f"small-{arch}",
        f"{arch}.block_count": LAYERS,
        f"{arch}.context_length": 32,
        f"{arch}.embedding_length": HIDDEN,
        f"{arch}.feed_forward_length": FFN,
        f"{arch}.attention.head_count": HEADS,
        f"{arch}.attention.head_count_kv": KV_HEADS,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.rope.freq_base": 10000.0,
        **vocabulary(TOKENS, ["h i"], special={END: 3}),
    }
    for name, value in changes.items():
        key = name.replace("__", ".")
        found[key if key.startswith(("general.", "tokenizer.")) else f"{arch}.{key}"] = value
    return {key: value for key, value in found.items() if value is not None}


def tensors(arch: str, *, bias: bool | None = None, tied: bool | None = None) -> dict[str, np.ndarray]:
    """Random float32 tensors of a model; by default a qwen2 has biases and no output matrix, a llama the reverse."""
    rng = np.random.default_rng(5)
    bias, tied = (arch == "qwen2") if bias is None else bias, (arch == "qwen2") if tied is None else tied

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def gain(size: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, size).astype(np.float32)

    kv = KV_HEADS * HEAD_DIM
    found = {"token_embd.weight": matrix(VOCAB, HIDDEN), "output_norm.weight": gain(HIDDEN)}
    if not tied:
        found["output.weight"] = matrix(VOCAB, HIDDEN)
    for index in range(LAYERS):
        blk = f"blk.{index}."
        found |= {f"{blk}attn_norm.weight": gain(HIDDEN), f"{blk}ffn_norm.weight": gain(HIDDEN)}
        for part, rows in {"q": HIDDEN, "k": kv, "v": kv, "output": HIDDEN}.items():
            found[f"{blk}attn_{part}.weight"] = matrix(rows, HIDDEN)
            if bias and part != "output":
                found[f"{blk}attn_{part}.bias"] = gain(rows) - 1
        found |= {f"{blk}ffn_{part}.weight": matrix(FFN, HIDDEN) for part in ("gate", "up")}
        found[f"{blk}ffn_down.weight"] = matrix(HIDDEN, FFN)
    return found


def write(path: Path, metadata: dict[str, Any], weights: dict[str, np.ndarray], quantise: str = "F32") -> Path:
    """Write a file; matrices in the format `quantise`, vectors in F32."""
    writer = GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key == "general.architecture":
            continue  # the writer has it already
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, list(value))
    for name, values in weights.items():
        if quantise != "F32" and values.ndim == 2:
            kind = GGMLQuantizationType[quantise]
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def small_model(folder: Path, arch: str, quantise: str = "F32", **changes: Any) -> Model:
    """The model of a small file, read back."""
    return read_model(read_gguf(write(folder / f"{arch}.gguf", keys(arch, **changes), tensors(arch), quantise)))
