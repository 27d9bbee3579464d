"""A made-up byte-level vocabulary in the size of a real one, with merges that make each of its tokens."""

from dataclasses import dataclass
from itertools import chain, islice, product

from engine.tokenizer import BYTE_OF, CHARACTER_OF
from engine.vocabulary import CONTROL, NORMAL

UNUSED = 5
"""Value of tokenizer.ggml.token_type for rows of the embedding that no text leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a vocabulary consists of; the ids count on from one part to the next.

    special  control tokens
    first    they come before the ordinary tokens, else behind
    size     of all; what the control tokens leave over behind the ordinary ones is padding
    """

    pre: str
    ordinary: int
    special: tuple[str, ...]
    first: bool
    size: int


def tokens_and_types(plan: Plan) -> tuple[list[str], list[int]]:
    """The texts of all tokens by id, and their types."""
    ordinary = [*BYTE_OF, *(left + right for left, right in merges(plan))]
    special = list(plan.special)
    tokens = special + ordinary if plan.first else ordinary + special
    types = [NORMAL] * len(ordinary)
    types[0 if plan.first else len(types) : 0] = [CONTROL] * len(special)
    padding = range(len(tokens), plan.size)
    return tokens + [f"[PAD{id_}]" for id_ in padding], types + [UNUSED] * len(padding)


def merges(plan: Plan) -> list[tuple[str, str]]:
    """The pairs whose joining gives the ordinary tokens behind the 256 bytes, the most urgent first.

    The tokens are words of one to three syllables, half of them with a space before. Text that is a token is merged to
    that token: letters join to syllables alone, the words of three syllables begin with whichever of their two pairs is
    more urgent, and the space comes last.
    """
    count = plan.ordinary - len(BYTE_OF)
    syllables = [a + b for a in "bcdfghjklmnpqrstvwxyz" for b in "aeiou"]
    longer = ((a + b, c) if (a, b) <= (b, c) else (a, b + c) for a, b, c in product(syllables, repeat=3))
    ones = ((syllable[0], syllable[1]) for syllable in syllables)
    twos = ((a, b) for a in syllables for b in syllables)
    words = list(islice(chain(ones, twos, longer), (count + 1) // 2))
    space = CHARACTER_OF[ord(" ")]
    return words + [(space, left + right) for left, right in words[: count // 2]]
