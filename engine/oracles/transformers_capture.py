"""What Transformers computes, stage by stage, while its own eager code runs.

Most stages are what a module is given or returns, and a hook reads them. Queries and keys after RoPE, and the mixed
values, are what passes through the attention interface; the scores are what the library's eager attention gives its
softmax. Nothing that runs is written here, so the logits keep every bit.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from engine.config import Config
from engine.errors import EngineError
from engine.oracles import Capture

Hook = Callable[..., None]
EAGER, WATCHED = "eager", "eager_watched"
"""Names of attention implementations: the library's, and the same one with what passes through it seen."""


class SoftmaxInputs(TorchFunctionMode):  # type: ignore[misc]  # torch is not followed: to mypy its classes are Any
    """Keeps what the softmax calls within the block are given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.softmax:
            self.seen.append(args[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def captured(network: Any, config: Config, capture: Capture) -> Iterator[None]:
    """Hand every stage of the forward passes within the block to `capture`, in our shapes and our layout.

    network  a LlamaForCausalLM or a Qwen2ForCausalLM with eager attention; it is as before when the block ends
    config   of our model; where its pairing is "adjacent", queries and keys are put back into the file's order, which
             transformers leaves when it reads a GGUF file
    """

    def emit(stage: str, layer: int | None, values: NDArray[np.float32]) -> None:
        capture(stage, layer, values)  # what it returns is dropped: a hook's value takes the place of the output

    def heads(tensor: Any) -> NDArray[np.float32]:
        """Queries or keys (T, heads, head_dim) of the library as ours: (T, heads * head_dim)."""
        values = copied(tensor)
        if config.pairing == "adjacent":
            values = values.reshape(*values.shape[:2], 2, -1).swapaxes(2, 3)
        return np.array(values.reshape(len(values), -1), order="C")

    def returned(stage: str, layer: int | None) -> Hook:
        return lambda module, inputs, output: emit(stage, layer, copied(output[0]))

    def given(stage: str, layer: int) -> Hook:
        return lambda module, inputs: emit(stage, layer, copied(inputs[0][0]))

    def projections(layer: int, attention: Any) -> Iterator[tuple[Any, Hook]]:
        """The modules of q, k and v, each with its hook: their stages hold all three, so the last one hands over."""
        products: dict[str, NDArray[np.float32]] = {}
        sums: dict[str, NDArray[np.float32]] = {}

        def seen(part: str) -> Hook:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                product = output if module.bias is None else torch.nn.functional.linear(inputs[0], module.weight)
                for found, tensor in ((products, product[0]), (sums, output[0])):
                    found[part] = copied(tensor) if part == "v" else heads(tensor.unflatten(-1, (-1, config.head_dim)))
                if part == "v":
                    for stage, found in (("qkv_matmul", products), ("qkv_bias", sums)):
                        emit(stage, layer, np.concatenate([found["q"], found["k"], found["v"]], axis=1))

            return hook

        for part in ("q", "k", "v"):
            yield getattr(attention, f"{part}_proj"), seen(part)

    def watched(module: Any, query: Any, key: Any, value: Any, mask: Any, **settings: Any) -> tuple[Any, Any]:
        """The library's eager attention; tensors (1, heads, T, head_dim), mask (1, 1, T, T) or None."""
        eager = sys.modules[type(module).__module__].eager_attention_forward
        with SoftmaxInputs() as inputs:
            mixed, weights = eager(module, query, key, value, mask, **settings)
        if len(inputs.seen) != 1:
            raise EngineError(f"the eager attention of transformers calls softmax {len(inputs.seen)} times, not once")
        scores = inputs.seen[0]
        if mask is not None:  # the library hides a score behind its type's lowest number, we behind -inf
            scores = scores.masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf)
        layer = module.layer_idx
        emit("q_post_rope", layer, heads(query[0].transpose(0, 1)))
        emit("k_post_rope", layer, heads(key[0].transpose(0, 1)))
        emit("attn_scores", layer, copied(scores[0].transpose(0, 1)))
        emit("attn_softmax", layer, copied(weights[0].transpose(0, 1)))
        emit("attention", layer, copied(mixed[0].flatten(1)))
        return mixed, weights

    AttentionInterface.register(WATCHED, watched)
    AttentionMaskInterface.register(WATCHED, eager_mask)
    with ExitStack() as stack:

        def after(module: Any, hook: Hook) -> None:
            stack.callback(module.register_forward_hook(hook).remove)

        def before(module: Any, hook: Hook) -> None:
            stack.callback(module.register_forward_pre_hook(hook).remove)

        network.set_attn_implementation(WATCHED)
        stack.callback(network.set_attn_implementation, EAGER)
        after(network.model.embed_tokens, returned("embedding", 0))
        for index, layer in enumerate(network.model.layers):
            after(layer.input_layernorm, returned("attn_norm", index))
            for module, hook in projections(index, layer.self_attn):
                after(module, hook)
            after(layer.self_attn.o_proj, returned("attn_out", index))
            before(layer.post_attention_layernorm, given("post_attn_residual", index))
            after(layer.post_attention_layernorm, returned("ffn_norm", index))
            after(layer.mlp.gate_proj, returned("ffn_gate", index))
            after(layer.mlp.up_proj, returned("ffn_up", index))
            after(layer.mlp.act_fn, returned("ffn_silu", index))
            before(layer.mlp.down_proj, given("ffn_swigl", index))
            after(layer.mlp.down_proj, returned("ffn_out", index))
            after(layer, returned("post_ffn_residual", index))
        after(network.model.norm, returned("final_norm", None))
        after(network.lm_head, lambda module, inputs, output: emit("lm_head", None, copied(output[0, -1])))
        yield


def copied(tensor: Any) -> NDArray[np.float32]:
    """The tensor's values now, in memory of their own: float32 holds all of float16 and bfloat16."""
    return np.array(tensor.detach().to(torch.float32).numpy(), order="C")
