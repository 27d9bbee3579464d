"""A whole forward pass in numpy and no numba, in the canonical order (docs/order.md): the same bits as the fast path's.

It takes a model's configuration and the bytes of its weights, and none of the engine's code computes anything here:
where a trace and this differ in one bit, one of them is wrong.
"""

from collections.abc import Sequence

import numpy as np

from engine.model import Model, Weight
from falsifiers import integer_model, integer_steps
from falsifiers.integer_model import F32

VERSION = "2"
FLOATS = ("F32", "F16", "BF16")


class Tensors(dict[tuple[str, int | None], F32]):
    """Every stage of a forward pass, by name and layer (None: the whole model), as `apr trace` has it."""


def forward(model: Model, tokens: Sequence[int], kv_cache: str = "float32") -> Tensors:
    """All stages of a prompt, with a cache in float32 or float16; `lm_head` is that of the last position."""
    c, T, found = model.config, len(tokens), Tensors()
    cosine, sine = integer_steps.rope_tables(T, c.rope_base, c.rope_dim, c.rope_scale, model.rope_factors)

    def heads(x: F32, *, turned: bool = True) -> F32:
        x = x.reshape(T, -1, c.head_dim)
        return integer_steps.rotate(x, cosine, sine, adjacent=c.pairing == "adjacent") if turned else x

    x = found["embedding", 0] = integer_steps.widened(model.embedding.format.name, model.embedding.raw[list(tokens)])
    for index, layer in enumerate(model.layers):
        h = found["attn_norm", index] = integer_steps.norm(x, layer.attn_norm, c.rms_eps)
        qkv = np.concatenate([product(h, layer.q), product(h, layer.k), product(h, layer.v, rests=True)], axis=1)
        found["qkv_matmul", index] = qkv
        qkv = found["qkv_bias", index] = qkv if layer.qkv_bias is None else qkv + layer.qkv_bias
        q, k, v = np.split(qkv, [c.q_width, c.q_width + c.kv_width], axis=1)
        q, k, v = heads(q), heads(k), heads(v, turned=False)
        found["q_post_rope", index], found["k_post_rope", index] = q.reshape(T, -1), k.reshape(T, -1)
        k, v = integer_steps.kept(k, kv_cache), integer_steps.kept(v, kv_cache)
        mixed, found["attn_scores", index], found["attn_softmax", index] = integer_steps.attend(q, k, v, 0)
        h = found["attention", index] = mixed.reshape(T, -1)
        delta = found["attn_out", index] = product(h, layer.attn_out)
        x = found["post_attn_residual", index] = x + delta
        h = found["ffn_norm", index] = integer_steps.norm(x, layer.ffn_norm, c.rms_eps)
        gate, up = product(h, layer.gate), product(h, layer.up)
        found["ffn_gate", index], found["ffn_up", index] = gate, up
        activated = found["ffn_silu", index] = integer_steps.silu(gate)
        h = found["ffn_swigl", index] = activated * up
        delta = found["ffn_out", index] = product(h, layer.down)
        x = found["post_ffn_residual", index] = x + delta
    h = found["final_norm", None] = integer_steps.norm(x, model.final_norm, c.rms_eps)
    found["lm_head", None] = product(h[-1:], model.output)[0]
    return found


def product(x: F32, weight: Weight, *, rests: bool = False) -> F32:
    """x (T, columns) times the transposed weight (rows, columns); rests: plus what rounding left of x times it."""
    name, block = weight.format.name, weight.format.block
    if name in FLOATS:
        return integer_model.dots(x[:, None, :], integer_steps.widened(name, weight.raw)[None])
    q, scale = integer_model.quantise(x, block)
    first = integer_model.matmul(name, weight.raw, block, q, scale)
    if not rests:
        return first
    rest = integer_model.rest(x, q, scale)
    return first + integer_model.matmul(name, weight.raw, block, *integer_model.quantise(rest, block))
