"""Falsifiers of contracts/determinism-v1.yaml: the same bits in every cell of the matrix of `apr determinism`.

A child process of that command has to have the defect of a mutant too: `everywhere` sees to it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numba
import numpy as np

from engine import cells
from engine import determinism as matrix
from engine.buffers import Buffers
from engine.cells import CHUNKS, DECODE, FRESH, MODES, PREFILL, STARTS, THREADS, Cell
from engine.fast import FastPath
from engine.variants import GENERIC, VARIANTS, available, chosen
from falsifiers import on_arrays
from falsifiers.defects import eight_lanes, norms_replaced, rotations_rounded_twice
from falsifiers.subject import LAYER_STAGES, InProcess, Installed, apr, run_apr, subjects, tensor
from pv.trial import Trial, mutant, patched

PROMPT = "Return a list of the keys, in the order in which they were added to the dictionary."
"""19 tokens for each of the registered models: a chunk of 16 and a rest."""
TOKENS = [7, 300, 21, 7, 128, 42, 350, 1, 0, 383, 5, 5, 5, 211, 99, 16, 2, 64, 300]
HOUR = 3600.0
_planted: tuple[str, ...] = ()


@contextmanager
def everywhere(name: str) -> Iterator[None]:
    """Processes that `apr determinism` starts have the mutant of this name planted as well."""
    with patched(sys.modules[__name__], "_planted", (name,)), patched(matrix, "CHILD", child()):
        yield


def child() -> tuple[str, ...]:
    """The command of a process that measures cells as this one would."""
    return (sys.executable, "-P", "-m", "falsifiers.determinism_child", *_planted)


# ---------------------------------------------------------------- FALSIFY-DETERMINISM-001


def every_way_gives_the_same_bits(trial: Trial) -> None:
    """Threads, chunks, decoding and used arrays: each cell has the sha256 of what a plain trace writes."""
    for subject in subjects(trial):
        if isinstance(subject, Installed):
            found = answer(trial, subject, "--variant", available()[0])
            trial.equal(found["planned"], 48, "cells planned for one variant")
            want = expected(traced(trial, subject), subject.config["n_layers"])
            every_cell_has(trial, found, want)
            ways = {tuple(cell[axis] for axis in ("threads", "start", "chunk", "mode")) for cell in found["cells"]}
            trial.equal(ways, set(product(THREADS, STARTS, CHUNKS, MODES)), "ways that were measured")
        elif isinstance(subject, InProcess):
            subject.tokens = TOKENS
            want = expected(subject.trace("all", threads=1), subject.config["n_layers"])
            threads = [count for count in THREADS if count <= numba.config.NUMBA_NUM_THREADS]
            trial.observe("threads", threads)
            ways_here = [
                Cell(variant=chosen(), threads=count, start=start, chunk=chunk, mode=mode)
                for count, start, chunk, mode in product(threads, STARTS, CHUNKS, MODES)
            ]
            for cell, measured in zip(ways_here, cells.measure(subject.model, TOKENS, ways_here), strict=True):
                trial.equal(cells.digest(measured.stages), want, f"sha256 of {cell}")


def answer(trial: Trial, subject: Installed, *options: object) -> dict[str, Any]:
    """What `apr determinism --json` says; the exit code and the verdict have to be those of equality."""
    asked = ("--prompt", PROMPT, "--first", "--json", *options)  # all cells are measured unless two of them differ
    done = run_apr(trial, "determinism", subject.model.path, *asked, timeout=HOUR)
    trial.require(done.out.startswith("{"), f"apr determinism exits with {done.code}: {done.last_line}")
    found: dict[str, Any] = json.loads(done.out)
    first = found["first"] and f"{found['first']['a']} and {found['first']['b']}"
    trial.check(done.code == 0, f"apr determinism exits with {done.code}: {found['verdict']}, first {first}")
    trial.equal(found["verdict"], "equal", "verdict of apr determinism")
    return found


def every_cell_has(trial: Trial, found: dict[str, Any], want: str) -> None:
    trial.equal(found["measured"], len(found["cells"]), "cells measured")
    trial.equal(found["sha256"], want, "sha256 of the matrix")
    for cell in found["cells"]:
        trial.equal(cell["sha256"], want, f"sha256 of {cell}")


def traced(trial: Trial, subject: Installed) -> Path:
    """A trace of all stages of the prompt by `apr trace`."""
    folder = trial.folder / "trace"
    apr(trial, "trace", subject.model.path, "--prompt", PROMPT, "--save-tensor", "all", "--output", folder)
    return folder


def expected(folder: Path, layers: int) -> str:
    """The sha256 that docs/commands.md lays down for a cell, from the files of a trace."""
    lines = []
    for layer in range(layers):
        for stage in (["embedding"] if layer == 0 else []) + list(LAYER_STAGES):
            lines.append(f"{stage} {layer} {sha256(tensor(folder, stage, layer).tobytes()).hexdigest()}\n")
    for stage, name in (("final_norm", "final_norm"), ("lm_head", "lm_head"), ("lm_head", "logits")):
        lines.append(f"{name} - {sha256(tensor(folder, stage, None).tobytes()).hexdigest()}\n")
    return sha256("".join(lines).encode()).hexdigest()


@mutant
def sums_depend_on_the_threads() -> Iterator[None]:
    """The squares of a norm are shared out to the threads, and the threads' sums are added: a parallel reduction."""

    def reduced(x: Any, eps: float) -> Any:
        parts = np.array_split(x * x, numba.get_num_threads(), axis=1)
        total = np.sum([part.cumsum(axis=1)[:, -1] for part in parts], axis=0, dtype=np.float32)
        return x / np.sqrt(total / np.float32(x.shape[1]) + np.float32(eps))[:, None]

    with everywhere("sums_depend_on_the_threads"), norms_replaced(reduced):
        yield


@mutant
def first_chunk_is_treated_apart() -> Iterator[None]:
    """Without keys in the cache yet, attention mixes raw exponentials and divides by their sum at the end."""
    attend = FastPath.attend

    def apart(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        c, T = self.model.config, len(b.x)
        own = np.empty((2, T, c.heads, self.position + T), np.float32)
        attend(self, b, layer, own)
        if scores is not None:
            scores[:] = own
        if self.position == 0:
            values = np.repeat(on_arrays.cached(self, layer)[1][:, :T], c.heads // c.kv_heads, axis=0)
            raised = np.exp(own[0] - own[0].max(axis=2, keepdims=True))
            mixed = np.einsum("ths,hsd->thd", raised, values) / raised.sum(axis=2)[..., None]
            b.mixed.x[:, : c.q_width] = mixed.reshape(T, -1)
            b.mixed.quantise()

    with everywhere("first_chunk_is_treated_apart"), patched(FastPath, "attend", apart):
        yield


@mutant
def slot_is_left_from_the_last_prompt() -> Iterator[None]:
    """A slot of the cache that holds a key already is taken for done, whoever left it."""
    rotate = FastPath.rotate

    def lazy(self: FastPath, b: Buffers, layer: int) -> None:
        slot = on_arrays.key_slot(self, layer, self.position)
        left = slot.copy()
        rotate(self, b, layer)
        if left.any():
            slot[:] = left

    with everywhere("slot_is_left_from_the_last_prompt"), patched(FastPath, "rotate", lazy):
        yield


@mutant
def tracing_changes_the_logits() -> Iterator[None]:
    """Without a tap the logits are rounded to bfloat16, as a faster output might be."""
    forward = FastPath.forward

    def faster(self: FastPath, tokens: Any, tap: Any = None, chunk: Any = None) -> Any:
        logits = forward(self, tokens, tap, chunk)
        return logits if tap else (logits.view(np.uint32) & 0xFFFF0000).view(np.float32)

    with everywhere("tracing_changes_the_logits"), patched(FastPath, "forward", faster):
        yield


@mutant
def last_bits_are_not_hashed() -> Iterator[None]:
    """What is hashed is rounded first, so that small differences do not show."""
    tap = cells.Tensors.tap

    def rounded(self: cells.Tensors, stage: str, layer: int | None, array: Any) -> None:
        tap(self, stage, layer, array.astype(np.float16).astype(np.float32))

    with everywhere("last_bits_are_not_hashed"), patched(cells.Tensors, "tap", rounded):
        yield


# ---------------------------------------------------------------- FALSIFY-DETERMINISM-002


def every_variant_gives_the_same_bits(trial: Trial) -> None:
    """Each variant of the kernels that this CPU can run gives the bits of the others, and those of a plain trace."""
    if len(available()) < 2:
        trial.skip(f"this CPU can run one variant alone: {available()[0]}")
    trial.observe("variants", list(available()))
    if trial.model is None:
        random_models_agree(trial)
        return
    (subject,) = subjects(trial)
    assert isinstance(subject, Installed)
    found = answer(trial, subject)
    trial.equal(found["planned"], 48 * len(VARIANTS), "cells planned")
    trial.equal(found["measured"], 48 * len(available()), "cells measured, of those that this CPU can run")
    trial.equal({cell["variant"] for cell in found["cells"]}, set(available()), "variants that were measured")
    every_cell_has(trial, found, expected(traced(trial, subject), subject.config["n_layers"]))
    trial.output("sha256 of each cell", found["sha256"].encode())


def random_models_agree(trial: Trial) -> None:
    """Every weight format, in a prompt and token by token: each stage has the same sha256 for every variant."""
    ways = ((None, PREFILL), (3, DECODE))
    for architecture, seed in zip(("qwen2", "llama"), trial.rng.integers(0, 2**31, 2).tolist(), strict=True):
        found: dict[str, list[Mapping[cells.Key, str]]] = {}
        with patched(matrix, "CHILD", child()):
            for variant in available():
                wanted = [Cell(variant=variant, threads=1, start=FRESH, chunk=chunk, mode=mode) for chunk, mode in ways]
                found[variant] = list(matrix.start(f"random {architecture} {seed}", TOKENS, wanted))
        first, *others = available()
        for other in others:
            for (chunk, mode), a, b in zip(ways, found[first], found[other], strict=True):
                trial.equal(len(a), 3 + 17 * 2 + 1, "tensors that were hashed")
                for key in a:
                    label = f"{cells.name_of(key)} of a random {architecture}, chunk {chunk}, {mode}: {first}, {other}"
                    trial.equal(a[key], b[key], label)


@mutant
def one_variant_has_eight_lanes() -> Iterator[None]:
    """The variant for any CPU sums the squares of a norm in 8 lanes, as its registers are narrower."""
    defect = norms_replaced(eight_lanes) if chosen() == GENERIC else nullcontext()
    with everywhere("one_variant_has_eight_lanes"), defect:
        yield


@mutant
def one_variant_rounds_twice() -> Iterator[None]:
    """The variant for any CPU has no fused multiply-add."""
    defect = rotations_rounded_twice() if chosen() == GENERIC else nullcontext()
    with everywhere("one_variant_rounds_twice"), defect:
        yield
