"""Tests of engine.hub_files: what of a repository is obtained, and in which order."""

import json

import pytest

from engine.errors import EngineError
from engine.hub_files import check_name, choose
from engine.pulled import parse
from tests.engine.checkpoints import config

FOLDER = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
OTHERS = ("README.md", ".gitattributes", "pytorch_model.bin", "onnx/model.onnx", "original/consolidated.safetensors")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def chosen(tmp_path, name, files, *, settings=None, index=None):
    """The files, and those that were asked for before."""
    asked = []
    (tmp_path / "config.json").write_text(json.dumps(config("llama") if settings is None else settings))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    def get(file):
        asked.append(file)
        return tmp_path / file

    sizes = {file: 1000 + number for number, file in enumerate(files)}
    return choose(parse(name), sizes, get), asked


def refused(tmp_path, name, files, **options):
    with pytest.raises(EngineError) as caught:
        chosen(tmp_path, name, files, **options)
    assert caught.value.hint
    return caught.value


def test_of_one_file_of_weights_all_that_is_read_is_taken_and_the_weights_last(tmp_path):
    files, asked = chosen(tmp_path, "o/n", [*OTHERS, "model.safetensors", *FOLDER])
    assert sorted(files) == sorted([*FOLDER, "model.safetensors"])
    assert files[-1] == "model.safetensors"
    assert asked == ["config.json"]


def test_three_files_are_enough(tmp_path):
    least = ["config.json", "tokenizer.json", "model.safetensors"]
    assert chosen(tmp_path, "o/n", [*OTHERS, *least])[0] == least


def test_of_shards_those_are_taken_that_the_index_names(tmp_path):
    index = {"a": SHARDS[1], "b": SHARDS[0], "c": SHARDS[1]}
    stray = "model-00003-of-00003.safetensors"
    files, asked = chosen(tmp_path, "o/n", [*SHARDS, stray, "model.safetensors.index.json", *FOLDER], index=index)
    assert sorted(files) == sorted([*FOLDER, "model.safetensors.index.json", *SHARDS])
    assert files[-2:] == list(SHARDS)
    assert asked == ["config.json", "model.safetensors.index.json"]


def test_one_file_of_weights_outranks_shards_as_it_does_for_transformers(tmp_path):
    files, _ = chosen(tmp_path, "o/n", [*SHARDS, "model.safetensors.index.json", "model.safetensors", *FOLDER])
    assert not {*SHARDS, "model.safetensors.index.json"} & set(files)


def test_safetensors_outrank_gguf_files_where_no_file_is_named(tmp_path):
    assert "x.gguf" not in chosen(tmp_path, "o/n", ["x.gguf", "model.safetensors", *FOLDER])[0]


def test_a_named_file_is_all(tmp_path):
    assert chosen(tmp_path, "o/n:a/x.gguf", ["a/x.gguf", "y.gguf", *FOLDER]) == (["a/x.gguf"], [])


def test_a_repository_of_gguf_files_lists_them_as_commands_the_smallest_first(tmp_path):
    split = [f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
    error = refused(tmp_path, "o/n@v1", ["z.gguf", "README.md", "a.gguf", *split, "config.json"])
    assert (error.where, error.args[0]) == ("o/n", "holds no safetensors, but GGUF files")
    assert error.hint.splitlines() == [
        "choose one of them:",
        "    apr pull o/n@v1:z.gguf  (1,000 bytes)",
        "    apr pull o/n@v1:a.gguf  (1,002 bytes)",
    ]


def test_a_long_list_is_cut(tmp_path):
    lines = refused(tmp_path, "o/n", [f"{n}.gguf" for n in range(50)]).hint.splitlines()
    assert (len(lines), lines[-1]) == (42, "    .. and 10 more")


def test_a_file_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    error = refused(tmp_path, "o/n:y.gguf", ["x.gguf"])
    assert error.args[0] == "has no file y.gguf"
    assert "apr pull o/n:x.gguf" in error.hint
    assert refused(tmp_path, "o/n:y.gguf", ["README.md"]).hint == "it has no GGUF file that is whole"


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ([], "has no config.json", "take the repository of a language model"),
        (["model.safetensors"], "has no config.json", "take the repository of a language model"),
        (["config.json", "pytorch_model.bin"], "has no model.safetensors", "its weights are Python pickles"),
        (["config.json", "model.safetensors"], "has no tokenizer.json", "take a repository whose tokenizer"),
    ],
)
def test_a_repository_that_is_no_model_for_us_is_refused_before_anything_is_obtained(tmp_path, files, message, hint):
    error = refused(tmp_path, "o/n", files)
    assert (error.where, error.args[0]) == ("o/n", message)
    assert error.hint.startswith(hint)


def test_an_architecture_that_is_not_supported_is_refused_before_the_weights(tmp_path):
    error = refused(tmp_path, "o/n", [*FOLDER, "model.safetensors"], settings=config("llama", model_type="mistral"))
    assert str(error).startswith("o/n: config.json: architecture 'mistral' is not supported\n  hint: supported: llama")


def test_an_index_that_names_what_is_not_there_or_lies_elsewhere_is_refused(tmp_path):
    files = [*FOLDER, "model.safetensors.index.json", SHARDS[0]]
    error = refused(tmp_path, "o/n", files, index={"a": SHARDS[0], "b": SHARDS[1]})
    assert error.args[0] == f"has no {SHARDS[1]}, which model.safetensors.index.json names"
    with pytest.raises(EngineError, match=r"names '../x.safetensors', which is not a .safetensors file beside it"):
        chosen(tmp_path, "o/n", files, index={"a": "../x.safetensors"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("o/n:model.safetensors", "model.safetensors is no GGUF file"),
        ("o/n:config.json", "config.json is no GGUF file"),
        ("o/n:x-00001-of-00003.gguf", "x-00001-of-00003.gguf is a part of a split model, which is not supported"),
    ],
)
def test_a_file_that_is_no_model_by_itself_is_refused(name, message):
    with pytest.raises(EngineError) as caught:
        check_name(parse(name))
    assert (caught.value.where, caught.value.args[0]) == (name, message)
    check_name(parse("o/n:x.gguf"))
    check_name(parse("o/n"))
