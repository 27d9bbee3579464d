"""What benchmarks.localise tries: models, prompts, planted faults, clean pairs; and what it says of each.

    python -m benchmarks.localise_cases [MODEL ..]

prints what is said of the clean pairs of one variant of the kernels ($APR_VARIANT), as JSON lines: one process has one
variant, so the others are tried in processes of their own.
"""

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from engine.bisection import run
from engine.bisection.measured import Row, TokenDifference
from engine.bisection.naming import Spec
from engine.bisection.sides import OracleSide, PathSide, Side
from engine.model import Model
from engine.opening import open_model
from engine.oracles import MODULES, MissingLibraryError, Oracle, open_oracle
from engine.registry import locate
from falsifiers.fault import TOKENIZER, Fault, Place
from falsifiers.faults import FAULTS
from falsifiers.faults_tokens import PROMPT
from falsifiers.kept import Kept
from falsifiers.odd_model import odd_model
from falsifiers.synthetic import random_model

INSTALLED = ("tiny-qwen2", "smollm2-135m")
RANDOM = ("odd-qwen2", "random-qwen2", "random-llama")
MODELS = (*INSTALLED, *RANDOM)
LENGTH = 22
"""Tokens of a prompt of a random model: past position 16, and one of them decoded alone."""
LONG = (216, 281, 343)
"""Tokens of the long prompts, which tiny-qwen2 alone is tried with: errors of angles grow with the position."""
LIMITS = (0.999, 0.99)
"""Below these cosines the practised method blames a stage."""
TEXTS = (
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on in the sun as if nothing had happened.",
    "What is the difference between a list and a tuple in Python, and when should a programmer use which of them?",
    "In 1969 the first men walked on the moon; they brought back 21 kg of rock and left some mirrors for lasers.",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n\nprint(9)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was said of one case.

    fault      the name of what was planted; "" of a clean pair
    pair       both sides
    wanted     the places that are wrong, the first first
    verdict    of `apr bisect`, its defects and its findings beside
    practised  for each of LIMITS, the first stage whose cumulative cosine is below it
    """

    model: str
    fault: str
    pair: str
    wanted: list[Place]
    verdict: str
    named: list[Place]
    findings: list[str] = field(default_factory=list)
    practised: dict[str, Place | None] = field(default_factory=dict)

    @property
    def detected(self) -> bool:
        return self.verdict == "DIVERGES"

    @property
    def exact(self) -> bool:
        """Whether the first that is named is the first that is wrong, and nothing right is named.

        Where another path serves, no stage is to be named, and that finding is to be there.
        """
        if not self.wanted:
            return "silent-fallback" in self.findings and not self.named
        return bool(self.named) and self.named[0] == self.wanted[0] and set(self.named) <= set(self.wanted)

    def practised_exact(self, limit: float) -> bool:
        place = self.practised[str(limit)]
        return place is not None and bool(self.wanted) and place == self.wanted[0]


@functools.cache
def model_named(name: str, seed: int = 0) -> Model:
    """A model of MODELS; of those that are random, the one of a seed."""
    if name in INSTALLED:
        return open_model(locate(name)).model
    rng = np.random.default_rng([64, seed])
    return odd_model(rng) if name == "odd-qwen2" else random_model(rng, name.removeprefix("random-"))


@functools.cache
def prompt_for(name: str, number: int = 0, length: int | None = None) -> tuple[int, ...]:
    """The tokens of a prompt: of a text where the model has a tokenizer; of a given length, words of all texts."""
    rng = np.random.default_rng([65, number])
    if name in INSTALLED:
        tokenizer = open_model(locate(name)).tokenizer
        if length is None:
            return tuple(tokenizer.encode(TEXTS[number % len(TEXTS)])[: LENGTH + number])
        words = rng.choice(" ".join(TEXTS).split(), length)
        return tuple(tokenizer.encode(" ".join(words))[:length])
    vocab = model_named(name).config.vocab
    return tuple(int(token) for token in rng.integers(3, vocab - 4, length or LENGTH - number % 4))


@functools.cache
def kept(name: str, tokens: tuple[int, ...]) -> Kept:
    """The reference's pass over a prompt and its floors, for all faults of a model."""
    return Kept(model_named(name), tokens, name)


def forget() -> None:
    """Let go of what was kept for a model."""
    kept.cache_clear()


def fault_outcome(fault: Fault, name: str) -> Outcome:
    """A planted fault in a model, the fast path beside the reference; one of the tokenizer beside another engine.

    Raises EngineError where such an engine is needed and none is installed.
    """
    if fault.where == TOKENIZER:
        return token_outcome(fault, name)
    model = model_named(name)
    beside = kept(name, tuple(fault.tokens(model, prompt_for(name))))
    subject = PathSide(Spec(f"{name}@fast", name, "fast"), model)
    with fault.plant(), np.errstate(all="ignore"):
        found = beside.bisect(subject)
    return said(name, fault.name, "fast, reference", fault.places(model), found)


def token_outcome(fault: Fault, name: str) -> Outcome:
    """A planted fault of the tokenizer, beside the first engine with one of its own that is installed."""
    place, model = locate(name), model_named(name)
    engine, oracle = _installed(place)
    with closing(oracle), fault.plant(), np.errstate(all="ignore"):
        mine, right = open_model(place).tokenizer.encode(PROMPT), oracle.tokens(PROMPT)
        subject = PathSide(Spec(f"{name}@fast", name, "fast"), model)
        beside = OracleSide(Spec(f"{name}@{engine}", name, engine), model, oracle)
        found = run.bisect(subject, beside, right, TokenDifference.between(mine, right))
    return said(name, fault.name, f"fast, {engine}", fault.places(model), found)


def _installed(place: Path) -> tuple[str, Oracle]:
    """The first oracle that is installed, with a model open; raises EngineError where none is."""
    missing = []
    for engine in MODULES:
        try:
            return engine, open_oracle(engine, place)
        except MissingLibraryError as error:
            missing.append(error)
    raise missing[0]


def said(name: str, fault: str, pair: str, wanted: list[Place], found: run.Bisection) -> Outcome:
    """What `apr bisect` found, and what the practised method says of the same arrays."""
    return Outcome(
        model=name,
        fault=fault,
        pair=pair,
        wanted=wanted,
        verdict=found.verdict.name,
        named=[(one.stage, one.layer) for one in found.verdict.defects],
        findings=[one.kind for one in found.measured.findings],
        practised={str(limit): first_below(found.measured.rows, limit) for limit in LIMITS},
    )


def first_below(rows: Sequence[Row], limit: float) -> Place | None:
    """The practised method: the first stage in the order of execution whose cumulative cosine is below the limit."""
    for row in rows:
        if row.cumulative is not None and not row.cumulative.cosine >= limit:
            return row.key
    return None


def fault_cases(models: Sequence[str], *, each: bool) -> Iterator[tuple[Fault, str]]:
    """Every fault with each of the models that can show it, model by model; or with one of them, in turn."""
    for name in models:
        for number, one in enumerate(FAULTS):
            able = [other for other in models if one.shows_on(model_named(other))]
            if name in able and (each or name == able[number % len(able)]):
                yield one, name


# ---------------------------------------------------------------- clean pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two sides of one model without a fault.

    seed    of a random model; prompt and length: a number and a length for `prompt_for`
    engine  of the oracle: "reference", "transformers" or "llama-cpp", and its dtype
    """

    model: str
    seed: int = 0
    prompt: int = 0
    length: int | None = None
    threads: int = 1
    kv_cache: str = "float32"
    split: bool = True
    engine: str = "reference"
    dtype: str | None = None

    @property
    def text(self) -> str:
        tokens = f"{self.length} tokens, " if self.length else ""
        return f"fast ({tokens}{self.kv_cache} cache, {self.threads} threads), {self.engine} {self.dtype or ''}".strip()


def pairs(models: Sequence[str], *, threads: int, quick: bool = False) -> list[Pair]:
    """More than 100 for all models: seeds, prompts, caches, threads, pieces, and every oracle that is installed."""
    found = []
    for name in models:
        count = (4 if quick else 24) if name in RANDOM else (2 if quick else 12)
        for i in range(count):
            found.append(
                Pair(
                    model=name,
                    seed=i if name in RANDOM else 0,
                    prompt=i,
                    threads=1 + i % threads,
                    kv_cache=("float32", "float16")[i // 2 % 2],
                    split=i % 5 != 4,
                )
            )
        if name in INSTALLED:
            found += [
                Pair(model=name, prompt=i, engine=engine, dtype=dtype)
                for i in range(1 if quick else 2)
                for engine, dtype in (
                    ("transformers", "float32"),
                    ("transformers", "bfloat16"),
                    ("transformers", "float16"),
                    ("llama-cpp", None),
                )
            ]
        if name == "tiny-qwen2":
            found += [
                Pair(model=name, prompt=i, length=length, engine=engine, dtype=dtype)
                for i, length in enumerate(LONG[:1] if quick else LONG)
                for engine, dtype in (
                    ("reference", None),
                    ("transformers", "float32"),
                    ("transformers", "bfloat16"),
                    ("llama-cpp", None),
                )
            ]
    return found


def pair_outcome(pair: Pair) -> Outcome:
    """What is said of a clean pair; EngineError where its oracle is not installed."""
    model = model_named(pair.model, pair.seed)
    subject = PathSide(
        Spec(f"{pair.model}@fast", pair.model, "fast"),
        model,
        split=pair.split,
        threads=pair.threads,
        kv_cache=pair.kv_cache,
    )
    spec = Spec(f"{pair.model}@{pair.engine}", pair.model, pair.engine, pair.dtype)
    if pair.engine == "reference":
        oracle: Side = PathSide(spec, model, split=False)
    else:
        options = {} if pair.dtype is None else {"dtype": pair.dtype}
        oracle = OracleSide(spec, model, open_oracle(pair.engine, Path(locate(pair.model)), **options))
    try:
        with np.errstate(all="ignore"):
            found = run.bisect(subject, oracle, list(prompt_for(pair.model, pair.prompt, pair.length)))
        return said(pair.model, "", pair.text, [], found)
    finally:
        if isinstance(oracle, OracleSide):
            oracle.oracle.close()


def variant_pairs(models: Sequence[str]) -> list[Pair]:
    """The pairs that each variant of the kernels is tried with."""
    return [Pair(model=name, seed=40 + i, prompt=40 + i) for name in models if name != "smollm2-135m" for i in range(3)]


def main() -> None:
    for pair in variant_pairs(sys.argv[1:] or MODELS):
        print(json.dumps(asdict(pair_outcome(pair)), default=str))


if __name__ == "__main__":
    main()
