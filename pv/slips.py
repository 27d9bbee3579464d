"""How far a key is from a known one."""

import re
from functools import lru_cache


def slips(key: str, known: str) -> int | None:
    """How many letters are wrong, missing, too many or swapped in a key, apart from case, separators and plural.

    None where that is too many for a slip: any in a known key of fewer than 4 letters, more than one where one of the
    two has fewer than 6, more than two in longer ones.
    """
    ours, letters = _folded(known)
    theirs, others = _folded(key[:100])
    if theirs == ours:
        return 0
    limit = 0 if len(ours) < 4 else 1 if min(len(ours), len(theirs)) < 6 else 2
    if abs(len(ours) - len(theirs)) > limit or len(letters ^ others) > 2 * limit:  # cheap, and true of nearly all
        return None
    before: list[int] = []
    row = list(range(len(theirs) + 1))
    for i, a in enumerate(ours, start=1):
        above, before, row = before, row, [i]
        for j, b in enumerate(theirs, start=1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == theirs[j - 2] and b == ours[i - 2]:
                least = min(least, above[j - 2] + 1)
            row.append(least)
    return row[-1] if row[-1] <= limit else None


@lru_cache(maxsize=4096)
def _folded(key: str) -> tuple[str, frozenset[str]]:
    """What is left of a key without case, separators and plural, and the letters in it."""
    left = re.sub(r"[\W_]", "", key.lower()).removesuffix("s")
    return left, frozenset(left)
