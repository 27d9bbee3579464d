"""The cells of the determinism matrix: ways to run one prompt that must give the same bits, and what one cell hashes.

An axis of the matrix, and what can only be seen along it:

    variant   a variant of the kernels that sums in other lanes, contracts or splits a fused multiply-add, or converts
              float16 in another way
    threads   a reduction that is shared out to threads, or a race between them (3: tasks that cannot be shared evenly)
    chunk     kernels for one token, for few (3: not the 4 of a tile) and for many that sum in another order; attention
              that treats the first chunk, or keys from the cache, apart; a wrong position behind a chunk
    mode      prefill: all tokens as a prompt; decode: the first half as a prompt, then token after token through the
              cache, as text is generated: a difference between what a prompt and what generation writes or reads
    start     fresh: arrays of its own, which the system hands out as zeros, and each (chunk, mode) once as the very
              first work of its process; warm: the arrays in which another prompt has run, longer than this one: reading
              a slot of the cache, an entry of a buffer, or memory of a kernel that nobody wrote this time

Each cell runs the prompt twice, traced and not, since users run what is not traced.
"""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.leaving import leave
from engine.model import Model
from engine.trace_folder import execution_order
from engine.variants import KV_CACHES, VARIANTS, choose

if TYPE_CHECKING:
    from engine.fast import FastPath

F32 = NDArray[np.float32]
Key = tuple[str, int | None]
"""A stage and its layer, None for the whole model."""

THREADS = (1, 2, 3)
CHUNKS = (None, 16, 3, 1)
"""Tokens of a prompt that are computed at a time; None: all of them."""
PREFILL, DECODE = MODES = ("prefill", "decode")
FRESH, WARM = STARTS = ("fresh", "warm")
LM_HEAD: Key = ("lm_head", None)
LOGITS: Key = ("logits", None)
"""What the untraced run answers, beside the stages of the traced one: it has to be what lm_head is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way to run the prompt."""

    variant: str
    threads: int
    start: str
    chunk: int | None
    mode: str

    def __str__(self) -> str:
        chunk = "whole prompt" if self.chunk is None else f"chunks of {self.chunk}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.variant}, {threads}, {chunk}, {self.mode}, {self.start}"

    def distance(self, other: "Cell") -> int:
        """Along how many axes the two differ."""
        return sum(getattr(self, axis) != getattr(other, axis) for axis in self.__slots__)


def planned() -> list[Cell]:
    """All cells, one process after the other: those of one variant and number of threads.

    Fresh cells come first, in an order that each process starts at another place.
    """
    ways, found = list(itertools.product(CHUNKS, MODES)), []
    for number, (variant, threads) in enumerate(itertools.product(VARIANTS, THREADS)):
        first = number % len(ways)
        for start in STARTS:
            found += [
                Cell(variant=variant, threads=threads, start=start, chunk=chunk, mode=mode)
                for chunk, mode in ways[first:] + ways[:first]
            ]
    return found


def unlike_others(cell: Cell, tokens: int) -> str:
    """Why a cell would be another one again for a prompt of so few tokens; '' if it is one of its own."""
    if cell.chunk is not None and tokens <= cell.chunk:
        return f"one chunk of {cell.chunk} holds the whole prompt"
    return "a single token leaves none to decode" if cell.mode == DECODE and tokens < 2 else ""


def digest(stages: Mapping[Key, str]) -> str:
    """The sha256 of a cell: of a line `stage layer sha256` for each tensor, in the order of execution, the logits last.

    The layer of a whole-model stage is written as `-`; each line ends in a newline.
    """
    lines = (f"{name_of(key)} {stages[key]}\n" for key in sorted(stages, key=lambda key: execution_order(*key)))
    return sha256("".join(lines).encode()).hexdigest()


def name_of(key: Key) -> str:
    stage, layer = key
    return f"{stage} {'-' if layer is None else layer}"


def key_of(name: str) -> Key:
    stage, layer = name.split()
    return stage, None if layer == "-" else int(layer)


class Tensors:
    """A tap that hashes each stage over all positions, however many calls bring them; `kept` is one of them whole.

    Scores and softmax are as wide as what has been seen: rows are continued to the width of the whole prompt, as the
    rows of a prompt in one piece are, with -inf and 0. Of the logits those of the last position count.
    """

    def __init__(self, tokens: int, wanted: Key | None) -> None:
        self.tokens, self.wanted = tokens, wanted
        self.pieces: list[F32] = []
        self._hashes: dict[Key, Any] = {}

    def tap(self, stage: str, layer: int | None, array: F32) -> None:
        if stage in ("attn_scores", "attn_softmax"):
            whole = np.full((*array.shape[:2], self.tokens), -np.inf if stage == "attn_scores" else 0, np.float32)
            whole[:, :, : array.shape[2]] = array
            array = whole
        if stage == "lm_head":
            self._hashes[stage, layer] = sha256()
        self._hashes.setdefault((stage, layer), sha256()).update(array.tobytes())
        if (stage, layer) == self.wanted:
            self.pieces = [*([] if stage == "lm_head" else self.pieces), array.copy()]

    def digests(self) -> dict[Key, str]:
        return {key: hashed.hexdigest() for key, hashed in self._hashes.items()}

    def kept(self) -> F32 | None:
        return np.concatenate(self.pieces) if self.pieces else None


@dataclass(frozen=True, slots=True)
class Measured:
    """The sha256 of each stage of a cell, and of the logits without a tap; the tensor that was asked for, if any."""

    stages: dict[Key, str]
    kept: F32 | None


def measure(
    model: Model,
    tokens: Sequence[int],
    cells: Iterable[Cell],
    *,
    wanted: Key | None = None,
    silent_first: bool = False,
    kv_cache: str = KV_CACHES[0],
) -> Iterator[Measured]:
    """Run the cells in this process, one after the other, with its variant of the kernels.

    wanted        the tensor to keep of each cell
    silent_first  whether a cell's untraced run comes before the traced one
    kv_cache      what keys and values are kept in
    """
    import numba

    from engine.fast import FastPath

    capacity = len(tokens) + 3  # room for the other prompt to go further
    other = [(token + 1) % model.config.vocab for token in [*reversed(tokens), *tokens[:3], 1, 2][:capacity]]
    warm: dict[int, FastPath] = {}

    def opened(cell: Cell) -> FastPath:
        if cell.start == FRESH:
            return FastPath(model, capacity=capacity, threads=cell.threads, kv_cache=kv_cache)
        if cell.threads not in warm:
            warm[cell.threads] = FastPath(model, capacity=capacity, threads=cell.threads, kv_cache=kv_cache)
        path = warm[cell.threads]
        path.position = 0
        for piece in (other[:-1], other[-1:]):
            path.forward(piece)
        path.position = 0
        return path

    def silent(cell: Cell) -> F32:
        return _forward(opened(cell), tokens, cell, None)

    for cell in cells:
        tensors = Tensors(len(tokens), wanted)
        logits = silent(cell) if silent_first else None
        _forward(opened(cell), tokens, cell, tensors.tap)
        if logits is None:
            logits = silent(cell)
        if numba.get_num_threads() != cell.threads:
            raise ValueError(f"{numba.get_num_threads()} threads ran where {cell.threads} were asked for")
        stages = {**tensors.digests(), LOGITS: sha256(logits.tobytes()).hexdigest()}
        yield Measured(stages, logits if wanted == LOGITS else tensors.kept())


def _forward(path: "FastPath", tokens: Sequence[int], cell: Cell, tap: Callable[..., None] | None) -> F32:
    prompt = len(tokens) if cell.mode == PREFILL else (len(tokens) + 1) // 2
    logits = path.forward(tokens[:prompt], tap, cell.chunk)
    for token in tokens[prompt:]:
        logits = path.forward([token], tap)
    return logits


# ---------------------------------------------------------------- a process of its own


def main(open_model: Callable[[str], Model] | None = None) -> int:
    """Measure the cells that standard input asks for, and answer on standard output; 0, or 2 for an EngineError.

    Input: {model, tokens, kv_cache, cells, silent_first, first, known, wanted, file}. `first`: whether a cell that
    differs is the last, from `known`, the sha256 of a cell, or else from the first one. `wanted`: [stage, layer], whose
    tensor of the last cell goes into `file`, as numpy saves it, or null. Output: {stages: [{"stage layer": sha256, ..},
    ..]}, in the order of the cells, or {error}.
    """
    request = json.load(sys.stdin)
    try:
        answer = _answered(request, open_model or _read)
    except EngineError as error:
        json.dump({"error": str(error)}, sys.stdout)
        return 2
    except KeyboardInterrupt:
        return 130
    json.dump(answer, sys.stdout)
    return 0


def _answered(request: dict[str, Any], open_model: Callable[[str], Model]) -> dict[str, Any]:
    from engine.warmup import compile_kernels, formats_of

    model, cells = open_model(request["model"]), [Cell(**cell) for cell in request["cells"]]
    choose(cells[0].variant)  # refused if the kernels are another's: its cells would be measured under a false name
    compile_kernels(formats_of(model), _note, (request["kv_cache"],))
    wanted = tuple(request["wanted"]) if request["wanted"] else None
    found, known = [], request["known"]
    options = {"wanted": wanted, "silent_first": request["silent_first"], "kv_cache": request["kv_cache"]}
    for one in measure(model, request["tokens"], cells, **options):
        found.append(one)
        known = known or digest(one.stages)
        if request["first"] and (digest(one.stages) != known or one.stages.get(LM_HEAD) != one.stages[LOGITS]):
            break
    if found[-1].kept is not None:
        np.save(request["file"], found[-1].kept)
    return {"stages": [{name_of(key): value for key, value in one.stages.items()} for one in found]}


def _note(line: str) -> None:
    sys.stderr.write(f"apr: {line}\n")


def _read(path: str) -> Model:
    from engine.model import read_model
    from engine.opening import open_file

    return read_model(open_file(Path(path)))


if __name__ == "__main__":
    leave(main())
