"""A model: its configuration and its weights, every shape checked against the file before anything runs.

Names of tensors and metadata keys: the GGUF specification (ggml-org/ggml, docs/gguf.md) and llama.cpp's naming for the
architectures `llama` and `qwen2`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.formats import Format, dequantise
from engine.gguf import GGUFFile

Pairing = Literal["adjacent", "halves"]

PAIRINGS: dict[str, Pairing] = {
    "llama": "adjacent",  # the converter permutes Q and K so that a rotated pair lies side by side
    "qwen2": "halves",  # not permuted: element i turns with element i + rope_dim / 2
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Dimensions and constants of a decoder-only transformer."""

    architecture: str
    name: str
    n_layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rms_eps: float
    rope_base: float
    rope_dim: int
    rope_scale: float  # positions are divided by it (linear scaling); 1.0 when there is none
    pairing: Pairing
    qkv_bias: bool
    tied: bool  # the output matrix is the embedding matrix

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


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


def read_model(file: GGUFFile) -> Model:
    """Read the configuration and check every tensor's shape against it; raises EngineError."""
    config = read_config(file)
    unused = set(file.tensors)

    def vector(name: str, size: int) -> NDArray[np.float32]:
        _require(file, name, (size,))
        unused.discard(name)
        return file.dequantised(name)

    def matrix(name: str, rows: int, columns: int) -> Weight:
        _require(file, name, (rows, columns))
        unused.discard(name)
        return Weight(name, file.raw(name), file.tensors[name].format, rows, columns)

    def layer(index: int) -> Layer:
        blk = f"blk.{index}."
        bias = None
        if config.qkv_bias:
            widths = {"q": config.q_width, "k": config.kv_width, "v": config.kv_width}
            bias = np.concatenate([vector(f"{blk}attn_{part}.bias", width) for part, width in widths.items()])
        return Layer(
            attn_norm=vector(f"{blk}attn_norm.weight", config.hidden),
            q=matrix(f"{blk}attn_q.weight", config.q_width, config.hidden),
            k=matrix(f"{blk}attn_k.weight", config.kv_width, config.hidden),
            v=matrix(f"{blk}attn_v.weight", config.kv_width, config.hidden),
            qkv_bias=bias,
            attn_out=matrix(f"{blk}attn_output.weight", config.hidden, config.q_width),
            ffn_norm=vector(f"{blk}ffn_norm.weight", config.hidden),
            gate=matrix(f"{blk}ffn_gate.weight", config.ffn, config.hidden),
            up=matrix(f"{blk}ffn_up.weight", config.ffn, config.hidden),
            down=matrix(f"{blk}ffn_down.weight", config.hidden, config.ffn),
        )

    embedding = matrix("token_embd.weight", config.vocab, config.hidden)
    layers = tuple(layer(index) for index in range(config.n_layers))
    final_norm = vector("output_norm.weight", config.hidden)
    output = embedding if config.tied else matrix("output.weight", config.vocab, config.hidden)
    factors = vector("rope_freqs.weight", config.rope_dim // 2) if "rope_freqs.weight" in file.tensors else None
    if unused:
        raise EngineError(
            f"tensors that a {config.architecture} model of this configuration does not have: {_some(unused)}",
            where=str(file.path),
            hint="leaving a weight out would change every result in silence; this model needs an engine that knows it",
        )
    if factors is not None and not (np.isfinite(factors).all() and (factors > 0).all()):
        raise EngineError("rope_freqs.weight holds values that are not finite and positive", where=str(file.path))
    return Model(
        path=file.path,
        config=config,
        embedding=embedding,
        layers=layers,
        final_norm=final_norm,
        output=output,
        rope_factors=factors,
    )


def read_config(file: GGUFFile) -> Config:
    """The configuration from a file's metadata; raises EngineError for what this engine would compute wrongly."""
    where = str(file.path)
    arch = file.text("general.architecture")
    if arch not in PAIRINGS:
        raise EngineError(
            f"architecture {arch!r} is not supported", where=where, hint=f"supported: {', '.join(sorted(PAIRINGS))}"
        )
    _refuse_unsupported(file, arch)
    hidden = _positive(file, f"{arch}.embedding_length")
    heads = _positive(file, f"{arch}.attention.head_count")
    kv_heads = _positive(file, f"{arch}.attention.head_count_kv", default=heads)
    head_dim = _positive(file, f"{arch}.attention.key_length", default=hidden // heads)
    rope_dim = _positive(file, f"{arch}.rope.dimension_count", default=head_dim)
    if heads % kv_heads:
        raise EngineError(f"{heads} query heads cannot share {kv_heads} key/value heads evenly", where=where)
    if _positive(file, f"{arch}.attention.value_length", default=head_dim) != head_dim:
        raise EngineError("keys and values of different length are not supported", where=where)
    if rope_dim % 2 or rope_dim > head_dim:
        raise EngineError(f"{arch}.rope.dimension_count {rope_dim} does not fit a head of {head_dim}", where=where)
    if "token_embd.weight" not in file.tensors:
        raise EngineError("tensor 'token_embd.weight' is missing", where=where)
    vocab = file.tensors["token_embd.weight"].shape[0]
    tokens = len(file.array("tokenizer.ggml.tokens"))
    if tokens != vocab:
        raise EngineError(f"the vocabulary has {tokens} tokens, yet the embedding has {vocab} rows", where=where)
    rms_eps = file.number(f"{arch}.attention.layer_norm_rms_epsilon")
    rope_base = file.number(f"{arch}.rope.freq_base", default=10000.0)
    if not (0 < rms_eps < 1 and 1 < rope_base < 1e12):
        raise EngineError(f"impossible constants: RMS epsilon {rms_eps}, RoPE base {rope_base}", where=where)
    biased = [
        name
        for name in file.tensors
        if name.startswith("blk.0.attn_") and name.endswith(("q.bias", "k.bias", "v.bias"))
    ]
    return Config(
        architecture=arch,
        name=file.text("general.name", default=file.path.stem),
        n_layers=_positive(file, f"{arch}.block_count"),
        hidden=hidden,
        ffn=_positive(file, f"{arch}.feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        context=_positive(file, f"{arch}.context_length"),
        rms_eps=rms_eps,
        rope_base=rope_base,
        rope_dim=rope_dim,
        rope_scale=_rope_scale(file, arch),
        pairing=PAIRINGS[arch],
        qkv_bias=bool(biased),
        tied="output.weight" not in file.tensors,
    )


def _rope_scale(file: GGUFFile, arch: str) -> float:
    kind = file.text(f"{arch}.rope.scaling.type", default="linear")  # llama.cpp's default: a factor alone counts
    if kind not in ("none", "linear"):
        raise EngineError(
            f"RoPE scaling {kind!r} is not supported",
            where=str(file.path),
            hint="supported: none, linear, rope_freqs.weight",
        )
    factor = file.number(f"{arch}.rope.scaling.attn_factor", default=1.0)
    if factor != 1.0:
        raise EngineError(f"a RoPE attention factor ({factor}) is not supported", where=str(file.path))
    if kind == "none":
        return 1.0
    legacy = file.number(f"{arch}.rope.scale_linear", default=1.0)
    scale = file.number(f"{arch}.rope.scaling.factor", default=legacy)
    if not 0 < scale < 1e6:
        raise EngineError(f"RoPE scaling factor {scale} is not a finite number above 0", where=str(file.path))
    return scale


def _refuse_unsupported(file: GGUFFile, arch: str) -> None:
    if file.integer(f"{arch}.expert_count", default=0):
        raise EngineError("mixtures of experts are not supported", where=str(file.path))
    context = file.integer(f"{arch}.context_length")
    window = file.integer(f"{arch}.attention.sliding_window", default=0)
    if 0 < window < context:
        raise EngineError(
            f"sliding-window attention is not supported (window {window}, context {context})", where=str(file.path)
        )


def _positive(file: GGUFFile, key: str, default: int | None = None) -> int:
    value = file.integer(key) if default is None else file.integer(key, default=default)
    if not 0 < value < 2**31:
        raise EngineError(f"{key} is {value}, not a positive number", where=str(file.path))
    return value


def _require(file: GGUFFile, name: str, shape: tuple[int, ...]) -> None:
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
