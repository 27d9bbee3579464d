"""Falsifiers of contracts/adler32-v1.yaml, and the defects that they must catch."""

import zlib
from collections.abc import Iterator

import checksum

from pv.trial import Trial, mutant, patched


def agrees_with_zlib(trial: Trial) -> None:
    """The same checksum as zlib's, at every length up to 300 and for data that makes both sums wrap."""
    trial.oracle("zlib", zlib.ZLIB_RUNTIME_VERSION)
    trial.equal(checksum.adler32(b"Wikipedia"), 0x11E60398, "checksum of 'Wikipedia'")
    for length in range(301):
        data = trial.rng.bytes(length)
        trial.equal(checksum.adler32(data), zlib.adler32(data), f"checksum of {length} bytes")
    high = b"\xff" * 70000
    trial.equal(checksum.adler32(high), zlib.adler32(high), "checksum of 70000 times 255")


def continues_where_it_stopped(trial: Trial) -> None:
    """A checksum may be taken in parts, wherever the data are cut."""
    data = trial.rng.bytes(200)
    whole = checksum.adler32(data)
    for cut in range(len(data) + 1):
        trial.equal(checksum.adler32(data[cut:], checksum.adler32(data[:cut])), whole, f"checksum cut at {cut}")


@mutant
def modulus_a_power_of_two() -> Iterator[None]:
    """Takes the sums modulo 2**16."""
    with patched(checksum, "MODULUS", 2**16):
        yield


@mutant
def sums_swapped() -> Iterator[None]:
    """Packs the sums in the wrong order."""
    with patched(checksum, "pack", lambda low, high: low << 16 | high):
        yield


@mutant
def starts_anew() -> Iterator[None]:
    """Forgets the checksum of the bytes before."""
    genuine = checksum.adler32
    with patched(checksum, "adler32", lambda data, value=1: genuine(data)):
        yield
