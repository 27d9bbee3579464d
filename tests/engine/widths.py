"""Models of other widths, such as fill no vector of the kernels."""

from dataclasses import replace

import numpy as np

from falsifiers.synthetic import NAMED, random_weight

WIDTHS = [
    {"hidden": 100, "heads": 3, "kv_heads": 1, "head_dim": 20, "ffn": 90},
    {"hidden": 64, "heads": 4, "kv_heads": 4, "head_dim": 16, "ffn": 80},
    {"hidden": 50, "heads": 2, "kv_heads": 1, "head_dim": 7, "ffn": 1100},
]


def of_width(model, rng, *, hidden, heads, kv_heads, head_dim, ffn):
    """The model with these dimensions and random float32 weights; what it has beside them, it keeps."""
    c = replace(
        model.config, hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim, ffn=ffn,
        rope_dim=head_dim // 2 * 2,
    )  # fmt: skip

    def weight(rows, columns):
        return random_weight(rng, "w", rows, columns, NAMED["F32"])

    def gain(size):
        return rng.uniform(0.5, 1.5, size).astype(np.float32)

    layers = tuple(
        replace(
            layer, attn_norm=gain(hidden), ffn_norm=gain(hidden), q=weight(c.q_width, hidden),
            k=weight(c.kv_width, hidden), v=weight(c.kv_width, hidden), attn_out=weight(hidden, c.q_width),
            gate=weight(ffn, hidden), up=weight(ffn, hidden), down=weight(hidden, ffn),
            qkv_bias=None if layer.qkv_bias is None else gain(c.q_width + 2 * c.kv_width),
        )
        for layer in model.layers
    )  # fmt: skip
    embedding = weight(c.vocab, hidden)
    factors = None if model.rope_factors is None else gain(c.rope_dim // 2)
    return replace(
        model, config=c, layers=layers, embedding=embedding, output=embedding, final_norm=gain(hidden),
        rope_factors=factors,
    )  # fmt: skip
