"""Signatures of runs: what lies beside them, what it says, and which runs it makes believed.

    evidence/_signatures/<digest of the run statement>.<name of the key>.json

A DSSE envelope (https://github.com/secure-systems-lab/dsse) around the bytes of a run statement, with one signature or
several; the file is named after the key of one of them. A run lists its records by digest, so whoever signs it vouches
for all of them, and for no other run: that it came after others says nothing about who made those.
"""

import base64
import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pv.canonical import parse, sha256
from pv.errors import PvError
from pv.evidence.run import Run
from pv.statement import HEX, Problem

if TYPE_CHECKING:
    from securesystemslib.signer import Key

SIGNATURES = "_signatures"
"""The folder of signatures; no contract can have this name."""
PAYLOAD_TYPE = "application/vnd.in-toto+json"
FILE = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{16})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """An envelope around a run.

    run       digest of the run statement
    envelope  as its JSON says it
    keyids    names of the keys that signed, or are said to have
    """

    run: str
    envelope: Mapping[str, Any]
    keyids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the signatures are worth: as the fields of the same names of pv.evidence.folder.Evidence."""

    believed: frozenset[str]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def signature_name(run: str, keyid: str) -> str:
    """The name of the file of a run's signature by a key."""
    short = keyid[:16] if HEX.fullmatch(keyid) else sha256(keyid.encode())[:16]
    return f"{run}.{short}.json"


def judged(folder: Path, names: Sequence[str], runs: Mapping[str, Run], trusted: Sequence[Path]) -> Judged:
    """Which of `runs` are believed, by the files `names` of the folder of signatures.

    trusted  files of public keys; without any, every run is believed, and no signature is verified
    PvError for a file of `trusted` that is no public key, and where the library that verifies is missing.
    """
    found: dict[str, Signed] = {}
    problems = []
    for name in names:
        path = folder / SIGNATURES / name
        try:
            found[name] = signed_of(path.read_bytes(), name)
            if found[name].run not in runs:
                del found[name]
                raise PvError("signs a run that is not there, or cannot be read")
        except PvError as error:
            problems.append(Problem(path=str(path), why=str(error.args[0])))
        except OSError as error:
            problems.append(Problem(path=str(path), why=f"cannot be read: {error.strerror}"))
    if not trusted:
        return Judged(believed=frozenset(runs), problems=tuple(problems), notes=())
    from pv.evidence.keys import public_keys

    keys = {key.keyid: key for key in public_keys(trusted)}
    believed, strangers = set(), []
    for name, signed in found.items():
        mine = [keys[keyid] for keyid in signed.keyids if keyid in keys]
        wrong = [(key, why) for key in mine if (why := why_not(signed, key))]
        if len(wrong) < len(mine):
            believed.add(signed.run)
        if not mine:
            strangers.append(name)
        for key, why in wrong:
            what = f"its signature by the trusted key {key.keyid[:16]} {why}"
            problems.append(Problem(path=str(folder / SIGNATURES / name), why=what))
    return Judged(
        believed=frozenset(believed), problems=tuple(problems), notes=tuple(_notes(runs, believed, strangers))
    )


def _notes(runs: Mapping[str, Run], believed: set[str], strangers: Sequence[str]) -> list[str]:
    notes = []
    recording = [digest for digest, run in runs.items() if not run.released]
    unsigned = [digest for digest in recording if digest not in believed]
    if unsigned:
        first = unsigned[0]
        notes.append(
            f"{len(unsigned)} of {len(recording)} runs are not signed by a trusted key and support nothing, the first "
            f"is {first[:12]}.. of {runs[first].time}: `pv evidence sign` signs what you vouch for"
        )
    if strangers:
        place = f"{SIGNATURES}/{strangers[0]}"
        notes.append(f"{len(strangers)} signatures are by keys that are not trusted, the first is {place}")
    return notes


def signed_of(data: bytes, name: str) -> Signed:
    """The envelope of a file's bytes. PvError where they are none, or the file has another name than it must have."""
    named = FILE.fullmatch(name)
    if not named:
        raise PvError("is no signature: signatures are _signatures/<digest of a run>.<16 digits of its key>.json")
    try:
        envelope: Any = parse(data)
        payload = base64.b64decode(envelope["payload"], validate=True)
        keyids = tuple(one["keyid"] for one in envelope["signatures"])
        whole = (
            envelope.keys() == {"payload", "payloadType", "signatures"}
            and all(isinstance(keyid, str) for keyid in keyids)
            and all(base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"])
            and len(keyids) == len(set(keyids)) > 0
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise PvError("is no DSSE envelope with a signature")
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise PvError(f"is an envelope around something that is not {PAYLOAD_TYPE}")
    if sha256(payload) != named[1]:
        raise PvError(f"signs other bytes than those of run {named[1][:12]}..")
    if name not in (signature_name(named[1], keyid) for keyid in keyids):
        raise PvError("is named after a key that did not sign")
    return Signed(run=named[1], envelope=envelope, keyids=keyids)


def why_not(signed: Signed, key: "Key") -> str:
    """Why the envelope holds no valid signature by the key; '' if it does."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    envelope = Envelope.from_dict(copy.deepcopy(dict(signed.envelope)))  # which takes apart what it is given
    signature = envelope.signatures.get(key.keyid)
    if signature is None:
        return "is missing"
    try:
        key.verify_signature(signature, envelope.pae())
    except VerificationError as error:  # a kind of the other: it needs a network, or another library
        cause = error.__cause__ or error
        return f"cannot be verified here: {' '.join(str(cause).split())[:200] or type(cause).__name__}"
    except UnverifiedSignatureError:
        return "is not valid"
    return ""
