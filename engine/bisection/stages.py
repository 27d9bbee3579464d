"""What bisection knows of the stages: which there are, what feeds them, what they multiply with, what may go wrong."""

from collections.abc import Collection, Iterator

from engine.config import Config
from engine.model import Model, Weight
from engine.stages import NAMES, WHOLE

Key = tuple[str, int | None]
"""A stage and its layer, None for the whole model."""

SQUARE = frozenset({"attn_scores", "attn_softmax"})
"""Stages with a column for each position of the prompt, of which only the seen ones count."""

OPERATIONS = {
    "tokens": ("the tokenizer: merges, special tokens, a token in front",),
    "embedding": ("the look-up of rows", "dequantisation of the embedding matrix"),
    "attn_norm": ("root mean square: epsilon inside the root, the gain", "the residual stream that it reads"),
    "qkv_matmul": ("product with the weights of q, k and v: scales, minima and nibbles of their blocks, row tails",),
    "qkv_bias": ("addition of the bias: left out, added twice, of another layer or part",),
    "q_post_rope": ("rotary positions of queries: base, pairing of dimensions, position offset",),
    "k_post_rope": ("rotary positions of keys: base, pairing of dimensions, position offset",),
    "attn_scores": (
        "products of queries and keys: scale, which heads share a key, the mask",
        "keys in the cache: slot",
    ),
    "attn_softmax": ("softmax: the maximum, the mask, the sum",),
    "attention": ("mixing of values: which heads share a value", "values in the cache: slot, layer"),
    "attn_out": ("product with the output weights of attention: scales and nibbles, order of heads, row tails",),
    "post_attn_residual": ("addition to the residual stream: left out, or of another array",),
    "ffn_norm": ("root mean square: epsilon inside the root, the gain",),
    "ffn_gate": ("product with the gate's weights: scales, minima and nibbles, gate and up exchanged, row tails",),
    "ffn_up": ("product with up's weights: scales, minima and nibbles, gate and up exchanged, row tails",),
    "ffn_silu": ("the activation: x times the logistic function of x",),
    "ffn_swigl": ("product of activated gate and up",),
    "ffn_out": ("product with down's weights: scales, minima and nibbles, row tails",),
    "post_ffn_residual": ("addition to the residual stream: left out, or of another array",),
    "final_norm": ("root mean square: epsilon inside the root, the gain",),
    "lm_head": ("product with the output matrix: its scales and nibbles, its orientation, row tails",),
}
"""What a stage computes, and what of it goes wrong in practice."""


def expected(layers: int) -> list[Key]:
    """Every stage of a model, in the order of execution."""
    each = [name for name in NAMES if name not in WHOLE and name != "embedding"]
    inner: list[Key] = [(name, layer) for layer in range(layers) for name in each]
    return [("embedding", 0), *inner, ("final_norm", None), ("lm_head", None)]


def inputs(key: Key, layers: int) -> tuple[Key, ...]:
    """The stages that a stage reads, in this layer or the one before."""
    stage, layer = key
    if stage == "embedding":
        return ()
    if stage == "final_norm":
        return (("post_ffn_residual", layers - 1),)
    if stage == "lm_head":
        return (("final_norm", None),)
    before: Key = ("post_ffn_residual", layer - 1) if layer else ("embedding", 0)
    if stage == "attn_norm":
        return (before,)
    if stage == "post_attn_residual":
        return before, ("attn_out", layer)
    return tuple((name, layer) for name in _WITHIN[stage])


_WITHIN = {
    "qkv_matmul": ("attn_norm",),
    "qkv_bias": ("qkv_matmul",),
    "q_post_rope": ("qkv_bias",),
    "k_post_rope": ("qkv_bias",),
    "attn_scores": ("q_post_rope", "k_post_rope"),
    "attn_softmax": ("attn_scores",),
    "attention": ("attn_softmax", "qkv_bias"),
    "attn_out": ("attention",),
    "ffn_norm": ("post_attn_residual",),
    "ffn_gate": ("ffn_norm",),
    "ffn_up": ("ffn_norm",),
    "ffn_silu": ("ffn_gate",),
    "ffn_swigl": ("ffn_silu", "ffn_up"),
    "ffn_out": ("ffn_swigl",),
    "post_ffn_residual": ("post_attn_residual", "ffn_out"),
}


def unseen_before(key: Key, layers: int, missing: Collection[Key]) -> tuple[Key, ...]:
    """The stages between this one and what was handed over: an error of theirs shows here first."""

    def walk(place: Key) -> Iterator[Key]:
        for one in inputs(place, layers):
            if one in missing:
                yield from walk(one)
                yield one

    return tuple(dict.fromkeys(walk(key)))


def weights(key: Key, model: Model) -> tuple[Weight, ...]:
    """The matrices that a stage multiplies with, their rows one after another in its columns; () without one."""
    stage, layer = key
    if stage == "lm_head":
        return (model.output,)
    if layer is None:
        return ()
    one = model.layers[layer]
    return {
        "qkv_matmul": (one.q, one.k, one.v),
        "attn_out": (one.attn_out,),
        "ffn_gate": (one.gate,),
        "ffn_up": (one.up,),
        "ffn_out": (one.down,),
    }.get(stage, ())


def shape(stage: str, c: Config, T: int) -> tuple[int, ...]:
    """The shape of a stage of T tokens, as it is tapped."""
    if stage == "lm_head":
        return (c.vocab,)
    if stage in SQUARE:
        return T, c.heads, T
    columns = {
        "qkv_matmul": c.q_width + 2 * c.kv_width,
        "qkv_bias": c.q_width + 2 * c.kv_width,
        "q_post_rope": c.q_width,
        "k_post_rope": c.kv_width,
        "attention": c.q_width,
        "ffn_gate": c.ffn,
        "ffn_up": c.ffn,
        "ffn_silu": c.ffn,
        "ffn_swigl": c.ffn,
    }
    return T, columns.get(stage, c.hidden)


def name_of(key: Key) -> str:
    """As text: `attn_out of layer 3`, `lm_head`."""
    stage, layer = key
    return stage if layer is None else f"{stage} of layer {layer}"
