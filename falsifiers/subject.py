"""What the falsifiers of the engine try: its functions on a random model, or the installed command on a real one.

An algorithm trial has no model and meets the functions in this process; a live trial meets `apr` as a user does. Both
offer the same few verbs, so that one falsifier serves both.
"""

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numba
import numpy as np

import engine.cli
from engine import stages, trace_folder
from engine.aprt import read_tensor
from engine.diff import diff
from engine.errors import EngineError
from engine.gguf import read_gguf
from engine.model import Model
from engine.paths import open_path
from falsifiers.synthetic import random_model
from pv.trial import Finished, ModelFile, Trial

CORES = max(2, len(os.sched_getaffinity(0)))  # two threads even on one core: what depends on their number must show
TOKENS = [7, 300, 21, 7, 128, 42, 350]
Shape = dict[str, int]

LAYER_STAGES = (
    *("attn_norm", "qkv_matmul", "qkv_bias", "q_post_rope", "k_post_rope", "attn_scores", "attn_softmax", "attention"),
    *("attn_out", "post_attn_residual", "ffn_norm", "ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl", "ffn_out"),
    "post_ffn_residual",
)
ALL_STAGES = ["embedding", *LAYER_STAGES, "final_norm", "lm_head"]
"""The contract's 20 stages, written here once more: the engine's own list is what is tried."""


def run_apr(
    trial: Trial,
    *arguments: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 600,
) -> Finished:
    """The installed `apr` with these arguments, on as many threads as CORES if it is not told otherwise."""
    target, settings = f"{engine.cli.__name__}:program", {"NUMBA_NUM_THREADS": str(CORES), **(env or {})}
    return trial.start("apr", target, *arguments, cwd=cwd, env=settings, timeout=timeout)


def apr(trial: Trial, *arguments: object, cwd: Path | None = None) -> Finished:
    """`apr` with these arguments; falsified unless it exits with 0, and a mutant that makes it refuse is an error."""
    done = run_apr(trial, *arguments, cwd=cwd)
    trial.require(done.code == 0, f"apr {arguments[0]} exits with {done.code}: {done.last_line}")
    return done


class Subject(Protocol):
    """The verbs that a falsifier has."""

    @property
    def config(self) -> Shape:
        """The integers of the model's configuration."""

    def trace(
        self,
        stage_list: str,
        *,
        layer: str | None = None,
        threads: int | None = None,
        path: str = "fast",
        into: str = "",
    ) -> Path:
        """Trace into the folder `into` of the trial (a new one by default) and return it."""

    def refused(self, stage_list: str, layer: str | None = None) -> str | None:
        """The message with which a selection is refused before a model is opened; None if it is accepted."""

    def compare(self, a: Path, b: Path) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON report of `apr diff`."""

    def weights(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A dequantised tensor of the model by its name in a file; `output.weight` of a tied model is its embedding."""

    @property
    def rms_eps(self) -> float:
        """The epsilon of the norms."""

    @property
    def embedding_block(self) -> int:
        """Weights in a block of the embedding's format."""


@dataclass
class InProcess:
    """The engine's functions on a random model, without a command line."""

    trial: Trial
    model: Model
    tokens: list[int] = field(default_factory=lambda: list(TOKENS))
    runs: int = 0

    @property
    def config(self) -> Shape:
        return _shape({name: getattr(self.model.config, name) for name in self.model.config.__slots__})

    def trace(
        self,
        stage_list: str,
        *,
        layer: str | None = None,
        threads: int | None = None,
        path: str = "fast",
        into: str = "",
    ) -> Path:
        self.runs += 1
        folder = self.trial.folder / (into or f"trace-{self.model.config.architecture}-{self.runs}")
        wanted = None if path == "reference" else min(threads or 1, int(numba.config.NUMBA_NUM_THREADS))
        try:
            layers = stages.parse_layers(layer) if layer else range(self.model.config.n_layers)
            writer = trace_folder.TraceWriter(folder, stages=stages.parse_stages(stage_list), layers=layers)
            runner = open_path(self.model, path, capacity=len(self.tokens), threads=wanted)
            runner.forward(self.tokens, tap=writer.tap)
            writer.finish(
                engine="0",
                model={
                    "name": self.model.config.name,
                    "sha256": "0" * 64,
                    "architecture": self.model.config.architecture,
                },
                prompt="",
                tokens=self.tokens,
                path=runner.name,
                variant=runner.variant,
            )
        except EngineError as error:
            self.trial.require(False, f"tracing {stage_list} fails: {error}")
        return folder

    def refused(self, stage_list: str, layer: str | None = None) -> str | None:
        try:
            stages.parse_stages(stage_list)
            if layer is not None:
                stages.parse_layers(layer)
        except EngineError as error:
            return str(error)
        return None

    def compare(self, a: Path, b: Path) -> tuple[int, dict[str, Any]]:
        report = diff(a, b, limit=3)
        return report.exit_code, report.as_json()

    def weights(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        if name == "output_norm.weight":
            return self.model.final_norm
        if name == "output.weight":
            return self.model.output.dequantised()
        _, layer, tensor, _ = name.split(".")
        return np.asarray(getattr(self.model.layers[int(layer)], tensor), np.float32)

    @property
    def rms_eps(self) -> float:
        return self.model.config.rms_eps

    @property
    def embedding_block(self) -> int:
        return self.model.embedding.format.block


@dataclass
class Installed:
    """The installed command on a real model file."""

    trial: Trial
    model: ModelFile
    runs: int = 0

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What `apr inspect --json` says."""
        facts: dict[str, Any] = json.loads(apr(self.trial, "inspect", self.model.path, "--json").out)
        return facts

    @property
    def config(self) -> Shape:
        return _shape(self.facts["config"])

    def trace(
        self,
        stage_list: str,
        *,
        layer: str | None = None,
        threads: int | None = None,
        path: str = "fast",
        into: str = "",
        kv_cache: str | None = None,
    ) -> Path:
        self.runs += 1
        folder = self.trial.folder / (into or f"trace-{self.runs}")
        options: list[object] = ["--path", path, "--output", folder]
        options += ["--layer", layer] if layer else []
        options += ["--threads", threads] if threads else []
        options += ["--kv-cache", kv_cache] if kv_cache else []
        apr(self.trial, "trace", self.model.path, "--save-tensor", stage_list, *options)
        return folder

    def refused(self, stage_list: str, layer: str | None = None) -> str | None:
        options = ["--layer", layer] if layer is not None else []
        done = run_apr(self.trial, "trace", "no-such-model.gguf", "--save-tensor", stage_list, *options)
        self.trial.check(done.code == 2, f"apr trace of a missing model exits with {done.code}, not 2")
        return None if "no-such-model" in done.err else done.err

    def compare(self, a: Path, b: Path) -> tuple[int, dict[str, Any]]:
        done = run_apr(self.trial, "diff", a, b, "--values", "--limit", "3", "--json")
        try:
            return done.code, json.loads(done.out)
        except json.JSONDecodeError:
            return done.code, {"error": done.last_line}

    def weights(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        file = read_gguf(self.model.path)
        return file.dequantised("token_embd.weight" if name == "output.weight" and name not in file.tensors else name)

    @property
    def rms_eps(self) -> float:
        return float(self.facts["config"]["rms_eps"])

    @property
    def embedding_block(self) -> int:
        return read_gguf(self.model.path).tensors["token_embd.weight"].format.block


def subjects(trial: Trial) -> list[Subject]:
    """What this trial is about: one real model, or a random one of each architecture."""
    if trial.model is not None:
        return [Installed(trial, trial.model)]
    return [InProcess(trial, random_model(trial.rng, architecture)) for architecture in ("qwen2", "llama")]


def observe_origin(trial: Trial, folder: Path) -> None:
    """Keep which path and kernel variant made a trace, and what threads there were: part of the evidence."""
    manifest = trace_folder.read_manifest(folder)
    trial.observe("served_by", f"{manifest.path}, {manifest.variant}, up to {CORES} threads")


def is_refused(action: Callable[[], object], error: type[Exception]) -> bool:
    """Whether the action ends in this error."""
    try:
        action()
    except error:
        return True
    return False


def files(folder: Path) -> dict[str, bytes]:
    """Every file below the folder by its relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tensor(folder: Path, stage: str, layer: int | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The values of one traced stage, in the shape that the manifest states."""
    entry = next(e for e in trace_folder.read_manifest(folder).tensors if (e.stage, e.layer) == (stage, layer))
    return np.asarray(read_tensor(folder / entry.file).values).reshape(entry.shape)


def layout(config: Shape, layers: range) -> dict[str, tuple[str, int | None]]:
    """The files that a trace of all stages must hold: relative path to (stage, layer)."""
    found: dict[str, tuple[str, int | None]] = {f"{stage}.bin": (stage, None) for stage in ("final_norm", "lm_head")}
    if 0 in layers:
        found["layer-0/embedding.bin"] = ("embedding", 0)
    return found | {f"layer-{layer}/{stage}.bin": (stage, layer) for layer in layers for stage in LAYER_STAGES}


def shapes(c: Shape, tokens: int) -> dict[str, tuple[int, ...]]:
    """The shape of every stage's tensor for a prompt of `tokens`, from the model's configuration alone."""
    queries, keys, scores = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"], (c["heads"], tokens)
    return dict.fromkeys(ALL_STAGES, (tokens, c["hidden"])) | {
        "qkv_matmul": (tokens, queries + 2 * keys),
        "qkv_bias": (tokens, queries + 2 * keys),
        "q_post_rope": (tokens, queries),
        "k_post_rope": (tokens, keys),
        "attn_scores": (tokens, *scores),
        "attn_softmax": (tokens, *scores),
        "attention": (tokens, queries),
        **dict.fromkeys(("ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl"), (tokens, c["ffn"])),
        "lm_head": (c["vocab"],),
    }


def _shape(config: dict[str, Any]) -> Shape:
    return {name: value for name, value in config.items() if type(value) is int}
