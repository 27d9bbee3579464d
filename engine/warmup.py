"""Compiling the kernels before they are needed, and saying so: the first start on a machine takes seconds longer."""

from collections.abc import Callable, Iterable
from pathlib import Path

from numba import types

from engine.kernels import formats, heads, prepared, steps
from engine.model import Model
from engine.variants import chosen

_I, _FLAG = types.int64, types.boolean
_TABLE = types.int64[:, ::1]
_ROWS, _HEADS = types.float32[:, ::1], types.float32[:, :, ::1]
STEPS: dict[str, tuple[object, ...]] = {
    "products": (_TABLE, _TABLE, _I, _ROWS),
    "quantise": (_I, _I, _I, _I, _I, _TABLE),
    "add_norm": (_I,) * 7,
    "swiglu": (_I,) * 7,
    "rotate": (_ROWS, _I, _I, _I, _HEADS, _HEADS, *(_I,) * 6, _ROWS, _ROWS, _FLAG),
    "attend": (_I,) * 17,
}
"""The steps of engine.kernels, and the types that engine.fast calls them with."""


def formats_of(model: Model) -> set[str]:
    """The formats of the matrices that a model multiplies with."""
    names = {model.output.format.name}
    for layer in model.layers:
        for weight in (layer.q, layer.k, layer.v, layer.attn_out, layer.gate, layer.up, layer.down):
            names.add(weight.format.name)
    return names


def compile_kernels(names: Iterable[str], tell: Callable[[str], None], caches: Iterable[str] = ("float32",)) -> int:
    """Compile the steps and the product kernels of some formats, unless they are found on disk; how many were not.

    tell    called with one line before the first that has to be compiled
    caches  kinds of cache, whose kernels are wanted too
    """
    wanted: dict[str, Callable[[], object]] = {step: _step(step) for step in STEPS}
    for name in sorted(names):
        wanted |= {kernel: _addressed(kernel) for kernel in formats.kernels_of(name)}
    for name in caches:
        wanted |= {kernel: _addressed(kernel) for kernel in formats.kernels_of_cache(name)}
    missing = [kernel for kernel in wanted if not is_kept(kernel)]
    if missing:
        tell(f"compiling {len(missing)} kernels for {chosen()}, once: the next start finds them")
    for compile_one in wanted.values():
        compile_one()
    return len(missing)


def _step(name: str) -> Callable[[], object]:
    home = heads if name in ("rotate", "attend") else steps
    return lambda: getattr(home, name).compile(STEPS[name])  # the compiled one, whatever stands in its place


def _addressed(kernel: str) -> Callable[[], object]:
    return lambda: formats.address(kernel)


def is_kept(kernel: str) -> bool:
    """Whether a function of that name was compiled before, for this variant and these sources."""
    return any(Path(prepared.FOLDER).rglob(f"*.{kernel}-*.nbi"))
