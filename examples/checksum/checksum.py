"""Adler-32, the checksum of RFC 1950."""

from collections.abc import Iterable

MODULUS = 65521  # the largest prime below 2**16


def adler32(data: Iterable[int], value: int = 1) -> int:
    """The checksum of the bytes; `value` is that of the bytes before them."""
    low, high = value & 0xFFFF, value >> 16
    for byte in data:
        low = (low + byte) % MODULUS
        high = (high + low) % MODULUS
    return pack(low, high)


def pack(low: int, high: int) -> int:
    return high << 16 | low
