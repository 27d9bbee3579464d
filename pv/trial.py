"""What a falsifier is given: a seed, a model, a folder, and the words in which it says what it saw.

    from pv.trial import Trial, mutant, patched

    def header_describes_the_body(trial: Trial) -> None:
        blob = aprt.pack(trial.rng.standard_normal(7, dtype=np.float32), layer=3)
        trial.equal(blob[4:8], b"\\x03\\0\\0\\0", "layer field")
        trial.equal(len(blob), 12 + 4 * 7, "size in bytes")

    @mutant
    def big_endian_header() -> Iterator[None]:
        "Writes the layer in big-endian byte order."
        with patched(aprt, "pack_header", wrong):
            yield

Every `check`, `equal` and `at_most` counts as one comparison; a trial that made none is ERRORED: it observed nothing.
A failed comparison cannot be taken back: catching its exception does not save the trial.
A live trial has to start a command with `trial.model.path` among its arguments, or it is ERRORED.
"""

import atexit
import functools
import hashlib
import math
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from pv.canonical import EXACT, Json

if TYPE_CHECKING:
    import numpy as np

SHORT = 256  # an observation is for a reader, not an artifact


class Falsified(Exception):  # noqa: N818  (an outcome, not an error)
    """The promise is broken; the message says what was seen."""


class Skipped(Exception):  # noqa: N818  (an outcome, not an error)
    """The trial could not be made here; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model as a trial meets it: its registered name, where it lies, and the registered digest of its bytes."""

    name: str
    path: Path
    sha256: str


@dataclass(kw_only=True)
class Trial:
    """One attempt to break one promise.

    seed    the only source of chance: `rng` is numpy's PCG64 of it
    model   the file to try, or None for an algorithm trial
    mutant  'module:function' of the planted defect (already planted in this process), or None
    limit   the limit of the tolerance that the contract states, or None; read it as `tolerance`
    folder  an empty folder of this trial's own, removed with the trial
    keeping  the folder that outputs are put into which are to be kept, or None where nothing keeps them
    """

    seed: int
    model: ModelFile | None = None
    mutant: str | None = None
    limit: float | None = None
    keeping: Path | None = field(default=None, repr=False)
    comparisons: int = field(default=0, init=False)
    observations: dict[str, Json] = field(default_factory=dict, init=False)
    outputs: dict[str, str] = field(default_factory=dict, init=False)
    artifacts: dict[str, int] = field(default_factory=dict, init=False)  # sizes of the outputs that are to be kept
    oracle_used: tuple[str, str] | None = field(default=None, init=False)
    falsified: str | None = field(default=None, init=False)  # message of the first comparison that failed

    @functools.cached_property
    def rng(self) -> "np.random.Generator":
        """The trial's own random numbers; the same seed gives the same numbers on every machine."""
        import numpy as np

        return np.random.Generator(np.random.PCG64(self.seed))

    @functools.cached_property
    def folder(self) -> Path:
        """A temporary folder, made at the first use."""
        folder = tempfile.mkdtemp(prefix="pv-trial-")
        _folders.add(folder)
        weakref.finalize(self, _remove, folder).atexit = False  # then _remove_all sees to it
        return Path(folder)

    @property
    def tolerance(self) -> float:
        """The limit that the contract states for this test, so that a claim and its trial cannot disagree."""
        if self.limit is None:
            raise TypeError("the contract states no tolerance for this test: write {metric, limit, because}")
        return self.limit

    def check(self, ok: "bool | np.bool_", message: str) -> None:
        """Falsify with `message` unless `ok`."""
        if not _is_bool(ok):
            raise TypeError(f"check() takes a bool, not {type(ok).__name__}: compare first, `check(x == y, ..)`")
        if not isinstance(message, str) or not message:
            raise TypeError("check() needs a message that says what was seen when the check fails")
        self._compare(None if ok else message)

    def equal(self, got: object, want: object, what: str) -> None:
        """Falsify unless `got` equals `want`: numbers, bools, text, bytes, paths, None, sets, arrays, lists, mappings.

        Numbers and arrays compare as IEEE values: NaN equals nothing, -0.0 equals 0.0. To compare bits, pass bytes
        (`array.tobytes()`). Arrays must agree in dtype and shape. A list equals a tuple of the same elements.
        """
        _named(what)
        found = _difference(got, want)
        self._compare(None if found is None else f"{what}: {found}")

    def at_most(self, value: "float | np.number[Any]", limit: "float | np.number[Any]", what: str) -> None:
        """Falsify unless value <= limit. NaN falsifies; the limit must be finite: an infinite one forbids nothing."""
        _named(what)
        for name, number in (("value", value), ("limit", limit)):
            if _kind(number) != "number" or isinstance(number, complex):
                raise TypeError(f"at_most() takes real numbers: the {name} is {type(number).__name__}")
        if not math.isfinite(limit):
            raise TypeError(f"at_most() needs a finite limit, not {limit}")
        self._compare(None if value <= limit else f"{what}: {_show(value)} is not at most {_show(limit)}")

    def observe(self, name: str, value: object) -> None:
        """Keep what was measured, for the evidence. The last value under a name stands.

        value  None, bool, number, text, or short lists and mappings of them; NaN and infinities are kept as text
        """
        if not isinstance(name, str) or not name:
            raise TypeError("observe() needs the name of what was measured")
        kept = _json(value, name)
        if len(repr(kept)) > 16 * SHORT:
            raise TypeError(f"observation {name!r} is too long to be read: observe a summary of it")
        self.observations[name] = kept

    def output(
        self,
        name: str,
        value: "bytes | bytearray | memoryview | Path | np.ndarray[Any, Any]",
        *,
        keep: bool = False,
    ) -> None:
        """Keep the sha256 of something that the engine put out: bytes, a file, or the bytes of an array.

        Outputs are what two machines have to agree in for DISCHARGED without an oracle. A name stands for one output.

        keep  when the trial is recorded, put the bytes themselves into the project's store, if it has one
        """
        if not isinstance(name, str) or not name:
            raise TypeError("output() needs the name of what was put out")
        if name in self.outputs:
            raise TypeError(f"output {name!r} stands already: give each output a name of its own")
        if isinstance(value, PurePath):
            value = Path(value).read_bytes()
        elif _kind(value) == "array":
            array: Any = value
            value = f"{array.dtype.str}{list(array.shape)}".encode() + array.tobytes()
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"output {name!r} is {type(value).__name__}: pass bytes, a path or an array")
        digest = self.outputs[name] = hashlib.sha256(value).hexdigest()
        if keep:
            self.artifacts[name] = memoryview(value).nbytes
            if self.keeping:
                with tempfile.NamedTemporaryFile(dir=self.keeping, prefix=".", delete=False) as stream:
                    stream.write(value)
                os.replace(stream.name, self.keeping / digest)

    def skip(self, reason: str) -> NoReturn:
        """End the trial as SKIPPED. A skip supports no level."""
        if not isinstance(reason, str) or not reason:
            raise TypeError("skip() needs a reason")
        raise Skipped(reason)

    def oracle(self, name: str, version: str) -> None:
        """Name the independent implementation that this trial compares with."""
        if not (isinstance(name, str) and name and isinstance(version, str) and version):
            raise TypeError("oracle() takes the implementation's name and its version, both as text")
        if self.oracle_used not in (None, (name, version)):
            raise TypeError(f"a trial has one oracle; {self.oracle_used} is already named")
        self.oracle_used = (name, version)

    def _compare(self, message: str | None) -> None:
        self.comparisons += 1
        if message is not None:
            if self.falsified is None:
                self.falsified = message
            raise Falsified(message)


_folders: set[str] = set()  # of trials, not yet removed
os.register_at_fork(after_in_child=_folders.clear)  # they are the parent's to remove


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        _folders.discard(folder)


@atexit.register
def _remove_all() -> None:
    """Remove what is left because a removal was interrupted, or came while a command still wrote."""
    for folder in sorted(_folders) * 3:
        with suppress(KeyboardInterrupt):
            _remove(folder)


Planting: TypeAlias = Callable[[], AbstractContextManager[None]]


def mutant(function: Callable[[], Iterator[None]]) -> Planting:
    """Mark a generator function as a mutant: it plants one defect, yields once, and takes the defect out again.

    Its docstring is the sentence that a reader sees when the falsifier does not notice the defect, so it must have one.
    """
    if not (function.__doc__ or "").strip():
        raise TypeError(f"mutant {function.__name__} needs a docstring that says which defect it plants")
    planting = contextmanager(function)
    planting.__pv_mutant__ = True  # type: ignore[attr-defined]
    return planting


def is_mutant(candidate: object) -> bool:
    """Whether `candidate` was made by @mutant."""
    return callable(candidate) and getattr(candidate, "__pv_mutant__", False) is True


@contextmanager
def patched(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set `owner.name` to `value` inside the block, then restore it. AttributeError where nothing has that name."""
    original = getattr(owner, name)
    if original is value:
        raise TypeError(f"patched(): {name} is that value already, so no defect would be planted")
    own = getattr(owner, "__dict__", {}).get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is _ABSENT and hasattr(owner, "__dict__"):
            delattr(owner, name)  # it was inherited: a copy left behind would hide later changes of the parent
        else:
            setattr(owner, name, original if own is _ABSENT else own)


_ABSENT = object()


def _named(what: object) -> None:
    if not isinstance(what, str) or not what:
        raise TypeError("say what is compared: the last argument is its name")


def _is_bool(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return isinstance(value, bool) or (numpy is not None and isinstance(value, numpy.bool_))


def _kind(value: object) -> str:
    """The family within which values may be equal; '' for what cannot be compared."""
    numpy = sys.modules.get("numpy")  # a value of numpy's types cannot exist before its import
    if numpy is not None and isinstance(value, numpy.ndarray):
        return "array"
    if value is None:
        return "None"
    if _is_bool(value):
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


def _show(value: object) -> str:
    """Short text; a numpy scalar with the shortest digits of its own precision."""
    text = str(value) if type(value).__module__ == "numpy" and _kind(value) in ("number", "bool") else repr(value)
    return text if len(text) <= 80 else f"{text[:60]} .. ({len(text)} characters)"


def _difference(got: Any, want: Any) -> str | None:
    """None where equal, else where and how the two differ."""
    kind = _kind(want)
    if not kind:
        raise TypeError(f"equal() cannot compare {type(want).__name__}: compare its fields")
    if _kind(got) != kind:
        return f"got {type(got).__name__} {_show(got)}, want {type(want).__name__} {_show(want)}"
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
    return f"got {_show(got)}, want {_show(want)}"


def _bytes_difference(got: bytes, want: bytes) -> str | None:
    if got == want:
        return None
    at = next((i for i, (g, w) in enumerate(zip(got, want, strict=False)) if g != w), min(len(got), len(want)))
    shown = [" ".join(f"{byte:02x}" for byte in side[at : at + 8]) or "the end" for side in (got, want)]
    lengths = f"{len(got)} bytes" if len(got) == len(want) else f"got {len(got)} bytes, want {len(want)}"
    return f"first difference at byte {at}: got {shown[0]}, want {shown[1]} ({lengths})"


def _list_difference(got: Any, want: Any) -> str | None:
    for index, (one, other) in enumerate(zip(got, want, strict=False)):
        found = _difference(one, other)
        if found is not None:
            return f"at [{index}]: {found}" + (f" (lengths {len(got)}, {len(want)})" if len(got) != len(want) else "")
    return None if len(got) == len(want) else f"got {len(got)} elements, want {len(want)}; the common ones agree"


def _mapping_difference(got: Mapping[Any, Any], want: Mapping[Any, Any]) -> str | None:
    for key in want:
        if key not in got:
            return f"key {key!r} is missing"
        found = _difference(got[key], want[key])
        if found is not None:
            return f"at [{key!r}]: {found}"
    extra = [key for key in got if key not in want]
    return f"key {extra[0]!r} is not wanted" if extra else None


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
    return f"{count} of {got.size} elements differ, first at {where}: got {_show(got[at])}, want {_show(want[at])}"


def _json(value: Any, name: str) -> Json:
    kind = _kind(value)
    if type(value).__module__ == "numpy" and kind in ("number", "bool"):
        value = value.item()
    if kind in ("None", "bool", "text"):
        return str(value) if kind == "text" else value
    if kind == "number" and isinstance(value, int):
        if abs(value) > EXACT:
            raise TypeError(f"observation {name!r}: {value} is not exact as a JSON number; observe it as text")
        return int(value)
    if kind == "number" and isinstance(value, float):
        return (
            float(value) if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        )
    if kind == "list" and len(value) <= SHORT:
        return [_json(element, name) for element in value]
    if kind == "mapping" and len(value) <= SHORT:
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"observation {name!r}: the keys of a mapping must be text")
        return {str(key): _json(element, name) for key, element in value.items()}
    if kind in ("list", "mapping"):
        raise TypeError(f"observation {name!r} has {len(value)} elements, more than {SHORT}: observe a summary of it")
    raise TypeError(f"observation {name!r} is {type(value).__name__}: observe numbers, text, or short lists of them")
