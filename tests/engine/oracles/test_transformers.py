"""Tests of engine.oracles.transformers: each stage against the reference path, on files and folders; what is refused.

In float32 the two differ by rounding alone: squared, and relative to the squares of the stage, 1e-11 at most.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.opening import open_model as opened
from engine.oracles import MissingLibraryError, library, open_oracle, proof
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stages import NAMES, WHOLE
from tests.engine.checkpoints import small_checkpoint
from tests.engine.model_files import keys, tensors, write

PROMPT = "The file is closed when the block ends"
NMSE = {"float32": 1e-10, "float16": 2.5e-5, "bfloat16": 2e-3}
"""Largest squared error of a stage, relative to its squares. Measured: 4e-13 of the packaged models and 1e-11 of
SmolLM2, which is deeper; 3e-6; 2e-4."""


@pytest.fixture(scope="module", autouse=True)
def _installed():
    for name in ("torch", "transformers", "accelerate", "gguf"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `transformers`)")


@cache
def hf():
    """The module, which needs no library to be read."""
    import engine.oracles.transformers as module

    return module


def captured(oracle, tokens):
    found = {}
    logits = oracle.forward(tokens, lambda stage, layer, array: found.setdefault((stage, layer), array))
    return logits, found


def reference(model, tokens):
    found = {}
    ReferencePath(model).forward(tokens, lambda stage, layer, array: found.update({(stage, layer): array.copy()}))
    return found


def nmse(got, want):
    assert got.shape == want.shape
    assert np.array_equal(got[~np.isfinite(want)], want[~np.isfinite(want)])
    got, want = (array[np.isfinite(want)].astype(np.float64) for array in (got, want))
    return np.sum((got - want) ** 2) / np.sum(want**2)


def is_of(array, dtype):
    """Whether all values are numbers of that type."""
    if dtype == "bfloat16":
        return not np.any(array.view(np.uint32) & 0xFFFF)
    return np.array_equal(array, array.astype(dtype).astype(np.float32))


def agree(path, dtype="float32", prompt=PROMPT):
    """All stages of all layers are there and agree with the reference path; gives tokens and stages."""
    model, tokens = opened(path).model, opened(path).tokenizer.encode(prompt)
    oracle = hf().open_model(path, dtype)
    logits, got = captured(oracle, tokens)
    want = reference(model, tokens)
    assert got.keys() == want.keys()
    assert {stage for stage, _ in got} == set(NAMES)
    assert len(got) == 1 + 17 * model.config.n_layers + len(WHOLE)
    assert np.array_equal(logits, got["lm_head", None])
    for key, array in want.items():
        assert nmse(got[key], array) <= NMSE[dtype], key
        assert is_of(got[key], dtype), key
    return oracle, tokens


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", NMSE)
@pytest.mark.parametrize("model", ["tiny-qwen2-f16", "tiny-qwen2"])
def test_all_stages_of_the_packaged_models_are_those_of_the_reference_path(model, dtype):
    oracle, tokens = agree(locate(model), dtype)
    assert (oracle.name, oracle.variant, oracle.missing) == ("transformers", dtype, ())
    assert oracle.notes == (hf().BESIDE,)
    assert oracle.tokens(PROMPT) == tokens


@pytest.mark.oracle
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_a_small_file_and_a_small_folder_too(tmp_path, arch):
    """Rows of a llama's queries and keys lie otherwise in a file than in a folder, and so do their stages."""
    file = write(tmp_path / "m.gguf", keys(arch), tensors(arch))
    folder = small_checkpoint(tmp_path, arch, "F32", shards=2)
    stages = []
    for path in (file, folder, folder / "model-00001-of-00002.safetensors"):
        oracle, tokens = agree(path)
        assert oracle.notes == ((hf().BESIDE,) if arch == "qwen2" else ())
        assert oracle.tokens(PROMPT) == tokens
        stages.append(captured(oracle, tokens)[1])
    for stage in ("q_post_rope", "k_post_rope"):
        same = np.allclose(stages[0][stage, 1], stages[1][stage, 1], rtol=1e-4, atol=1e-5)
        assert same == (arch == "qwen2")
    for key, array in stages[1].items():
        assert np.array_equal(array, stages[2][key])


@pytest.mark.oracle
def test_a_prompt_of_one_token(tmp_path):
    _, tokens = agree(write(tmp_path / "m.gguf", keys("llama"), tensors("llama")), prompt="x")
    assert len(tokens) == 1


@pytest.mark.oracle
@pytest.mark.needs_model
def test_all_stages_of_smollm2_are_those_of_the_reference_path():
    try:
        path = locate("smollm2-135m")
    except EngineError as error:
        pytest.skip(str(error))
    agree(path, prompt="What is 2+2?")


@pytest.mark.oracle
def test_the_model_is_as_before_when_the_capture_ends(tmp_path):
    """Also where it ends in an error."""
    oracle = hf().open_model(write(tmp_path / "m.gguf", keys("qwen2"), tensors("qwen2")))
    before = oracle.forward([1, 2, 3])

    def failing(stage, layer, array):
        if stage == "attention":
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        oracle.forward([1, 2, 3], failing)
    for _ in range(2):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in oracle._network.modules())
        assert oracle._network.config._attn_implementation == "eager"
        assert np.array_equal(captured(oracle, [1, 2, 3])[0], before)


# ---------------------------------------------------------------- the proof, of the real one


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", NMSE)
def test_it_proves_itself(dtype):
    proof._proved.cache_clear()
    proof.prove("transformers", dtype=dtype)


@pytest.fixture
def broken(monkeypatch):
    """Nothing is proved before, and nothing that was proved of a broken one counts later."""
    proof._proved.cache_clear()
    yield monkeypatch
    proof._proved.cache_clear()


def capture_module():
    import engine.oracles.transformers_capture as module

    return module


@pytest.mark.oracle
def test_a_capture_that_does_not_copy_is_refused(broken):
    import torch

    broken.setattr(capture_module(), "copied", lambda tensor: tensor.detach().to(torch.float32).numpy())
    with pytest.raises(
        EngineError, match=r"failed its proof on a known-good model: attn_scores of layer 0 is no float32"
    ):
        open_oracle("transformers", locate("tiny-qwen2"))


@pytest.mark.oracle
def test_a_capture_that_changes_what_is_computed_is_refused(broken):
    from contextlib import contextmanager

    whole = capture_module().captured

    @contextmanager
    def touching(network, config, capture):
        hook = network.model.layers[0].mlp.register_forward_hook(lambda module, given, output: output * (1 + 2.0**-20))
        with whole(network, config, capture):
            yield
        hook.remove()

    broken.setattr(capture_module(), "captured", touching)
    with pytest.raises(EngineError, match="model: its logits are others while stages are captured"):
        open_oracle("transformers", locate("tiny-qwen2"))


@pytest.mark.oracle
def test_queries_and_keys_in_the_library_s_own_layout_are_refused(broken):
    from dataclasses import replace

    whole = capture_module().captured
    broken.setattr(
        capture_module(),
        "captured",
        lambda network, config, capture: whole(network, replace(config, pairing="halves"), capture),
    )
    with pytest.raises(EngineError, match="model: qkv_matmul of layer 0 is not what its inputs give"):
        open_oracle("transformers", locate("tiny-qwen2"))


# ---------------------------------------------------------------- what is refused


@pytest.mark.oracle
def test_a_model_of_which_it_leaves_something_out_is_refused(tmp_path, capfd):
    changes = {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}
    path = write(tmp_path / "m.gguf", keys("llama", **changes), tensors("llama"))
    with pytest.raises(EngineError) as caught:
        hf().open_model(path)
    assert caught.value.where == str(path)
    told = "transformers reads another model from it: the rotary frequency 0 is 1.0 there and 0.25 here"
    assert caught.value.args == (told,)
    assert capfd.readouterr() == ("", "")


@pytest.mark.oracle
def test_a_model_of_another_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(hf().CLASSES, "llama", "MistralForCausalLM")
    with pytest.raises(EngineError, match=r"the class is LlamaForCausalLM there and MistralForCausalLM here"):
        hf().open_model(small_checkpoint(tmp_path, "llama"))


@pytest.mark.oracle
def test_factors_of_the_rotary_frequencies_in_a_file_are_what_it_leaves_out(tmp_path):
    factors = {"rope_freqs.weight": np.array([1, 1, 1, 1, 1, 1, 8, 8], dtype=np.float32)}
    path = write(tmp_path / "m.gguf", keys("llama"), tensors("llama") | factors)
    with pytest.raises(EngineError, match=r"the rotary frequency 6 is 0\.001.* there and 0\.000125.* here"):
        hf().open_model(path)
    factors["rope_freqs.weight"][:] = 1
    assert hf().open_model(write(path, keys("llama"), tensors("llama") | factors))


@pytest.mark.oracle
def test_what_it_says_itself_is_kept_for_the_error(tmp_path, monkeypatch, capfd):
    import transformers

    def failing(**_):
        sys.stderr.write("a progress bar")
        raise KeyError("model.embed_tokens")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", failing)
    path = write(tmp_path / "m.gguf", keys("llama"), tensors("llama"))
    with pytest.raises(
        EngineError, match=r"m\.gguf: transformers cannot read the model: KeyError: 'model.embed_tokens'"
    ):
        hf().open_model(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.oracle
def test_a_weight_that_it_does_not_find_is_no_weight(tmp_path, monkeypatch):
    """It would be random."""
    import transformers

    path = small_checkpoint(tmp_path, "llama")
    load = transformers.AutoModelForCausalLM.from_pretrained

    def losing(**options):
        network, info = load(**options)
        return network, info | {"missing_keys": {"model.norm.weight"}}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", losing)
    with pytest.raises(EngineError, match="the number of weights without their like is 1 there and 0 here"):
        hf().open_model(path)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(
        EngineError, match=r"^--dtype: unknown dtype 'float8'\n  hint: one of: float32, float16, bfloat16$"
    ):
        hf().open_model(Path("nowhere.gguf"), "float8")


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingLibraryError) as caught:
        hf().open_model(locate("tiny-qwen2"))
    assert caught.value.args[0].startswith("the oracle transformers cannot be loaded: import of torch halted")
    assert caught.value.hint == "install what it needs: pip install 'pv-contracts[transformers]'"
    assert library("transformers", "json").loads("1") == 1


def test_an_unknown_oracle_is_refused():
    with pytest.raises(EngineError, match=r"^unknown oracle 'vllm'\n  hint: one of: transformers"):
        open_oracle("vllm", locate("tiny-qwen2"))
