"""Diff of two tensor files or two trace folders: what may be compared, and the comparison of each pair."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import aprt
from engine.compare import compare
from engine.diff_report import DiffReport, Row
from engine.errors import EngineError
from engine.stages import ORDER
from engine.trace_folder import MANIFEST, Entry, Manifest, execution_order, read_manifest


@dataclass(frozen=True, slots=True)
class _Item:
    """One tensor file: where it lies, what it is said to be, and how many values it has."""

    path: Path
    file: str
    stage: str | None
    layer: int | None
    shape: tuple[int, ...] | None
    count: int


@dataclass(frozen=True, slots=True)
class _Side:
    """One operand: a tensor file (a single item, under the key "") or a folder (items by their path in it)."""

    path: Path
    is_folder: bool
    manifest: Manifest | None
    items: dict[str, _Item]


def diff(a: Path, b: Path, limit: int = 5) -> DiffReport:
    """Compare two tensor files, or two trace folders, with B as the reference.

    limit  how many differences a row lists at most, from the front and by size

    Refuses, with the reasons in the report, what cannot be read or must not be compared: a file and a folder, other
    tokens or architectures, other stages, layers, sizes or shapes, a folder with files or a manifest that the other
    has not, and what holds no values.
    """
    sides, refusals = [], []
    for path in (a, b):
        try:
            sides.append(_side(path))
        except EngineError as error:
            refusals.append(error)
        except OSError as error:  # a folder that may not be entered
            refusals.append(EngineError(f"cannot be read: {error.strerror}", where=str(path)))
    if refusals:
        return DiffReport(a=a, b=b, refusals=tuple(refusals))
    left, right = sides
    manifests = (left.manifest, right.manifest)
    refusals = list(_refusals(left, right))
    if refusals:
        return DiffReport(a=a, b=b, manifests=manifests, refusals=tuple(refusals))
    rows = []
    for key, x in left.items.items():
        y = right.items[key]
        shape = x.shape or y.shape
        comparison = compare(aprt.read_tensor(x.path).values, aprt.read_tensor(y.path).values, shape=shape, limit=limit)
        rows.append(Row(x.file, x.stage or y.stage, x.layer, shape, comparison))
    return DiffReport(a=a, b=b, manifests=manifests, rows=tuple(rows), notes=tuple(_notes(left, right)))


def _side(path: Path) -> _Side:
    """Look at one operand; raises EngineError when it, or a file in it, cannot be a tensor."""
    if not path.exists():
        raise EngineError("no such file or folder", where=str(path), hint="write one with `apr trace`")
    if not path.is_dir():
        return _file(path)
    if (path / MANIFEST).exists():
        manifest = read_manifest(path)
        items = [_listed(path / entry.file, entry) for entry in manifest.tensors]
    else:
        manifest = None
        items = [_unlisted(found, found.relative_to(path).as_posix()) for found in _walk(path)]
        items.sort(key=lambda item: execution_order(item.stage or item.path.stem, item.layer))
    if not items:
        raise EngineError("no tensor files in this folder", where=str(path), hint="write some with `apr trace`")
    return _Side(path, True, manifest, {item.file: item for item in items})


def _file(path: Path) -> _Side:
    """A single file, with the manifest that lists it if it still lies in its trace folder."""
    place = path.absolute()
    for folder in (place.parent, place.parent.parent):
        try:
            manifest = read_manifest(folder)
        except EngineError:  # none, or another tool's: the notes will say that no manifest lists the file
            continue
        for entry in manifest.tensors:
            if folder / entry.file == place:
                return _Side(path, False, manifest, {"": _listed(path, entry)})
    return _Side(path, False, None, {"": _unlisted(path, path.name)})


def _walk(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.bin")
    yield from folder.glob("layer-*/*.bin")


def _listed(path: Path, entry: Entry) -> _Item:
    """A file that a manifest lists: it must hold what the manifest says."""
    head = aprt.header(path)
    if head.layer != entry.layer:
        raise EngineError(
            f"the header says {_owner(head.layer)}, the manifest {_owner(entry.layer)}",
            where=f"{path}: offset 4",
            hint="write the folder again with `apr trace`",
        )
    if head.dim_product != math.prod(entry.shape):
        raise EngineError(
            f"the header announces {head.dim_product} values, the manifest a tensor of shape {entry.shape}",
            where=f"{path}: offset 8",
            hint="write the folder again with `apr trace`",
        )
    return _Item(path, entry.file, entry.stage, entry.layer, entry.shape, head.dim_product)


def _unlisted(path: Path, file: str) -> _Item:
    """A file without a manifest: its folder's name, if it is layer-<N>, must agree with its header."""
    head = aprt.header(path)
    named = re.fullmatch(r"layer-(\d{1,10})", path.absolute().parent.name)
    if named and head.layer != int(named[1]):
        raise EngineError(
            f"the header says {_owner(head.layer)}, the folder's name {named[0]}",
            where=f"{path}: offset 4",
            hint="put the file where it belongs, or write it again with `apr trace`",
        )
    return _Item(path, file, path.stem if path.stem in ORDER else None, head.layer, None, head.dim_product)


def _owner(layer: int | None) -> str:
    return "the whole model" if layer is None else f"layer {layer}"


def _refusals(left: _Side, right: _Side) -> Iterator[EngineError]:
    """Why the two must not be compared; what follows from an earlier reason is not said again."""
    if left.is_folder != right.is_folder:
        names = ("a folder" if side.is_folder else "a file" for side in (left, right))
        yield EngineError("A is {}, B is {}".format(*names), hint="give two files or two folders")
        return
    a, b = left.manifest, right.manifest
    if left.is_folder and (a is None) != (b is None):
        yield EngineError(
            f"no {MANIFEST} in this folder, but the other has one: its tokens and shapes cannot be checked",
            where=str(left.path if a is None else right.path),
            hint="the trace was interrupted, or comes from another tool: write it again with `apr trace`",
        )
        return
    if a is not None and b is not None:
        if a.tokens != b.tokens:
            yield EngineError(
                f"other tokens: {len(a.tokens)} in A, {len(b.tokens)} in B, {_first_difference(a.tokens, b.tokens)}",
                hint="trace the same prompt with both",
            )
            return
        if a.model.architecture != b.model.architecture:
            yield EngineError(f"other architectures: {a.model.architecture!r} in A, {b.model.architecture!r} in B")
            return
    for name, side, other in (("A", left, right), ("B", right, left)):
        alone = [file for file in side.items if file not in other.items]
        if alone:
            more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
            yield EngineError(
                f"only {name} has {', '.join(alone[:5])}{more}", hint="trace the same stages and layers with both"
            )
    reasons = [
        reason
        for key, item in left.items.items()
        if key in right.items and (reason := _mismatch(item, right.items[key]))
    ]
    if reasons:
        more = f" (and {len(reasons) - 1} more tensors do not match)" if len(reasons) > 1 else ""
        yield EngineError(f"{reasons[0]}{more}")


def _first_difference(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    for position, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return f"at position {position} {x} and {y}"
    return "the longer goes on where the shorter ends"


def _mismatch(a: _Item, b: _Item) -> str:
    """Why two files are no pair, or an empty text."""
    if a.stage is not None and b.stage is not None and a.stage != b.stage:
        return f"other stages: {a.stage} in A, {b.stage} in B"
    name = a.stage or b.stage or a.file
    if a.layer != b.layer:
        return f"{name} belongs to {_owner(a.layer)} in A, to {_owner(b.layer)} in B"
    if a.count != b.count:
        return f"{name} of {_owner(a.layer)} has {a.shape or a.count} values in A, {b.shape or b.count} in B"
    if a.shape is not None and b.shape is not None and a.shape != b.shape:
        return f"{name} of {_owner(a.layer)} has the shape {a.shape} in A, {b.shape} in B"
    return "" if a.count else f"{name} of {_owner(a.layer)} holds no values"


def _notes(left: _Side, right: _Side) -> Iterator[str]:
    """What could not be checked."""
    bare = [side.path for side in (left, right) if side.manifest is None]
    if bare:
        yield f"tokens and shapes were not checked: no {MANIFEST} lists {' and '.join(map(str, bare))}"
    unnamed = [item.file for side in (left, right) for item in side.items.values() if item.stage is None]
    if unnamed:
        yield f"stages were not checked: no stage has the name {', '.join(dict.fromkeys(unnamed))}"
