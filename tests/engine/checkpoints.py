"""Writes small folders of the Hugging Face layout by hand, with the weights of tests.engine.model_files."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders
from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from engine.checkpoint import read_checkpoint
from engine.model import CHECKPOINT_NAMES, GGUF_NAMES, Model, read_model
from engine.tokenizer import SPLITTINGS, splitter
from tests.engine.model_files import END, FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, TOKENS, VOCAB, tensors

EPS = float(np.float32(1e-5))
"""What a GGUF file can hold too, so that both formats mean the same number."""
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}


def config(arch: str, **changes: Any) -> dict[str, Any]:
    """config.json as transformers 4 writes it; `changes` of None take a key out."""
    found = {
        "architectures": [CLASSES[arch]],
        "model_type": arch,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 32,
        "rms_norm_eps": EPS,
        "rope_theta": 10000.0,
        "tie_word_embeddings": arch == "qwen2",
        "vocab_size": VOCAB,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def weights(arch: str, **options: Any) -> dict[str, np.ndarray]:
    """The tensors of model_files under the names of transformers; Q and K of a llama in the order of its halves."""
    found = {}
    for name, values in tensors(arch, **options).items():
        role, layer = next(
            (role, layer) for role, form in GGUF_NAMES.items() for layer in range(LAYERS) if form.format(layer) == name
        )
        if arch == "llama" and role in ("q", "k", "q_bias", "k_bias"):
            values = halved(values)
        found[CHECKPOINT_NAMES[role].format(layer)] = values
    return found


def halved(rows: np.ndarray) -> np.ndarray:
    """From pairs side by side, as llama.cpp's converter writes them, to a pair as element i and i + head_dim / 2."""
    paired = rows.reshape(-1, HEAD_DIM // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(rows.shape)


def stored(values: np.ndarray, dtype: str) -> bytes:
    """float32 values in a dtype, little-endian, rounded to nearest even as gguf-py does it too."""
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def entry(dtype: str, shape: Any, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def packed(header: Any, data: bytes = b"", *, length: int | None = None, padding: int = 8) -> bytes:
    """A file: the header as JSON (or as bytes that are there already), padded with spaces, then the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % padding)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def shard(values: dict[str, np.ndarray], dtype: str, padding: int = 8) -> bytes:
    """A file of these tensors; matrices in `dtype`, vectors in F32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in values.items():
        kind = dtype if array.ndim == 2 else "F32"
        raw = stored(array, kind)
        header[name] = entry(kind, array.shape, len(data), len(data) + len(raw))
        data += raw
    return packed(header, data, padding=padding)


def tokenizer(
    tokens: tuple[str, ...] = TOKENS, special: tuple[str, ...] = (END,), splitting: str = "gpt-2"
) -> Pipeline:
    """Byte-level BPE over these tokens, with the one merge that model_files has."""
    vocabulary = {token: id_ for id_, token in enumerate(tokens) if token not in special}
    pipeline = Pipeline(BPE(vocabulary, [("h", "i")]))
    pipeline.pre_tokenizer = splitter(SPLITTINGS[splitting])
    pipeline.decoder = decoders.ByteLevel()
    pipeline.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return pipeline


def write(
    folder: Path,
    settings: dict[str, Any],
    values: dict[str, np.ndarray],
    dtype: str = "F32",
    *,
    shards: int = 1,
    padding: int = 8,
) -> Path:
    """Write a folder that `apr` can run: configuration, weights in so many shards, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    put(folder, "config.json", settings)
    put(folder, "generation_config.json", {"eos_token_id": TOKENS.index(END)})
    put(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END})
    (folder / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
    if shards == 1:
        (folder / "model.safetensors").write_bytes(shard(values, dtype, padding))
        return folder
    index = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(values.items())[number::shards])
        index |= dict.fromkeys(part, name)
        (folder / name).write_bytes(shard(part, dtype, padding))
    put(folder, "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": index})
    return folder


def put(folder: Path, name: str, found: Any) -> None:
    (folder / name).write_text(json.dumps(found), encoding="utf-8")


def small_checkpoint(folder: Path, arch: str, dtype: str = "F32", **options: Any) -> Path:
    """A folder with the weights of model_files.small_model."""
    return write(folder / arch, config(arch), weights(arch), dtype, **options)


def read(folder: Path) -> Model:
    return read_model(read_checkpoint(folder))
