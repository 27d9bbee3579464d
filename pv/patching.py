"""How a defect is planted: a value in place of another, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_homes: set[str] = set()
"""Modules in which something was patched since `noted` was asked for them."""


def noted() -> frozenset[str]:
    """The modules of what was patched since this was last asked."""
    found = frozenset(_homes)
    _homes.clear()
    return found


@contextmanager
def patched(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set `owner.name` to `value` inside the block, then restore it. AttributeError where nothing has that name."""
    original = getattr(owner, name)
    if original is value:
        raise TypeError(f"patched(): {name} is that value already, so no defect would be planted")
    own = getattr(owner, "__dict__", {}).get(name, _ABSENT)
    setattr(owner, name, value)
    _homes.add(owner.__name__ if isinstance(owner, ModuleType) else str(getattr(owner, "__module__", "")))
    try:
        yield
    finally:
        if own is _ABSENT and hasattr(owner, "__dict__"):
            delattr(owner, name)  # it was inherited: a copy left behind would hide later changes of the parent
        else:
            setattr(owner, name, original if own is _ABSENT else own)


_ABSENT = object()
