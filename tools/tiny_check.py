"""What tiny-qwen2 is worth: perplexity on text it never saw, and whether independent readers agree on its files."""

from pathlib import Path

import numpy as np
import torch
from llama_cpp import Llama
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from tools.tiny_corpus import Document
from tools.tiny_train import CONTEXT, VOCABULARY, Tokens

PROMPTS = (
    "What is 2+2?",
    "Return a list of the",
    "os.path.join\n\nJoin two or more",
    "Raise ValueError if the argument is not",
)


def unigram_perplexity(train: Tokens, held_out: Tokens) -> float:
    """Perplexity of the training text's token frequencies (one added to each count) on the tokens judged below."""
    counts = np.bincount(train, minlength=VOCABULARY) + 1.0
    targets = _windows(held_out)[:, 1:]
    return float(np.exp(-np.log(counts / counts.sum())[targets].mean()))


def perplexity(path: Path, held_out: Tokens) -> float:
    """Perplexity under llama.cpp: windows of CONTEXT tokens, the first of each only given."""
    model = _open(path)
    losses = []
    for window in _windows(held_out):
        logits = _logits(model, window.tolist())[:-1]
        logits -= logits.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(logits, window[1:, None], axis=1)[:, 0]
        losses.append(np.log(np.exp(logits).sum(axis=1)) - chosen)
    return float(np.exp(np.mean(losses)))


def least_cosine(path: Path) -> float:
    """The smallest cosine between llama.cpp's and Transformers' logits, over every position of PROMPTS."""
    peer = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name).eval()
    model = _open(path)
    cosines = []
    for prompt in PROMPTS:
        ids = model.tokenize(prompt.encode(), add_bos=False, special=True)
        with torch.no_grad():
            theirs = peer(torch.tensor([ids])).logits[0].double().numpy()
        ours = _logits(model, ids)
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines.append((ours * theirs).sum(axis=1) / norms)
    return float(np.concatenate(cosines).min())


def texts_cut_alike(path: Path, tokenizer: Tokenizer, texts: list[Document]) -> int:
    """For how many texts llama.cpp's token ids equal those of the tokenizer that the model was trained with."""
    model = _open(path)
    return sum(
        model.tokenize(text.text.encode(), add_bos=False, special=True) == tokenizer.encode(text.text).ids
        for text in texts
    )


def _open(path: Path) -> Llama:
    return Llama(
        str(path), n_ctx=CONTEXT, n_batch=CONTEXT, logits_all=True, n_threads=1, n_threads_batch=1, verbose=False
    )


def _logits(model: Llama, ids: list[int]) -> NDArray[np.float64]:
    """Logits of every position, (T, VOCABULARY)."""
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)], dtype=np.float64)


def _windows(tokens: Tokens) -> NDArray[np.int64]:
    return tokens[: len(tokens) // CONTEXT * CONTEXT].reshape(-1, CONTEXT).astype(np.int64)
