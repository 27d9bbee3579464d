"""Tests of engine.mixes: the counts are those that llama.cpp prints for published files of these mixes."""

from collections import Counter

import gguf
import pytest

from engine.errors import EngineError
from engine.mixes import ALIASES, MIXES, format_of, mix_named
from engine.synth import shapes
from engine.synth_models import LIKES

PUBLISHED = {
    ("qwen2-7b", "q4_k_m"): {"F32": 141, "Q4_K": 169, "Q6_K": 29},
    ("llama-3.2-1b", "q4_k_m"): {"F32": 33, "Q4_K": 96, "Q6_K": 17},  # and rope_freqs.weight
    ("qwen2.5-0.5b", "q4_k_m"): {"F32": 121, "Q5_0": 132, "Q8_0": 13, "Q4_K": 12, "Q6_K": 12},
    ("smollm2-135m", "q4_1"): {"F32": 61, "Q4_1": 210, "Q8_0": 1},
}


def formats(like, mix, tell=lambda line: None, n_layers=0):
    c = LIKES[like].config
    return {
        name: format_of(MIXES[mix], name, shape, n_layers=n_layers or c.n_layers, tied=c.tied, tell=tell).name
        for name, shape in shapes(c)
    }


@pytest.mark.parametrize(("like", "mix"), PUBLISHED)
def test_a_mix_has_the_formats_of_a_published_file(like, mix):
    assert Counter(formats(like, mix).values()) == PUBLISHED[like, mix]


def test_more_bits_go_to_the_outer_eighths_and_to_every_third_layer_between():
    found = formats("qwen2-7b", "q4_k_m")
    for part in ("attn_v", "ffn_down"):
        wide = [layer for layer in range(28) if found[f"blk.{layer}.{part}.weight"] == "Q6_K"]
        assert wide == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert found["token_embd.weight"] == "Q4_K"
    assert found["output.weight"] == "Q6_K"
    assert {found["blk.0.attn_q.weight"], found["blk.0.attn_k.weight"], found["blk.0.ffn_up.weight"]} == {"Q4_K"}
    assert formats("qwen2-7b", "q5_k_m")["blk.5.attn_v.weight"] == "Q6_K"
    assert formats("qwen2-7b", "q5_k_m")["blk.6.attn_v.weight"] == "Q5_K"


def test_the_small_mixes_spend_a_bit_more_on_the_first_layers():
    found = formats("qwen2-7b", "q4_k_s")
    assert [layer for layer in range(28) if found[f"blk.{layer}.attn_v.weight"] == "Q5_K"] == [0, 1, 2, 3]
    assert [layer for layer in range(28) if found[f"blk.{layer}.ffn_down.weight"] == "Q5_K"] == [0, 1, 2]
    deeper = formats("qwen2-7b", "q4_k_s", n_layers=32)
    assert [layer for layer in range(28) if deeper[f"blk.{layer}.ffn_down.weight"] == "Q5_K"] == [0, 1, 2, 3]
    assert set(formats("qwen2-7b", "q5_k_s").values()) == {"F32", "Q5_K", "Q6_K"}
    assert formats("qwen2-7b", "q5_k_s")["blk.0.attn_v.weight"] == "Q5_K"


def test_models_of_80_layers_spend_a_bit_more_on_attn_v():
    found = formats("qwen2-7b", "q4_k_m", n_layers=80)
    assert found["blk.13.attn_v.weight"] == "Q5_K"
    assert found["blk.12.attn_v.weight"] == "Q6_K"
    assert found["blk.13.ffn_down.weight"] == "Q4_K"


@pytest.mark.parametrize("mix", ["q8_0", "f16", "bf16", "f32"])
def test_the_wide_mixes_have_one_format_for_all_matrices(mix):
    assert set(formats("qwen2-7b", mix).values()) == {"F32", mix.upper()}


def test_rows_that_do_not_fit_get_narrower_blocks_and_at_last_float16():
    lines = []
    found = {
        columns: format_of(
            MIXES["q4_k_m"], "blk.9.attn_q.weight", (8, columns), n_layers=28, tied=False, tell=lines.append
        ).name
        for columns in (512, 288, 40)
    }
    assert found == {512: "Q4_K", 288: "Q5_0", 40: "F16"}
    assert lines == [
        "blk.9.attn_q.weight: rows of 288 weights are not whole Q4_K blocks of 256; written as Q5_0",
        "blk.9.attn_q.weight: rows of 40 weights are not whole Q4_K blocks of 256; written as F16",
    ]
    for mix, narrower in (("q5_k_s", "Q5_1"), ("q6_k", "Q8_0"), ("q4_0", "Q4_0")):
        fmt = format_of(MIXES[mix], "blk.9.attn_q.weight", (8, 288), n_layers=28, tied=False)
        assert fmt.name == narrower


def test_norms_biases_and_vectors_stay_float32_whatever_their_shape():
    for name, shape in (("a.weight", (64,)), ("blk.0.attn_q.bias", (64,)), ("blk.0.attn_q_norm.weight", (2, 256))):
        assert format_of(MIXES["q8_0"], name, shape, n_layers=1, tied=False).name == "F32"


def test_names_and_numbers_of_the_mixes_are_those_of_gguf_py():
    for mix in MIXES.values():
        kind = "ALL_F32" if mix.name == "f32" else f"MOSTLY_{mix.name.upper()}"
        assert gguf.LlamaFileType[kind] == mix.file_type


def test_a_mix_is_found_in_any_case_and_by_the_names_that_llama_cpp_has_for_it():
    assert mix_named("Q4_K_M", "--quant") is mix_named("q4_k", "--quant") is MIXES["q4_k_m"]
    assert {name: mix_named(name, "--quant").name for name in ALIASES} == ALIASES
    with pytest.raises(EngineError, match=r"^--quant: unknown mix of formats 'iq2'"):
        mix_named("iq2", "--quant")
