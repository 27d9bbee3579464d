"""What rounding costs: logits of the fast path and of llama.cpp beside exact arithmetic, over greedy texts.

    python -m benchmarks.quality [MODEL ..]

MODEL is a registered name or a GGUF file with a chat template or without (default: smollm2-135m and tiny-qwen2). Needs
the extra `oracles`. The fast path writes up to 64 tokens for each of 20 questions; all three then give logits for each
position of that text. Exact arithmetic is the reference path: float64 over the file's weights.

NMSE is pooled: the sum of squared errors of all logits of all positions over the sum of the reference's squares. Where
the likeliest token of two engines differs, the difference is a near-tie if exact arithmetic has both tokens within
four standard deviations of its best, measured on the gap between its two best tokens over all positions.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
TOKENS = 64
CONTEXT = 256
QUESTIONS = (
    "What is 2+2?",
    "Write a list of five fruits.",
    "What is the capital of France?",
    "Tell me a short story about a fox.",
    "Write a Python function that returns the Fibonacci numbers.",
    "At what temperature does water boil?",
    "What are Newton's three laws of motion?",
    "How do I bake bread?",
    "Who was the first man on the moon?",
    "What is a prime number?",
    "How far away is the sun?",
    "Recommend a book.",
    "How do I import numpy?",
    "What is the difference between a list and a tuple in Python?",
    "Write a polite letter of complaint.",
    "What should I do if it rains tomorrow?",
    "How does the heart pump blood?",
    "Who wrote Hamlet?",
    "Write an SQL query that counts the rows of a table.",
    "Translate 'good morning' into French.",
)


@dataclass(frozen=True, slots=True)
class Text:
    """Logits (positions, vocab) of one text, a row for each token that the fast path wrote."""

    fast: F64
    llama: F64
    exact: F64


@dataclass(frozen=True, slots=True)
class Quality:
    """What is found over all texts.

    fast_nmse, llama_nmse   pooled, each beside exact arithmetic
    positions, texts        how many there were
    differing, exact_differing  positions at which llama.cpp's likeliest token is not that of the fast path, of exact
                            arithmetic
    differing_texts, exact_differing_texts  texts with at least one such position
    deviation               standard deviation of the gap between exact arithmetic's two best tokens, the fast path's
                            minus llama.cpp's, in logits
    margins                 of each position that differs from the fast path's: how far exact arithmetic has the worse
                            of the two tokens below its best, in logits
    """

    fast_nmse: float
    llama_nmse: float
    positions: int
    texts: int
    differing: int
    exact_differing: int
    differing_texts: int
    exact_differing_texts: int
    deviation: float
    margins: tuple[float, ...]

    @property
    def beyond_a_tie(self) -> tuple[float, ...]:
        """The margins of the differences that are no near-ties."""
        return tuple(margin for margin in self.margins if margin > 4 * self.deviation)


def quality(texts: Sequence[Text]) -> Quality:
    """The figures of these texts; ValueError if there is nothing to compare."""
    if not texts or not all(len(text.fast) for text in texts):
        raise ValueError("no position to compare")
    scale = sum(float((text.exact**2).sum()) for text in texts)
    errors = [sum(float(((part - text.exact) ** 2).sum()) for part, text in zip(parts, texts, strict=True))
              for parts in ([text.fast for text in texts], [text.llama for text in texts])]  # fmt: skip
    gaps, margins, differs, exact_differs = [], [], [], []
    for text in texts:
        rows = np.arange(len(text.exact))
        best, second = np.argsort(-text.exact, axis=1)[:, :2].T
        apart = text.fast - text.llama
        gaps.append(apart[rows, best] - apart[rows, second])
        ours, theirs = text.fast.argmax(axis=1), text.llama.argmax(axis=1)
        differs.append(ours != theirs)
        exact_differs.append(text.exact.argmax(axis=1) != theirs)
        worse = np.minimum(text.exact[rows, ours], text.exact[rows, theirs])
        margins.append((text.exact.max(axis=1) - worse)[ours != theirs])
    return Quality(
        fast_nmse=errors[0] / scale,
        llama_nmse=errors[1] / scale,
        positions=sum(len(text.exact) for text in texts),
        texts=len(texts),
        differing=int(sum(row.sum() for row in differs)),
        exact_differing=int(sum(row.sum() for row in exact_differs)),
        differing_texts=sum(bool(row.any()) for row in differs),
        exact_differing_texts=sum(bool(row.any()) for row in exact_differs),
        deviation=float(np.concatenate(gaps).std()),
        margins=tuple(float(margin) for margin in np.concatenate(margins)),
    )


def measure(file: Path, questions: Sequence[str] = QUESTIONS, tokens: int = TOKENS) -> list[Text]:
    """Logits of the fast path, of llama.cpp and of exact arithmetic, over what the fast path writes for each question.

    The file's chat template is put around a question if it has one.
    """
    from llama_cpp import Llama

    from engine.opening import open_model
    from engine.paths import open_path

    opened = open_model(file)
    model, tokenizer = opened.model, opened.tokenizer
    llama = Llama(str(file), logits_all=True, n_ctx=CONTEXT, n_threads=2, n_threads_batch=2, verbose=False)
    output = model.output.dequantised().astype(np.float64)
    texts = []
    for question in questions:
        prompt = encoded(tokenizer, question)
        fast = open_path(model, "fast", capacity=CONTEXT)
        logits = [fast.forward(prompt)]
        written: list[int] = []
        while len(written) < tokens:
            written.append(int(logits[-1].argmax()))
            if written[-1] in tokenizer.eos_ids or len(written) == tokens:
                break
            logits.append(fast.forward(written[-1:]))
        whole, first = [*prompt, *written[:-1]], len(prompt) - 1
        llama.reset()
        llama.eval(whole)
        kept: dict[str, F64] = {}

        def keep(stage: str, layer: int | None, array: Any, kept: dict[str, F64] = kept) -> None:
            if stage == "final_norm":
                kept[stage] = array.astype(np.float64)

        open_path(model, "reference", capacity=CONTEXT).forward(whole, tap=keep)
        texts.append(
            Text(
                np.array(logits, np.float64),
                np.array(llama.scores[first : len(whole)], np.float64),
                kept["final_norm"][first:] @ output.T,
            )
        )
    llama.close()
    return texts


def encoded(tokenizer: Any, question: str) -> list[int]:
    """Token ids of a question, in the file's chat template if it has one."""
    if tokenizer.chat_template is None:
        ids: list[int] = tokenizer.encode(question)
    else:
        ids = tokenizer.encode_chat([{"role": "user", "content": question}])
    return ids


def main() -> None:
    from engine.registry import locate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["smollm2-135m", "tiny-qwen2"], metavar="MODEL")
    for name in parser.parse_args().models:
        found = quality(measure(locate(name)))
        print(f"{name}: {found.texts} texts, {found.positions} positions")
        print(f"  NMSE beside exact arithmetic: fast {found.fast_nmse:.2e}, llama.cpp {found.llama_nmse:.2e}")
        print(
            f"  likeliest token differs from llama.cpp's: fast {found.differing} positions in {found.differing_texts} "
            f"texts, exact arithmetic {found.exact_differing} in {found.exact_differing_texts}"
        )
        print(
            f"  differences that are no near-ties (beyond 4 x {found.deviation:.3f}): {len(found.beyond_a_tie)}; "
            f"largest margin {max(found.margins, default=0.0):.3f}"
        )


if __name__ == "__main__":
    main()
