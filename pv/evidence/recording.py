"""Keeping a run: its records and its run statement, all of it or nothing, whatever happens in between."""

import contextlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.chain import run_path
from pv.evidence.machine import Machine, this_machine
from pv.evidence.run import RUNS, Run, heads_of, is_failed, now, place_of, run_bytes, run_of, trial_name
from pv.evidence.unfinished import PENDING, bundle, unbundle
from pv.statement import HEX, Record, make_folder, statement_bytes, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was kept: the digest of the run statement, and how many records it lists, how many of them new."""

    run: str
    records: int
    new: int


def keep(
    folder: Path,
    records: Collection[Record],
    *,
    commit: str = "",
    dirty: bool = False,
    machine: Machine | None = None,
) -> Written:
    """Keep what a recording run observed, and link it to the runs that are there.

    Records whose bytes are there already stay as they are; the run statement lists them all the same. PvError, and
    nothing of this run kept or all of it to be completed by the next, for symbolic links on the way, names that are no
    folder names, a folder that cannot be written.
    """
    blobs = {}
    names, failed = {}, set()
    for record in records:
        data = statement_bytes(record)
        place = place_of(record, sha256(data))
        blobs[place], names[place] = data, trial_name(record)
        if is_failed(record):
            failed.add(place)
    if not blobs:
        raise PvError("a run that observed nothing is not kept", where=str(folder))
    complete_all(folder)
    runs = runs_in(folder)
    heads = heads_of(runs)
    run = Run(
        id=secrets.token_hex(16),
        # A clock that was set back must not date a run before what it came after.
        time=max(now(), *(runs[digest].time for digest in heads), ""),
        machine=machine or this_machine(),
        commit=commit,
        dirty=dirty,
        parents=heads,
        records=names,
        failed=frozenset(failed),
    )
    new = sum(not (folder / place).exists() for place in blobs)
    return Written(run=put(folder, run_bytes(run), blobs), records=len(blobs), new=new)


def put(folder: Path, run: bytes, records: Mapping[str, bytes]) -> str:
    """Keep a run statement and the records it lists, and return the run's digest. PvError as `keep`."""
    digest = sha256(run)
    pending = folder / RUNS / (digest + PENDING)
    _no_links(folder, pending)
    try:
        make_folder(pending.parent)
        write_atomically(pending, bundle(run, records.values()))
    except OSError as error:
        raise PvError(f"the run cannot be kept: {error.strerror}", where=str(pending)) from None
    complete(folder, pending)
    return digest


def complete_all(folder: Path) -> None:
    """Complete what killed runs had begun. PvError as `complete`."""
    _no_links(folder, folder / RUNS)
    for pending in sorted((folder / RUNS).glob(f"*{PENDING}")):
        complete(folder, pending)


def complete(folder: Path, pending: Path) -> None:
    """Write what a pending file holds, then remove it. PvError where it is damaged, or something cannot be written."""
    try:
        run, records = unbundle(pending.read_bytes())
    except FileNotFoundError:
        return  # another run has completed it
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(pending)) from None
    except PvError as error:
        hint = "the run that wrote it cannot be completed: remove the file and record again"
        raise PvError(str(error.args[0]), where=str(pending), hint=hint) from None
    if sha256(run) + PENDING != pending.name:
        hint = "remove the file and record again"
        raise PvError("holds another run than its name says", where=str(pending), hint=hint)
    for place, data in {**records, run_path(sha256(run)): run}.items():
        path = folder / place
        _no_links(folder, path)
        try:
            if path.is_file() and path.read_bytes() == data:
                continue
            make_folder(path.parent)
            write_atomically(path, data)
        except OSError as error:
            hint = "what is missing is completed by the next run that records here"
            raise PvError(f"the statement cannot be written: {error.strerror}", where=str(path), hint=hint) from None
    with contextlib.suppress(FileNotFoundError):
        pending.unlink()


def runs_in(folder: Path) -> dict[str, Run]:
    """The readable run statements by digest; what is damaged is for `pv evidence verify` to say."""
    found = {}
    for path in (folder / RUNS).glob("*.json"):
        if not HEX.fullmatch(path.stem) or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError, PvError):
            data = path.read_bytes()
            if sha256(data) == path.stem:
                found[path.stem] = run_of(data)
    return found


def _no_links(folder: Path, path: Path) -> None:
    for place in (folder, *(folder.joinpath(*path.relative_to(folder).parts[:n]) for n in range(1, 4))):
        if place.is_symlink():
            raise PvError("is a symbolic link: evidence is never written through one", where=str(place))
