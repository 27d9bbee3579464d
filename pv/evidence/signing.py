"""Signing runs: an envelope beside each, written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pv.canonical import canonical, sha256
from pv.errors import PvError
from pv.evidence.chain import run_path
from pv.evidence.folder import Evidence
from pv.evidence.signatures import PAYLOAD_TYPE, SIGNATURES, signature_name, signed_of, why_not
from pv.statement import make_folder, write_atomically

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

SHORTEST = 8
"""Digits of a digest that name a run."""


def named_runs(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """The digests of the runs that begin with `names`. PvError for one that names none, or several."""
    found = []
    for name in names:
        runs = [digest for digest in evidence.chain.runs if digest.startswith(name)]
        if len(name) < SHORTEST or len(runs) != 1:
            why = f"names {len(runs)} runs" if len(name) >= SHORTEST else f"is shorter than {SHORTEST} digits"
            hint = f"the files of {evidence.folder / '_runs'} are named after the digests of the runs"
            raise PvError(f"{name!r} {why}", hint=hint)
        found += runs
    return list(dict.fromkeys(found))


def problems_of_chain(evidence: Evidence) -> list[str]:
    """What keeps the evidence from being vouched for: everything but signatures, which can be made again."""
    home = f"{evidence.folder / SIGNATURES}/"
    return [f"{problem.path}: {problem.why}" for problem in evidence.problems if not problem.path.startswith(home)]


def sign(evidence: Evidence, run: str, signer: "Signer") -> Path | None:
    """Sign a run, and return the file of the signature; None where this key has signed it already.

    PvError where the signer signs nothing valid, or the file cannot be written. Only for evidence that verifies.
    """
    from securesystemslib.dsse import Envelope

    path = evidence.folder / SIGNATURES / signature_name(run, signer.public_key.keyid)
    if path.parent.is_symlink() or path.is_symlink():
        raise PvError("is a symbolic link: evidence is never written through one", where=str(path))
    if path.exists() and _is_signed(path, signer):
        return None
    statement = evidence.folder / run_path(run)
    try:
        payload = statement.read_bytes()
    except OSError as error:
        raise PvError(f"cannot be read: {error.strerror}", where=str(statement)) from None
    if sha256(payload) != run:
        raise PvError("was changed while it was signed", where=str(statement), hint="`pv evidence verify` says what")
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    try:
        envelope.sign(signer)
    except Exception as error:  # whatever a signer of another library may raise: it says so itself
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise PvError(f"the signer did not sign run {run[:12]}..: {why}") from None
    data = canonical(envelope.to_dict())
    if why := why_not(signed_of(data, path.name), signer.public_key):
        hint = "the private key belongs to another public key"
        raise PvError(f"the signature of run {run[:12]}.. {why}: it was not kept", hint=hint)
    try:
        make_folder(path.parent)
        write_atomically(path, data)
    except OSError as error:
        raise PvError(f"the signature cannot be written: {error.strerror}", where=str(path)) from None
    return path


def _is_signed(path: Path, signer: "Signer") -> bool:
    try:
        return not why_not(signed_of(path.read_bytes(), path.name), signer.public_key)
    except (OSError, PvError):
        return False  # damaged: it is made again
