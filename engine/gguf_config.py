"""The configuration in a GGUF file's metadata.

Names of the keys: the GGUF specification (ggml-org/ggml, docs/gguf.md) and llama.cpp's naming for the architectures
`llama` and `qwen2`.
"""

from engine.config import Config, Pairing, check_numbers
from engine.errors import EngineError
from engine.gguf import GGUFFile

PAIRINGS: dict[str, Pairing] = {
    "llama": "adjacent",  # the converter permutes Q and K so that a rotated pair lies side by side
    "qwen2": "halves",  # not permuted: element i turns with element i + rope_dim / 2
}


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
    check_numbers(where, heads=heads, kv_heads=kv_heads, rms_eps=rms_eps, rope_base=rope_base)
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
