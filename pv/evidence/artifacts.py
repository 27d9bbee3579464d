"""Artifacts: outputs whose bytes a project keeps in its store, named by the records of what put them out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pv.errors import PvError
from pv.evidence.store import open_store, put
from pv.statement import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Bytes that records name: their digest, how many they are, and the first test and name that name them."""

    digest: str
    size: int
    test: str
    name: str


def artifacts_of(records: Mapping[str, Record]) -> list[Artifact]:
    """The artifacts that records name, each digest once with each size, in order of the records."""
    found: dict[tuple[str, int], Artifact] = {}
    for record in records.values():
        for name, size in sorted(record.artifacts.items()):
            test = f"{record.contract}/{record.test}"
            one = Artifact(digest=record.outputs[name], size=size, test=test, name=name)
            found.setdefault((one.digest, one.size), one)
    return list(found.values())


def keep_artifacts(record: Record, url: str, folder: Path) -> None:
    """Put the artifacts of a record, which lie in `folder` by digest, into the store. PvError where one fails."""
    store = open_store(url)
    for name, digest in _named(record):
        if not (folder / digest).is_file():
            raise PvError(f"artifact {name!r}: the bytes that were put out are not on this machine")
        try:
            put(store, digest, folder / digest)
        except PvError as error:
            raise PvError(f"artifact {name!r}: {error.args[0]}", where=error.where, hint=error.hint) from None


def _named(record: Record) -> Iterator[tuple[str, str]]:
    return ((name, record.outputs[name]) for name in sorted(record.artifacts))


def chosen(artifacts: list[Artifact], name: str) -> Artifact:
    """The artifact whose digest begins with `name`. PvError for none, or several."""
    found = {one.digest: one for one in artifacts if len(name) >= 8 and one.digest.startswith(name)}
    if len(found) != 1:
        why = f"{len(found)} artifacts begin with it" if len(name) >= 8 else "it is shorter than 8 digits"
        raise PvError(f"no artifact is called {name!r}: {why}", hint="`pv evidence artifacts` lists them")
    return next(iter(found.values()))
