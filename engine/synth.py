"""Model files of the exact shapes of well-known models, with random weights: for speed and scale, not for sense.

Names of keys and tensors are those that llama.cpp's converter gives them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import synth_blocks
from engine.config import Config
from engine.errors import EngineError
from engine.gguf_writer import I32, Tensor, pair, write_gguf
from engine.mixes import NAMED, Mix, format_of
from engine.numerics import llama3_factors
from engine.suggestion import named
from engine.synth_models import LIKES, Like
from engine.synth_vocabulary import merges, tokens_and_types

GAIN, BIAS = (1.0, 0.1), (0.0, 0.5)
"""Norms and biases: around what, and how far from it at most."""


def synthesise(
    like: str, mix: Mix, path: Path, *, seed: int = 0, tell: Callable[[str], None] = lambda line: None
) -> int:
    """Write a model file with random weights, and return its size in bytes.

    like  a name of LIKES
    mix   the formats of its tensors
    tell  called with a line when there are tensors whose rows do not fit the format that the mix wants

    A forward pass stays finite and of the size of real ones: each product keeps the standard deviation of what it is
    given. The same name, mix and seed give the same bytes. Raises EngineError for an unknown name, a negative seed, and
    as write_gguf does.
    """
    chosen = LIKES[named(like, LIKES, what="model", where="--like")]
    if seed < 0:
        raise EngineError(f"{seed} is not a seed", where="--seed", hint="0 or more")
    pairs, tensors = plan(chosen, mix, seed, tell)
    return write_gguf(path, pairs, tensors)


def plan(
    like: Like, mix: Mix, seed: int, tell: Callable[[str], None] = lambda line: None
) -> tuple[list[bytes], list[Tensor]]:
    """The metadata and the tensors of such a file, for write_gguf; no weight is drawn yet."""
    narrower: list[str] = []
    tensors = list(_tensors(like, mix, seed, narrower.append))
    if narrower:
        tell(f"{len(narrower)} of {len(tensors)} tensors cannot have the format of the mix, first {narrower[0]}")
    return _pairs(like, mix), tensors


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes (numpy's order) of a model's tensors in the order of execution."""
    c = config
    yield "token_embd.weight", (c.vocab, c.hidden)
    for index in range(c.n_layers):
        blk = f"blk.{index}."
        yield f"{blk}attn_norm.weight", (c.hidden,)
        for part, width in (("q", c.q_width), ("k", c.kv_width), ("v", c.kv_width)):
            yield f"{blk}attn_{part}.weight", (width, c.hidden)
            if c.qkv_bias:
                yield f"{blk}attn_{part}.bias", (width,)
        yield f"{blk}attn_output.weight", (c.hidden, c.q_width)
        yield f"{blk}ffn_norm.weight", (c.hidden,)
        yield f"{blk}ffn_gate.weight", (c.ffn, c.hidden)
        yield f"{blk}ffn_up.weight", (c.ffn, c.hidden)
        yield f"{blk}ffn_down.weight", (c.hidden, c.ffn)
    yield "output_norm.weight", (c.hidden,)
    if not c.tied:
        yield "output.weight", (c.vocab, c.hidden)


def rope_factors(like: Like) -> NDArray[np.float32] | None:
    """(rope_dim / 2,) what rotary frequencies are divided by; None where they stay as they are."""
    if like.wavelengths is None:
        return None
    return llama3_factors(like.config.rope_base, like.config.rope_dim, *like.wavelengths)


def _tensors(like: Like, mix: Mix, seed: int, tell: Callable[[str], None]) -> Iterator[Tensor]:
    c = like.config
    for index, (name, shape) in enumerate(shapes(c)):
        fmt = format_of(mix, name, shape, n_layers=c.n_layers, tied=c.tied, tell=tell)
        if len(shape) == 2:
            yield Tensor(name, shape, fmt, partial(synth_blocks.rows, (seed, index), fmt, *shape))
        else:
            around, within = BIAS if name.endswith("bias") else GAIN
            values = synth_blocks.vector((seed, index), shape[0], around=around, within=within)
            yield Tensor(name, shape, fmt, partial(iter, (values,)))
    factors = rope_factors(like)
    if factors is not None:
        yield Tensor("rope_freqs.weight", factors.shape, NAMED["F32"], partial(iter, (factors,)))


def _pairs(like: Like, mix: Mix) -> list[bytes]:
    """The file's metadata."""
    c, plan = like.config, like.plan
    tokens, types = tokens_and_types(plan)
    pairs = [
        pair("general.architecture", c.architecture),
        pair("general.type", "model"),
        pair("general.name", c.name),
        pair("general.description", "random weights in the shapes of a real model, to measure speed and memory with"),
        pair("general.quantization_version", 2),
        pair("general.file_type", mix.file_type),
    ]
    sizes = {
        "block_count": c.n_layers,
        "context_length": c.context,
        "embedding_length": c.hidden,
        "feed_forward_length": c.ffn,
        "attention.head_count": c.heads,
        "attention.head_count_kv": c.kv_heads,
        "attention.layer_norm_rms_epsilon": c.rms_eps,
        "rope.freq_base": c.rope_base,
        "rope.dimension_count": c.rope_dim,
        "vocab_size": c.vocab,
    }
    pairs += [pair(f"{c.architecture}.{key}", value) for key, value in sizes.items()]
    pairs += [
        pair("tokenizer.ggml.model", "gpt2"),
        pair("tokenizer.ggml.pre", plan.pre),
        pair("tokenizer.ggml.tokens", tokens),
        pair("tokenizer.ggml.token_type", types, I32),
        pair("tokenizer.ggml.merges", [" ".join(merge) for merge in merges(plan)]),
    ]
    pairs += [pair(f"tokenizer.ggml.{name}_token_id", id_) for name, id_ in like.token_ids.items()]
    if like.add_bos is not None:
        pairs.append(pair("tokenizer.ggml.add_bos_token", like.add_bos))
    return pairs
