"""Tests of `apr synth`: each flag, and every input that is refused."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

APR = Path(sys.executable).parent / "apr"
SMALL = ["synth", "--like", "smollm2-135m", "--quant", "q4_0"]


def test_the_file_that_is_written_runs_and_is_inspected(apr):
    code, out, err = apr(*SMALL, "m.gguf")
    size = os.path.getsize("m.gguf")
    assert (code, out) == (0, f"m.gguf: {size:,} bytes, random weights in the shapes of smollm2-135m, q4_0\n")
    assert err == (
        "apr: 1 of 272 tensors cannot have the format of the mix, first token_embd.weight: rows of 576 weights are not "
        "whole Q6_K blocks of 256; written as Q8_0\n"
    )
    assert os.listdir() == ["m.gguf"]
    code, out, _ = apr("inspect", "m.gguf", "--json")
    facts = json.loads(out)
    assert (code, facts["bytes"], facts["config"]["name"]) == (0, size, "synthetic smollm2-135m")
    assert facts["formats"] == {"Q8_0": 1, "F32": 61, "Q4_0": 210}
    code, out, _ = apr("run", "m.gguf", "--max-tokens", 2, "--json")
    assert (code, len(json.loads(out)["tokens"])) == (0, 2)


def test_like_and_quant_choose_the_shapes_and_the_formats(apr):
    assert apr("synth", "--like", "smollm2-135m", "--quant", "Q8_0", "m.gguf")[0] == 0
    facts = json.loads(apr("inspect", "m.gguf", "--json")[1])
    assert (facts["config"]["hidden"], facts["formats"]) == (576, {"Q8_0": 211, "F32": 61})


def test_the_seed_governs_the_bytes(apr):
    for name, *seed in (("a",), ("b", "--seed", 0), ("c", "--seed", 1)):
        assert apr(*SMALL, name, *seed)[0] == 0
    a, b, c = (Path(name).read_bytes() for name in "abc")
    assert a == b
    assert len(a) == len(c)
    assert a != c


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--like", "qwen2-7", "--quant", "q8_0", "m"],
            "--like: unknown model 'qwen2-7'\n"
            "  hint: did you mean qwen2-7b? known: qwen2-7b, qwen2.5-0.5b, llama-3.2-1b, smollm2-135m\n",
        ),
        (
            ["--like", "qwen2-7b", "--quant", "q4km", "m"],
            "--quant: unknown mix of formats 'q4km'\n  hint: did you mean q4_k_m? known: q4_0, q4_1, q5_0, q5_1, q8_0, "
            "q4_k_s, q4_k_m, q5_k_s, q5_k_m, q6_k, f16, bf16, f32, q4_k, q5_k\n",
        ),
        ([*SMALL[1:], "--seed", "-1", "m"], "--seed: -1 is not a seed\n  hint: 0 or more\n"),
        ([*SMALL[1:], "."], ".: is a folder\n  hint: name the file that is to be written in it\n"),
        ([*SMALL[1:], "there"], "there: exists already\n  hint: remove it first, or name another file\n"),
        ([*SMALL[1:], "dangling"], "dangling: exists already\n  hint: remove it first, or name another file\n"),
        ([*SMALL[1:], "none/m"], "none/m: a file of 91,583,424 bytes cannot be written: No such file or directory\n"),
        ([*SMALL[1:], "there/m"], "there/m: a file of 91,583,424 bytes cannot be written: Not a directory\n"),
        ([*SMALL[1:], "m" * 300], f"{'m' * 300}: a file of 91,583,424 bytes cannot be written: File name too long\n"),
    ],
)
def test_what_cannot_be_written_is_one_error_and_changes_nothing(apr, tmp_path, arguments, message):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    code, out, err = apr("synth", *arguments)
    assert (code, out) == (2, "")
    assert f"apr: {message}" in err
    assert sorted(os.listdir()) == ["dangling", "there"]
    assert Path("there").read_text() == "mine"


def test_no_room_is_told_of_before_anything_is_written(tmp_path):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    done = subprocess.run(
        [APR, *SMALL, "m.gguf"], capture_output=True, text=True, cwd=tmp_path, preexec_fn=little_room, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "apr: m.gguf: a file of 91,583,424 bytes cannot be written: File too large\n  hint: choose" in done.stderr
    assert os.listdir(tmp_path) == []
