"""Tests of `apr quantize`: each flag, and every input that is refused."""

import json
import os
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.formats import FORMATS
from engine.quantise import compile_kernels
from engine.registry import locate

SOURCE = locate("tiny-qwen2-f16")
KNOWN = "known: q4_0, q4_1, q5_0, q5_1, q8_0, q4_k_s, q4_k_m, q5_k_s, q5_k_m, q6_k, f16, bf16, f32, q4_k, q5_k"


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    """No command has to say that it compiles first."""
    compile_kernels(FORMATS.values(), lambda line: None)


def test_in_and_out_name_the_files(apr):
    before = SOURCE.read_bytes()
    code, out, err = apr("quantize", "tiny-qwen2-f16", "m.gguf", "--type", "q4_k_m")
    assert (code, err) == (0, "")
    assert out == f"m.gguf: {Path('m.gguf').stat().st_size:,} bytes, q4_k_m; {SOURCE} has {len(before):,}\n"
    assert os.listdir() == ["m.gguf"]
    assert SOURCE.read_bytes() == before
    code, out, _ = apr("run", "m.gguf", "--prompt", "Return a list of the", "--max-tokens", 3, "--json")
    assert (code, len(json.loads(out)["tokens"])) == (0, 3)
    assert apr("quantize", SOURCE, "again.gguf", "--type", "q4_k_m")[0] == 0
    assert Path("again.gguf").read_bytes() == Path("m.gguf").read_bytes()


@pytest.mark.parametrize(
    ("mix", "formats"),
    [
        ("q4_0", {"Q4_0", "Q6_K"}), ("q4_1", {"Q4_1", "Q6_K"}), ("q5_0", {"Q5_0", "Q6_K"}),
        ("q5_1", {"Q5_1", "Q6_K"}), ("q8_0", {"Q8_0"}), ("q4_k_s", {"Q4_K", "Q5_K", "Q6_K"}),
        ("Q4_K", {"Q4_K", "Q6_K"}), ("q5_k_s", {"Q5_K", "Q6_K"}), ("q5_k", {"Q5_K", "Q6_K"}), ("q6_k", {"Q6_K"}),
        ("f16", {"F16"}), ("bf16", {"BF16"}), ("f32", set()),
    ],
)  # fmt: skip
def test_type_chooses_the_formats(apr, mix, formats):
    assert apr("quantize", "tiny-qwen2-f16", "m.gguf", "--type", mix)[0] == 0
    facts = json.loads(apr("inspect", "m.gguf", "--json")[1])
    assert set(facts["formats"]) == formats | {"F32"}


def test_threads_are_how_many_convert(apr, monkeypatch):
    asked = []
    monkeypatch.setattr("engine.quantise_file.ThreadPoolExecutor", lambda count: asked.append(count) or Pool())
    for options in ([], ["--threads", 1]):
        assert apr("quantize", "tiny-qwen2-f16", f"{len(asked)}.gguf", "--type", "q8_0", *options)[0] == 0
    assert asked == [len(os.sched_getaffinity(0)), 1]


class Pool:
    """Does at once what it is given."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.gguf", "m", "--type", "q8_0"], "no.gguf: no such file, and no registered model of that name\n"),
        (["text", "m", "--type", "q8_0"], "text: offset 0: not a GGUF file: it starts with b'mine'\n"),
        ([".", "m", "--type", "q8_0"], ".: is no GGUF file, and only those can be quantised\n"),
        (
            ["tiny-qwen2-f16", "m", "--type", "q4"],
            f"--type: unknown mix of formats 'q4'\n  hint: did you mean q4_k? {KNOWN}\n",
        ),
        (["tiny-qwen2-f16", "m", "--type", ""], f"--type: unknown mix of formats ''\n  hint: {KNOWN}\n"),
        (
            ["tiny-qwen2-f16", "text", "--type", "q8_0"],
            "text: exists already\n  hint: remove it first, or name another",
        ),
        (
            ["tiny-qwen2-f16", ".", "--type", "q8_0"],
            ".: is a folder\n  hint: name the file that is to be written in it\n",
        ),
        (
            ["tiny-qwen2-f16", "no/m", "--type", "q8_0"],
            "no/m: a file of 3,979,648 bytes cannot be written: No such file",
        ),
        (["tiny-qwen2-f16", "m", "--type", "q8_0", "--threads", "0"], "--threads: 0 threads asked for\n  hint: 1 to "),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_done_is_one_error_and_changes_nothing(apr, tmp_path, arguments, message):
    (tmp_path / "text").write_text("mine")
    code, out, err = apr("quantize", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {message}")
    assert os.listdir() == ["text"]
    assert Path("text").read_text() == "mine"


def test_a_model_is_never_written_over_itself(apr, tmp_path):
    (tmp_path / "m.gguf").write_bytes(SOURCE.read_bytes())
    code, _, err = apr("quantize", "m.gguf", "m.gguf", "--type", "q8_0")
    assert (code, err) == (2, "apr: m.gguf: exists already\n  hint: remove it first, or name another file\n")
    assert (tmp_path / "m.gguf").read_bytes() == SOURCE.read_bytes()
