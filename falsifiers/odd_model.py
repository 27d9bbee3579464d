"""A random model whose sizes are no multiple of anything: what a kernel does in its tail shows here."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.config import Config
from engine.gguf_config import PAIRINGS
from engine.model import Layer, Model
from falsifiers.synthetic import NAMED, random_bias, random_gains, random_layer, random_weight

FORMATS = (  # q, k, v, attn_out, gate, up, down: the last of 330 columns, attn_out of 120, which no block divides
    ("Q4_K", "Q6_K", "Q5_K", "F16", "Q5_K", "Q4_K", "F16"),
    ("Q4_1", "Q5_1", "Q6_K", "BF16", "Q5_0", "Q8_0", "BF16"),
    ("Q8_0", "Q4_0", "Q5_0", "F32", "Q5_1", "Q6_K", "F32"),
)
LARGE = 30.0
"""Entry of the biases of one query and its key that makes their scores some 400: e^x of that is no float32."""


def odd_model(rng: np.random.Generator) -> Model:
    """A qwen2 of three layers, hidden 768, 6 query heads of 20 on 2 of keys, ffn 330, vocabulary 323, not tied.

    The embedding of its last token is not finite in one block. In its second layer, the scores of the first query head
    are large, all about equally so.
    """
    c = Config(
        architecture="qwen2",
        name="odd-qwen2",
        n_layers=3,
        hidden=768,
        ffn=330,
        heads=6,
        kv_heads=2,
        head_dim=20,
        vocab=323,
        context=64,
        rms_eps=1e-2,  # large, so that a misplaced epsilon shows
        rope_base=10000.0,
        rope_dim=20,
        rope_scale=1.0,
        pairing=PAIRINGS["qwen2"],
        qkv_bias=True,
        tied=False,
    )

    def layer(index: int) -> Layer:
        bias = random_bias(rng, c)
        if index == 1:  # of the pair that turns most slowly
            slow = [c.rope_dim // 2 - 1, c.rope_dim - 1]
            bias[slow] = LARGE
            bias[[c.q_width + i for i in slow]] = LARGE
        return random_layer(rng, c, FORMATS[index], bias)

    embedding = random_weight(rng, "embedding", c.vocab, c.hidden, NAMED["Q6_K"])
    raw = embedding.raw.copy()
    raw[-1].reshape(-1, 210)[1, 208:] = (0x00, 0x7E)  # NaN in float16
    return Model(
        path=Path(f"{c.name}.gguf"),
        config=c,
        embedding=replace(embedding, raw=raw),
        layers=tuple(layer(index) for index in range(c.n_layers)),
        final_norm=random_gains(rng, c),
        output=random_weight(rng, "output", c.vocab, c.hidden, NAMED["Q4_K"]),
        rope_factors=None,
    )
