"""Tests of engine.inspection."""

import json

import numpy as np
import pytest

from engine.errors import EngineError
from engine.inspection import describe, render
from tests.engine.model_files import keys, tensors, write


def facts_of(tmp_path, arch="qwen2", quantise="F32", **changes):
    return describe(write(tmp_path / "m.gguf", keys(arch, **changes), tensors(arch), quantise))


def test_the_facts_are_those_of_the_file(tmp_path):
    weights = tensors("qwen2")
    facts = facts_of(tmp_path)
    assert facts["schema"] == "apr-inspect/1"
    assert facts["file"] == str(tmp_path / "m.gguf")
    assert facts["bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert facts["gguf_version"] == 3
    assert (facts["config"]["architecture"], facts["config"]["hidden"], facts["config"]["tied"]) == ("qwen2", 64, True)
    assert facts["vocabulary"] == {"tokens": 258, "end_tokens": [257]}
    assert facts["parameters"] == sum(values.size for values in weights.values())
    assert facts["formats"] == {"F32": len(weights)}
    assert [(t["name"], tuple(t["shape"])) for t in facts["tensors"]] == [(n, v.shape) for n, v in weights.items()]


def test_every_tensor_lies_where_the_facts_say(tmp_path):
    facts = facts_of(tmp_path)
    content = (tmp_path / "m.gguf").read_bytes()
    for entry in facts["tensors"]:
        raw = content[entry["offset"] : entry["offset"] + entry["bytes"]]
        assert raw == tensors("qwen2")[entry["name"]].tobytes()


def test_formats_are_counted(tmp_path):
    weights = tensors("llama")
    matrices = sum(values.ndim == 2 for values in weights.values())
    facts = facts_of(tmp_path, "llama", "Q8_0")
    assert facts["formats"] == {"Q8_0": matrices, "F32": len(weights) - matrices}
    assert facts["parameters"] == sum(values.size for values in weights.values())


def test_long_metadata_are_shown_by_their_length(tmp_path):
    facts = facts_of(tmp_path, tokenizer__chat_template="x" * 300, general__tags=("a", "b"))
    assert facts["metadata"]["tokenizer.ggml.tokens"] == "[258 entries]"
    assert facts["metadata"]["tokenizer.chat_template"] == "x" * 200 + "... (300 characters)"
    assert facts["metadata"]["general.tags"] == ["a", "b"]
    assert facts["metadata"]["qwen2.block_count"] == 2


def test_the_facts_are_json_even_where_a_number_is_not(tmp_path):
    facts = facts_of(tmp_path, odd=float("nan"), far=float("-inf"), pair=(float("inf"), 1.0))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    metadata = facts["metadata"]
    assert (metadata["qwen2.odd"], metadata["qwen2.far"], metadata["qwen2.pair"]) == ("nan", "-inf", ["inf", 1.0])


def test_the_text_holds_every_fact_that_the_json_holds(tmp_path):
    facts = facts_of(tmp_path)
    text = render(facts)
    first, *lines = text.splitlines()
    assert first == f"{facts['file']}  GGUF v3, {facts['bytes']:,} bytes, {facts['parameters']:,} parameters"
    for key, value in facts["config"].items():
        assert f"  {key:<14} {value}" in lines
    for key, value in facts["metadata"].items():
        assert f"  {key} = {value}" in lines
    for entry in facts["tensors"]:
        (line,) = [line for line in lines if line.split()[:1] == [entry["name"]]]
        assert line.split()[1:] == [
            entry["format"],
            "x".join(map(str, entry["shape"])),
            f"{entry['bytes']:,}",
            "B",
            "at",
            str(entry["offset"]),
        ]
    assert "  vocabulary     258 tokens, end tokens [257]" in lines
    assert f"  formats        {facts['formats']['F32']} x F32" in lines


def test_a_file_that_could_not_be_run_is_not_described(tmp_path):
    weights = tensors("qwen2")
    weights["output_norm.weight"] = np.ones(65, np.float32)
    path = write(tmp_path / "m.gguf", keys("qwen2"), weights)
    with pytest.raises(EngineError, match=r"'output_norm.weight' has shape \(65,\), the configuration needs \(64,\)"):
        describe(path)
    path = write(tmp_path / "n.gguf", keys("qwen2", tokenizer__ggml__pre="unheard-of"), tensors("qwen2"))
    with pytest.raises(EngineError, match=r"tokenizer.ggml.pre is 'unheard-of', which is not supported"):
        describe(path)
