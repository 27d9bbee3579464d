"""`apr determinism`: one prompt in every cell of a matrix (engine.cells), and whether all cells give the same bits.

A process has one variant of the kernels, so each pair of a variant and a number of threads is measured in a process of
its own. Where two cells differ, both are run once more to name the first value.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path

import numpy as np

from engine import variants
from engine.cells import F32, LM_HEAD, LOGITS, THREADS, Cell, Key, digest, key_of, planned, unlike_others
from engine.errors import EngineError
from engine.trace_folder import execution_order
from engine.variants import KV_CACHES

CHILD = (sys.executable, "-P", "-m", "engine.cells")
"""The command of a process that measures."""
Stages = Mapping[Key, str]


@dataclass(frozen=True, slots=True)
class Spot:
    """A tensor of a cell."""

    cell: Cell
    key: Key


@dataclass(frozen=True, slots=True)
class NotRun:
    """Cells that were not measured, and why; failed: although they can be run here."""

    cells: tuple[Cell, ...]
    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a matrix.

    measured  the sha256 of each tensor, by cell
    not_run   the cells without
    tensors   how many tensors a cell must have: the stages of all layers, and the logits without a tap
    """

    measured: Mapping[Cell, Stages]
    not_run: tuple[NotRun, ...]
    tensors: int

    @property
    def planned(self) -> int:
        """The cells of the whole matrix."""
        return len(self.measured) + sum(len(one.cells) for one in self.not_run)

    @property
    def verdict(self) -> str:
        """`different`; `equal`, for which nothing may be missing but what cannot be run here; or `not measured`."""
        if self.differing() is not None:
            return "different"
        whole = all(len(stages) == self.tensors for stages in self.measured.values())
        failed = any(one.failed for one in self.not_run)
        return "equal" if len(self.measured) > 1 and whole and not failed else "not measured"

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different, 2 not measured."""
        return {"equal": 0, "different": 1, "not measured": 2}[self.verdict]

    def differing(self) -> tuple[Spot, Spot] | None:
        """The first tensor that differs, in two cells that differ along as few axes as any; None if all agree.

        If a cell's logits differ with and without a tap, it is these two.
        """
        for cell, stages in self.measured.items():
            if stages.get(LM_HEAD) != stages.get(LOGITS):
                return Spot(cell, LM_HEAD), Spot(cell, LOGITS)
        kinds = {cell: digest(stages) for cell, stages in self.measured.items()}
        pairs = [(a, b) for a, b in combinations(kinds, 2) if kinds[a] != kinds[b]]
        if not pairs:
            return None
        a, b = min(pairs, key=lambda pair: pair[0].distance(pair[1]))
        keys = sorted({*self.measured[a], *self.measured[b]}, key=lambda key: execution_order(*key))
        key = next(key for key in keys if self.measured[a].get(key) != self.measured[b].get(key))
        return Spot(a, key), Spot(b, key)


def run(
    model: Path,
    tokens: Sequence[int],
    layers: int,
    variant: str | None,
    tell: Callable[[str], None],
    kv_cache: str = KV_CACHES[0],
    *,
    first: bool = False,
) -> Outcome:
    """Measure every cell that can be run here.

    layers   of the model
    variant  whose cells are wanted, None for all; EngineError for one that is unknown or cannot be run here
    tell     called with a line before the first process starts
    kv_cache what keys and values are kept in
    first    whether to measure no more once two cells differ
    """
    if variant is not None:
        variants.choose(variant)
    cells = [cell for cell in planned() if variant in (None, cell.variant)]
    why = {cell: _refusal(cell) or unlike_others(cell, len(tokens)) for cell in cells}
    not_run = [
        NotRun(tuple(cell for cell in cells if why[cell] == reason), reason)
        for reason in dict.fromkeys(filter(None, why.values()))
    ]
    batches = [list(batch) for _, batch in groupby((cell for cell in cells if not why[cell]), key=_process)]
    tell(f"cells: {sum(map(len, batches))}, processes: {len(batches)}, tokens: {len(tokens)}")
    measured: dict[Cell, Stages] = {}
    left: list[Cell] = []

    def tried(batch: Sequence[Cell]) -> list[Stages] | EngineError:
        so_far = dict(measured)
        if first and Outcome(so_far, (), 0).differing():
            return []
        known = next(map(digest, so_far.values()), None)
        try:
            return start(model, tokens, batch, kv_cache=kv_cache, first=first, known=known)
        except EngineError as error:
            return error

    for threads in THREADS:  # with the first number, one process of each variant compiles what is missing
        part = [batch for batch in batches if batch[0].threads == threads]
        with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) // threads)) as pool:
            for batch, found in zip(part, pool.map(tried, part), strict=True):
                if isinstance(found, EngineError):
                    not_run.append(NotRun(tuple(batch), str(found), failed=True))
                else:
                    measured |= zip(batch, found, strict=not first)
                    left += batch[len(found) :]
    ordered = {cell: measured[cell] for cell in cells if cell in measured}
    if left:
        settled = Outcome(ordered, (), 0).differing() is not None
        reason = "two others differ already" if settled else "its process ended before it"
        not_run.append(NotRun(tuple(left), reason, failed=not settled))
    return Outcome(ordered, tuple(not_run), 3 + 17 * layers + 1)


def tensors_again(
    model: Path, tokens: Sequence[int], outcome: Outcome, spots: tuple[Spot, Spot], kv_cache: str = KV_CACHES[0]
) -> tuple[F32, F32] | None:
    """Both tensors, from processes that run what those of the outcome ran up to there; None if one does not come."""
    found = []
    for spot in spots:
        before = [cell for cell in outcome.measured if _process(cell) == _process(spot.cell)]
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "tensor.npy"
                start(model, tokens, before[: before.index(spot.cell) + 1], keep=(spot.key, file), kv_cache=kv_cache)
                found.append(np.load(file))
        except (EngineError, FileNotFoundError):  # the process failed, or its cell has no such tensor
            return None
    return found[0], found[1]


def start(
    model: Path | str,
    tokens: Sequence[int],
    cells: Sequence[Cell],
    *,
    keep: tuple[Key, Path] | None = None,
    kv_cache: str = KV_CACHES[0],
    first: bool = False,
    known: str | None = None,
) -> list[Stages]:
    """Measure cells of one variant and number of threads in a process of their own; raises EngineError if it fails.

    keep   a tensor of the last cell, and the file for it
    first  whether the first cell that differs is the last that is measured: from `known`, the sha256 of a cell of
           another process, or else from the first cell of this one
    """
    variant, threads = _process(cells[0])
    request = {
        "model": str(model),
        "tokens": list(tokens),
        "kv_cache": kv_cache,
        "cells": [asdict(cell) for cell in cells],
        "silent_first": threads % 2 == 0,  # as the first work of a process, both are tried
        "first": first,
        "known": known,
        "wanted": keep and list(keep[0]),
        "file": keep and str(keep[1]),
    }
    # by `env`: variant and threads are settled when the kernels are imported, whoever does it
    # threads that wait sleep at once, since there may be more of them than cores
    settings = [f"{variants.VARIABLE}={variant}", f"NUMBA_NUM_THREADS={max(THREADS)}", "GOMP_SPINCOUNT=0"]
    done = subprocess.run(
        ["env", *settings, *CHILD], input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False
    )
    where = f"{variant}, threads: {threads}"
    if done.returncode == 2 and done.stdout:
        raise EngineError(json.loads(done.stdout)["error"], where=where)
    if done.returncode != 0:
        raise EngineError(f"its process ended with {done.returncode}", where=where)
    return [{key_of(name): value for name, value in one.items()} for one in json.loads(done.stdout)["stages"]]


def _refusal(cell: Cell) -> str:
    """Why this CPU cannot run a cell; '' if it can."""
    missing = variants.VARIANTS[cell.variant].needs - variants.features()
    return f"this CPU cannot run the variant {cell.variant}: it lacks {', '.join(sorted(missing))}" if missing else ""


def _process(cell: Cell) -> tuple[str, int]:
    """What cells of one process have in common."""
    return cell.variant, cell.threads
