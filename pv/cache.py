"""What was found in a contract before, by the sha256 of its name, its bytes and whether `pv lint` asked.

Remembered is what rules about one contract find (`Checked`: findings, before settings, and facts). Rules between
contracts and rules about a project are asked in every run.

An entry is believed if the same sources of pv wrote it under the same Python with the same YAML parser (the key), and
its checksum is right; anything else is a miss, and is written again. A folder that cannot be read or written is no
error: everything is measured then.

    <folder>/<key>/<shard>    lines "<digest> <checksum> <JSON>", 64 shards by digest, oldest line first
"""

import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin, get_type_hints

if TYPE_CHECKING:  # the sources are digested before the rest of pv is loaded: see `open_cache`
    from pv.rules import Checked

SHARDS = 64
MAX_SHARD = 2**20
"""Bytes of one shard; its oldest lines make room for new ones."""
MAX_KEYS = 3
"""How many generations are kept: a source that changes begins a new one."""
GENERATION = re.compile(r"pv-[0-9a-f]{40}")
FILE = re.compile(r"\d\d(\.\d+\.\d+\.new)?")
"""Names of what lies in a cache; whatever else lies in the folder that somebody chose for it is left alone."""
ELSEWHERE = ("path", "registries")
"""Fields that do not come from the contract: where it lies, and what a run attaches."""
STRAY_SECONDS = 3600
"""Age at which a temporary file has been left behind by a run that was killed."""


class Cache:
    """The entries in a folder; `save` adds what came in by `put`. No method raises OSError."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder / key, key
        self._shards: dict[str, dict[str, bytes]] = {}
        self._new: dict[str, dict[str, bytes]] = {}

    def get(self, digest: str, path: Path) -> "Checked | None":
        """What is known of the contract with this digest, as found at `path`; None if nothing can be believed."""
        line = self._shard(_shard_of(digest)).get(digest)
        if line is None:
            return None
        checksum, _, entry = line.partition(b" ")
        if checksum != self._checksum(digest, entry):
            return None
        try:
            return decoded(entry, path)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def put(self, digest: str, checked: "Checked") -> None:
        entry = encoded(checked)
        self._new.setdefault(_shard_of(digest), {})[digest] = self._checksum(digest, entry) + b" " + entry

    def save(self) -> None:
        """Write what is new; what another process wrote in the meantime stays."""
        if not self._new:
            return
        try:
            if key() != self.key:
                return  # a source was edited while it was running: which one of the two was run?
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for shard, new in self._new.items():
                lines = {digest: line for digest, line in self._read(shard).items() if digest not in new}
                self._write(shard, lines | new)
            self._prune()
        except OSError:
            return  # nothing is remembered: the next run measures again
        finally:
            self._new = {}

    def _checksum(self, digest: str, entry: bytes) -> bytes:
        return sha256(f"{self.key} {digest} ".encode() + entry).hexdigest()[:32].encode()

    def _shard(self, shard: str) -> dict[str, bytes]:
        if shard not in self._shards:
            try:
                self._shards[shard] = self._read(shard)
            except OSError:
                self._shards[shard] = {}
        return self._shards[shard]

    def _read(self, shard: str) -> dict[str, bytes]:
        """The lines of a shard by digest. Those in a file of another user are not read: who knows who wrote them."""
        try:
            with (self.folder / shard).open("rb") as stream:
                about = os.fstat(stream.fileno())
                if about.st_uid != os.geteuid():
                    return {}
                data = stream.read(min(about.st_size, 2 * MAX_SHARD))
        except FileNotFoundError:
            return {}
        parts = (line.partition(b" ") for line in data.split(b"\n"))
        return {digest.decode("ascii", "replace"): rest for digest, _, rest in parts if rest}

    def _write(self, shard: str, lines: dict[str, bytes]) -> None:
        kept: list[bytes] = []
        size = 0
        for digest, rest in reversed(lines.items()):
            line = digest.encode("ascii", "replace") + b" " + rest + b"\n"
            size += len(line)
            if size > MAX_SHARD:
                break
            kept.append(line)
        temporary = self.folder / f"{shard}.{os.getpid()}.{time.monotonic_ns()}.new"
        try:
            with temporary.open("xb") as stream:
                stream.writelines(reversed(kept))
            temporary.replace(self.folder / shard)
        finally:
            temporary.unlink(missing_ok=True)

    def _prune(self) -> None:
        """Remove all generations but the newest, and what killed runs have left."""
        now = time.time()
        generations = sorted(_keys(self.folder.parent), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for old in generations[MAX_KEYS:]:
            if old != self.folder:
                for file in filter(lambda file: FILE.fullmatch(file.name), list(old.iterdir())):
                    file.unlink(missing_ok=True)
                old.rmdir()
        for file in self.folder.glob("*.new"):
            if FILE.fullmatch(file.name) and now - file.stat().st_mtime > STRAY_SECONDS:
                file.unlink(missing_ok=True)


def open_cache() -> Cache | None:
    """The cache in $PV_CACHE_DIR, or else in the user's folder for such; None where there can be none.

    To be called before the modules of rules are imported: `save` finds out if a source changed since.
    """
    chosen = os.environ.get("PV_CACHE_DIR")
    try:
        if chosen:
            return Cache(Path(chosen).expanduser().absolute(), key())
        import platformdirs

        return Cache(Path(platformdirs.user_cache_dir("pv-contracts")) / "checked", key())
    except (OSError, RuntimeError, ImportError):  # RuntimeError: there is no home
        return None


def key() -> str:
    """Names everything that an entry depends on beside the contract. OSError where pv's sources cannot be read."""
    import yaml

    parser = "pure"
    if yaml.__with_libyaml__:
        from yaml._yaml import get_version_string

        parser = get_version_string()
    parts = (sys.implementation.name, sys.version, yaml.__version__, parser, source_digest(Path(__file__).parent))
    return f"pv-{sha256(repr(parts).encode()).hexdigest()[:40]}"


def source_digest(folder: Path) -> str:
    """sha256 of what a package consists of, with the files' names. OSError if it has no Python files.

    It changes with every release, and in a working copy with every edit, of which the version knows nothing.
    """
    files = sorted(_sources(folder))
    if not any(file.suffix == ".py" for file in files):
        raise FileNotFoundError(f"no source in {folder}")
    digest = sha256()
    for file in files:
        data = file.read_bytes()
        digest.update(f"{file.relative_to(folder)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", "explanations")]
        yield from (Path(place, name) for name in names)


def _keys(folder: Path) -> Iterator[Path]:
    """The generations in the cache's folder, and nothing else that lies there."""
    for path in folder.iterdir():
        if GENERATION.fullmatch(path.name) and path.is_dir():
            yield path


def _shard_of(digest: str) -> str:
    return f"{int(digest[:4], 16) % SHARDS:02}"


# -- entries ----------------------------------------------------------------------------------------------------------


def encoded(checked: "Checked") -> bytes:
    """JSON of findings and facts, without the path at which they were found."""
    value = [checked.findings, checked.facts]
    return json.dumps(value, default=_as_list, separators=(",", ":")).encode("ascii")


def decoded(entry: bytes, path: Path) -> "Checked":
    """The inverse of `encoded`. ValueError for what it cannot have written."""
    from pv.findings import RULES, SEVERITIES
    from pv.rules import Checked

    read_findings, read_facts = _readers()
    findings, facts = _list_of(json.loads(entry), 2)
    found = read_findings(findings, path)
    if any(finding.rule not in RULES or finding.severity not in SEVERITIES for finding in found):
        raise ValueError("a finding of an unknown rule")
    return Checked(path, None if facts is None else read_facts(facts, path), found)


SCALARS = (str, int, bool)
Reader: TypeAlias = Callable[[Any, Path], Any]
"""From a value of JSON and the path of the contract."""


def _as_list(value: Any) -> list[Any]:
    return [getattr(value, name) for name in _stored(type(value))]


_names: dict[Any, tuple[str, ...]] = {}


def _stored(kind: Any) -> tuple[str, ...]:
    if kind not in _names:
        _names[kind] = tuple(field.name for field in fields(kind) if field.name not in ELSEWHERE)
    return _names[kind]


def _list_of(value: Any, length: int) -> list[Any]:
    if type(value) is not list or len(value) != length:
        raise ValueError(f"no list of {length}")
    return value


def _reader(kind: Any) -> Reader:
    """Reads values of a type: texts, numbers, tuples of one type and dataclasses of such. TypeError for any other."""
    if kind in SCALARS:
        return functools.partial(_scalar, kind)
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        return functools.partial(_tuple, _reader(get_args(kind)[0]))
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise TypeError(f"the cache cannot keep a {kind}")
    hints = get_type_hints(kind, localns={"Registry": Any})
    names = _stored(kind)
    if "path" not in hints and all(hints[name] in SCALARS for name in names):
        return functools.partial(_flat, kind, names, [hints[name] for name in names])
    return functools.partial(_dataclass, kind, names, [_reader(hints[name]) for name in names], hints.get("path"))


def _scalar(kind: type, value: Any, path: Path) -> Any:
    if type(value) is not kind:
        raise ValueError(f"no {kind.__name__}")
    return value


def _tuple(inner: Reader, value: Any, path: Path) -> tuple[Any, ...]:
    if type(value) is not list:
        raise ValueError("no list")
    return tuple([inner(item, path) for item in value])


def _flat(kind: Any, names: tuple[str, ...], types: list[type], value: Any, path: Path) -> Any:
    """A dataclass of scalars: most of what an entry holds are places and their like, so they are read in one go."""
    if type(value) is not list or [type(item) for item in value] != types:
        raise ValueError(f"no {kind.__name__}")
    return kind(**dict(zip(names, value, strict=True)))


def _dataclass(kind: Any, names: tuple[str, ...], readers: list[Reader], placed: Any, value: Any, path: Path) -> Any:
    items = [read(item, path) for read, item in zip(readers, _list_of(value, len(names)), strict=True)]
    named = dict(zip(names, items, strict=True))
    if placed is not None:
        named["path"] = placed(path)
    return kind(**named)


@functools.cache
def _readers() -> tuple[Reader, Reader]:
    from pv.facts import Facts
    from pv.findings import Finding

    return _reader(tuple[Finding, ...]), _reader(Facts)
