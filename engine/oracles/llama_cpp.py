"""llama.cpp as an oracle: the same GGUF file on its CPU backend, stages from its evaluation callback.

What engine.oracles.llama_cpp_stages makes of the graph; here is the library, its model, its contexts and its log.
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

from engine.config import Config
from engine.errors import EngineError
from engine.generate import check_prompt
from engine.gguf import read_gguf
from engine.model import read_model
from engine.opening import is_single
from engine.oracles import Capture, MissingLibraryError, library
from engine.oracles.ggml import Ggml
from engine.oracles.llama_cpp_stages import F32, Stages

_F32 = 0  # GGML_TYPE_F32
_NOTES = (
    "attn_scores are the products kq times the scale, -inf where masked, by the scale and mask that its softmax takes",
    "products take activations rounded to the type that goes with the weights: int8 for 8 bits and fewer, F16, BF16",
)


class LlamaCpp:
    """A GGUF model in llama.cpp: prompts in one piece, each in a context of its own."""

    name = "llama-cpp"
    variant = "cpu, flash attention off, keys and values in float32"

    def __init__(self, model: Path) -> None:
        """Load the model, and see on a prompt of one token which stages the callback exposes.

        Raises EngineError for a missing or unknown library, and a model that it or we cannot read.
        """
        if not is_single(model):
            raise EngineError(
                "llama.cpp reads GGUF files, this is a model of the Hugging Face layout",
                where=str(model),
                hint="name a GGUF file, or ask the oracle transformers",
            )
        self.config: Config = read_model(read_gguf(model)).config
        if self.config.rope_dim != self.config.head_dim:  # of a qwen2 it would end the process
            raise EngineError(
                f"llama.cpp rotates whole heads, of {self.config.head_dim} elements; this model rotates "
                f"{self.config.rope_dim} of them",
                where=str(model),
                hint="ask the oracle transformers",
            )
        self._c = _llama_cpp()
        self._ggml = Ggml(self._c._lib)
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
        stages = Stages(self.config, len(tokens), self._ggml, capture, self.missing)
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
        stages = Stages(self.config, 1, self._ggml, lambda *_: None, ())
        self._decode([0], stages)
        return stages.missing

    def _decode(self, tokens: Sequence[int], stages: Stages | None) -> F32:
        if not self._free.alive:
            raise ValueError("the oracle is closed")
        check_prompt(tokens, self.config.context)
        c, length = self._c, len(tokens)
        params = c.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = length
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        params.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it keeps neither scores nor softmax
        params.type_k = params.type_v = _F32
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


def open_model(model: Path) -> LlamaCpp:
    """The oracle with the model open; it has no options."""
    return LlamaCpp(model)


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
