"""What the stages of a trace are to each other: FALSIFY-MODEL-PARITY-005 of contracts/model-parity-v1.yaml."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import reference
from engine.fast import FastPath
from falsifiers.defects import norms_replaced
from falsifiers.subject import (
    LAYER_STAGES,
    subjects,
    tensor,
)
from pv.trial import Trial, mutant, patched


def stages_fit_together(trial: Trial) -> None:
    """Each stage follows from the stages before it, recomputed in float64 from the files: a name holds what it says."""
    worst = 0.0
    for subject in subjects(trial):
        c = subject.config
        for path in ("fast", "reference"):
            folder = subject.trace("all", path=path)
            before = tensor(folder, "embedding", 0)
            for layer in range(c["n_layers"]):
                t = {name: tensor(folder, name, layer).astype(np.float64) for name in LAYER_STAGES}
                wanted = recomputed(t, before.astype(np.float64), c["heads"], c["kv_heads"])
                for norm, source in (("attn_norm", before.astype(np.float64)), ("ffn_norm", t["post_attn_residual"])):
                    wanted[norm] = normed(source, subject.weights(f"blk.{layer}.{norm}.weight"), subject.rms_eps)
                for name, want in wanted.items():
                    seen = np.isfinite(want)
                    trial.equal(t[name][~seen], want[~seen], f"masked values of {name}, layer {layer}, {path} path")
                    error = float(np.max(np.abs(t[name][seen] - want[seen])) / np.max(np.abs(want[seen])))
                    worst = max(worst, error)
                    trial.at_most(error, trial.tolerance, f"{name} of layer {layer} from earlier stages, {path} path")
                shift = t["qkv_bias"] - t["qkv_matmul"]
                spread = float(np.max(np.abs(shift - shift[0])) / np.max(np.abs(t["qkv_bias"])))
                trial.at_most(spread, trial.tolerance, f"spread of the bias over tokens, layer {layer}, {path} path")
                before = tensor(folder, "post_ffn_residual", layer)
            final = normed(before.astype(np.float64), subject.weights("output_norm.weight"), subject.rms_eps)
            error = float(np.max(np.abs(tensor(folder, "final_norm", None) - final)) / np.max(np.abs(final)))
            trial.at_most(error, trial.tolerance, f"final_norm from the residual stream, {path} path")
    trial.observe("worst_relative_error", float(f"{worst:.3g}"))


def recomputed(t: dict[str, Any], before: Any, heads: int, kv_heads: int) -> dict[str, Any]:
    """What the stages must be, from their neighbours; `before` is the residual stream (T, hidden) that enters."""
    T = before.shape[0]
    q = t["q_post_rope"].reshape(T, heads, -1)
    k = np.repeat(t["k_post_rope"].reshape(T, kv_heads, -1), heads // kv_heads, axis=1)
    width = q.shape[2]
    plain_q, plain_k, v = np.split(t["qkv_bias"], [heads * width, (heads + kv_heads) * width], axis=1)
    scores = np.einsum("thd,shd->ths", q, k) / np.sqrt(width)
    scores[np.broadcast_to(np.arange(T)[None, None, :] > np.arange(T)[:, None, None], scores.shape)] = -np.inf
    raised = np.exp(t["attn_scores"] - t["attn_scores"].max(axis=2, keepdims=True))
    values = np.repeat(v.reshape(T, kv_heads, width), heads // kv_heads, axis=1)
    return {
        "q_post_rope": same_length(t["q_post_rope"], plain_q, heads),
        "k_post_rope": same_length(t["k_post_rope"], plain_k, kv_heads),
        "attn_scores": scores,
        "attn_softmax": raised / raised.sum(axis=2, keepdims=True),
        "attention": np.einsum("ths,shd->thd", t["attn_softmax"], values).reshape(T, -1),
        "post_attn_residual": before + t["attn_out"],
        "ffn_silu": t["ffn_gate"] / (1 + np.exp(-t["ffn_gate"])),
        "ffn_swigl": t["ffn_silu"] * t["ffn_up"],
        "post_ffn_residual": t["post_attn_residual"] + t["ffn_out"],
    }


def normed(x: Any, gain: Any, eps: float) -> Any:
    """RMSNorm (Zhang and Sennrich 2019) of x (T, hidden) in float64."""
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps) * gain


def same_length(turned: Any, plain: Any, heads: int) -> Any:
    """`turned` with each head scaled to the length it had before the rotation; position 0 does not turn."""
    T = plain.shape[0]
    before, after = plain.reshape(T, heads, -1), turned.reshape(T, heads, -1)
    want = after * np.linalg.norm(before, axis=2, keepdims=True) / np.linalg.norm(after, axis=2, keepdims=True)
    want[0] = before[0]
    return want.reshape(T, -1)


@mutant
def norm_subtracts_the_mean() -> Iterator[None]:
    """LayerNorm in the place of RMSNorm: the mean is subtracted first."""

    def centred(x: Any, eps: float) -> Any:
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + np.float32(eps))

    with norms_replaced(centred):
        yield


@mutant
def gate_and_up_are_swapped() -> Iterator[None]:
    """The two halves of the feed-forward block are traced under each other's name."""
    with _renamed({"ffn_gate": "ffn_up", "ffn_up": "ffn_gate"}):
        yield


@mutant
def residual_is_tapped_before_the_sum() -> Iterator[None]:
    """post_attn_residual holds what the attention adds instead of the sum."""
    with _renamed({"attn_out": "post_attn_residual", "post_attn_residual": "attn_out"}):
        yield


@contextmanager
def _renamed(names: dict[str, str]) -> Iterator[None]:
    """Both paths tap these stages under other names, so that their agreement cannot show it."""

    def renaming(forward: Any) -> Any:
        def renamed(self: Any, tokens: Any, tap: Any = None) -> Any:
            def other(stage: str, layer: int | None, array: Any) -> None:
                tap(names.get(stage, stage), layer, array)

            return forward(self, tokens, None if tap is None else other)

        return renamed

    with (
        patched(FastPath, "forward", renaming(FastPath.forward)),
        patched(reference.ReferencePath, "forward", renaming(reference.ReferencePath.forward)),
    ):
        yield
