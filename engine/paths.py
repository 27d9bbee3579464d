"""Which execution path serves a command, chosen by name and never exchanged in silence."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.model import Model
from engine.variants import KV_CACHES

if TYPE_CHECKING:
    from engine.reference import Tap

NAMES = ("fast", "reference")


class ExecutionPath(Protocol):
    """What both paths offer."""

    name: str
    variant: str
    model: Model

    @property
    def kv_cache(self) -> str | None: ...

    @property
    def position(self) -> int: ...

    def forward(self, tokens: Sequence[int], tap: "Tap | None" = None) -> NDArray[np.float32]: ...


def open_path(
    model: Model,
    name: str,
    *,
    capacity: int,
    threads: int | None = None,
    variant: str | None = None,
    kv_cache: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> ExecutionPath:
    """The path of that name with an empty cache for `capacity` tokens.

    threads  of the fast path; None: all cores
    variant  of the fast path's kernels; None: the fastest that this CPU has (engine.variants)
    kv_cache what the fast path keeps keys and values in, of KV_CACHES; None: the first
    tell     called with a line when kernels have to be compiled first
    """
    kind = kv_cache_named(kv_cache)
    if name == "reference":
        if threads is not None:
            raise EngineError("the reference path runs on numpy's own threads", where="--threads", hint="leave it out")
        if variant is not None:
            raise EngineError("the reference path has no variants", where="--variant", hint="leave it out")
        if kv_cache is not None:
            raise EngineError(
                "the reference path keeps keys and values in float64", where="--kv-cache", hint="leave it out"
            )
        from engine.reference import ReferencePath

        return ReferencePath(model)
    if name != "fast":
        raise EngineError(f"unknown path {name!r}", where="--path", hint=f"one of: {', '.join(NAMES)}")
    try:
        from engine import variants  # here, so that no other command waits for numba

        variants.choose(variant)
        from engine.fast import FastPath
        from engine.warmup import compile_kernels, formats_of
    except ImportError as error:
        raise EngineError(
            f"the fast path cannot be loaded: {error}",
            where="--path",
            hint="install numba for this Python, or ask for the slow path by name: --path reference",
        ) from error
    compile_kernels(formats_of(model), tell, (kind,))
    return FastPath(model, capacity=capacity, threads=threads, kv_cache=kind)


def kv_cache_named(name: str | None) -> str:
    """The kind of cache of that name, of which None is the default's; EngineError for an unknown one."""
    if name is not None and name not in KV_CACHES:
        raise EngineError(f"unknown kind of cache {name!r}", where="--kv-cache", hint=f"one of: {', '.join(KV_CACHES)}")
    return name or KV_CACHES[0]
