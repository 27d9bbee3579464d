"""A run that is about to be kept, written down first, so that a kill at any moment leaves nothing half.

    evidence/_runs/<sha256 of the run statement>.pending

holds the run statement and every record it lists, a canonical JSON text on each line, the run statement first. It is
put in place in one step, before anything else is written. Then the records are, then the run statement, then this file
goes. Whoever records next completes what a killed run had begun; it does not matter if two do so at once, since a
file's name is the digest of its bytes.
"""

from collections.abc import Iterable

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.run import run_of

PENDING = ".pending"


def bundle(run: bytes, records: Iterable[bytes]) -> bytes:
    """The bytes of a pending file."""
    return b"".join(data + b"\n" for data in (run, *records))


def unbundle(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The run statement of a pending file, and its records by place. PvError where it does not hold what it lists."""
    run, *lines = data.split(b"\n")[:-1] if data.endswith(b"\n") else [b""]
    places = {place[-69:-5]: place for place in run_of(run).records}
    records = {sha256(line): line for line in lines}
    if records.keys() != places.keys():
        raise PvError("does not hold the records that its run lists")
    return run, {places[digest]: line for digest, line in records.items()}


def listed_by(data: bytes) -> frozenset[str]:
    """The places of the records of a pending file. PvError as `unbundle`."""
    return frozenset(unbundle(data)[1])
