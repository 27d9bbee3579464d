"""The page beside the model files: what they were made from, by which steps, and what they are worth."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from tools.tiny_check import PROMPTS, least_cosine, perplexity, texts_cut_alike, unigram_perplexity
from tools.tiny_corpus import HELD_OUT_OF, Document
from tools.tiny_train import CONTEXT, TOKENS_PER_STEP, VOCABULARY, Streams, config, token_streams

F16, Q4_K_M = "tiny-qwen2-f16.gguf", "tiny-qwen2-q4_k_m.gguf"
FILES = (F16, Q4_K_M)
MADE_WITH = ("torch", "transformers", "tokenizers", "numpy", "gguf", "llama_cpp_python")
COMPARED_TEXTS = 50

PAGE = """\
# tiny-qwen2

A Qwen2 of {parameters:,} parameters, small enough to travel with the package, so that every claim about the engine can
be tried on a real file without a download. Both files hold the same weights. The text it writes is not clever; its
distribution is peaked, as that of a large model is.

| | |
|---|---|
| shape | {layers} layers, hidden {hidden}, ffn {ffn}, {heads} heads of {head_size}, {kv_heads} for keys and values |
| also | QKV bias, tied embeddings, RoPE base 10000 |
| vocabulary | {vocabulary} tokens, byte-level BPE, pre-tokenizer `qwen2`, ChatML template |
| context | {context} tokens |

## Where it comes from

- Text: the docstrings, longer comments and `help()` topics of the standard library of {python}, and each
  docstring's first paragraph once more as the answer to "What does NAME do?". {documents:,} documents,
  {train_tokens:,} tokens to train on and {held_out_tokens:,} held out: one text in {held_out_of}, chosen by its digest.
- Licence of the text: PSF-2.0 (Python Software Foundation License Version 2). The weights are under the project's
  licence, Apache-2.0; the vocabulary and whatever the weights keep of the text's wording stay under PSF-2.0.
- Training: {steps:,} steps of {tokens_per_step:,} tokens, seed {seed}, AdamW, one thread, bfloat16 autocast.
- Made with {versions}.

The same interpreter and versions on the same kind of CPU give the same files again:

    python -m tools.make_tiny_qwen2 train --work /tmp/tiny --steps {steps} --seed {seed}
    python -m tools.make_tiny_qwen2 export --work /tmp/tiny
    python -m tools.make_tiny_qwen2 describe --work /tmp/tiny

## What it is worth

Perplexity under llama.cpp on the {judged_tokens:,} held-out tokens that are not questions and answers (an answer
repeats what stands just before it), in windows of {context}:

| | perplexity |
|---|---|
| unigram model of the training tokens | {unigram:.1f} |
| `{f16}` | {f16_perplexity:.2f} |
| `{q4_k_m}` | {q4_perplexity:.2f} |

Smallest cosine between llama.cpp's and Transformers' logits at any position of {prompts} prompts: {f16_cosine:.6f}
(F16), {q4_cosine:.6f} (Q4_K_M). Token ids of llama.cpp and of the training's tokenizer agree on {alike} of {compared}
held-out texts.

| file | bytes | sha256 |
|---|---|---|
{files}
"""


def provenance(
    folder: Path, texts: list[Document], tokenizer: Tokenizer, streams: Streams, steps: int, seed: int
) -> str:
    """The page for the two files in `folder`, measured now."""
    shape = config()
    unseen = [text for text in texts if text.held_out and not text.chat]
    judged = token_streams(tokenizer, unseen).held_out
    return PAGE.format(
        parameters=_parameters(),
        layers=shape.num_hidden_layers,
        hidden=shape.hidden_size,
        ffn=shape.intermediate_size,
        heads=shape.num_attention_heads,
        head_size=shape.hidden_size // shape.num_attention_heads,
        kv_heads=shape.num_key_value_heads,
        vocabulary=VOCABULARY,
        context=CONTEXT,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        documents=len(texts),
        train_tokens=len(streams.train),
        held_out_tokens=len(streams.held_out),
        held_out_of=HELD_OUT_OF,
        steps=steps,
        tokens_per_step=TOKENS_PER_STEP,
        seed=seed,
        versions=", ".join(f"{name} {version(name)}" for name in MADE_WITH),
        unigram=unigram_perplexity(streams.train, judged),
        f16=F16,
        q4_k_m=Q4_K_M,
        f16_perplexity=perplexity(folder / F16, judged),
        q4_perplexity=perplexity(folder / Q4_K_M, judged),
        prompts=len(PROMPTS),
        f16_cosine=least_cosine(folder / F16),
        q4_cosine=least_cosine(folder / Q4_K_M),
        alike=texts_cut_alike(folder / F16, tokenizer, unseen[:COMPARED_TEXTS]),
        compared=COMPARED_TEXTS,
        judged_tokens=len(judged),
        files="\n".join(_row(folder / name) for name in FILES),
    )


def _row(path: Path) -> str:
    content = path.read_bytes()
    return f"| `{path.name}` | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |"


def _parameters() -> int:
    """Weights of the shape, the tied embedding once."""
    with torch.device("meta"):
        return int(Qwen2ForCausalLM(config()).num_parameters())
