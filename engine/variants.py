"""Which variant of the kernels serves: the fastest that the CPU has, or the one that is asked for.

All variants give the same bits; they differ in the instructions that LLVM may use and in the few that are named. A
process has one variant: it is settled when engine.kernels is imported, by `choose` before, or by $APR_VARIANT.
"""

import functools
import os
import platform
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from engine.errors import EngineError

GENERIC, AVX2, VNNI = "generic", "avx2", "avx512-vnni"
VARIABLE = "APR_VARIANT"
PV_ENVIRONMENT = ("APR_VARIANT", "GOMP_SPINCOUNT", "NUMBA_THREADING_LAYER_PRIORITY")  # evidence says what they were


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of instructions: what the CPU must have for it (LLVM's names), and the CPU that LLVM compiles for.

    cpu  LLVM's name; "" for the CPU at hand
    """

    name: str
    needs: frozenset[str]
    cpu: str


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(VNNI, frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"}), ""),
        Variant(AVX2, frozenset({"avx2", "fma", "f16c"}), "x86-64-v3"),
        Variant(GENERIC, frozenset(), "x86-64-v2" if platform.machine() in ("x86_64", "AMD64") else ""),
    )
}
"""The fastest first."""

KV_CACHES = ("float32", "float16")
"""What the fast path can keep keys and values in, the default first; each has kernels of its own."""

_chosen = ""


def choose(name: str | None) -> None:
    """Ask for a variant by name, before any kernel is loaded; None: $APR_VARIANT, or else the fastest.

    EngineError for an unknown name, one that the CPU lacks, and where kernels of another variant are loaded.
    """
    global _chosen
    where = "--variant" if name else VARIABLE
    wanted = name or os.environ.get(VARIABLE) or _chosen or available()[0]
    if wanted not in VARIANTS:
        raise EngineError(f"unknown variant {wanted!r}", where=where, hint=f"one of: {', '.join(VARIANTS)}")
    if wanted not in available():
        missing = ", ".join(sorted(VARIANTS[wanted].needs - features()))
        raise EngineError(
            f"this CPU cannot run the variant {wanted}: it lacks {missing}",
            where=where,
            hint=f"possible here: {', '.join(available())}",
        )
    if _chosen and wanted != _chosen:
        raise EngineError(
            f"the kernels of this process are {_chosen}", where=where, hint="one process has one variant: start another"
        )
    _chosen = wanted


def chosen() -> str:
    """The variant of this process, which is settled by asking."""
    if not _chosen:
        choose(None)
    return _chosen


def available() -> tuple[str, ...]:
    """The variants that this CPU can run, the fastest first."""
    return tuple(name for name, variant in VARIANTS.items() if variant.needs <= features())


@functools.cache
def features() -> frozenset[str]:
    """What the CPU has, by LLVM's names."""
    from llvmlite import binding

    return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)


def prepare() -> str:
    """Tell numba, before a kernel is declared, how to compile it, and where to keep the result.

    Returns the folder for it, which is named after the variant and the kernels' sources: numba itself misses a change
    in another file.
    """
    import numba
    from numba.core.registry import cpu_target

    # OpenMP's regions start in microseconds; another layer takes 100 times as long
    if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    # idle threads spin some 20 us, then sleep: spinning without end halves the speed wherever others want a core
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    variant = VARIANTS[chosen()]
    if variant.cpu:
        numba.config.CPU_NAME, numba.config.CPU_FEATURES = variant.cpu, ""
    # settled by whoever uses it first; the name of the CPU, which it gives as well, is only what is asked for by now
    *_, settled = cpu_target.target_context.codegen().magic_tuple()
    if variant.cpu and settled and variant.name != available()[0]:  # the fastest may have all that the CPU has
        raise EngineError(
            f"numba compiles for another CPU than {variant.cpu} in this process already",
            where=VARIABLE,
            hint="load the engine before other users of numba, or leave the variant to the engine",
        )
    missing = variant.needs - {feature.removeprefix("+") for feature in settled.split(",")}
    if missing and (settled or not variant.cpu):  # LLVM would end the process without a word
        raise EngineError(
            f"numba does not compile for {', '.join(sorted(missing))}",
            where=VARIABLE,
            hint="unset NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, or choose another variant",
        )
    return str(_cache(str(numba.config.CACHE_DIR)))


def _cache(chosen_by_user: str) -> Path:
    if chosen_by_user:
        base = Path(chosen_by_user)
    else:
        import platformdirs

        base = Path(platformdirs.user_cache_dir("pv-contracts")) / "kernels"
    folder = Path(__file__).parent / "kernels"
    digest = sha256()
    for file in sorted((*folder.glob("*.py"), Path(__file__))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return base / f"{chosen()}-{digest.hexdigest()[:16]}"
