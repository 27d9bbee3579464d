"""Uniting the evidence of several machines: whole runs are taken over as they are, from folders that verify."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pv.errors import PvError
from pv.evidence.chain import chain, run_path
from pv.evidence.folder import Evidence, read, require_evidence
from pv.evidence.recording import complete_all, put
from pv.evidence.signatures import SIGNATURES
from pv.statement import make_folder, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a folder added: runs and records that were not there."""

    source: Path
    runs: int
    records: int


class BrokenEvidenceError(PvError):
    """A folder whose evidence does not verify: nothing is taken from it, or from any other."""


def merge(folder: Path, sources: Sequence[Path]) -> list[Merged]:
    """Take over the runs of `sources` with their records. Nothing is written unless all of them verify.

    PvError for a source that is missing, holds no evidence, or is the folder itself; BrokenEvidenceError, naming the
    first broken link, for one that does not verify. Runs that are there already stay as they are.
    """
    found = []
    for source in sources:
        if not source.is_dir():
            raise PvError("is no folder" if source.exists() else "no such folder", where=str(source))
        if source.resolve() == folder.resolve():
            raise PvError("is the folder that is merged into", where=str(source))
        found.append(verified(source))
        if not found[-1].chain.runs:
            raise PvError("holds no run of evidence", where=str(source), hint="name the folder that `_runs` lies in")
    here = []
    if folder.is_dir():
        complete_all(folder)
        here = [verified(folder)]
    runs = {digest: run for evidence in (*here, *found) for digest, run in evidence.chain.runs.items()}
    facts = {place: fact for evidence in (*here, *found) for place, fact in evidence.facts.items()}
    if broken := chain(runs, facts).problems:
        why = f"{broken[0].why}: together they do not verify, and nothing was written"
        raise BrokenEvidenceError(why, where=broken[0].path)
    return [_taken(folder, evidence) for evidence in found]


def verified(folder: Path) -> Evidence:
    """The evidence of a folder. BrokenEvidenceError, naming the first broken link, where it does not verify.

    PvError for a folder of something else.
    """
    require_evidence(folder)
    evidence = read(folder, remember=False)
    if evidence.problems:
        first = evidence.problems[0]
        more = f" (and {len(evidence.problems) - 1} more)" if len(evidence.problems) > 1 else ""
        hint = f"`pv evidence verify {folder}` lists everything; nothing was written"
        raise BrokenEvidenceError(f"{first.why}{more}", where=first.path, hint=hint)
    return evidence


def _taken(folder: Path, evidence: Evidence) -> Merged:
    runs = records = 0
    for digest, run in evidence.chain.runs.items():
        if (folder / run_path(digest)).exists():
            continue
        present = [] if run.released else [place for place in run.records if place in evidence.facts]
        blobs = {place: (evidence.folder / place).read_bytes() for place in present}
        records += sum(not (folder / place).exists() for place in blobs)
        put(folder, (evidence.folder / run_path(digest)).read_bytes(), blobs)
        runs += 1
    _take_signatures(folder, evidence)
    return Merged(source=evidence.folder, runs=runs, records=records)


def _take_signatures(folder: Path, evidence: Evidence) -> None:
    """Copy the signatures that are not there; they were found whole, and whom to trust each project says itself."""
    for source in sorted((evidence.folder / SIGNATURES).glob("[0-9a-f]*.json")):
        target = folder / SIGNATURES / source.name
        if target.parent.is_symlink() or target.is_symlink():
            raise PvError("is a symbolic link: evidence is never written through one", where=str(target))
        if not target.exists():
            try:
                make_folder(target.parent)
                write_atomically(target, source.read_bytes())
            except OSError as error:
                raise PvError(f"the signature cannot be taken over: {error.strerror}", where=str(target)) from None
