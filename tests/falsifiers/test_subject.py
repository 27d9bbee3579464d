"""Tests of falsifiers.subject: the functions in this process and the installed command offer the same verbs."""

import math
import shutil

import numpy as np
import pytest

from engine import trace_folder
from engine.identity import sha256_file
from engine.registry import locate
from engine.stages import NAMES
from falsifiers.subject import ALL_STAGES, InProcess, Installed, apr, files, layout, shapes, subjects, tensor
from pv.trial import Falsified, ModelFile, Trial


def live():
    path = locate("tiny-qwen2")
    return Trial(seed=0, model=ModelFile(name="tiny-qwen2", path=path, sha256=sha256_file(path)))


@pytest.fixture(params=["in process", "installed"])
def subject(request):
    return subjects(live() if request.param == "installed" else Trial(seed=0))[0]


def test_an_algorithm_trial_has_a_random_model_of_each_architecture():
    found = subjects(Trial(seed=0))
    assert [type(s) for s in found] == [InProcess, InProcess]
    assert [s.model.config.architecture for s in found] == ["qwen2", "llama"]


def test_a_live_trial_has_its_model_and_the_installed_command():
    (found,) = subjects(live())
    assert type(found) is Installed
    assert found.model.name == "tiny-qwen2"


def test_the_verbs_of_a_subject(subject):
    """One trace of everything serves several questions: a live one costs a process."""
    config = subject.config
    assert all(type(value) is int for value in config.values())
    assert {"hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "n_layers"} <= config.keys()
    folder = subject.trace("all")
    manifest = trace_folder.read_manifest(folder)
    expected = layout(config, range(config["n_layers"]))
    assert set(files(folder)) == {*expected, "manifest.json"}
    sizes = shapes(config, len(manifest.tokens))
    for file, (stage, layer) in expected.items():
        values = tensor(folder, stage, layer)
        assert values.shape == sizes[stage]
        assert (folder / file).read_bytes()[12:] == values.tobytes()
    embedding = subject.weights("output.weight")  # the first random model and tiny-qwen2 are tied
    assert np.array_equal(tensor(folder, "embedding", 0), embedding[list(manifest.tokens)])
    assert subject.weights("blk.1.attn_norm.weight").shape == (config["hidden"],)

    code, report = subject.compare(folder, folder)
    assert code == 0
    assert report["schema"] == "apr-diff/1"
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    content = bytearray((other / "lm_head.bin").read_bytes())
    content[-1] ^= 0x80
    (other / "lm_head.bin").write_bytes(content)
    assert subject.compare(folder, other)[0] == 1


def test_options_of_a_trace_reach_the_engine(subject):
    folder = subject.trace("attn_out,final_norm", layer="1..2", path="reference", into="here")
    assert (folder.name, folder.parent) == ("here", subject.trial.folder)
    assert set(files(folder)) == {"layer-1/attn_out.bin", "final_norm.bin", "manifest.json"}
    assert trace_folder.read_manifest(folder).path == "reference"


def test_refusals_are_told_from_acceptance(subject):
    assert subject.refused("all") is None
    assert subject.refused("lm_head", "0..1") is None
    assert "unknown stage 'bogus'" in subject.refused("bogus")
    assert "its end is not past its start" in subject.refused("all", "2..2")


def test_a_trace_that_fails_falsifies(subject):
    with pytest.raises(Falsified, match=r"no tensor in the selected layers|apr trace exits with 2"):
        subject.trace("embedding", layer="1..2")
    assert subject.trial.falsified is not None


def test_a_command_that_fails_falsifies_with_its_last_line():
    trial = Trial(seed=0)
    with pytest.raises(Falsified, match=r"^apr inspect exits with 2:\s+hint: registered: "):
        apr(trial, "inspect", "no-such-model.gguf")
    assert str(trial.falsified).startswith("apr inspect exits with 2: ")


def test_the_layout_holds_the_embedding_with_layer_0_only():
    assert len(layout({}, range(4))) == 4 * 17 + 3
    later = layout({}, range(2, 4))
    assert "layer-2/embedding.bin" not in later
    assert len(later) == 2 * 17 + 2
    assert later["lm_head.bin"] == ("lm_head", None)
    assert later["layer-3/ffn_up.bin"] == ("ffn_up", 3)


def test_the_known_sizes_of_a_7b_qwen2_and_7_tokens_are_predicted():
    qwen2_7b = {"hidden": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4, "head_dim": 128, "vocab": 152064}
    predicted = shapes(qwen2_7b, 7)
    assert list(predicted) == ALL_STAGES == list(NAMES)
    assert len(layout(qwen2_7b, range(28))) == 1 + 17 * 28 + 2
    size = {stage: 12 + 4 * math.prod(shape) for stage, shape in predicted.items()}
    assert {size[stage] for stage in ("embedding", "attn_norm", "attn_out", "post_ffn_residual")} == {100_364}
    assert {size[f"ffn_{stage}"] for stage in ("gate", "up", "silu", "swigl")} == {530_444}
    assert {size[f"qkv_{stage}"] for stage in ("matmul", "bias")} == {129_036}
    assert size["lm_head"] == 608_268
    assert (predicted["k_post_rope"], predicted["attn_softmax"]) == ((7, 512), (7, 28, 7))
