"""Falsifier of FALSIFY-MODEL-PARITY-007: control tokens of a prompt are the ids that the model's file gives them.

Both execution paths read the same tokens, so no comparison of the two shows a tokenizer that is wrong.
"""

# ruff: noqa: F401  (planted faults are imported to be found by their names, as mutants)

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.gguf import read_gguf
from engine.tokenizer import Tokenizer
from engine.vocabulary import CONTROL, NORMAL
from falsifiers.faults_tokens import (
    beginning_is_added_whatever_the_file_says,
    control_tokens_are_one_off,
    control_tokens_are_split_into_letters,
)
from falsifiers.subject import apr
from pv.trial import Trial

BETWEEN = "x"
"""What stands between two control tokens: one letter, which no merge can change."""
MOST = 8


def special_tokens_are_those_of_the_file(trial: Trial) -> None:
    """A prompt of control tokens, a letter after each, is their ids in its order; a beginning stands in front of it if
    the file asks for one, and else not."""
    if trial.model is None:
        for begins in (False, True):
            metadata = random_metadata(trial.rng, begins)
            prompt, wanted = prompt_of(trial, metadata)
            found = Tokenizer.from_metadata(metadata, "a random vocabulary").encode(prompt)
            trial.equal(found, wanted, f"tokens of {prompt!r}, add_bos_token {begins}")
        return
    prompt, wanted = prompt_of(trial, read_gguf(trial.model.path).metadata)
    done = apr(trial, "run", trial.model.path, "--prompt", prompt, "--max-tokens", 1, "--json")
    trial.equal(json.loads(done.out)["prompt_tokens"], wanted, f"tokens of {prompt!r}")


def prompt_of(trial: Trial, metadata: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Up to MOST control tokens of a vocabulary in a random order, and the ids that they have to become."""
    tokens: Sequence[str] = metadata["tokenizer.ggml.tokens"]
    kinds: Iterable[int] = metadata["tokenizer.ggml.token_type"]
    begins = metadata.get("tokenizer.ggml.add_bos_token")
    trial.require(begins is not None, "the file does not say whether a beginning stands in front of a prompt")
    control = [id_ for id_, kind in enumerate(kinds) if kind == CONTROL]
    chosen = [int(id_) for id_ in trial.rng.permutation(control)[:MOST]]
    trial.observe("control_tokens", len(chosen))
    trial.require(len(chosen) > 1, "the vocabulary has less than two control tokens")
    letter = tokens.index(BETWEEN)
    front = [metadata["tokenizer.ggml.bos_token_id"]] if begins else []
    return "".join(tokens[id_] + BETWEEN for id_ in chosen), front + [one for id_ in chosen for one in (id_, letter)]


def random_metadata(rng: np.random.Generator, begins: bool) -> dict[str, Any]:
    """A vocabulary of GPT-2's 256 bytes and some control tokens, in a random order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # others are shifted past 255, in their order
    others = [byte for byte in range(256) if byte not in printable]
    entries = [(chr(byte), NORMAL) for byte in printable] + [(chr(256 + n), NORMAL) for n in range(len(others))]
    entries += [(f"<|{name}|>", CONTROL) for name in ("begin", "end", "user", "answer", "tool", "pad")]
    shuffled = [entries[int(i)] for i in rng.permutation(len(entries))]
    texts = [text for text, _ in shuffled]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [kind for _, kind in shuffled],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": texts.index("<|begin|>"),
        "tokenizer.ggml.eos_token_id": texts.index("<|end|>"),
        "tokenizer.ggml.add_bos_token": begins,
    }
