"""What a bisection measured: the stages row by row, and what stands beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from engine.bisection.readings import Reading
from engine.bisection.stages import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stage: what was compared, and how far it stands above its floor. A reading that was not taken is None.

    why         why it was not compared; "" if it was
    equal_bits  of the traced forward passes
    nan         whether both sides hold NaN at the same entries, of which nothing can be told
    cumulative  the subject's output against the oracle's, with what was carried
    isolated    the same, with the oracle's inputs
    predicted   a product of the fast path against what it has to be with its rounding, with the oracle's inputs
    own         the subject's output against the reference's stage on the subject's inputs
    repaired    the subject's output against the oracle's, with the oracle's output put in at all suspects
    right       whether it was right, in that pass, on the inputs that it had there
    """

    key: Key
    why: str = ""
    equal_bits: bool = False
    nan: bool = False
    cumulative: Reading | None = None
    isolated: Reading | None = None
    predicted: Reading | None = None
    own: Reading | None = None
    repaired: Reading | None = None
    right: bool = False

    @property
    def suspect(self) -> bool:
        return bool(self.failing)

    @property
    def failing(self) -> list[Reading]:
        """The readings of its own error that are above their floor."""
        return [one for one in (self.isolated, self.predicted, self.own) if one is not None and not one.within]

    @property
    def agrees(self) -> bool:
        """Whether it agrees with the oracle once all suspects were repaired: within the carried floor, or, where a
        model makes more of noise than the floor's one sample shows, by being right on the inputs that it had.
        """
        return self.repaired is None or self.repaired.carried or self.right


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """Where two tokenisations part: the position, and the ids there (None: this side has ended)."""

    position: int
    subject: int | None
    oracle: int | None
    lengths: tuple[int, int]

    @classmethod
    def between(cls, subject: Sequence[int], oracle: Sequence[int]) -> "TokenDifference | None":
        """Of the tokens that two sides read; None where they are the same."""
        for position, (mine, right) in enumerate(zip_longest(subject, oracle)):
            if mine != right:
                return cls(position, mine, right, (len(subject), len(oracle)))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisive:
    """What a user of the model sees of the difference.

    top1        the likeliest token of the subject, and of the oracle
    top5        how many of the five likeliest they share
    kl          of the subject's distribution from the oracle's, in nats
    margin      the oracle's logit of its likeliest token over that of the subject's; where they agree, over its second
    resolution  how far honest arithmetic may move two logits apart
    """

    top1: tuple[int, int]
    top5: int
    kl: float
    margin: float
    resolution: float

    @property
    def flipped(self) -> bool:
        return self.top1[0] != self.top1[1]

    @property
    def near_tie(self) -> bool:
        """Whether honest arithmetic alone may choose the other token."""
        return self.margin <= self.resolution

    @property
    def lost(self) -> bool:
        """Whether another token is chosen, and not for a near-tie."""
        return self.flipped and not self.near_tie


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with how the subject was served, whatever its stages say; `key`: where it shows first."""

    kind: str
    text: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Clue:
    """What the arrays of a suspect show: its error in quantisation steps (None: it has none), and patterns in it."""

    steps: float | None = None
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that the verdict is made of.

    injects    whether the subject can be handed stages
    lacking    stages that a side says it cannot give: an error of theirs shows in the next one
    untested   why nothing stands beside a floor ("" if it does)
    """

    rows: Sequence[Row]
    layers: int
    tokens: TokenDifference | None = None
    decisive: Decisive | None = None
    findings: tuple[Finding, ...] = ()
    clues: Mapping[Key, Clue] = field(default_factory=dict)
    injects: bool = True
    untested: str = ""
    lacking: frozenset[str] = frozenset()
