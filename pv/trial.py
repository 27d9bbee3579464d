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

Every `check`, `equal`, `at_most` and `close` counts as one comparison; a trial that made none is ERRORED: it observed
nothing. A failed comparison cannot be taken back: catching its exception does not save the trial.
A live trial has to start a command with `trial.model.path` among its arguments (`trial.start`), or it is ERRORED.
No trial knows whether a defect is planted in it; one that asks is ERRORED.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from pv.account import account_of, open_account
from pv.canonical import Json
from pv.comparing import (
    difference,
    distance,
    kind_of,
    plain,
    require_bool,
    require_limit,
    require_name,
    require_two,
    show,
)
from pv.observation import bytes_of, observation, put_aside
from pv.patching import patched as patched
from pv.planted import Finished as Finished
from pv.planted import start
from pv.trial_folder import temporary_folder

if TYPE_CHECKING:
    import numpy as np

__tracebackhide__ = True  # where a unit test of a falsifier fails, pytest shows its author's lines alone
PEEKED = "the falsifier asked whether a defect is planted: it could be red for that alone"
PEEKED_HINT = "run commands by trial.start, which plants it there; say by trial.require what no mutant may break"


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


class Trial:
    """One attempt to break one promise.

    seed    the only source of chance: `rng` is numpy's PCG64 of it
    model   the file to try, or None for an algorithm trial
    limit   the limit of the tolerance that the contract states, or None; read it as `tolerance`
    folder  an empty folder of this trial's own, removed with the trial

    Whether a defect is planted (`mutant`, 'module:function') is not for a falsifier to know: `start` and `require` are
    for what it would want to know it for. What a trial came to so far can be read, and changes by its methods alone.
    """

    __slots__ = ("__weakref__", "_limit", "_model", "_seed")

    def __init__(
        self,
        *,
        seed: int,
        model: ModelFile | None = None,
        mutant: str | None = None,
        limit: float | None = None,
        keeping: Path | None = None,
    ) -> None:
        self._seed, self._model, self._limit = seed, model, limit
        open_account(self, mutant, keeping)

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def model(self) -> ModelFile | None:
        return self._model

    @property
    def limit(self) -> float | None:
        return self._limit

    @property
    def mutant(self) -> NoReturn:
        account_of(self).spoil(PEEKED)
        raise AttributeError(f"{PEEKED}\n  hint: {PEEKED_HINT}")

    @property
    def comparisons(self) -> int:
        return account_of(self).comparisons

    @property
    def falsified(self) -> str | None:
        """Message of the first comparison that failed."""
        return account_of(self).falsified

    @property
    def observations(self) -> dict[str, Json]:
        return dict(account_of(self).observations)

    @property
    def outputs(self) -> dict[str, str]:
        return dict(account_of(self).outputs)

    @property
    def artifacts(self) -> dict[str, int]:
        """Sizes in bytes of the outputs that are to be kept."""
        return dict(account_of(self).artifacts)

    @property
    def oracle_used(self) -> tuple[str, str] | None:
        return account_of(self).oracle_used

    @property
    def rng(self) -> "np.random.Generator":
        """Random numbers; the same seed gives the same on every machine."""
        account = account_of(self)
        if account.rng is None:
            import numpy as np

            account.rng = np.random.Generator(np.random.PCG64(self._seed))
        return account.rng

    @property
    def folder(self) -> Path:
        """A temporary folder, made at the first use."""
        account = account_of(self)
        if account.folder is None:
            account.folder = temporary_folder(self)
        return account.folder

    @property
    def tolerance(self) -> float:
        """The limit that the contract states for this test, so that a claim and its trial cannot disagree."""
        if self._limit is None:
            raise TypeError("the contract states no tolerance for this test: write {metric, limit, because}")
        account_of(self).measured = True
        return self._limit

    # comparisons

    def check(self, ok: "bool | np.bool_", message: str) -> None:
        """Falsify with `message` unless `ok`."""
        require_bool("check", ok, message)
        self._compare(None if ok else message)

    def equal(self, got: object, want: object, what: str) -> None:
        """Falsify unless `got` equals `want`: numbers, bools, text, bytes, paths, None, sets, arrays, lists, mappings.

        Numbers and arrays compare as IEEE values: NaN equals nothing, -0.0 equals 0.0. To compare bits, pass bytes
        (`array.tobytes()`). Arrays must agree in dtype and shape. A list equals a tuple of the same elements.
        TypeError for an array or a container and itself: they cannot differ.
        """
        require_name(what)
        found = difference(got, want)
        require_two("equal", got, want)
        self._compare(None if found is None else f"{what}: {found}")

    def at_most(self, value: "float | np.number[Any]", limit: "float | np.number[Any]", what: str) -> None:
        """Falsify unless value <= limit. NaN falsifies; the limit must be finite: an infinite one forbids nothing."""
        require_name(what)
        for name, number in (("value", value), ("limit", limit)):
            if kind_of(number) != "number" or isinstance(number, complex):
                raise TypeError(f"at_most() takes real numbers: the {name} is {type(number).__name__}")
        value, limit = plain(value), plain(limit)
        if not math.isfinite(limit):
            raise TypeError(f"at_most() needs a finite limit, not {limit}")
        self._compare(None if value <= limit else f"{what}: {show(value)} is not at most {show(limit)}")

    def close(
        self,
        got: "float | np.number[Any] | np.ndarray[Any, Any]",
        want: "float | np.number[Any] | np.ndarray[Any, Any]",
        limit: float,
        what: str,
        *,
        relative: float = 0.0,
    ) -> None:
        """Falsify unless |got - want| <= limit + relative * |want|, for numbers or for each element of two arrays.

        They must agree in shape and in the kind of their dtype: float32 is compared with float64, not with int32.
        NaN is close to nothing, not to NaN either; an infinity to itself only. The message and an observation name the
        worst coordinate: the element that is furthest beyond its limit, or else the first NaN.
        """
        require_name(what)
        require_limit("limit", limit)
        require_limit("relative", relative)
        found = distance(got, want, float(limit), float(relative))
        require_two("close", got, want)
        if found is not None and found[1]:
            self.observe(f"{what}: worst", found[1])
        self._compare(None if found is None else f"{what}: {found[0]}")

    def require(self, ok: "bool | np.bool_", message: str) -> None:
        """Falsify with `message` unless `ok`; where a defect is planted, the trial is ERRORED instead.

        For what must hold before the promise can be tried at all: a mutant that breaks it would be red for the wrong
        reason. It counts as no comparison.
        """
        require_bool("require", ok, message)
        if ok:
            return
        account = account_of(self)
        if account.mutant is not None:
            account.spoil(f"mutant {account.mutant} is red for another reason than its promise: {message}")
        account.falsified = account.falsified or message
        raise Falsified(message)

    def start(
        self,
        script: str,
        target: str,
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
    ) -> Finished:
        """Run an installed console script to its end, in the trial's folder if no other is named.

        script  its name: 'apr'; target  what it calls, by which a planted defect reaches it: 'engine.cli:main'

        RuntimeError where it would run another copy of the code; a planted defect that makes the command crash makes
        the trial ERRORED: it broke the program, not the promise.
        """
        account = account_of(self)
        folder, mutant = cwd or self.folder, account.mutant
        done = start(script, target, arguments, mutant=mutant, cwd=folder, env=env or {}, timeout=timeout)
        if account.mutant is not None and done.crashed:
            account.spoil(f"mutant {account.mutant} makes {script} crash: {done.last_line}")
            raise RuntimeError(account.invalid)
        return done

    # what is kept, and what is said beside

    def observe(self, name: str, value: object) -> None:
        """Keep what was measured, for the evidence. The last value under a name stands.

        value  None, bool, number, text, or short lists and mappings of them; NaN and infinities are kept as text
        """
        if not isinstance(name, str) or not name:
            raise TypeError("observe() needs the name of what was measured")
        account_of(self).observations[name] = observation(value, name)

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
        account = account_of(self)
        if name in account.outputs:
            raise TypeError(f"output {name!r} stands already: give each output a name of its own")
        data = bytes_of(value, name)
        digest = account.outputs[name] = hashlib.sha256(data).hexdigest()
        if keep:
            account.artifacts[name] = len(data)
            if account.keeping:
                put_aside(data, account.keeping / digest)

    def skip(self, reason: str) -> NoReturn:
        """End the trial as SKIPPED. A skip supports no level."""
        if not isinstance(reason, str) or not reason:
            raise TypeError("skip() needs a reason")
        raise Skipped(reason)

    def oracle(self, name: str, version: str) -> None:
        """Name the independent implementation that this trial compares with."""
        if not (isinstance(name, str) and name and isinstance(version, str) and version):
            raise TypeError("oracle() takes the implementation's name and its version, both as text")
        account = account_of(self)
        if account.oracle_used not in (None, (name, version)):
            raise TypeError(f"a trial has one oracle; {account.oracle_used} is already named")
        account.oracle_used = (name, version)

    def _compare(self, message: str | None) -> None:
        account = account_of(self)
        if account.over:
            raise RuntimeError("this trial is over: what is compared now is compared for nobody")
        account.compared(message)
        if message is not None:
            raise Falsified(message)


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
