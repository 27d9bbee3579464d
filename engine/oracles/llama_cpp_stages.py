"""What llama.cpp's evaluation callback is shown, as stages of ours.

Nodes of its graph are told by what computes them: a product by the name of its weight, anything else by its own name
and its operation (one name, such as Qcur, is used before and after the bias and after the rotation). What the graph
does not hold as a node of its own is missing: of the SwiGLU, for one, SiLU and product are a single operation.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.config import Config
from engine.errors import EngineError
from engine.oracles import Capture
from engine.oracles.ggml import Ggml
from engine.stages import NAMES, ORDER, WHOLE

F32 = NDArray[np.float32]

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


class Stages:
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
