"""A run that is about to be kept, written down first, so that a kill at any moment leaves nothing half.

    evidence/_runs/<sha256 of the run statement>.pending

holds the run statement and the records it lists, a canonical JSON text on each line, the run statement first; the last
line is the sha256 of all before it. The file is put in place in one step, before anything else is written. Then the
records are, then the run statement, then this file goes. Whoever records next completes what a killed run had begun; it
does not matter if two do so at once, since a file's name is the digest of its bytes.
"""

from collections.abc import Iterable

from pv.canonical import sha256
from pv.errors import PvError
from pv.evidence.run import run_of

PENDING = ".pending"
LAST = 65
"""Bytes of the last line."""


def bundle(run: bytes, records: Iterable[bytes]) -> bytes:
    """The bytes of a pending file. The records may be fewer than the run lists: released ones are gone."""
    lines = b"".join(data + b"\n" for data in (run, *records))
    return lines + sha256(lines).encode() + b"\n"


def unbundle(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The run statement of a pending file, and its records by place. PvError where it is damaged."""
    lines = data[:-LAST]
    if data[-LAST:] != sha256(lines).encode() + b"\n":
        raise PvError("is damaged: its bytes are not those that were written")
    run, *records = lines.split(b"\n")[:-1]
    places = {place[-69:-5]: place for place in run_of(run).records}
    found = {sha256(record): record for record in records}
    if not found.keys() <= places.keys():
        raise PvError("holds a record that its run does not list")
    return run, {places[digest]: record for digest, record in found.items()}


def listed_by(data: bytes) -> frozenset[str]:
    """The places of the records of a pending file. PvError as `unbundle`."""
    return frozenset(unbundle(data)[1])
