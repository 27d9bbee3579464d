"""Tests of `apr oracle`: the folder that it writes, each flag, and every input that is refused.

But for one, they run on the reference path in the clothes of an oracle, so that they need no library.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from engine import aprt
from engine.cli import main
from engine.errors import EngineError
from engine.opening import sha256_of
from engine.oracles import MODULES, proof
from engine.registry import locate
from engine.stages import NAMES
from engine.trace_folder import read_manifest
from tests.engine.oracles import fake
from tests.engine.oracles.fake import Fake, installed, moved

TRACE = ["oracle", "transformers", "tiny-qwen2", "--output", "theirs"]
LINE = "apr: oracle transformers, float32, fake 1.0; 9 tokens 54 71 268 296 220 17 10 17 30\napr: it is a fake\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smaller one of the models that an oracle proves itself on."""
    *_, path = proof.known_good(tmp_path_factory.mktemp("models"))
    return path


@pytest.fixture(autouse=True)
def _one(request, monkeypatch, small):
    """The fake is the one oracle, proved on one model, unless a test asks for real ones."""
    if request.node.get_closest_marker("oracle"):
        yield
        return
    monkeypatch.setattr(proof, "known_good", lambda folder: [small])
    with installed(monkeypatch):
        yield
    assert fake.OPEN == []


def test_the_folder_is_that_of_a_trace(apr):
    """The fake is the reference path, so that no value differs."""
    code, out, err = apr(*TRACE)
    assert (code, out, err) == (0, "71 tensors in theirs\n", LINE)
    manifest = read_manifest(Path("theirs"))
    assert (manifest.path, manifest.variant, manifest.engine) == ("transformers", "float32", "fake 1.0")
    assert (manifest.model.name, manifest.model.architecture) == ("tiny-qwen2", "qwen2")
    assert manifest.model.sha256 == sha256_of(locate("tiny-qwen2"))
    assert (manifest.prompt, manifest.kv_cache) == ("What is 2+2?", None)
    assert manifest.tokens == (54, 71, 268, 296, 220, 17, 10, 17, 30)
    assert {entry.stage for entry in manifest.tensors} == set(NAMES)
    apr("trace", "tiny-qwen2", "--path", "reference", "--save-tensor", "all", "--output", "ours")
    code, out, _ = apr("diff", "--values", "ours", "theirs", "--json")
    assert (code, len(json.loads(out)["tensors"])) == (0, 71)


def test_model_and_prompt_are_what_is_run(apr):
    assert apr("oracle", "transformers", locate("tiny-qwen2-f16"), "--output", "a", "--prompt", "hi")[0] == 0
    manifest = read_manifest(Path("a"))
    assert (manifest.prompt, manifest.model.sha256) == ("hi", sha256_of(locate("tiny-qwen2-f16")))
    assert len(manifest.tokens) == 2


def test_dtype_is_handed_to_the_oracle_and_named(apr):
    code, _, err = apr(*TRACE, "--dtype", "bfloat16")
    assert code == 0
    assert err.startswith("apr: oracle transformers, bfloat16, fake 1.0; ")
    assert read_manifest(Path("theirs")).variant == "bfloat16"


def test_save_tensor_and_layer_select(apr):
    code, out, _ = apr(*TRACE, "--save-tensor", "attention,lm_head", "--layer", "1..3")
    assert (code, out) == (0, "3 tensors in theirs\n")
    files = sorted(str(path) for path in Path("theirs").rglob("*.bin"))
    assert files == ["theirs/layer-1/attention.bin", "theirs/layer-2/attention.bin", "theirs/lm_head.bin"]
    assert aprt.read_tensor(Path(files[0])).values.shape == (9 * 256,)


class Lacking(Fake):
    name = "llama-cpp"  # the one that may lack stages
    missing = ("attn_scores", "ffn_silu")


def test_what_an_oracle_cannot_give_is_listed_and_left_out(apr, monkeypatch):
    monkeypatch.setattr(fake, "KIND", Lacking)
    code, out, err = apr(*TRACE)
    line = LINE.replace("oracle transformers", "oracle llama-cpp")
    assert (code, out) == (0, "63 tensors in theirs\n")
    assert err == f"{line}apr: llama-cpp cannot give, and the folder lacks: attn_scores, ffn_silu\n"
    manifest = read_manifest(Path("theirs"))
    assert {entry.stage for entry in manifest.tensors} == set(NAMES) - {"attn_scores", "ffn_silu"}
    assert manifest.missing == ("attn_scores", "ffn_silu")
    assert apr(*TRACE, "--save-tensor", "attention")[2] == line


def test_nothing_but_what_it_cannot_give_is_refused(apr, monkeypatch):
    monkeypatch.setattr(fake, "KIND", Lacking)
    code, out, err = apr(*TRACE, "--save-tensor", "ffn_silu,attn_scores")
    assert (code, out, os.listdir()) == (2, "", [])
    assert err == ("apr: --save-tensor: llama-cpp cannot give attn_scores, ffn_silu\n  hint: choose others\n")


def test_tokens_that_the_oracle_reads_otherwise_are_told_and_ours_are_run(apr, monkeypatch):
    class Other(Fake):
        def tokens(self, prompt):
            return [1, *super().tokens(prompt)]

    monkeypatch.setattr(fake, "KIND", Other)
    code, _, err = apr(*TRACE, "--prompt", "hi")
    ours = read_manifest(Path("theirs")).tokens
    assert (code, len(ours)) == (0, 2)
    told = " ".join(map(str, (1, *ours)))
    assert err.endswith(f"apr: transformers itself reads the prompt as other tokens: {told}; ours were run\n")


def test_a_tokenizer_that_it_cannot_read_is_told(apr, monkeypatch):
    class Mute(Fake):
        def tokens(self, prompt):
            raise EngineError("transformers cannot read the tokenizer: KeyError: 'merges'")

    monkeypatch.setattr(fake, "KIND", Mute)
    code, _, err = apr(*TRACE)
    assert code == 0
    assert err.endswith("apr: tokens were not compared: transformers cannot read the tokenizer: KeyError: 'merges'\n")


# ---------------------------------------------------------------- refused


class Wrong(Fake):
    def hand_over(self, capture, stage, layer, array):
        capture(stage, layer, moved(array) if stage == "attention" else array)


def test_an_oracle_that_fails_its_proof_writes_nothing(apr, monkeypatch):
    monkeypatch.setattr(fake, "KIND", Wrong)
    code, out, err = apr(*TRACE)
    assert (code, out, os.listdir()) == (2, "", [])
    assert re.fullmatch(
        r"apr: the oracle transformers \(float32\) failed its proof on a known-good model: attention of layer 0 is not "
        r"what its inputs give: they differ by [\d.]+, where honest rounding errs by [\d.e-]+; most at \[\d, \d+\], "
        r"\S+ and \S+: \S+ times the floor there\n"
        r"  hint: either fake 1\.0 is a version that this engine does not know, or our reference path is wrong; "
        r"another oracle, where it is installed and gives this stage, tells which\n",
        err,
    )


def test_a_capture_that_changes_the_logits_of_this_model_writes_nothing(apr, monkeypatch):
    class Touching(Fake):
        def forward(self, tokens, capture=None):
            logits = super().forward(tokens, capture)
            if capture is not None and self.path == locate("tiny-qwen2"):  # none of those it is proved on
                logits[0] += 1
            return logits

    monkeypatch.setattr(fake, "KIND", Touching)
    code, out, err = apr(*TRACE)
    assert (code, out, os.listdir()) == (2, "", [])
    assert err == (
        "apr: the oracle transformers (float32) is not believed on this model: its logits are others while stages are "
        "captured\n  hint: take another oracle; fake 1.0 may be a version that this engine does not know\n"
    )


@pytest.mark.parametrize("chosen", ["all", "lm_head"])
def test_a_stage_that_its_inputs_do_not_give_on_this_model_writes_nothing(apr, monkeypatch, chosen):
    """It is honest on the models of the proof, and up to the tenth token; nor is it asked only for what is saved."""

    class Late(Fake):
        def hand_over(self, capture, stage, layer, array):
            if (stage, layer) == ("attention", 2) and self.path == locate("tiny-qwen2"):
                array[9:] *= np.float32(1.5)
            capture(stage, layer, array)

    monkeypatch.setattr(fake, "KIND", Late)
    assert apr(*TRACE)[0] == 0  # 9 tokens
    Path("theirs").rename("kept")
    code, out, err = apr(*TRACE, "--save-tensor", chosen, "--prompt", "What is 2+2? Tell me in three words, and why.")
    assert (code, out, os.listdir()) == (2, "", ["kept"])
    assert err.startswith(
        "apr: the oracle transformers (float32) is not believed on this model: attention of layer 2 is not what its "
        "inputs give: they differ by "
    )
    assert err.endswith(
        "\n  hint: take another oracle; fake 1.0 may be a version that this engine does not know, or our reference "
        "path, which it is held to, wrong on this model\n"
    )


def test_an_oracle_that_stops_half_way_leaves_nothing(apr, monkeypatch):
    class Stopping(Fake):
        def hand_over(self, capture, stage, layer, array):
            if (stage, layer) == ("ffn_up", 2) and self.path == locate("tiny-qwen2"):
                raise EngineError("out of memory")
            capture(stage, layer, array)

    monkeypatch.setattr(fake, "KIND", Stopping)
    assert apr(*TRACE) == (2, "", "apr: out of memory\n")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--output", ""], "apr: --output: the name of the folder is empty\n  hint: name one\n"),
        (["--output", "/proc/version"], "apr: --output /proc/version: is no folder\n  hint: name another one\n"),
        (
            ["--layer", "2..9"],
            "apr: --layer: the model has 4 layers: 2..9 ends past them\n  hint: 0..4 names them all\n",
        ),
        (["--save-tensor", "atention"], "apr: --save-tensor: unknown stage 'atention'\n"),
        (["--prompt", ""], "apr: --prompt: "),
    ],
)
def test_bad_input_is_one_error_and_writes_nothing(apr, arguments, error):
    code, out, err = apr(*TRACE, *arguments)
    assert (code, out, os.listdir()) == (2, "", [])
    assert err.startswith(error)


def test_an_oracle_that_does_not_exist_is_a_usage_error(apr, capsys):
    with pytest.raises(SystemExit, match="2"):
        apr("oracle", "vllm", "tiny-qwen2", "--output", "a")
    assert "argument ORACLE: invalid choice: 'vllm'" in capsys.readouterr().err


def test_a_dtype_for_an_oracle_without_one_is_refused(apr, monkeypatch):
    with monkeypatch.context() as patch:  # taken back before the fake gives way to the real ones
        patch.setitem(MODULES, "llama-cpp", "tests.engine.oracles.fake")
        code, out, err = apr("oracle", "llama-cpp", "tiny-qwen2", "--output", "a", "--dtype", "float16")
    assert (code, out, os.listdir()) == (2, "", [])
    assert err == "apr: --dtype: llama-cpp chooses its types by itself\n  hint: leave it out\n"


@pytest.mark.oracle
def test_a_missing_extra_is_told_with_what_to_install(apr, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = apr(*TRACE)
    assert (code, out, os.listdir()) == (2, "", [])
    assert err.startswith("apr: the oracle transformers cannot be loaded: import of torch halted")
    assert err.endswith("\n  hint: install what it needs: pip install 'pv-contracts[transformers]'\n")


@pytest.mark.oracle
def test_the_real_one_says_nothing_but_our_lines(capfd, monkeypatch, tmp_path):
    for name in ("torch", "transformers", "accelerate", "gguf"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `transformers`)")
    monkeypatch.chdir(tmp_path)
    proof._proved.cache_clear()
    assert main(TRACE) == 0
    out, err = capfd.readouterr()
    assert out == "71 tensors in theirs\n"
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "apr: oracle transformers",
        "apr: qkv_matmul is computed beside what runs: the library adds the bias within the product",
    ]
    assert main(["trace", "tiny-qwen2", "--path", "reference", "--save-tensor", "all", "--output", "ours"]) == 0
    capfd.readouterr()
    assert main(["diff", "--values", "ours", "theirs", "--json"]) == 1  # they round otherwise
    assert len(json.loads(capfd.readouterr().out)["tensors"]) == 71
    logits = [aprt.read_tensor(Path(folder, "lm_head.bin")).values for folder in ("ours", "theirs")]
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4 * np.abs(logits[0]).max()
