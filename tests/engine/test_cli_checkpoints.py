"""Tests of the commands on folders of the Hugging Face layout: what they do, and what a stranger gets wrong."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from engine import aprt
from engine.cli import main
from engine.opening import sha256_of
from engine.trace_folder import read_manifest
from engine.variants import chosen
from engine.warmup import compile_kernels
from tests.engine.checkpoints import config, put, small_checkpoint, weights, write
from tests.engine.model_files import keys, tensors
from tests.engine.model_files import write as write_gguf

COMMANDS = [["run"], ["trace", "--save-tensor", "all"], ["inspect"], ["determinism"], ["bench"]]


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    """No command has to say that it compiles first."""
    compile_kernels({"F32", "F16", "BF16"}, lambda line: None)


@pytest.fixture
def apr(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty folder and gives (exit code, standard output, standard error)."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


@pytest.fixture
def folder(tmp_path):
    return small_checkpoint(tmp_path, "qwen2", "BF16", shards=2)


def test_run_says_of_a_folder_what_it_says_of_the_same_model_in_a_file(apr, tmp_path, folder):
    file = write_gguf(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2"), "BF16")
    for options in (["--path", "reference"], ["--temperature", "2", "--seed", "3"]):
        told = []
        for model in (folder, file):
            code, out, err = apr("run", model, "--prompt", "hi there", "--max-tokens", "9", "--json", *options)
            assert (code, err) == (0, "")
            told.append(json.loads(out))
        assert told[0]["model"] == {"name": "qwen2", "architecture": "qwen2", "file": str(folder)}
        for key in ("prompt_tokens", "tokens", "text", "stop", "top_first"):
            assert told[0][key] == told[1][key]
        assert len(told[0]["tokens"]) == 9


def test_a_shard_or_a_relative_path_names_the_model_too(apr, monkeypatch, folder):
    want = apr("run", folder, "--max-tokens", "3")[1]
    assert apr("run", folder / "model-00001-of-00002.safetensors", "--max-tokens", "3")[1] == want
    monkeypatch.chdir(folder)
    assert apr("run", ".", "--max-tokens", "3")[1] == want


def test_a_folder_of_three_files_runs(apr, tmp_path):
    folder = small_checkpoint(tmp_path, "llama")
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).unlink()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    for command in COMMANDS[:3]:
        code, _, err = apr(command[0], folder, *command[1:])
        assert (code, "hint" in err) == (0, False)
    code, _, err = apr("run", folder, "--chat")
    assert code == 2
    assert err.startswith(f"apr: {folder}: the model has no chat template (chat_template.jinja, or in tokenizer_conf")


def test_run_chat_uses_the_template_of_the_folder(apr, folder):
    (folder / "chat_template.jinja").write_text("<{{ messages[0].content }}>")
    said = json.loads(apr("run", folder, "--chat", "--prompt", "hi", "--max-tokens", "1", "--json")[1])
    assert said["prompt_tokens"] == [60, 256, 62]


def test_trace_names_the_folder_by_its_digest(apr, tmp_path, folder):
    assert apr("trace", folder, "--save-tensor", "lm_head")[:2] == (0, "1 tensors in qwen2-trace\n")
    manifest = read_manifest(Path("qwen2-trace"))
    assert (manifest.model.name, manifest.model.sha256) == ("qwen2", sha256_of(folder))
    file = write_gguf(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2"), "BF16")
    assert apr("trace", file, "--save-tensor", "lm_head")[0] == 0
    logits = [aprt.read_tensor(Path(f"{name}-trace/lm_head.bin")).values for name in ("qwen2", "m")]
    assert np.array_equal(*logits)


def test_a_trace_lies_in_a_folder_called_like_the_model_whatever_dots_its_name_has(apr, tmp_path, monkeypatch, folder):
    dotted = folder.rename(tmp_path / "Qwen2.5-0.5B")
    assert apr("trace", dotted, "--save-tensor", "lm_head")[1] == "1 tensors in Qwen2.5-0.5B-trace\n"
    monkeypatch.chdir(dotted)
    assert apr("trace", ".", "--save-tensor", "lm_head")[1] == "1 tensors in Qwen2.5-0.5B-trace\n"


def test_inspect_shows_the_folder(apr, folder):
    facts = json.loads(apr("inspect", folder, "--json")[1])
    assert (facts["schema"], facts["file"], facts["sha256"]) == ("apr-inspect/1", str(folder), sha256_of(folder))
    assert apr("inspect", folder)[1].startswith(f"{folder}  safetensors, ")


def test_warmup_compiles_what_a_folder_needs(apr, folder):
    code, out, _ = apr("warmup", folder)
    assert code == 0
    assert out.startswith("0 kernels compiled")


def test_determinism_measures_a_folder(apr, folder):
    code, out, _ = apr("determinism", folder, "--tokens", "1,5,200,7", "--variant", chosen(), "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["model"]["file"], said["model"]["sha256"]) == (str(folder), sha256_of(folder))


def test_bench_measures_a_folder_and_counts_the_bytes_of_its_weights(apr, folder):
    code, out, _ = apr("bench", folder, "--prompt", 4, "--tokens", 2, "--rounds", 1, "--json")
    assert code == 0
    assert json.loads(out)["file_bytes"] == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    code, out, err = apr("bench", folder, "--vs-llama-cpp")
    assert (code, out) == (2, "")
    assert err == "apr: --vs-llama-cpp: llama.cpp reads GGUF files alone\n  hint: leave it out\n"


def test_quantize_refuses_a_folder_and_says_what_to_do(apr, folder):
    for model in (folder, folder / "model-00001-of-00002.safetensors"):
        code, out, err = apr("quantize", model, "out.gguf", "--type", "q8_0")
        assert (code, out) == (2, "")
        assert err.startswith(
            f"apr: {model}: is no GGUF file, and only those can be quantised\n  hint: convert it first"
        )
    assert not Path("out.gguf").exists()


# ---------------------------------------------------------------- bad input


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def only_config(folder):
    empty(folder)
    put(folder, "config.json", config("qwen2"))


def cut_shard(folder):
    os.truncate(folder / "model-00002-of-00002.safetensors", 3000)


def lfs_pointer(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model-00002-of-00002.safetensors").write_text(text)


def looping_shard(folder):
    path = folder / "model-00001-of-00002.safetensors"
    path.unlink()
    path.symlink_to(path.name)


def stray(folder):
    write(folder, config("qwen2", vocab_size=10**9), weights("qwen2"), shards=2)


BAD = {
    "empty": (empty, "is a folder without config.json"),
    "only-config": (only_config, "is a folder without model.safetensors"),
    "cut-shard": (cut_shard, "bytes are missing"),
    "lfs-pointer": (lfs_pointer, "run `git lfs pull`"),
    "no-shard": (
        lambda f: (f / "model-00001-of-00002.safetensors").unlink(),
        "names model-00001-of-00002.safetensors, which",
    ),
    "looping-shard": (looping_shard, "Too many levels of symbolic links"),
    "no-tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: no such file"),
    "no-settings": (lambda f: (f / "tokenizer_config.json").write_text("["), "tokenizer_config.json:1: is not JSON"),
    "mistral": (lambda f: put(f, "config.json", config("qwen2", model_type="mistral")), "'mistral' is not supported"),
    "nan-theta": (lambda f: put(f, "config.json", config("qwen2", rope_theta=float("nan"))), "RoPE base nan"),
    "huge-vocabulary": (stray, "has shape (258, 64), the configuration needs (1000000000, 64)"),
    "small-vocabulary": (lambda f: put(f, "config.json", config("qwen2", vocab_size=200)), "has shape (258, 64), the"),
    "no-json": (lambda f: (f / "config.json").write_text("{,}"), "config.json:1: is not JSON"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_folder_that_is_no_whole_model_is_one_error_and_leaves_nothing(apr, folder, command, kind):
    damage, reason = BAD[kind]
    damage(folder)
    code, out, err = apr(command[0], folder, *command[1:])
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {folder}")
    assert reason in err
    assert err.count("apr: ") == 1
    assert "Traceback" not in err
    assert list(Path.cwd().iterdir()) == []
