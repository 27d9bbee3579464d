"""Writing tiny-qwen2 as GGUF: once in float16, once in the mix of K-quants that llama.cpp calls Q4_K_M."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, LlamaFileType, TokenType
from numpy.typing import NDArray

from tools.quantise_k import quantise_q4_k, quantise_q6_k
from tools.tiny_corpus import END_OF_TEXT, IM_END

Weights = dict[str, NDArray[np.float32]]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LICENCE = "Apache-2.0 AND PSF-2.0"
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Transformers' names of a Qwen2 and GGUF's; layers are `model.layers.N.` there and `blk.N.` here."""


def gguf_weights(state: Weights) -> Weights:
    """GGUF names, and every matrix rounded to float16: both files hold the same model, one exactly."""
    weights: Weights = {}
    for name, values in state.items():
        if name == "lm_head.weight":
            continue  # tied: readers take token_embd
        weights[_gguf_name(name)] = values.astype(np.float16).astype(np.float32) if values.ndim == 2 else values
    return weights


def write_gguf(
    path: Path, weights: Weights, config: dict[str, Any], tokenizer: dict[str, Any], *, k_quants: bool
) -> None:
    """Write a GGUF v3 file.

    weights    GGUF name -> float32, (rows, columns) or (n,)
    config     Transformers' Qwen2Config as a dict
    tokenizer  the content of tokenizer.json
    k_quants   Q4_K and Q6_K for the matrices instead of F16; vectors stay F32
    """
    writer = GGUFWriter(path, "qwen2")
    layers = config["num_hidden_layers"]
    writer.add_name("tiny-qwen2")
    writer.add_description(
        "A small Qwen2 trained on the texts of Python's standard library, for tests of inference engines"
    )
    writer.add_license(LICENCE)
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M if k_quants else LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(2)
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    _add_tokenizer(writer, tokenizer)
    for name, values in weights.items():
        kind = tensor_kind(name, values.ndim, layers, k_quants=k_quants)
        if kind is Kind.F16:
            writer.add_tensor(name, values.astype(np.float16))
        elif kind is Kind.F32:
            writer.add_tensor(name, values)
        else:
            packed = quantise_q4_k(values) if kind is Kind.Q4_K else quantise_q6_k(values)
            writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor_kind(name: str, ndim: int, layers: int, *, k_quants: bool) -> Kind:
    """The format of one tensor.

    The mix is that of llama.cpp's Q4_K_M: six bits for the output matrix (here the tied embedding), and for attn_v and
    ffn_down in the first and last eighth of the layers and in every third between.
    """
    if ndim == 1:
        return Kind.F32
    if not k_quants:
        return Kind.F16
    if name == "token_embd.weight":
        return Kind.Q6_K
    match = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
    if match is None:
        return Kind.Q4_K
    layer, eighth = int(match[1]), layers // 8
    more_bits = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return Kind.Q6_K if more_bits else Kind.Q4_K


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    return f"blk.{match[1]}.{NAMES[match[2]]}.{kind}" if match else f"{NAMES[stem]}.{kind}"


def _add_tokenizer(writer: GGUFWriter, tokenizer: dict[str, Any]) -> None:
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    special = {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    ids.update(special)
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(special[END_OF_TEXT])
    writer.add_eos_token_id(special[END_OF_TEXT])
    writer.add_eot_token_id(special[IM_END])
    writer.add_pad_token_id(special[END_OF_TEXT])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
