"""Falsifier of what `apr diff` tells: FALSIFY-APR-TRACE-SAVE-008 of contracts/apr-cli-trace-save-tensor-v1.yaml."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine import compare as comparison
from engine import diff as engine_diff
from falsifiers.subject import Subject, subjects
from pv.trial import Trial, mutant, patched


def diff_tells_the_truth(trial: Trial) -> None:
    """Identical traces differ by exactly nothing; one flipped bit is found where it is; mismatches are refused."""
    for subject in subjects(trial):
        folder = subject.trace("embedding,ffn_gate,lm_head")
        code, report = subject.compare(folder, folder)
        trial.equal(code, 0, "exit code for identical traces")
        trial.equal(report["tensors_compared"], 2 + subject.config["n_layers"], "tensors compared")
        for row in report["tensors"]:
            found = row["comparison"]
            trial.equal(
                [found["max_abs"], found["different"], found["max_ulp"]], [0.0, 0, 0], f"{row['file']} with itself"
            )
        code, report = subject.compare(folder / "lm_head.bin", folder / "lm_head.bin")
        trial.equal(code, 0, "exit code for a file and itself")
        trial.equal(report["tensors"][0]["comparison"]["max_abs"], 0.0, "max |diff| of a file and itself")
        other = trial.folder / f"{folder.name}-flipped"
        for index in (0, -1):  # the last value too: a loop that ends early must show
            shutil.rmtree(other, ignore_errors=True)
            shutil.copytree(folder, other)
            values = np.fromfile(other / "lm_head.bin", "<u4")
            values[3 if index == 0 else -1] ^= 1
            values.tofile(other / "lm_head.bin")
            code, report = subject.compare(other, folder)
            at = 0 if index == 0 else values.size - 4
            row = report.get("tensors", [{}])[-1]
            trial.equal(code, 1, f"exit code when bit 0 of value {at} is flipped")
            trial.equal(report["first_different"], "lm_head.bin", "the file that differs")
            trial.equal(row["comparison"]["different"], 1, "values that differ")
            trial.equal(row["comparison"]["max_ulp"], 1, "ULP of a flipped last bit")
            trial.equal(row["comparison"]["largest"][0]["index"], at, "where the difference is")
        mismatches_are_refused(trial, subject, folder)


def mismatches_are_refused(trial: Trial, subject: Subject, folder: Path) -> None:
    """Other layers, sizes, stages or tokens are not comparable: exit code 2 and no table."""
    gate, first = folder / "layer-1" / "ffn_gate.bin", folder / "layer-0" / "ffn_gate.bin"
    short = trial.folder / "short.bin"
    size = (gate.stat().st_size - 12) // 4 - 1
    short.write_bytes(struct.pack("<4sII", b"APRT", 1, size) + gate.read_bytes()[12:-4])
    cut = trial.folder / "cut.bin"
    cut.write_bytes(gate.read_bytes()[:-1])
    tokens = trial.folder / f"{folder.name}-tokens"
    shutil.copytree(folder, tokens, dirs_exist_ok=True)
    manifest = json.loads((tokens / "manifest.json").read_text())
    manifest["tokens"][0] += 1
    (tokens / "manifest.json").write_text(json.dumps(manifest))
    for name, a, b in (
        ("another layer", gate, first),
        ("another stage", folder / "layer-0" / "embedding.bin", first),
        ("another size", gate, short),
        ("a cut file", gate, cut),
        ("other tokens", folder, tokens),
        ("a missing file", gate, trial.folder / "nowhere.bin"),
        ("a file and a folder", gate, folder),
    ):
        code, report = subject.compare(a, b)
        trial.equal(code, 2, f"exit code for {name}")
        trial.equal(report.get("tensors", []), [], f"rows for {name}")


@mutant
def diff_skips_the_last_value() -> Iterator[None]:
    """The comparison ends one value early."""
    compare = comparison.compare

    def early(a: Any, b: Any, **options: Any) -> comparison.Comparison:
        options["shape"] = None
        return compare(a[:-1], b[:-1], **options)

    with patched(engine_diff, "compare", early):
        yield


@mutant
def diff_compares_whatever_fits() -> Iterator[None]:
    """Nothing is refused: the common part is compared."""
    with patched(engine_diff, "_refusals", lambda left, right: iter(())):
        yield
