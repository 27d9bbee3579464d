"""The models that `apr synth` imitates: data alone.

Source: the config.json and tokenizer_config.json of Qwen2-7B-Instruct, Qwen2.5-0.5B-Instruct, Llama-3.2-1B-Instruct and
SmolLM2-135M-Instruct, as they are published on Hugging Face.
"""

from dataclasses import dataclass

from engine.config import Config
from engine.gguf_config import PAIRINGS
from engine.synth_vocabulary import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Like:
    """A model that can be imitated.

    token_ids    of named tokens, by the name in tokenizer.ggml.NAME_token_id
    add_bos      tokenizer.ggml.add_bos_token; None: the file does not say, as that of the real model
    wavelengths  rotary positions are scaled by Llama 3's rule: (factor, low and high frequency factor, first context)
    """

    config: Config
    plan: Plan
    token_ids: dict[str, int]
    add_bos: bool | None
    wavelengths: tuple[float, float, float, int] | None = None


_CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN2_5 = (
    *_CHAT,
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
_LLAMA3 = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>", *(f"<|reserved_special_token_{n}|>" for n in range(3, 248))),
)
_SMOLLM2 = (
    *_CHAT,
    *("<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>"),
    *("<issue_start>", "<issue_comment>", "<issue_closed>"),
    *("<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"),
)

LIKES: dict[str, Like] = {
    "qwen2-7b": Like(
        config=Config(
            architecture="qwen2",
            name="synthetic qwen2-7b",
            n_layers=28,
            hidden=3584,
            ffn=18944,
            heads=28,
            kv_heads=4,
            head_dim=128,
            vocab=152064,
            context=32768,
            rms_eps=1e-6,
            rope_base=1e6,
            rope_dim=128,
            rope_scale=1.0,
            pairing=PAIRINGS["qwen2"],
            qkv_bias=True,
            tied=False,
        ),
        plan=Plan(pre="qwen2", ordinary=151643, special=_CHAT, first=False, size=152064),
        token_ids={"bos": 151643, "eos": 151645, "padding": 151643},
        add_bos=False,
    ),
    "qwen2.5-0.5b": Like(
        config=Config(
            architecture="qwen2",
            name="synthetic qwen2.5-0.5b",
            n_layers=24,
            hidden=896,
            ffn=4864,
            heads=14,
            kv_heads=2,
            head_dim=64,
            vocab=151936,
            context=32768,
            rms_eps=1e-6,
            rope_base=1e6,
            rope_dim=64,
            rope_scale=1.0,
            pairing=PAIRINGS["qwen2"],
            qkv_bias=True,
            tied=True,
        ),
        plan=Plan(pre="qwen2", ordinary=151643, special=_QWEN2_5, first=False, size=151936),
        token_ids={"bos": 151643, "eos": 151645, "padding": 151643},
        add_bos=False,
    ),
    "llama-3.2-1b": Like(
        config=Config(
            architecture="llama",
            name="synthetic llama-3.2-1b",
            n_layers=16,
            hidden=2048,
            ffn=8192,
            heads=32,
            kv_heads=8,
            head_dim=64,
            vocab=128256,
            context=131072,
            rms_eps=1e-5,
            rope_base=5e5,
            rope_dim=64,
            rope_scale=1.0,
            pairing=PAIRINGS["llama"],
            qkv_bias=False,
            tied=True,
        ),
        plan=Plan(pre="llama-bpe", ordinary=128000, special=_LLAMA3, first=False, size=128256),
        token_ids={"bos": 128000, "eos": 128009},
        add_bos=None,
        wavelengths=(32.0, 1.0, 4.0, 8192),
    ),
    "smollm2-135m": Like(
        config=Config(
            architecture="llama",
            name="synthetic smollm2-135m",
            n_layers=30,
            hidden=576,
            ffn=1536,
            heads=9,
            kv_heads=3,
            head_dim=64,
            vocab=49152,
            context=8192,
            rms_eps=1e-5,
            rope_base=1e5,
            rope_dim=64,
            rope_scale=1.0,
            pairing=PAIRINGS["llama"],
            qkv_bias=False,
            tied=True,
        ),
        plan=Plan(pre="smollm", ordinary=49135, special=_SMOLLM2, first=True, size=49152),
        token_ids={"bos": 1, "eos": 2, "unknown": 0, "padding": 2},
        add_bos=False,
    ),
}
