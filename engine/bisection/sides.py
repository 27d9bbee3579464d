"""The two sides of a bisection: an execution path of a model, an oracle, or a folder of stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine import aprt
from engine.bisection.naming import Spec
from engine.bisection.stages import SQUARE, Key, name_of, shape
from engine.errors import EngineError
from engine.model import Model
from engine.oracles import MODULES, watched
from engine.oracles.transformers import DTYPES
from engine.paths import ExecutionPath, open_path
from engine.trace_folder import MANIFEST, Manifest, read_manifest
from engine.variants import KV_CACHES

if TYPE_CHECKING:
    from engine.oracles import Oracle

F32 = NDArray[np.float32]
Stages = dict[Key, F32]
"""The output of each stage for a whole prompt, as engine.reference taps it; what is missing is not there."""

CACHED = "float16 cache"
"""The name under which the floor knows that keys and values were rounded to float16."""
HALVES = "float16 products"
"""The name under which it knows that activations are rounded to 16 bits where they meet weights of 16 bits (ggml)."""
DECODED = 2
"""How many tokens of a prompt a path decodes alone: the second one reads what the first has left."""
HANDED = "handed over in float32"
"""The name under which it knows that a stage computed from more digits than those that are handed over."""


class Pieces:
    """A tap that joins what the pieces of a prompt bring to arrays of the whole, and hands over what it is given.

    given  takes the place of the stages of `only` (None: all that it has), rows and columns of each piece alone
    """

    def __init__(self, tokens: int, given: Stages | None = None, only: frozenset[Key] | None = None) -> None:
        self.tokens, self.given, self.only = tokens, given or {}, only
        self.start = 0
        self.stages: Stages = {}

    def tap(self, stage: str, layer: int | None, array: F32) -> F32 | None:
        """Keep a copy of the array; what is returned is the given stage's part, or None."""
        key: Key = stage, layer
        if stage == "lm_head":  # of the last position of each piece: that of the last piece counts
            self.stages[key] = array.copy()
            return self.given[key] if self._gives(key) and self.start + 1 == self.tokens else None
        end = self.start + len(array)
        if key not in self.stages:
            whole = (self.tokens, *array.shape[1:-1], self.tokens if stage in SQUARE else array.shape[-1])
            self.stages[key] = np.full(whole, -np.inf if stage == "attn_scores" else 0, np.float32)
        rows = slice(self.start, end)
        if stage in SQUARE:
            self.stages[key][rows, ..., : array.shape[-1]] = array
        else:
            self.stages[key][rows] = array
        if not self._gives(key):
            return None
        return np.ascontiguousarray(self.given[key][rows, ..., : array.shape[-1]])

    def _gives(self, key: Key) -> bool:
        return key in self.given and (self.only is None or key in self.only)


@dataclass
class PathSide:
    """An execution path of a model. Each forward pass starts with an empty cache.

    split  whether the last DECODED tokens come alone, after all others, so that the kernels of prefill and of decoding
           run, and what one decoded token leaves to the next is read
    """

    spec: Spec
    model: Model
    split: bool = True
    threads: int | None = None
    variant: str | None = None
    kv_cache: str | None = None
    tell: Callable[[str], None] = lambda line: None
    injects: bool = True
    missing: tuple[str, ...] = ()
    forwards: int = 0
    _served: dict[str, Any] = field(default_factory=dict)

    @property
    def arithmetic(self) -> tuple[str, ...]:
        if self.spec.engine == "reference":
            return "float32", HANDED
        return ("int8", "float32", *((CACHED,) if self.kv_cache == KV_CACHES[1] else ()))

    def stages(self, tokens: Sequence[int], pieces: Pieces) -> F32:
        return self._run(tokens, pieces)

    def untraced(self, tokens: Sequence[int]) -> F32:
        return self._run(tokens, None)

    def parts(self, tokens: int) -> tuple[int, ...]:
        """How many tokens come at a time."""
        alone = min(DECODED, tokens - 1) if self.split else 0
        return (tokens - alone, *(1,) * alone)

    def check(self) -> None:
        """Refuse options that the path does not take, before anything runs; raises EngineError."""
        self._opened(1)

    def _opened(self, capacity: int) -> ExecutionPath:
        return open_path(
            self.model,
            self.spec.engine,
            capacity=capacity,
            threads=self.threads,
            variant=self.variant,
            kv_cache=self.kv_cache,
            tell=self.tell,
        )

    def _run(self, tokens: Sequence[int], pieces: Pieces | None) -> F32:
        path = self._opened(len(tokens))
        start = 0
        for part in self.parts(len(tokens)):
            if pieces is not None:
                pieces.start = start
            logits = path.forward(tokens[start : start + part], None if pieces is None else pieces.tap)
            start += part
        self.forwards += 1
        self._served = {
            "path": path.name,
            "variant": path.variant,
            "kv_cache": path.kv_cache,
            "threads": getattr(path, "threads", None),
            "pieces": list(self.parts(len(tokens))),
        }
        return logits

    def facts(self) -> dict[str, Any]:
        return {"engine": self.spec.engine, **self._served}


def of_oracle(name: str, variant: str) -> tuple[str, ...]:
    """What the floor of an oracle (engine.oracles.Oracle) is made of: names of engine.arithmetic, and those above."""
    if name == "transformers":
        return (*dict.fromkeys((variant, "float32")), HANDED)
    return "int8", "float32", HALVES, HANDED


@dataclass
class OracleSide:
    """An engine that is not ours: it hands over its stages, and takes none."""

    spec: Spec
    model: Model
    oracle: "Oracle"
    injects: bool = False
    forwards: int = 0

    @property
    def missing(self) -> tuple[str, ...]:
        """Stages that the oracle says it cannot give."""
        return tuple(self.oracle.missing)

    @property
    def arithmetic(self) -> tuple[str, ...]:
        return of_oracle(self.oracle.name, self.oracle.variant)

    def stages(self, tokens: Sequence[int], pieces: Pieces) -> F32:
        """As Side says; raises UnfaithfulError where the oracle cannot be believed on this model."""
        self.forwards += watched.FORWARDS
        return watched.forward(self.oracle, tokens, pieces.tap)

    def untraced(self, tokens: Sequence[int]) -> None:
        """None: a pass without capture was beside the traced one, and had its bits."""

    def facts(self) -> dict[str, Any]:
        return {
            "engine": self.oracle.engine,
            "path": self.oracle.name,
            "variant": self.oracle.variant,
            "missing": list(self.oracle.missing),
            "notes": list(self.oracle.notes),
        }


class FolderSide:
    """A folder of stages as `apr trace` and `apr oracle` write it: what a run that is over has left."""

    def __init__(self, spec: Spec) -> None:
        """Read the manifest and every tensor; raises EngineError for a file that is not as the manifest says."""
        self.spec, self.injects, self.forwards = spec, False, 0
        self.model: None = None
        folder = Path(spec.model)
        self.manifest = read_manifest(folder)
        _check_arithmetic(self.manifest, str(folder / MANIFEST))
        self.kept: Stages = {}
        for entry in self.manifest.tensors:
            tensor = aprt.read_tensor(folder / entry.file)
            if tensor.layer != entry.layer or tensor.values.size != int(np.prod(entry.shape)):
                raise EngineError(
                    f"holds {tensor.values.size} values of layer {tensor.layer}, the manifest says {entry.shape} of "
                    f"layer {entry.layer}",
                    where=str(folder / entry.file),
                    hint="write the folder again",
                )
            self.kept[entry.stage, entry.layer] = tensor.values.reshape(entry.shape)

    @property
    def missing(self) -> tuple[str, ...]:
        """Stages that what wrote the folder could not give."""
        return self.manifest.missing

    @property
    def arithmetic(self) -> tuple[str, ...]:
        m = self.manifest
        if m.path == "reference":
            return "float32", HANDED
        if m.path in MODULES:
            return of_oracle(m.path, m.variant)
        return ("int8", "float32", *((CACHED,) if m.kv_cache == KV_CACHES[1] else ()))

    def check(self, model: Model) -> None:
        """Refuse stages that are not those of this model and of the manifest's tokens; raises EngineError."""
        m, c = self.manifest, model.config
        where = self.spec.model
        if m.model.architecture != c.architecture:
            raise EngineError(
                f"the stages are of a {m.model.architecture} model, {model.path} is {c.architecture}",
                where=where,
                hint="name the model that was traced",
            )
        for key, array in self.kept.items():
            if (key[1] or 0) >= c.n_layers or array.shape != shape(key[0], c, len(m.tokens)):
                want = shape(key[0], c, len(m.tokens))
                raise EngineError(
                    f"{name_of(key)} has the shape {array.shape}; {model.path} with {c.n_layers} layers gives {want}",
                    where=where,
                    hint="name the model that was traced",
                )

    def stages(self, tokens: Sequence[int], pieces: Pieces) -> F32:
        pieces.stages.update(self.kept)
        logits = self.kept.get(("lm_head", None))
        return np.full(0, np.nan, np.float32) if logits is None else logits

    def untraced(self, tokens: Sequence[int]) -> None:
        return None

    def facts(self) -> dict[str, Any]:
        m = self.manifest
        head = {"engine": m.engine, "path": m.path, "variant": m.variant, "kv_cache": m.kv_cache}
        return {**head, "missing": list(m.missing)}


def _check_arithmetic(m: Manifest, where: str) -> None:
    """Raise EngineError where the floor of what a manifest says that ran is not known."""
    known = {
        "transformers": ("variant", m.variant, DTYPES),
        "fast": ("kv_cache", m.kv_cache or KV_CACHES[0], KV_CACHES),
    }
    key, value, values = known.get(m.path, ("", "", ("",)))
    if value not in values:
        raise EngineError(
            f"{key} is {value!r}, and of the path {m.path} it is one of: {', '.join(values)}",
            where=where,
            hint="write the folder again: what its numbers were rounded to decides what they may err by",
        )


Side = PathSide | OracleSide | FolderSide
"""What bisection asks of a side:

    model       that it runs, for its floor; None: nothing but stages is at hand
    arithmetic  names of what its floor is made of (engine.arithmetic), and CACHED
    injects     whether what a tap answers takes a stage's place
    forwards    how many forward passes it has run
    stages      fills Pieces by one traced forward pass, and gives the logits (vocab,) of the last token
    untraced    the logits without a tap; None where no forward pass can be had, or would tell no more
    facts       what ran, for reports
"""
