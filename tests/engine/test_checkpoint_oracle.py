"""Comparison with transformers on folders of the Hugging Face layout: logits, token ids, chats, end tokens.

The models are random and tiny, and transformers itself writes them: what an F32, F16 or BF16 weight means is exact, so
the two only differ by how they round. transformers computes its rotary angles in float32, whatever the rest is in.
"""

import json
from functools import cache

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from engine.checkpoint import read_checkpoint
from engine.checkpoint_tokenizer import CheckpointTokenizer
from engine.fast import FastPath
from engine.model import read_model
from engine.reference import ReferencePath
from tests.engine.checkpoints import config, put, weights, write
from tests.engine.vocabularies import BOS, END, THINK, trained, varied_texts

pytestmark = pytest.mark.oracle

IDS = [*range(3, 40), 0, 299]
VOCAB = 300
ROPES = {
    "plain": None,
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 500.0,
    },
}
REFERENCE, FAST = 5e-6, 5e-5
"""Largest difference of a logit, relative to the largest logit; measured: 3e-6 and 1e-5."""


@cache
def libraries():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `oracles`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra `oracles`)")
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra `oracles`)")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def saved(folder, arch, dtype, *, tied, shards, rope="plain"):
    """A random model, saved by transformers; its class."""
    torch, transformers = libraries()
    prefix = {"llama": "Llama", "qwen2": "Qwen2"}[arch]
    settings = getattr(transformers, f"{prefix}Config")(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        eos_token_id=7,
        **({"rope_parameters": dict(ROPES[rope])} if ROPES[rope] else {}),
    )
    torch.manual_seed(3)
    model = getattr(transformers, f"{prefix}ForCausalLM")(settings)
    with torch.no_grad():
        for name, values in model.named_parameters():  # its own start is so small that a wrong bias would not show
            spread = 0.2 if values.ndim == 2 else 0.3
            values.copy_(torch.randn_like(values) * spread + (1 if "norm" in name else 0))
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="30KB" if shards else "1GB")
    assert (folder / "model.safetensors").exists() != shards
    return type(model)


def wanted(folder, kind):
    """(tokens, vocab) float64 by transformers, in float64 on the saved weights."""
    torch, _ = libraries()
    model = kind.from_pretrained(folder, dtype=torch.float32).double().eval()
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].numpy()


def differ(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def ours(model, path):
    return np.array([path.forward([id_]) for id_ in IDS])


@pytest.mark.parametrize("shards", [False, True], ids=["one-file", "sharded"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_both_paths_have_the_logits_of_transformers_at_every_position(tmp_path, arch, dtype, tied, shards):
    kind = saved(tmp_path, arch, dtype, tied=tied, shards=shards)
    model, want = read_model(read_checkpoint(tmp_path)), wanted(tmp_path, kind)
    assert {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype] == model.layers[0].q.format.name
    assert differ(ours(model, ReferencePath(model)), want) <= REFERENCE
    assert differ(ours(model, FastPath(model, capacity=len(IDS), threads=2)), want) <= FAST


@pytest.mark.parametrize("rope", ["linear", "llama3"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_scaled_rotary_positions_are_those_of_transformers(tmp_path, arch, rope):
    kind = saved(tmp_path, arch, "float32", tied=True, shards=False, rope=rope)
    model, want = read_model(read_checkpoint(tmp_path)), wanted(tmp_path, kind)
    assert differ(ours(model, ReferencePath(model)), want) <= REFERENCE
    assert differ(ours(model, FastPath(model, capacity=len(IDS), threads=2)), want) <= FAST
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["rope_parameters"] = {"rope_theta": settings["rope_parameters"]["rope_theta"]}
    put(tmp_path, "config.json", settings)
    plain = read_model(read_checkpoint(tmp_path))
    assert differ(ours(plain, ReferencePath(plain)), want) > 1e-2


def test_the_settings_of_transformers_4_mean_the_same(tmp_path):
    """rope_theta and rope_scaling in the places of old, null where nothing is scaled."""
    kind = saved(tmp_path, "llama", "float32", tied=False, shards=False, rope="llama3")
    want = wanted(tmp_path, kind)
    settings = json.loads((tmp_path / "config.json").read_text())
    rope = settings.pop("rope_parameters")
    put(tmp_path, "config.json", settings | {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope})
    assert np.array_equal(wanted(tmp_path, kind), want)
    model = read_model(read_checkpoint(tmp_path))
    assert differ(ours(model, ReferencePath(model)), want) <= REFERENCE


# ---------------------------------------------------------------- tokenizers

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<think>{% endif %}"
)


CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pipeline_of(pre):
    """What the authors of such models publish: byte-level BPE, cut by CUT, special tokens behind the vocabulary.

    transformers takes the cut and the normaliser of a Qwen2 from its own code, not from the file.
    """
    found = trained(pre)
    tokens = [token for token in found["tokenizer.ggml.tokens"] if token not in (BOS, END, THINK)]
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    merges = [tuple(line.split(" ")) for line in found["tokenizer.ggml.merges"]]
    pipeline = Pipeline(BPE(vocabulary, merges, ignore_merges=pre == "llama3"))
    cut = Regex(CUT % {"qwen2": "", "llama3": "{1,3}"}[pre])
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(cut, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    pipeline.decoder = decoders.ByteLevel()
    pipeline.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (BOS, END)])
    pipeline.add_tokens([AddedToken(THINK, special=False, normalized=False)])
    if pre == "llama3":
        id_ = pipeline.token_to_id(BOS)
        pipeline.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, id_)])
    else:
        pipeline.normalizer = normalizers.NFC()
    return pipeline


@pytest.fixture(scope="module", params=["qwen2", "llama3"])
def both(request, tmp_path_factory):
    """A tokenizer read by us, and the same read by transformers."""
    _, transformers = libraries()
    arch = {"qwen2": "qwen2", "llama3": "llama"}[request.param]
    folder = write(tmp_path_factory.mktemp(arch), config(arch, vocab_size=2000), weights(arch))
    pipeline = pipeline_of(request.param)
    (folder / "tokenizer.json").write_text(pipeline.to_str(), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "chat_template": TEMPLATE}
    put(folder, "tokenizer_config.json", settings | {"bos_token": BOS, "pad_token": THINK, "add_bos_token": False})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.save_pretrained(folder / "again")
    return CheckpointTokenizer.from_checkpoint(read_checkpoint(folder)), theirs, folder


def test_the_ids_of_a_text_are_those_of_transformers(both):
    found, theirs, _ = both
    for text in varied_texts(400, seed=7):
        ids = theirs(text).input_ids
        assert found.encode(text) == ids, text
        assert found.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("strip", ["lstrip", "rstrip"])
def test_tokens_that_the_settings_describe_are_found_as_transformers_finds_them(tmp_path, special, strip):
    _, transformers = libraries()
    folder = write(tmp_path / "m", config("llama", vocab_size=2000), weights("llama"))
    pipeline = pipeline_of("llama3")
    (folder / "tokenizer.json").write_text(pipeline.to_str(), encoding="utf-8")
    described = {"content": THINK, "special": special, strip: True, "normalized": False}
    settings = {"added_tokens_decoder": {str(pipeline.token_to_id(THINK)): described}, "eos_token": END}
    put(folder, "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found = CheckpointTokenizer.from_checkpoint(read_checkpoint(folder))
    for text in (f"a {THINK} b", f" {THINK}{END} ", *(text for text in varied_texts(300, seed=9) if THINK in text)):
        ids = theirs(text).input_ids
        assert found.encode(text) == ids, text
        assert found.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_the_ids_of_a_chat_are_those_of_transformers(both):
    found, theirs, _ = both
    for text in ("hi", f" a{END}b ", "<think>"):
        messages = [{"role": "user", "content": text}]
        want = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert found.encode_chat(messages) == want


def test_what_transformers_writes_again_is_read_alike(both):
    """Its own layout of today: the template in a file, no list of added tokens in the settings."""
    found, theirs, folder = both
    for path in (folder / "again").iterdir():
        path.replace(folder / path.name)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert "chat_template" not in settings
    again = CheckpointTokenizer.from_checkpoint(read_checkpoint(folder))
    assert (again.bos_token, again.eos_token, again.chat_template) == (BOS, END, TEMPLATE)
    for text in varied_texts(50, seed=8):
        assert again.encode(text) == found.encode(text) == theirs(text).input_ids


def test_an_answer_ends_where_transformers_ends_it(tmp_path):
    _, transformers = libraries()
    for arch in ("llama", "qwen2"):
        saved(tmp_path / arch, arch, "float32", tied=True, shards=False)
        pipeline_of("qwen2").save(str(tmp_path / arch / "tokenizer.json"))
        settings = json.loads((tmp_path / arch / "config.json").read_text())
        put(tmp_path / arch, "config.json", settings | {"vocab_size": 2000})
        put(tmp_path / arch, "tokenizer_config.json", {"eos_token": END})
        want = transformers.GenerationConfig.from_pretrained(tmp_path / arch).eos_token_id
        assert CheckpointTokenizer.from_checkpoint(read_checkpoint(tmp_path / arch)).eos_ids == {want} == {7}
