"""Where a project keeps what: [tool.pv] of pyproject.toml, and its registry of models.

[tool.pv]
contracts = "contracts"             # folder of contracts
evidence = "evidence"               # folder of statements
models = "models/registry.yaml"     # models by name; none by default
milestones = "milestones.yaml"      # goals of the project, see pv.milestones; none by default
first-party = ["mypackage"]         # packages whose code counts as ours; default: those in the root and in src/
trusted-keys = ["keys/ci.pub"]      # public keys; without a signature by one of them a run supports nothing
store = "s3://bucket/prefix"        # where the artifacts lie that trials keep, see pv.evidence.store; none by default

What [tool.pv.severity], [[tool.pv.suppress]], [[tool.pv.changelog]] and baseline hold is read by pv.settings.
"""

import functools
import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pv.errors import PvError
from pv.paths import PATHS, as_written, path_of, store_of, trusted_keys_of

if TYPE_CHECKING:
    from pv.yaml_loader import Document

KEYS = (*PATHS, "first-party", "severity", "suppress", "changelog", "trusted-keys", "store")
ENTRY = "an entry has about, licence, sha256, size, and either file or pypi: {requirement, member}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A project as pv sees it; every path is absolute.

    models       the registry file, or None where no model is registered
    milestones   the file of goals, or None where the project has none
    first_party  names of top-level packages and modules
    scripts      the project's console scripts: (command, module)
    trusted_keys  files of public keys, or none where any run is believed
    store        URL of the folder of artifacts, without a slash at its end; None where none are kept
    """

    root: Path
    contracts: Path
    evidence: Path
    models: Path | None = None
    milestones: Path | None = None
    first_party: tuple[str, ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    trusted_keys: tuple[Path, ...] = ()
    store: str | None = None

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders in which first-party modules are looked for, in this order."""
        return tuple(folder for folder in (self.root, self.root / "src") if folder.is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """A model by name: what its file must be (size in bytes), and where it lies, or will lie once it is pulled."""

    name: str
    sha256: str
    size: int
    path: Path


def find(start: Path) -> Config:
    """The project around `start`, as `content_around`. PvError for an unknown key or a wrong type in [tool.pv] too."""
    root, content = content_around(start)
    try:
        return config_of(root, content)
    except OSError as error:  # a folder that may be entered and not listed
        raise _unreadable(error, root) from None


def _unreadable(error: OSError, start: Path) -> PvError:
    hint = "run pv as somebody who may look into the folder" if isinstance(error, PermissionError) else ""
    return PvError(f"cannot be read: {error.strerror}", where=str(error.filename or start), hint=hint)


def content_around(start: Path) -> tuple[Path, dict[str, Any]]:
    """Root and pyproject.toml of the project around `start`: the nearest with [tool.pv], in its repository.

    Without one, the nearest folder that holds a pyproject.toml or a .git, else `start` itself, and no content.
    PvError for a pyproject.toml that does not parse, and where there is no looking for one.
    """
    try:
        return _content_around(Path(os.path.realpath(start)))  # Path.resolve raises for a link that leads to itself
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise _unreadable(error, start) from None


def _content_around(start: Path) -> tuple[Path, dict[str, Any]]:
    if not start.is_dir():
        start = start.parent
    nearest: tuple[Path, dict[str, Any]] | None = None
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            content = _toml(file)
            if "pv" in content.get("tool", {}):
                return folder, content
            nearest = nearest or (folder, content)
        if (folder / ".git").exists():
            nearest = nearest or (folder, {})
            break
    return nearest or (start, {})


def _toml(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PvError(f"cannot be read: {error}", where=str(file)) from None
    if not isinstance(content.get("tool", {}), dict):
        raise PvError("tool must be a table", where=str(file))
    return content


def config_of(root: Path, content: dict[str, Any]) -> Config:
    """The project in a folder, by what its pyproject.toml holds. PvError for what is wrong in [tool.pv]."""
    where = str(root / "pyproject.toml")
    table = content.get("tool", {}).get("pv", {})
    if not isinstance(table, dict):
        raise PvError("[tool.pv] must be a table", where=where)
    for key in table:
        if key not in KEYS:
            raise PvError(f"[tool.pv] has no key {key!r}", where=where, hint=_near(key, KEYS))
    paths = {key: path_of(key, table[key], root) for key in PATHS if key in table}
    names = table.get("first-party")
    if names is None:
        names = _packages(root)
    elif not isinstance(names, list) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise PvError(
            f"[tool.pv] first-party must be a list of names of top-level packages, not {as_written(names)}", where=where
        )
    project = content.get("project", {})
    scripts = project.get("scripts", {}) if isinstance(project, dict) else {}
    return Config(
        root=root,
        contracts=paths.get("contracts", root / "contracts"),
        evidence=paths.get("evidence", root / "evidence"),
        models=paths.get("models"),
        milestones=paths.get("milestones"),
        first_party=tuple(sorted(set(names))),
        scripts=tuple(
            sorted((name, target.partition(":")[0]) for name, target in scripts.items() if isinstance(target, str))
        ),
        trusted_keys=trusted_keys_of(table["trusted-keys"], root) if "trusted-keys" in table else (),
        store=store_of(table["store"], root) if "store" in table else None,
    )


def _packages(root: Path) -> list[str]:
    """Names of the modules and of the folders with modules that lie in the root or in src/."""
    found = []
    for folder in (root, root / "src"):
        for name in os.listdir(folder) if folder.is_dir() else ():
            stem = name.removesuffix(".py")
            if not stem.isidentifier():
                continue  # most of what lies in a root: the disk is not asked about it
            if os.path.isfile(folder / name) if stem != name else any((folder / name).glob("*.py")):
                found.append(stem)
    return found


def registry(config: Config) -> dict[str, RegisteredModel]:
    """The registered models by name; empty where the project has no registry. PvError where one is wrong."""
    if config.models is None:
        return {}
    return dict(_registry(config.models, _stamp(config.models), cache_folder()))


@functools.cache
def _registry(file: Path, stamp: tuple[int, ...], cache: Path) -> dict[str, RegisteredModel]:
    from pv.yaml_loader import load

    where = str(file)
    try:
        document = load(file.read_bytes(), where)
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=where) from None
    if not isinstance(document.value, dict) or not document.value:
        raise PvError("a registry maps names of models to what they are", where=where)
    known = {name: _registered(name, document, file, cache) for name in document.value}
    owners: dict[Path, str] = {}
    for name, model in known.items():
        other = owners.setdefault(model.path, name)
        if other != name:  # each would take the other's file for a wrong one
            raise PvError(f"model {name!r}: its file {model.path.name} is that of {other!r}", where=where)
    return known


def _registered(name: str, document: "Document", file: Path, cache: Path) -> RegisteredModel:
    """One entry, held to the same form as by the command that pulls models, which reads the same page."""

    def require(ok: bool, what: str) -> None:
        if not ok:
            raise PvError(f"model {name!r}: {what}", where=str(file), hint=ENTRY)

    def text(*place: str) -> str:
        """A scalar as it was written: a digest of nothing but digits is not a number. Empty for anything else."""
        value: Any = document.value
        for step in place:
            value = value[step]
        written = value if isinstance(value, str) else document.source(place)
        return written or ""

    require(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) is not None, "the name must be of a-z, 0-9, '.', '_' and '-'")
    entry = document.value[name]
    require(isinstance(entry, dict), "must be a mapping")
    sources = entry.keys() & {"file", "pypi"}
    require(len(sources) == 1, "must have either file or pypi")
    wrong = sorted(entry.keys() ^ {"about", "licence", "sha256", "size", *sources})
    require(not wrong, f"missing or unknown: {', '.join(wrong)}")
    for key in ("about", "licence"):
        require(text(name, key) != "", f"{key} must be a text")
    sha256, size = text(name, "sha256"), text(name, "size")
    require(re.fullmatch(r"[0-9a-f]{64}", sha256) is not None, "sha256 must be 64 hexadecimal digits in lower case")
    require(re.fullmatch(r"[1-9][0-9]{0,15}", size) is not None, f"size must be a number of bytes, not {size!r}")
    if "file" in sources:
        folder, base = file.parent, text(name, "file")
    else:
        pypi = entry["pypi"]
        whole = isinstance(pypi, dict) and pypi.keys() == {"requirement", "member"}
        require(whole, "pypi must be a mapping of requirement and member, the file's path in the wheel")
        pinned = re.fullmatch(
            r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*", text(name, "pypi", "requirement")
        )
        require(pinned is not None, "the requirement must be name==version")
        folder, base = cache, text(name, "pypi", "member").rpartition("/")[2]
    named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.gguf", base)
    require(named is not None, f"{base!r} must be the name of a GGUF file, without folders")
    return RegisteredModel(name=name, sha256=sha256, size=int(size), path=folder / base)


def registered(config: Config, name: str, *, where: str = "") -> RegisteredModel:
    """The model called `name`. PvError, naming `where`, if the registry has none."""
    models = registry(config)
    if name in models:
        return models[name]
    known = _near(name, tuple(models)) if config.models else "name a registry: [tool.pv] models = .. in pyproject.toml"
    raise PvError(f"no model {name!r} in the registry", where=where, hint=known)


def cache_folder() -> Path:
    """Where pulled models lie: $PV_MODELS, else the user's cache."""
    chosen = os.environ.get("PV_MODELS")
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("pv-contracts")) / "models"


def locate(model: RegisteredModel) -> Path | None:
    """The model's file with its digest verified, or None where it is not on this machine.

    PvError for a file in its place that has other bytes: a trial on it would be evidence about another model.
    """
    path, found = model.path, ""
    if not os.path.isfile(path):  # unlike Path.is_file, false for a name that no file can have
        return None
    stamp = _stamp(path)
    if stamp[0] != model.size:
        found = f"{stamp[0]} bytes, registered {model.size}"
    elif (digest := _sha256(path, stamp)) != model.sha256:
        found = f"sha256 {digest[:12]}.., registered {model.sha256[:12]}.."
    if found:
        raise PvError(
            f"is not the registered {model.name}: {found}",
            where=str(path),
            hint="remove it and obtain it again, or register what it is if the model is meant to change",
        )
    return path


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@functools.cache
def _sha256(path: Path, stamp: tuple[int, ...]) -> str:
    """Digest of the file; the stamp makes a changed file another key."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _near(name: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
