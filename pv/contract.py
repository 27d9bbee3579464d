"""A contract as a value: what it promises, and the falsification tests that try to break it.

Reading is lenient where rules are strict: a value of the wrong type reads as if it were missing, pv.rules reports it,
and the document keeps every key, known or not, with its place.
"""

import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pv import yaml_loader
from pv.errors import PvError
from pv.shapes import described, reads
from pv.slips import slips
from pv.vocabulary import CONTRACT, FALSIFICATION_TEST, SPELLINGS
from pv.words import ROLES
from pv.yaml_loader import Document, Oddity, Position, YamlError
from pv.yaml_loader import Path as Place

TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
"""module:function"""
MAX_STRAYS = 500
"""How many unknown keys of a test are compared with falsifiers; who writes more has not misspelt one."""
PIECE = 2**16
"""Bytes that are read at a time: memory is taken for all that are asked for, and most contracts are short."""


class ContractError(PvError):
    """A file that holds no contract at all: unreadable, empty, no YAML, or no mapping."""


class UnreadableError(ContractError):
    """A file that cannot be read, or that holds nothing: neither accepted nor rejected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping in the document, with its place."""

    document: Document
    place: Place
    raw: Mapping[str, Any]

    def key(self, name: str) -> str:
        """The spelling of `name` that has a value, else one that is there without (null), else `name` itself."""
        if self.raw.get(name) is not None:
            return name
        used = [spelling for spelling in SPELLINGS.get(name, ()) if spelling in self.raw]
        return next((spelling for spelling in used if self.raw[spelling] is not None), used[0] if used else name)

    def at(self, name: str) -> Place:
        """Place of a key's value. One that is missing has no position of its own, and takes the entry's."""
        return (*self.place, self.key(name))

    def text(self, name: str) -> str:
        """The text under a key, as it was written where it is a number or a boolean. Empty if missing or no scalar."""
        key = self.key(name)
        value = self.raw.get(key)
        return value if isinstance(value, str) else _text(self.document, (*self.place, key), value)

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts in the list under a key; items that are none are left out."""
        key = self.key(name)
        items = self.raw.get(key)
        if not isinstance(items, list):
            return ()
        found = [_text(self.document, (*self.place, key, index), item) for index, item in enumerate(items)]
        return tuple(text for text in found if text)

    def entry(self, name: str) -> "Entry | None":
        """The mapping under a key."""
        raw = self.raw.get(name)
        return Entry(self.document, (*self.place, name), raw) if isinstance(raw, dict) else None

    def entries(self, name: str) -> Iterator["Entry"]:
        """The mappings in the list under a key; items that are none are left out."""
        items = self.raw.get(name)
        for index, raw in enumerate(items if isinstance(items, list) else ()):
            if isinstance(raw, dict):
                yield Entry(self.document, (*self.place, name, index), raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorReference:
    """The measured floor that a limit is held to (pv.floor): at least that, at most `times` as much.

    times is None where the contract gives no number.
    """

    file: str
    stage: str
    arithmetic: str
    kind: str
    times: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a measurement may go, and why that far; limit is None where the contract gives no number."""

    metric: str
    limit: float | None
    because: str
    floor: FloorReference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FalsificationTest:
    """One promise, and what tries to break it.

    index       place in the list falsification_tests
    falsifiers  role -> 'module:function'
    covers      'document' if the promise is about the whole contract; None if about what the test names
    status      the level that the contract states, as written but for blanks around it; None where it states none
    ours        whether it is written for pv: a foreign one has no falsifiers, nor a key that is a slip of it
    raw         the mapping as read, with every key
    """

    id: str
    index: int
    position: Position
    entry: Entry
    rule: str
    prediction: str
    test: str
    if_fails: str
    binds_to: str
    obligations: tuple[str, ...]
    falsifiers: Mapping[str, str]
    mutants: tuple[str, ...]
    models: tuple[str, ...]
    tolerance: Tolerance | None
    covers: str | None
    status: str | None
    ours: bool

    @property
    def line(self) -> int:
        return self.position.line

    @property
    def raw(self) -> Mapping[str, Any]:
        return self.entry.raw

    @property
    def bound(self) -> bool:
        """Whether its falsifiers can be planned; by one role, target or missing model at fault none of them is run."""
        return bool(self.falsifiers) and all(
            role in ROLES and TARGET.fullmatch(target) and (role == ROLES[0] or self.models)
            for role, target in self.falsifiers.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A contract; `stem`, the file's name without its suffix, is what it is called everywhere.

    kind         metadata.kind; 'kernel' where it is not given, as public tools have it
    equations    by name, as read; a list of equations is named by their ids
    obligations  as read
    """

    path: Path
    stem: str
    document: Document
    kind: str
    version: str
    equations: Mapping[str, Any]
    obligations: tuple[Mapping[str, Any], ...]
    tests: tuple[FalsificationTest, ...]

    @property
    def ours(self) -> bool:
        """Whether a test is written for pv; a contract without one is foreign, and held to what its own tool asks."""
        return any(test.ours for test in self.tests)

    @property
    def root(self) -> Entry:
        return Entry(self.document, (), self.document.value)

    def equation_entries(self) -> Iterator[tuple[str, Entry]]:
        """The equations that are mappings, by name."""
        if equations := self.root.entry("equations"):
            for name in equations.raw:
                if entry := equations.entry(name):
                    yield name, entry
        for index, entry in enumerate(self.root.entries("equations")):
            yield entry.text("id") or f"equation_{index}", entry


@functools.lru_cache(maxsize=4096)
def _means_falsifiers(key: str) -> bool:
    """Whether PV-KEY-001 takes a key of a test for a slip of falsifiers."""
    return slips(key, "falsifiers") is not None


def not_applicable(obligation: Entry) -> bool:
    """Whether a proof obligation says that it is asked of nothing; that it needs a reason is another matter."""
    return obligation.text("applies_to").strip().lower() == "not_applicable"


def read_contract(path: Path, data: bytes | None = None) -> Contract:
    """The contract in a file. ContractError if it holds none, or has a key twice: what would count then?

    data  its bytes, where they are known: then nothing is read
    """
    try:
        document = yaml_loader.parse(read_bytes(path) if data is None else data, str(path))
        if document.duplicates:
            yaml_loader.load(document.text, str(path))  # which says so
        contract = make_contract(path, document)
    except YamlError as error:
        raise ContractError(str(error.args[0]), where=error.where, hint=error.hint) from None
    if odd := misread(contract):
        raise ContractError(odd.message, where=f"{path}:{odd.at.line}:{odd.at.column}", hint=odd.hint)
    return contract


def misread(contract: Contract) -> Oddity | None:
    """The first merge key or tag that other readers may understand where pv reads; in a contract of ours, anywhere."""
    odd = contract.document.oddities
    return next((each for each in odd if contract.ours or reads(CONTRACT, each.path)), None) if odd else None


def read_bytes(path: Path) -> bytes:
    """The file's bytes, but no more than one over the limit. UnreadableError where that fails.

    A pipe with a name is not opened, for that may wait for ever; one that a shell or a process opened is (/dev/fd/N).
    """
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode) and not os.path.realpath(path).startswith("/proc/"):
            raise UnreadableError("is not a regular file: a named pipe is not read", where=str(path))
        with path.open("rb", buffering=0) as stream:
            data = bytearray()
            whole = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            while part := stream.read(wanted := min(PIECE, yaml_loader.MAX_BYTES + 1 - len(data))):
                data += part
                if whole and len(part) < wanted:
                    break  # a file that gives less than it was asked for is at its end; a pipe may only be slow
            return bytes(data)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"cannot be read: {reason}", where=str(path)) from None


def make_contract(path: Path, document: Document) -> Contract:
    """The contract in a document. ContractError if that is no mapping."""
    value = document.value
    if value is None:
        raise UnreadableError("holds no contract: it is empty", where=str(path))
    if not isinstance(value, dict):
        at = document.position(())
        what = f"a contract is a mapping with metadata and equations, not {described(value)}"
        raise ContractError(what, where=f"{path}:{at.line}:{at.column}")
    root = Entry(document, (), value)
    metadata = root.entry("metadata") or Entry(document, ("metadata",), {})
    equations = value.get("equations")
    if isinstance(equations, list):
        equations = {
            entry.text("id") or f"equation_{i}": entry.raw for i, entry in enumerate(root.entries("equations"))
        }
    registry = metadata.raw.get("registry") is True
    kind = metadata.text("kind") or "kernel"
    return Contract(
        path=path,
        stem=path.stem,
        document=document,
        kind="registry" if registry and kind == "kernel" else kind,
        version=metadata.text("version"),
        equations=equations if isinstance(equations, dict) else {},
        obligations=tuple(entry.raw for entry in root.entries("proof_obligations")),
        tests=tuple(_test(entry) for entry in root.entries("falsification_tests")),
    )


def _test(entry: Entry) -> FalsificationTest:
    index = entry.place[-1]
    assert isinstance(index, int)
    falsifiers = entry.entry("falsifiers")
    tolerance = entry.entry("tolerance")
    return FalsificationTest(
        id=entry.text("id"),
        index=index,
        position=entry.document.position(entry.at("id")),
        entry=entry,
        rule=entry.text("rule"),
        prediction=entry.text("prediction"),
        test=entry.text("test"),
        if_fails=entry.text("if_fails"),
        binds_to=entry.text("binds_to"),
        obligations=entry.texts("obligations"),
        falsifiers={role: target for role in falsifiers.raw if (target := falsifiers.text(role))} if falsifiers else {},
        mutants=entry.texts("mutants"),
        models=entry.texts("models"),
        tolerance=Tolerance(
            metric=tolerance.text("metric"),
            limit=_number(tolerance, "limit"),
            because=tolerance.text("because"),
            floor=_floor(tolerance.entry("floor")),
        )
        if tolerance
        else None,
        covers=entry.text("covers") or None,
        status=entry.text("status").strip() or entry.text("status") or None,
        ours=_is_ours(entry.raw),
    )


def _floor(entry: Entry | None) -> FloorReference | None:
    if entry is None:
        return None
    return FloorReference(
        file=entry.text("file"),
        stage=entry.text("stage"),
        arithmetic=entry.text("arithmetic"),
        kind=entry.text("kind") or "cumulative",
        times=_number(entry, "times"),
    )


def _number(entry: Entry, key: str) -> float | None:
    value = entry.raw.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_ours(test: Mapping[str, Any]) -> bool:
    if "falsifiers" in test:
        return True
    strays = (key for key in test if key not in FALSIFICATION_TEST.spelt and key not in FALSIFICATION_TEST.free)
    return any(map(_means_falsifiers, islice(strays, MAX_STRAYS)))


def _text(document: Document, place: Place, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        return ""
    source = document.source(place)
    return source if source is not None else str(value)  # behind an alias there is no source
