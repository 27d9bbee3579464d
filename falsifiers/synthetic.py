"""Small random models for algorithm trials: no file, both architectures, every weight format in some matrix."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.formats import FORMATS, Format
from engine.gguf_config import PAIRINGS
from engine.model import Layer, Model, Weight

Vector = NDArray[np.float32]
NAMED = {fmt.name: fmt for fmt in FORMATS.values()}

# for a block of random codes: (place of the scale, typical |weight| / scale, place of the minimum, its usual ratio)
SCALES: dict[str, tuple[int, float, int | None, float]] = {
    "Q4_0": (0, 4.6, None, 0),
    "Q4_1": (0, 4.6, 2, -7.5),
    "Q5_0": (0, 9.2, None, 0),
    "Q5_1": (0, 9.2, 2, -15.5),
    "Q8_0": (0, 74, None, 0),
    "Q4_K": (0, 250, 2, 7.5),
    "Q5_K": (0, 500, 2, 15.5),
    "Q6_K": (208, 1366, None, 0),
}


def random_weight(rng: np.random.Generator, name: str, rows: int, columns: int, fmt: Format) -> Weight:
    """A matrix of random codes whose weights are about 1 / sqrt(columns)."""
    sigma = 1 / math.sqrt(columns)
    if fmt.name == "BF16":
        values = (rng.standard_normal((rows, columns)) * sigma).astype("<f4")
        raw = (values.view("<u4") >> 16).astype("<u2").view(np.uint8)
    elif fmt.name in ("F16", "F32"):
        raw = (
            (rng.standard_normal((rows, columns)) * sigma).astype("<f2" if fmt.name == "F16" else "<f4").view(np.uint8)
        )
    else:
        blocks = rng.integers(0, 256, (rows, columns // fmt.block, fmt.nbytes), dtype=np.uint8)
        at, typical, at_min, minimum = SCALES[fmt.name]
        scale = sigma / typical * rng.uniform(0.5, 1.5, blocks.shape[:2])
        blocks[..., at : at + 2] = scale.astype("<f2")[..., None].view(np.uint8)
        if at_min is not None:
            blocks[..., at_min : at_min + 2] = (scale * minimum).astype("<f2")[..., None].view(np.uint8)
        raw = blocks
    return Weight(name, np.ascontiguousarray(raw).reshape(rows, -1), fmt, rows, columns)


def random_gains(rng: np.random.Generator, c: Config) -> Vector:
    """The gains (hidden,) of a norm."""
    return rng.uniform(0.5, 1.5, c.hidden).astype(np.float32)


def random_layer(rng: np.random.Generator, c: Config, formats: Sequence[str], bias: Vector | None = None) -> Layer:
    """A layer with matrices in these formats (q, k, v, attn_out, gate, up, down); `bias` in place of a random one."""
    q, k, v, o, gate, up, down = (NAMED[name] for name in formats)
    return Layer(
        attn_norm=random_gains(rng, c),
        q=random_weight(rng, "q", c.q_width, c.hidden, q),
        k=random_weight(rng, "k", c.kv_width, c.hidden, k),
        v=random_weight(rng, "v", c.kv_width, c.hidden, v),
        qkv_bias=random_bias(rng, c) if bias is None and c.qkv_bias else bias,
        attn_out=random_weight(rng, "o", c.hidden, c.q_width, o),
        ffn_norm=random_gains(rng, c),
        gate=random_weight(rng, "gate", c.ffn, c.hidden, gate),
        up=random_weight(rng, "up", c.ffn, c.hidden, up),
        down=random_weight(rng, "down", c.hidden, c.ffn, down),
    )


def random_bias(rng: np.random.Generator, c: Config) -> Vector:
    """The biases of q, k and v."""
    return rng.standard_normal(c.q_width + 2 * c.kv_width).astype(np.float32)


def random_model(rng: np.random.Generator, architecture: str, every: str | None = None) -> Model:
    """Two layers, hidden 256, 4 query heads on 2 key/value heads; qwen2: biases, tied output; llama: neither.

    The two layers together use every weight format once at least; unless `every` matrix has the one named.
    """
    qwen = architecture == "qwen2"
    c = Config(
        architecture=architecture,
        name=f"random-{architecture}",
        n_layers=2,
        hidden=256,
        ffn=512,
        heads=4,
        kv_heads=2,
        head_dim=64,
        vocab=384,
        context=64,
        rms_eps=1e-2,  # large, so that a misplaced epsilon shows
        rope_base=10000.0,
        rope_dim=64 if qwen else 32,  # the rest of a head does not turn
        rope_scale=1.0 if qwen else 2.0,
        pairing=PAIRINGS[architecture],
        qkv_bias=qwen,
        tied=qwen,
    )
    formats = [
        [every or name for name in names]
        for names in (
            ("Q4_K", "Q6_K", "Q5_K", "Q8_0", "Q4_0", "Q4_1", "Q5_0"),
            ("Q5_1", "F16", "BF16", "F32", "Q6_K", "Q4_K", "Q5_K"),
        )
    ]

    embedding = random_weight(rng, "embedding", c.vocab, c.hidden, NAMED[every or "Q6_K"])
    return Model(
        path=Path(f"{c.name}.gguf"),
        config=c,
        embedding=embedding,
        layers=tuple(random_layer(rng, c, names) for names in formats),
        final_norm=random_gains(rng, c),
        output=embedding if c.tied else random_weight(rng, "output", c.vocab, c.hidden, NAMED[every or "Q8_0"]),
        rope_factors=None if qwen else rng.uniform(1, 4, c.rope_dim // 2).astype(np.float32),
    )
