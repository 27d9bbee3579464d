"""From logits to the next token: greedy, or seeded sampling by temperature, top-k and top-p."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.numerics import exp


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """temperature 0 is greedy; top_k 0 and top_p 1 leave every token in. One seed gives one sequence of choices."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    rng: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 1e3:
            raise EngineError(
                f"{self.temperature} is not a temperature", where="--temperature", hint="0 (greedy) to 1000"
            )
        if self.top_k < 0:
            raise EngineError(f"{self.top_k} tokens cannot be kept", where="--top-k", hint="0 keeps all")
        if not 0 < self.top_p <= 1:
            raise EngineError(f"{self.top_p} is not a probability above 0", where="--top-p", hint="1 keeps all")
        if self.seed < 0:
            raise EngineError(f"{self.seed} is not a seed", where="--seed", hint="0 or above")
        object.__setattr__(self, "rng", np.random.Generator(np.random.PCG64(self.seed)))

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Token id from logits (vocab,). Among equal logits the smallest id comes first.

        Raises EngineError if a logit is not finite.
        """
        broken = int(np.count_nonzero(~np.isfinite(logits)))
        if broken:
            raise EngineError(
                f"{broken} of {logits.size} logits are not finite: there is no next token",
                hint="trace the stages (apr trace --save-tensor all) and look for the first one that is not finite",
            )
        if self.temperature == 0:
            return int(np.argmax(logits))
        order = np.argsort(-logits, kind="stable")
        if self.top_k:
            order = order[: self.top_k]
        kept = logits[order].astype(np.float64)
        with np.errstate(over="ignore"):  # a temperature near 0 makes -inf of a distance, which weighs 0: greedy
            weights = exp((kept - kept[0]) / self.temperature)
        cumulative = np.cumsum(weights)
        # nucleus (Holtzman et al. 2020): the smallest set whose probability reaches top_p
        size = int(np.searchsorted(cumulative, self.top_p * cumulative[-1])) + 1 if self.top_p < 1 else order.size
        size = min(size, order.size)
        target = self.rng.random() * cumulative[size - 1]
        return int(order[min(int(np.searchsorted(cumulative[:size], target, side="right")), size - 1)])
