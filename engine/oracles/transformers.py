"""Hugging Face Transformers as an oracle: the same GGUF file or safetensors folder, eager attention, on the CPU.

A GGUF file's weights are dequantised, so its arithmetic is plain float in the dtype that is asked for.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.errors import EngineError
from engine.model import Model, read_model
from engine.opening import open_file
from engine.oracles import Capture, library

NAME = "transformers"
DTYPES = ("float32", "float16", "bfloat16")
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
BESIDE = "qkv_matmul is computed beside what runs: the library adds the bias within the product"
SAME = 1e-5
"""How far a constant of the configuration may lie from ours, relatively: the library works some out in float32."""


class TransformersOracle:
    """A model open in Transformers; see engine.oracles.Oracle."""

    name = NAME
    missing: tuple[str, ...] = ()

    def __init__(self, network: Any, model: Model, place: dict[str, Any], dtype: str) -> None:
        self._network, self._place = network, place
        self.model, self.variant = model, dtype
        self.engine = f"transformers {version('transformers')}, torch {version('torch')}"
        self.notes = (BESIDE,) if model.config.qkv_bias else ()

    def tokens(self, prompt: str) -> list[int]:
        with _quiet(self.model.path, "the tokenizer"):
            tokenizer = library(NAME, "transformers").AutoTokenizer.from_pretrained(**self._place)
            return [int(id_) for id_ in tokenizer(prompt).input_ids]

    def forward(self, tokens: Sequence[int], capture: Capture | None = None) -> NDArray[np.float32]:
        import torch

        from engine.oracles.transformers_capture import captured, copied

        def run() -> NDArray[np.float32]:
            output = self._network(torch.tensor([list(tokens)]), use_cache=False, logits_to_keep=1)
            return copied(output.logits[0, -1])

        with torch.no_grad():
            if capture is None:
                return run()
            with captured(self._network, self.model.config, capture):
                return run()

    def close(self) -> None:
        self._network = None


def open_model(path: Path, dtype: str = DTYPES[0]) -> TransformersOracle:
    """The model of a GGUF file or a folder, in Transformers.

    dtype  what weights are converted to, and what is computed in: one of DTYPES

    Raises EngineError where a library is missing, where the engine or Transformers cannot read the model, and where the
    two do not read the same model from it.
    """
    if dtype not in DTYPES:
        raise EngineError(f"unknown dtype {dtype!r}", where="--dtype", hint=f"one of: {', '.join(DTYPES)}")
    model = read_model(open_file(path))
    torch, transformers = library(NAME, "torch"), library(NAME, "transformers")
    for needed in ("accelerate", "gguf"):
        library(NAME, needed)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    file = model.path
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(file), "local_files_only": True}
    if not file.is_dir():
        place |= {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with _quiet(file, "the model"):
        network, info = transformers.AutoModelForCausalLM.from_pretrained(
            **place, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True
        )
    _check(network.eval(), info, model)
    return TransformersOracle(network, model, place, dtype)


@contextmanager
def _quiet(path: Path, what: str) -> Iterator[None]:
    """Keep the library's progress bars and warnings to ourselves; its errors are the model's."""
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    except Exception as error:  # there is no list of what it may raise
        raise EngineError(
            f"transformers cannot read {what}: {type(error).__name__}: {error}",
            where=str(path),
            hint="it can be no oracle for this model; take another one",
        ) from error


def _check(network: Any, info: Any, model: Model) -> None:
    """Raise EngineError where Transformers has read something else: it leaves out in silence what it does not know."""
    c = model.config
    kind = type(network).__name__
    found: dict[str, tuple[object, object]] = {"class": (kind, CLASSES[c.architecture])}
    if kind == CLASSES[c.architecture]:
        found |= _constants(network, model)
    lost = [name for key in ("missing_keys", "mismatched_keys", "unexpected_keys") for name in map(str, info[key])]
    if lost:
        found["number of weights without their like"] = (len(lost), 0)
    for name, (theirs, ours) in found.items():
        if theirs != ours:
            raise EngineError(
                f"transformers reads another model from it: the {name} is {theirs} there and {ours} here",
                where=str(model.path),
                hint="it leaves out some of what a GGUF file says (rope.scaling, rope_freqs.weight, key_length): take "
                "the safetensors folder of the model, or another oracle",
            )


def _constants(network: Any, model: Model) -> dict[str, tuple[object, object]]:
    """What both have read: theirs, ours; equal where they are the same up to SAME."""
    c, settings = model.config, network.config
    rotary = network.model.rotary_emb
    pairs: dict[str, tuple[object, object]] = {
        "hidden size": (settings.hidden_size, c.hidden),
        "feed-forward size": (settings.intermediate_size, c.ffn),
        "number of layers": (settings.num_hidden_layers, c.n_layers),
        "number of heads": (settings.num_attention_heads, c.heads),
        "number of key/value heads": (settings.num_key_value_heads, c.kv_heads),
        "head size": (network.model.layers[0].self_attn.head_dim, c.head_dim),
        "vocabulary": (settings.vocab_size, c.vocab),
        "output matrix's tie to the embedding": (settings.tie_word_embeddings, c.tied),
        "number of rotary frequencies": (len(rotary.inv_freq), c.rope_dim // 2),
    }
    if len(rotary.inv_freq) == c.rope_dim // 2:
        theirs, ours = rotary.inv_freq.double().numpy() * float(rotary.attention_scaling), _frequencies(c, model)
        first = int(np.argmax(np.abs(theirs - ours) > SAME * ours))  # 0 where all are the same
        pairs[f"rotary frequency {first}"] = _near(float(theirs[first]), float(ours[first]))
    pairs["epsilon of the norms"] = _near(float(settings.rms_norm_eps), c.rms_eps)
    return pairs


def _frequencies(c: Config, model: Model) -> NDArray[np.float64]:
    """(rope_dim / 2,) by what a position is multiplied to give an angle, as engine.reference has it."""
    plain = c.rope_base ** (-2.0 * np.arange(c.rope_dim // 2) / c.rope_dim) / c.rope_scale
    return plain if model.rope_factors is None else plain / model.rope_factors


def _near(theirs: float, ours: float) -> tuple[float, float]:
    return (ours, ours) if abs(theirs - ours) <= SAME * abs(ours) else (theirs, ours)
