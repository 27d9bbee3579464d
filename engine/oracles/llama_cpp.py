"""llama.cpp as an oracle: the same GGUF file on its CPU backend, stages from its evaluation callback.

Nodes of its graph are told by what computes them: a product by the name of its weight, anything else by its own name
and its operation (one name, such as Qcur, is used before and after the bias and after the rotation). What the graph
does not hold as a node of its own is missing: of the SwiGLU, for one, SiLU and product are a single operation.
"""

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.errors import EngineError
from engine.generate import check_prompt
from engine.gguf import read_gguf
from engine.model import read_model
from engine.opening import is_single
from engine.oracles import Capture, MissingLibraryError, library
from engine.oracles.ggml import Ggml
from engine.stages import NAMES, ORDER, WHOLE
from engine.variants import KV_CACHES

F32 = NDArray[np.float32]

_CACHE_TYPES = {"float32": 0, "float16": 1}  # GGML_TYPE_F32, GGML_TYPE_F16
_PRODUCTS = {
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_output": "attn_out",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_down": "ffn_out",
}
"""What a product (MUL_MAT) is, by the weight blk.N.<name>.weight: a stage, or a part of one."""
_NODES = {
    ("embd", "GET_ROWS"): "embedding",
    ("attn_norm", "MUL"): "attn_norm",
    ("Qcur", "ADD"): "q biased",
    ("Kcur", "ADD"): "k biased",
    ("Vcur", "ADD"): "v biased",
    ("Qcur", "ROPE"): "q_post_rope",
    ("Kcur", "ROPE"): "k_post_rope",
    ("kq", "MUL_MAT"): "kq",
    ("kq_soft_max", "SOFT_MAX"): "attn_softmax",
    ("kqv_out", "CONT"): "attention",
    ("ffn_inp", "ADD"): "post_attn_residual",
    ("ffn_norm", "MUL"): "ffn_norm",
    ("ffn_swiglu", "SWIGLU"): "ffn_swigl",
    ("l_out", "ADD"): "post_ffn_residual",
    ("result_norm", "MUL"): "final_norm",
    ("result_output", "MUL_MAT"): "lm_head",
}
"""What any other node is, by its name without the layer and its operation."""
_WEIGHT = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
_NAME = re.compile(r"(\w+?)(?:-(\d+))?")
_NOTES = (
    "llama.cpp keeps no scores: attn_scores are the products kq times the scale, -inf where masked, with the scale and "
    "the mask that its softmax takes",
    "matrices in Q8_0 and smaller are multiplied with activations rounded to 8 bits, those in F16 and BF16 with "
    "activations rounded to that type",
)


class LlamaCpp:
    """A GGUF model in llama.cpp: prompts in one piece, each in a context of its own."""

    name = "llama-cpp"

    def __init__(self, model: Path, *, kv_cache: str = KV_CACHES[0]) -> None:
        """Load the model, and see on a prompt of one token which stages the callback exposes.

        kv_cache  what keys and values are kept in, of engine.variants.KV_CACHES

        Raises EngineError for a missing or unknown library, and a model that it or we cannot read.
        """
        if kv_cache not in _CACHE_TYPES:
            raise EngineError(f"unknown kind of cache {kv_cache!r}", hint=f"one of: {', '.join(_CACHE_TYPES)}")
        if not is_single(model):
            raise EngineError(
                "llama.cpp reads GGUF files, this is a model of the Hugging Face layout",
                where=str(model),
                hint="name a GGUF file, or ask the oracle transformers",
            )
        self.config: Config = read_model(read_gguf(model)).config
        self._c = _llama_cpp()
        self._ggml = Ggml(self._c._lib)
        self._cache_type = _CACHE_TYPES[kv_cache]
        self.variant = f"cpu, flash attention off, keys and values in {kv_cache}"
        self.engine = f"llama-cpp-python {version('llama_cpp_python')}, ggml {self._ggml.version()}"
        self.notes = (*_NOTES, f"llama.cpp was built with {_features(self._c)}")
        self._model = self._load(model)
        self._free = finalize(self, _free_model, self._c, self._model)
        self.missing: tuple[str, ...] = ()
        self.missing = self._probe()

    def tokens(self, prompt: str) -> list[int]:
        """Ids of a prompt by llama.cpp's tokenizer; special tokens are read, a start token put in where it is due."""
        if not self._free.alive:
            raise ValueError("the oracle is closed")
        text = prompt.encode()
        vocabulary = self._c.llama_model_get_vocab(self._model)
        room = len(text) + 8  # a token stands for a byte at least, but for the start and the end
        ids = (self._c.llama_token * room)()
        count = self._c.llama_tokenize(vocabulary, text, len(text), ids, room, True, True)
        if count < 0:
            raise EngineError(f"llama.cpp cannot cut the prompt into tokens ({count})", where="llama-cpp")
        return list(ids[:count])

    def forward(self, tokens: Sequence[int], capture: Capture | None = None) -> F32:
        """Logits (vocab,) float32 of the last of `tokens`; see engine.oracles.Oracle.

        Logits of all positions are asked for, as llama.cpp would else leave out rows of the last layer.
        """
        if capture is None:
            return self._decode(tokens, None)
        stages = _Stages(self.config, len(tokens), self._ggml, capture, self.missing)
        logits = self._decode(tokens, stages)
        if stages.missing != self.missing:
            raise EngineError(
                f"llama.cpp did not give {', '.join(stages.missing)}, of a prompt of one token all but "
                f"{', '.join(self.missing) or 'none'}",
                where="llama-cpp",
            )
        return logits

    def close(self) -> None:
        """Free the model; it is not used afterwards."""
        self._free()

    def _load(self, model: Path) -> int:
        params = self._c.llama_model_default_params()
        params.n_gpu_layers = 0  # an oracle computes where the least is rounded, and everybody can repeat it
        with _quiet(self._c) as errors:
            self._c.llama_backend_init()
            loaded: int | None = self._c.llama_model_load_from_file(os.fsencode(model), params)
        if not loaded:
            raise EngineError(f"llama.cpp cannot load it: {_reason(errors)}", where=str(model))
        return loaded

    def _probe(self) -> tuple[str, ...]:
        stages = _Stages(self.config, 1, self._ggml, lambda *_: None, ())
        self._decode([0], stages)
        return stages.missing

    def _decode(self, tokens: Sequence[int], stages: "_Stages | None") -> F32:
        if not self._free.alive:
            raise ValueError("the oracle is closed")
        check_prompt(tokens, self.config.context)
        c, length = self._c, len(tokens)
        params = c.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = length
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        params.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it keeps neither scores nor softmax
        params.type_k = params.type_v = self._cache_type
        params.offload_kqv = params.op_offload = False
        if stages is not None:
            callback = c.ggml_backend_sched_eval_callback(stages.evaluated)  # must outlive the context
            params.cb_eval = callback
        with _quiet(c) as errors, _context(c, self._model, params, errors) as context:
            batch = c.llama_batch_init(length, 0, 1)
            try:
                batch.n_tokens = length
                for index, token in enumerate(tokens):
                    batch.token[index], batch.pos[index] = token, index
                    batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
                code = c.llama_decode(context, batch)
            finally:
                c.llama_batch_free(batch)
            if stages is not None and stages.error is not None:
                raise stages.error
            if code:
                raise EngineError(f"llama.cpp cannot run the prompt ({code}): {_reason(errors)}", where="llama-cpp")
            last = c.llama_get_logits_ith(context, length - 1)
            return np.ctypeslib.as_array(last, (self.config.vocab,)).astype(np.float32, copy=True)


class _Stages:
    """Gathers the parts of a layer as the graph gives them, and hands its stages over, in our order, when it ends."""

    def __init__(self, config: Config, length: int, ggml: Ggml, capture: Capture, left_out: Sequence[str]) -> None:
        self.error: BaseException | None = None
        self._config, self._length, self._ggml = config, length, ggml
        self._capture, self._left_out = capture, left_out
        self._parts: dict[str, F32] = {}
        self._layer = 0
        self._mask: F32 = np.empty(0, np.float32)
        self._scale = np.float32(np.nan)
        self._given: set[tuple[str, int | None]] = set()

    @property
    def missing(self) -> tuple[str, ...]:
        """Stages that did not come, or not in every layer."""
        layers = range(self._config.n_layers)

        def owners(stage: str) -> Sequence[int | None]:
            return (None,) if stage in WHOLE else (0,) if stage == "embedding" else layers

        return tuple(stage for stage in NAMES if any((stage, layer) not in self._given for layer in owners(stage)))

    def evaluated(self, tensor: int, ask: bool, _: object) -> bool:
        """The callback: asked before a node is computed whether it is wanted, then called with its result."""
        try:
            part, layer = self._part_of(tensor)
            if part is None:
                return not ask
            if not ask:
                self._take(part, layer, self._ggml.read(tensor))
            elif part == "attn_softmax":  # before: its operands may be written over
                self._read_operands(tensor)
        except BaseException as error:  # nothing may pass through the C code that called
            self.error = error
            return False
        return True

    def _part_of(self, tensor: int) -> tuple[str | None, int | None]:
        operation = self._ggml.operation(tensor)
        if operation == "MUL_MAT":
            weight = _WEIGHT.fullmatch(self._ggml.name(self._ggml.source(tensor, 0)))
            if weight is not None:
                return _PRODUCTS.get(weight[2]), int(weight[1])
        name = _NAME.fullmatch(self._ggml.name(tensor))
        if name is None:
            return None, None
        return _NODES.get((name[1], operation)), None if name[2] is None else int(name[2])

    def _read_operands(self, softmax: int) -> None:
        mask = self._ggml.source(softmax, 1)
        self._scale, slope = np.float32(self._ggml.parameter(softmax, 0)), self._ggml.parameter(softmax, 1)
        if mask is None or slope != 0 or self._ggml.source(softmax, 2) is not None:
            raise EngineError("llama.cpp's softmax has no mask, or a slope or sinks beside it", where="llama-cpp")
        self._mask = self._ggml.read(mask)

    def _take(self, part: str, layer: int | None, array: F32) -> None:
        if part in self._parts or layer not in (None, self._layer):
            raise EngineError(f"llama.cpp computed {part} of layer {layer} out of turn, or twice", where="llama-cpp")
        self._parts[part] = array
        if part == "post_ffn_residual" or part in WHOLE:
            self._hand_over(layer)

    def _hand_over(self, layer: int | None) -> None:
        parts, self._parts = self._parts, {}
        self._layer += 1
        stages = {stage: array for stage, array in self._assembled(parts).items() if stage not in self._left_out}
        for stage in sorted(stages, key=ORDER.__getitem__):
            self._given.add((stage, layer))
            self._capture(stage, layer, stages[stage])

    def _assembled(self, parts: dict[str, F32]) -> dict[str, F32]:
        """The stages that the parts make up, each checked and in our layout."""
        c = self._config
        widths = {"q": c.q_width, "k": c.kv_width, "v": c.kv_width, "q_post_rope": c.q_width, "k_post_rope": c.kv_width}
        widths |= {"attention": c.q_width, "ffn_gate": c.ffn, "ffn_up": c.ffn, "ffn_swigl": c.ffn, "lm_head": c.vocab}
        widths |= {f"{part} biased": widths[part] for part in "qkv"}
        square = {part: parts.pop(part) for part in ("kq", "attn_softmax") if part in parts}
        rows = {part: self._rows(part, array, widths.get(part, c.hidden)) for part, array in parts.items()}
        stages = {part: array for part, array in rows.items() if part in ORDER}
        if not {"q", "k", "v"} - rows.keys():
            stages["qkv_matmul"] = np.concatenate([rows["q"], rows["k"], rows["v"]], axis=1)
        if not c.qkv_bias and "qkv_matmul" in stages:
            stages["qkv_bias"] = stages["qkv_matmul"].copy()
        elif not {"q biased", "k biased", "v biased"} - rows.keys():
            stages["qkv_bias"] = np.concatenate([rows["q biased"], rows["k biased"], rows["v biased"]], axis=1)
        if "lm_head" in stages:
            stages["lm_head"] = stages["lm_head"][-1].copy()
        if len(square) == 2:  # of the scores the mask is known by the softmax
            stages |= self._attention(square["kq"], square["attn_softmax"])
        return stages

    def _rows(self, part: str, array: F32, width: int) -> F32:
        """(T, width), which is (T, heads, head_dim) after the rotation."""
        T, head_dim = self._length, self._config.head_dim
        wanted = (1, T, width // head_dim, head_dim) if part.endswith("_post_rope") else (1, 1, T, width)
        if array.shape != wanted:
            raise EngineError(
                f"llama.cpp's {part} has the lengths {array.shape}, the prompt needs {wanted}", where="llama-cpp"
            )
        return array.reshape(T, width)

    def _attention(self, products: F32, softmax: F32) -> dict[str, F32]:
        """Scores and softmax, (T, heads, T) each; keys beyond the prompt, which fill up a multiple of 256, are cut off.

        products, softmax  (1, heads, T, keys)
        """
        T, heads = self._length, self._config.heads
        keys = products.shape[-1]
        mask = self._mask.reshape(-1, self._mask.shape[-1])
        if products.shape != (1, heads, T, keys) or softmax.shape != products.shape or mask.shape != (T, keys):
            raise EngineError(
                f"llama.cpp's scores, softmax and mask have the lengths {products.shape}, {softmax.shape} and "
                f"{mask.shape}, the prompt needs {(1, heads, T, 'keys')}",
                where="llama-cpp",
            )
        if keys < T or (mask[:, T:] != -np.inf).any() or softmax[..., T:].any():
            raise EngineError("llama.cpp attends to keys that are not the prompt's", where="llama-cpp")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is for the reader to see
            scores = np.where(mask == -np.inf, np.float32(-np.inf), products[0] * self._scale + mask)
        return {
            "attn_scores": np.ascontiguousarray(scores[..., :T].transpose(1, 0, 2)),
            "attn_softmax": np.ascontiguousarray(softmax[0, ..., :T].transpose(1, 0, 2)),
        }


def open_model(model: Path, **options: Any) -> LlamaCpp:
    """The oracle with the model open; options are those of LlamaCpp."""
    return LlamaCpp(model, **options)


def _llama_cpp() -> Any:
    """The low-level interface of llama-cpp-python."""
    try:
        return library(LlamaCpp.name, "llama_cpp").llama_cpp
    except (OSError, RuntimeError) as error:  # what it raises where its shared libraries do not load
        raise MissingLibraryError(
            f"the oracle llama-cpp cannot be loaded: {error}",
            hint="install it again for this machine: pip install --force-reinstall 'pv-contracts[llama-cpp]'",
        ) from error


def _features(c: Any) -> str:
    """The instructions and kernels that llama.cpp was built with, such as "AVX2, FMA, REPACK"."""
    words = re.findall(r"(\w+) = 1", c.llama_print_system_info().decode())
    return ", ".join(words) or "no special instructions"


@contextmanager
def _quiet(c: Any) -> Iterator[list[str]]:
    """Keep what llama.cpp logs, for the whole process, off standard error; gives the lines that told errors."""
    errors: list[str] = []
    before, data = c.llama_log_callback(), ctypes.c_void_p()
    c.llama_log_get(ctypes.byref(before), ctypes.byref(data))

    @c.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _: object) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            errors.append(text.decode("utf-8", "replace").strip())

    c.llama_log_set(keep, None)
    try:
        yield errors
    finally:
        c.llama_log_set(before, data)


@contextmanager
def _context(c: Any, model: int, params: Any, errors: list[str]) -> Iterator[int]:
    context = c.llama_init_from_model(model, params)
    if not context:
        raise EngineError(f"llama.cpp cannot make a context: {_reason(errors)}", where="llama-cpp")
    try:
        yield context
    finally:
        c.llama_free(context)


def _reason(errors: list[str]) -> str:
    return errors[0] if errors else "it does not say why"


def _free_model(c: Any, model: int) -> None:
    with _quiet(c):
        c.llama_model_free(model)
