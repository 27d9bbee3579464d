"""Tests of engine.inspection."""

import hashlib
import json

import numpy as np
import pytest

from engine.errors import EngineError
from engine.identity import sha256_list
from engine.inspection import describe, render
from tests.engine.checkpoints import config, put, small_checkpoint, stored, weights
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
    assert facts["sha256"] == hashlib.sha256((tmp_path / "m.gguf").read_bytes()).hexdigest()
    assert facts["files"] == {"m.gguf": facts["sha256"]}
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
    for key, value in [("sha256", facts["sha256"]), *facts["config"].items()]:
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


# ---------------------------------------------------------------- folders of the Hugging Face layout


def test_the_facts_of_a_folder_are_those_of_its_files(tmp_path):
    folder = small_checkpoint(tmp_path, "llama", "BF16", shards=2)
    facts = describe(folder)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    shards = {name: raw for name, raw in content.items() if name.endswith(".safetensors")}
    assert facts["file"] == str(folder)
    assert facts["bytes"] == sum(map(len, shards.values()))
    assert facts["gguf_version"] is None
    assert facts["files"] == {name: hashlib.sha256(raw).hexdigest() for name, raw in content.items()}
    assert facts["sha256"] == sha256_list(facts["files"])
    assert (facts["config"]["architecture"], facts["config"]["name"], facts["config"]["tied"]) == (
        "llama",
        "llama",
        False,
    )
    assert facts["vocabulary"] == {"tokens": 258, "end_tokens": [257]}
    assert facts["parameters"] == sum(values.size for values in weights("llama").values())
    assert facts["metadata"] == json.loads(content["config.json"])
    for entry in facts["tensors"]:
        raw = shards[entry["file"]][entry["offset"] : entry["offset"] + entry["bytes"]]
        assert raw == stored(weights("llama")[entry["name"]], entry["format"])


def test_the_facts_of_a_folder_are_text_too(tmp_path):
    facts = describe(small_checkpoint(tmp_path, "qwen2", shards=2))
    first, *lines = render(facts).splitlines()
    assert first == f"{facts['file']}  safetensors, {facts['bytes']:,} bytes, {facts['parameters']:,} parameters"
    assert f"  {'sha256':<14} {facts['sha256']}" in lines
    for name, digest in facts["files"].items():
        assert f"  {digest}  {name}" in lines
    for entry in facts["tensors"]:
        (line,) = [line for line in lines if line.split()[:1] == [entry["name"]]]
        assert line.split()[-4:] == ["at", str(entry["offset"]), "in", entry["file"]]


def test_metadata_of_any_shape_are_shown_and_the_json_has_no_nan(tmp_path):
    more = {"list": [1, "a", [float("nan")]], "long": list(range(9)), "object": {"x": float("inf")}, "null": None}
    folder = small_checkpoint(tmp_path, "qwen2")
    put(folder, "config.json", config("qwen2") | more)
    metadata = describe(folder)["metadata"]
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    assert metadata["list"] == [1, "a", ["nan"]]
    assert (metadata["long"], metadata["object"], metadata["null"]) == ("[9 entries]", {"x": "inf"}, None)
