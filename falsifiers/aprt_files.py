"""Falsifiers of contracts/apr-cli-trace-save-tensor-v1.yaml: the bytes of the files that `apr trace` writes.

Each takes the engine's functions on random models (algorithm) or the installed command on a real one (live).
"""

import dataclasses
import functools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine import aprt, buffers, fast, trace_folder
from engine.errors import EngineError
from engine.gguf import read_gguf
from falsifiers.subject import (
    InProcess,
    Installed,
    Subject,
    files,
    is_refused,
    layout,
    shapes,
    subjects,
    tensor,
)
from pv.trial import ModelFile, Trial, mutant, patched

WHOLE = 0xFFFFFFFF


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
    for layer, size in ((-1, 1), (WHOLE, 1), (0, -1), (0, 2**32)):
        trial.check(
            is_refused(functools.partial(aprt.pack_header, layer, size), EngineError),
            f"a header of layer {layer} and {size} values is packed: its fields cannot say so",
        )
    path = trial.folder / "wide.bin"
    trial.check(
        is_refused(lambda: aprt.write_tensor(path, 0, np.ones(4)), TypeError),  # type: ignore[arg-type]
        "float64 values are written under a header that promises float32",
    )
    trial.equal(path.exists(), False, "a file after float64 values were refused")
    path.mkdir()
    trial.check(
        is_refused(lambda: aprt.write_tensor(path, 0, np.ones(4, np.float32)), EngineError),
        "a tensor whose file cannot be put in place counts as written",
    )
    trial.equal([found.name for found in trial.folder.glob("*wide*")], ["wide.bin"], "what lies beside that file")


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


@mutant
def numbers_wrap_around() -> Iterator[None]:
    """What does not fit a field of the header is cut to its 32 bits."""
    with patched(aprt, "pack_header", lambda layer, n: struct.pack("<4sII", b"APRT", _field(layer) % 2**32, n % 2**32)):
        yield


@mutant
def any_type_is_converted() -> Iterator[None]:
    """Values of another type are rounded to float32 in silence."""
    write = aprt.write_tensor

    def converting(path: Path, layer: int | None, array: Any) -> None:
        write(path, layer, array.astype(np.float32))

    with patched(aprt, "write_tensor", converting):
        yield


def _field(layer: int | None) -> int:
    return WHOLE if layer is None else layer


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
        nmse = float(np.sum((logits - want) ** 2) / np.sum(want**2))
        trial.observe("nmse", nmse)
        trial.at_most(nmse, trial.tolerance, "NMSE of lm_head and the output matrix times the last final_norm")
    for stage, layer in (("lm_head", 1), ("final_norm", 0), ("ffn_gate", None), ("nope", 0)):
        trial.check(
            is_refused(functools.partial(trace_folder.stage_path, trial.folder, stage, layer), ValueError),
            f"{stage} has a place in layer {layer}",
        )


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

    def first(self: fast.FastPath, b: buffers.Buffers) -> Any:
        b.final.x[-1] = b.final.x[0]
        return logits(self, b)

    with patched(fast.FastPath, "logits", first):
        yield


# ---------------------------------------------------------------- FALSIFY-APR-TRACE-SAVE-011


def sizes_follow_from_the_configuration(trial: Trial) -> None:
    """Each file has 12 + 4 times the product of the shape that the model's configuration predicts."""
    for subject in subjects(trial):
        folder = subject.trace("all")
        predicted = shapes(subject.config, len(trace_folder.read_manifest(folder).tokens))
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
