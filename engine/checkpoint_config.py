"""The configuration in config.json of a folder of the Hugging Face layout.

Source: LlamaConfig, Qwen2Config and modeling_rope_utils of transformers 4 and 5: names of the keys, and what holds
where one is missing. A key of theirs that changes the arithmetic is computed as they do it, or refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import CONFIG, Checkpoint
from engine.config import Config, check_numbers
from engine.errors import EngineError, brief
from engine.numerics import llama3_factors

CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
"""The supported values of model_type, and the class that transformers computes each with."""
SCALINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""The supported kinds of RoPE, and their parameters."""

T = TypeVar("T")
_ALWAYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
_DEFAULT_WINDOW, _DEFAULT_FIRST = 4096, 28  # of Qwen2Config: tokens, and the first layer that has the window


def read_config(checkpoint: Checkpoint) -> tuple[Config, NDArray[np.float32] | None]:
    """The configuration, and what the RoPE frequencies are divided by, (head_dim / 2,), None where it is all ones.

    Raises EngineError for what is missing, impossible, or would be computed otherwise than the model's authors do.
    """
    keys = Settings(checkpoint.config, str(checkpoint.path / CONFIG))
    architecture = read_architecture(keys)
    _refuse_unsupported(keys, architecture)
    hidden, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    kv_heads = keys.count("num_key_value_heads", heads)
    head_dim = keys.count("head_dim", hidden // heads)
    layers, context = keys.count("num_hidden_layers"), keys.count("max_position_embeddings")
    if head_dim % 2:
        raise keys.error(f"head_dim {head_dim} is odd: its elements cannot be rotated in pairs")
    _refuse_window(keys, architecture, layers, context)
    rope, kind = _rope(keys)
    base, rms_eps = rope.number("rope_theta"), keys.number("rms_norm_eps", 1e-6)
    check_numbers(keys.where, heads=heads, kv_heads=kv_heads, rms_eps=rms_eps, rope_base=base)
    config = Config(
        architecture=architecture,
        name=checkpoint.name,
        n_layers=layers,
        hidden=hidden,
        ffn=keys.count("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=keys.count("vocab_size"),
        context=context,
        rms_eps=rms_eps,
        rope_base=base,
        rope_dim=head_dim,
        rope_scale=rope.scale("factor") if kind == "linear" else 1.0,
        pairing="halves",  # in this layout of llama too: the converters to GGUF permute its Q and K
        qkv_bias=architecture == "qwen2",
        tied=keys.flag("tie_word_embeddings"),
    )
    return config, _llama3_factors(rope, base, head_dim, context) if kind == "llama3" else None


@dataclass(frozen=True, slots=True)
class Settings:
    """An object of a JSON file; a key that is null counts as missing. `where` names it in errors."""

    values: Mapping[str, Any]
    where: str

    def get(self, key: str, kinds: tuple[type[T], ...], wanted: str) -> T | None:
        """The value of a key, of one of these very types; None for a key that is missing."""
        value = self.values.get(key)
        if value is not None and type(value) not in kinds:  # not isinstance: true is no number
            raise self.error(f"{key} is {brief(value)}, not {wanted}")
        found: T | None = value
        return found

    def count(self, key: str, default: int | None = None) -> int:
        """A number of things, 1 to 2^31 - 1."""
        found = self.get(key, (int,), "a whole number")
        value = default if found is None else found
        if value is None:
            raise self.error(f"{key} is missing")
        if not 0 < value < 2**31:
            raise self.error(f"{key} is {value}, not a positive number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number, which may be anything that a float can be."""
        found = self.get(key, (float, int), "a number")
        value = default if found is None else found
        if value is None:
            raise self.error(f"{key} is missing")
        try:
            return float(value)
        except OverflowError:  # JSON has whole numbers of any size
            raise self.error(f"{key} is {brief(value)}, which no float can hold") from None

    def scale(self, key: str) -> float:
        """A finite number above 0, which something is divided by."""
        value = self.number(key)
        if not 0 < value < 1e6:
            raise self.error(f"{key} is {value}, not a finite number above 0")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false for a key that is missing."""
        return bool(self.get(key, (bool,), "true or false"))

    def error(self, message: str, hint: str = "take the folder as its authors published it") -> EngineError:
        return EngineError(message, where=self.where, hint=hint)


def read_architecture(keys: Settings) -> str:
    """The model_type, one of CLASSES; raises EngineError for any other, and for another class of that type."""
    supported = "supported: " + ", ".join(f"{kind} ({name})" for kind, name in CLASSES.items())
    kind = keys.get("model_type", (str,), "a text")
    if kind not in CLASSES:
        said = "model_type is missing" if kind is None else f"architecture {brief(kind)} is not supported"
        raise keys.error(said, supported)
    classes = keys.get("architectures", (list,), "a list")
    if classes and classes != [CLASSES[kind]]:
        raise keys.error(f"architectures {brief(classes)} of {kind} is not supported", supported)
    return str(kind)


def _refuse_unsupported(keys: Settings, architecture: str) -> None:
    quantised = keys.get("quantization_config", (dict,), "an object")
    if quantised is not None:
        method = quantised.get("quant_method", "an unnamed method")
        raise keys.error(
            f"its weights are quantised by {brief(method)}, which is not supported (quantization_config)",
            "take the model in F32, F16 or BF16, or quantised in a GGUF file",
        )
    activation = keys.get("hidden_act", (str,), "a text")
    if activation not in (None, "silu", "swish"):
        raise keys.error(f"hidden_act {brief(activation)} is not supported", "supported: silu")
    biased = ("mlp_bias", "attention_bias") if architecture == "llama" else ()  # a qwen2 has no such keys
    for key in (*biased, "rope_interleaved"):
        if keys.flag(key):
            raise keys.error(f"{key} is not supported", "take another model: the engine has no such step")


def _refuse_window(keys: Settings, architecture: str, layers: int, context: int) -> None:
    """Refuse attention that sees less than all tokens before."""
    kinds = keys.get("layer_types", (list,), "a list")
    others = [kind for kind in kinds or () if kind != "full_attention"]
    if others:
        raise keys.error(f"layer_types names {brief(others[0])}, which is not supported", "supported: full_attention")
    if kinds or (architecture == "qwen2" and not keys.flag("use_sliding_window")):
        return
    window = keys.get("sliding_window", (int,), "a whole number")
    if architecture == "qwen2":
        if "sliding_window" not in keys.values:
            window = _DEFAULT_WINDOW
        first = keys.get("max_window_layers", (int,), "a whole number")
        if (_DEFAULT_FIRST if first is None else first) >= layers:
            return
    if window is not None and window < context:
        raise keys.error(f"sliding-window attention is not supported (window {window}, context {context})")


def _rope(keys: Settings) -> tuple[Settings, str]:
    """The RoPE parameters, rope_theta among them, and their kind.

    transformers 4 writes rope_theta, and rope_scaling where there is any; 5 writes all into rope_parameters.
    """
    found = {name: keys.get(name, (dict,), "an object") for name in ("rope_parameters", "rope_scaling")}
    stated = [name for name, values in found.items() if values]
    if len(stated) == 2 and found["rope_parameters"] != found["rope_scaling"]:
        raise keys.error("rope_parameters and rope_scaling contradict each other")
    name = stated[0] if stated else "rope_scaling"
    rope = Settings({key: value for key, value in (found[name] or {}).items() if value is not None}, keys.where)
    types = {rope.get(key, (str,), "a text") for key in ("rope_type", "type")} - {None}
    kind = next(iter(types), "default")
    if len(types) == 2:
        raise keys.error(f"rope_type and type of {name} contradict each other")
    if kind not in SCALINGS:
        raise keys.error(f"RoPE of type {brief(kind)} is not supported ({name})", f"supported: {', '.join(SCALINGS)}")
    unknown = sorted(rope.values.keys() - {*_ALWAYS, *SCALINGS[kind]})
    if unknown:
        raise keys.error(f"{name} of type {kind} holds {brief(unknown[0])}, which is not supported")
    thetas = [each.number("rope_theta") for each in (rope, keys) if each.values.get("rope_theta") is not None]
    if len(thetas) == 2 and thetas[0] != thetas[1]:
        raise keys.error(f"rope_theta is {thetas[1]}, but {thetas[0]} in {name}")
    for each in (rope, keys):
        part = each.number("partial_rotary_factor", 1.0)
        if part != 1.0:
            raise keys.error(f"a rotation of a part of each head is not supported (partial_rotary_factor {part})")
    return Settings({**rope.values, "rope_theta": thetas[0] if thetas else 10000.0}, f"{keys.where}: {name}"), kind


def _llama3_factors(rope: Settings, base: float, dim: int, context: int) -> NDArray[np.float32]:
    factor = rope.scale("factor")
    low, high = rope.scale("low_freq_factor"), rope.scale("high_freq_factor")
    original = rope.count("original_max_position_embeddings", context)
    if not low < high:
        raise rope.error(f"low_freq_factor {low} is not below high_freq_factor {high}")
    return llama3_factors(base, dim, factor, low, high, original)
