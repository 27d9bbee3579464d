"""Training tiny-qwen2: its vocabulary, its token streams and its weights, each the same again for the same seed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

from tools.tiny_corpus import END_OF_TEXT, IM_END, IM_START, Document

VOCABULARY = 2048
CONTEXT = 512
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut before merging: the expression that GGUF files name by `tokenizer.ggml.pre = qwen2`."""

PEAK_RATE, LEAST_RATE, WARM_UP = 2.5e-3, 5e-5, 150
TOKENS_PER_STEP = 2048
LAST_PART = 0.8  # from here on whole contexts (half as fast, yet every position must be met) and a falling rate
CHECKPOINT, CHECKPOINT_EVERY = "checkpoint.pt", 200

Tokens = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Streams:
    """Documents as tokens, one after the other, <|endoftext|> after each."""

    train: Tokens
    held_out: Tokens


def train_tokenizer(documents: list[Document]) -> Tokenizer:
    """A byte-level BPE of VOCABULARY tokens, the special ones last, from the documents that are not held out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    plain = (d.text for d in documents if not d.held_out and not d.chat)
    tokenizer.train_from_iterator(plain, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    return tokenizer


def token_streams(tokenizer: Tokenizer, documents: list[Document]) -> Streams:
    """Both sides of the split, uint16, in the documents' order."""
    ends = tokenizer.encode(END_OF_TEXT).ids
    sides: dict[bool, list[int]] = {False: [], True: []}
    for document, encoding in zip(documents, tokenizer.encode_batch([d.text for d in documents]), strict=True):
        sides[document.held_out] += [*encoding.ids, *ends]
    return Streams(np.array(sides[False], dtype=np.uint16), np.array(sides[True], dtype=np.uint16))


def config() -> Qwen2Config:
    """The shape: every matrix has a multiple of 256 columns, so K-quants fit it."""
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=VOCABULARY - 3,
        eos_token_id=VOCABULARY - 3,
        pad_token_id=VOCABULARY - 3,
    )


def rate(step: int, steps: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine cut off three quarters down, then a linear fall to 0."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps * 4 // 3 - WARM_UP)
    cosine = LEAST_RATE + (PEAK_RATE - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return cosine * min(1.0, (steps - step) / (steps * (1 - LAST_PART)))


def train_model(
    streams: Streams, steps: int, seed: int, checkpoint: Path, say: Callable[[str], None]
) -> Qwen2ForCausalLM:
    """Train for `steps` steps and return the model; goes on from `checkpoint` where that file exists.

    Every step draws its windows from a generator seeded by (seed, step): a training that was interrupted ends with the
    same weights as one that was not. Raises ValueError if the checkpoint is of another seed or number of steps.
    """
    plan = {"steps": steps, "seed": seed}
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = Qwen2ForCausalLM(config())
    optimizer = torch.optim.AdamW(_groups(model), betas=(0.9, 0.95))
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if any(state[key] != value for key, value in plan.items()):
            raise ValueError(f"{checkpoint} is of a training with {state['steps']} steps and seed {state['seed']}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    stream = torch.from_numpy(streams.train.astype(np.int64))
    started, total = time.monotonic(), 0.0
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        window = CONTEXT if step >= LAST_PART * steps else CONTEXT // 2
        batch = _windows(stream, window, seed, step)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += float(loss.detach())
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            unseen = held_out_loss(model, streams.held_out[: 16 * CONTEXT])
            done = (step - first) % CHECKPOINT_EVERY + 1
            elapsed = time.monotonic() - started
            say(f"step {step + 1}/{steps}  loss {total / done:.3f}  held out {unseen:.3f}  {elapsed:.0f} s")
            total = 0.0
            weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            _save(checkpoint, {**plan, **weights, "step": step + 1})
    return model


def finished(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint of a finished training: model, steps, seed. Raises ValueError for one that has steps to go."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    if state["step"] < state["steps"]:
        raise ValueError(f"{checkpoint} holds {state['step']} of {state['steps']} steps: run `train` again to go on")
    return state


def held_out_loss(model: Qwen2ForCausalLM, tokens: Tokens) -> float:
    """Mean negative log likelihood in nats over windows of CONTEXT tokens, the first of each window only given."""
    windows = torch.from_numpy(tokens[: len(tokens) // CONTEXT * CONTEXT].astype(np.int64)).view(-1, CONTEXT)
    model.eval()
    with torch.no_grad():
        losses = [float(model(input_ids=part, labels=part).loss) * len(part) for part in windows.split(8)]
    return sum(losses) / len(windows)


def _groups(model: Qwen2ForCausalLM) -> list[dict[str, Any]]:
    """Matrices decay; gains and biases do not."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


def _windows(stream: torch.Tensor, window: int, seed: int, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    starts = torch.randint(0, len(stream) - window, (TOKENS_PER_STEP // window,), generator=generator)
    return torch.stack([stream[start : start + window] for start in starts])


def _save(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: an interrupted training leaves the last whole checkpoint."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.rename(path)
