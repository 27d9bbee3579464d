"""Tests of engine.commands.trace: what is written where, and what is refused."""

import os
import re
import shutil
import threading
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest

import engine.fast
from engine import hashing, stages
from engine.trace_folder import read_manifest
from engine.variants import chosen


def test_trace_writes_what_is_selected(apr, tmp_path, small):
    code, out, err = apr("trace", small, "--save-tensor", "lm_head,FFN_Gate", "--prompt", "hi")
    assert (code, out) == (0, "3 tensors in small-trace\n")
    assert re.fullmatch(rf"apr: path fast, variant {chosen()}, float32 cache, \d+ threads.*; 1 tokens 256\n", err)
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        f"small-trace/{name}"
        for name in ("layer-0/ffn_gate.bin", "layer-1/ffn_gate.bin", "lm_head.bin", "manifest.json")
    ]


def test_trace_all_writes_every_stage(apr, tmp_path, small):
    code, out, _ = apr("trace", small, "--save-tensor", "all", "--prompt", "hi", "--output", "t")
    assert (code, out) == (0, f"{1 + 2 * 17 + 2} tensors in t\n")
    assert {entry.stage for entry in read_manifest(tmp_path / "t").tensors} == set(stages.NAMES)


def test_the_manifest_says_where_the_tensors_come_from(traced, small):
    manifest, logits = traced(small, "--prompt", "hey", "--path", "reference")
    assert (manifest.engine, manifest.prompt, manifest.tokens) == (version("pv-contracts"), "hey", tuple(b"hey"))
    assert (manifest.path, manifest.variant) == ("reference", "numpy-float64")
    assert (manifest.model.name, manifest.model.architecture) == ("small-qwen2", "qwen2")
    assert logits.shape == (258,)


def test_trace_model_and_its_synonym_choose_the_model(apr, traced):
    packed, full = traced("tiny-qwen2")[0], traced("tiny-qwen2-f16")[0]
    assert packed.model.sha256 != full.model.sha256
    assert traced()[0] == packed
    assert traced("--payload", "tiny-qwen2-f16")[0] == full
    assert traced("tiny-qwen2-f16", "--payload")[0] == full
    answer = apr("trace", "a", "--payload", "b", "--save-tensor", "all")
    assert answer == (2, "", "apr: --payload: two models are named: a and b\n  hint: name one\n")


def test_trace_prompt_is_what_runs(traced, small):
    assert traced(small)[0].prompt == "What is 2+2?"
    assert traced(small, "--prompt", "hey")[0].tokens == tuple(b"hey")


def test_trace_path_chooses_the_path(traced, small):
    (fast, a), (reference, b) = (traced(small, "--path", path) for path in ("fast", "reference"))
    assert (fast.path, reference.path) == ("fast", "reference")
    assert a.tobytes() != b.tobytes()


def test_trace_threads_sets_their_number(apr, small):
    assert f"{chosen()}, float32 cache, 1 threads" in apr("trace", small, "--save-tensor", "lm_head", "--threads", 1)[2]


@pytest.mark.parametrize("flag", ["--output", "--save-tensor-dir"])
def test_trace_output_is_made_and_never_cleaned(apr, tmp_path, small, flag):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/old.txt").write_text("mine")
    for folder in ("kept", "new/deeper"):
        assert apr("trace", small, "--save-tensor", "lm_head", flag, folder)[0] == 0
        assert (tmp_path / folder / "lm_head.bin").stat().st_size == 12 + 4 * 258
    assert (tmp_path / "kept/old.txt").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--layer", "--save-tensor-layers"])
def test_trace_layer_selects_layers_and_not_whole_model_stages(apr, tmp_path, small, flag):
    assert apr("trace", small, "--save-tensor", "attn_out,lm_head", flag, "1..2", "--output", "t")[0] == 0
    assert [(e.stage, e.layer) for e in read_manifest(tmp_path / "t").tensors] == [("attn_out", 1), ("lm_head", None)]


def test_a_bad_selection_is_refused_before_the_model_is_looked_for(apr):
    for stage in ("bogus", "", "lm_head,", "lm-head"):
        code, out, err = apr("trace", "no-such.gguf", "--save-tensor", stage)
        assert (code, out) == (2, "")
        assert "no-such" not in err
        assert all(name in err for name in stages.NAMES)
    for layer in ("2..2", "3..1", "1", "a..b", "-1..2", "0..-1", ""):
        code, _, err = apr("trace", "no-such.gguf", "--save-tensor", "all", f"--layer={layer}")
        assert (code, "no-such" in err) == (2, False)
        assert err.startswith("apr: --layer: ")


def test_layers_beyond_the_model_are_refused_and_nothing_is_written(apr, tmp_path, small):
    code, _, err = apr("trace", small, "--save-tensor", "all", "--layer", "1..3")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert err == "apr: --layer: the model has 2 layers: 1..3 ends past them\n  hint: 0..2 names them all\n"


def test_an_embedding_without_layer_0_is_refused(apr, small):
    code, _, err = apr("trace", small, "--save-tensor", "embedding", "--layer", "1..2")
    assert code == 2
    assert "no tensor in the selected layers" in err


@pytest.mark.parametrize(
    ("folder", "error"),
    [
        ("file", "--output file: is no folder\n"),
        ("file/below", "--output file/below: cannot be made: file is no folder\n"),
        ("pipe", "--output pipe: is no folder\n"),
        ("/proc/nowhere", "/proc/nowhere: the folder cannot be made: "),
    ],
)
def test_a_folder_that_cannot_be_made_is_an_error(apr, tmp_path, small, folder, error):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    code, out, err = apr("trace", small, "--save-tensor", "lm_head", "--output", folder)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {error}")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_tensor_file_that_cannot_be_written_is_an_error(apr, tmp_path, small):
    (tmp_path / "t/lm_head.bin").mkdir(parents=True)
    code, out, err = apr("trace", small, "--save-tensor", "lm_head", "--output", "t")
    assert (code, out) == (2, "")
    assert "t/lm_head.bin" in err
    assert not (tmp_path / "t/manifest.json").exists()


def test_a_model_that_vanishes_while_it_runs_is_one_error_and_leaves_no_folder(apr, tmp_path, small, monkeypatch):
    """The file is hashed beside the forward pass, here after it."""
    gone, hashed, forward = threading.Event(), hashing._sha256, engine.fast.FastPath.forward

    def late(*arguments):
        assert gone.wait(60)
        return hashed(*arguments)

    def losing(self, *arguments, **options):
        logits = forward(self, *arguments, **options)
        Path("lost.gguf").unlink()
        gone.set()
        return logits

    monkeypatch.setattr(hashing, "_sha256", late)
    monkeypatch.setattr(engine.fast.FastPath, "forward", losing)
    shutil.copy(small, tmp_path / "lost.gguf")
    threads = threading.active_count()
    code, out, err = apr("trace", "lost.gguf", "--save-tensor", "all", "--output", "new/deeper")
    told = "cannot be read: No such file or directory\n  hint: check its permissions and its disk\n"
    assert (code, out, err) == (2, "", f"apr: lost.gguf: {told}")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_a_trace_that_fails_leaves_neither_a_folder_nor_a_thread(apr, tmp_path, small, monkeypatch):
    hashes = []
    monkeypatch.setattr(hashing, "_sha256", lambda path, identity, over: hashes.append(over.wait(60)))
    monkeypatch.setattr(engine.fast.FastPath, "logits", lambda self, b: (_ for _ in ()).throw(KeyboardInterrupt))
    threads = threading.active_count()
    assert apr("trace", small, "--save-tensor", "all")[0] == 130
    assert (list(tmp_path.iterdir()), hashes, threading.active_count()) == ([], [True], threads)


def test_the_manifest_names_the_sha256_of_the_file(traced, small):
    assert traced(small)[0].model.sha256 == sha256(Path(small).read_bytes()).hexdigest()
