"""Tests of engine.opening: one entry for both formats, and what a model is named by."""

import hashlib
import os
from threading import Event

import pytest

from engine import hashing
from engine.checkpoint_tokenizer import CheckpointTokenizer
from engine.errors import EngineError
from engine.opening import identity_beside, open_file, open_model, sha256_of
from engine.tokenizer import Tokenizer
from tests.engine.checkpoints import put, small_checkpoint
from tests.engine.model_files import END, keys, tensors, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2"))


@pytest.fixture
def folder(tmp_path):
    return small_checkpoint(tmp_path, "qwen2", shards=2)


def test_a_file_and_a_folder_are_opened_alike(file, folder):
    one, other = open_model(file), open_model(folder)
    assert isinstance(one.tokenizer, Tokenizer)
    assert isinstance(other.tokenizer, CheckpointTokenizer)
    assert (one.model.path, other.model.path) == (file, folder)
    for text in ("hi", f"a {END}é"):
        assert one.tokenizer.encode(text) == other.tokenizer.encode(text)
    assert one.tokenizer.eos_ids == other.tokenizer.eos_ids
    assert one.tokenizer.vocab_size == other.tokenizer.vocab_size


def test_a_shard_stands_for_its_folder(folder):
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert open_file(folder / name).path == folder


def test_weights_that_the_folder_does_not_use_stand_for_nothing(folder):
    other = folder / "consolidated.safetensors"
    other.write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    message = (
        r"consolidated.safetensors: is not among the weights of its folder, which are "
        r"model-00001-of-00002.safetensors, model-00002-of-00002.safetensors\n  hint: name the folder$"
    )
    with pytest.raises(EngineError, match=message):
        open_file(other)


def test_weights_alone_are_refused_with_what_is_missing_beside_them(tmp_path, folder):
    alone = tmp_path / "alone" / "model.safetensors"
    alone.parent.mkdir()
    (folder / "model-00001-of-00002.safetensors").rename(alone)
    with pytest.raises(EngineError, match=r"/alone: is a folder without config.json\n  hint: such a folder holds"):
        open_file(alone)


def test_other_files_of_a_folder_are_told_to_name_it(folder):
    for name in ("config.json", "model.safetensors.index.json"):
        with pytest.raises(EngineError, match=r"not a GGUF file.*\n  hint: this looks like JSON.* name the folder"):
            open_file(folder / name)
    renamed = folder / "weights.bin"
    (folder / "model-00001-of-00002.safetensors").rename(renamed)
    with pytest.raises(
        EngineError, match=r"not a GGUF file.*\n  hint: this looks like a safetensors file: give it the "
    ):
        open_file(renamed)


def test_a_file_is_named_by_its_sha256(file):
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_folder_is_named_by_all_that_is_read_and_by_nothing_else(folder, tmp_path):
    first = sha256_of(folder)
    (folder / "README.md").write_text("x")
    (folder / "training_args.bin").write_text("x")
    moved = folder.rename(tmp_path / "elsewhere")
    assert sha256_of(moved) == sha256_of(moved / "model-00001-of-00002.safetensors") == first
    seen = {first}
    files = sorted(path for path in moved.iterdir() if path.name not in ("README.md", "training_args.bin"))
    assert len(files) == 7
    for path in files:
        before = path.read_bytes()
        if path.suffix == ".safetensors":
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        else:
            path.write_bytes(before + b"\n")
        seen.add(sha256_of(moved))
        path.write_bytes(before)
        assert sha256_of(moved) == first
    (moved / "chat_template.jinja").write_text("x")
    seen.add(sha256_of(moved))
    (moved / "chat_template.jinja").unlink()
    (moved / "generation_config.json").unlink()
    seen.add(sha256_of(moved))
    assert len(seen) == 1 + len(files) + 2


def test_a_folder_that_cannot_run_is_not_opened(folder):
    put(folder, "tokenizer_config.json", {"eos_token": "</s>"})
    with pytest.raises(EngineError, match=r"eos_token is '</s>', which tokenizer\.json does not have"):
        open_model(folder)
    os.truncate(folder / "model-00002-of-00002.safetensors", 500)
    with pytest.raises(EngineError, match=r"/model-00002-of-00002\.safetensors: "):
        open_model(folder)


def test_beside_a_block_a_model_has_the_same_identity(file, folder):
    for place in (file, folder, folder / "model-00001-of-00002.safetensors"):
        with identity_beside(place) as found:
            assert found() == sha256_of(place)


def test_a_part_of_a_folder_that_is_replaced_meanwhile_is_an_error(folder, monkeypatch):
    done, real = Event(), hashing._sha256
    monkeypatch.setattr(hashing, "_sha256", lambda *arguments: done.wait(60) and real(*arguments))
    part = folder / "model-00002-of-00002.safetensors"
    with identity_beside(folder) as found:
        part.with_name("other").write_bytes(part.read_bytes())
        part.with_name("other").replace(part)
        done.set()
        with pytest.raises(EngineError, match="was changed or replaced while it was read"):
            found()
