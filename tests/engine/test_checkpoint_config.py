"""Tests of engine.checkpoint_config: what the keys of config.json mean, and everything that is refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint import Checkpoint
from engine.checkpoint_config import read_config
from engine.errors import EngineError
from tests.engine.checkpoints import EPS, config
from tests.engine.model_files import FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB

ARCHITECTURES = ("llama", "qwen2")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def read(tmp_path, settings):
    folder = tmp_path / "m"
    empty = Checkpoint(path=folder, config=settings, shards={}, owners={}, tensors={}, files=())
    return read_config(empty)


def configured(tmp_path, arch="llama", **changes):
    return read(tmp_path, config(arch, **changes))[0]


def refused(tmp_path, message, arch="llama", **changes):
    with pytest.raises(EngineError) as caught:
        configured(tmp_path, arch, **changes)
    assert caught.value.args[0] == message
    assert caught.value.where.startswith(str(tmp_path / "m" / "config.json"))
    assert caught.value.hint or message.startswith(("impossible", "4 query"))
    return caught.value


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_configuration_is_that_of_the_file(tmp_path, arch):
    c = configured(tmp_path, arch)
    assert (c.architecture, c.name, c.n_layers, c.hidden, c.ffn) == (arch, "m", LAYERS, HIDDEN, FFN)
    assert (c.heads, c.kv_heads, c.head_dim, c.vocab, c.context) == (HEADS, KV_HEADS, HEAD_DIM, VOCAB, 32)
    assert (c.rope_base, c.rope_dim, c.rope_scale, c.rms_eps) == (10000.0, HEAD_DIM, 1.0, EPS)
    assert (c.qkv_bias, c.tied) == ((arch == "qwen2"),) * 2


def test_a_qwen2_has_biases_whatever_keys_of_a_llama_say(tmp_path):
    for value in (True, False):
        assert configured(tmp_path, "qwen2", attention_bias=value, mlp_bias=value).qkv_bias


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_both_architectures_pair_the_halves_of_a_head(tmp_path, arch):
    assert configured(tmp_path, arch).pairing == "halves"


def test_missing_and_null_keys_have_the_defaults_of_transformers(tmp_path):
    optional = (
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "hidden_act",
        "architectures",
    )
    for settings in (config("llama", **dict.fromkeys(optional)), config("llama") | dict.fromkeys(optional)):
        c, factors = read(tmp_path, settings)
        assert (c.kv_heads, c.rms_eps, c.rope_base, c.tied, c.rope_scale) == (HEADS, 1e-6, 10000.0, False, 1.0)
        assert factors is None


def test_a_head_may_have_a_length_of_its_own(tmp_path):
    c = configured(tmp_path, head_dim=32)
    assert (c.head_dim, c.rope_dim, c.q_width) == (32, 32, 128)


@pytest.mark.parametrize(
    ("changes", "base", "scale"),
    [
        ({"rope_theta": 1000000}, 1e6, 1.0),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, 1.0),
        ({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5}}, 5e5, 1.0),
        ({"rope_scaling": {}}, 10000.0, 1.0),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, 10000.0, 4.0),
        ({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.5}}, 10000.0, 2.5),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "attention_factor": None}}, 10000.0, 2.0),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 1.0}}, 10000.0, 2.0),
        (
            {"rope_scaling": {"type": "linear", "factor": 4}, "rope_parameters": {"type": "linear", "factor": 4}},
            1e4,
            4.0,
        ),
    ],
)
def test_rope_parameters_are_read_from_either_place(tmp_path, changes, base, scale):
    c = configured(tmp_path, **changes)
    assert (c.rope_base, c.rope_scale) == (base, scale)
    assert read(tmp_path, config("llama", **changes))[1] is None


def by_llama3(frequency, factor, low, high, original):
    """One frequency, as Llama 3.1's code has it: a case for each of the three bands."""
    wavelength = 2 * math.pi / frequency
    if wavelength < original / high:
        return frequency
    if wavelength > original / low:
        return frequency / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


@given(
    base=st.floats(2, 1e7),
    factor=st.floats(1, 64),
    low=st.floats(0.5, 2),
    more=st.floats(0.5, 8),
    original=st.integers(8, 10**6),
)
def test_llama3_divides_each_frequency_as_its_authors_do(tmp_path_factory, base, factor, low, more, original):
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": low + more}
    scaling["original_max_position_embeddings"] = original
    settings = config("llama", head_dim=64, rope_theta=base, rope_scaling=scaling)
    _, factors = read(tmp_path_factory.getbasetemp(), settings)
    frequencies = base ** (-2.0 * np.arange(32) / 64)
    want = [by_llama3(frequency, factor, low, low + more, original) for frequency in frequencies]
    assert factors.dtype == np.float32
    assert frequencies / factors == pytest.approx(np.array(want), rel=1e-6)


def test_llama3_has_all_three_bands_in_its_published_form(tmp_path):
    scaling = LLAMA3 | {"original_max_position_embeddings": 8192}
    _, factors = read(tmp_path, config("llama", head_dim=128, rope_theta=5e5, rope_scaling=scaling))
    assert ((factors == 1).sum(), (factors == 8).sum()) == (29, 29)  # waves below 2048 and above 8192 tokens, of 64
    assert np.all(np.diff(factors) >= 0)


def test_llama3_without_an_original_length_takes_the_context(tmp_path):
    scaling = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    _, factors = read(tmp_path, config("llama", rope_scaling=scaling))
    _, stated = read(tmp_path, config("llama", rope_scaling=LLAMA3 | {"original_max_position_embeddings": 32}))
    assert np.array_equal(factors, stated)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0},
        {"sliding_window": 16},
        {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0, "layer_types": None},
        {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 16},
        {
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 0,
            "layer_types": ["full_attention"] * 2,
        },
    ],
)
def test_a_window_that_no_layer_has_or_that_never_closes_is_no_window(tmp_path, changes):
    settings = config("qwen2") | changes
    settings.pop("layer_types") if settings.get("layer_types", 0) is None else None
    assert read(tmp_path, settings)[0].context == 32


def test_a_llama_may_name_a_window_that_it_does_not_have(tmp_path):
    for window in (None, 32, 4096):
        assert read(tmp_path, config("llama") | {"sliding_window": window})[0].context == 32


# ---------------------------------------------------------------- what is refused

SUPPORTED = "supported: llama (LlamaForCausalLM), qwen2 (Qwen2ForCausalLM)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "architecture 'mistral' is not supported"),
        ({"model_type": None}, "model_type is missing"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "architectures ['LlamaForSequenceClassification'] of llama",
        ),
        ({"architectures": ["Qwen2ForCausalLM"]}, "architectures ['Qwen2ForCausalLM'] of llama"),
    ],
)
def test_another_architecture_is_refused_with_the_supported_ones(tmp_path, changes, message):
    with pytest.raises(EngineError) as caught:
        configured(tmp_path, **changes)
    assert caught.value.args[0].startswith(message)
    assert caught.value.hint == SUPPORTED


COUNTS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    "vocab_size",
)


@pytest.mark.parametrize("key", COUNTS)
def test_each_dimension_must_be_there_and_be_a_positive_whole_number(tmp_path, key):
    refused(tmp_path, f"{key} is missing", **{key: None})
    for value in (0, -1, 2**31):
        refused(tmp_path, f"{key} is {value}, not a positive number", **{key: value})
    for value in ("64", 64.0, True, [64]):
        refused(tmp_path, f"{key} is {value!r}, not a whole number", **{key: value})


NAN = json.loads("NaN")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": NAN}, "impossible constants: RMS epsilon 9.999999747378752e-06, RoPE base nan"),
        ({"rope_theta": math.inf}, "impossible constants: RMS epsilon 9.999999747378752e-06, RoPE base inf"),
        ({"rope_theta": 1.0}, "impossible constants: RMS epsilon 9.999999747378752e-06, RoPE base 1.0"),
        ({"rope_theta": "10000"}, "rope_theta is '10000', not a number"),
        ({"rope_theta": 10**400}, f"rope_theta is {10**59}..., which no float can hold"),
        ({"rms_norm_eps": NAN}, "impossible constants: RMS epsilon nan, RoPE base 10000.0"),
        ({"rms_norm_eps": 0}, "impossible constants: RMS epsilon 0.0, RoPE base 10000.0"),
        ({"rms_norm_eps": True}, "rms_norm_eps is True, not a number"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3 key/value heads evenly"),
        ({"head_dim": 15}, "head_dim 15 is odd: its elements cannot be rotated in pairs"),
        ({"num_attention_heads": 1000}, "head_dim is 0, not a positive number"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"mlp_bias": True}, "mlp_bias is not supported"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"attention_bias": 1}, "attention_bias is 1, not true or false"),
        ({"rope_interleaved": True}, "rope_interleaved is not supported"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', not true or false"),
        (
            {"partial_rotary_factor": 0.5},
            "a rotation of a part of each head is not supported (partial_rotary_factor 0.5)",
        ),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            "its weights are quantised by 'gptq', which is not supported (quantization_config)",
        ),
        ({"sliding_window": 16}, "sliding-window attention is not supported (window 16, context 32)"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types names 'sliding_attention', which is not",
        ),
    ],
    ids=str,
)
def test_what_would_be_computed_wrongly_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(EngineError) as caught:
        configured(tmp_path, **changes)
    assert caught.value.args[0].startswith(message)
    assert caught.value.where.startswith(str(tmp_path / "m" / "config.json"))


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"sliding_window": 16, "max_window_layers": 0}, 16),
        ({"sliding_window": 16, "max_window_layers": 1}, 16),
        ({"max_position_embeddings": 5000, "max_window_layers": 1}, 4096),
        ({"sliding_window": 31, "num_hidden_layers": 29}, 31),
    ],
)
def test_a_window_that_closes_is_refused(tmp_path, changes, window):
    context = changes.get("max_position_embeddings", 32)
    message = f"sliding-window attention is not supported (window {window}, context {context})"
    refused(tmp_path, message, "qwen2", use_sliding_window=True, **changes)


ROPE = [
    ({"rope_type": "yarn", "factor": 4.0}, "RoPE of type 'yarn' is not supported (rope_scaling)"),
    ({"type": "dynamic", "factor": 2.0}, "RoPE of type 'dynamic' is not supported (rope_scaling)"),
    ({"rope_type": "longrope"}, "RoPE of type 'longrope' is not supported (rope_scaling)"),
    ({"rope_type": 3}, "rope_type is 3, not a text"),
    ({"rope_type": "linear", "type": "yarn"}, "rope_type and type of rope_scaling contradict each other"),
    ({"rope_type": "linear"}, "factor is missing"),
    ({"rope_type": "linear", "factor": 0}, "factor is 0.0, not a finite number above 0"),
    ({"rope_type": "linear", "factor": NAN}, "factor is nan, not a finite number above 0"),
    ({"rope_type": "linear", "factor": -2}, "factor is -2.0, not a finite number above 0"),
    (
        {"rope_type": "linear", "factor": 2, "beta_fast": 3},
        "rope_scaling of type linear holds 'beta_fast', which is not",
    ),
    ({"factor": 2.0}, "rope_scaling of type default holds 'factor', which is not supported"),
    ({"rope_theta": 5e5}, "rope_theta is 10000.0, but 500000.0 in rope_scaling"),
    (
        {"partial_rotary_factor": 0.25},
        "a rotation of a part of each head is not supported (partial_rotary_factor 0.25)",
    ),
    ({"full_attention": {"rope_type": "linear"}}, "rope_scaling of type default holds 'full_attention', which is not"),
    ({**LLAMA3, "factor": None}, "factor is missing"),
    ({**LLAMA3, "low_freq_factor": None}, "low_freq_factor is missing"),
    ({**LLAMA3, "high_freq_factor": "4"}, "high_freq_factor is '4', not a number"),
    ({**LLAMA3, "high_freq_factor": 1.0}, "low_freq_factor 1.0 is not below high_freq_factor 1.0"),
    ({**LLAMA3, "low_freq_factor": 0.0}, "low_freq_factor is 0.0, not a finite number above 0"),
    ({**LLAMA3, "original_max_position_embeddings": 0}, "original_max_position_embeddings is 0, not a positive number"),
    ({**LLAMA3, "attention_factor": 1.2}, "rope_scaling of type llama3 holds 'attention_factor', which is not"),
    ("linear", "rope_scaling is 'linear', not an object"),
]


@pytest.mark.parametrize(("scaling", "message"), ROPE, ids=[str(row[0]) for row in ROPE])
def test_rope_scaling_is_computed_or_refused_by_name(tmp_path, scaling, message):
    with pytest.raises(EngineError) as caught:
        configured(tmp_path, rope_scaling=scaling)
    assert caught.value.args[0].startswith(message)
    assert caught.value.where.startswith(str(tmp_path / "m" / "config.json"))


def test_two_places_that_contradict_each_other_are_refused(tmp_path):
    linear = {"rope_type": "linear", "factor": 2.0}
    message = "rope_parameters and rope_scaling contradict each other"
    refused(tmp_path, message, rope_scaling=linear, rope_parameters=linear | {"factor": 4.0})
