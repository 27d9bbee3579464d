"""How two values of a trial differ, and where: the sentence that a failed comparison says, or None where they agree.

numpy is looked up, not imported: a value of its types cannot exist before its import.
"""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, TypeGuard

from pv.canonical import Json


def is_bool(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return isinstance(value, bool) or (numpy is not None and isinstance(value, numpy.bool_))


def kind_of(value: object) -> str:
    """The family within which values may be equal; '' for what cannot be compared."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return "array"
    if value is None:
        return "None"
    if is_bool(value):
        return "bool"
    if isinstance(value, (int, float, complex)) or (numpy is not None and isinstance(value, numpy.number)):
        return "number"
    for kind, types in (
        ("text", str),
        ("bytes", (bytes, bytearray, memoryview)),
        ("list", (list, tuple, range)),
        ("mapping", Mapping),
        ("set", (set, frozenset)),
        ("path", PurePath),
    ):
        if isinstance(value, types):
            return kind
    return ""


def is_real(value: object) -> TypeGuard[float]:
    return kind_of(value) == "number" and not (isinstance(value, complex) or type(value).__name__.startswith("complex"))


def show(value: object) -> str:
    """Short text; a numpy scalar with the shortest digits of its own precision."""
    text = str(value) if type(value).__module__ == "numpy" and kind_of(value) in ("number", "bool") else repr(value)
    return text if len(text) <= 80 else f"{text[:60]} .. ({len(text)} characters)"


__tracebackhide__ = True  # as in pv.trial
EXACT = frozenset({bool, int, float, complex, str, bytes, bytearray, memoryview, list, tuple, range, dict, type(None)})
COPIES: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (int, int.__int__),
    (float, float.__float__),
    (complex, complex.__complex__),
    (str, str.__str__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (bytearray, lambda value: bytearray.__getitem__(value, slice(None))),
    (list, lambda value: list.__getitem__(value, slice(None))),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))),
    (dict, dict.copy),
    (set, lambda value: set(map(_plain_key, set.__iter__(value)))),
    (frozenset, lambda value: frozenset(map(_plain_key, frozenset.__iter__(value)))),
    (PurePath, lambda value: value if _is_from("pathlib", value) else PurePath(PurePath.__str__(value))),
)


def plain(value: Any) -> Any:
    """The value as the builtin type, or numpy's: no class of an author's decides what it equals."""
    kind = type(value)
    if kind in EXACT:
        return value
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray):
        return value if kind is numpy.ndarray else numpy.ndarray.view(value, numpy.ndarray)
    if numpy is not None and issubclass(kind, numpy.generic):
        return value if _is_from("numpy", value) else numpy.generic.__array__(value)[()]
    for base, copy in COPIES:
        if issubclass(kind, base):
            return copy(value)
    if issubclass(kind, Mapping):
        return {key: value[key] for key in value}
    raise TypeError(f"{kind.__name__} says that it is a {value.__class__.__name__}, and is none")


def _is_from(module: str, value: object) -> bool:
    return getattr(sys.modules[module], type(value).__name__, None) is type(value)


def is_same(got: Any, want: Any) -> bool:
    """Whether two values that can change lie in one place: what a defect does to one of them, it does to the other."""
    if kind_of(got) == kind_of(want) == "array":
        return bool(
            got.size
            and (got.__array_interface__["data"], got.dtype, got.shape, got.strides)
            == (want.__array_interface__["data"], want.dtype, want.shape, want.strides)
        )
    return got is want and isinstance(got, (list, dict, set, bytearray)) and bool(got)


def difference(got: Any, want: Any) -> str | None:
    """None where equal, else where and how the two differ. TypeError for what cannot be compared."""
    kind = kind_of(want)
    if not kind:
        raise TypeError(f"equal() cannot compare {type(want).__name__}: compare its fields")
    if kind_of(got) != kind:
        return f"got {type(got).__name__} {show(got)}, want {type(want).__name__} {show(want)}"
    got, want = plain(got), plain(want)
    if kind == "array":
        return _array_difference(got, want)
    if kind == "bytes":
        return _bytes_difference(bytes(got), bytes(want))
    if kind == "list":
        return _list_difference(got, want)
    if kind == "mapping":
        return _mapping_difference(got, want)
    if got == want:
        return None
    if kind == "text" and max(len(got), len(want)) > 60:
        at = next((i for i, (g, w) in enumerate(zip(got, want, strict=False)) if g != w), min(len(got), len(want)))
        start = max(0, at - 10)
        return (
            f"first difference at character {at}: got {got[start : at + 30]!r} (of {len(got)}), "
            f"want {want[start : at + 30]!r} (of {len(want)})"
        )
    return f"got {show(got)}, want {show(want)}"


def _bytes_difference(got: bytes, want: bytes) -> str | None:
    if got == want:
        return None
    at = next((i for i, (g, w) in enumerate(zip(got, want, strict=False)) if g != w), min(len(got), len(want)))
    shown = [" ".join(f"{byte:02x}" for byte in side[at : at + 8]) or "the end" for side in (got, want)]
    lengths = f"{len(got)} bytes" if len(got) == len(want) else f"got {len(got)} bytes, want {len(want)}"
    return f"first difference at byte {at}: got {shown[0]}, want {shown[1]} ({lengths})"


def _list_difference(got: Any, want: Any) -> str | None:
    for index, (one, other) in enumerate(zip(got, want, strict=False)):
        found = difference(one, other)
        if found is not None:
            return f"at [{index}]: {found}" + (f" (lengths {len(got)}, {len(want)})" if len(got) != len(want) else "")
    return None if len(got) == len(want) else f"got {len(got)} elements, want {len(want)}; the common ones agree"


def _mapping_difference(got: Mapping[Any, Any], want: Mapping[Any, Any]) -> str | None:
    got, want = _plain_keys(got), _plain_keys(want)
    for key in want:
        if key not in got:
            return f"key {key!r} is missing"
        found = difference(got[key], want[key])
        if found is not None:
            return f"at [{key!r}]: {found}"
    extra = [key for key in got if key not in want]
    return f"key {extra[0]!r} is not wanted" if extra else None


def _plain_keys(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    if all(type(key) in EXACT for key in mapping):
        return mapping
    found = {_plain_key(key): value for key, value in mapping.items()}
    if len(found) < len(mapping):
        raise TypeError("equal() cannot compare mappings with keys that differ in their class alone")
    return found


def _plain_key(key: Any) -> Any:
    if not kind_of(key):
        return key  # an author's own key is equal to what it says: mostly to itself
    return tuple(map(_plain_key, plain(key))) if isinstance(key, tuple) else plain(key)


def _array_difference(got: Any, want: Any) -> str | None:
    import numpy as np

    if got.dtype.hasobject or want.dtype.hasobject:
        raise TypeError("equal() cannot compare arrays of objects: pass lists")
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"got {got.dtype}{list(got.shape)}, want {want.dtype}{list(want.shape)}"
    differs = got != want
    count = int(np.count_nonzero(differs))
    if count == 0:
        return None
    at = np.unravel_index(int(np.argmax(differs)), got.shape)
    where = "[" + ", ".join(str(int(i)) for i in at) + "]"
    return f"{count} of {got.size} elements differ, first at {where}: got {show(got[at])}, want {show(want[at])}"


# with a tolerance


BELOW_2_64 = 2.0**64 - 2**11  # the float before it, so that no conversion overflows


def distance(got: Any, want: Any, limit: float, relative: float) -> tuple[str, dict[str, Json]] | None:
    """None where |got - want| <= limit + relative * |want| everywhere; else the sentence, and the worst place.

    NaN is near nothing, an infinity only itself. TypeError for what is neither real or complex numbers nor arrays of
    such, and for arrays without elements, of which nothing would be compared.
    """
    import numpy as np

    one, other = np.asarray(got), np.asarray(want)
    for side in (one, other):
        if side.dtype.kind not in "iufc":
            raise TypeError(f"close() compares numbers and arrays of numbers, not {side.dtype}: use equal")
    if one.dtype.kind != other.dtype.kind or one.shape != other.shape:
        return f"got {one.dtype}{list(one.shape)}, want {other.dtype}{list(other.shape)}", {}
    if not one.size:
        raise TypeError(f"close() has nothing to compare: both arrays are empty, {list(one.shape)}")
    apart, allowed = _apart(one, other, limit, relative)
    beyond = ~(apart <= allowed)  # NaN is beyond
    count = int(np.count_nonzero(beyond))
    if count == 0:
        return None
    over = np.where(beyond, apart.astype(np.float64) - allowed.astype(np.float64), -np.inf)
    at = np.unravel_index(int(np.argmax(over)), over.shape)  # of NaN, the first
    worst: list[Json] = [int(index) for index in at]
    place = f" at {worst}" if worst else ""
    told = f"{limit}" + (f" + {relative} * |want| = {show(allowed[at])}" if relative else "")
    head = "|difference|" if relative else "max |difference|"
    return (
        f"{head} {show(apart[at])}{place} (got {show(one[at])}, want {show(other[at])}), limit {told}; "
        f"{count} of {one.size} beyond it",
        {"at": worst, "difference": str(apart[at]), "got": str(one[at]), "want": str(other[at]), "beyond": count},
    )


def _apart(one: Any, other: Any, limit: float, relative: float) -> tuple[Any, Any]:
    """By element, how far the two lie apart and how far they may."""
    import numpy as np

    with np.errstate(all="ignore"):
        if one.dtype.kind in "iu":  # modulo 2^64 the difference of two integers is exact, whatever their signs
            left, right = (side.astype(np.uint64) for side in (one, other))
            apart = np.where(one >= other, left - right, right - left)
            size = np.where(other < 0, np.uint64(0) - right, right).astype(np.float64)
            most = np.floor(limit + relative * size)
            return apart, np.where(most < 2.0**64, np.minimum(most, BELOW_2_64).astype(np.uint64), np.uint64(2**64 - 1))
        wide = np.result_type(one, other, np.float64)
        left, right = one.astype(wide), other.astype(wide)
        apart = np.where(left == right, 0.0, np.abs(left - right))  # inf - inf is NaN
        size = np.abs(right)
        allowed = limit + np.where(np.isfinite(size), relative * size, 0.0)
        return apart, np.minimum(allowed, np.finfo(size.dtype).max)  # an infinite limit would forbid nothing


# what a comparison is given


def require_bool(name: str, ok: object, message: object) -> None:
    if not is_bool(ok):
        raise TypeError(f"{name}() takes a bool, not {type(ok).__name__}: compare first, `{name}(x == y, ..)`")
    if not isinstance(message, str) or not message:
        raise TypeError(f"{name}() needs a message that says what was seen when the check fails")


def require_name(what: object) -> None:
    if not isinstance(what, str) or not what:
        raise TypeError("say what is compared: the last argument is its name")


def require_two(name: str, got: object, want: object) -> None:
    if is_same(got, want):
        raise TypeError(f"{name}() was given one {type(got).__name__} twice, which cannot differ from itself: copy it")


def require_limit(name: str, value: object) -> None:
    if not is_real(value) or not math.isfinite(value) or not value >= 0:
        raise TypeError(f"close() needs a finite {name} >= 0, not {show(value)}")
