"""Falsifiers of contracts/model-parity-v1.yaml: fast against reference, and what runs against what is traced."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import fast, kernels, numerics, paths, reference
from engine.errors import EngineError
from engine.fast import FastPath
from engine.paths import open_path
from engine.stages import ORDER
from engine.trace_folder import read_manifest
from falsifiers.subject import (
    ALL_STAGES,
    CORES,
    LAYER_STAGES,
    InProcess,
    Installed,
    apr,
    observe_origin,
    run_apr,
    subjects,
    tensor,
)
from pv.trial import Trial, mutant, patched

# ---------------------------------------------------------------- FALSIFY-MODEL-PARITY-001


def stages_match_the_reference(trial: Trial) -> None:
    """On every stage of every layer, the fast path's NMSE against the reference stays within the tolerance."""
    worst: dict[str, float] = {}
    for subject in subjects(trial):
        got, want = subject.trace("all"), subject.trace("all", path="reference")
        entries = read_manifest(want).tensors
        trial.equal({entry.stage for entry in entries}, set(ALL_STAGES), "stages traced")
        observe_origin(trial, got)
        for entry in entries:
            name = entry.stage if entry.layer is None else f"{entry.stage} of layer {entry.layer}"
            nmse = normalised_error(
                trial, tensor(got, entry.stage, entry.layer), tensor(want, entry.stage, entry.layer), name
            )
            worst[entry.stage] = max(worst.get(entry.stage, 0.0), nmse)
            trial.at_most(nmse, trial.tolerance, f"NMSE of {name}")
    trial.observe("worst_nmse", {stage: float(f"{worst[stage]:.3g}") for stage in sorted(worst, key=ORDER.__getitem__)})


def normalised_error(trial: Trial, got: Any, want: Any, name: str) -> float:
    """sum (got - want)^2 / sum want^2; what is not finite (a masked score) must be so on both sides, with one sign."""
    trial.equal(got.shape, want.shape, f"shape of {name}")
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    trial.equal(got[~finite], want[~finite], f"values of {name} that the reference has not finite")
    return float(np.sum((got[finite] - want[finite]) ** 2) / np.sum(want[finite] ** 2))


@mutant
def norm_forgets_the_root() -> Iterator[None]:
    """Rows are divided by their mean square instead of its root."""

    def rootless(out: Any, x: Any, gain: Any, eps: float) -> None:
        out[:] = x / (np.mean(x * x, axis=1, keepdims=True) + np.float32(eps)) * gain

    with patched(kernels, "rmsnorm", rootless):
        yield


@mutant
def rope_pairs_swapped() -> Iterator[None]:
    """Rotary positions use the other architecture's pairing."""
    rotate = kernels.rotate
    with patched(kernels, "rotate", lambda out, x, cosine, sine, adjacent: rotate(out, x, cosine, sine, not adjacent)):
        yield


@mutant
def positions_start_at_one() -> Iterator[None]:
    """Rotary positions count from one; attention only sees differences, so only the rotated stages can show it."""
    tables = numerics.rope_tables

    def shifted(positions: int, *rest: Any) -> tuple[Any, Any]:
        cosine, sine = tables(positions + 1, *rest)
        return cosine[1:], sine[1:]

    with patched(fast, "rope_tables", shifted):
        yield


@mutant
def a_query_head_reads_the_wrong_keys() -> Iterator[None]:
    """Query heads are shared out to key heads in turn instead of in groups."""
    attend = kernels.attend

    def interleaved(
        out: Any, scores: Any, weights: Any, q: Any, keys: Any, values: Any, past: int, scale: float
    ) -> None:
        group = q.shape[1] // keys.shape[0]
        turn = np.arange(q.shape[1]) % keys.shape[0]
        if group > 1:
            keys, values = np.ascontiguousarray(keys[turn]), np.ascontiguousarray(values[turn])
        attend(out, scores, weights, q, keys, values, past, scale)

    with patched(kernels, "attend", interleaved):
        yield


@mutant
def scores_are_not_scaled() -> Iterator[None]:
    """The division by the root of the head's width is missing."""
    attend = kernels.attend
    with patched(kernels, "attend", lambda *args: attend(*args[:-1], np.float32(1))):
        yield


@mutant
def a_token_sees_the_next() -> Iterator[None]:
    """The causal mask is off by one: each token also attends to the one after it."""
    attend = kernels.attend

    def ahead(out: Any, scores: Any, weights: Any, q: Any, keys: Any, values: Any, past: int, scale: Any) -> None:
        attend(out, scores, weights, q, keys, values, past, scale)
        for t in range(q.shape[0] - 1):
            attend(out[t : t + 1], scores[t : t + 1, :, : past + t + 2], weights[t : t + 1, :, : past + t + 2],
                   q[t : t + 1], keys, values, past + t + 1, scale)  # fmt: skip

    with patched(kernels, "attend", ahead):
        yield


@mutant
def silu_is_relu() -> Iterator[None]:
    """The activation is a plain rectifier."""
    with patched(kernels, "silu", lambda out, x: np.maximum(x, 0, out=out)):
        yield


@mutant
def minimum_is_added_twice() -> Iterator[None]:
    """The minimum of the weight formats that have one is subtracted with the wrong sums."""
    quantise = kernels.quantise_rows

    def doubled(x: Any, block: int, q: Any, scale: Any, sums: Any, sub: int) -> None:
        quantise(x, block, q, scale, sums, sub)
        sums *= 2

    with patched(kernels, "quantise_rows", doubled):
        yield


@mutant
def residual_is_forgotten() -> Iterator[None]:
    """The residual stream leaves out what a block computed."""
    add = kernels.add

    def forgetful(out: Any, a: Any, b: Any) -> None:
        if out is not a or b.shape[0] == 1:
            add(out, a, b)

    with patched(kernels, "add", forgetful):
        yield


# ---------------------------------------------------------------- FALSIFY-MODEL-PARITY-002


def traced_path_is_the_path_that_runs(trial: Trial) -> None:
    """Tracing changes no bit of the logits, and the first token that is generated is their argmax."""
    for subject in subjects(trial):
        for path in ("fast", "reference"):
            logits = tensor(subject.trace("all", path=path), "lm_head", None)
            alone = tensor(subject.trace("lm_head", path=path), "lm_head", None)
            trial.equal(
                alone.tobytes(), logits.tobytes(), f"logits of the {path} path with one stage traced and with all"
            )
            best = int(np.argmax(logits))
            trial.observe(f"first_token_{path}", best)
            if isinstance(subject, Installed):
                answer = json.loads(
                    apr(trial, "run", subject.model.path, "--max-tokens", 1, "--json", "--path", path).out
                )
                trial.equal(answer["path"], path, "path that served `apr run`")
                trial.equal(answer["tokens"][0], best, f"first token of `apr run --path {path}`")
                top = [(entry["token"], entry["logit"]) for entry in answer["top_first"]]
                want = [(int(i), float(logits[i])) for i in np.argsort(-logits, kind="stable")[: len(top)]]
                trial.equal(top, want, f"best logits of `apr run --path {path}`")
            elif isinstance(subject, InProcess):
                threads = None if path == "reference" else 1
                silent = open_path(subject.model, path, capacity=16, threads=threads).forward(subject.tokens)
                trial.equal(silent.tobytes(), logits.tobytes(), f"logits of the {path} path without a tap")


@mutant
def trace_runs_another_path() -> Iterator[None]:
    """With a tap, the fast path's logits come from the reference."""
    forward = FastPath.forward

    def other(self: FastPath, tokens: Any, tap: Any = None) -> Any:
        logits = forward(self, tokens)
        return logits if tap is None else reference.ReferencePath(self.model).forward(tokens, tap)

    with patched(FastPath, "forward", other):
        yield


@mutant
def tapping_rounds_the_stage() -> Iterator[None]:
    """What is tapped is rounded to float16 in place, so tracing changes the result."""
    forward = FastPath.forward

    def rounding(self: FastPath, tokens: Any, tap: Any = None) -> Any:
        def rounded(stage: str, layer: int | None, array: Any) -> None:
            array[...] = array.astype(np.float16)
            tap(stage, layer, array)

        return forward(self, tokens, None if tap is None else rounded)

    with patched(FastPath, "forward", rounding):
        yield


# ---------------------------------------------------------------- FALSIFY-MODEL-PARITY-003


def no_fallback_is_silent(trial: Trial) -> None:
    """The path that was asked for answers, under its name; when it cannot, the command fails and prints no answer."""
    for subject in subjects(trial):
        for path in ("fast", "reference"):
            manifest = read_manifest(subject.trace("lm_head", path=path))
            trial.equal(manifest.path, path, "path in the manifest")
        both = [tensor(subject.trace("lm_head", path=path), "lm_head", None) for path in ("fast", "reference")]
        trial.check(both[0].tobytes() != both[1].tobytes(), "both paths give the same bits: one of them served twice")
        if isinstance(subject, Installed):
            too_many, without_numba = ["--threads", CORES + 1], numba_is_missing(trial)
            for verb, output in (("run", ["--json"]), ("trace", ["--save-tensor", "lm_head"])):
                for cause, options, env in (("has too few threads", too_many, {}), ("lacks numba", [], without_numba)):
                    done = run_apr(trial, verb, subject.model.path, *output, *options, env=env)
                    trial.equal(done.code, 2, f"exit code of `apr {verb}` when the fast path {cause}")
                    trial.equal(done.out, "", f"answer of `apr {verb}` when the fast path {cause}")
                    trial.check(
                        "Traceback" not in done.err, f"`apr {verb}` ends in a traceback when the fast path {cause}"
                    )
        elif isinstance(subject, InProcess):
            with broken_fast_path():
                try:
                    served = paths.open_path(subject.model, "fast", capacity=8, threads=1).name
                except EngineError:
                    served = "none"
            trial.equal(served, "none", "path that serves when the fast one cannot be made")


def numba_is_missing(trial: Trial) -> dict[str, str]:
    """An environment in which numba cannot be imported."""
    folder = trial.folder / "without-numba"
    folder.mkdir(exist_ok=True)
    (folder / "numba.py").write_text("raise ImportError('numba cannot be loaded here')\n")
    return {"PYTHONPATH": str(folder)}


@contextmanager
def broken_fast_path() -> Iterator[None]:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise EngineError("the fast path cannot be made here")

    with patched(FastPath, "__init__", broken):
        yield


@mutant
def falls_back_to_the_reference() -> Iterator[None]:
    """When the fast path cannot be made, the reference serves under its name."""
    opened = paths.open_path

    def lenient(model: Any, name: str, **options: Any) -> Any:
        try:
            return opened(model, name, **options)
        except EngineError:
            path = reference.ReferencePath(model)
            path.name = name
            return path

    with patched(paths, "open_path", lenient):
        yield


@mutant
def reference_serves_in_disguise() -> Iterator[None]:
    """The fast path is the reference under another name."""

    forward = FastPath.forward

    def disguised(self: FastPath, tokens: Any, tap: Any = None) -> Any:
        forward(self, tokens)
        return reference.ReferencePath(self.model).forward(tokens, tap)

    with patched(FastPath, "forward", disguised):
        yield


# ---------------------------------------------------------------- FALSIFY-MODEL-PARITY-004


def chunks_and_threads_keep_the_bits(trial: Trial) -> None:
    """The prompt in one piece, in chunks, or token by token, on one thread or more: the same logits, bit for bit."""
    import numba

    threads = min(CORES, int(numba.config.NUMBA_NUM_THREADS))
    trial.observe("threads", threads)
    for subject in subjects(trial):
        assert isinstance(subject, InProcess)
        tokens = subject.tokens
        want = open_path(subject.model, "fast", capacity=len(tokens), threads=1).forward(tokens)
        for count in (1, threads):
            for size in (1, 2, 3, len(tokens)):
                path = open_path(subject.model, "fast", capacity=len(tokens), threads=count)
                for start in range(0, len(tokens), size):
                    logits = path.forward(tokens[start : start + size])
                trial.equal(numba.get_num_threads(), count, "threads that the path used")
                trial.equal(logits.tobytes(), want.tobytes(), f"logits in chunks of {size} on {count} threads")


@mutant
def cache_forgets_the_last_key() -> Iterator[None]:
    """Each call writes its keys one position too early once the cache is not empty."""
    attend = kernels.attend

    def forgetful(out: Any, scores: Any, weights: Any, q: Any, keys: Any, values: Any, past: int, scale: Any) -> None:
        if past:
            keys = keys.copy()
            keys[:, past - 1] = 0
        attend(out, scores, weights, q, keys, values, past, scale)

    with patched(kernels, "attend", forgetful):
        yield


@mutant
def batches_round_differently() -> Iterator[None]:
    """A matrix product over several tokens sums in another order than one over a single token."""
    matmul = kernels.matmul_quantised

    def batched(out: Any, *args: Any) -> None:
        matmul(out, *args)
        if out.shape[0] > 1:
            out *= np.float32(1 + 2**-23)

    with patched(kernels, "matmul_quantised", batched):
        yield


# ---------------------------------------------------------------- FALSIFY-MODEL-PARITY-005


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
    rmsnorm = kernels.rmsnorm

    def centred(out: Any, x: Any, gain: Any, eps: float) -> None:
        rmsnorm(out, x - x.mean(axis=1, keepdims=True), gain, eps)

    with patched(kernels, "rmsnorm", centred):
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
