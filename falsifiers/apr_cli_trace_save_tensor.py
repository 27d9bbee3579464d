"""Falsifiers of contracts/apr-cli-trace-save-tensor-v1.yaml: what `apr trace` writes.

Each takes the engine's functions on random models (algorithm) or the installed command on a real one (live).
"""

import contextlib
import dataclasses
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine import aprt, fast, kernels, stages, trace_folder
from engine.gguf import read_gguf
from engine.paths import open_path
from falsifiers.subject import (
    CORES,
    InProcess,
    Installed,
    Subject,
    apr,
    files,
    layout,
    observe_origin,
    shapes,
    subjects,
    tensor,
)
from pv.trial import ModelFile, Trial, mutant, patched

WHOLE = 0xFFFFFFFF


def tokens_of(folder: Path) -> int:
    return len(trace_folder.read_manifest(folder).tokens)


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

    rmsnorm = kernels.rmsnorm

    def unstable(out: Any, x: Any, gain: Any, eps: float) -> None:
        rmsnorm(out, x, gain, eps)
        if numba.get_num_threads() > 1:
            out[0, 0] = np.nextafter(out[0, 0], np.float32(np.inf))

    with patched(kernels, "rmsnorm", unstable):
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


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-003


def header_describes_the_body(trial: Trial) -> None:
    """Twelve bytes say what follows: magic, layer, number of values; no field needs the file's name to be read."""
    for subject in subjects(trial):
        folder = subject.trace("all")
        for name, (_, layer) in layout(subject.config, range(subject.config["n_layers"])).items():
            content = (folder / name).read_bytes()
            trial.equal(content[:4], b"APRT", f"magic of {name}")
            trial.equal(content[4:8], struct.pack("<I", WHOLE if layer is None else layer), f"layer field of {name}")
            trial.equal(content[8:12], struct.pack("<I", (len(content) - 12) // 4), f"length field of {name}")
            trial.equal((len(content) - 12) % 4, 0, f"bytes of {name} past a whole number of values")
    for layer, size in ((0, 1), (1, 258), (0x01020304, 3)):
        want = b"APRT" + struct.pack("<II", layer, size)
        trial.equal(aprt.pack_header(layer, size), want, f"header of layer {layer}, {size} values")


@mutant
def big_endian_header() -> Iterator[None]:
    """The layer is written in big-endian byte order."""
    with patched(
        aprt, "pack_header", lambda layer, n: struct.pack(">4sI", b"APRT", _field(layer)) + struct.pack("<I", n)
    ):
        yield


@mutant
def layer_off_by_one() -> Iterator[None]:
    """Layers are counted from one."""
    with patched(aprt, "pack_header", lambda layer, n: struct.pack("<4sII", b"APRT", (_field(layer) + 1) % 2**32, n)):
        yield


@mutant
def length_counts_bytes() -> Iterator[None]:
    """The length field holds bytes instead of values."""
    with patched(aprt, "pack_header", lambda layer, n: struct.pack("<4sII", b"APRT", _field(layer), 4 * n)):
        yield


def _field(layer: int | None) -> int:
    return WHOLE if layer is None else layer


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


@mutant
def only_the_first_is_kept() -> Iterator[None]:
    """Of a list of stages only the first is traced."""
    parse = stages.parse_stages
    with patched(stages, "parse_stages", lambda text: parse(text)[:1]):
        yield


@mutant
def last_name_wins() -> Iterator[None]:
    """A repeated choice overwrites the earlier ones."""
    parse = stages.parse_stages
    with patched(stages, "parse_stages", lambda text: parse(text.split(",")[-1])):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-005

SCALE_AT = {"Q6_K": 208, "Q8_0": 0, "Q4_K": 0, "Q4_1": 0, "F16": 0}
NANS = {0x7E00: 0x7FC00000, 0x7E2A: 0x7FC54000}
"""A float16 NaN in the file, and the float32 NaN with the same payload that must come out."""


def nan_bits_are_kept(trial: Trial) -> None:
    """A NaN in the weights of a prompt's first token reaches the file with its payload, and no other value changes."""
    for subject in subjects(trial):
        sound = tensor(subject.trace("embedding"), "embedding", 0)
        for planted, want in NANS.items():
            broken = with_nan(trial, subject, planted)
            folder = broken.trace(
                "embedding", into=f"nan-{type(subject).__name__}-{subject.config['vocab']}-{planted:x}"
            )
            bits, before = tensor(folder, "embedding", 0).view(np.uint32).copy(), sound.view(np.uint32)
            tokens = np.array(trace_folder.read_manifest(folder).tokens)
            block = bits[tokens == tokens[0], : broken.embedding_block]
            wrong = np.unique(block[(block & 0x7FFFFFFF) != want])
            trial.check(wrong.size == 0, f"float16 NaN {planted:#06x} came out as {wrong[:1]}, not {want} (sign aside)")
            bits[tokens == tokens[0], : broken.embedding_block] = before[tokens == tokens[0], : broken.embedding_block]
            trial.check(
                bool((tokens != tokens[0]).any()), "the prompt has one token only, so nothing could stay as it was"
            )
            trial.equal(bits.tobytes(), before.tobytes(), "values outside the planted block")
    values = trial.rng.standard_normal(64, dtype=np.float32)
    patterns = np.array([0x7FC00000, 0x7FC12345, 0xFFC00001, 0x7F800001, 0x80000000, 0x7F800000, 1], np.uint32)
    values[: patterns.size] = patterns.view(np.float32)
    aprt.write_tensor(trial.folder / "patterns.bin", 3, values)
    trial.equal((trial.folder / "patterns.bin").read_bytes()[12:], values.tobytes(), "bit patterns as written")
    again = aprt.read_tensor(trial.folder / "patterns.bin").values
    trial.equal(np.asarray(again).tobytes(), values.tobytes(), "bit patterns as read")


def with_nan(trial: Trial, subject: Subject, bits: int) -> Subject:
    """The same subject with the scale of the first block of its first token's embedding replaced by a float16 NaN."""
    if isinstance(subject, InProcess):
        weight = subject.model.embedding
        raw = weight.raw.copy()
        at = SCALE_AT[weight.format.name]
        raw[subject.tokens[0], at : at + 2] = np.array([bits], "<u2").view(np.uint8)
        model = dataclasses.replace(subject.model, embedding=dataclasses.replace(weight, raw=raw))
        return InProcess(trial, model)
    assert isinstance(subject, Installed)
    file = read_gguf(subject.model.path)
    info = file.tensors["token_embd.weight"]
    token = trace_folder.read_manifest(subject.trace("embedding")).tokens[0]
    copy = trial.folder / f"nan-{bits:x}.gguf"
    shutil.copyfile(subject.model.path, copy)
    with copy.open("r+b") as handle:
        handle.seek(info.offset + token * info.row_nbytes + SCALE_AT[info.format.name])
        handle.write(struct.pack("<H", bits))
    return Installed(trial, ModelFile(name=subject.model.name, path=copy, sha256=subject.model.sha256))


@mutant
def nan_is_made_canonical() -> Iterator[None]:
    """Every NaN is written as the same one."""
    write = aprt.write_tensor

    def canonical(path: Path, layer: int | None, array: Any) -> None:
        write(path, layer, np.where(np.isnan(array), np.float32(np.nan), array))

    with patched(aprt, "write_tensor", canonical):
        yield


@mutant
def nan_spreads() -> Iterator[None]:
    """One NaN makes every value of its tensor the same NaN."""
    write = aprt.write_tensor

    def spreading(path: Path, layer: int | None, array: Any) -> None:
        bad = np.isnan(array)
        write(path, layer, np.full_like(array, array[bad][0]) if bad.any() else array)

    with patched(aprt, "write_tensor", spreading):
        yield


@mutant
def nan_becomes_zero() -> Iterator[None]:
    """NaN is written as 0, as a cleaning step would."""
    write = aprt.write_tensor
    with patched(aprt, "write_tensor", lambda path, layer, array: write(path, layer, np.nan_to_num(array, nan=0.0))):
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


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-009


def lm_head_is_a_whole_model_file(trial: Trial) -> None:
    """lm_head.bin lies beside the layers, belongs to none, and holds the logits of the last position alone."""
    for subject in subjects(trial):
        folder = subject.trace("final_norm,lm_head")
        trial.equal(
            sorted(files(folder)), ["final_norm.bin", "lm_head.bin", "manifest.json"], "files of the two stages"
        )
        content = (folder / "lm_head.bin").read_bytes()
        trial.equal(content[4:8], b"\xff\xff\xff\xff", "layer field of lm_head.bin")
        trial.equal(len(content), 12 + 4 * subject.config["vocab"], "bytes of lm_head.bin")
        logits = tensor(folder, "lm_head", None).astype(np.float64)
        normed = tensor(folder, "final_norm", None).astype(np.float64)
        want = normed[-1] @ subject.weights("output.weight").astype(np.float64).T
        cosine = float(logits @ want / np.sqrt((logits @ logits) * (want @ want)))
        trial.observe("cosine", cosine)
        # rounding the norm's output to int8 costs about 3e-5; the logits of another position lie far beyond
        trial.at_most(1 - cosine, 1e-3, "1 - cosine of lm_head and the output matrix times the last final_norm")


@mutant
def lm_head_lies_in_the_last_layer() -> Iterator[None]:
    """The logits are filed under the last layer."""
    place = trace_folder.stage_path

    def misplaced(folder: Path, stage: str, layer: int | None) -> Path:
        return folder / "layer-1" / "lm_head.bin" if stage == "lm_head" else place(folder, stage, layer)

    with patched(trace_folder, "stage_path", misplaced):
        yield


@mutant
def lm_head_of_the_first_position() -> Iterator[None]:
    """The logits are those of the prompt's first token."""
    logits = fast.FastPath.logits
    with patched(fast.FastPath, "logits", lambda self, h: logits(self, h[:1])):
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


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-011


def sizes_follow_from_the_configuration(trial: Trial) -> None:
    """Each file has 12 + 4 times the product of the shape that the model's configuration predicts."""
    for subject in subjects(trial):
        folder = subject.trace("all")
        predicted = shapes(subject.config, tokens_of(folder))
        total = 0
        for name, (stage, _) in layout(subject.config, range(subject.config["n_layers"])).items():
            size = 12 + 4 * int(np.prod(predicted[stage]))
            trial.equal((folder / name).stat().st_size, size, f"bytes of {name}")
            total += size
        trial.observe("bytes", total)
    qwen2_7b = {"hidden": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4, "head_dim": 128, "vocab": 152064}
    known = {"attn_norm": 100364, "ffn_gate": 530444, "qkv_matmul": 129036, "lm_head": 608268}
    predicted = shapes(qwen2_7b, 7)
    for stage, size in known.items():
        trial.equal(
            12 + 4 * int(np.prod(predicted[stage])), size, f"bytes of {stage} for a Qwen2-7B shape and 7 tokens"
        )


@mutant
def values_are_left_out_of_qkv() -> Iterator[None]:
    """The stage holds queries and keys only."""
    with _cut_before_writing("qkv_bias", lambda array: array[:, : array.shape[1] * 3 // 4]):
        yield


@mutant
def last_position_only() -> Iterator[None]:
    """Of the residual stream only the last token's row is kept."""
    with _cut_before_writing("post_ffn_residual", lambda array: array[-1:]):
        yield


def _cut_before_writing(stage: str, cut: Any) -> Any:
    tap = trace_folder.TraceWriter.tap

    def cutting(self: trace_folder.TraceWriter, name: str, layer: int | None, array: Any) -> None:
        tap(self, name, layer, np.ascontiguousarray(cut(array)) if name == stage else array)

    return patched(trace_folder.TraceWriter, "tap", cutting)
