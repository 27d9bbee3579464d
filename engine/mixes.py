"""Which format each tensor of a quantised model has: the mixes that llama.cpp names, from q4_0 to q6_k.

Source: llama_tensor_get_type_impl and tensor_type_fallback in llama-quant.cpp of ggml-org/llama.cpp, without an
importance matrix, for the architectures that this engine reads.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.formats import FORMATS, Format
from engine.suggestion import named

NAMED = {fmt.name: fmt for fmt in FORMATS.values()}


@dataclass(frozen=True, slots=True)
class Mix:
    """A mix by its name; file_type is llama.cpp's number for it, the value of general.file_type."""

    name: str
    file_type: int
    base: str


MIXES: dict[str, Mix] = {
    mix.name: mix
    for mix in (
        Mix("q4_0", 2, "Q4_0"),
        Mix("q4_1", 3, "Q4_1"),
        Mix("q5_0", 8, "Q5_0"),
        Mix("q5_1", 9, "Q5_1"),
        Mix("q8_0", 7, "Q8_0"),
        Mix("q4_k_s", 14, "Q4_K"),
        Mix("q4_k_m", 15, "Q4_K"),
        Mix("q5_k_s", 16, "Q5_K"),
        Mix("q5_k_m", 17, "Q5_K"),
        Mix("q6_k", 18, "Q6_K"),
        Mix("f16", 1, "F16"),
        Mix("bf16", 32, "BF16"),
        Mix("f32", 0, "F32"),
    )
}
ALIASES = {"q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""As llama.cpp reads them."""

NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What takes the place of a format in blocks of 256, for rows that are not whole blocks of it."""


def mix_named(name: str, where: str) -> Mix:
    """The mix of a name in any case; `where` names the flag in the EngineError for an unknown one."""
    known = [*MIXES, *ALIASES]
    found = named(name.lower(), known, what="mix of formats", where=where)
    return MIXES[ALIASES.get(found, found)]


def format_of(
    mix: Mix,
    name: str,
    shape: tuple[int, ...],
    *,
    n_layers: int,
    tied: bool,
    tell: Callable[[str], None] = lambda line: None,
) -> Format:
    """The format of one tensor in a mix.

    shape  in numpy's order
    tied   the model has no output matrix of its own: its embedding serves as one
    tell   called with a line when the rows do not fit the format that the mix wants
    """
    if len(shape) == 1 or not name.endswith("weight") or name.endswith("_norm.weight"):
        return NAMED["F32"]
    wanted = NAMED[_wanted(mix, name, n_layers, tied)]
    fitting = wanted
    while shape[-1] % fitting.block:
        fitting = NAMED[NARROWER.get(fitting.name, "F16")]
    if fitting is not wanted:
        tell(
            f"{name}: rows of {shape[-1]} weights are not whole {wanted.name} blocks of {wanted.block}; "
            f"written as {fitting.name}"
        )
    return fitting


def _wanted(mix: Mix, name: str, n_layers: int, tied: bool) -> str:
    """The format that a mix wants for a matrix, whatever its shape."""
    base = mix.base
    if base in ("Q8_0", "F16", "BF16", "F32"):
        return base
    if name == ("token_embd.weight" if tied else "output.weight"):
        return "Q6_K"
    match = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
    if match is None:
        return base
    layer, values = int(match[1]), match[2] == "attn_v"
    if mix.name in ("q4_k_m", "q5_k_m") and _more_bits(layer, n_layers):
        return "Q6_K"
    if mix.name == "q4_k_s" and layer < (4 if values else n_layers // 8):
        return "Q5_K"
    if base == "Q4_K" and values and n_layers == 80:  # models of 70B, whose attn_v is small beside all else
        return "Q5_K"
    return base


def _more_bits(layer: int, n_layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
