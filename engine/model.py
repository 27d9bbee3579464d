"""A model: its configuration and its weights, every shape checked against the file before anything runs.

Names of tensors: llama.cpp's naming in GGUF files, and that of transformers in folders of the Hugging Face layout.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine import checkpoint_config, gguf_config
from engine.checkpoint import Checkpoint
from engine.config import Config
from engine.errors import EngineError
from engine.formats import Format, dequantise
from engine.gguf import GGUFFile
from engine.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix as it lies in the file: raw (rows, bytes per row) uint8, each row `columns` weights in `format`."""

    name: str
    raw: NDArray[np.uint8]
    format: Format
    rows: int
    columns: int

    def dequantised(self) -> NDArray[np.float32]:
        """(rows, columns) float32."""
        return dequantise(self.raw, self.format).reshape(self.rows, self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Weights of one decoder layer; biases are None when the file has none."""

    attn_norm: NDArray[np.float32]
    q: Weight
    k: Weight
    v: Weight
    qkv_bias: NDArray[np.float32] | None  # (q_width + 2 * kv_width,), q then k then v
    attn_out: Weight
    ffn_norm: NDArray[np.float32]
    gate: Weight
    up: Weight
    down: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked model; its matrices are views of the memory-mapped file."""

    path: Path
    config: Config
    embedding: Weight
    layers: tuple[Layer, ...]
    final_norm: NDArray[np.float32]
    output: Weight
    rope_factors: NDArray[np.float32] | None  # (rope_dim / 2,), frequencies are divided by it


class Weights(Protocol):
    """What the weights of a model are read from: one file, or a folder of shards."""

    @property
    def path(self) -> Path: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    def raw(self, name: str) -> NDArray[np.uint8]: ...

    def dequantised(self, name: str) -> NDArray[np.float32]: ...


GGUF_NAMES = {
    "embedding": "token_embd.weight",
    "final_norm": "output_norm.weight",
    "output": "output.weight",
    "attn_norm": "blk.{}.attn_norm.weight",
    "q": "blk.{}.attn_q.weight",
    "k": "blk.{}.attn_k.weight",
    "v": "blk.{}.attn_v.weight",
    "q_bias": "blk.{}.attn_q.bias",
    "k_bias": "blk.{}.attn_k.bias",
    "v_bias": "blk.{}.attn_v.bias",
    "attn_out": "blk.{}.attn_output.weight",
    "ffn_norm": "blk.{}.ffn_norm.weight",
    "gate": "blk.{}.ffn_gate.weight",
    "up": "blk.{}.ffn_up.weight",
    "down": "blk.{}.ffn_down.weight",
}
CHECKPOINT_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "output": "lm_head.weight",
    "attn_norm": "model.layers.{}.input_layernorm.weight",
    "q": "model.layers.{}.self_attn.q_proj.weight",
    "k": "model.layers.{}.self_attn.k_proj.weight",
    "v": "model.layers.{}.self_attn.v_proj.weight",
    "q_bias": "model.layers.{}.self_attn.q_proj.bias",
    "k_bias": "model.layers.{}.self_attn.k_proj.bias",
    "v_bias": "model.layers.{}.self_attn.v_proj.bias",
    "attn_out": "model.layers.{}.self_attn.o_proj.weight",
    "ffn_norm": "model.layers.{}.post_attention_layernorm.weight",
    "gate": "model.layers.{}.mlp.gate_proj.weight",
    "up": "model.layers.{}.mlp.up_proj.weight",
    "down": "model.layers.{}.mlp.down_proj.weight",
}
"""What the tensors of each role are called, with {} for the layer."""
ROPE_FACTORS = "rope_freqs.weight"  # of GGUF files
FREQUENCIES = "model.layers.{}.self_attn.rotary_emb.inv_freq"
"""In folders that an older transformers wrote: computed from the configuration, and read by nobody."""


def read_model(file: GGUFFile | Checkpoint) -> Model:
    """Read the configuration and check every tensor's shape against it; raises EngineError."""
    return _of_checkpoint(file) if isinstance(file, Checkpoint) else _of_gguf(file)


def _of_gguf(file: GGUFFile) -> Model:
    config, factors = gguf_config.read_config(file), None
    if ROPE_FACTORS in file.tensors:
        _require(file, ROPE_FACTORS, (config.rope_dim // 2,))
        factors = file.dequantised(ROPE_FACTORS)
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            raise EngineError(f"{ROPE_FACTORS} holds values that are not finite and positive", where=str(file.path))
    return assemble(file, config, GGUF_NAMES, factors, beside={ROPE_FACTORS})


def _of_checkpoint(checkpoint: Checkpoint) -> Model:
    config, factors = checkpoint_config.read_config(checkpoint)
    layers = min(config.n_layers, len(checkpoint.tensors))  # a configuration may state billions
    beside = {FREQUENCIES.format(layer) for layer in range(layers)}
    embedding, output = CHECKPOINT_NAMES["embedding"], CHECKPOINT_NAMES["output"]
    if config.tied and output in checkpoint.tensors:
        for name in (embedding, output):
            _require(checkpoint, name, (config.vocab, config.hidden))
        if not np.array_equal(checkpoint.raw(embedding), checkpoint.raw(output)):
            raise EngineError(
                f"tie_word_embeddings is true, but {output} is not {embedding}",
                where=str(checkpoint.path),
                hint="it is not clear which of them is the output matrix: take the folder as its authors published it",
            )
        beside.add(output)
    return assemble(checkpoint, config, CHECKPOINT_NAMES, factors, beside=beside)


def assemble(
    weights: Weights,
    config: Config,
    names: Mapping[str, str],
    rope_factors: NDArray[np.float32] | None,
    beside: Collection[str] = (),
) -> Model:
    """The model of a configuration, every shape checked; its matrices stay where `weights` has mapped them.

    names   what the file calls the tensors, as NAMES
    beside  further tensors that it may hold

    Raises EngineError for a tensor that is missing, of another shape, or that would be left out.
    """
    unused = set(weights.tensors) - set(beside)

    def vector(role: str, size: int, layer: int = 0) -> NDArray[np.float32]:
        name = names[role].format(layer)
        _require(weights, name, (size,))
        unused.discard(name)
        return weights.dequantised(name)

    def matrix(role: str, rows: int, columns: int, layer: int = 0) -> Weight:
        name = names[role].format(layer)
        _require(weights, name, (rows, columns))
        unused.discard(name)
        return Weight(name, weights.raw(name), weights.tensors[name].format, rows, columns)

    def layer(index: int) -> Layer:
        bias = None
        if config.qkv_bias:
            widths = {"q": config.q_width, "k": config.kv_width, "v": config.kv_width}
            bias = np.concatenate([vector(f"{part}_bias", width, index) for part, width in widths.items()])
        return Layer(
            attn_norm=vector("attn_norm", config.hidden, index),
            q=matrix("q", config.q_width, config.hidden, index),
            k=matrix("k", config.kv_width, config.hidden, index),
            v=matrix("v", config.kv_width, config.hidden, index),
            qkv_bias=bias,
            attn_out=matrix("attn_out", config.hidden, config.q_width, index),
            ffn_norm=vector("ffn_norm", config.hidden, index),
            gate=matrix("gate", config.ffn, config.hidden, index),
            up=matrix("up", config.ffn, config.hidden, index),
            down=matrix("down", config.hidden, config.ffn, index),
        )

    embedding = matrix("embedding", config.vocab, config.hidden)
    layers = tuple(layer(index) for index in range(config.n_layers))
    final_norm = vector("final_norm", config.hidden)
    output = embedding if config.tied else matrix("output", config.vocab, config.hidden)
    if unused:
        raise EngineError(
            f"tensors that a {config.architecture} model of this configuration does not have: {_some(unused)}",
            where=str(weights.path),
            hint="leaving a weight out would change every result in silence; this model needs an engine that knows it",
        )
    return Model(
        path=weights.path,
        config=config,
        embedding=embedding,
        layers=layers,
        final_norm=final_norm,
        output=output,
        rope_factors=rope_factors,
    )


def _require(file: Weights, name: str, shape: tuple[int, ...]) -> None:
    info = file.tensors.get(name)
    if info is None:
        raise EngineError(f"tensor {name!r} is missing", where=str(file.path))
    if info.shape != shape:
        raise EngineError(
            f"tensor {name!r} has shape {info.shape}, the configuration needs {shape}",
            where=str(file.path),
            hint="the file's metadata and its tensors contradict each other: obtain the file again",
        )


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
