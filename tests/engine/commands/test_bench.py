"""Tests of `apr bench`: what is measured, each flag, and every input that is refused."""

import importlib.util
import json

import pytest

from engine import bench
from engine.fast import FastPath
from engine.registry import locate
from engine.variants import chosen

SMALL = ["bench", "tiny-qwen2", "--prompt", 8, "--tokens", 3, "--rounds", 2]
MEASURES = ["load_s", "prefill_tok_s", "decode_tok_s", "decode_gb_s", "read_gb_s", "peak_bytes"]


def test_every_measure_is_reported_with_its_spread(apr):
    code, out, _ = apr(*SMALL, "--threads", 1, "--variant", chosen(), "--json")
    report = json.loads(out)
    assert code == 0
    assert report["schema"] == "apr-bench/1"
    assert (report["model"], report["file_bytes"]) == ("tiny-qwen2", locate("tiny-qwen2").stat().st_size)
    assert (report["variant"], report["threads"], report["rounds"]) == (chosen(), 1, 2)
    assert (report["prompt_tokens"], report["decoded_tokens"]) == (8, 3)
    assert list(report["engines"]) == ["apr"]
    found = report["engines"]["apr"]
    assert list(found) == MEASURES
    assert all(0 < spread["low"] <= spread["median"] <= spread["high"] for spread in found.values())


def test_kv_cache_is_measured_and_named(apr, monkeypatch):
    kept = set()
    forward = FastPath.forward
    monkeypatch.setattr(FastPath, "forward", lambda self, *args: kept.add(self.keys.dtype.name) or forward(self, *args))
    for kind, options in (("float32", []), ("float16", ["--kv-cache", "float16"])):
        kept.clear()
        assert json.loads(apr(*SMALL, *options, "--json")[1])["kv_cache"] == kind
        assert f", {kind} cache, " in apr(*SMALL, *options)[1].splitlines()[0]
        assert kept == {kind}


def test_the_table_names_each_measure_and_what_decoding_reaches(apr):
    code, out, _ = apr(*SMALL)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("tiny-qwen2: 2.4 MB, variant ")
    assert lines[0].endswith("prompt 8, decoded 3, 2 rounds; median (lowest to highest)")
    assert [line.split(",")[0].strip() for line in lines[2:-1]] == [title for title, *_ in bench.ROWS.values()]
    assert "of reading alone; peak memory is +" in lines[-1]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--prompt", 0], "apr: --prompt: 0 measures nothing\n  hint: 1 or more\n"),
        (["--tokens", -1], "apr: --tokens: -1 measures nothing\n  hint: 1 or more\n"),
        (["--rounds", 0], "apr: --rounds: 0 measures nothing\n  hint: 1 or more\n"),
        (["--prompt", 512], "apr: --prompt: 512 + 3 tokens, the model's context is 512\n  hint: fewer tokens\n"),
        (["--variant", "sse9"], "apr: --variant: unknown variant 'sse9'\n"),
        (["--kv-cache", "half"], "apr: --kv-cache: unknown kind of cache 'half'\n  hint: one of: float32, float16\n"),
        (["--threads", 0], "apr: --threads: 0 threads asked for\n"),
    ],
)
def test_what_cannot_be_measured_is_refused(apr, flags, error):
    code, out, err = apr(*SMALL, *flags)
    assert (code, out) == (2, "")
    assert err.startswith(error)


def test_llama_cpp_is_asked_for_before_anything_is_measured(apr, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "measure", lambda *arguments: pytest.fail("measured"))
    assert apr(*SMALL, "--vs-llama-cpp") == (
        2,
        "",
        "apr: --vs-llama-cpp: llama.cpp is not installed\n  hint: pip install 'pv-contracts[oracles]'\n",
    )


@pytest.mark.oracle
def test_llama_cpp_stands_beside(apr):
    pytest.importorskip("llama_cpp")
    code, out, _ = apr(*SMALL, "--vs-llama-cpp", "--json")
    found = json.loads(out)["engines"]["llama.cpp"]
    assert code == 0
    assert list(found) == ["load_s", "prefill_tok_s", "decode_tok_s", "peak_bytes"]
    assert all(0 < spread["low"] <= spread["median"] <= spread["high"] for spread in found.values())
