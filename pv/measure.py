"""Measuring many files: what the cache knows is not measured again, and the rest is shared among processes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pv.contract import Contract, UnreadableError, make_contract, read_bytes
from pv.findings import Finding
from pv.processes import shared
from pv.project import project_around
from pv.rules import Checked, check_bytes, check_within
from pv.runnable import standing
from pv.yaml_loader import parse

if TYPE_CHECKING:
    from pv.cache import Cache

SHARE = 64
"""Files that are worth a process of their own."""
CHUNK = 16
"""Files that a process is given at a time."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A file after all rules about it alone. checked is None where nothing could be measured; `declined` says why.

    within  what the rules about the contract in its project found
    broken  how many of the tests that name falsifiers cannot be run in its project
    """

    path: Path
    checked: Checked | None
    declined: str = ""
    within: tuple[Finding, ...] = ()
    broken: int = 0


class _Task(NamedTuple):
    """A file to measure.

    data   its bytes, where it is no file
    known  what the cache holds about it, and under which digest
    keep   whether the digest of what is measured is wanted
    imports whether falsifiers may be imported
    """

    path: Path
    lint: bool
    data: bytes | None
    known: tuple[str, Checked] | None
    keep: bool
    imports: bool


def measure(
    files: Sequence[Path],
    given: Mapping[Path, bytes],
    *,
    lint: bool = False,
    jobs: int = 1,
    cache: "Cache | None" = None,
    imports: bool = False,
) -> Iterator[Measured]:
    """Each file measured, in order. PvError where the project around a contract cannot be read.

    given    the bytes of what is no file
    imports  whether falsifiers may be imported
    jobs     how many processes may work; the result is the same with any number
    """
    done: dict[int, Measured] = {}
    tasks = []
    for index, path in enumerate(files):
        known = _recalled(cache, path, given.get(path), lint) if cache else None
        if known and not (known[1].facts and known[1].facts.ours):
            done[index] = Measured(path, known[1])
        else:
            tasks.append(_Task(path, lint, given.get(path), known, cache is not None, imports))
    lighter = "try --jobs 1: it needs less memory"
    results = shared(_measured, tasks, min(jobs, len(tasks) // SHARE), chunk=CHUNK, lighter=lighter)
    for index in range(len(files)):
        if index in done:
            yield done[index]
            continue
        measured, digest = next(results)
        if cache and digest and measured.checked:
            cache.put(digest, measured.checked)
        yield measured
    if cache:
        cache.save()


def digest_of(path: Path, data: bytes, lint: bool) -> str:
    """What is known of a contract is found by all that its findings come from, beside the sources of pv."""
    from hashlib import sha256

    return sha256(b"%d %b\0%b" % (lint, os.fsencode(path.name), data)).hexdigest()


def _recalled(cache: "Cache", path: Path, data: bytes | None, lint: bool) -> tuple[str, Checked] | None:
    if data is None and not os.path.isfile(path):
        return None  # a pipe gives its bytes once, and they are to be measured
    try:
        digest = digest_of(path, read_bytes(path) if data is None else data, lint)
    except UnreadableError:
        return None
    checked = cache.get(digest, path)
    return (digest, checked) if checked else None


def _measured(task: _Task) -> tuple[Measured, str]:
    """The file measured, and the digest to remember it by: empty where it is known already, or is not to be."""
    path, lint, data, known, keep, imports = task
    contract: Contract | None
    try:
        if data is None:
            data = read_bytes(path)
        digest = digest_of(path, data, lint) if keep else ""
        if known and known[0] == digest:
            checked, contract, digest = known[1], make_contract(path, parse(data, str(path))), ""
        else:
            checked, contract = check_bytes(path, data, lint=lint)
    except UnreadableError as error:
        return Measured(path, None, str(error.args[0])), ""
    if contract is None or not contract.ours:  # the rules about a project look at contracts that are written for pv
        return Measured(path, checked), digest
    project = project_around(contract.path.parent, imports=imports)
    within = tuple(check_within(contract, project, lint=lint))
    found = standing(contract, project)
    broken = sum(test.bound and not found.binds(test) for test in contract.tests)
    return Measured(path, checked, "", within, broken), digest
