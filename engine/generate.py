"""Generation: a prompt, a path, a sampler; tokens as they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.paths import ExecutionPath
from engine.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token, the logits (vocab,) it was chosen from, and why generation ends here, if it does."""

    token: int
    logits: NDArray[np.float32]
    stop: str | None  # "end" (an end token), "length" (max_tokens), "context" (the model's length)


def check_prompt(tokens: Sequence[int], context: int, *, where: str = "--prompt") -> None:
    """Refuse a prompt that is empty or longer than the model's context; `where` it comes from."""
    if not tokens:
        raise EngineError("the prompt has no tokens", where=where, hint="write at least one character")
    if len(tokens) > context:
        raise EngineError(
            f"the prompt has {len(tokens)} tokens, the model's context is {context}",
            where=where,
            hint="shorten it",
        )


def generate(
    path: ExecutionPath, prompt: Sequence[int], sampler: Sampler, *, max_tokens: int, end: frozenset[int]
) -> Iterator[Step]:
    """Run the prompt, then one token at a time until an end token, max_tokens, or the model's context is full."""
    logits = path.forward(prompt)
    for count in range(1, max_tokens + 1):
        token = sampler.choose(logits)
        stop = None
        if token in end:
            stop = "end"
        elif count == max_tokens:
            stop = "length"
        elif path.position >= path.model.config.context:
            stop = "context"
        yield Step(token, logits, stop)
        if stop:
            return
        logits = path.forward([token])
