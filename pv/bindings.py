"""Binding registries: which function of a crate implements which equation of which contract.

    version: 1.0.0
    target_crate: kernels
    bindings:
    - contract: rmsnorm-kernel-v1.yaml
      equation: rmsnorm
      module_path: kernels::norm
      function: rmsnorm
      status: implemented

Public repositories keep one per crate, as binding.yaml among their contracts or in a folder below them. What a
registry says of a function is somebody's word: that the function exists, nobody looks at here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pv import yaml_loader
from pv.contract import Entry, UnreadableError, read_bytes
from pv.facts import Facts, Mention
from pv.shapes import described, nearest
from pv.yaml_loader import Position, YamlError

NAME = "binding.yaml"
STATUSES = ("implemented", "partial", "not_implemented", "pending")


@dataclass(frozen=True, slots=True)
class Binding:
    """One entry of a registry; `stem` is the name of its contract's file without folders and suffix.

    found  whether a file of that name lies where the registry does, or in the folder around that
    """

    contract: Mention
    equation: Mention
    status: Mention
    stem: str
    found: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the form of a registry, and where."""

    at: Position
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Registry:
    """A registry as read: its entries, and what of it could not be read. Each file is one value, read once in a run."""

    path: Path
    bindings: tuple[Binding, ...]
    faults: tuple[Fault, ...]


def read_registry(path: Path) -> Registry:
    """The registry in a file. What is malformed in it is among its faults; UnreadableError for no file at all."""
    data = read_bytes(path)
    try:
        document = yaml_loader.load(data, str(path))
    except YamlError as error:
        return Registry(path, (), (Fault(error.at, str(error.args[0]), error.hint),))
    value = document.value
    items = value.get("bindings") if isinstance(value, dict) else None
    if not isinstance(items, list):
        what = described(items if isinstance(value, dict) else value)
        at = document.position(("bindings",))
        wanted = "a registry has a list of bindings" if isinstance(value, dict) else "a registry is a mapping"
        return Registry(path, (), (Fault(at, f"{wanted}, not {what}"),))
    bindings, faults = [], []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            at = document.position(("bindings", index))
            faults.append(Fault(at, f"binding {index} must be a mapping, not {described(item)}"))
            continue
        entry = Entry(document, ("bindings", index), item)
        found = list(_faults(entry))
        faults += found
        if not found:
            bindings.append(_binding(entry, path.parent))
    return Registry(path, tuple(bindings), tuple(faults))


def registries(
    contracts: Sequence[Path], walked: Iterable[Path], chosen: Path | None
) -> tuple[list[Registry], list[tuple[str, str]]]:
    """The registries of a run, and (path, reason) of those that cannot be read.

    They are the chosen one, else those among the walked files and those beside the contracts. A file that was measured
    as a contract is none.
    """
    found: dict[str, Path] = {}
    if chosen is None:
        beside = dict.fromkeys(contract.parent / NAME for contract in contracts)
        for file in (*(file for file in walked if file.name == NAME), *(file for file in beside if file.is_file())):
            found.setdefault(os.path.realpath(file), file)
        for contract in contracts:
            if contract.name == NAME:
                found.pop(os.path.realpath(contract), None)
    known, declined = [], []
    for file in found.values() if chosen is None else [chosen]:
        try:
            known.append(read_registry(file))
        except UnreadableError as error:
            declined.append((str(file), str(error.args[0])))
    return known, declined


def attached(contracts: Sequence[Facts], known: Sequence[Registry], *, chosen: bool) -> list[Facts]:
    """The contracts with the registries that count for them: a chosen one for all, any other where it lies near.

    Near is the contract's own folder, any folder below it and any around it.
    """
    if not known:
        return list(contracts)
    folders = {registry.path: Path(os.path.realpath(registry.path)).parent for registry in known}

    def near(contract: Facts) -> Iterator[Registry]:
        own = Path(os.path.realpath(contract.path)).parent
        for registry in known:
            folder = folders[registry.path]
            if chosen or folder.is_relative_to(own) or own.is_relative_to(folder):
                yield registry

    return [replace(contract, registries=tuple(near(contract))) for contract in contracts]


def _faults(entry: Entry) -> Iterator[Fault]:
    def fault(key: str, message: str, hint: str = "") -> Fault:
        return Fault(entry.document.position(entry.at(key)), message, hint)

    for key in ("contract", "equation", "status"):
        if not entry.text(key).strip():
            yield fault(key, f"binding {entry.place[-1]} lacks {key!r}")
    status = entry.text("status").strip()
    if status and status not in STATUSES:
        yield fault("status", f"{status!r} is no status of a binding", nearest(status, STATUSES))
    if status == "implemented" and not entry.text("function").strip() and not entry.text("module_path").strip():
        yield fault("status", "is implemented, and names neither function nor module_path")


def _binding(entry: Entry, folder: Path) -> Binding:
    def mention(key: str) -> Mention:
        return Mention(entry.text(key).strip(), entry.document.position(entry.at(key)))

    contract = mention("contract")
    name = Path(contract.name).name
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    places = [place / file for place in (folder, folder.parent) for file in (f"{stem}.yaml", f"{stem}.yml")]
    found = any(os.path.isfile(place) for place in places)  # unlike Path.is_file, false for a name with a NUL in it
    return Binding(contract, mention("equation"), mention("status"), stem, found)
