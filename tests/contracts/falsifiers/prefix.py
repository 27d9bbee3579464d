"""Falsifiers of the byte format that the contracts of the tests are about."""

from collections.abc import Iterator

from pv.trial import Trial, mutant


def first_bytes_are_the_length(trial: Trial) -> None:
    """The first four bytes are the length."""
    trial.equal((5).to_bytes(4, "little"), b"\5\0\0\0", "prefix")


def files_have_prefixes(trial: Trial) -> None:
    """Every file begins with its length."""
    trial.equal(4 + 5, 9, "size")


def cbor2_reads_the_same(trial: Trial) -> None:
    """Another reader finds the same text."""
    trial.equal(b"hello".decode(), "hello", "text")


def reads_back(trial: Trial) -> None:
    """What is written can be read."""
    trial.equal("héllo".encode().decode(), "héllo", "text")


@mutant
def big_endian() -> Iterator[None]:
    """The length is written most significant byte first."""
    yield


@mutant
def off_by_one() -> Iterator[None]:
    """The length counts itself."""
    yield


@mutant
def counts_characters() -> Iterator[None]:
    """The length is that of the text, not of its bytes."""
    yield
