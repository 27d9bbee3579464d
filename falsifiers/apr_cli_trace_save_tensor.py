"""Falsifiers of contracts/apr-cli-trace-save-tensor-v1.yaml: which files `apr trace` writes, and when.

Each takes the engine's functions on random models (algorithm) or the installed command on a real one (live).
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine import stages, trace_folder
from engine.errors import EngineError
from engine.fast import FastPath
from engine.paths import open_path
from falsifiers.subject import (
    CORES,
    InProcess,
    Installed,
    apr,
    files,
    is_refused,
    layout,
    observe_origin,
    subjects,
)
from pv.trial import Trial, mutant, patched

# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-001


def flag_produces_files(trial: Trial) -> None:
    """`--save-tensor all` writes each stage of each layer, and nothing else; a bad selection is refused at once."""
    for subject in subjects(trial):
        folder = subject.trace("ALL")
        want = set(layout(subject.config, range(subject.config["n_layers"]))) | {"manifest.json"}
        got = set(files(folder))
        trial.observe("files", len(got))
        trial.equal(sorted(got), sorted(want), "files of a trace of all stages")
        trial.equal(len(got), 3 + 17 * subject.config["n_layers"] + 1, "number of files, the manifest included")
        observe_origin(trial, folder)
        for selection in ("nope", "", "ffn_gate,,lm_head", "embedding, ffn"):
            message = subject.refused(selection)
            trial.check(message is not None, f"--save-tensor {selection!r} is accepted")
            trial.check(
                "attn_softmax" in str(message), f"refusing {selection!r} does not list the valid names: {message}"
            )
        for layer in ("2..2", "3..1", "1", "a..b", "..", "0..-1"):
            trial.check(subject.refused("all", layer) is not None, f"--layer {layer!r} is accepted")
        trial.equal(
            subject.refused("Embedding,FFN_GATE,layer_output", "0..1"), None, "a valid selection is refused with"
        )
        if isinstance(subject, Installed):
            synonyms_are_the_same(trial, subject)


def synonyms_are_the_same(trial: Trial, subject: Installed) -> None:
    """The public tool's spelling of the flags gives the same bytes as ours."""
    ours = files(subject.trace("ffn_gate,lm_head", layer="0..2"))
    folder = trial.folder / "synonyms"
    public = ["--save-tensor", "ffn_gate,lm_head", "--save-tensor-dir", folder, "--save-tensor-layers", "0..2"]
    apr(trial, "trace", "--payload", subject.model.path, *public)
    trial.equal(files(folder), ours, "trace by the public tool's flags")


@mutant
def flag_is_dropped() -> Iterator[None]:
    """The flag is parsed, yet nothing is written."""

    def tap(self: Any, stage: str, layer: int | None, array: Any) -> None:
        pass

    def finish(self: Any, **facts: Any) -> trace_folder.Manifest:
        model = trace_folder.TracedModel(**facts.pop("model"))
        return trace_folder.Manifest(model=model, tensors=(), **facts)

    with patched(trace_folder.TraceWriter, "tap", tap), patched(trace_folder.TraceWriter, "finish", finish):
        yield


@mutant
def unknown_stages_are_ignored() -> Iterator[None]:
    """A misspelt stage is skipped in silence."""
    parse = stages.parse_stages

    def lenient(text: str) -> tuple[str, ...]:
        known = [part for part in text.split(",") if part.strip().lower() in {"all", "layer_output", *stages.NAMES}]
        return parse(",".join(known) or "all")

    with patched(stages, "parse_stages", lenient):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-002


def two_runs_are_byte_identical(trial: Trial) -> None:
    """Traces of the same prompt agree in every byte: run again, and with another number of threads."""
    for subject in subjects(trial):
        first = files(subject.trace("all", threads=1))
        trial.observe("bytes", sum(map(len, first.values())))
        for threads in (1, CORES):
            again = files(subject.trace("all", threads=threads))
            trial.equal(sorted(again), sorted(first), f"files with {threads} threads")
            for name, content in first.items():
                trial.equal(again[name], content, f"{name} with {threads} threads")


@mutant
def sums_depend_on_the_threads() -> Iterator[None]:
    """With more than one thread the norm's last bit differs, as a parallel reduction's would."""
    import numba

    normalise = FastPath.normalise

    def unstable(self: FastPath, b: Any, delta: Any, gain: Any, into: Any) -> None:
        normalise(self, b, delta, gain, into)
        if numba.get_num_threads() > 1:
            into.x[0, 0] = np.nextafter(into.x[0, 0], np.float32(np.inf))
            into.quantise()

    with patched(FastPath, "normalise", unstable):
        yield


@mutant
def manifest_tells_the_threads() -> Iterator[None]:
    """The manifest holds on how many threads the trace was made."""
    import numba

    finish = trace_folder.TraceWriter.finish

    def telling(self: trace_folder.TraceWriter, **facts: Any) -> trace_folder.Manifest:
        manifest = finish(self, **facts)
        path = self.folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "threads": numba.get_num_threads()}))
        return manifest

    with patched(trace_folder.TraceWriter, "finish", telling):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-004


def several_stages_in_one_run(trial: Trial) -> None:
    """A list of stages writes exactly these, with the bytes that a run for all stages writes."""
    for subject in subjects(trial):
        together = files(subject.trace("lm_head, ffn_gate, attn_softmax, embedding"))
        trial.equal(files(subject.trace("attn_softmax,embedding,lm_head,FFN_GATE")), together, "trace in another order")
        names = [
            f"layer-{i}/{stage}.bin"
            for i in range(subject.config["n_layers"])
            for stage in ("attn_softmax", "ffn_gate")
        ]
        names += ["layer-0/embedding.bin", "lm_head.bin"]
        trial.equal(sorted(together), sorted([*names, "manifest.json"]), "files of one run for four stages")
        everything = files(subject.trace("all"))
        for name in names:
            trial.equal(together[name], everything[name], f"{name} of the run for four stages")
    second_piece_is_refused(trial)


def second_piece_is_refused(trial: Trial) -> None:
    """A file holds one tensor of one run: that of a prompt's second piece must not take the place of the first's."""
    writer = trace_folder.TraceWriter(trial.folder / "pieces", stages=["ffn_gate"], layers=range(2))
    first, second = trial.rng.standard_normal((2, 3, 8), dtype=np.float32)
    writer.tap("ffn_gate", 0, first)
    before = files(writer.folder)
    trial.check(
        is_refused(lambda: writer.tap("ffn_gate", 0, second), ValueError),
        "a stage that is traced twice in one run is kept under one name",
    )
    trial.equal(files(writer.folder), before, "files of the first piece after the second was refused")
    facts = {"engine": "0", "model": {"name": "m", "sha256": "0" * 64, "architecture": "llama"}, "prompt": ""}
    trial.check(
        is_refused(lambda: writer.finish(**facts, tokens=[1], path="fast", variant="generic"), EngineError),  # type: ignore[arg-type]
        "a trace is finished that lacks a selected stage",
    )
    trial.equal(files(writer.folder), before, "files of a trace that could not be finished")


@mutant
def only_the_first_is_kept() -> Iterator[None]:
    """Of a list of stages only the first is traced."""
    parse = stages.parse_stages
    with patched(stages, "parse_stages", lambda text: parse(text)[:1]):
        yield


@mutant
def last_piece_wins() -> Iterator[None]:
    """A tensor that is traced again overwrites the first one."""
    tap = trace_folder.TraceWriter.tap

    def forgetful(self: trace_folder.TraceWriter, stage: str, layer: int | None, array: Any) -> None:
        self._entries.pop((stage, layer), None)
        tap(self, stage, layer, array)

    with patched(trace_folder.TraceWriter, "tap", forgetful):
        yield


@mutant
def last_name_wins() -> Iterator[None]:
    """A repeated choice overwrites the earlier ones."""
    parse = stages.parse_stages
    with patched(stages, "parse_stages", lambda text: parse(text.split(",")[-1])):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-006


def layer_subset(trial: Trial) -> None:
    """`--layer 1..2` writes layer 1 and the whole-model stages, with the bytes of a run over all layers."""
    for subject in subjects(trial):
        whole = files(subject.trace("all"))
        for text, layers in (("0..1", range(1)), ("1..2", range(1, 2))):
            part = files(subject.trace("all", layer=text))
            want = set(layout(subject.config, layers)) | {"manifest.json"}
            trial.equal(sorted(part), sorted(want), f"files of --layer {text}")
            for name in want - {"manifest.json"}:
                trial.equal(part[name], whole[name], f"{name} of --layer {text}")


@mutant
def range_includes_its_end() -> Iterator[None]:
    """START..END is read as if END belonged to it."""
    parse = stages.parse_layers
    with patched(stages, "parse_layers", lambda text: range(parse(text).start, parse(text).stop + 1)):
        yield


@mutant
def range_starts_at_zero() -> Iterator[None]:
    """Only the end of the range is heeded."""
    parse = stages.parse_layers
    with patched(stages, "parse_layers", lambda text: range(parse(text).stop)):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-010


def default_folder_is_kept(trial: Trial) -> None:
    """Without --output the trace goes to <model-stem>-trace/, which is made if missing and never cleaned."""
    for subject in subjects(trial):
        if isinstance(subject, Installed):
            name, where = f"{subject.model.path.stem}-trace", trial.folder / "elsewhere"
            where.mkdir()
            apr(trial, "trace", subject.model.path, "--save-tensor", "lm_head", cwd=where)
            trial.equal(sorted(path.name for path in where.iterdir()), [name], "what appears in the current folder")
            folder = where / name
        else:
            folder = trial.folder / "made" / "when missing"
            subject.trace("lm_head", into="made/when missing")
            want = Path("somewhere/Model-7B.Q4-trace").name
            trial.equal(str(trace_folder.default_folder(Path("/x/Model-7B.Q4.gguf"))), want, "default folder")
        old = folder / "layer-0" / "attn_norm.bin"
        old.parent.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        old.write_bytes(b"old")
        before = {name: content for name, content in files(folder).items() if name != "manifest.json"}
        trial.equal(
            sorted(before), ["layer-0/attn_norm.bin", "lm_head.bin", "notes.txt"], "files before the second trace"
        )
        if isinstance(subject, Installed):
            apr(trial, "trace", subject.model.path, "--save-tensor", "final_norm", cwd=folder.parent)
        else:
            subject.trace("final_norm", into="made/when missing")
        after = files(folder)
        both = [*before, "final_norm.bin", "manifest.json"]
        trial.equal(sorted(after), sorted(both), "files after a second trace into the same folder")
        trial.equal({name: after[name] for name in before}, before, "the 3 files that were there")
        listed = [entry.file for entry in trace_folder.read_manifest(folder).tensors]
        trial.equal(listed, ["final_norm.bin"], "files that the second trace's manifest lists")
        if isinstance(subject, InProcess):
            interrupted_trace_leaves_no_manifest(trial, subject, folder)
        shutil.rmtree(folder)


def interrupted_trace_leaves_no_manifest(trial: Trial, subject: InProcess, folder: Path) -> None:
    """A trace that ends half-way must not leave the manifest of an earlier one beside its files."""
    writer = trace_folder.TraceWriter(folder, stages=["embedding", "lm_head"], layers=range(2))

    def interrupted(stage: str, layer: int | None, array: Any) -> None:
        writer.tap(stage, layer, array)
        if stage == "attn_out":
            raise InterruptedError

    with contextlib.suppress(InterruptedError):
        open_path(subject.model, "fast", capacity=8, threads=1).forward(subject.tokens, tap=interrupted)
    trial.equal("manifest.json" in files(folder), False, "a manifest after an interrupted trace")


@mutant
def earlier_files_are_emptied() -> Iterator[None]:
    """Files that lie in the folder already lose what they hold."""
    make = trace_folder._make_folder

    def emptying(folder: Path) -> None:
        make(folder)
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(b"")

    with patched(trace_folder, "_make_folder", emptying):
        yield


@mutant
def folder_is_cleaned_first() -> Iterator[None]:
    """The output folder is emptied before the trace."""
    make = trace_folder._make_folder

    def cleaning(folder: Path) -> None:
        if folder.name != "layer-0":
            shutil.rmtree(folder, ignore_errors=True)
        make(folder)

    with patched(trace_folder, "_make_folder", cleaning):
        yield


@mutant
def folder_is_named_after_the_file() -> Iterator[None]:
    """The default folder keeps the file's extension."""
    with patched(trace_folder, "default_folder", lambda model: Path(f"{model.name}-trace")):
        yield
