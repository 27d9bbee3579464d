"""Tests of engine.checkpoint: which files of a folder are read, and every folder that is refused."""

import json
import os

import numpy as np
import pytest

from engine import checkpoint
from engine.checkpoint import Checkpoint, name_of, read_checkpoint
from engine.errors import EngineError
from tests.engine.checkpoints import config, put, shard, small_checkpoint, weights, write

INDEX = "model.safetensors.index.json"


@pytest.fixture
def whole(tmp_path):
    return small_checkpoint(tmp_path, "qwen2")


@pytest.fixture
def sharded(tmp_path):
    return small_checkpoint(tmp_path, "qwen2", shards=3)


def refused(folder, message, where=""):
    with pytest.raises(EngineError) as caught:
        read_checkpoint(folder)
    assert caught.value.args[0] == message
    assert caught.value.where == str(folder / where)
    return caught.value


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_is_found_whatever_shard_holds_it(tmp_path, shards):
    folder = small_checkpoint(tmp_path, "llama", shards=shards)
    found = read_checkpoint(folder)
    wanted = weights("llama")
    assert set(found.tensors) == set(wanted)
    assert len(found.shards) == shards
    for name, values in wanted.items():
        assert found.tensors[name].shape == values.shape
        assert np.array_equal(found.dequantised(name), values)
        assert np.shares_memory(found.raw(name), found.shards[found.owners[name]].data)


def test_the_configuration_is_that_of_the_file(whole):
    assert read_checkpoint(whole).config == config("qwen2")


def test_all_that_is_read_is_named_and_nothing_else(whole):
    for name in ("README.md", "pytorch_model.bin", "tokenizer.model", "model-00001-of-00002.safetensors"):
        (whole / name).touch()
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(read_checkpoint(whole).files) == wanted
    for name in ("chat_template.jinja", "special_tokens_map.json"):
        (whole / name).touch()
        wanted.add(name)
        assert set(read_checkpoint(whole).files) == wanted
    (whole / "generation_config.json").unlink()
    assert set(read_checkpoint(whole).files) == wanted - {"generation_config.json"}


def test_the_index_and_its_shards_are_named(sharded):
    files = read_checkpoint(sharded).files
    assert sorted(name for name in files if name.startswith("model")) == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        INDEX,
    ]


def test_an_index_may_name_one_file(whole):
    put(whole, INDEX, {"weight_map": dict.fromkeys(weights("qwen2"), "model.safetensors")})
    assert list(read_checkpoint(whole).shards) == ["model.safetensors"]


def test_a_model_is_called_like_its_folder_or_the_repository_in_a_hub_cache(whole, monkeypatch):
    assert read_checkpoint(whole).name == "qwen2"
    monkeypatch.chdir(whole)
    assert read_checkpoint(type(whole)()).name == "qwen2"
    snapshot = whole.parent / "models--an-owner--its--name" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(whole)
    assert read_checkpoint(snapshot).name == "an-owner/its--name"


def test_only_a_snapshot_of_a_hub_cache_is_called_like_its_repository(tmp_path):
    assert name_of(tmp_path / "models--o--n" / "snapshots" / "c") == "o/n"
    assert name_of(tmp_path / "models--o--n" / "other" / "c") == "c"
    assert name_of(tmp_path / "datasets--o--n" / "snapshots" / "c") == "c"


def test_a_tensor_that_no_shard_has_is_named(sharded):
    for read in (Checkpoint.raw, Checkpoint.dequantised):
        with pytest.raises(EngineError, match=r"/qwen2: tensor 'x' is missing\n"):
            read(read_checkpoint(sharded), "x")


def test_links_are_followed(whole):
    blob = whole.parent / "blob"
    (whole / "model.safetensors").rename(blob)
    (whole / "model.safetensors").symlink_to(blob)
    assert set(read_checkpoint(whole).tensors) == set(weights("qwen2"))


# ---------------------------------------------------------------- folders that lack something


def test_an_empty_folder_is_refused(tmp_path):
    error = refused(tmp_path, "is a folder without config.json")
    assert error.hint.startswith("such a folder holds config.json, model.safetensors ")


def test_a_folder_of_gguf_files_is_told_to_name_one(tmp_path):
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).touch()
    assert refused(tmp_path, "is a folder without config.json").hint == "name the .gguf file in it: a.gguf, b.gguf"


def test_of_many_gguf_files_the_first_are_named(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.gguf").touch()
    assert refused(tmp_path, "is a folder without config.json").hint.endswith(
        ": " + ", ".join(f"{n}.gguf" for n in range(8))
    )
    (tmp_path / "8.gguf").touch()
    assert refused(tmp_path, "is a folder without config.json").hint.endswith(", 7.gguf, ..")


def test_a_folder_with_only_a_configuration_is_refused(tmp_path):
    put(tmp_path, "config.json", config("llama"))
    refused(tmp_path, "is a folder without model.safetensors")


def test_a_folder_of_pickles_is_refused_with_the_reason(tmp_path):
    put(tmp_path, "config.json", config("llama"))
    (tmp_path / "pytorch_model-00001-of-00002.bin").touch()
    assert "pickles" in refused(tmp_path, "is a folder without model.safetensors").hint


def test_a_folder_that_may_not_be_entered_is_an_error(whole, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, "lstat", refuse)
        refused(whole, "cannot be read: Permission denied", "config.json")


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, "iterdir", refuse)
        assert refused(tmp_path, "is a folder without config.json").hint == "it cannot be listed: Permission denied"


def test_a_shard_that_is_cut_short_is_refused_by_its_own_name(sharded):
    name = "model-00002-of-00003.safetensors"
    os.truncate(sharded / name, (sharded / name).stat().st_size - 10)
    with pytest.raises(EngineError, match=r": 10 bytes are missing\n") as caught:
        read_checkpoint(sharded)
    assert caught.value.where.startswith(f"{sharded / name}: tensor ")


def test_links_that_lead_nowhere_are_errors_and_not_taken_for_absent(whole):
    (whole / "model.safetensors").unlink()
    (whole / "model.safetensors").symlink_to("model.safetensors")
    refused(whole, "cannot be read: Too many levels of symbolic links", "model.safetensors")
    (whole / "config.json").unlink()
    (whole / "config.json").symlink_to("nowhere")
    refused(whole, "no such file", "config.json")


# ---------------------------------------------------------------- the index


def test_a_shard_that_is_missing_is_named(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    refused(sharded, "names model-00002-of-00003.safetensors, which is missing", INDEX)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../model.safetensors",
            "/etc/passwd",
            "a/b.safetensors",
            "m.bin",
            "",
            "\0.safetensors",
            "\ud800.safetensors",
        ),
        *("m.safetensors/../../x.safetensors", "m.safetensors\n"),
    ],
)
def test_a_shard_elsewhere_is_refused(sharded, name):
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = name
    put(sharded, INDEX, index)
    refused(sharded, f"names {name!r}, which is not a .safetensors file beside it", INDEX)


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}, {"weight_map": 0}],
)
def test_an_index_without_files_is_refused(sharded, index):
    put(sharded, INDEX, index)
    refused(sharded, "its weight_map does not name a file for each tensor", INDEX)


def test_an_index_that_names_a_tensor_elsewhere_is_refused(sharded):
    index = json.loads((sharded / INDEX).read_text())
    first, second, _ = sorted(set(index["weight_map"].values()))
    moved = next(name for name, place in index["weight_map"].items() if place == first)
    put(sharded, INDEX, {"weight_map": index["weight_map"] | {moved: second}})
    refused(sharded, f"tensor {moved!r} lies in {first}, but the index names {second}", INDEX)
    put(sharded, INDEX, {"weight_map": {k: v for k, v in index["weight_map"].items() if k != moved}})
    refused(sharded, f"tensor {moved!r} lies in {first}, but the index names none for it", INDEX)
    put(sharded, INDEX, {"weight_map": index["weight_map"] | {"more": second}})
    refused(sharded, f"tensor 'more' lies in no shard, but the index names {second}", INDEX)


def test_a_tensor_in_two_shards_is_refused(sharded):
    names = sorted(path.name for path in sharded.glob("model-*.safetensors"))
    values = weights("qwen2")
    first = next(iter(values))
    (sharded / names[1]).write_bytes(shard({first: values[first]}, "F32"))
    refused(sharded, f"tensor {first!r} lies in {names[0]} too", names[1])


def test_weights_beside_an_index_of_others_are_refused(sharded):
    (sharded / "model.safetensors").write_bytes(shard(weights("qwen2"), "F32"))
    message = "lies beside model.safetensors, which it does not name: it is not clear which of them is the model"
    refused(sharded, message, INDEX)


def test_the_helper_writes_what_it_says(tmp_path):
    folder = write(tmp_path / "m", config("llama"), weights("llama"), "BF16", shards=2)
    formats = {info.format.name for info in read_checkpoint(folder).tensors.values() if len(info.shape) == 2}
    assert formats == {"BF16"}
