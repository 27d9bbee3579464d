"""Falsifiers of contracts/model-parity-v1.yaml: fast against reference, and what runs against what is traced."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engine import fast, numerics, paths, reference
from engine.buffers import Buffers, Rows
from engine.errors import EngineError
from engine.fast import FastPath
from engine.paths import open_path
from engine.stages import ORDER
from engine.trace_folder import read_manifest
from falsifiers import faults_activation, faults_attention, faults_qkv, on_arrays
from falsifiers.defects import norms_replaced
from falsifiers.subject import (
    ALL_STAGES,
    CORES,
    InProcess,
    Installed,
    apr,
    is_refused,
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
        trial.equal({entry.stage for entry in read_manifest(want).tensors}, set(ALL_STAGES), "stages traced")
        observe_origin(trial, got)
        folders_agree(trial, got, want, worst)
    observe_worst(trial, "worst_nmse", worst)


def folders_agree(trial: Trial, got: Path, want: Path, worst: dict[str, float]) -> None:
    """The NMSE of each stage and layer that `want` has; `worst` takes the largest of each stage."""
    for entry in read_manifest(want).tensors:
        name = entry.stage if entry.layer is None else f"{entry.stage} of layer {entry.layer}"
        nmse = normalised_error(
            trial, tensor(got, entry.stage, entry.layer), tensor(want, entry.stage, entry.layer), name
        )
        worst[entry.stage] = max(worst.get(entry.stage, 0.0), nmse)
        trial.at_most(nmse, trial.tolerance, f"NMSE of {name}")


ENGINES = {"llama-cpp": ("llama_cpp",), "transformers": ("torch", "transformers", "accelerate", "gguf")}
"""The engines that `apr oracle` asks, and the libraries that each of them needs."""
NOT_EXPOSED = {"llama-cpp": {"ffn_silu"}, "transformers": set[str]()}
"""Stages that an engine has no tensor for."""


def other_engines_match(trial: Trial) -> None:
    """On every stage that llama.cpp and Transformers have, the fast path's NMSE stays within the tolerance."""
    missing = [library for libraries in ENGINES.values() for library in libraries if find_spec(library) is None]
    if missing:
        trial.skip(f"not installed: {', '.join(missing)}; pip install 'pv-contracts[oracles]'")
    (subject,) = subjects(trial)
    assert isinstance(subject, Installed)
    got = subject.trace("all")
    served = []
    for engine, lacking in NOT_EXPOSED.items():
        want, worst = trial.folder / engine, dict[str, float]()
        apr(trial, "oracle", engine, subject.model.path, "--output", want)
        manifest = read_manifest(want)
        served.append(manifest.engine)
        trial.equal(manifest.path, engine, "engine that served `apr oracle`")
        trial.equal(manifest.tokens, read_manifest(got).tokens, f"tokens that {engine} ran")
        trial.equal({entry.stage for entry in manifest.tensors}, set(ALL_STAGES) - lacking, f"stages of {engine}")
        folders_agree(trial, got, want, worst)
        observe_worst(trial, f"worst_nmse_{engine}", worst)
    trial.oracle(" and ".join(ENGINES), "; ".join(served))


def observe_worst(trial: Trial, name: str, worst: dict[str, float]) -> None:
    trial.observe(name, {stage: float(f"{worst[stage]:.3g}") for stage in sorted(worst, key=ORDER.__getitem__)})


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

    def rootless(x: Any, eps: float) -> Any:
        return x / (np.mean(x * x, axis=1, keepdims=True) + np.float32(eps))

    with norms_replaced(rootless):
        yield


@mutant
def rope_pairs_swapped() -> Iterator[None]:
    """Rotary positions use the other architecture's pairing."""
    with faults_qkv.pairs_of_the_other_architecture():
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
    attend = FastPath.attend

    def interleaved(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        c = self.model.config
        order = sorted(range(c.heads), key=lambda head: (head % c.kv_heads, head))  # the slots of each group
        b.q[:] = b.q[:, order].copy()
        attend(self, b, layer, scores)
        mixed = b.mixed.x[:, : c.q_width].reshape(len(b.x), c.heads, c.head_dim)
        for array in (b.q, mixed, *(() if scores is None else scores)):
            array[:, order] = array.copy()
        b.mixed.quantise()

    with patched(FastPath, "attend", interleaved):
        yield


@mutant
def scores_are_not_scaled() -> Iterator[None]:
    """The division by the root of the head's width is missing."""
    with faults_attention.scores_are_not_scaled():
        yield


@mutant
def a_token_sees_the_next() -> Iterator[None]:
    """The causal mask is off by one: each token also attends to the one after it."""
    with faults_attention.token_sees_the_next():
        yield


@mutant
def silu_is_relu() -> Iterator[None]:
    """The activation is a plain rectifier."""
    with faults_activation.silu_is_relu():
        yield


@mutant
def minimum_is_added_twice() -> Iterator[None]:
    """The minimum of the weight formats that have one is subtracted with the wrong sums."""
    quantise = Rows.quantise

    def doubled(self: Rows) -> None:
        quantise(self)
        self.sums32 *= 2
        self.sums256 *= 2

    with patched(Rows, "quantise", doubled):
        yield


@mutant
def residual_is_forgotten() -> Iterator[None]:
    """The residual stream leaves out what a block computed."""
    normalise = FastPath.normalise
    with patched(FastPath, "normalise", lambda self, b, delta, *rest: normalise(self, b, None, *rest)):
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
                trial.check(
                    is_refused(lambda: path.forward(tokens[:1]), ValueError),  # noqa: B023  (called at once)
                    "a token more than the cache holds is answered: from keys that lie behind it",
                )


@mutant
def cache_forgets_the_last_key() -> Iterator[None]:
    """Each call writes its keys one position too early once the cache is not empty."""
    attend = FastPath.attend

    def forgetful(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        if self.position:
            on_arrays.key_slot(self, layer, self.position - 1)[:] = 0
        attend(self, b, layer, scores)

    with patched(FastPath, "attend", forgetful):
        yield


@mutant
def batches_round_differently() -> Iterator[None]:
    """A matrix product over several tokens sums in another order than one over a single token."""
    project = FastPath.project

    def batched(self: FastPath, product: Any, rows: Rows, out: Any) -> None:
        project(self, product, rows, out)
        if len(out) > 1:
            out *= np.float32(1 + 2**-23)

    with patched(FastPath, "project", batched):
        yield
