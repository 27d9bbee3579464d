"""llama.cpp as an oracle: its bits with and without capture, its tokens, its end, and every input that is refused."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.opening import open_model
from engine.oracles import llama_cpp, llama_cpp_stages, proof
from engine.stages import NAMES
from engine.trace_folder import read_manifest
from tests.engine import checkpoints
from tests.engine.model_files import keys, tensors, write
from tests.engine.oracles.llamas import MODELS, PROMPT, captured, located

pytestmark = pytest.mark.oracle
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `llama-cpp`)")


def test_a_rotation_of_a_part_of_each_head_is_refused(tmp_path):
    path = write(tmp_path / "model.gguf", keys("qwen2", rope__dimension_count=8), tensors("qwen2"))
    with pytest.raises(
        EngineError, match=r"llama.cpp rotates whole heads, of 16 elements; this model rotates 8 of them"
    ):
        llama_cpp.open_model(path)


@pytest.mark.parametrize("name", [*list(MODELS)[:2], pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
def test_capture_changes_no_bit_of_the_logits(oracles, name):
    oracle = oracles(located(name))
    for tokens in ([5], oracle.tokens(PROMPT)):
        before = oracle.forward(tokens)
        logits, _ = captured(oracle, tokens)
        assert np.array_equal(logits, before)
        assert np.array_equal(oracle.forward(tokens), before)


def test_without_capture_no_callback_is_set(oracles, monkeypatch):
    oracle = oracles(located("tiny-qwen2"))
    monkeypatch.setattr(llama_cpp_stages.Stages, "evaluated", None)
    assert oracle.forward([5, 6]).shape == (oracle.config.vocab,)


@pytest.mark.parametrize("name", ["tiny-qwen2", pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
@pytest.mark.parametrize("prompt", [PROMPT, "", "<|im_start|>user\nHallo Wörld 🙂<|im_end|>\n", "\x00a"])
def test_tokens_are_those_of_our_tokenizer(oracles, name, prompt):
    path = located(name)
    assert oracles(path).tokens(prompt) == open_model(path).tokenizer.encode(prompt)


def test_what_capture_raises_comes_out_and_the_oracle_goes_on(oracles):
    oracle, before = oracles(located("tiny-qwen2")), oracles(located("tiny-qwen2")).forward([5, 6])

    def capture(stage, layer, array):
        if (stage, layer) == ("ffn_up", 2):
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match=r"^stop$"):
        oracle.forward([5, 6], capture)
    assert np.array_equal(oracle.forward([5, 6]), before)


def test_a_folder_of_the_hugging_face_layout_is_refused(tmp_path):
    folder = tmp_path / "folder"
    checkpoints.write(folder, checkpoints.config("llama"), checkpoints.weights("llama"))
    with pytest.raises(
        EngineError, match=r"folder: llama.cpp reads GGUF files, this is a model of the Hugging Face layout\n"
    ):
        llama_cpp.open_model(folder)


@pytest.fixture
def logger():
    """Gives the address of the function that llama.cpp logs with."""
    c = llama_cpp._llama_cpp()

    def address():
        function, data = c.llama_log_callback(), ctypes.c_void_p()
        c.llama_log_get(ctypes.byref(function), ctypes.byref(data))
        return ctypes.cast(function, ctypes.c_void_p).value

    return address


def test_llama_cpp_is_quiet_and_logs_afterwards_as_before(capfd, logger):
    before = logger()
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    oracle.forward([5, 6], lambda *_: None)
    oracle.close()
    assert logger() == before
    assert capfd.readouterr() == ("", "")


def test_a_model_that_llama_cpp_cannot_load_is_refused_with_what_it_says(tmp_path, capfd):
    metadata = keys("llama") | {"tokenizer.ggml.model": "gpt9"}
    path = write(tmp_path / "model.gguf", metadata, tensors("llama"))
    with pytest.raises(EngineError, match=r"model.gguf: llama.cpp cannot load it: .*unknown tokenizer: 'gpt9'"):
        llama_cpp.open_model(path)
    assert capfd.readouterr().err == ""


def test_a_token_outside_the_vocabulary_is_refused_with_what_llama_cpp_says(oracles):
    with pytest.raises(EngineError, match=r"^llama-cpp: llama.cpp cannot run the prompt \(-1\): .*invalid token"):
        oracles(located("tiny-qwen2")).forward([5, 4000])


def test_a_prompt_longer_than_the_context_is_refused(oracles):
    with pytest.raises(EngineError, match=r"^--prompt: the prompt has 513 tokens, the model's context is 512\n"):
        oracles(located("tiny-qwen2")).forward([5] * 513)


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(EngineError, match=r"hint: install what it needs: pip install 'pv-contracts\[llama-cpp\]'$"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_a_library_that_does_not_load_is_told(monkeypatch):
    def broken(oracle, name):
        raise RuntimeError("libllama.so: cannot open shared object file")

    monkeypatch.setattr(llama_cpp, "library", broken)
    with pytest.raises(EngineError, match=r"^the oracle llama-cpp cannot be loaded: libllama.so: cannot open"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_a_closed_oracle_is_not_used():
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    oracle.close()
    oracle.close()
    with pytest.raises(ValueError, match=r"^the oracle is closed$"):
        oracle.forward([5])
    with pytest.raises(ValueError, match=r"^the oracle is closed$"):
        oracle.tokens("a")


def test_contexts_and_the_model_are_freed_once(monkeypatch):
    c, seen = llama_cpp._llama_cpp(), []

    def noted(name, function):
        def call(*arguments):
            seen.append(name)
            return function(*arguments)

        return call

    for name in ("llama_init_from_model", "llama_free", "llama_model_free"):
        monkeypatch.setattr(c, name, noted(name, getattr(c, name)))
    oracle = llama_cpp.open_model(located("tiny-qwen2"))
    oracle.forward([5, 6])
    with pytest.raises(EngineError, match="invalid token"):
        oracle.forward([5, 4000])
    oracle.close()
    oracle.close()
    assert seen == [*["llama_init_from_model", "llama_free"] * 3, "llama_model_free"]


@pytest.mark.parametrize("end", ["oracle.close()", "", "del oracle"])
def test_a_process_that_used_it_ends_well_and_says_nothing_of_its_own(end):
    script = (
        "from engine.oracles.llama_cpp import open_model; from engine.registry import locate\n"
        "oracle = open_model(locate('tiny-qwen2'))\n"
        f"oracle.forward([5, 6], lambda *_: None)\n{end}\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_it_proves_itself():
    """Beside transformers, where that is installed."""
    proof.prove("llama-cpp")


def test_apr_oracle_writes_what_it_gives_and_says_what_it_cannot(apr):
    code, out, err = apr("oracle", "llama-cpp", "tiny-qwen2", "--output", "theirs")
    assert (code, out) == (0, "67 tensors in theirs\n")
    manifest = read_manifest(Path("theirs"))
    assert (manifest.path, manifest.variant) == ("llama-cpp", "cpu, flash attention off, keys and values in float32")
    assert re.fullmatch(r"llama-cpp-python [\d.]+, ggml [\d.]+", manifest.engine)
    assert {entry.stage for entry in manifest.tensors} == set(NAMES) - {"ffn_silu"}
    lines = err.splitlines()
    assert lines[0].startswith(f"apr: oracle llama-cpp, {manifest.variant}, {manifest.engine}; 9 tokens 54 71 268 ")
    assert lines[-1] == "apr: llama-cpp cannot give, and the folder lacks: ffn_silu"
    assert any(line.startswith("apr: attn_scores ") for line in lines)
    stages = ",".join(sorted({entry.stage for entry in manifest.tensors}))
    apr("trace", "tiny-qwen2", "--path", "reference", "--save-tensor", stages, "--output", "ours")
    code, out, _ = apr("diff", "ours", "theirs", "--values")
    assert code == 1
    assert "different: 66 of 67 tensors, " in out  # embedding is equal


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--save-tensor", "ffn_silu"],
            "apr: --save-tensor: llama-cpp cannot give ffn_silu\n  hint: choose others\n",
        ),
        (["--dtype", "float16"], "apr: --dtype: llama-cpp chooses its types by itself\n  hint: leave it out\n"),
    ],
)
def test_apr_oracle_refuses_what_llama_cpp_has_not(apr, more, message):
    assert apr("oracle", "llama-cpp", "tiny-qwen2", "--output", "theirs", *more) == (2, "", message)
    assert not Path("theirs").exists()
