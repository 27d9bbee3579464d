"""Opening of a model by its path, whatever its format: a GGUF file, or a folder of the Hugging Face layout."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint import Checkpoint, read_checkpoint
from engine.checkpoint_tokenizer import CheckpointTokenizer
from engine.errors import EngineError
from engine.gguf import GGUFFile, read_gguf
from engine.hashing import sha256_beside
from engine.identity import sha256_file, sha256_list
from engine.model import Model, read_model
from engine.tokenizer import Tokenizer

CHECKPOINT = ".safetensors"
AnyTokenizer = Tokenizer | CheckpointTokenizer


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can run: what it was read from, its weights, its tokenizer."""

    file: GGUFFile | Checkpoint
    model: Model
    tokenizer: AnyTokenizer


def open_model(path: Path) -> Opened:
    """The model that the path names; raises EngineError where the engine could not run it."""
    file = open_file(path)
    model = read_model(file)
    tokenizer = CheckpointTokenizer.from_checkpoint(file) if isinstance(file, Checkpoint) else Tokenizer.from_gguf(file)
    return Opened(file, model, tokenizer)


def is_single(path: Path) -> bool:
    """Whether the path is that of a model in one file, a GGUF file, and not of a folder or of a part of one."""
    return not path.is_dir() and path.suffix != CHECKPOINT


def open_file(path: Path) -> GGUFFile | Checkpoint:
    """What the path names, its headers checked; raises EngineError.

    A .safetensors file stands for the folder that it lies in: alone, it says neither what it computes nor what its
    tokens mean.
    """
    if is_single(path):
        return read_gguf(path)
    if path.is_dir():
        return read_checkpoint(path)
    checkpoint = read_checkpoint(path.parent)
    if path.name not in checkpoint.shards:
        raise EngineError(
            f"is not among the weights of its folder, which are {', '.join(checkpoint.shards)}",
            where=str(path),
            hint="name the folder",
        )
    return checkpoint


def digests_of(file: GGUFFile | Checkpoint) -> dict[str, str]:
    """The sha256 of each file that the model consists of, by name; raises EngineError for one that cannot be read."""
    if isinstance(file, Checkpoint):
        return {name: sha256_file(file.path / name) for name in sorted(file.files)}
    return {file.path.name: sha256_file(file.path)}


def identity(file: GGUFFile | Checkpoint, digests: Mapping[str, str]) -> str:
    """What names the model in traces: the sha256 of its file, or of the list of a folder's files (engine.identity)."""
    return sha256_list(digests) if isinstance(file, Checkpoint) else digests[file.path.name]


def sha256_of(path: Path) -> str:
    """The identity of the model that the path names."""
    if is_single(path):
        return sha256_file(path)  # no need to look into it
    file = open_file(path)
    return identity(file, digests_of(file))


@contextmanager
def identity_beside(path: Path) -> Iterator[Callable[[], str]]:
    """Work out the identity of the model that the path names while the block runs; the block is given a function that
    waits for it. A thread for each file; see engine.hashing.
    """
    with ExitStack() as stack:
        if is_single(path):
            yield stack.enter_context(sha256_beside(path))
            return
        checkpoint = open_file(path)
        assert isinstance(checkpoint, Checkpoint)  # whatever is not single
        files = sorted(checkpoint.files)
        parts = {name: stack.enter_context(sha256_beside(checkpoint.path / name)) for name in files}
        yield lambda: sha256_list({name: part() for name, part in parts.items()})


def weights_nbytes(file: GGUFFile | Checkpoint) -> int:
    """Bytes of the files that hold the weights."""
    if isinstance(file, Checkpoint):
        return sum(int(shard.data.size) for shard in file.shards.values())
    return int(file.data.size)
