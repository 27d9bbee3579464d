"""The named stages of a forward pass, in the order of execution, and how a user selects them."""

import re
from dataclasses import dataclass

from engine.errors import EngineError

WHOLE_MODEL = 0xFFFFFFFF
"""Layer number in the header of a tensor file whose stage belongs to no layer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One place in the forward pass where a tensor can be tapped."""

    name: str
    whole_model: bool = False


STAGES = (
    Stage("embedding"),  # once, before the first layer: it lies with layer 0
    Stage("attn_norm"),
    Stage("qkv_matmul"),
    Stage("qkv_bias"),
    Stage("q_post_rope"),
    Stage("k_post_rope"),
    Stage("attn_scores"),
    Stage("attn_softmax"),
    Stage("attention"),
    Stage("attn_out"),
    Stage("post_attn_residual"),
    Stage("ffn_norm"),
    Stage("ffn_gate"),
    Stage("ffn_up"),
    Stage("ffn_silu"),
    Stage("ffn_swigl"),
    Stage("ffn_out"),
    Stage("post_ffn_residual"),
    Stage("final_norm", whole_model=True),
    Stage("lm_head", whole_model=True),
)
NAMES = tuple(stage.name for stage in STAGES)
ORDER = {name: index for index, name in enumerate(NAMES)}
WHOLE = frozenset(stage.name for stage in STAGES if stage.whole_model)
ALIASES = {"layer_output": "post_ffn_residual"}


def parse_stages(text: str) -> tuple[str, ...]:
    """Stage names from a comma-separated list or `all`, in the order of execution, each once.

    Case does not matter. Raises EngineError for an empty list, an empty name or an unknown one.
    """
    valid = f"valid stages: all, {', '.join(NAMES)}; alias: layer_output"
    chosen: set[str] = set()
    for part in text.split(","):
        name = part.strip().lower()
        name = ALIASES.get(name, name)
        if name == "all":
            chosen.update(NAMES)
        elif name in ORDER:
            chosen.add(name)
        elif not name:
            raise EngineError(f"empty stage name in {text!r}", where="--save-tensor", hint=valid)
        else:
            raise EngineError(f"unknown stage {part.strip()!r}", where="--save-tensor", hint=valid)
    return tuple(sorted(chosen, key=ORDER.__getitem__))


def parse_layers(text: str) -> range:
    """Layers from `START..END` (END is not included), as in the public tool; raises EngineError for anything else."""
    where, hint = "--layer", "write START..END with END past START, for example 0..4 for the layers 0, 1, 2 and 3"
    match = re.fullmatch(r"\s*(\d{1,9})\s*\.\.\s*(\d{1,9})\s*", text)
    if match is None:
        raise EngineError(f"{text!r} is not a range of layers", where=where, hint=hint)
    start, end = int(match[1]), int(match[2])
    if end <= start:
        raise EngineError(f"the range {text!r} is empty: its end is not past its start", where=where, hint=hint)
    return range(start, end)


def layers_within(layers: range | None, number: int) -> range:
    """The layers of a model of so many, all of them for None; raises EngineError where they end past the last."""
    if layers is not None and layers.stop > number:
        raise EngineError(
            f"the model has {number} layers: {layers.start}..{layers.stop} ends past them",
            where="--layer",
            hint=f"0..{number} names them all",
        )
    return layers or range(number)
